"""The store: the engine with settings that keep what was acknowledged, and the way to a newer schema.

SQLite is used through `pysqlite3`, because the library that systems ship may carry the WAL-reset bug. Each unit of
work is one transaction: `reading()` begins deferred, `writing()` begins immediate, because SQLAlchemy's default loses
concurrent updates. Connections are opened on first use, so after the fork of a worker, never before.

What goes wrong below it is told by what would help (`_translated`), and over as soon as its cause is: nothing is kept
that a fault has touched. A file that is no longer the one that was opened is not written to, for what is acknowledged
has to be in the file that the path names.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from pysqlite3 import dbapi2
from sqlalchemy import Connection, Engine, Select, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import QueuePool

from .chain import link_hash
from .errors import StoreBusy, StoreError, StoreFull
from .statements import Appends, Lookups, Statement, when_free, wrapped
from .tables import probe

FIXED_SQLITE = (3, 51, 3)  # 3.7.0 to 3.51.2 can corrupt a WAL database that several connections write
BUSY_SECONDS = 15  # how long a turn to write is waited for, where a store is not told to wait less
PROBE_SECONDS = 0.2  # how long it is, once a wait was in vain, until a turn is had again: all threads would wait
READY_SECONDS = 0.5  # how long it is by who only asks whether the store can be written
DURABLE = ("journal_mode=WAL", "synchronous=FULL")
WAL_PAGES = 4000  # 16 MB; a recorded prediction writes about 15: with SQLite's own 1000, one in 70 tidies up after them
WAL_BYTES = 5 * WAL_PAGES * 1024  # a longer log is cut when it begins anew: one that a long reader let grow
PAGES_KB = 128  # each connection's own copy of pages that the system has in memory anyway; SQLite's 2,000 gain nothing
# with secure_delete, nothing stays in the file of what was moved or deleted: a purge erases all there is
KEEPING = (
    "foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY",
    f"wal_autocheckpoint={WAL_PAGES}", f"journal_size_limit={WAL_BYTES}", f"cache_size=-{PAGES_KB}",
)  # fmt: skip
POOL = 32  # connections of one process; more threads than this wait for one


class Store:
    """The database of one deployment. Safe to share between threads; opened by each process for itself.

    One that is `read_only` neither makes nor changes anything, whatever a running service does meanwhile. `patience` is
    how long it waits for another process that writes.
    """

    def __init__(self, url: str, *, read_only: bool = False, patience: float | None = None) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError:
            raise StoreError("REVIEWAPP_DATABASE_URL is no SQLAlchemy URL (as sqlite:////path/to/file).") from None
        if self.url.get_backend_name() != "sqlite" or not self.url.database or self.url.database == ":memory:":
            raise StoreError("REVIEWAPP_DATABASE_URL must name an SQLite file; this version keeps its ledger there.")
        self.path = Path(self.url.database)
        self._read_only, self._patience = read_only, patience
        self._lock, self._writer = threading.Lock(), threading.Lock()
        self._until = 0.0  # how long whoever holds `_writer` waits, on the monotonic clock
        self._engine: Engine | None = None
        self._reads: Engine | None = None  # the same that begins to read
        self._in_vain = False  # whether the last wait was
        self._file: _Identity = None  # the file that was opened, and its log
        self._log: _Identity = None
        self._lookups, self._appends = Lookups(), Appends()
        os.register_at_fork(after_in_child=self._forget_parent)

    def _forget_parent(self) -> None:
        """A child must not touch the parent's connections, not even to close them."""
        self._lock, self._writer = threading.Lock(), threading.Lock()
        self._lookups.forget_parent()
        self._appends.forget_parent()
        if self._engine is not None:
            self._engine.dispose(close=False)

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._opened()
        return self._engine

    def _opened(self) -> Engine:
        opened_before = self._file is not None
        if not opened_before:
            _make_file(self.path, read_only=self._read_only)
        engine = _sqlite_engine(self.path, lambda: self._until, self._waits(), read_only=self._read_only)
        with _one_process_at_a_time(self.path.parent), _translated():
            with engine.execution_options(begin="BEGIN").begin() as connection:  # as a rule, nobody need be waited for
                current = _is_current(connection)
            if opened_before and not current:
                raise StoreBusy("The ledger's file was replaced by one that the service did not make.", retry_after=10)
            if not current:
                self._until = time.monotonic() + self._waits()
                with engine.begin() as connection:
                    _upgrade(connection, only_check=self._read_only)
        self._file, self._log = _identity(self.path), _identity(_log_of(self.path))
        return engine

    def _waits(self) -> float:
        return BUSY_SECONDS if self._patience is None else self._patience

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the store."""
        with _translated():
            if self._reads is None:
                self._reads = self.engine.execution_options(begin="BEGIN")
            with self._reads.begin() as connection:
                yield connection

    def lookup(self, clause: Select[Any], **values: Any) -> tuple[Any, ...] | None:
        """Return the first row of what is committed now, as the driver gives it, or None.

        For what every request reads: `clause` is made once, with a bindparam of the name of each of the values.
        """
        with _translated():
            return self._lookups.first(self.engine, clause, values)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection whose changes are durable when the block ends, all or none."""
        with self.turn() as turn, turn.transaction() as connection:
            yield connection

    @contextmanager
    def turn(self, seconds: float | None = None) -> Iterator[Turn]:
        """Be the one thread of this process that writes, for what is decided only once it is.

        One at a time goes for the turn that all processes share, so that the others wait without trying. Raises
        StoreBusy where another process has it for too long; `seconds` are how long that is for this caller.
        """
        if not self._writer.acquire(timeout=BUSY_SECONDS if seconds is None else seconds):
            raise _busy()
        try:
            engine = self.engine
            check = partial(self._check_file, engine)
            check()
            waits = self._waits() if seconds is None else seconds
            self._until = time.monotonic() + (min(PROBE_SECONDS, waits) if self._in_vain else waits)
            yield Turn(engine, self._appends, self._until, check)
            self._in_vain = False
        except StoreBusy:
            self._in_vain = True
            raise
        finally:
            self._writer.release()

    def _check_file(self, engine: Engine) -> None:
        """Raise StoreBusy where the path names another file than the one that is open, or none; open that one next."""
        found = _identity(self.path)
        if found == self._file:
            return
        if found is None:
            raise _gone()
        if self._log is not None and _identity(_log_of(self.path)) == self._log:
            raise StoreBusy(
                "The ledger's file was replaced, but not the -wal file beside it, which would spoil it: stop the "
                "service, remove the -wal and -shm files and start it again.",
                retry_after=10,
            )
        self._lookups.forget()
        self._appends.close()
        engine.dispose()
        self._engine = self._reads = None
        raise StoreBusy("The ledger's file was replaced; ask again.", retry_after=1)

    def check_writable(self, written_at: str) -> None:
        """Write and commit one row; raise StoreBusy or StoreFull where that does not work soon."""
        with self.turn(READY_SECONDS) as turn, turn.transaction() as connection:
            if not connection.execute(probe.update().values(written_at=written_at)).rowcount:
                connection.execute(probe.insert().values(id=1, written_at=written_at))

    def size(self) -> int:
        """Return how many bytes the ledger's file and its log have; what is not there has none."""
        size = 0
        for path in (self.path, _log_of(self.path)):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        return size

    def empty_log(self) -> bool:
        """Bring all of the log into the file and cut it to nothing; return False where others read it too long."""
        asked = "PRAGMA wal_checkpoint(TRUNCATE)"
        with _translated(), self.engine.connect() as connection:  # in no transaction
            driver: Any = connection.connection.driver_connection
            try:
                held_up, *_ = driver.execute(asked).fetchone()
            except Exception as error:
                raise wrapped(asked, error, connection.dialect) from error
            return not held_up

    def close(self) -> None:
        """Close the connections of this process."""
        self._lookups.close()
        self._appends.close()
        if self._engine is not None:
            self._engine.dispose()


class Turn:
    """The ways to write that the one thread has that does; another process is waited for until the turn's end."""

    def __init__(self, engine: Engine, appends: Appends, until: float, check: Callable[[], None]) -> None:
        self._engine, self._appends, self._until, self._check = engine, appends, until, check

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection whose changes are durable when the block ends, all or none."""
        with _translated(), self._engine.begin() as connection:
            yield connection
        self._check()

    def append(self, made: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, AT_ONCE at most: durable on return, all or none, in one call of the driver."""
        with _translated():
            self._appends.insert(self._engine, made, rows, self._until)
        self._check()


_Identity = tuple[int, int] | None


def _identity(path: Path) -> _Identity:
    """Return what tells a file from one that later has the same name, or None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _make_file(path: Path, *, read_only: bool) -> None:
    """Have a file to open; no other one is made, least of all in the place of one that has gone."""
    if read_only and not path.is_file():
        raise StoreError("There is no ledger yet (REVIEWAPP_DATABASE_URL).")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise StoreError(f"The ledger's file (REVIEWAPP_DATABASE_URL) cannot be opened: {error.strerror}.") from None


def _sqlite_engine(path: Path, until: Callable[[], float], waits: float, *, read_only: bool) -> Engine:
    if dbapi2.sqlite_version_info < FIXED_SQLITE:
        raise StoreError(f"SQLite {dbapi2.sqlite_version} has the WAL-reset bug; install pysqlite3 0.6.1 or newer.")
    address = f"{path.absolute().as_uri()}?mode=rw"  # never to make a file: one that has gone is not an empty ledger
    engine = create_engine(
        "sqlite://",
        creator=lambda: dbapi2.connect(address, uri=True, check_same_thread=False, timeout=waits, isolation_level=None),
        module=dbapi2,
        hide_parameters=True,  # what is kept is no business of the log's
        poolclass=QueuePool,
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=waits,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        for pragma in (
            f"busy_timeout={waits * 1000:.0f}",
            *(("query_only=ON",) if read_only else (*DURABLE, *KEEPING)),
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("link_hash", 4, link_hash, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if read_only or "begin" in connection.get_execution_options():
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_to_write(connection, until(), waits)

    return engine


def _begin_to_write(connection: Connection, until: float, waits: float) -> None:
    """Begin as the one that writes, tried until a monotonic time while another process does."""
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        when_free(lambda: driver.execute("BEGIN IMMEDIATE"), until)
    except Exception as error:
        raise wrapped("BEGIN IMMEDIATE", error, connection.dialect) from error
    finally:
        driver.execute(f"PRAGMA busy_timeout={waits * 1000:.0f}")


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", "reviewapp:migrations")
    return config


def _is_current(connection: Connection) -> bool:
    """Whether the schema is this version's."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    newest = ScriptDirectory.from_config(_migrations()).get_current_head()
    return bool(connection.scalar(select(text("version_num")).select_from(text("alembic_version"))) == newest)


def _upgrade(connection: Connection, *, only_check: bool) -> None:
    """Bring the schema to this version's, all steps in the given transaction; refuse one made by a newer version."""
    if _is_current(connection):  # another process was faster
        return
    tables = inspect(connection).get_table_names()
    if tables and "alembic_version" not in tables:
        raise StoreError("The database holds tables that reviewapp did not make; name another file.")
    if only_check:
        raise StoreError(
            "The ledger was made by another version of reviewapp; start the service to bring it up to date."
        )
    config = _migrations()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise StoreError("The database was made by a newer version of reviewapp; this one leaves it alone.") from None


@contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the folder for the first opening: the change of a new file to WAL fails where another one is making it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"The ledger's folder cannot be opened: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _busy() -> StoreBusy:
    return StoreBusy("The ledger cannot be reached or is locked; nothing was recorded.", retry_after=1)


def _gone() -> StoreBusy:
    return StoreBusy("The ledger's file is gone; put it back, or restore a backup.", retry_after=10)


# Primary result codes of SQLite, and the one that a new connection on a full disk meets.
_FULL, _NO_ROOM_FOR_INDEX = 13, 4874
_CAUSES = {
    8: "The ledger's file can be read, but not written",
    10: "The disk of the ledger fails",
    14: "The ledger's file cannot be opened",
}


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours: what is full, what is busy, also where a table is not there (yet)."""
    try:
        yield
    except OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code & 0xFF == _FULL or code == _NO_ROOM_FOR_INDEX:
            raise StoreFull("The disk of the ledger is full; nothing was recorded.", retry_after=10) from error
        if code & 0xFF in _CAUSES:
            raise StoreBusy(f"{_CAUSES[code & 0xFF]}; nothing was recorded.", retry_after=10) from error
        raise _busy() from error
    except DBAPIError as error:
        if error.connection_invalidated or "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise StoreBusy("The ledger's file is damaged; restore a backup.", retry_after=30) from error
        raise
    except NoneFree as error:
        raise StoreBusy("No connection to the ledger became free in time.", retry_after=1) from error
