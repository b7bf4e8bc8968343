"""A table of measured figures: what a trial yields, a CSV file keeps, and memo, page and notebook show.

Each column says of what kind it is, which is how two runs are compared: `key` names the row, `exact` must be the same,
`timing` may differ by a stated factor, `free` is information.
"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ..errors import UsageError

Row = Mapping[str, Any]
TITLE = 13  # characters of a title in a line, where a table is shown as text
KEY, EXACT, TIMING, FREE = "key", "exact", "timing", "free"


@dataclass(frozen=True)
class Column:
    """`form` is how a figure is written for people, as a format specification; without one the column is text."""

    name: str
    title: str
    form: str = ""
    kind: str = EXACT

    def shown(self, value: Any) -> str:
        """Return a value as people read it."""
        if value is None:
            return "–"
        return format(value, self.form) if self.form else str(value)

    def parsed(self, text: str) -> Any:
        """Return the value that a CSV cell holds."""
        if not self.form:
            return text
        if text == "":
            return None
        return int(text) if self.form.endswith("d") else float(text)

    @property
    def decimals(self) -> int:
        """How many digits after the point people see; percentages have two more behind them."""
        if self.form.endswith("d"):
            return 0
        return int(self.form.rstrip("f%").rpartition(".")[2] or 0) + (2 if self.form.endswith("%") else 0)


def key(name: str, title: str) -> Column:
    return Column(name, title, kind=KEY)


@dataclass(frozen=True)
class Table:
    """`reading` says in one line what the figures mean. Rows hold a value, or None, for every column."""

    name: str
    title: str
    reading: str
    columns: Sequence[Column]
    rows: Sequence[Row]

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise UsageError(
            f"The table {self.name} has no column {name!r}; it has {', '.join(c.name for c in self.columns)}."
        )

    def find(self, **keys: Any) -> list[Row]:
        """Return the rows in which the named columns hold the given values."""
        return [row for row in self.rows if all(row[self.column(name).name] == value for name, value in keys.items())]

    def row(self, **keys: Any) -> Row:
        """Return the one row that the keys name; raise UsageError where it is not just one."""
        found = self.find(**keys)
        if len(found) != 1:
            raise UsageError(f"The table {self.name} has {len(found)} rows with {keys}, where just one is asked for.")
        return found[0]

    def keyed(self) -> dict[tuple[str, ...], Row]:
        """Return the rows by their key columns."""
        names = [column.name for column in self.columns if column.kind == KEY]
        return {tuple(str(row[name]) for name in names): row for row in self.rows}

    def as_frame(self, *columns: str, **rows: Any) -> pd.DataFrame:
        """Return the table, or some columns and rows of it, as people read it: titles and formatted figures."""
        chosen = [self.column(name) for name in columns] or list(self.columns)
        shown = [[column.shown(row[column.name]) for column in chosen] for row in self.find(**rows)]
        return pd.DataFrame(shown, columns=[column.title for column in chosen])

    def as_text(self) -> str:
        """Return the table for a terminal: all to the right, long titles broken into lines."""
        titles = [textwrap.wrap(column.title, TITLE) for column in self.columns]
        most = max(map(len, titles))
        heads = [[""] * (most - len(lines)) + lines for lines in titles]
        lines = [[head[i] for head in heads] for i in range(most)]
        lines += [[column.shown(row[column.name]) for column in self.columns] for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        return "\n".join("  ".join(f"{text:>{n}}" for text, n in zip(line, widths, strict=True)) for line in lines)

    def described(self) -> dict[str, Any]:
        """Return what a CSV file cannot say: title, reading and columns."""
        return {
            "name": self.name,
            "title": self.title,
            "reading": self.reading,
            "columns": [asdict(column) for column in self.columns],
        }

    def to_csv(self) -> str:
        """Return the rows with all their digits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        for row in self.rows:
            writer.writerow([cell(row[column.name]) for column in self.columns])
        return out.getvalue()

    @classmethod
    def from_csv(cls, text: str, described: Mapping[str, Any]) -> Table:
        """Return the table that `to_csv` and `described` wrote; raise UsageError where they do not belong together."""
        columns = [Column(**column) for column in described["columns"]]
        name = described["name"]
        try:
            header, *lines = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
            if header != [column.name for column in columns] or any(len(line) != len(columns) for line in lines):
                raise UsageError(f"{name}.csv does not have the columns that its manifest describes.")
            rows = [{c.name: c.parsed(text) for c, text in zip(columns, line, strict=True)} for line in lines]
        except csv.Error as error:
            raise UsageError(f"{name}.csv is no CSV: {error}.") from None
        except ValueError as error:
            raise UsageError(f"{name}.csv holds what is no number: {error}.") from None
        return cls(name, described["title"], described["reading"], columns, rows)


def cell(value: Any) -> str:
    """Return a value as CSV keeps it: all digits of a number, nothing for None."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def differences(old: Table, new: Table, *, same_machine: bool, whole: bool, factor: float) -> Iterable[str]:
    """Yield a line for every figure of `new` that is not what `old` says.

    On the same machine an exact figure must be equal to its last digit, on another one as people read it. `whole`:
    a row that only one of them has is a difference, too.
    """
    before, after = old.keyed(), new.keyed()
    if whole:
        for keys in [*(before.keys() - after.keys()), *(after.keys() - before.keys())]:
            yield f"{old.name}: the row {' / '.join(keys)} is only in the {'old' if keys in before else 'new'} run"
    names = {column.name for column in old.columns}
    for keys in [keys for keys in before if keys in after]:
        for column in new.columns:
            if column.name not in names or column.kind in (KEY, FREE):
                continue
            a, b = before[keys][column.name], after[keys][column.name]
            if column.kind == TIMING:
                moved = not _within(a, b, factor)
            elif same_machine or not isinstance(a, float) or not isinstance(b, float):
                moved = cell(a) != cell(b)
            else:
                moved = column.shown(a) != column.shown(b) and abs(a - b) > 0.5 * 10.0**-column.decimals
            if moved:
                yield f"{old.name}: {' / '.join(keys)}: {column.name} was {cell(a)} and is {cell(b)}"


def _within(a: float | None, b: float | None, factor: float) -> bool:
    if a is None or b is None:
        return a is b
    return a == b or (min(a, b) > 0 and max(a, b) / min(a, b) <= factor)
