"""Releases that were fetched from elsewhere to this host, for all of its processes: `fetched/` of the instance.

A folder there is named by the digest that the ledger knows. It gets that name once it is whole, durable and was found
to have the digest, so what was broken off or changed on its way is never taken for it. Of several processes that need
the same one, one fetches it; a fetch ends with its process, and what it left is taken away by the next one.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path

from .errors import NotReady, ReleaseRefused, StoreFull
from .manifest import Identity, check_files
from .staging import held, staging, sync

log = logging.getLogger("reviewapp")

FOLDER = "fetched"
LOCK, STOCK = ".lock", ".stock.lock"  # held by who fetches, and by who fetches ahead
IDLE_SECONDS = 3600.0  # that a release stays which nobody used, and that is not wanted
ASK_AGAIN = 2  # seconds, while one is fetched


class Fetched:
    """The releases in `folder`. `fetch` puts one into an empty folder, or raises ReleaseRefused or NotReady.

    `patience` is for how many seconds a caller waits for one that is fetched (None: as long as that takes); it is
    fetched on, for the next caller.
    """

    def __init__(self, folder: Path, fetch: Callable[[Identity, Path], None], patience: float | None = None) -> None:
        self.folder, self._fetch, self._patience = folder, fetch, patience
        self._lock = threading.Lock()
        self._under_way: dict[Identity, Future[None]] = {}
        self._whole: dict[str, Mapping[str, tuple[int, ...]]] = {}  # what was found whole, as it was then
        self._told: dict[Identity, str] = {}  # why one could not be had, when that was logged last

    def get(self, wanted: Identity) -> Path:
        """Return the folder of a release that has its digest, fetched where none is here.

        Raise ReleaseRefused where what came is not that release, NotReady where it cannot be had now.
        """
        place = self.place(wanted)
        if not self._is_whole(place, wanted):
            fetching = self._fetching(wanted)
            try:
                error = fetching.exception(self._patience)
            except TimeoutError:
                name, version, _ = wanted
                raise NotReady(
                    f"Release {name}/{version} is being fetched; ask again.", retry_after=ASK_AGAIN
                ) from None
            if error is not None:
                raise copy(error) from error  # an error that several threads raise gets mixed traces
        return place

    def place(self, wanted: Identity) -> Path:
        """Return where a release lies once it was fetched: its version is in its manifest, but not in its digest."""
        _, version, digest = wanted
        return self.folder / f"{digest.removeprefix('sha256:')}-{version}"

    def keep(self, made: Path, made_as: Identity) -> None:
        """Take in a folder that was made here and lies on the same disk, as if it had been fetched."""
        with self._turn(LOCK):
            self._take_in(made, self.place(made_as))

    def stock(self, wanted: Iterable[Identity], use: Callable[[Path, str], None]) -> bool:
        """Fetch all that is wanted, let `use` have each folder and its digest, and drop what nobody wants or uses.

        One process of a host does it at a time. Return whether all of it is here and could be used; what is not is
        logged. Raise NotReady or StoreFull where nothing can be kept here at all.
        """
        wanted = list(wanted)
        with _told_of_the_disk(), self._turn(STOCK, wait=False) as mine:
            if not mine:
                return False
            there = [self._has(one, use) for one in wanted]
            self._drop_all_but({self.place(one).name for one in wanted})
        return all(there)

    @contextmanager
    def _turn(self, lock: str, *, wait: bool = True) -> Iterator[bool]:
        """Make the folder, and hold one of its locks."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(self.folder / lock, wait=wait) as mine:
            yield mine

    def _has(self, wanted: Identity, use: Callable[[Path, str], None]) -> bool:
        try:
            use(self.get(wanted), wanted[2])
        except (ReleaseRefused, NotReady, StoreFull) as error:
            if self._told.get(wanted) != error.detail:
                log.warning("release %s/%s is not at hand: %s", *wanted[:2], error.detail)
            self._told[wanted] = error.detail
            return False
        self._told.pop(wanted, None)
        return True

    def _drop_all_but(self, names: set[str]) -> None:
        idle = time.time() - IDLE_SECONDS
        for one in self.folder.iterdir():
            if one.name.startswith(".") or one.name in names or one.stat().st_mtime >= idle:
                continue
            with staging(self.folder, ".fetching-") as away:
                one.rename(away / one.name)  # in one step: who finds it finds all of it

    def _is_whole(self, place: Path, wanted: Identity) -> bool:
        """Whether a release is here and has its digest; its files are read again only where one was changed."""
        seen = _as_it_is(place)
        if seen is None:
            return False
        if self._whole.get(place.name) != seen:
            try:
                check_files(place, wanted[2])
            except ReleaseRefused as error:
                log.warning("what was fetched to %s was changed, and is fetched again: %s", place, error.detail)
                return False
            self._whole[place.name] = seen
        with suppress(OSError):
            os.utime(place)
        return True

    def _fetching(self, wanted: Identity) -> Future[None]:
        """Return the fetch of a release that is under way in this process, or begin one."""
        with self._lock:
            if wanted not in self._under_way:
                self._under_way[wanted] = Future()
                threading.Thread(target=self._bring, args=(wanted,), name="fetch", daemon=True).start()
            return self._under_way[wanted]

    def _bring(self, wanted: Identity) -> None:
        failed: Exception | None = None
        try:
            with _told_of_the_disk(), self._turn(LOCK):
                if not self._is_whole(self.place(wanted), wanted):  # another process may just have fetched it
                    self._bring_once(wanted)
        except Exception as error:  # whoever waits hears of it
            failed = error
        with self._lock:
            done = self._under_way.pop(wanted)
        if failed is None:
            done.set_result(None)
        else:
            done.set_exception(failed)

    def _bring_once(self, wanted: Identity) -> None:
        with staging(self.folder, ".fetching-") as made:
            fresh = made / "fresh"
            fresh.mkdir()
            self._fetch(wanted, fresh)
            try:
                check_files(fresh, wanted[2])
            except ReleaseRefused as error:
                raise ReleaseRefused(f"What was fetched is not what was built. {error.detail}") from None
            self._take_in(fresh, self.place(wanted))

    def _take_in(self, made: Path, place: Path) -> None:
        for one in (*made.iterdir(), made):
            sync(one)
        with staging(self.folder, ".fetching-") as away:
            if place.exists():
                place.rename(away / place.name)
            made.rename(place)
        sync(self.folder)


def _as_it_is(folder: Path) -> Mapping[str, tuple[int, ...]] | None:
    """Return what changes where a file of a folder is changed; None where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            facts = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError:
        return None
    return {name: (one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for name, one in facts.items()}


@contextmanager
def _told_of_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("The disk of the instance folder is full; the release cannot be fetched.") from None
        raise NotReady(f"What is fetched cannot be kept in the instance folder: {error.strerror}.") from error
