"""What a check is given and what it tells."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from ..config import cores
from ..parts import Parts
from ..prediction import utcnow

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
class Case:
    """What is examined: an instance with its settings, and the proxy's files where they are given."""

    parts: Parts
    facts: Facts = field(default_factory=Facts)
    nginx: Sequence[Path] = ()


Check = Callable[[Case], Iterator[Finding]]
