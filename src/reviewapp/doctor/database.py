"""The ledger where it lies in PostgreSQL: whether it is there, of this version, and keeps what is acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, func, select

from ..errors import ReviewappError, StoreError
from ..postgres import OLDEST
from ..store import Store
from ..tables import predictions, release_events
from .finding import OK, WARNING, WRONG, Case, Finding

KEEPING = ("fsync", "full_page_writes", "synchronous_commit")  # settings without which a lost machine loses rows


def its_own(case: Case) -> Iterator[Finding]:
    """What is said of a file's disk is the database server's business."""
    yield Finding(OK, f"The ledger lies in {case.parts.store.place}; its disk is watched there.")


def schema(case: Case) -> Iterator[Finding]:
    try:
        if not case.parts.store.database.exists():
            yield Finding(WARNING, "There is no ledger in the database yet.", "The first start makes one.")
            return
        with _reading(case) as connection:
            version = ".".join(map(str, connection.dialect.server_version_info or (0,)))
    except StoreError as error:
        yield Finding(WARNING, error.detail, "Back up, then start the service, or run its version.")
    except ReviewappError as error:
        yield Finding(WRONG, error.detail, "Look whether the server runs, and at REVIEWAPP_DATABASE_URL.")
    else:
        state = OK if int(version.partition(".")[0]) >= OLDEST else WRONG
        yield Finding(state, f"PostgreSQL {version}, with the schema of this version.", f"It takes {OLDEST} or newer.")


def durability(case: Case) -> Iterator[Finding]:
    """As the service opens the database: what is acknowledged is on the server's disk."""
    with _reading(case) as connection:
        found = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in KEEPING}
    wrong = ", ".join(f"{name} = {value}" for name, value in found.items() if value in ("off", "local"))
    if found["synchronous_commit"] == "local":
        yield Finding(WARNING, f"PostgreSQL has {wrong}: a standby may lack rows.", "Set it to on for standbys.")
    elif wrong:
        yield Finding(WRONG, f"PostgreSQL has {wrong}: a lost machine loses rows.", "Switch them on.")
    else:
        yield Finding(OK, f"{', '.join(KEEPING)} are in force.")


def newest(case: Case) -> str:
    """Return the time of the newest row, empty where there is none."""
    with case.parts.store.reading() as connection:
        times = [connection.scalar(select(func.max(one.c.created_at))) for one in (predictions, release_events)]
    return max(one or "" for one in times)


def usable(case: Case) -> bool:
    """Whether there is a ledger of this version that can be read."""
    try:
        if not case.parts.store.database.exists():
            return False
        with _reading(case):
            return True
    except ReviewappError:
        return False


@contextmanager
def _reading(case: Case) -> Iterator[Connection]:
    """Read as one does who leaves a schema of another version alone."""
    store = Store(case.parts.settings.database_url, read_only=True)
    try:
        with store.reading() as connection:
            yield connection
    finally:
        store.close()
