"""The folder beside OUT, `OUT.parts`: what the run is, its finished partitions, and the whole at the end.

A partition is finished once its mark is written, a small file that names those of its rows and says how much they hold.
A run that was broken off goes on with what has no mark; where anything that an answer depends on is another, it begins
anew.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import orjson
from fsspec.implementations.local import LocalFileSystem

from ..errors import UsageError
from .outputs import Layout
from .tables import CSV, PARQUET

MANIFEST = "run.json"
ENDING = ".parts"
_COPY = 1 << 20
_OWN = re.compile(rf"{re.escape(MANIFEST)}|whole|[0-9]{{6,}}\..+")  # the names of what a run writes

Mark = dict[str, Any]


class Folder:
    """`out` is a path or an address that fsspec knows."""

    def __init__(self, out: str) -> None:
        try:
            self._system, self._out = fsspec.core.url_to_fs(out)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{out} cannot be written: {error}.") from None
        name = PurePosixPath(self._out)
        self._problems = str(name.with_name(f"{name.stem}.problems{name.suffix}"))
        self._path = self._out + ENDING
        self.local = isinstance(self._system, LocalFileSystem)
        self.out = self._out if self.local else out  # whatever folder a worker runs in

    @property
    def problems(self) -> str:
        """The name of the file of bad rows."""
        return PurePosixPath(self._problems).name

    def writes(self, url: str) -> bool:
        """Whether an address is that of OUT, of the file of bad rows, or of what is kept here."""
        return self._path_of(url) in (self._real(self._out), self._real(self._problems)) or self.keeps(url)

    def keeps(self, url: str) -> bool:
        """Whether an address is that of a file in this folder."""
        return self._path_of(url).startswith(f"{self._real(self._path)}/")

    def _path_of(self, url: str) -> str:
        system, path = fsspec.core.url_to_fs(url)
        return self._real(path) if type(system) is type(self._system) else ""

    def _real(self, path: str) -> str:
        return os.path.realpath(path) if self.local else path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep others from it meanwhile, where it is a local one."""
        try:
            if self._system.isdir(self._out):
                raise UsageError(f"{self._out} is a folder; name a file.")
            self._system.makedirs(self._path, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self._path} cannot be made: {error.strerror or error}.") from None
        if not self.local:
            yield
            return
        lock = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UsageError(f"Another run writes {self._out} at the moment.") from None
        try:
            yield
        finally:
            os.close(lock)

    # ---- what the run is ------------------------------------------------------------------------------------------

    def begin(self, same: dict[str, Any], run: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Return the run that goes on here, else begin `run`; and in a sentence what became of one that was there.

        `same` is what both have in common: the release, the options, the inputs. Raises UsageError where it would take
        away a file that no run has written.
        """
        before = self._read(MANIFEST)
        if before is not None:
            changed = [name for name, value in same.items() if before.get(name) != value]
            if not changed:
                return dict(before["run"]), "A run that was broken off goes on."
        said = ""
        if before is not None:
            said = f"A run that was broken off was of another {' and another '.join(changed)}: this one begins anew."
        found = self._system.ls(self._path, detail=False)
        for name in found:
            if _OWN.fullmatch(PurePosixPath(name).name) is None:
                raise UsageError(f"{name} is from no run, and this folder is to be emptied: move it, or rename OUT.")
        for name in found:
            self._system.rm_file(name)
        self._write(MANIFEST, orjson.dumps({**same, "run": run}))
        return run, said

    # ---- partitions -----------------------------------------------------------------------------------------------

    def mark(self, number: int) -> Mark | None:
        """Return the mark of a finished partition; None where it is not finished, or not whole."""
        mark = self._read(_mark(number))
        if mark is None:
            return None
        sizes = [self._size(name) == size for name, size in mark["files"]]
        return mark if all(sizes) else None

    def keep(self, number: int, whole: bytes, bad: bytes, counts: dict[str, Any]) -> Mark:
        """Write what a partition was answered with, and then its mark."""
        token = secrets.token_hex(4)  # who repeats a partition must not write into the file of who is about it still
        files = []
        for name, content in ((f"{number:06}.{token}.answers", whole), (f"{number:06}.{token}.problems", bad)):
            self._write(name, content)
            files.append([name, len(content)])
        mark: Mark = {"files": files, **counts}
        self._write(_mark(number), orjson.dumps(mark))
        return mark

    # ---- the whole ------------------------------------------------------------------------------------------------

    def finish(self, layout: Layout, marks: Sequence[Mark], end: bytes) -> None:
        """Put the partitions together, move the files to their places, and take the folder away."""
        bad = [mark["files"][1][0] for mark in marks if mark["files"][1][1]]
        if bad:
            self._join(layout, bad, layout.begin_problems, b"", self._problems)
        elif self._system.exists(self._problems):
            self._system.rm_file(self._problems)
        self._join(layout, [mark["files"][0][0] for mark in marks], layout.begin, end, self._out)
        self._system.rm(self._path, recursive=True)

    def _join(self, layout: Layout, names: Sequence[str], begin: Any, end: bytes, target: str) -> None:
        whole = f"{self._path}/whole"
        with self._system.open(whole, "wb") as file:
            if layout.kind == PARQUET:
                self._join_parquet(names, file)
            else:
                file.write(begin() if layout.kind == CSV else b"")
                for name in names:
                    with self._system.open(f"{self._path}/{name}", "rb") as part:
                        while piece := part.read(_COPY):
                            file.write(piece)
                file.write(end)
            if self.local:
                file.flush()
                os.fsync(file.fileno())
        if self.local:
            os.replace(whole, target)  # noqa: PTH105 (paths are fsspec's, which are texts)
        else:
            self._system.mv(whole, target)

    def _join_parquet(self, names: Sequence[str], file: IO[bytes]) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415 (large, and needed for Parquet alone)

        writer = None
        for name in names:
            with self._system.open(f"{self._path}/{name}", "rb") as part:
                table = pq.ParquetFile(part).read(use_threads=False)
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()

    # ---- files ----------------------------------------------------------------------------------------------------

    def _write(self, name: str, content: bytes) -> None:
        self._system.pipe_file(f"{self._path}/{name}", content)

    def _read(self, name: str) -> dict[str, Any] | None:
        """Return what a small file says; None where there is none, or where who wrote it was killed meanwhile."""
        try:
            found = orjson.loads(self._system.cat_file(f"{self._path}/{name}"))
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        return dict(found)

    def _size(self, name: str) -> int | None:
        try:
            return int(self._system.size(f"{self._path}/{name}"))
        except FileNotFoundError:
            return None


def _mark(number: int) -> str:
    return f"{number:06}.json"
