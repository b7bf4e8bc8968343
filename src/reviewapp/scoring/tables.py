"""The rows of one partition as they were read, by column, and which of them may be asked.

Rows that are not surely right (columns.py) go through the very code that reads single rows of a file (bulk.py): that
alone says what is wrong, and where it finds nothing, the row is right after all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd

from .. import csvfiles, strictjson
from ..bodies import REFERENCE, prediction_request
from ..building.table import as_cell
from ..bulk import Columns, Row
from ..contract import Contract
from ..errors import ReviewappError
from ..field import NOTHING, Field, Record
from ..samples import as_text
from .columns import ABSENT, Column, ColumnCheck, Mask, as_series, as_values

CSV, JSON_LINES, PARQUET = "csv", "jsonl", "parquet"


@dataclass(frozen=True)
class Header:
    """The columns of a file: their names in its order; the sign that parts them, or their types (Arrow's)."""

    names: tuple[str, ...]
    delimiter: str = ","
    types: tuple[Any, ...] = ()


@dataclass
class Table:
    """The rows of a partition. `first` is the number of its first row among all rows of all files, from 1 on.

    `columns` gives the cells of the contract's fields, text where `text` says so, else values. `shown` are the cells of
    all columns as they are handed on. `again` reads one row by itself.
    """

    first: int
    rows: int
    columns: Mapping[str, Sequence[Any]]
    text: dict[str, bool]
    shown: Mapping[str, Sequence[Any]]
    again: Callable[[int], Row]
    references: Sequence[Any] | None = None
    mistakes: dict[int, ReviewappError] = field(default_factory=dict)
    requests: Sequence[str] | None = None  # JSON Lines: the lines themselves


@dataclass
class Checked:
    """A table whose rows were checked: `right` says which may be asked, `mistakes` why the others may not."""

    table: Table
    contract: Contract
    columns: dict[str, Column]
    right: Mask
    references: list[str | None]
    late: dict[int, Record]  # rows that were found right by themselves

    @property
    def mistakes(self) -> dict[int, ReviewappError]:
        return self.table.mistakes

    def frame(self) -> pd.DataFrame:
        """Return the right rows as frames.py would, from their records."""
        return pd.DataFrame({name: as_series(values) for name, values in self.values().items()}, copy=False)

    def values(self) -> dict[str, Any]:
        """Return the columns of the right rows."""
        if self.right.all():
            return {name: column.values for name, column in self.columns.items()}
        return {name: _chosen(column.values, self.right) for name, column in self.columns.items()}

    def records(self, values: dict[str, Any], chosen: Mask | None = None) -> list[Record]:
        """Return the right rows, of which `values` are the columns, as records; `chosen` are some of these."""
        if chosen is not None:
            values = {name: _chosen(column, chosen) for name, column in values.items()}
        columns = [as_values(one, values[one.name]) for one in self.contract.fields]
        made = [dict(zip(self.contract.names, row, strict=True)) for row in zip(*columns, strict=True)]
        if self.late:
            rows = np.flatnonzero(self.right)
            for place, row in enumerate((rows if chosen is None else rows[chosen]).tolist()):
                if row in self.late:
                    made[place] = self.late[row]
        return made


def _chosen(values: Any, rows: Mask) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else list(compress(values, rows.tolist()))


@lru_cache(maxsize=256)
def _check_of(one: Field, text: bool, missing: tuple[str, ...]) -> ColumnCheck:
    return ColumnCheck(one, text=text, missing=missing)


def check(table: Table, contract: Contract) -> Checked:
    """Check all rows of a table; what is wrong with a row is added to its mistakes."""
    columns: dict[str, Column] = {}
    right = np.ones(table.rows, dtype=np.bool_)
    right[list(table.mistakes)] = False
    for one in contract.fields:
        checks = _check_of(one, table.text.get(one.name, True), contract.missing)
        cells = table.columns.get(one.name)
        columns[one.name] = checks.absent(table.rows) if cells is None else checks(cells)
        right &= columns[one.name].sure
    references: list[str | None] = [None] * table.rows
    if table.references is not None:
        text = table.text.get(REFERENCE.name, True)
        own = _check_of(REFERENCE, text, NOTHING)(table.references)
        right &= own.sure
        references = list(own.values)
    late: dict[int, Record] = {}
    for row in np.flatnonzero(~right).tolist():
        if row in table.mistakes:
            continue
        read = table.again(row)
        if read.mistake is not None:
            table.mistakes[row] = read.mistake
            continue
        late[row], references[row], right[row] = read.record, read.reference, True
        for one in contract.fields:
            _put(columns[one.name], row, read.record[one.name])
    return Checked(table, contract, columns, right, references, late)


def _put(column: Column, row: int, value: Any) -> None:
    if isinstance(column.values, np.ndarray):
        column.values[row] = np.nan if value is None else value
    else:
        column.values[row] = value


# ---- CSV --------------------------------------------------------------------------------------------------------


def read_csv(content: bytes, header: Header, first: int, line: int, contract: Contract) -> Table:
    """Read whole records of a CSV file without its header; `line` is the number of their first line."""
    rows = csvfiles.rows(content, header.delimiter)
    width, names = len(header.names), header.names
    schema = Columns(names, contract)
    mistakes: dict[int, ReviewappError] = {}
    if set(map(len, rows)) - {width}:
        lines = [at for at, _ in csvfiles.records(content, header.delimiter, line)]
        for number, cells in enumerate(rows):
            if len(cells) != width:
                row = schema.row(first + number, lines[number], cells)
                rows[number] = list(row.cells)
                mistakes[number] = row.mistake  # type: ignore[assignment]  # a row of another width always has one
    cells_of = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in names}
    return Table(
        first,
        len(rows),
        {name: cells for name, cells in cells_of.items() if name in contract.names},
        {},
        cells_of,
        lambda row: schema.row(first + row, 0, rows[row]),
        None if REFERENCE.name in contract.names else cells_of.get(REFERENCE.name),
        mistakes,
    )


# ---- JSON Lines -------------------------------------------------------------------------------------------------


def read_json_lines(content: bytes, header: Header, first: int, contract: Contract) -> Table:
    """Read lines that each hold a request as the single route takes it."""
    lines = [line.rstrip(b"\r\n") for line in content.split(b"\n") if line.strip(b" \t\r\n")]
    schema, names = prediction_request(contract), contract.names
    mistakes: dict[int, ReviewappError] = {}
    inputs: list[dict[str, Any]] = []
    references: list[Any] = []
    odd: list[int] = []
    known = frozenset(names)
    for number, line in enumerate(lines):
        given: Any = None
        try:
            body = strictjson.loads(line)
        except ReviewappError as error:
            mistakes[number] = error
        else:
            if type(body) is dict:
                given, reference = body.get("input"), body.get("reference")
                references.append(reference)
                if len(body) > 1 + ("reference" in body) or type(given) is not dict or not known.issuperset(given):
                    odd.append(number)
            else:
                odd.append(number)
        inputs.append(given if type(given) is dict else {})
        if len(references) < len(inputs):
            references.append(None)
    columns = {
        one.name: [given.get(one.name, ABSENT if one.required else None) for given in inputs] for one in contract.fields
    }

    def again(row: int) -> Row:
        try:
            record, reference = schema.load(strictjson.loads(lines[row]))
        except ReviewappError as error:
            return Row(first + row, {}, mistake=error)
        return Row(first + row, record, reference)

    for number in odd:  # perhaps all right, as far as columns can tell
        read = again(number)
        if read.mistake is not None:
            mistakes[number] = read.mistake
    shown = {name: cells for name, cells in columns.items() if name in header.names}
    if REFERENCE.name not in names:
        shown[REFERENCE.name] = references
    requests = [line.decode(errors="replace") for line in lines]
    return Table(
        first, len(lines), columns, dict.fromkeys((*names, REFERENCE.name), False), shown, again, references, mistakes,
        requests,
    )  # fmt: skip


# ---- Parquet ----------------------------------------------------------------------------------------------------


def read_parquet(columns: dict[str, list[Any]], header: Header, first: int, contract: Contract) -> Table:
    """Read typed columns: numbers and texts as they are, all else as the text that a build reads from Parquet."""
    fields = {one.name: one for one in contract.fields}
    rows = len(next(iter(columns.values()))) if columns else 0
    cells: dict[str, Sequence[Any]] = {}
    text: dict[str, bool] = {}
    for name, values in columns.items():
        one = fields.get(name, REFERENCE)
        numeric = one.kind in ("number", "integer", "boolean")
        types = set(map(type, values)) - {type(None)}
        text[name] = not (numeric and types <= {int, float, bool})
        cells[name] = (
            [_cell(value, one) for value in values]
            if text[name]
            else [None if value != value else value for value in values]  # noqa: PLR0124 (not-a-number)
        )
    schema = Columns(header.names, contract)

    def again(row: int) -> Row:
        return schema.row(
            first + row, 0, [_cell(columns[name][row], fields.get(name, REFERENCE)) for name in header.names]
        )

    references = None if REFERENCE.name in fields else cells.get(REFERENCE.name)
    own = {name: column for name, column in cells.items() if name in fields}
    return Table(first, rows, own, text, dict(columns), again, references)


def _cell(value: Any, one: Field) -> Any:
    """Return a value of Parquet as the text that stands for it, None for what is missing."""
    if isinstance(value, (bytes, list, dict)):
        return repr(value)
    return as_cell(value, "%H" in one.date_format.replace("%-", "%"))


def shown_text(cells: Sequence[Any]) -> Sequence[str]:
    """Return cells as CSV has them."""
    if set(map(type, cells)) <= {str}:
        return cells
    return [_as_shown(cell) for cell in cells]


def _as_shown(cell: Any) -> str:
    if isinstance(cell, (str, int, float, bool, type(None))):
        return as_text(cell)
    return "" if cell is ABSENT else str(cell)
