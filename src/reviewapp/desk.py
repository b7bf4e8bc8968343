"""The queue of the review desk: what waits for a person, each record with one reviewer at a time.

A record joins the queue with the insert that records it, by a trigger of the store (tables.py), whatever inserts it. It
leaves it in the commit of its verdict; taking the verdict back puts it in front again. A lease gives a record to one
reviewer; it ends by itself, so that nobody who goes home keeps one. The ledger's own tables say who judged what; this
one only says who looks at what now.

A record that is drawn to be judged blind is hidden from whoever opens it until it is judged, also where they skip it.
Who sent the request has had its answer, so for them it is never blind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, or_, select, update

from .errors import Conflict
from .policy import REASONS
from .prediction import Prediction, timestamp, utcnow
from .store import Store
from .tables import blind_openings, predictions, queue, verdicts

LEASE = timedelta(minutes=15)
AUDIT = "audit"  # why an automatic answer waits; others wait for the first reason of their decision
WHY = (*REASONS, AUDIT)


@dataclass(frozen=True)
class Lease:
    """A record that is with a reviewer until a time; a `blind` one hides the options until the verdict."""

    prediction_id: str
    until: str
    blind: bool


@dataclass(frozen=True)
class Waiting:
    """How many records wait, by why they do, and how many of them are with other reviewers now."""

    by_reason: dict[str, int]
    with_others: int

    @property
    def left(self) -> int:
        return sum(self.by_reason.values())

    def as_json(self) -> dict[str, Any]:
        return {"left": self.left, "with_others": self.with_others, "by_reason": self.by_reason}


def put_back(connection: Connection, one: Prediction) -> None:
    """Let a prediction that a person must look at wait again, before all others."""
    if one.decision == "review" or one.audit:
        first = select(func.coalesce(func.min(queue.c.place), 0) - 1).scalar_subquery()
        connection.execute(insert(queue).values(prediction_id=one.id, why=[*one.reasons, AUDIT][0], place=first))


def leave(connection: Connection, prediction_id: str) -> None:
    """Let a record wait no longer, and be hidden from nobody."""
    for table in (queue, blind_openings):
        connection.execute(delete(table).where(table.c.prediction_id == prediction_id))


def is_blind(connection: Connection, prediction_id: str, reviewer: str) -> bool:
    """Whether the options of a record are hidden from a reviewer."""
    opened = blind_openings.c.prediction_id == prediction_id, blind_openings.c.reviewer == reviewer
    return bool(connection.scalar(select(exists().where(*opened))))


class Desk:
    """Hands out what waits. `clock` returns the time as an aware datetime."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utcnow) -> None:
        self._store = store
        self._clock = clock

    def next(self, reviewer: str, blind: Callable[[str], bool]) -> Lease | None:
        """Lease the record that the reviewer has already, else the next one that is with nobody; None: none is left.

        `blind` says by a prediction's id whether it was drawn to be judged blind; one that anybody has judged before,
        or that the reviewer asked for themselves, is not.
        """
        free = or_(queue.c.leased_until.is_(None), queue.c.leased_until <= self._now())
        waits = select(queue.c.prediction_id).where(free).order_by(queue.c.place).limit(1)
        with self._store.writing() as connection:
            row = self._held(connection, reviewer)
            found = row.prediction_id if row is not None else connection.scalar(waits)
            if found is None:
                return None
            drawn = row is None and not is_blind(connection, found, reviewer) and blind(found)
            if drawn and _can_be_blind(connection, found, reviewer):
                connection.execute(insert(blind_openings).values(prediction_id=found, reviewer=reviewer))
            return self._lease(connection, found, reviewer)

    def take(self, connection: Connection, prediction_id: str, reviewer: str) -> None:
        """Lease this record, where it waits and no other reviewer has it; in a transaction of the caller's."""
        row = connection.execute(select(queue).where(queue.c.prediction_id == prediction_id)).first()
        if row is not None and (row.leased_to in (None, reviewer) or row.leased_until <= self._now()):
            self._lease(connection, prediction_id, reviewer)

    def held(self, reviewer: str) -> Lease | None:
        """Return what the reviewer has before them, or None."""
        with self._store.reading() as connection:
            row = self._held(connection, reviewer)
            if row is None:
                return None
            return Lease(row.prediction_id, row.leased_until, is_blind(connection, row.prediction_id, reviewer))

    def skip(self, prediction_id: str, reviewer: str) -> None:
        """Put a record behind all others; raise Conflict where it is not with this reviewer."""
        last = select(func.max(queue.c.place) + 1).scalar_subquery()
        with self._store.writing() as connection:
            skipped = connection.execute(
                update(queue)
                .where(queue.c.prediction_id == prediction_id, queue.c.leased_to == reviewer)
                .values(place=last, leased_to=None, leased_until=None)
            )
            if not skipped.rowcount:
                raise Conflict("You do not have this record; POST /api/v1/queue/next leases one.")

    def check(self, connection: Connection, prediction_id: str, reviewer: str) -> None:
        """Raise Conflict where a record is with another reviewer, or was judged by one while it was with this one.

        Asked in the transaction that records the verdict, so that of two at once one is told.
        """
        row = connection.execute(select(queue).where(queue.c.prediction_id == prediction_id)).first()
        if row is not None:
            if row.leased_to not in (None, reviewer) and row.leased_until > self._now():
                raise Conflict("This record is with another reviewer now; nothing of yours was recorded.")
            return
        last = (
            select(verdicts.c.author)
            .join(predictions, predictions.c.seq == verdicts.c.prediction_seq)
            .where(predictions.c.id == prediction_id)
            .order_by(verdicts.c.seq.desc())
        )
        author = connection.scalar(last)
        if author not in (None, reviewer):
            raise Conflict(f"{author} has judged this record in the meantime; nothing of yours was recorded.")

    def hidden(self, reviewer: str) -> set[str]:
        """Return the ids of the predictions whose options are hidden from the reviewer until they are judged."""
        query = select(blind_openings.c.prediction_id).where(blind_openings.c.reviewer == reviewer)
        with self._store.reading() as connection:
            return set(connection.scalars(query))

    def waiting(self, reviewer: str) -> Waiting:
        """Return how many records wait."""
        by_reason = select(queue.c.why, func.count()).group_by(queue.c.why)
        others = select(func.count()).where(self._leased(), queue.c.leased_to != reviewer)
        with self._store.reading() as connection:
            found = {why: int(n) for why, n in connection.execute(by_reason)}
            shown = {why: found.pop(why) for why in WHY if why in found}
            return Waiting(shown | found, int(connection.scalar(others) or 0))

    def judged(self, reviewer: str, since: datetime) -> int:
        """Return how many records a reviewer has judged since a time, by a verdict that still holds."""
        later = verdicts.alias()
        newer = exists().where(later.c.prediction_seq == verdicts.c.prediction_seq, later.c.seq > verdicts.c.seq)
        mine = verdicts.c.author == reviewer, verdicts.c.created_at >= timestamp(since)
        query = select(func.count()).where(*mine, verdicts.c.verdict != "withdrawn", ~newer)
        with self._store.reading() as connection:
            return int(connection.scalar(query) or 0)

    def last(self, reviewer: str) -> str | None:
        """Return the prediction that the reviewer judged last, of those whose verdict is still theirs."""
        later = verdicts.alias()
        newer = exists().where(later.c.prediction_seq == verdicts.c.prediction_seq, later.c.seq > verdicts.c.seq)
        given = (
            select(predictions.c.id)
            .join(verdicts, predictions.c.seq == verdicts.c.prediction_seq)
            .where(verdicts.c.author == reviewer, verdicts.c.verdict != "withdrawn", ~newer)
            .order_by(verdicts.c.created_at.desc(), verdicts.c.seq.desc())
            .limit(1)
        )
        with self._store.reading() as connection:
            found = connection.scalar(given)
            return None if found is None else str(found)

    def _now(self) -> str:
        return timestamp(self._clock())

    def _leased(self) -> ColumnElement[bool]:
        return queue.c.leased_until > self._now()

    def _held(self, connection: Connection, reviewer: str) -> Any:
        mine = select(queue).where(queue.c.leased_to == reviewer, self._leased())
        return connection.execute(mine.order_by(queue.c.place).limit(1)).first()

    def _lease(self, connection: Connection, prediction_id: str, reviewer: str) -> Lease:
        """Give a record to a reviewer, and take from them what they had before: one record at a time."""
        until = timestamp(self._clock() + LEASE)
        this = queue.c.prediction_id == prediction_id
        others = queue.c.leased_to == reviewer, ~this
        connection.execute(update(queue).where(*others).values(leased_to=None, leased_until=None))
        connection.execute(update(queue).where(this).values(leased_to=reviewer, leased_until=until))
        return Lease(prediction_id, until, is_blind(connection, prediction_id, reviewer))


def _can_be_blind(connection: Connection, prediction_id: str, reviewer: str) -> bool:
    """Whether nobody has judged a prediction, and somebody else than the reviewer asked for it."""
    asked = select(predictions.c.seq, predictions.c.client).where(predictions.c.id == prediction_id)
    seq, client = connection.execute(asked).one()
    judged = connection.scalar(select(exists().where(verdicts.c.prediction_seq == seq)))
    return client != reviewer and not judged
