"""The release log: which release was built, answers, or had to stop, when, by whom and why; what follows from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, literal, select

from .release import ReleaseId
from .sqlwords import member
from .tables import predictions, release_events

BUILT, PROMOTED, ROLLED_BACK = "built", "promoted", "rolled_back"
FELL_BACK, ALERTED = "fell_back", "alerted"  # the trigger's: the baseline answers; or nothing but this row
MOVES = (PROMOTED, ROLLED_BACK, FELL_BACK)
TRIGGER = "trigger"  # who does it where no person does


@dataclass(frozen=True)
class ReleaseEvent:
    """One row of the release log: what happened to which release, when, by whom and why.

    `differences` are those of a move, as JSON: what it changed in the contract. `breaking` says whether any of them
    breaks callers. `figures` hold `after`, the number of the last prediction before it, and, where the trigger fired,
    what led to that.
    """

    kind: str
    id: ReleaseId
    reason: str
    actor: str
    created_at: str
    breaking: bool = False
    differences: list[dict[str, Any]] = field(default_factory=list)
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fired(self) -> bool:
        """Whether the trigger did it."""
        return "trigger" in self.figures

    @property
    def concerns(self) -> ReleaseId:
        """Which release the trigger fired for: not the one it has led back to."""
        return ReleaseId(**self.figures["release"])

    def as_json(self) -> dict[str, Any]:
        return self.id.as_json() | {
            "event": self.kind,
            "reason": self.reason,
            "actor": self.actor,
            "created_at": self.created_at,
            "breaking": self.breaking,
            "differences": self.differences,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True)
class Standing:
    """What answers now: `option` of the live release `id`, to all predictions with a number above `after`.

    `number` is that of the event that made it so, `fired` the event itself where the trigger did it and nobody has
    moved anything since. `fired_before` is when the trigger last fired for this release, whoever has moved what since.
    """

    id: ReleaseId
    option: str = "model"
    after: int = 0
    number: int = 0
    fired: ReleaseEvent | None = None
    fired_before: str | None = None


def append(connection: Connection, event: ReleaseEvent) -> None:
    """Write an event; its link of the chain is the caller's, who may write several in one commit."""
    connection.execute(
        insert(release_events).values(
            kind=event.kind, reason=event.reason, actor=event.actor, created_at=event.created_at,
            breaking=event.breaking, differences=event.differences, figures=dict(event.figures) or None,
            **event.id.as_json(),
        )
    )  # fmt: skip


def last_prediction(connection: Connection) -> int:
    """Return the number of the newest prediction, 0 where there is none."""
    return connection.scalar(select(func.max(predictions.c.seq))) or 0


def events(connection: Connection) -> list[ReleaseEvent]:
    """Return the whole log, newest first."""
    rows = connection.execute(select(release_events).order_by(release_events.c.seq.desc())).mappings()
    return [_event(row) for row in rows]


def live(connection: Connection) -> ReleaseId | None:
    """Return the release that answers, None where there is none."""
    row = connection.execute(LAST_MOVE).first()
    return None if row is None else ReleaseId(*row[:3])


def standing(connection: Connection) -> Standing | None:
    """Return what answers now, None where nothing does."""
    last = select(release_events).where(release_events.c.kind != BUILT).order_by(release_events.c.seq.desc()).limit(1)
    row = connection.execute(last).mappings().first()
    if row is None:
        return None
    event = _event(row)
    option, fired = option_of(event.kind), event if event.fired else None
    before = connection.scalar(_LAST_FIRING, {"digest": event.id.digest})
    return Standing(event.id, option, event.figures.get("after", 0), row["seq"], fired, before)


_LAST_FIRING = (
    select(release_events.c.created_at)
    .where(member(release_events.c.figures, "release", "digest") == bindparam("digest"))
    .order_by(release_events.c.seq.desc())
    .limit(1)
)


def option_of(kind: str) -> str:
    """Return which option answers after an event of a kind."""
    return "baseline" if kind == FELL_BACK else "model"


LAST_MOVE = (
    select(release_events.c.name, release_events.c.version, release_events.c.digest, release_events.c.kind)
    .where(release_events.c.kind.in_([literal(kind) for kind in MOVES]))
    .order_by(release_events.c.seq.desc())
)  # of which only the first row is read


LAST_EVENT = select(release_events.c.seq).order_by(release_events.c.seq.desc())  # of which only the first row is read


def way_back(log: Sequence[ReleaseEvent]) -> list[ReleaseId]:
    """Return the releases that roll-backs would go through, the live one last; `log` is newest first."""
    way: list[ReleaseId] = []  # a promotion goes one step on, a roll-back one step back
    for event in reversed(log):
        if event.kind == ROLLED_BACK:
            way.pop()
        elif event.kind == PROMOTED and (not way or way[-1] != event.id):
            way.append(event.id)
    return way


def by_version(log: Sequence[ReleaseEvent]) -> dict[int, ReleaseId]:
    """Return what each version names: the release of the live name, else the newest; `log` is newest first.

    Versions count through all names now; a deployment may hold older releases that share one.
    """
    way = way_back(log)
    built = [event.id for event in reversed(log) if event.kind == BUILT]
    built.sort(key=lambda one: bool(way) and one.name == way[-1].name)  # of one version the last one wins
    return {one.version: one for one in built}


def _event(row: RowMapping) -> ReleaseEvent:
    return ReleaseEvent(
        kind=row["kind"],
        id=ReleaseId(row["name"], row["version"], row["digest"]),
        reason=row["reason"],
        actor=row["actor"],
        created_at=row["created_at"],
        breaking=row["breaking"],
        differences=row["differences"] or [],
        figures=row["figures"] or {},
    )
