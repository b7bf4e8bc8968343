"""A hidden folder to make something in, before it is moved to its place in one step.

It is held by a lock for as long as it is used. Whoever is killed leaves it behind without one, and the next that makes
such a folder in the same place takes it away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIXES = (".building-", ".backup-", ".restoring-", ".fetching-")


@contextmanager
def staging(parent: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder in `parent` that is gone when the block ends; those that nobody holds go, too."""
    with held(parent):  # between the making of a folder and its lock, nobody may take it for one left behind
        for left in left_behind(parent, prefix):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def left_behind(parent: Path, *prefixes: str) -> list[Path]:
    """Return the folders in `parent` with one of the prefixes that no process holds any more."""
    found = parent.iterdir() if parent.is_dir() else ()
    return sorted(path for path in found if path.name.startswith(prefixes) and path.is_dir() and not _is_held(path))


def sync(path: Path) -> None:
    """Make durable what a file holds, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it is at its place by now, or somebody else's
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a folder, or a file that is made where it is not there, as long as the block or the process lasts.

    Give whether it is held, which it always is for who waits.
    """
    descriptor = os.open(path, os.O_RDONLY | (0 if path.is_dir() else os.O_CREAT), 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(descriptor)
