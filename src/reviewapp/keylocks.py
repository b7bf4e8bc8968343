"""A lock for each Idempotency-Key: while the first request with it is under way, no other is answered.

Threads of a process are kept apart here; processes by what the database has for that: bytes of a file beside it
(FileLocks), or locks of a session of PostgreSQL (postgres.py). Either lets go when a process dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Engine

from .errors import Conflict, StoreBusy
from .prediction import IdempotencyKey

_LOCK_SPACE = 2**62  # numbers of locks; one stands for one key


class Locks(Protocol):
    """Locks by number that processes share; one thread at a time asks."""

    def take(self, number: int, engine: Callable[[], Engine]) -> bool:
        """Take a lock, unless another process has it; return whether it was taken. Raises StoreBusy."""

    def give(self, number: int, engine: Callable[[], Engine]) -> None:
        """Give a lock back."""

    def forget_parent(self) -> None:
        """Have nothing to do with what the parent process holds."""

    def close(self) -> None:
        """Let go of all that this process holds."""


class KeyLocks:
    """One lock a key, across threads and processes, let go when a process dies."""

    def __init__(self, shared: Locks, engine: Callable[[], Engine]) -> None:
        self._shared, self._engine = shared, engine
        self._guard = threading.Lock()
        self._held: set[int] = set()
        os.register_at_fork(after_in_child=self._forget_parent)

    def _forget_parent(self) -> None:
        self._guard, self._held = threading.Lock(), set()
        self._shared.forget_parent()

    @contextmanager
    def hold(self, key: IdempotencyKey) -> Iterator[None]:
        """Hold the lock of a key for the time of the block; raise Conflict where somebody else does."""
        name = hashlib.sha256(f"{key.client}\0{key.key}".encode()).digest()
        number = int.from_bytes(name[:8], "big") % _LOCK_SPACE
        with self._guard:
            if number in self._held or not self._shared.take(number, self._engine):
                raise under_way()
            self._held.add(number)
        try:
            yield
        finally:
            with self._guard:
                self._held.discard(number)
                self._shared.give(number, self._engine)


class FileLocks:
    """Locks of the bytes of a file, shared by the processes of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def forget_parent(self) -> None:
        """A child may use the file that its parent opened: locks are the process's that took them."""

    def close(self) -> None:
        """Leave the file open: to close it would let go of what other stores of this process hold, too."""

    def take(self, number: int, engine: Callable[[], Engine]) -> bool:
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreBusy(f"The file of locks beside the ledger cannot be used: {error.strerror}.") from None
        return True

    def give(self, number: int, engine: Callable[[], Engine]) -> None:
        if self._descriptor is not None:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)


def under_way() -> Conflict:
    """Return what is raised while the first request with a key is under way."""
    return Conflict("The first request with this Idempotency-Key is still under way; ask again.", retry_after=1)
