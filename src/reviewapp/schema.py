"""The way to this version's tables: the steps of the schema, run in a transaction of the store's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from .errors import StoreError

VERSION = "alembic_version"  # the table that names the last step


def revisions() -> list[str]:
    """Return the versions of the schema that this version knows, oldest first."""
    steps = ScriptDirectory.from_config(_migrations()).walk_revisions()
    return [step.revision for step in steps][::-1]


def version(connection: Connection) -> str | None:
    """Return the version of the schema, None where there is none yet; raise StoreError for tables of others."""
    tables = inspect(connection).get_table_names()
    if VERSION in tables:
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found
    if tables:
        raise StoreError("The database holds tables that reviewapp did not make; name another one.")
    return None


def is_current(connection: Connection) -> bool:
    """Whether the schema is this version's."""
    if not inspect(connection).has_table(VERSION):
        return False
    return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == _newest())


@cache
def _newest() -> str | None:
    """Return the last step, read once in a process: each store that is opened asks, and steps are files of the code."""
    return ScriptDirectory.from_config(_migrations()).get_current_head()


def upgrade(connection: Connection, make: Callable[[Connection], None] | None = None, *, only_check: bool) -> None:
    """Bring the schema to this version's, all steps in the given transaction; refuse one made by a newer version.

    Where there is none yet, `make` makes it as it is now; without that it is made step by step.
    """
    if is_current(connection):  # another process was faster
        return
    found = version(connection)
    if only_check:
        raise StoreError(
            "The ledger was made by another version of reviewapp. Where that is an older one, a start of the service "
            "brings it up to date; else this one leaves it alone."
        )
    config = _migrations()
    config.attributes["connection"] = connection
    try:
        if found is None and make is not None:
            make(connection)
            command.stamp(config, "head")
        else:
            command.upgrade(config, "head")
    except CommandError:
        raise StoreError("The database was made by a newer version of reviewapp; this one leaves it alone.") from None


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", "reviewapp:migrations")
    return config
