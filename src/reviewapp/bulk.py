"""A file of requests → a file of answers, in the order of the rows: each row is a request of its own.

Rows are read as they come, answered and recorded CHUNK at a time (fewer where the next one has not come yet), and
handed out before more are read; one file is answered by one release. A mistake of a row is answered in its place. What
cannot be read as a file (its header, encoding or a quote) is refused with nothing recorded, if that is seen before the
first rows are answered; later, the row that it is seen at has that as its problem, and is the last.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Protocol

from . import csvfiles, strictjson
from .adapter import ModelAdapter
from .bodies import REFERENCE, prediction_request
from .contract import Contract
from .errors import (
    BadRequest,
    Flaw,
    InvalidInput,
    ModelBroken,
    ReviewappError,
    TooLarge,
    as_own,
    as_problem,
    pointer,
)
from .field import Record
from .lines import Lines, Pieces
from .prediction import Call, Prediction
from .samples import as_text
from .schemas import RecordSchema, form_schema
from .stages import stage

log = logging.getLogger("reviewapp")

CSV_TYPE = "text/csv"
NDJSON_TYPE = "application/x-ndjson"
KINDS = (CSV_TYPE, NDJSON_TYPE)
CHUNK = 500
LONGEST_ROW = 1 << 20  # bytes, as REVIEWAPP_MAX_BODY has it
SHOWN_CHOICES = 10
SHOWN_NAME = 100  # characters of a column's name that a mistake shows: without a header, they are a row's own cells
_REFERENCE = RecordSchema((REFERENCE,), text=True)

Result = Prediction | ReviewappError


@dataclass(frozen=True)
class Row:
    """A row as it was read: what it asks, or why it cannot be asked. `number` counts from 1.

    `cells` are those of a CSV row, as many as the header has.
    """

    number: int
    record: Record
    reference: str | None = None
    mistake: ReviewappError | None = None
    cells: Sequence[str] = ()


class Rows(Protocol):
    """One kind of file: its rows are read one by one, and results are written in the same kind."""

    def __iter__(self) -> Iterator[Row]: ...

    def waits(self) -> bool:
        """Whether the next row has not come yet."""

    def begin(self) -> bytes:
        """Return what comes before the results."""

    def write(self, results: Iterable[tuple[Row, Result]], call: Call) -> bytes:
        """Return the results of some rows."""

    def end(self, rows: int, problems: int) -> bytes:
        """Return what comes after the results."""


@stage("parse")
def read(
    kind: str, content: bytes | Pieces, contract: Contract, *, longest: int = LONGEST_ROW, summary: bool = False
) -> Rows:
    """Return the rows of a file of one of KINDS; raise InvalidInput where it has no row, or a wrong header.

    A row may have `longest` bytes; more is a problem.
    """
    if kind == CSV_TYPE:
        return CsvRows(content, contract, longest=longest, summary=summary)
    return JsonRows(content, contract, longest=longest)


def answer(rows: Rows, adapter: ModelAdapter, call: Call, *, option: str | None = None) -> Iterator[bytes]:
    """Yield the file of answers, some rows at a time.

    A row that the model fails at has that as its problem. Where recording fails, every row from there on that could
    have been asked has this failure as its problem, so that no file ends early and looks whole; before anything is
    handed out, the failure is raised. So is what is wrong with the file itself; later, it is the problem of a last row.
    """
    written = problems = 0
    failure: ReviewappError | None = None
    reading: Iterator[Row] = iter(rows)
    while chunk := _next_rows(rows, reading, written):
        asked = [row for row in chunk if row.mistake is None]
        made: list[Result] = []
        if asked and failure is None:
            try:
                made = answers(asked, adapter, call, option=option)
            except Exception as error:
                if not written:
                    raise
                failure = _logged(error, call, asked[0].number)
        following = iter(made)
        results: list[tuple[Row, Result]] = [(row, row.mistake or failure or next(following)) for row in chunk]
        before = b"" if written else rows.begin()
        written += len(chunk)
        problems += sum(isinstance(result, ReviewappError) for _, result in results)
        yield before + rows.write(results, call)
    yield rows.end(written, problems)


def _next_rows(rows: Rows, reading: Iterator[Row], written: int) -> list[Row]:
    """Return the next rows, CHUNK at most, of which none waits for one that has not come yet."""
    found = list[Row]()
    try:
        for row in islice(reading, CHUNK):
            found.append(row)
            if rows.waits():
                break
    except ReviewappError as error:
        if not written:
            raise
        says = f"{in_words(error).rstrip('.')}. Neither this row nor any after it was answered."
        found.append(Row(written + len(found) + 1, {}, mistake=BadRequest(says)))
    return found


def answers(
    rows: Sequence[Row], adapter: ModelAdapter, call: Call, *, compare: bool = False, option: str | None = None
) -> list[Result]:
    """Return the answers to rows without mistakes, recorded unless the call is a dry run.

    Where the model fails at one of them, each is asked alone, and that one fails.
    """
    asked = replace(call, references=[row.reference for row in rows])
    try:
        return [*adapter.predict([row.record for row in rows], asked, compare=compare, option=option)]
    except ModelBroken as error:
        if len(rows) == 1:
            return [_logged(error, call, rows[0].number)]
    return [one for row in rows for one in answers([row], adapter, call, compare=compare, option=option)]


def _logged(error: Exception, call: Call, row: int) -> ReviewappError:
    """Return our own error for what failed; the cause goes to the log, as that of a whole answer does."""
    failure = as_own(error)
    trace = error if failure.status == 500 else None
    log.error("request %s failed: %s (from row %d on)", call.request_id, failure.detail, row, exc_info=trace)
    return failure


# ---- NDJSON -----------------------------------------------------------------------------------------------------


class JsonRows:
    """A request on each line, as the single route takes it; a prediction or a problem on each, and a summary last."""

    def __init__(self, content: bytes | Pieces, contract: Contract, *, longest: int = LONGEST_ROW) -> None:
        self._lines = Lines(content, longest, universal=False)
        self._longest, self._schema = longest, prediction_request(contract)
        self._first = next(self._filled(), None)
        if self._first is None:
            raise _refused("too_few_items", "The file holds no request.")

    def _filled(self) -> Iterator[bytes]:
        return (line.rstrip(b"\r\n") for line in self._lines if line.strip(b" \t\r\n"))

    def __iter__(self) -> Iterator[Row]:
        for number, line in enumerate(chain([self._first or b""], self._filled()), 1):
            try:
                if len(line) > self._longest:
                    raise TooLarge(f"A line may have {self._longest:,} bytes at most.")
                record, reference = self._schema.load(strictjson.loads(line))
                yield Row(number, record, reference)
            except ReviewappError as error:
                yield Row(number, {}, mistake=error)

    def waits(self) -> bool:
        return self._lines.waits()

    def begin(self) -> bytes:
        return b""

    @stage("render")
    def write(self, results: Iterable[tuple[Row, Result]], call: Call) -> bytes:
        return b"".join(strictjson.dumps(_as_json(row, result, call)) + b"\n" for row, result in results)

    def end(self, rows: int, problems: int) -> bytes:
        summary = {"rows": rows, "predictions": rows - problems, "problems": problems}
        return strictjson.dumps({"summary": summary}) + b"\n"


def _as_json(row: Row, result: Result, call: Call) -> dict[str, object]:
    if isinstance(result, ReviewappError):
        return {"row": row.number, "problem": as_problem(result, call.request_id)}
    return result.as_json() | ({"id": None} if call.dry_run else {})


# ---- CSV --------------------------------------------------------------------------------------------------------


class CsvRows:
    """A header of the contract's names in any order, then rows; the same columns come out, then those of the answer.

    A column `reference` holds the caller's own ids, unless the contract has a field of that name. The answer is parted
    by the sign that parts the question.
    """

    def __init__(
        self, content: bytes | Pieces, contract: Contract, *, longest: int = LONGEST_ROW, summary: bool = False
    ) -> None:
        self._lines = Lines(content, longest, universal=True)
        self._summary = summary
        try:
            text = csvfiles.decoded(self._lines)
            head = csvfiles.header_lines(text, longest)
            self.delimiter = csvfiles.delimiters(head, {*contract.names, REFERENCE.name})[0]
            self._records = csvfiles.parse(chain(head, text), self.delimiter, longest)
            _, self.header = next(self._records, (1, []))
            check_header(self.header, contract)
            self._first = next(self._records, None)
        except csvfiles.NotCSV as error:
            raise _refused("not_csv", error.detail) from None
        if self._first is None:
            raise _refused("too_few_items", "The file has a header and no row.")
        self._columns = Columns(self.header, contract)
        self._answer = answer_columns(contract.outcome.task, self.header)

    @classmethod
    def whole(cls, content: bytes, contract: Contract) -> CsvRows:
        """Return the rows of a file that is refused for what is wrong anywhere in it, before one is answered."""
        try:
            csvfiles.check_text(content)
            rows = cls(content, contract, longest=csvfiles.LONGEST_CELL)
            for _ in csvfiles.records(content, rows.delimiter):
                pass  # a quote that nobody closes is found
        except csvfiles.NotCSV as error:
            raise _refused("not_csv", error.detail) from None
        return rows

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """Yield, once, the cells of each row with the line that it begins in; raise InvalidInput where none is seen."""
        try:
            if self._first is not None:
                yield self._first
            yield from self._records
        except csvfiles.NotCSV as error:
            raise _refused("not_csv", error.detail) from None

    def __iter__(self) -> Iterator[Row]:
        for number, (line, cells) in enumerate(self.cells(), 1):
            yield self._columns.row(number, line, cells)

    def waits(self) -> bool:
        return self._lines.waits()

    def begin(self) -> bytes:
        return csvfiles.write([[*self.header, *self._answer]], self.delimiter).encode()

    @stage("render")
    def write(self, results: Iterable[tuple[Row, Result]], call: Call) -> bytes:
        width = len(self.header)
        rows = ([*fitted(row.cells, width), *self._answered(result, call)] for row, result in results)
        return csvfiles.write(rows, self.delimiter).encode()

    def _answered(self, result: Result, call: Call) -> list[str]:
        if isinstance(result, ReviewappError):
            return problem_cells(in_words(result), len(self._answer))
        return answer_cells(replace(result, id="") if call.dry_run else result)

    def end(self, rows: int, problems: int) -> bytes:
        if not self._summary:
            return b""
        said = f"Summary: {rows:,} rows, {rows - problems:,} predictions, {problems:,} problems."
        last = [*fitted((), len(self.header)), *problem_cells(said, len(self._answer))]
        return csvfiles.write([last], self.delimiter).encode()


class Columns:
    """What the columns of a file mean: the cells of a row → the request that they are."""

    def __init__(self, header: Sequence[str], contract: Contract) -> None:
        self._header, self._schema = header, form_schema(contract)
        self._own_ids = REFERENCE.name not in contract.names

    def row(self, number: int, line: int, cells: Sequence[str]) -> Row:
        width = len(self._header)
        if len(cells) != width:
            detail = f"Line {line}: this row has {len(cells)} cells, and the header has {width}."
            return Row(number, {}, mistake=BadRequest(detail), cells=fitted(cells, width))
        values, flaws = dict(zip(self._header, cells, strict=True)), list[Flaw]()
        own = {REFERENCE.name: values.pop(REFERENCE.name, "")} if self._own_ids else {}
        record, kept = _load(self._schema, values, flaws), _load(_REFERENCE, own, flaws)
        reference = kept.get(REFERENCE.name)
        mistake = InvalidInput(flaws) if flaws else None
        return Row(number, record, None if reference is None else str(reference), mistake, cells)


def fitted(cells: Sequence[str], width: int) -> list[str]:
    """Return the cells of a row, as many as the header has."""
    return [*cells[:width], *[""] * (width - len(cells))]


def answer_columns(task: str, taken: Sequence[str]) -> list[str]:
    """Return the names of the columns that are added, each with `_` after it until it is another than those taken."""
    figures = ("confidence",) if task == "classification" else ("low", "high")
    used, names = set(taken), []
    for column in ("prediction", *figures, "decision", "reasons", "warnings", "prediction_id", "problem"):
        name = column
        while name in used:
            name += "_"
        used.add(name)
        names.append(name)
    return names


def answer_cells(made: Prediction) -> list[str]:
    """Return what a prediction says, in the columns that are added."""
    said = ("label", "confidence") if "label" in made.output else ("value", "low", "high")
    warnings = "; ".join(warning["detail"] for warning in made.warnings)
    figures = (as_text(made.output[name]) for name in said)
    return [*figures, made.decision, "; ".join(made.reasons), warnings, made.id, ""]


def problem_cells(problem: str, columns: int) -> list[str]:
    """Return why a row has no answer, in the columns that are added."""
    return [*[""] * (columns - 1), problem]


def check_header(header: Sequence[str], contract: Contract) -> None:
    """Raise InvalidInput naming each column that is missing, unknown to the contract, or there twice."""
    if not header:
        raise _refused("not_csv", "Line 1 is empty; a file begins with the names of its columns.")
    counts, known = Counter(header), {*contract.names, REFERENCE.name}
    missing = [field.name for field in contract.fields if field.required and field.name not in counts]
    unknown = [name for name in counts if name not in known]
    twice = [name for name, count in counts.items() if count > 1]
    flaws = [
        *(_header_flaw(name, "missing", "this column is required.") for name in missing),
        *(_header_flaw(name, "unknown_member", "the contract knows no column of this name.") for name in unknown),
        *(_header_flaw(name, "given_twice", "give this column once.") for name in twice),
    ]
    if flaws:
        raise InvalidInput(flaws)


def _header_flaw(name: str, code: str, detail: str) -> Flaw:
    shown = name if len(name) <= SHOWN_NAME else f"{name[:SHOWN_NAME]}…"
    return Flaw(pointer(shown), code, f"Line 1: {detail}")


def _refused(code: str, detail: str) -> InvalidInput:
    return InvalidInput([Flaw("", code, detail)])


def _load(schema: RecordSchema, values: Mapping[str, str], flaws: list[Flaw]) -> Record:
    """Return the record of a row's cells; add its mistakes to `flaws`."""
    try:
        return schema.load(values, "")
    except InvalidInput as error:
        flaws += error.errors
        return {}


def in_words(error: ReviewappError) -> str:
    """Return a problem for one cell: every mistake with the column that it is in."""
    if not error.errors:
        return error.detail
    return "; ".join(
        f"{f'{column(flaw.pointer)}: ' if flaw.pointer else ''}{flaw.detail.rstrip('.')}{_choices(flaw)}"
        for flaw in error.errors
    )


def _choices(flaw: Flaw) -> str:
    """Return the values that would be right, in brackets; of a long list the first ones."""
    allowed = flaw.allowed or ()
    shown = ", ".join(allowed[:SHOWN_CHOICES])
    more = f" and {len(allowed) - SHOWN_CHOICES} more" if len(allowed) > SHOWN_CHOICES else ""
    return f" ({shown}{more})" if shown else ""


def column(at: str) -> str:
    """Return the name of the column that a pointer leads to."""
    return at[1:].replace("~1", "/").replace("~0", "~") or "(no name)"
