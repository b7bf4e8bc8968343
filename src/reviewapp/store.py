"""The store: the tables, the engine with settings that keep what was acknowledged, and the way to a newer schema.

SQLite is used through `pysqlite3`, because the library that systems ship may carry the WAL-reset bug. Each unit of
work is one transaction: `reading()` begins deferred, `writing()` begins immediate, because SQLAlchemy's default loses
concurrent updates. Connections are opened on first use, so after the fork of a worker, never before.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from pysqlite3 import dbapi2
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    false,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from .errors import StoreBusy, StoreError, StoreFull
from .statements import Lookups

SQLITE_BUSY = 5  # the primary result code
FIXED_SQLITE = (3, 51, 3)  # 3.7.0 to 3.51.2 can corrupt a WAL database that several connections write
BUSY_SECONDS = 15  # how long a turn to write is waited for
FIRST_STEP, LONGEST_STEP = 50e-6, 500e-6  # seconds between two tries to get it from another process
POOL = 32  # connections of one process; more threads than this wait for one

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

predictions = Table(
    "predictions",
    metadata,
    Column("seq", Integer, primary_key=True),  # the order that holds: a clock may jump
    Column("id", String(36), nullable=False, unique=True),
    Column("created_at", String(24), nullable=False),
    Column("release_name", String(64), nullable=False),
    Column("release_version", Integer, nullable=False),
    Column("release_digest", String(71), nullable=False),
    Column("option", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("client", Text, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("reference", Text),
    Column("input", JSON(none_as_null=True)),
    Column("output", JSON, nullable=False),
    Column("label", Text),
    Column("decision", String(16), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("comparison", JSON(none_as_null=True)),
    Column("explanation", JSON(none_as_null=True)),
    Column("audit", Boolean, nullable=False, server_default=false()),
    Column("doubt", Float),  # how far the answer is from being sure: 1 - confidence, or the width of the interval
    # what History filters and sorts by; each ends with the row's own number, which is the order of the pages
    *(Index(None, name, "seq") for name in ("label", "decision", "source", "option", "audit", "reference", "doubt")),
    Index(None, "created_at", "seq"),
    Index(None, "release_digest", "seq", "decision", "audit"),  # monitoring counts in the index alone
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("prediction_seq", ForeignKey(predictions.c.seq), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("label", Text),
    Column("value", Float),
    Column("reasons", JSON, nullable=False),
    Column("note", Text),
    Column("author", Text, nullable=False),
    Column("created_at", String(24), nullable=False),
    Column("blind", Boolean, nullable=False, server_default=false()),  # given before the options were seen
    Index(None, "prediction_seq", "seq"),
    Index(None, "verdict", "prediction_seq"),
    Index(None, "author", "created_at"),
)

# What waits for a person, each record once. It can be told from the two tables above; it is kept, so that the next
# record is found at once. `place` is the order; a lease gives a record to one reviewer for a while.
queue = Table(
    "queue",
    metadata,
    Column("prediction_id", ForeignKey(predictions.c.id), primary_key=True),
    Column("why", String(32), nullable=False),  # the first reason of the decision, or `audit`
    Column("place", Integer, nullable=False),
    Column("leased_to", Text),
    Column("leased_until", String(24)),
    Index(None, "place"),
    Index(None, "leased_to"),
    Index(None, "why"),
)

# Who opened a waiting record blind: what the options say is hidden from them until it is judged, also once they gave
# it up.
blind_openings = Table(
    "blind_openings",
    metadata,
    Column("reviewer", Text, primary_key=True),
    Column("prediction_id", ForeignKey(predictions.c.id), primary_key=True),
    Index(None, "prediction_id"),
)

# A file that was sent on the Upload page: its rows as they came, and what became of each. `answered` counts the rows
# that are done, from the first on; it changes in the same commit as what these rows were answered with.
uploads = Table(
    "uploads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("created_at", String(24), nullable=False),
    Column("release_digest", String(71), nullable=False),
    Column("task", String(16), nullable=False),  # of its outcome: which columns the answers have
    Column("delimiter", String(1), nullable=False),
    Column("header", JSON, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("summary", JSON, nullable=False),
    Index(None, "client", "created_at"),
    Index(None, "created_at"),
)

upload_rows = Table(
    "upload_rows",
    metadata,
    Column("upload_id", ForeignKey(uploads.c.id), primary_key=True),
    Column("row", Integer, primary_key=True),  # from 1 on
    Column("line", Integer, nullable=False),  # of the file, where the row begins
    Column("cells", JSON, nullable=False),
    Column("prediction_id", ForeignKey(predictions.c.id)),
    Column("problem", Text),
    Index(None, "upload_id", "row", sqlite_where=text("problem IS NOT NULL")),
)

release_events = Table(
    "release_events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),  # built, promoted, rolled_back
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", String(24), nullable=False),
    Column("breaking", Boolean, nullable=False, server_default=false()),
    Column("differences", JSON(none_as_null=True)),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("prediction_ids", JSON, nullable=False),
    Column("created_at", String(24), nullable=False),
    UniqueConstraint("client", "key"),
    Index(None, "created_at"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", String(24), nullable=False),
    Column("expires_at", String(24)),
    Column("revoked_at", String(24)),
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("expires_at", String(24), nullable=False),
    Column("used_at", String(24)),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("token_id", ForeignKey(tokens.c.id)),  # a session lives no longer than the token it was opened with
    Column("expires_at", String(24), nullable=False),
    Column("ended_at", String(24)),
)

probe = Table("probe", metadata, Column("id", Integer, primary_key=True), Column("written_at", String(24)))


class Store:
    """The database of one deployment. Safe to share between threads; opened by each process for itself.

    One that is `read_only` neither makes nor changes anything, whatever a running service does meanwhile.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError:
            raise StoreError("REVIEWAPP_DATABASE_URL is no SQLAlchemy URL (as sqlite:////path/to/file).") from None
        if self.url.get_backend_name() != "sqlite" or not self.url.database or self.url.database == ":memory:":
            raise StoreError("REVIEWAPP_DATABASE_URL must name an SQLite file; this version keeps its ledger there.")
        self.path = Path(self.url.database)
        self._read_only = read_only
        self._lock, self._writer = threading.Lock(), threading.Lock()
        self._until = 0.0  # how long whoever holds `_writer` waits, on the monotonic clock
        self._engine: Engine | None = None
        self._reads: Engine | None = None  # the same that begins to read
        self._lookups = Lookups()
        os.register_at_fork(after_in_child=self._forget_parent)

    def _forget_parent(self) -> None:
        """A child must not touch the parent's connections, not even to close them."""
        self._lock, self._writer = threading.Lock(), threading.Lock()
        self._lookups.forget_parent()
        if self._engine is not None:
            self._engine.dispose(close=False)

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    url = self.url.render_as_string(hide_password=False)
                    engine = _sqlite_engine(url, self.path, lambda: self._until, read_only=self._read_only)
                    self._until = time.monotonic() + BUSY_SECONDS
                    with _one_process_at_a_time(self.path.parent), _translated(), engine.begin() as connection:
                        _upgrade(connection, only_check=self._read_only)
                    self._engine = engine
        return self._engine

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
        """Give a connection whose changes are durable when the block ends, all or none.

        One thread at a time goes for the turn that all processes share, so that the others wait without trying.
        """
        until = time.monotonic() + BUSY_SECONDS
        if not self._writer.acquire(timeout=BUSY_SECONDS):
            raise _busy()
        try:
            engine, self._until = self.engine, until
            with _translated(), engine.begin() as connection:
                yield connection
        finally:
            self._writer.release()

    def check_writable(self, written_at: str) -> None:
        """Write and commit one row; raise StoreBusy or StoreFull where that does not work."""
        with self.writing() as connection:
            if not connection.execute(probe.update().values(written_at=written_at)).rowcount:
                connection.execute(probe.insert().values(id=1, written_at=written_at))

    def close(self) -> None:
        """Close the connections of this process."""
        self._lookups.close()
        if self._engine is not None:
            self._engine.dispose()


def _sqlite_engine(url: str, path: Path, until: Callable[[], float], *, read_only: bool) -> Engine:
    if dbapi2.sqlite_version_info < FIXED_SQLITE:
        raise StoreError(f"SQLite {dbapi2.sqlite_version} has the WAL-reset bug; install pysqlite3 0.6.1 or newer.")
    if read_only and not path.is_file():
        raise StoreError("There is no ledger yet (REVIEWAPP_DATABASE_URL).")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not read_only:
            path.touch(mode=0o600)
    except OSError as error:
        raise StoreError(f"The ledger's file (REVIEWAPP_DATABASE_URL) cannot be opened: {error.strerror}.") from None
    engine = create_engine(
        url,
        module=dbapi2,
        poolclass=QueuePool,
        pool_size=POOL,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS, "isolation_level": None},
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        for pragma in (
            f"busy_timeout={BUSY_SECONDS}000",
            *(("query_only=ON",) if read_only else ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")),
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if read_only or "begin" in connection.get_execution_options():
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_to_write(connection, until())

    return engine


def _begin_to_write(connection: Connection, until: float) -> None:
    """Begin as the one that writes, tried again in short steps until a monotonic time.

    SQLite's own steps grow to 100 ms: under load, other processes write again and again in each of them.
    """
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        step = FIRST_STEP
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except dbapi2.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF != SQLITE_BUSY:
                    break
            else:
                return
            time.sleep(step)
            step = min(1.5 * step, LONGEST_STEP)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the last try raises what stands in the way
    finally:
        driver.execute(f"PRAGMA busy_timeout={BUSY_SECONDS}000")


def _upgrade(connection: Connection, *, only_check: bool) -> None:
    """Bring the schema to this version's, all steps in the given transaction; refuse one made by a newer version."""
    config = Config()
    config.set_main_option("script_location", "reviewapp:migrations")
    config.attributes["connection"] = connection
    newest = ScriptDirectory.from_config(config).get_current_head()
    if inspect(connection).has_table("alembic_version"):
        if connection.scalar(select(text("version_num")).select_from(text("alembic_version"))) == newest:
            return
    elif inspect(connection).get_table_names():
        raise StoreError("The database holds tables that reviewapp did not make; name another file.")
    if only_check:
        raise StoreError(
            "The ledger was made by another version of reviewapp; start the service to bring it up to date."
        )
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise StoreError("The database was made by a newer version of reviewapp; this one leaves it alone.") from None


@contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the folder for the first opening: the change of a new file to WAL fails where another one is making it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _busy() -> StoreBusy:
    return StoreBusy("The ledger cannot be reached or is locked; nothing was recorded.", retry_after=1)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours: what is full, what is busy; a broken statement stays what it is."""
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig)
        if "full" in reason:
            raise StoreFull("The disk of the ledger is full; nothing was recorded.", retry_after=30) from error
        raise _busy() from error
    except DBAPIError as error:
        if error.connection_invalidated or "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise StoreBusy("The ledger's file is damaged; restore a backup.", retry_after=30) from error
        raise
    except TimeoutError as error:
        raise StoreBusy("No connection to the ledger became free in time.", retry_after=1) from error
