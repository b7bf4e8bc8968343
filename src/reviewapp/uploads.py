"""Files that were sent on the Upload page: their rows as they came, and what became of each.

A file is stored whole in one commit. Then its rows are answered from the first on, CHUNK at a time: what they are
answered with, the result of each row, how far the file is and its summary change in one commit, and only where nobody
did this chunk in the meantime. So whoever breaks off loses nothing, anyone may go on, and no row is recorded twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from . import bulk, csvfiles
from .adapter import ModelAdapter
from .errors import Conflict, NotFound
from .ledger import prediction_of
from .prediction import Call, Prediction, timestamp, utcnow
from .release import Release
from .store import Store
from .tables import predictions, upload_rows, uploads

LONGEST_NAME = 200
LATEST = 20  # so many uploads are listed
NOT_REACHED = "not answered: the rows are answered in their order, and this one was not reached yet"
OTHER_RELEASE = "not answered: another release answers now than the one that answered the rows before"
BLIND = "not shown: this row waits for your own verdict, which is given before the answer is seen"


@dataclass(frozen=True)
class Summary:
    """Of the rows that are done: how many have each label and each decision, and how many have a problem."""

    labels: Mapping[str, int] = field(default_factory=dict)
    decisions: Mapping[str, int] = field(default_factory=dict)
    problems: int = 0

    def plus(self, results: Sequence[bulk.Result]) -> Summary:
        made = [result for result in results if isinstance(result, Prediction)]
        labels = Counter(one.output["label"] for one in made if "label" in one.output)
        decisions = Counter(one.decision for one in made)
        problems = self.problems + len(results) - len(made)
        return Summary(Counter(self.labels) + labels, Counter(self.decisions) + decisions, problems)

    def as_json(self) -> dict[str, Any]:
        return {"labels": dict(self.labels), "decisions": dict(self.decisions), "problems": self.problems}


@dataclass(frozen=True)
class Upload:
    """A file: `rows` in all, of which the first `answered` are done; `task` is that of the release's outcome."""

    id: str
    name: str
    client: str
    request_id: str
    created_at: str
    release_digest: str
    task: str
    delimiter: str
    header: Sequence[str]
    rows: int
    answered: int = 0
    summary: Summary = Summary()

    @property
    def finished(self) -> bool:
        return self.answered >= self.rows

    def as_json(self) -> dict[str, Any]:
        shown = {
            name: getattr(self, name) for name in ("id", "name", "client", "request_id", "created_at", "release_digest")
        }
        progress = {"rows": self.rows, "answered": self.answered, "finished": self.finished}
        return shown | progress | {"summary": self.summary.as_json()}


@dataclass(frozen=True)
class UploadRow:
    """A row from 1 on, the line where it begins, and what became of it; neither of both: nothing yet."""

    number: int
    line: int
    cells: Sequence[str]
    prediction: Prediction | None = None
    problem: str | None = None


class _Done(Exception):
    """Another request did this chunk in the meantime."""


class Uploads:
    """Keeps files and answers them. `clock` returns the time as an aware datetime."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utcnow) -> None:
        self._store = store
        self._clock = clock

    # ---- writing ------------------------------------------------------------------------------------------------

    def add(
        self, upload_id: str, name: str, client: str, request_id: str, release: Release, rows: bulk.CsvRows
    ) -> tuple[Upload, bool]:
        """Store a file and all of its rows; return it, and whether it is new: one with this id may be there."""
        cells = list(rows.cells())
        made = Upload(
            id=upload_id,
            name=name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…",
            client=client,
            request_id=request_id,
            created_at=timestamp(self._clock()),
            release_digest=release.id.digest,
            task=release.contract.outcome.task,
            delimiter=rows.delimiter,
            header=rows.header,
            rows=len(cells),
        )
        with self._store.writing() as connection:
            found = _upload_row(connection, upload_id)
            if found is not None:
                return _upload(found), False
            values = {c.name: getattr(made, c.name) for c in uploads.c if c.name != "summary"}
            connection.execute(insert(uploads).values(**values, summary=made.summary.as_json()))
            numbered = enumerate(cells, 1)
            while some := list(islice(numbered, bulk.CHUNK)):
                each = [{"upload_id": made.id, "row": n, "line": line, "cells": row} for n, (line, row) in some]
                connection.execute(insert(upload_rows), each)
        return made, True

    def go_on(self, upload: Upload, adapter: ModelAdapter) -> Upload:
        """Answer the next chunk of rows and return the upload as it is then.

        Raises Conflict where the adapter's release is not the one that the file was sent to; whatever recording
        raises passes through, and then nothing of the chunk is kept.
        """
        if adapter.release.id.digest != upload.release_digest:
            raise Conflict(
                "Another release answers now than when this file was sent, and one file is answered by one release. "
                f"The answers up to row {upload.answered:,} are recorded; send the other rows as a file of their own."
            )
        columns = bulk.Columns(upload.header, adapter.contract)
        rows = [columns.row(one.number, one.line, one.cells) for one in self.rows(upload, limit=bulk.CHUNK)]
        call = Call(source="upload", client=upload.client, request_id=upload.request_id)
        asked = [row for row in rows if row.mistake is None]
        made = iter(bulk.answers(asked, adapter, replace(call, dry_run=True), compare=True) if asked else ())
        results = [row.mistake or next(made) for row in rows]
        after = replace(upload, answered=upload.answered + len(rows), summary=upload.summary.plus(results))

        def record(connection: Connection) -> None:
            here = uploads.c.id == upload.id, uploads.c.answered == upload.answered
            values = {"answered": after.answered, "summary": after.summary.as_json()}
            if not connection.execute(update(uploads).where(*here).values(**values)).rowcount:
                raise _Done
            each = [_result(row.number, result) for row, result in zip(rows, results, strict=True)]
            connection.execute(_set_result(upload.id), each)

        try:
            kept = [result for result in results if isinstance(result, Prediction)]
            adapter.keep(kept, replace(call, beside=record))
        except _Done:
            return self.upload(upload.id)
        return after

    # ---- reading ------------------------------------------------------------------------------------------------

    def upload(self, upload_id: str, client: str | None = None) -> Upload:
        """Return a file; raise NotFound, also where it is not the given client's."""
        with self._store.reading() as connection:
            row = _upload_row(connection, upload_id)
        if row is None or client not in (None, row["client"]):
            raise NotFound("There is no upload with this id.")
        return _upload(row)

    def latest(self, client: str | None = None) -> list[Upload]:
        """Return the last files of a client, or of everybody, the newest first."""
        query = select(uploads).order_by(uploads.c.created_at.desc()).limit(LATEST)
        with self._store.reading() as connection:
            mine = query if client is None else query.where(uploads.c.client == client)
            return [_upload(row) for row in connection.execute(mine).mappings()]

    def rows(
        self, upload: Upload, *, after: int | None = None, limit: int, only_problems: bool = False
    ) -> list[UploadRow]:
        """Return rows in their order, `limit` at most, after the row of a number (else: those to be answered next)."""
        behind = upload.answered if after is None else after
        query = (
            select(upload_rows, predictions)
            .outerjoin(predictions, predictions.c.id == upload_rows.c.prediction_id)
            .where(upload_rows.c.upload_id == upload.id, upload_rows.c.row > behind)
            .order_by(upload_rows.c.row)
            .limit(limit)
        )
        if only_problems:
            query = query.where(upload_rows.c.problem.is_not(None))
        with self._store.reading() as connection:
            return [_row(found) for found in connection.execute(query).mappings()]

    def written(self, upload: Upload, problem: str, hidden: set[str]) -> Iterator[bytes]:
        """Yield the file as CSV with its answers, a chunk at a time; `problem` is that of rows not answered.

        Rows that are answered while it is written are left as not answered, so that the file is of one moment.
        Predictions whose ids are `hidden` are not told.
        """
        added = bulk.answer_columns(upload.task, upload.header)
        width, last, chunk = len(upload.header), 0, [[*upload.header, *added]]
        while chunk:
            yield csvfiles.write(chunk, upload.delimiter).encode()
            found = self.rows(upload, after=last, limit=bulk.CHUNK)
            last += len(found)
            chunk = [
                [*bulk.fitted(one.cells, width), *_cells(one, len(added), upload.answered, problem, hidden)]
                for one in found
            ]


def _cells(one: UploadRow, columns: int, answered: int, problem: str, hidden: set[str]) -> list[str]:
    if one.number > answered:
        return bulk.problem_cells(problem, columns)
    if one.prediction is None:
        return bulk.problem_cells(one.problem or "", columns)
    return bulk.problem_cells(BLIND, columns) if one.prediction.id in hidden else bulk.answer_cells(one.prediction)


# ---- rows -------------------------------------------------------------------------------------------------------


def _upload_row(connection: Connection, upload_id: str) -> RowMapping | None:
    return connection.execute(select(uploads).where(uploads.c.id == upload_id)).mappings().first()


def _upload(row: RowMapping) -> Upload:
    return Upload(**{**row, "summary": Summary(**row["summary"])})


def _row(row: RowMapping) -> UploadRow:
    made = prediction_of(row, ()) if row["prediction_id"] is not None else None
    return UploadRow(row["row"], row["line"], row["cells"], made, row["problem"])


def _result(number: int, result: bulk.Result) -> dict[str, Any]:
    if isinstance(result, Prediction):
        return {"number": number, "made": result.id, "why": None}
    return {"number": number, "made": None, "why": bulk.in_words(result)}


def _set_result(upload_id: str) -> Any:
    here = upload_rows.c.upload_id == upload_id, upload_rows.c.row == bindparam("number")
    return update(upload_rows).where(*here).values(prediction_id=bindparam("made"), problem=bindparam("why"))
