"""What answers, and what was left half done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select

from ..errors import NotReady, ReleaseRefused
from ..manifest import check_files
from ..prediction import timestamp
from ..staging import PREFIXES, left_behind
from ..tables import uploads as files
from .finding import OK, WARNING, WRONG, Case, Finding
from .ledger import unread, usable

FORGOTTEN = timedelta(days=1)


def digests(case: Case) -> Iterator[Finding]:
    """Every release that the ledger knows lies there as it was built."""
    if not usable(case):
        yield unread()
        return
    registry = case.parts.registry
    live, built, damaged = registry.live(), registry.built(), False
    for event in built:
        try:
            with registry.place.as_it_lies(event.id.identity) as folder:
                check_files(folder, event.id.digest)
        except NotReady as error:
            yield Finding(WRONG, error.detail, "Look at REVIEWAPP_RELEASES, and at what its library needs to know.")
            return
        except ReleaseRefused as error:
            damaged = True
            state = WRONG if event.id == live else WARNING
            yield Finding(state, f"Release {event.id} is damaged: {error.detail}", "Put its folder back from a backup.")
    if not damaged:
        yield Finding(OK, f"{len(built)} release{'s' if len(built) != 1 else ''} as built.")


def live(case: Case) -> Iterator[Finding]:
    if not usable(case):
        yield unread()
        return
    registry = case.parts.registry
    pointer = registry.live()
    if pointer is None:
        yield Finding(WARNING, "No release is live.", "`reviewapp build` makes one.")
        return
    try:
        registry.check(registry.folder(pointer), pointer.digest)
    except (ReleaseRefused, NotReady) as error:
        yield Finding(WRONG, f"The live release {pointer} does not load: {error.detail}", "`reviewapp rollback`.")
    else:
        yield Finding(OK, f"The live release {pointer} loads and gives its golden answers.")


def trigger(case: Case) -> Iterator[Finding]:
    """The model answers, and no rule has made it stop."""
    if not usable(case):
        yield unread()
        return
    seen = case.parts.registry.standing()
    if seen is not None and seen.fired is not None:
        yield Finding(
            WARNING, seen.fired.reason, "Find the cause; `reviewapp promote` or `reviewapp rollback` goes on."
        )
    else:
        yield Finding(OK, "The rollback trigger has not fired since what answers now was promoted or rolled back to.")


def leftovers(case: Case) -> Iterator[Finding]:
    settings, place = case.parts.settings, case.parts.registry.place
    try:
        claims = place.unfinished()
    except NotReady:  # another check says so
        claims = []
    if claims:
        yield Finding(
            WARNING,
            f"Builds that put a release to {place} now, or were killed over it, claim a number: {', '.join(claims)}.",
            f"Where no build runs, remove {place}/.claims/ and the folder of each such number.",
        )
    places = {place.here, settings.instance}
    places |= {case.parts.store.path.parent} if case.parts.store.is_file else set()
    left = sorted({path for place in places for path in left_behind(place, *PREFIXES)})
    if left:
        named = ", ".join(map(str, left))
        yield Finding(
            WARNING, f"Left by what was killed: {named}.", "The next build, backup or restore there takes it away."
        )
    else:
        yield Finding(OK, "No folder was left half made.")


def uploads(case: Case) -> Iterator[Finding]:
    if not usable(case):
        yield unread()
        return
    before = timestamp(case.facts.clock() - FORGOTTEN)
    unfinished = select(func.count()).where(files.c.answered < files.c.rows, files.c.created_at < before)
    with case.parts.store.reading() as connection:
        number = connection.scalar(unfinished) or 0
    if number:
        yield Finding(
            WARNING,
            f"{number} upload{'s' if number != 1 else ''} of more than a day ago stopped half way.",
            "Whoever sent it can go on at /upload.",
        )
    else:
        yield Finding(OK, "No upload stopped half way.")
