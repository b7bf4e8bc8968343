"""A place for releases that a test can break: `trying:///folder`, a file system of fsspec over that of this machine."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from reviewapp import fetched


class Trying(LocalFileSystem):
    """What is set on the class holds for the whole process; `calm` takes it all back."""

    protocol = "trying"
    cachable = False
    down = False  # nothing can be reached
    left = -1  # so many files can be uploaded still
    torn: dict[str, int]  # by file name: so many bytes of it come, and no error
    broken: set[str]  # names of files of which reading fails in the middle
    gate = threading.Event()  # reading waits for it
    log = ""  # path of a file to which the names of files are written that are read and uploaded

    @classmethod
    def calm(cls) -> None:
        cls.down, cls.left, cls.torn, cls.broken, cls.log = False, -1, {}, set(), os.environ.get("TRYING_LOG", "")
        cls.gate.set()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return LocalFileSystem._strip_protocol(str(path).removeprefix("trying://"))

    def _reach(self, what: str = "") -> None:
        if Trying.down:
            raise ConnectionError("no route to host secret-host:9000")
        if what and Trying.log:
            with Path(Trying.log).open("a") as file:
                file.write(f"{what}\n")

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        self._reach()
        return super().ls(path, detail=detail, **kwargs)

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode != "rb":
            return super().open(path, mode, **kwargs)
        name = Path(path).name
        self._reach(name)
        assert Trying.gate.wait(30)
        content = Path(self._strip_protocol(path)).read_bytes()
        return _Broken(content) if name in Trying.broken else io.BytesIO(content[: Trying.torn.get(name)])

    def put_file(self, here: str, there: str, **kwargs: Any) -> Any:
        self._reach(Path(there).name)
        if Trying.left == 0:
            raise TimeoutError("the machine is gone")
        Trying.left -= 1
        return super().put_file(here, there, **kwargs)


class _Broken(io.BytesIO):
    def read(self, *_: Any) -> bytes:
        if self.tell():
            raise OSError("the connection was reset")
        return super().read(100)


Trying.calm()
fsspec.register_implementation("trying", Trying)


def cached(folder: Path) -> list[str]:
    """Return what a host with this instance folder has fetched, by name; nothing half done is among it."""
    names = sorted(path.name for path in (folder / fetched.FOLDER).iterdir())
    assert not [name for name in names if name.startswith(".") and "lock" not in name]
    return [name for name in names if not name.startswith(".")]
