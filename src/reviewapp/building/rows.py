"""Cells → the values that a request would have: through the very rules that every door checks with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..contract import Contract
from ..errors import UsageError
from ..field import Field, Record, Value
from ..schemas import NULL, Broken, checker, from_text
from .oddities import rows_in_words
from .table import Cells, Table


@dataclass(frozen=True)
class Labelled:
    """Rows to learn from, in the file's order: requests, their right answers, and the line of each.

    Answers are labels (texts), or values (texts at first, floats once they were found to be numbers). `notes` say which
    rows of the table are not among them, and why.
    """

    records: list[Record]
    answers: list[Any]
    lines: list[int]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def only(self, rows: Sequence[int], *notes: str) -> Labelled:
        return Labelled(
            [self.records[i] for i in rows],
            [self.answers[i] for i in rows],
            [self.lines[i] for i in rows],
            (*self.notes, *notes),
        )


def labelled(table: Table, contract: Contract, target: str) -> Labelled:
    """Return the rows whose target is there and that the contract accepts; raise UsageError where none is left."""
    missing_fields = [one.name for one in contract.fields if one.name not in table.columns]
    if missing_fields:
        raise UsageError(f"The contract has a field {missing_fields[0]!r}, and the table has no such column.")
    answers = table.columns[target]
    nothing = {None, *contract.missing, *contract.outcome.missing}
    kept = [i for i, answer in enumerate(answers) if answer not in nothing]
    notes = []
    if len(kept) < len(table):
        notes.append(f"Put aside: {rows_in_words(len(table) - len(kept))} without {target!r}.")
    columns: dict[str, list[Value]] = {}
    refused: dict[int, str] = {}
    for one in contract.fields:
        values, wrong = _values(one, table.columns[one.name], contract.missing)
        columns[one.name] = values
        for row, detail in wrong.items():
            refused.setdefault(row, f"{one.name!r}: {detail}")
    broken = [i for i in kept if i in refused]
    if broken:
        why, n = Counter(refused[i] for i in broken).most_common(1)[0]
        notes.append(
            f"{len(broken):,} of {len(table):,} rows break the contract and are put aside (line "
            f"{table.lines[broken[0]]:,} first; {n:,} of them at {why})"
        )
    kept = [i for i in kept if i not in refused]
    if not kept:
        raise UsageError(f"No row is left to learn from. {' '.join(notes)}")
    names = list(columns)
    records = [dict(zip(names, (columns[name][i] for name in names), strict=True)) for i in kept]
    return Labelled(records, [str(answers[i]) for i in kept], [table.lines[i] for i in kept], tuple(notes))


def _values(field: Field, cells: Cells, missing: Sequence[str]) -> tuple[list[Value], dict[int, str]]:
    """Return the value of each cell, and what is wrong with those that break a rule, by row."""
    check = checker(field)
    known: dict[str | None, tuple[Value, str | None]] = {}

    def read(cell: str | None) -> tuple[Value, str | None]:
        try:
            value = None if cell is None else from_text(field, cell, missing)
            if value is None:
                return None, None if field.nullable else NULL.detail
            return check(value), None
        except Broken as error:
            return None, error.flaw.detail

    values: list[Value] = []
    wrong: dict[int, str] = {}
    for row, cell in enumerate(cells):
        if cell not in known:
            known[cell] = read(cell)
        value, detail = known[cell]
        values.append(value)
        if detail is not None:
            wrong[row] = detail
    return values, wrong
