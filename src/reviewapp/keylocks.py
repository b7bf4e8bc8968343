"""A lock for each Idempotency-Key: while the first request with it is under way, no other is answered."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Conflict, StoreBusy
from .prediction import IdempotencyKey

_LOCK_SPACE = 2**62  # byte offsets in the lock file; one stands for one key


class KeyLocks:
    """One lock a key, across threads and processes of this machine, let go by the system when a process dies."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._held: set[int] = set()
        self._descriptor: int | None = None
        os.register_at_fork(after_in_child=self._forget_parent)

    def _forget_parent(self) -> None:
        self._guard, self._held = threading.Lock(), set()

    @contextmanager
    def hold(self, key: IdempotencyKey) -> Iterator[None]:
        name = hashlib.sha256(f"{key.client}\0{key.key}".encode()).digest()
        offset = int.from_bytes(name[:8], "big") % _LOCK_SPACE
        with self._guard:
            if offset in self._held:
                raise _under_way()
            try:
                if self._descriptor is None:
                    self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except BlockingIOError:
                raise _under_way() from None
            except OSError as error:
                raise StoreBusy(f"The file of locks beside the ledger cannot be used: {error.strerror}.") from None
            self._held.add(offset)
            descriptor = self._descriptor
        try:
            yield
        finally:
            with self._guard:
                self._held.discard(offset)
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)


def _under_way() -> Conflict:
    return Conflict("The first request with this Idempotency-Key is still under way; ask again.", retry_after=1)
