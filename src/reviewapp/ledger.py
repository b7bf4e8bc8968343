"""The ledger: predictions and verdicts, append-only. Functions are named for what they answer."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Text,
    and_,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
)

from . import desk
from .errors import Conflict, Flaw, InvalidInput, KeyReused, NotFound
from .prediction import Call, IdempotencyKey, Prediction, Verdict, doubt, timestamp, utcnow
from .release import ReleaseId
from .stages import stage
from .store import Store, idempotency_keys, predictions, verdicts

KEY_LIFE = timedelta(hours=24)  # how long an Idempotency-Key is remembered
CURSOR = "c[0-9]{1,18}"  # callers hand it back as it is; what it says is ours to change
_LOCK_SPACE = 2**62  # byte offsets in the lock file; one stands for one key


class Ledger:
    """Keeps and finds predictions. `clock` returns the time as an aware datetime."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utcnow) -> None:
        self._store = store
        self._clock = clock
        self._locks = _KeyLocks(f"{store.path}.locks")

    # ---- writing ----------------------------------------------------------------------------------------------

    @stage("record")
    def add_predictions(self, made: Sequence[Prediction], call: Call) -> None:
        """Keep predictions, the key they answer to and what belongs beside them in one commit; the adapter's sink."""
        with self._store.writing() as connection:
            if made:
                connection.execute(insert(predictions), [_as_row(prediction) for prediction in made])
                desk.join(connection, made)
            if call.beside is not None:
                call.beside(connection)
            if call.key is not None:
                now = self._clock()
                connection.execute(
                    delete(idempotency_keys).where(idempotency_keys.c.created_at < timestamp(now - KEY_LIFE))
                )
                connection.execute(
                    insert(idempotency_keys).values(
                        client=call.key.client,
                        key=call.key.key,
                        fingerprint=call.key.fingerprint,
                        prediction_ids=[prediction.id for prediction in made],
                        created_at=timestamp(now),
                    )
                )

    def add_verdict(self, prediction_id: str, verdict: Verdict, *, own_answer: bool = False) -> Prediction:
        """Append a verdict and return the prediction with all of them; raise NotFound.

        The same verdict of the same person again (a retry, a second click) is the one that is there. It counts as
        blind where the options were hidden from its author, and it says what they themselves think: `own_answer`, a
        correction, or not to know.
        """
        with self._store.writing() as connection:
            row = _row_of(connection, prediction_id)
            given = _with_verdicts(connection, [row])[0].verdicts
            if given and replace(given[-1], created_at=verdict.created_at, blind=verdict.blind) == verdict:
                return prediction_of(row, given)
            own = own_answer or verdict.verdict in ("corrected", "unsure")
            verdict = replace(verdict, blind=own and desk.is_blind(connection, prediction_id, verdict.author))
            connection.execute(insert(verdicts).values(prediction_seq=row["seq"], **vars(verdict)))
            judged = prediction_of(row, [*given, verdict])
            desk.leave(connection, prediction_id)
            if verdict.verdict == "withdrawn":
                desk.join(connection, [judged], front=True)
            return judged

    def withdraw_verdict(self, prediction_id: str, author: str) -> Prediction:
        """Take the verdict that holds back, by one more row; raise NotFound where none holds."""
        if self.prediction(prediction_id).verdict is None:
            raise NotFound("This prediction has no verdict to take back.")
        return self.add_verdict(
            prediction_id, Verdict("withdrawn", None, None, [], None, author, timestamp(self._clock()))
        )

    # ---- reading ----------------------------------------------------------------------------------------------

    def prediction(self, prediction_id: str, client: str | None = None) -> Prediction:
        """Return one prediction with its verdicts; raise NotFound, also where it is not the given client's."""
        with self._store.reading() as connection:
            row = _row_of(connection, prediction_id)
            if client is not None and row["client"] != client:
                raise NotFound("There is no prediction with this id.")
            return _with_verdicts(connection, [row])[0]

    def predictions(
        self, filters: Mapping[str, Any], limit: int, cursor: str | None = None
    ) -> tuple[list[Prediction], str | None]:
        """Return at most `limit` predictions, newest first, and the cursor of the next page, if there is one."""
        conditions = [_CONDITIONS[name](value) for name, value in filters.items() if value is not None]
        if cursor is not None:
            conditions.append(predictions.c.seq < _seq_of(cursor))
        query = select(predictions).where(*conditions).order_by(predictions.c.seq.desc()).limit(limit + 1)
        with self._store.reading() as connection:
            rows = list(connection.execute(query).mappings())
            found = _with_verdicts(connection, rows[:limit])
        return found, _cursor(rows[limit - 1]["seq"]) if len(rows) > limit else None

    def counts(self, release: ReleaseId) -> dict[str, int]:
        """Return how many predictions of a release each decision has."""
        query = (
            select(predictions.c.decision, func.count())
            .where(predictions.c.release_digest == release.digest)
            .group_by(predictions.c.decision)
        )
        with self._store.reading() as connection:
            return {decision: int(n) for decision, n in connection.execute(query)}

    def audited(self, release: ReleaseId) -> list[Prediction]:
        """Return the automatic answers of a release that were drawn for a person to check, the oldest first."""
        query = select(predictions).where(predictions.c.release_digest == release.digest, predictions.c.audit)
        with self._store.reading() as connection:
            rows = list(connection.execute(query.order_by(predictions.c.seq)).mappings())
            return _with_verdicts(connection, rows)

    # ---- retries ----------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, key: IdempotencyKey) -> Iterator[list[Prediction] | None]:
        """Hold an Idempotency-Key for the time of the block; give what it was answered with before, or None.

        Raises Conflict while another request holds it and KeyReused where it belongs to another request. The hold
        ends with the process, also with one that is killed: a retry after that is never locked out.
        """
        with self._locks.hold(key):
            yield self._answered(key)

    def _answered(self, key: IdempotencyKey) -> list[Prediction] | None:
        with self._store.reading() as connection:
            row = (
                connection.execute(
                    select(idempotency_keys).where(
                        idempotency_keys.c.client == key.client,
                        idempotency_keys.c.key == key.key,
                        idempotency_keys.c.created_at >= timestamp(self._clock() - KEY_LIFE),
                    )
                )
                .mappings()
                .first()
            )
            if row is None:
                return None
            if row["fingerprint"] != key.fingerprint:
                raise KeyReused("The key was used before with another body or other options; take a new one.")
            ids = row["prediction_ids"]
            rows = connection.execute(
                select(predictions).where(predictions.c.id.in_(ids)).order_by(predictions.c.seq)
            ).mappings()
            by_id = {found["id"]: found for found in rows}
            return [prediction_of(by_id[prediction_id], ()) for prediction_id in ids]


class _KeyLocks:
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
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except OSError:
                raise _under_way() from None
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


# ---- rows -------------------------------------------------------------------------------------------------------


def _as_row(prediction: Prediction) -> dict[str, Any]:
    release = prediction.release
    row = {column.name: getattr(prediction, column.name) for column in predictions.c if column.name in _PLAIN}
    return row | {
        "release_name": release.name,
        "release_version": release.version,
        "release_digest": release.digest,
        "label": prediction.output.get("label"),
        "doubt": doubt(prediction.output),
    }


_PLAIN = {
    "id", "created_at", "option", "source", "client", "request_id", "reference", "input", "output", "decision",
    "reasons", "warnings", "comparison", "explanation", "audit",
}  # fmt: skip


def prediction_of(row: RowMapping, given: Sequence[Verdict]) -> Prediction:
    return Prediction(
        release=ReleaseId(row["release_name"], row["release_version"], row["release_digest"]),
        verdicts=tuple(given),
        **{name: row[name] for name in _PLAIN},
    )


def _row_of(connection: Connection, prediction_id: str) -> RowMapping:
    row = connection.execute(select(predictions).where(predictions.c.id == prediction_id)).mappings().first()
    if row is None:
        raise NotFound("There is no prediction with this id.")
    return row


def _with_verdicts(connection: Connection, rows: Sequence[RowMapping]) -> list[Prediction]:
    given: dict[int, list[Verdict]] = {row["seq"]: [] for row in rows}
    if rows:
        query = select(verdicts).where(verdicts.c.prediction_seq.in_(given)).order_by(verdicts.c.seq)
        for row in connection.execute(query).mappings():
            values = {name: row[name] for name in Verdict.__dataclass_fields__}
            given[row["prediction_seq"]].append(Verdict(**values))
    return [prediction_of(row, given[row["seq"]]) for row in rows]


def _cursor(seq: int) -> str:
    return f"c{seq}"


def _seq_of(cursor: str) -> int:
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidInput([Flaw("/query/cursor", "not_a_cursor", "This must be the `next` of an earlier page.")])
    return int(cursor[1:])


def _mentions(words: str) -> ColumnElement[bool]:
    """Whether a value of the input (not a member's name) or the reference holds the words."""
    member = func.json_each(predictions.c.input).table_valued("value")
    in_input = exists().select_from(member).where(cast(member.c.value, Text).contains(words, autoescape=True))
    return or_(in_input, predictions.c.reference.contains(words, autoescape=True))


def _release_is(release: str) -> ColumnElement[bool]:
    if release.isascii() and release.isdigit() and len(release) < 10:
        return predictions.c.release_version == int(release)
    name, _, version = release.partition("/")
    if version.isascii() and version.isdigit() and len(version) < 10:
        return and_(predictions.c.release_name == name, predictions.c.release_version == int(version))
    return predictions.c.release_digest == release


def _verdict_is(verdict: str) -> ColumnElement[bool]:
    """The verdict that holds is the last one; `none` finds what nobody has judged, or what was taken back."""
    of_this = verdicts.c.prediction_seq == predictions.c.seq
    later = verdicts.alias()
    newer = exists().where(later.c.prediction_seq == verdicts.c.prediction_seq, later.c.seq > verdicts.c.seq)
    last = and_(of_this, ~newer)
    if verdict == "none":
        return or_(~exists().where(of_this), exists().where(last, verdicts.c.verdict == "withdrawn"))
    return exists().where(last, verdicts.c.verdict == verdict)


_CONDITIONS: dict[str, Callable[[Any], ColumnElement[bool]]] = {
    "decision": lambda value: predictions.c.decision == value,
    "label": lambda value: predictions.c.label == value,
    "option": lambda value: predictions.c.option == value,
    "audit": lambda value: predictions.c.audit == value,
    "release": _release_is,
    "verdict": _verdict_is,
    "source": lambda value: predictions.c.source == value,
    "reference": lambda value: predictions.c.reference == value,
    "since": lambda value: predictions.c.created_at >= value,
    "until": lambda value: predictions.c.created_at < value,
    "q": _mentions,
}
