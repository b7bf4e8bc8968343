"""The ledger: predictions and verdicts, append-only. Functions are named for what they answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, bindparam, delete, exists, func, insert, select
from sqlalchemy.exc import IntegrityError

from . import chain, desk, search
from .blocks import Block, read_block
from .errors import Conflict, KeyReused, NotFound, StoreBusy, StoreFull
from .finding import SORTS, find
from .joining import Joined
from .keylocks import under_way
from .prediction import Answered, Call, IdempotencyKey, Prediction, Verdict, doubt, timestamp, utcnow
from .release import ReleaseId
from .reviews import Judged, Reader, Reviews
from .stages import stage
from .statements import AT_ONCE, Statement, statement
from .store import Store, Turn
from .tables import idempotency_keys, predictions, verdicts

KEY_LIFE = timedelta(hours=24)  # how long an Idempotency-Key is remembered
TOGETHER = 100  # predictions of calls that share a commit; a call of more has one of its own
EXPORTED = 500  # rows that are in memory at a time


@dataclass(frozen=True)
class _Addition:
    """What one call wants to be kept; `rows` are the predictions as the driver takes them."""

    made: Sequence[Prediction]
    rows: Sequence[tuple[Any, ...]]
    entries: Sequence[bytes]  # what stands for each of them in the chain
    call: Call

    @property
    def plain(self) -> bool:
        """Whether the predictions are all that is to be kept."""
        return self.call.key is None and self.call.beside is None


class Ledger:
    """Keeps and finds predictions. `clock` returns the time as an aware datetime.

    `committed` is told after each commit of predictions how many seconds it took, once the turn to write was there.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime] = utcnow,
        committed: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._committed = committed
        self._reader = Reader()
        self._locks = store.key_locks()
        self._keep = Joined(
            self._keep_all,
            store.turn,
            most=TOGETHER,
            size=lambda additions: sum(len(addition.rows) for addition in additions),
            alike=(StoreBusy, StoreFull),
        )

    # ---- writing ----------------------------------------------------------------------------------------------

    def add_predictions(self, made: Sequence[Prediction], call: Call) -> None:
        """Keep the predictions of one call."""
        self.add([(made, call)])

    @stage("record")
    def add(self, answered: Sequence[Answered]) -> None:
        """Keep predictions, the keys they answer to and what belongs beside them in one commit; the adapter's sink.

        Those who meet share the commit, and what each asks for is kept whole or not at all, whatever becomes of the
        others.
        """
        additions = []
        for made, call in answered:
            rows = [_as_row(prediction) for prediction in made]
            additions.append(_Addition(made, rows, [_CHAINED.entry(row) for row in rows], call))
        self._keep(additions)

    def _keep_all(self, turn: Turn, asked: Sequence[Sequence[_Addition]]) -> Sequence[None]:
        began = perf_counter()
        self._write(turn, [addition for some in asked for addition in some])
        self._committed(perf_counter() - began)
        return [None] * len(asked)

    def _write(self, turn: Turn, additions: Sequence[_Addition]) -> None:
        rows = [row for addition in additions for row in addition.rows]
        if rows:
            sealed = chain.digest_of(entry for addition in additions for entry in addition.entries)
            rows[-1] = (*rows[-1][:-1], sealed)
        if 0 < len(rows) <= AT_ONCE and all(addition.plain for addition in additions):
            turn.append(self._keeps(), rows)
            return
        with turn.transaction() as connection:
            self._keeps().run(connection, rows)
            for addition in additions:
                if addition.call.beside is not None:
                    addition.call.beside(connection)
                if addition.call.key is not None:
                    self._remember(connection, addition.call.key, addition.made)

    def _keeps(self) -> Statement:
        return statement(_KEEP, self._store.engine.dialect)

    def _remember(self, connection: Connection, key: IdempotencyKey, made: Sequence[Prediction]) -> None:
        now = self._clock()
        connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < timestamp(now - KEY_LIFE)))
        try:
            connection.execute(
                insert(idempotency_keys).values(
                    client=key.client,
                    key=key.key,
                    fingerprint=key.fingerprint,
                    prediction_ids=[prediction.id for prediction in made],
                    created_at=timestamp(now),
                )
            )
        except IntegrityError:  # whoever held the key lost it (their connection broke), and somebody else was faster
            raise under_way() from None

    def add_verdict(
        self,
        prediction_id: str,
        verdict: Verdict,
        *,
        own_answer: bool = False,
        check: Callable[[Connection], None] = lambda connection: None,
    ) -> Prediction:
        """Append a verdict and return the prediction with all of them; raise NotFound, and whatever `check` raises.

        The same verdict of the same person again (a retry, a second click) is the one that is there. It counts as
        blind where the options were hidden from its author, and it says what they themselves think: `own_answer`, a
        correction, or not to know.
        """
        with self._store.writing() as connection:
            row, given = _judged_row(connection, prediction_id)
            if given and replace(given[-1], created_at=verdict.created_at, blind=verdict.blind) == verdict:
                return prediction_of(row, given)
            check(connection)
            own = own_answer or verdict.verdict in ("corrected", "unsure")
            verdict = replace(verdict, blind=own and desk.is_blind(connection, prediction_id, verdict.author))
            desk.leave(connection, prediction_id)
            return _append(connection, row, given, verdict)

    def withdraw_verdict(
        self,
        prediction_id: str,
        author: str,
        *,
        only_own: bool = False,
        beside: Callable[[Connection], None] = lambda connection: None,
    ) -> Prediction:
        """Take the verdict that holds back, by one more row, and let the record wait again, before all others.

        Raises NotFound where none holds, and Conflict where it is another person's and `only_own` is asked for.
        `beside` is done in the same commit.
        """
        with self._store.writing() as connection:
            row, given = _judged_row(connection, prediction_id)
            holds = prediction_of(row, given).verdict
            if holds is None:
                raise NotFound("This prediction has no verdict to take back.")
            if only_own and holds.author != author:
                raise Conflict(f"The verdict that holds is {holds.author}'s; only they take it back here.")
            taken_back = Verdict("withdrawn", None, None, [], None, author, timestamp(self._clock()))
            judged = _append(connection, row, given, taken_back)
            desk.put_back(connection, judged)
            beside(connection)
            return judged

    # ---- reading ----------------------------------------------------------------------------------------------

    def prediction(self, prediction_id: str, client: str | None = None) -> Prediction:
        """Return one prediction with its verdicts; raise NotFound, also where it is not the given client's."""
        with self._store.reading() as connection:
            row = _row_of(connection, prediction_id)
            if client is not None and row["client"] != client:
                raise NotFound("There is no prediction with this id.")
            return _with_verdicts(connection, [row])[0]

    def predictions(
        self,
        filters: Mapping[str, Any],
        limit: int,
        cursor: str | None = None,
        sort: str = SORTS[0],
        without: Collection[str] = (),
    ) -> tuple[list[Prediction], str | None]:
        """Return at most `limit` predictions in an order of SORTS, and the cursor of the next page, if there is one.

        Those whose ids are in `without` are left out.
        """
        self._prepare(filters)
        with self._store.reading() as connection:
            found, following = find(connection, filters, sort, limit, cursor, without=without)
            return _numbered(connection, found), following

    def pages(
        self, filters: Mapping[str, Any], sort: str = SORTS[0], without: Collection[str] = ()
    ) -> Iterator[list[Prediction]]:
        """Yield all predictions that match, EXPORTED at a time, as they are when they are read.

        What is recorded after the first page was asked for is left out, so that this ends. No page holds a state of the
        store while the next one waits to be asked for: a slow reader keeps nothing from being tidied up.
        """
        self._prepare(filters)
        with self._store.reading() as connection:
            newest = connection.scalar(select(func.max(predictions.c.seq))) or 0
        cursor: str | None = None
        while True:
            with self._store.reading() as connection:
                found, cursor = find(connection, filters, sort, EXPORTED, cursor, newest, without)
                page = _numbered(connection, found)
            yield page
            if cursor is None:
                return

    def _prepare(self, filters: Mapping[str, Any]) -> None:
        words = filters.get("q")
        if words is not None and search.match(words, self._store.engine.dialect) is not None:
            search.catch_up(self._store)

    def tasks(self) -> set[str]:
        """Return the kinds of answers there are: `classification`, `regression`."""
        label = predictions.c.label
        kinds = {"classification": label.is_not(None), "regression": label.is_(None)}
        with self._store.reading() as connection:
            return {task for task, holds in kinds.items() if connection.scalar(select(exists().where(holds)))}

    def last_prediction(self, at: str) -> int:
        """Return the number of the newest prediction made at a time or before, 0 where there was none."""
        kept = predictions.c
        newest = select(kept.seq).where(kept.created_at <= at).order_by(kept.created_at.desc(), kept.seq.desc())
        with self._store.reading() as connection:
            return connection.scalar(newest.limit(1)) or 0

    def reviews(self, release: ReleaseId, after: int = 0) -> Reviews:
        """Return what people said of the answers of a release after the prediction of a number, and of how many."""
        with self._store.reading() as connection:
            return self._reader.read(connection, release, after)

    def judged(self, release: ReleaseId, after: int = 0) -> list[Judged]:
        """Return what people said of the answers of a release after the prediction of a number."""
        with self._store.reading() as connection:
            return self._reader.judged(connection, release, after)

    def block(self, release: ReleaseId, size: int, **which: int | None) -> Block:
        """Return a full block of a release's requests (blocks.py), the last one where nothing else is said."""
        with self._store.reading() as connection:
            return read_block(connection, release, size, **which)

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


# ---- rows -------------------------------------------------------------------------------------------------------


_PLAIN = {
    "id", "created_at", "option", "source", "client", "request_id", "reference", "input", "output", "decision",
    "reasons", "warnings", "comparison", "explanation", "audit",
}  # fmt: skip
_CHAINED = chain.KINDS["predictions"]
_KEEP = insert(predictions).inline().values({name: bindparam(name) for name in (*_CHAINED.columns, "seal")})


def _as_row(prediction: Prediction) -> tuple[Any, ...]:
    """Return the values of _KEEP as the driver takes them, not sealed yet.

    Without the detour through SQLAlchemy's types, which takes five times as long: this is done for every request.
    """
    release, output = prediction.release, prediction.output
    return (
        prediction.id, prediction.created_at, release.name, release.version, release.digest, prediction.option,
        prediction.source, prediction.client, prediction.request_id, prediction.reference, _json(prediction.input),
        _json(output), output.get("label"), prediction.decision, _json(prediction.reasons), _json(prediction.warnings),
        _json(prediction.comparison), _json(prediction.explanation), int(prediction.audit), doubt(output),
        os.urandom(chain.SALT), None,
    )  # fmt: skip


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def prediction_of(row: RowMapping, given: Sequence[Verdict]) -> Prediction:
    return Prediction(
        release=ReleaseId(row["release_name"], row["release_version"], row["release_digest"]),
        verdicts=tuple(given),
        **{name: row[name] for name in _PLAIN},
    )


def _numbered(connection: Connection, numbers: Sequence[int]) -> list[Prediction]:
    """Return the predictions of these rows, in this order."""
    rows = connection.execute(select(predictions).where(predictions.c.seq.in_(numbers))).mappings()
    by_number = {row["seq"]: row for row in rows}
    return _with_verdicts(connection, [by_number[number] for number in numbers])


def _row_of(connection: Connection, prediction_id: str) -> RowMapping:
    row = connection.execute(select(predictions).where(predictions.c.id == prediction_id)).mappings().first()
    if row is None:
        raise NotFound("There is no prediction with this id.")
    return row


def _judged_row(connection: Connection, prediction_id: str) -> tuple[RowMapping, Sequence[Verdict]]:
    row = _row_of(connection, prediction_id)
    return row, _with_verdicts(connection, [row])[0].verdicts


def _append(connection: Connection, row: RowMapping, given: Sequence[Verdict], verdict: Verdict) -> Prediction:
    with chain.linked(connection, "verdicts"):
        salt = os.urandom(chain.SALT)
        connection.execute(insert(verdicts).values(prediction_seq=row["seq"], salt=salt, **vars(verdict)))
    return prediction_of(row, [*given, verdict])


def _with_verdicts(connection: Connection, rows: Sequence[RowMapping]) -> list[Prediction]:
    given: dict[int, list[Verdict]] = {row["seq"]: [] for row in rows}
    if rows:
        query = select(verdicts).where(verdicts.c.prediction_seq.in_(given)).order_by(verdicts.c.seq)
        for row in connection.execute(query).mappings():
            values = {name: row[name] for name in Verdict.__dataclass_fields__}
            given[row["prediction_seq"]].append(Verdict(**values))
    return [prediction_of(row, given[row["seq"]]) for row in rows]
