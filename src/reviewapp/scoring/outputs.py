"""A partition and its answers as CSV, JSON Lines or Parquet; and its bad rows alone, in the same kind.

CSV and JSON Lines are written as the bulk route writes them: the columns of the rows, then those of the answer; or an
answer or a problem on each line. Parquet has the columns of CSV, with the types that they have.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from .. import csvfiles, strictjson
from ..bodies import REFERENCE
from ..bulk import answer_columns, in_words
from ..contract import Contract
from ..errors import as_problem
from ..release import ReleaseId
from .answers import Answers, outputs_of
from .columns import as_values
from .tables import CSV, JSON_LINES, PARQUET, Checked, Header, shown_text

ROW = "row"


@dataclass(frozen=True)
class Said:
    """What the answers of a partition say beside what was answered: when, by which option of what, on whose request."""

    release: ReleaseId
    option: str
    created_at: str
    request_id: str


@dataclass(frozen=True)
class Layout:
    """The columns of a file of answers: `given` are those of the rows, `added` those of the answer (bulk.py)."""

    kind: str
    given: tuple[str, ...]
    added: tuple[str, ...]
    row: str  # the column of the file of bad rows that says which row it is
    delimiter: str = ","
    values: bool = False  # whether the answer is a value
    types: tuple[Any, ...] = ()  # of Arrow, of the columns of the rows, where Parquet is written

    @classmethod
    def of(cls, kind: str, header: Header, asked: str, contract: Contract) -> Layout:
        """Return the layout of a file of answers to files of the kind `asked`."""
        own = asked == JSON_LINES and REFERENCE.name not in contract.names
        given = (*header.names, REFERENCE.name) if own else header.names
        task = contract.outcome.task
        row = ROW
        while row in given:
            row += "_"
        types = _types(given, header, asked, contract) if kind == PARQUET else ()
        added = tuple(answer_columns(task, given))
        return cls(kind, given, added, row, header.delimiter, task == "regression", types)

    def begin(self) -> bytes:
        """Return what comes before the answers, in CSV."""
        return csvfiles.write([[*self.given, *self.added]], self.delimiter).encode()

    def begin_problems(self) -> bytes:
        return csvfiles.write([[self.row, *self.given, self.added[-1]]], self.delimiter).encode()


Columns = list[Sequence[Any]]


def write(checked: Checked, answers: Answers, layout: Layout, said: Said) -> tuple[bytes, bytes]:
    """Return the answers of a partition, and its bad rows, without what comes before and after."""
    return _WRITERS[layout.kind](checked, answers, layout, said)


def _spread(checked: Checked, values: Sequence[Any], nothing: Any) -> Sequence[Any]:
    """Return what the right rows have, in the places of all rows."""
    if len(values) == checked.table.rows:
        return values
    spread = [nothing] * checked.table.rows
    for row, value in zip(np.flatnonzero(checked.right).tolist(), values, strict=True):
        spread[row] = value
    return spread


def _problems(checked: Checked, nothing: Any) -> list[Any]:
    problems = [nothing] * checked.table.rows
    for row, mistake in checked.mistakes.items():
        problems[row] = in_words(mistake)
    return problems


def _added(checked: Checked, answers: Answers, nothing: Any, make: Callable[[Any], Any]) -> Columns:
    """Return the columns of the answers; `make` is applied to each number."""
    decisions = ["review" if reasons else "auto" for reasons in answers.reasons]
    reasons = ["; ".join(reasons) for reasons in answers.reasons]
    warnings = [""] * answers.rows
    for row, said in answers.warnings.items():
        warnings[row] = "; ".join(warning["detail"] for warning in said)
    predictions = answers.predictions
    columns: Columns = [
        predictions if answers.names else list(map(make, predictions)),
        *(list(map(make, column)) for column in answers.shown_figures),
        decisions, reasons, warnings, answers.ids or [nothing] * answers.rows,
    ]  # fmt: skip
    return [*(_spread(checked, column, nothing) for column in columns), _problems(checked, nothing)]


def _bad(columns: Columns, checked: Checked) -> Columns:
    """Return the bad rows alone, each with its number before it and its problem after it."""
    bad = np.zeros(checked.table.rows, dtype=np.bool_)
    bad[list(checked.mistakes)] = True
    rows = (np.flatnonzero(bad) + checked.table.first).tolist()
    return [rows, *(list(compress(column, bad.tolist())) for column in columns)]


# ---- CSV --------------------------------------------------------------------------------------------------------


def _write_csv(checked: Checked, answers: Answers, layout: Layout, said: Said) -> tuple[bytes, bytes]:
    given: Columns = [shown_text(checked.table.shown[name]) for name in layout.given]
    added = _added(checked, answers, "", repr)
    whole = csvfiles.write_columns([*given, *added], layout.delimiter).encode()
    if not checked.mistakes:
        return whole, b""
    numbers, *bad = _bad([*given, added[-1]], checked)
    return whole, csvfiles.write_columns([list(map(str, numbers)), *bad], layout.delimiter).encode()


# ---- JSON Lines -------------------------------------------------------------------------------------------------


def _write_lines(checked: Checked, answers: Answers, layout: Layout, said: Said) -> tuple[bytes, bytes]:
    release = said.release.as_json()
    rows = np.flatnonzero(checked.right).tolist()
    outputs = answers.outputs()
    other = "baseline" if said.option == "model" else "model"
    others = None if answers.others is None else outputs_of(answers.others, answers.names)
    lines: list[bytes] = [b""] * checked.table.rows
    for place, (row, output, reasons) in enumerate(zip(rows, outputs, answers.reasons, strict=True)):
        line: dict[str, Any] = {
            "id": answers.ids[place] if answers.ids else None,
            "created_at": said.created_at if answers.times is None else answers.times[place],
            "release": release,
            "option": said.option,
            "reference": checked.references[row],
            "output": output,
            "decision": "review" if reasons else "auto",
            "reasons": reasons,
            "warnings": answers.warnings.get(place, []),
        }
        if others is not None:
            line["comparison"] = {"option": other, "output": others[place]}
        lines[row] = strictjson.dumps(line)
    bad = []
    for row in sorted(checked.mistakes):
        number = checked.table.first + row
        problem = {"row": number, "problem": as_problem(checked.mistakes[row], said.request_id)}
        lines[row] = strictjson.dumps(problem)
        request = (
            {name: shown_text(cells)[row] for name, cells in checked.table.shown.items()}
            if checked.table.requests is None
            else checked.table.requests[row]
        )
        bad.append(strictjson.dumps(problem | {"request": request}))
    return b"".join(line + b"\n" for line in lines), b"".join(line + b"\n" for line in bad)


# ---- Parquet ----------------------------------------------------------------------------------------------------


def _write_parquet(checked: Checked, answers: Answers, layout: Layout, said: Said) -> tuple[bytes, bytes]:
    given = [_typed(checked, name) for name in layout.given]
    added = _added(checked, answers, None, float)
    whole = _parquet([*given, *added], [*layout.given, *layout.added], layout)
    if not checked.mistakes:
        return whole, b""
    bad = _bad([*given, added[-1]], checked)
    return whole, _parquet(bad, [layout.row, *layout.given, layout.added[-1]], layout)


def _typed(checked: Checked, name: str) -> Sequence[Any]:
    """Return a column with the types that it has: those of the contract where a row of JSON has any."""
    fields = {one.name: one for one in checked.contract.fields}
    if checked.table.requests is None:
        return checked.table.shown[name]
    if name not in fields:
        return checked.references  # not what was sent as one: that may be anything
    values = as_values(fields[name], checked.columns[name].values)
    return [value if right else None for value, right in zip(values, checked.right.tolist(), strict=True)]


def _types(given: Sequence[str], header: Header, asked: str, contract: Contract) -> tuple[Any, ...]:
    """Return the types of the columns of the rows: as in the file, or as in the contract; cells of CSV are text."""
    import pyarrow as pa  # noqa: PLC0415 (large, and needed for Parquet alone)

    if asked == PARQUET:
        return tuple(one.value_type if pa.types.is_dictionary(one) else one for one in header.types)
    known = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()} if asked == JSON_LINES else {}
    kinds = {one.name: one.kind for one in contract.fields}
    return tuple(known.get(kinds.get(name, ""), pa.string()) for name in given)


def _parquet(columns: Columns, names: Sequence[str], layout: Layout) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 (large, and needed for Parquet alone)
    import pyarrow.parquet as pq  # noqa: PLC0415 (as above)

    figures = layout.added[0 if layout.values else 1 : 3 if layout.values else 2]
    types = dict.fromkeys(layout.added, pa.string()) | dict.fromkeys(figures, pa.float64())
    types |= dict(zip(layout.given, layout.types, strict=True)) | {layout.row: pa.int64()}
    arrays = [pa.array(column, type=types[name]) for name, column in zip(names, columns, strict=True)]
    out = io.BytesIO()
    pq.write_table(pa.table(arrays, names=list(names)), out)
    return out.getvalue()


_WRITERS = {CSV: _write_csv, JSON_LINES: _write_lines, PARQUET: _write_parquet}
