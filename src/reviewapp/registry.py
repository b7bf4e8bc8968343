"""Which releases exist and which one answers now; moves of that pointer are rows of the ledger.

A move says what it changes in the contract; one that breaks callers needs an explicit yes, unless it rolls back.

The pointer is read on every request, so after a promotion is acknowledged no worker answers with the old release. A
release is loaded, checked and has answered its golden requests before it replaces the one that serves; where it
fails, the one that serves stays, and readiness says why; where several hosts fetch releases from one place, the
others answer, and the host that cannot serve the live one answers with none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from . import release as releases
from . import releaselog
from .adapter import ModelAdapter
from .chain import linked
from .contract import Contract
from .difference import Difference, differences
from .errors import (
    BreakingChange,
    Conflict,
    Flaw,
    NotFound,
    NotReady,
    ReleaseRefused,
    ReviewappError,
    StoreFull,
    UsageError,
)
from .policy import BASELINE, PREVIOUS
from .prediction import timestamp, utcnow
from .release import Release, ReleaseId
from .releaselog import (
    ALERTED,
    BUILT,
    FELL_BACK,
    LAST_EVENT,
    LAST_MOVE,
    PROMOTED,
    ROLLED_BACK,
    TRIGGER,
    ReleaseEvent,
    Standing,
    by_version,
    option_of,
    way_back,
)
from .releasestore import Place, placed
from .store import Store

BREAKING_CHANGE = "breaking_change"  # the code of a flaw
_MOVED = "Another move of the live release came first; look at what is live now."
RETRY_SECONDS = 10.0  # how long a release that failed to load is left alone before it is tried again …
FETCH_SECONDS = 1.0  # … and one that could not be fetched
WAY_BACK, AHEAD = 3, 3  # of the releases that roll-backs go to, and of the newest, so many are kept at hand
STOCK_SECONDS = 600.0  # from one look at what is at hand to the next, where the log has not changed


class Registry:
    """Knows the releases of a place, which a path stands for, too.

    `make_adapter` wraps a release that was read, `trusted` gives the operator's own types; the clock is aware. `prove`
    is asked with a folder and its digest before anything in it is loaded, and raises ReleaseRefused (proof.py).
    """

    def __init__(
        self,
        place: Path | Place,
        store: Store,
        make_adapter: Callable[[Release], ModelAdapter],
        clock: Callable[[], datetime] = utcnow,
        trusted: Callable[[], Sequence[str]] = tuple,
        prove: Callable[[Path, str], None] = lambda folder, digest: None,
    ) -> None:
        self.place = placed(place)
        self._prove = prove
        self._trusted = trusted
        self._store = store
        self._make_adapter = make_adapter
        self._clock = clock
        self._lock = threading.Lock()
        self._serving: ModelAdapter | None = None
        self._failed: dict[ReleaseId, tuple[float, ReviewappError]] = {}  # when it could not be loaded, and why
        self._stocked = (-1, 0.0)  # the last event by then, and when

    # ---- what answers now -------------------------------------------------------------------------------------

    def adapter(self) -> ModelAdapter:
        """Return the adapter of the release that answers now; raise NotReady where none can."""
        row = self._store.lookup(LAST_MOVE)
        pointer, option = (None, "") if row is None else (ReleaseId(*row[:3]), option_of(row[3]))
        serving = self._serving
        if serving is not None and serving.release.id == pointer and serving.option == option:
            return serving
        with self._lock:
            return self._move_to(pointer, option)

    def _move_to(self, pointer: ReleaseId | None, option: str) -> ModelAdapter:
        if pointer is None:
            raise NotReady("No release is live yet; `reviewapp build` makes one.", retry_after=30)
        if self._serving is not None and self._serving.release.id == pointer:
            self._serving = self._serving.answering(option)
            return self._serving
        # Else other hosts may answer, and an older release would be a wrong one: a folder may be one that all mount.
        alone = not self.place.remote and self._store.is_file
        for candidate in self._history() if alone and self._serving is None else [pointer]:
            adapter = self._load(candidate)
            if adapter is not None:
                self._serving = adapter.answering(option if candidate == pointer else "model")
                return self._serving
        if not alone:
            raise NotReady(f"The live release cannot be had here. {self.problem()}", retry_after=2)
        if self._serving is None:
            raise NotReady(f"No release can be loaded. {self.problem()}", retry_after=30)
        return self._serving

    def _load(self, release_id: ReleaseId) -> ModelAdapter | None:
        if release_id in self._failed:
            since, failed = self._failed[release_id]
            rest = RETRY_SECONDS if isinstance(failed, ReleaseRefused) else FETCH_SECONDS
            if time.monotonic() - since < rest:
                return None
        try:
            adapter = self.load(release_id)
        except (ReleaseRefused, NotReady, StoreFull) as error:
            self._failed[release_id] = time.monotonic(), error
            return None
        self._failed.pop(release_id, None)
        return adapter

    def problem(self) -> str | None:
        """Return why the live release does not serve, or None while it does."""
        pointer = self.live()
        if pointer is None:
            return "No release is live."
        if self._serving is not None and self._serving.release.id == pointer:
            return None
        failed = self._failed.get(pointer)
        return f"{pointer} is not loaded yet." if failed is None else f"{pointer}: {failed[1].detail}"

    def load(self, release_id: ReleaseId) -> ModelAdapter:
        """Return the adapter of a release that the ledger knows; raise ReleaseRefused where it is not that one."""
        adapter = self.check(self.folder(release_id), release_id.digest)
        if adapter.release.id != release_id:
            raise ReleaseRefused(f"Its manifest says that it is {adapter.release.id}.")
        return adapter

    def check(self, folder: Path, digest: str) -> ModelAdapter:
        """Read a release, let it answer its golden requests, and return its adapter; raise ReleaseRefused."""
        self._prove(folder, digest)
        adapter = self._make_adapter(releases.read(folder, digest, self._trusted()))
        adapter.check_golden()
        return adapter

    def prove_live(self) -> None:
        """Have the live release here and shown to load, if there is one, before a request waits for it.

        Raise ReleaseRefused, or NotReady where it cannot be fetched.
        """
        pointer = self.live()
        if pointer is not None:
            self._prove(self.folder(pointer), pointer.digest)

    def stock(self) -> None:
        """Have at hand, shown to load, what answers and what may soon, before a request or a promotion waits for it.

        That is only needed where releases are fetched; of those, the rest is dropped.
        """
        if not self.place.remote:
            return
        last, now = self._store.lookup(LAST_EVENT), time.monotonic()
        number = -1 if last is None else int(last[0])
        if self._stocked[0] == number and now - self._stocked[1] < STOCK_SECONDS:
            return
        events = self.events()
        newest = [event.id for event in events if event.kind == BUILT][:AHEAD]
        wanted = dict.fromkeys([*reversed(way_back(events)[-1 - WAY_BACK :]), *newest])
        if self.place.stock([one.identity for one in wanted], self._prove):
            self._stocked = number, now

    def contract(self) -> Contract:
        """Return the contract of the live release, without loading its model."""
        pointer = self.live()
        if pointer is None:
            raise NotReady("No release is live yet; `reviewapp build` makes one.", retry_after=30)
        return self._contract(pointer)

    def _contract(self, release_id: ReleaseId) -> Contract:
        return releases.read_contract(self.folder(release_id), release_id.digest)

    def folder(self, release_id: ReleaseId) -> Path:
        """Return the folder of a release on this host; where it must be fetched, raise ReleaseRefused or NotReady."""
        return self.place.local(release_id.identity)

    # ---- the log ----------------------------------------------------------------------------------------------

    def live(self) -> ReleaseId | None:
        """Return what the pointer says: the release of the last move."""
        row = self._store.lookup(LAST_MOVE)
        return None if row is None else ReleaseId(*row[:3])

    def standing(self) -> Standing | None:
        """Return what answers now, since when, and whether the trigger made it so; None where nothing is live."""
        with self._store.reading() as connection:
            return releaselog.standing(connection)

    def events(self) -> list[ReleaseEvent]:
        """Return the whole release log, newest first."""
        with self._store.reading() as connection:
            return releaselog.events(connection)

    def built(self) -> list[ReleaseEvent]:
        """Return the releases there are, newest first."""
        return [event for event in self.events() if event.kind == BUILT]

    def _history(self) -> list[ReleaseId]:
        """Return the live release and those that roll-backs would go to; one that was rolled back never answers."""
        return list(dict.fromkeys(reversed(way_back(self.events()))))

    # ---- moving the pointer -----------------------------------------------------------------------------------

    def add(self, built: Release, actor: str) -> bool:
        """Write a new release into the log; return whether it went live, as the first one does.

        Raises ReleaseRefused where it was not shown to load: no release that is known here is loaded unproved.
        """
        self._prove(self.folder(built.id), built.id.digest)
        with self._store.writing() as connection, linked(connection, "release_events"):
            self._write(connection, BUILT, built.id, "built", actor)
            first = releaselog.live(connection) is None
            if first:
                self._write(connection, PROMOTED, built.id, "the first release goes live by itself", actor)
            return first

    def compare(self, version: int) -> tuple[ReleaseId, tuple[Difference, ...]]:
        """Return the release that a promotion of `version` would make live, and what that changes in the contract."""
        pointer, target = self._promotion(version)
        return target, self._differences(pointer, self._contract(target))

    def compare_back(self) -> tuple[ReleaseId, tuple[Difference, ...]]:
        """Return the release that a roll-back would make live, and what that changes; raise Conflict without one."""
        pointer, target = self._roll_back()
        return target, self._differences(pointer, self._contract(target))

    def promote(self, version: int, reason: str, actor: str, breaking: bool = False) -> ReleaseEvent:
        """Make a version answer from now on, once it has loaded and answered its golden requests.

        Raise BreakingChange where its contract breaks callers of the live one, unless `breaking` says that they are
        ready.
        """
        pointer, target = self._promotion(version)
        return self._move(PROMOTED, target, pointer, reason, actor, breaking)

    def roll_back(self, reason: str, actor: str) -> ReleaseEvent:
        """Make the release that was live before the live one was promoted answer again, even where callers break."""
        pointer, target = self._roll_back()
        return self._move(ROLLED_BACK, target, pointer, reason, actor, breaking=True)

    def _promotion(self, version: int) -> tuple[ReleaseId, ReleaseId]:
        """Return the live release (`add` made one live if there is any) and what `version` names; raise NotFound."""
        events = self.events()
        known = by_version(events)
        if version not in known:
            raise NotFound(f"There is no release with version {version}.")
        return way_back(events)[-1], known[version]

    def _roll_back(self) -> tuple[ReleaseId, ReleaseId]:
        way = way_back(self.events())
        if len(way) < 2:
            raise Conflict("There is no earlier release to roll back to.")
        return way[-1], way[-2]

    def _differences(self, pointer: ReleaseId, contract: Contract) -> tuple[Difference, ...]:
        """Return what changes from the live contract; nothing where that cannot be read: it must hold nobody up."""
        try:
            live = self._contract(pointer)
        except (ReleaseRefused, NotReady):
            return ()
        return differences(live, contract)

    def _move(
        self, kind: str, target: ReleaseId, pointer: ReleaseId, reason: str, actor: str, breaking: bool
    ) -> ReleaseEvent:
        if not reason.strip():
            raise UsageError("A reason is needed; it is kept in the release log.")
        adapter = self.load(target)
        found = self._differences(pointer, adapter.contract)
        flaws = [Flaw(one.pointer, BREAKING_CHANGE, one.detail) for one in found if one.breaking]
        if flaws and not breaking:
            raise BreakingChange(flaws)
        with self._store.writing() as connection:
            if releaselog.live(connection) != pointer:
                raise Conflict(_MOVED)
            if kind == ROLLED_BACK and way_back(releaselog.events(connection))[-2:] != [target, pointer]:
                raise Conflict(_MOVED)  # it went to another release and came back another way: no step back to this one
            with linked(connection, "release_events"):
                event = self._write(connection, kind, target, reason, actor, found)
        with self._lock:
            self._serving = adapter
        return event

    def fire(
        self, action: str, seen: Standing, reason: Callable[[str], str], figures: Mapping[str, Any]
    ) -> ReleaseEvent | None:
        """Carry out what a policy asks for where its rule has fired; return None where somebody moved first.

        `seen` is what answered when the figures were taken. Where there is no earlier release, or it does not load, the
        baseline answers. `reason` is told what is done (one of releaselog's kinds).
        """
        kind, target, adapter = {BASELINE: FELL_BACK, PREVIOUS: ROLLED_BACK}.get(action, ALERTED), seen.id, None
        if kind == ROLLED_BACK:
            way = way_back(self.events())
            adapter = self._load(way[-2]) if len(way) > 1 else None
            kind, target = (FELL_BACK, seen.id) if adapter is None else (kind, adapter.release.id)
        found = () if adapter is None else self._differences(seen.id, adapter.contract)
        with self._store.writing() as connection:
            now = releaselog.standing(connection)
            if now is None or now.number != seen.number:
                return None
            with linked(connection, "release_events"):
                return self._write(connection, kind, target, reason(kind), TRIGGER, found, figures)

    def _write(
        self,
        connection: Connection,
        kind: str,
        release_id: ReleaseId,
        reason: str,
        actor: str,
        found: Sequence[Difference] = (),
        figures: Mapping[str, Any] | None = None,
    ) -> ReleaseEvent:
        breaking, shown = any(one.breaking for one in found), [one.as_json() for one in found]
        since = {} if kind == BUILT else {"after": releaselog.last_prediction(connection), **(figures or {})}
        event = ReleaseEvent(kind, release_id, reason, actor, timestamp(self._clock()), breaking, shown, since)
        releaselog.append(connection, event)
        return event
