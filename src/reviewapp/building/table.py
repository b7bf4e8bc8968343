"""A table as its cells stand in the file: every row, as text, nothing guessed and nothing renamed.

CSV is read strictly: UTF-8 with or without a byte order mark; comma, semicolon or tab; quotes may hold line breaks.
A row with another number of cells than the header is a mistake with a line number, never a shifted row. Parquet
gives typed values, which are written as text in the one way that the contract reads again.
"""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from .. import csvfiles
from ..errors import UsageError

Cells = list[str | None]


@dataclass(frozen=True)
class Table:
    """`columns` gives the cells of each name, in the file's order; None is a null that the file itself has.

    `lines` says where each row begins in the file (1-based), `source` how the file was read, `sha256` which
    bytes it had. `unreadable` says why a column, whose cells are all None then, can be no field of a request.
    """

    columns: dict[str, Cells]
    lines: Sequence[int]
    source: str
    sha256: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def __len__(self) -> int:
        return len(self.lines)


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file; raise UsageError saying what is wrong with it, and in which line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    found = _parquet(content, path) if content[:4] == b"PAR1" else _csv(content, path)
    return replace(found, sha256=hashlib.sha256(content).hexdigest())


def _csv(content: bytes, path: Path) -> Table:
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise UsageError(f"{path} is empty; a table has a header and rows.")
    first: UsageError | None = None
    try:
        csvfiles.check_text(content)
    except csvfiles.NotCSV as error:
        raise UsageError(f"{path}, line {error.line}: {error.reason}") from None
    for delimiter in csvfiles.delimiters(content):
        try:
            header, rows, lines = _records(content, delimiter, path)
        except UsageError as error:
            first = first or error
            continue
        columns: dict[str, Cells] = {name: [] for name in header}
        for name, cells in zip(header, zip(*rows, strict=True), strict=True):
            columns[name] = list(cells)
        return Table(columns, lines, f"CSV, {csvfiles.DELIMITERS[delimiter]}")
    raise first or UsageError(f"{path} cannot be read as CSV.")


def _records(content: bytes, delimiter: str, path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, rows and the line that each row begins in."""
    rows: list[list[str]] = []
    lines: list[int] = []
    records = csvfiles.records(content, delimiter)
    try:
        _, header = next(records)
        _check_header(header, path)
        for line, row in records:
            if len(row) != len(header):
                raise UsageError(
                    f"{path}, line {line}: this row has {_cells(len(row))}, and the header has {len(header)}."
                )
            rows.append(row)
            lines.append(line)
    except csvfiles.NotCSV as error:
        raise UsageError(f"{path}, line {error.line}: {error.reason}") from None
    if not rows:
        raise UsageError(f"{path} has a header and no row.")
    return header, rows, lines


def _check_header(header: list[str], path: Path) -> None:
    if header and header[0].lower().startswith("sep="):
        raise UsageError(f"{path} begins with {header[0]!r}, which is for Excel alone: take that line out.")
    if len(header) < 2:
        raise UsageError(
            f"{path} has one column ({header[0]!r}); the columns of a table are parted by comma, semicolon or tab."
            if header
            else f"{path} begins with an empty line; a table begins with the names of its columns."
        )
    check_names(header, path)


def check_names(names: Sequence[str], path: Path) -> None:
    """Raise UsageError where two columns have the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{path} has two columns named {twice[0]!r}; give one of them another name.")


def _cells(n: int) -> str:
    return f"{n} cell{'' if n == 1 else 's'}"


def _parquet(content: bytes, path: Path) -> Table:
    try:
        from pyarrow import ArrowException  # noqa: PLC0415 (large, and needed for Parquet alone)
        from pyarrow.parquet import read_table as read_parquet  # noqa: PLC0415
    except ModuleNotFoundError:
        raise UsageError("Parquet needs one more library: pip install 'reviewapp[parquet]'.") from None
    try:
        found = read_parquet(io.BytesIO(content))
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    check_names(found.column_names, path)
    if len(found.column_names) < 2 or not found.num_rows:
        raise UsageError(f"{path} has {_cells(len(found.column_names))} a row and {found.num_rows} rows.")
    columns: dict[str, Cells] = {}
    unreadable: dict[str, str] = {}
    for name, column in zip(found.column_names, found.columns, strict=True):
        values = column.to_pylist()
        timed = any(isinstance(value, datetime) and value.time() != time() for value in values)
        try:
            columns[name] = [as_cell(value, timed) for value in values]
        except TypeError as error:
            columns[name] = [None] * len(values)
            unreadable[name] = f"{path}: column {name!r} holds {error}; leave it out with --drop {name!r}."
    return Table(columns, range(2, found.num_rows + 2), "Parquet", unreadable=unreadable)


def as_cell(value: Any, timed: bool) -> str | None:
    """Return a value of a typed table as a cell of text; `timed` where a moment of its column is not midnight.

    Moments are written to the second, those of a zone in UTC. Raises TypeError for what no field of a request can be.
    """
    if value is None or value != value:  # not-a-number is how pandas stores a missing number  # noqa: PLR0124
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds") if timed else value.date().isoformat()
    if isinstance(value, (int, Decimal, date)):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return value
    raise TypeError(f"values of type {type(value).__name__}, which no field of a request can be")
