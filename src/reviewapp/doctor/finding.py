"""What a check is given and what it tells."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from sqlalchemy import text

from ..config import cores
from ..errors import ReviewappError
from ..ledgerfile import Found, look_at
from ..parts import Parts
from ..prediction import utcnow
from ..store import Store

OK, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True)
class Finding:
    """One line: how it is, what was found, and what to do where it is not OK."""

    state: str
    said: str
    do: str = ""
    check: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"check": self.check, "state": self.state, "found": self.said, "do": self.do or None}

    def __str__(self) -> str:
        return f"{self.state:<8}{self.check.replace('_', ' ')}: {self.said}{' ' + self.do if self.do else ''}"


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no Linux
        return ""


def installed(name: str) -> str | None:
    """Return the version of a library, or None where it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Facts:
    """What is read from the machine once; a test gives others."""

    sqlite: tuple[int, ...] = dbapi2.sqlite_version_info
    python: str = field(default_factory=platform.python_version)
    installed: Callable[[str], str | None] = installed
    user: int = field(default_factory=os.geteuid)
    clock: Callable[[], datetime] = utcnow  # rows are written while the checks run
    open_files: int = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    cores: int = field(default_factory=lambda: len(cores()))
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    mounts: str = field(default_factory=_mounts)  # as Linux tells them


@dataclass(frozen=True)
class Server:
    """What a server of PostgreSQL says of itself to the service's own role.

    `connections` is how many the role may have in this database, `ahead` how many seconds its clock is before ours.
    """

    version: int
    shown: str
    settings: Mapping[str, str]
    standby: bool
    ahead: float
    connections: int
    encrypted: bool

    @property
    def durable(self) -> bool:
        """Whether what was acknowledged outlives the machine."""
        kept = self.settings["fsync"] == self.settings["full_page_writes"] == "on"
        return kept and self.settings["synchronous_commit"] != "off"


_SETTINGS = text(
    "SELECT name, setting FROM pg_settings WHERE name IN ('server_version', 'server_version_num', 'server_encoding',"
    " 'fsync', 'full_page_writes', 'synchronous_commit', 'max_connections', 'superuser_reserved_connections',"
    " 'reserved_connections')"
)
_STATE = text(
    "SELECT pg_is_in_recovery(), clock_timestamp(),"
    " coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),"
    " (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),"
    " (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)"
)


def ask(store: Store, clock: Callable[[], datetime]) -> Server:
    """Return what the server of a ledger says; raise ReviewappError where it does not answer."""
    with store.as_it_is() as connection:
        settings: dict[str, str] = {row.name: row.setting for row in connection.execute(_SETTINGS)}
        before = clock()
        standby, now, encrypted, *limits = connection.execute(_STATE).one()
        ahead = (now - before - (clock() - before) / 2).total_seconds()
    reserved = ("superuser_reserved_connections", "reserved_connections")  # the latter from version 16 on
    free = int(settings["max_connections"]) - sum(int(settings.get(name, 0)) for name in reserved)
    most = min([free, *(limit for limit in limits if limit is not None and limit >= 0)])
    version = int(settings["server_version_num"]) // 10_000
    return Server(version, settings["server_version"], settings, standby, ahead, most, encrypted)


@dataclass(frozen=True)
class Case:
    """What is examined: an instance with its settings, and the proxy's files where they are given."""

    parts: Parts
    facts: Facts = field(default_factory=Facts)
    nginx: Sequence[Path] = ()

    @cached_property
    def looked(self) -> Found | ReviewappError:
        """What the ledger holds, or why that cannot be told."""
        try:
            return look_at(self.parts.store)
        except ReviewappError as error:
            return error

    @cached_property
    def server(self) -> Server | ReviewappError:
        """What the server of a ledger in PostgreSQL says, or why it does not."""
        try:
            return ask(self.parts.store, self.facts.clock)
        except ReviewappError as error:
            return error


Check = Callable[[Case], Iterator[Finding]]
