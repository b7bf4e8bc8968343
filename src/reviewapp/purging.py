"""Purging: what was asked is erased, that it was answered stays, and so does the chain over the ledger.

Erased are the request with its reference and whatever may repeat it: warnings, the explanation, the notes of verdicts,
the words of the search, the cells of uploaded files, the fingerprints of retries. Each commit erases AT_A_TIME
predictions, so that nobody waits long, and has a row of its own that says why, by whom and what. One that was broken
off is finished by asking for it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Table,
    Text,
    bindparam,
    cast,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)  # fmt: skip

from . import search
from .chain import KINDS, digest_of, linked, purged_entry, raw_rows
from .errors import NotFound, ReviewappError, UsageError
from .prediction import timestamp, utcnow
from .sqlwords import POSTGRESQL
from .store import Store
from .tables import predictions, purged, purges, upload_rows, uploads, verdicts

AT_A_TIME = 500
_NOTED = exists().where(verdicts.c.prediction_seq == predictions.c.seq, verdicts.c.note.is_not(None))
_ERASED = exists().where(purged.c.what == "predictions", purged.c.seq == predictions.c.seq)
_EMPTY = select(predictions.c.id).where(predictions.c.input.is_(None))
# What holds a request beside the ledger's own tables: of erased predictions, and of rows that none answered.
_FILLED = cast(upload_rows.c.cells, Text) != "[]"
_ANSWERED = update(upload_rows).where(_FILLED, upload_rows.c.prediction_id.in_(_EMPTY)).values(cells=[])
_REFUSED = update(upload_rows).where(_FILLED, upload_rows.c.prediction_id.is_(None)).values(cells=[], problem="erased")
_ANSWERS = {
    "sqlite": "SELECT value FROM json_each(prediction_ids)",
    POSTGRESQL: "SELECT value FROM json_array_elements_text(prediction_ids::json)",
}
_RETRIES = (
    "DELETE FROM idempotency_keys WHERE EXISTS (SELECT 1 FROM ({}) AS one"
    " JOIN predictions AS p ON p.id = one.value WHERE p.input IS NULL)"
)
# An index that is only changed may keep, between its entries, a copy of one that was moved; made anew it has none.
_REFERENCES = "REINDEX ix_predictions_reference_seq"


@dataclass(frozen=True)
class Selection:
    """What to erase: predictions by their ids, or all from before a day (UTC), of a client, or both."""

    ids: Sequence[str] = ()
    before: date | None = None
    client: str | None = None

    def __post_init__(self) -> None:
        if bool(self.ids) == (self.before is not None or self.client is not None):
            raise UsageError("Say what to erase: ids of predictions, or --before DATE, --client NAME or both of these.")

    def as_json(self) -> dict[str, Any]:
        day = None if self.before is None else self.before.isoformat()
        return {"ids": len(self.ids)} if self.ids else {"before": day, "client": self.client}

    def of(self, table: Table) -> list[ColumnElement[bool]]:
        """Return the conditions for rows that have an id, a time and a client."""
        if self.ids:
            return [table.c.id.in_(self.ids)]
        day, name = self.before, self.client
        return [
            *([table.c.created_at < day.isoformat()] if day is not None else []),
            *([table.c.client == name] if name is not None else []),
        ]


class Purge:
    """Erases what is selected. `clock` returns the time as an aware datetime."""

    def __init__(
        self, store: Store, selection: Selection, reason: str, actor: str, clock: Callable[[], datetime] = utcnow
    ) -> None:
        if not reason.strip():
            raise UsageError("A reason is needed; it is kept in the ledger.")
        self._store, self._selection, self._clock = store, selection, clock
        self._reason, self._actor = reason, actor

    def count(self) -> int:
        """Return how many predictions there are to erase; raise NotFound where an id is not there."""
        ids = self._selection.ids
        with self._store.reading() as connection:
            there = set(connection.scalars(select(predictions.c.id).where(predictions.c.id.in_(ids))))
            for one in ids:
                if one not in there:
                    raise NotFound(f"There is no prediction with the id {one}; nothing was erased.")
            return int(connection.scalar(self._left(func.count())) or 0)

    def run(self) -> int:
        """Erase it and return how many predictions that were; after that nothing of it is in the ledger's files."""
        self.count()
        done = 0
        while erased := self._some():
            done += erased
        with self._store.writing() as connection:
            connection.execute(_ANSWERED)
            if not self._selection.ids:
                uploaded = select(uploads.c.id).where(*self._selection.of(uploads))
                connection.execute(_REFUSED.where(upload_rows.c.upload_id.in_(uploaded)))
            connection.execute(text(_RETRIES.format(_ANSWERS[connection.dialect.name])))
            if self._store.is_file:
                connection.execute(text(_REFERENCES))
        search.tidy(self._store)
        if not self._store.tidy():
            raise ReviewappError(
                f"{done:,} predictions were erased, but somebody reads an older state of the ledger, so that its log "
                "holds it still; run this again."
            )
        return done

    def _left(self, what: Any) -> Any:
        return select(what).select_from(predictions).where(*self._selection.of(predictions), or_(~_ERASED, _NOTED))

    def _some(self) -> int:
        """Erase AT_A_TIME predictions in one commit; return how many there were."""
        with self._store.writing() as connection, linked(connection, "purges"):
            query = self._left(predictions.c.seq).order_by(predictions.c.seq).limit(AT_A_TIME)
            numbers = list(connection.scalars(query))
            if numbers:
                self._erase(connection, numbers)
            return len(numbers)

    def _erase(self, connection: Connection, numbers: Sequence[int]) -> None:
        mine = predictions.c.seq.in_(numbers)
        unerased = list(connection.scalars(select(predictions.c.seq).where(mine, ~_ERASED)))
        noted = select(verdicts.c.seq).where(verdicts.c.prediction_seq.in_(numbers), verdicts.c.note.is_not(None))
        rows = [
            *_emptied(connection, "predictions", unerased),
            *_emptied(connection, "verdicts", list(connection.scalars(noted))),
        ]
        values = {
            "created_at": timestamp(self._clock()), "actor": self._actor, "reason": self._reason,
            "selection": self._selection.as_json(), "digest": digest_of(purged_entry(*row) for row in rows).hex(),
        }  # fmt: skip
        number = connection.scalar(insert(purges).values(values).returning(purges.c.seq))
        named = [dict(zip(("what", "seq", "digest"), row, strict=True)) for row in rows]
        connection.execute(insert(purged).values(purge_seq=number), named)
        search.forget(connection, unerased)


def _emptied(connection: Connection, what: str, numbers: Sequence[int]) -> Iterator[tuple[str, int, bytes]]:
    """Empty rows of a table; yield each with the digest that stays, in the order of their numbers."""
    kind = KINDS[what]
    if not numbers:
        return
    found = [
        (what, number, kind.digest(row))
        for number, *row in raw_rows(connection, what, "WHERE t.seq IN :numbers", {"numbers": numbers})
    ]
    names = ", ".join(f'"{name}" = :{name}' for name in kind.emptied)
    erase = f"UPDATE {what} SET {names}, salt = NULL WHERE seq IN :numbers"  # noqa: S608 (names of our own)
    listed: BindParameter[Any] = bindparam("numbers", expanding=True)
    connection.execute(text(erase).bindparams(listed), {**kind.emptied, "numbers": numbers})
    yield from found
