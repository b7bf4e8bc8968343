"""The store in PostgreSQL, which several machines may share: one writes at a time, as on SQLite.

Whoever writes holds one lock of the database's own (`TURN`) until the transaction ends, because rows are numbered
without gaps and each commit adds to the one chain. A single insert takes it by itself, in the trigger that numbers the
row: so a prediction is recorded by one message to the server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from .errors import ReviewappError, StoreBusy, StoreError, StoreFull, UsageError
from .pgsessions import SESSIONS, Appends, Lookups, SessionLocks
from .schema import VERSION
from .tables import metadata

log = logging.getLogger("reviewapp")
OLDEST = 15  # the version of PostgreSQL
POOL = 10  # connections of one process for transactions
CONNECTIONS = POOL + SESSIONS + 2  # one that records, one that holds the locks of Idempotency-Keys
# The advisory lock of who writes. The triggers in each database name it, so it stays what it is. A pair is never the
# same lock as one number, as those of Idempotency-Keys are.
TURN = (1919252078, 1)
CONNECT_SECONDS = 5
IDLE_SECONDS = 60  # that somebody may have the turn and say nothing: a host that was stopped, or is cut off
# What a URL does not say otherwise: a server, or the way to it, that is gone is found out in 20 to 30 seconds.
_LIBPQ = {
    "connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 20_000,
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
}  # fmt: skip
# The same for the server, which would else keep the locks of a host that vanished for hours. And no connection is too
# long idle: they wait until somebody asks, and that of the locks while a request is answered.
_OF_SERVER = {
    "tcp_user_timeout": 20_000, "tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3,
    "idle_session_timeout": 0,
}  # fmt: skip
NUMBERED = ("predictions", "verdicts", "release_events", "links", "purges")  # whose `seq` has no gaps
_FULL = "53100"
# Classes and codes that are over by themselves: connections, resources, an operator's doing, locks, who only reads.
# Where BEGIN READ WRITE is asked for, a standby has it that this is no feature (0A000).
_BUSY = ("08", "53", "57", "55P03", "40", "25006", "25P03", "58", "0A000")
# Of those, what goes for all connections that were opened before, or may: they broke, or began where none may write.
_STALE = ("08", "57P", "25006", "25P03", "0A000")


class PostgresDatabase:
    """The database of a store (store.py) that a URL names."""

    path = None

    def __init__(self, url: URL) -> None:
        self.url = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
        self.opened_before = False
        self.lookups, self.appends, self.locks = Lookups(), Appends(), SessionLocks()
        self._engines: WeakSet[Engine] = WeakSet()

    def engine(self, until: Callable[[], float], waits: float, *, read_only: bool) -> Engine:
        """Return an engine that waits so many seconds.

        It begins as the one that writes, unless it is one for `reading`; `until` says how long that is waited for.
        """
        try:
            engine = create_engine(
                self.url,
                connect_args=_connecting(self.url, waits),
                paramstyle="format",
                isolation_level="READ COMMITTED",
                execution_options={"postgresql_readonly": True} if read_only else {},
                hide_parameters=True,
                pool_size=POOL,
                max_overflow=0,
                pool_timeout=waits,
                pool_use_lifo=True,
            )
        except (ModuleNotFoundError, NoSuchModuleError):
            raise UsageError(
                "PostgreSQL needs the driver psycopg: `pip install 'reviewapp[postgresql]'`, and a "
                "REVIEWAPP_DATABASE_URL that begins with postgresql+psycopg://."
            ) from None

        driver: Any = engine.dialect.loaded_dbapi
        try:
            driver.conninfo.make_conninfo("", **dict.fromkeys(self.url.query, "1"))  # the names are held to libpq's
        except driver.ProgrammingError as error:
            raise UsageError(f"REVIEWAPP_DATABASE_URL has what libpq does not know: {str(error).strip()}.") from None

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            if not read_only and "begin" not in connection.get_execution_options():
                left = min(max(until() - time.monotonic(), 0.001), waits)
                connection.exec_driver_sql(
                    "SELECT set_config('lock_timeout', %s, true), "
                    "set_config('idle_in_transaction_session_timeout', %s, true), pg_advisory_xact_lock(%s, %s)",
                    (f"{left * 1000:.0f}", f"{IDLE_SECONDS * 1000:.0f}", *TURN),
                )

        self._engines.add(engine)
        return engine

    def reading(self, engine: Engine) -> Engine:
        """Return the engine that begins to read: one state of the database."""
        return engine.execution_options(begin=True, isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def one_process_at_a_time(self) -> Iterator[None]:
        """Nothing to hold: who makes the tables has the turn to write."""
        yield

    def opened(self) -> None:
        self.opened_before = True

    def replaced(self) -> bool:
        """Whether another database is there than the one that is open: its name always leads to what there is."""
        return False

    def make_tables(self, connection: Connection) -> None:
        """Make the tables of this version in a database without any; raise StoreError where it is too old."""
        found = int((connection.dialect.server_version_info or (0,))[0])
        if found < OLDEST:
            raise StoreError(f"This is PostgreSQL {found}; reviewapp needs {OLDEST} or newer.")
        metadata.create_all(connection)
        for command in commands():
            connection.exec_driver_sql(command)

    @contextmanager
    def as_it_is(self) -> Iterator[Connection]:
        """Give a connection that only reads, whatever the schema is; raise StoreBusy where that cannot be had."""
        engine = self.engine(time.monotonic, CONNECT_SECONDS, read_only=True)
        try:
            with self.reading(engine).begin() as connection:
                yield connection
        except DBAPIError as error:
            ours = self.as_ours(error)
            if ours is None:
                raise
            raise ours from error
        finally:
            engine.dispose()

    def exists(self) -> bool:
        """Whether there is a ledger, without making one; raise StoreBusy where the database cannot be reached."""
        with self.as_it_is() as connection:
            return connection.dialect.has_table(connection, VERSION)

    def size(self, engine: Callable[[], Engine]) -> int:
        """Return how many bytes the database takes."""
        with engine().execution_options(begin=True).connect() as connection:
            return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)

    def tidy(self, engine: Engine) -> bool:
        """Have the server take away the rows that were replaced; its own log and backups are kept as it is told."""
        with engine.execution_options(isolation_level="AUTOCOMMIT", begin=True).connect() as connection:
            for name in ("predictions", "verdicts", "words", "upload_rows", "idempotency_keys"):
                connection.exec_driver_sql(f"VACUUM {name}")
        return True

    def as_ours(self, error: DBAPIError) -> ReviewappError | None:
        """Return what an error of the driver means: what is full, what is busy; None where it is a mistake of ours."""
        code = getattr(error.orig, "sqlstate", None)
        lost = code is None and (error.connection_invalidated or error.orig is None or _lost(error.orig))
        if lost or (code or "").startswith(_STALE):
            self._forget_idle()
        if code == _FULL:
            return StoreFull("The disk of the ledger is full; nothing was recorded.", retry_after=10)
        if not lost and not (code or "").startswith(_BUSY):
            return None
        if code != "55P03":
            log.warning("PostgreSQL: %s", str(error.orig).strip().splitlines()[0] if str(error.orig) else code)
        # Whether the server has committed what it did not answer to, only a look at the ledger can tell.
        asked = error.connection_invalidated if error.statement is None else not error.statement.startswith("SELECT")
        if asked and (lost or (code or "").startswith(("08", "57P"))):
            return StoreBusy(
                "The ledger cannot be reached: the connection broke, and what was to be recorded may be or may not be. "
                "A request can be sent again with the same Idempotency-Key.",
                retry_after=1,
            )
        return StoreBusy("The ledger cannot be reached or is locked; nothing was recorded.", retry_after=1)

    def _forget_idle(self) -> None:
        """Close the connections that nobody uses now: what happened to one has, as a rule, happened to all of them."""
        self.lookups.close()
        for engine in list(self._engines):
            engine.dispose()


def _connecting(url: URL, waits: float) -> dict[str, Any]:
    """Return what libpq is told beside the URL, which knows better, but for what the store counts on."""
    given = url.query.get("options", ())
    settings = {**_OF_SERVER, "lock_timeout": f"{waits * 1000:.0f}"}
    options = [*([given] if isinstance(given, str) else given), *(f"-c {name}={settings[name]}" for name in settings)]
    libpq = {name: value for name, value in _LIBPQ.items() if name not in url.query}
    return {**libpq, "application_name": "reviewapp", "options": " ".join(options)}


def _lost(error: BaseException) -> bool:
    """Whether there is no connection, or no longer; the driver has no code for that."""
    return any(kind.__name__ in ("OperationalError", "InterfaceError") for kind in type(error).__mro__)


def commands() -> list[str]:
    """Return the SQL of what only PostgreSQL has: numbers without gaps, the chain, the queue, the words."""
    return [
        *(one for table in NUMBERED for one in _numbering(table)),
        _LINK,
        "CREATE TRIGGER predictions_link AFTER INSERT ON predictions FOR EACH ROW WHEN (NEW.seal IS NOT NULL)"
        " EXECUTE FUNCTION predictions_link()",
        _WAIT,
        "CREATE TRIGGER predictions_wait AFTER INSERT ON predictions FOR EACH ROW"
        " WHEN (NEW.decision = 'review' OR NEW.audit = 1) EXECUTE FUNCTION predictions_wait()",
        "CREATE TABLE words (rowid bigint PRIMARY KEY, text tsvector NOT NULL)",
        "CREATE INDEX ix_words_text ON words USING gin (text)",
    ]


def _numbering(table: str) -> list[str]:
    return [
        f"""CREATE FUNCTION {table}_number() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock({TURN[0]}, {TURN[1]});
            NEW.seq := (SELECT coalesce(max(seq), 0) + 1 FROM {table});
            RETURN NEW;
        END $$""",  # noqa: S608 (names of our own)
        f"CREATE TRIGGER {table}_number BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_number()",
        f"ALTER TABLE {table} ALTER COLUMN seq DROP DEFAULT",
        f"DROP SEQUENCE {table}_seq_seq",
    ]


# The hash that chain.link_hash makes.
_LINK = """CREATE FUNCTION predictions_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO links (what, last, seal, hash) VALUES ('predictions', NEW.seq, NEW.seal, sha256(
        coalesce((SELECT hash FROM links ORDER BY seq DESC LIMIT 1), decode(repeat('00', 32), 'hex'))
        || NEW.seal || convert_to('["predictions",' || NEW.seq || ']', 'UTF8')));
    RETURN NULL;
END $$"""
_WAIT = """CREATE FUNCTION predictions_wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queue (prediction_id, why, place) VALUES (NEW.id, coalesce(NEW.reasons::json ->> 0, 'audit'),
        (SELECT coalesce(max(place), 0) + 1 FROM queue));
    RETURN NULL;
END $$"""
