"""Table → contract: what a request must hold, read off all rows, with a reason for everything that was decided.

What the data cannot tell is proposed, never imposed: ids and constants to leave out, markers that probably mean
missing, whole numbers that look like codes, columns that give the answer away. A person reads the report, corrects
`contract.json`, and hands it back.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract import Contract, Outcome
from ..errors import UsageError
from ..field import CONTROL_CHARACTER, INT64_MAX, NOTHING, OPEN_CATEGORY_LENGTH, Field
from ..schemas import from_text
from ..transformers import READ
from .kinds import FEW_VALUES, Kind, is_number, kind_of, looks_like_codes, named_kind, sorted_values
from .oddities import ODD_NUMBERS, as_options, counted, looks_like, probable_markers, rows_in_words
from .table import Table

LISTED = 1000  # different values of an open category that the contract lists as seen
TOLD_OFTEN = 5  # a text that so many rows hold tells of nobody in particular
EXAMPLE_TEXT = "A text as it is written here."
MOST_LEFT_OUT = 2  # times as many numbers as rows, in a numbering
ALMOST_ALL = 0.99  # the share of different values from which a column looks like an id


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the caller decides: see `reviewapp build --help`. `kinds` names kinds by column; None: not said."""

    target: str
    na: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class ColumnReport:
    """One column of the table: what it became and why. `kind` is None where it is left out of the request.

    `notes` are what a person should look at in any case, `hints` what might be better in the contract.
    """

    name: str
    kind: str | None
    why: str
    missing: int
    different: int
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inferred:
    """The contract with the reasons. `drops` are proposed, not done.

    `notes` are about the table as a whole, and end with those `on_target`.
    """

    contract: Contract
    columns: tuple[ColumnReport, ...]
    notes: tuple[str, ...]
    on_target: tuple[str, ...]
    drops: tuple[str, ...]


def infer(table: Table, asked: Asked, name: str, file: str) -> Inferred:
    """Return the contract of a table; raise UsageError where what was asked does not fit it."""
    check_columns(table, asked)
    markers = NOTHING if asked.na is None else tuple(dict.fromkeys(asked.na))
    reports: list[ColumnReport] = []
    fields: list[Field] = []
    drops: list[str] = []
    for column in table.names:
        cells = table.columns[column]
        if column == asked.target:
            continue
        if column in asked.drop or column == asked.time:
            why = "left out by --drop" if column in asked.drop else "orders the rows (--time); no part of a request"
            reports.append(ColumnReport(column, None, why, 0, len(set(cells))))
            continue
        if column in table.unreadable:
            raise UsageError(table.unreadable[column])
        present = [cell for cell in cells if cell is not None and cell not in markers]
        kind, notes, taken = _kind(column, present, asked.kinds.get(column))
        present = [cell for cell in present if cell not in taken]
        if kind is None:
            reports.append(ColumnReport(column, None, "left out: no row has a value", len(cells), 0))
            continue
        different = len(set(present))
        like = looks_like(present) if kind.name in ("category", "text") and column not in asked.kinds else None
        proposal = _why_to_drop(column, kind, present, different, len(cells))
        if like:
            notes.append(like)
        elif proposal:
            drops.append(column)
            notes.append(f"{proposal}: probably --drop {column!r}")
        elif kind.name == "integer" and _own_values(present, different):
            notes.append(f"almost every row has a value of its own; if that is an id, --drop {column!r}")
        notes += _look_at(column, kind, present)
        missing, hints = len(cells) - len(present), _hints(kind, present)
        reports.append(ColumnReport(column, kind.name, kind.why, missing, different, tuple(notes), tuple(hints)))
        fields.append(_field(column, kind, present, taken, nullable=missing > 0))
    if not fields:
        raise UsageError("No column is left for a request: every one but the target is left out or empty.")
    outcome, why, on_target = outcome_of(table, asked, markers)
    nothing = {None, *markers, *outcome.missing}
    targets = [cell for cell in table.columns[asked.target] if cell not in nothing]
    report = ColumnReport(asked.target, outcome.task, why, len(table) - len(targets), len(set(targets)))
    contract = Contract(
        name=name,
        title=f"Predict {asked.target}" if asked.target else "Predict the outcome",
        description=f"Made from {file}: {len(table):,} rows.",
        fields=tuple(fields),
        outcome=outcome,
        missing=markers,
    )
    on_target = (f"The target {asked.target!r}: {why}.", *on_target)
    notes_on_all = (*_table_notes(table, markers), *on_target)
    return Inferred(contract, (report, *reports), notes_on_all, on_target, tuple(drops))


def check_columns(table: Table, asked: Asked) -> None:
    """Raise UsageError where an option names a column that is not there, or the target twice."""
    named = {
        "--target": [asked.target],
        "--drop": asked.drop,
        "--time": [] if asked.time is None else [asked.time],
        "--text, --category, --number or --date": list(asked.kinds),
    }
    for option, columns in named.items():
        for column in columns:
            if column not in table.columns:
                same = [name for name in table.names if name.strip().lower() == column.strip().lower()]
                near = same or difflib.get_close_matches(column, table.names, 1)
                shown = ", ".join(map(repr, table.names[:20])) + (" …" if len(table.names) > 20 else ".")
                hint = f"did you mean {near[0]!r}?" if near else f"it has {shown}"
                raise UsageError(f"{option} names {column!r}, and the table has no such column; {hint}")
            if option != "--target" and column == asked.target:
                raise UsageError(f"{option} names {column!r}, which is the target.")


# ---- one column -------------------------------------------------------------------------------------------------


def _kind(column: str, present: Sequence[str], named: str | None) -> tuple[Kind | None, list[str], list[str]]:
    """Return the kind, notes, and the texts taken as missing beside the markers; no kind where nothing is left.

    A probable marker is taken as missing only where every other cell is a number, a date or a boolean, so that it
    can be no value of its own.
    """
    probable = probable_markers(present, ODD_NUMBERS)
    rest = [cell for cell in present if cell not in probable]
    if not rest:
        return None if not present else kind_of(present), [], []
    if named is not None:
        kind = named_kind(named, column, rest if named in ("number", "date") else present)
    else:
        kind = kind_of(rest)
    if kind.name in ("number", "integer", "boolean", "date"):
        taken = f"{counted(probable)}, taken as missing, as it can be no {kind.name}"
        return kind, [taken] if probable else [], list(probable)
    if named is None and len(rest) < len(present):
        kind = kind_of(present)
    probable = probable_markers(present)
    notes = [f"{counted(probable)}, kept as a value; if it means missing: {as_options(probable)}"] if probable else []
    return kind, notes, []


def _why_to_drop(column: str, kind: Kind, present: Sequence[str], different: int, rows: int) -> str | None:
    if different == 1 and len(present) == rows:
        return "it has the same value in every row"
    named_id = re.search(r"(^|[_\W])id$|(?<=[a-z])ID$|(?<=[a-z])Id$", column, re.IGNORECASE if "_" in column else 0)
    if _own_values(present, different) and (kind.name == "category" or named_id or _is_numbering(kind, present)):
        return "almost every row has a value of its own, as an id has"
    if named_id and kind.name in ("integer", "category") and different > FEW_VALUES:
        return "its name is that of an id"
    if kind.name == "category" and different > max(LISTED, 0.5 * len(present)):
        return "most rows have a value of their own"
    return None


def _own_values(present: Sequence[str], different: int) -> bool:
    return different >= ALMOST_ALL * len(present) and len(present) >= FEW_VALUES


def _is_numbering(kind: Kind, present: Sequence[str]) -> bool:
    """Whether whole numbers, nearly all of them different, leave few out: 1, 2, 3 … in any order."""
    if kind.name != "integer":
        return False
    numbers = [int(cell) for cell in present]
    return max(numbers) - min(numbers) < MOST_LEFT_OUT * len(numbers)


def _look_at(column: str, kind: Kind, present: Sequence[str]) -> list[str]:
    notes = []
    codes = looks_like_codes(column, present) if kind.name == "integer" else None
    if codes:
        notes.append(f"may be codes, not quantities ({codes}): then --category {column!r}")
    odd = sum(CONTROL_CHARACTER.search(cell) is not None for cell in present)
    if odd and kind.name in ("text", "category"):
        notes.append(f"{odd:,} rows hold control characters, which no request may; they are put aside")
    long = sum(len(cell) > READ for cell in present) if kind.name == "text" else 0
    if long:
        notes.append(f"{long:,} rows hold more than {READ:,} characters; our own candidates look at the first so many")
    return notes


def _hints(kind: Kind, present: Sequence[str]) -> list[str]:
    if kind.name in ("number", "integer") and len(present) >= LISTED and min(map(float, present)) >= 0:
        return ['never below 0: if that cannot be, set "minimum": 0 in contract.json']
    return []


def _field(column: str, kind: Kind, present: Sequence[str], taken: Sequence[str], *, nullable: bool) -> Field:
    plain = Field(
        name=column, kind=kind.name, nullable=nullable, required=not nullable, choices=kind.choices,
        date_format=kind.date_format, missing=tuple(taken),
    )  # fmt: skip
    often, times = Counter(present).most_common(1)[0]
    seen: dict[str, object] = {"example": from_text(plain, often)}
    if kind.name in ("number", "integer", "date"):
        values = sorted((from_text(plain, cell) for cell in present), key=_order(plain))
        seen = {"seen_minimum": values[0], "seen_maximum": values[-1], "example": values[len(values) // 2]}
    elif kind.name == "text":
        lengths = [len(cell) for cell in present]
        seen = {"seen_minimum": min(lengths), "seen_maximum": max(lengths), "max_length": _roomy(max(lengths))}
        seen["example"] = often if times >= TOLD_OFTEN else EXAMPLE_TEXT
    elif kind.name == "category" and kind.choices is None:
        longest = max(map(len, present))
        seen["max_length"] = None if longest <= OPEN_CATEGORY_LENGTH else _roomy(longest)
        if len(set(present)) <= LISTED:
            seen["seen_choices"] = sorted_values(present)
    return Field(**{**vars(plain), **seen})


def _order(one: Field) -> Callable[[Any], Any]:
    """Return the key that sorts values of a field by size, or by time."""
    return one.parse_date if one.kind == "date" else lambda value: value  # as a float, large ones would be equal


def _roomy(longest: int) -> int:
    """Return 200, 500, 1,000, 2,000 …: the first that is twice as long as the longest text, or longer."""
    limit = 200
    while limit < 2 * longest:
        limit = limit * 5 // 2 if str(limit).startswith("2") else limit * 2
    return limit


# ---- the target -------------------------------------------------------------------------------------------------


def outcome_of(table: Table, asked: Asked, markers: Sequence[str]) -> tuple[Outcome, str, tuple[str, ...]]:
    """Return the outcome, why it is of its task, and notes on its cells."""
    cells = [cell for cell in table.columns[asked.target] if cell is not None and cell not in markers]
    probable = probable_markers(cells)
    rest = [cell for cell in cells if cell not in probable]
    missing: tuple[str, ...] = ()
    notes = []
    if probable and rest and all(is_number(cell.strip()) for cell in rest):
        cells, missing = rest, tuple(probable)
        notes.append(f"The target: {counted(probable)}, taken as missing, as it can be no number.")
    elif probable:
        notes.append(f"The target: {counted(probable)}, taken as a label; if it means missing: {as_options(probable)}")
    different = sorted_values(cells)
    if len(different) < 2:
        what = f"only the value {different[0]!r}" if different else "no value"
        raise UsageError(f"The target {asked.target!r} has {what}; there is nothing to predict.")
    numbers = all(is_number(cell.strip()) for cell in different)
    few = numbers and len(different) <= FEW_VALUES and all(float(cell).is_integer() for cell in different)
    if asked.task is not None:
        task, why = asked.task, f"a {asked.task} by --task, with {len(different):,} different values"
    elif not numbers:
        task, why = "classification", f"a classification, because its {len(different)} different values are text"
    elif few:
        task, why = "classification", f"a classification, because it has only {len(different)} different whole numbers"
    else:
        task, why = "regression", f"a regression, because it has {len(different):,} different numbers"
    if task == "regression":
        wrong = next((cell for cell in different if not (is_number(cell.strip()) and _fits(cell))), None)
        if wrong is not None:
            raise UsageError(
                f"A regression needs numbers of 64 bits, and the target {asked.target!r} holds {wrong!r}; if that "
                f"means missing, add --na {wrong!r}."
            )
        return Outcome(name=asked.target, title=asked.target, task=task, missing=missing), why, tuple(notes)
    like = looks_like(cells) if not numbers else None
    if like is not None:
        notes.append(f"The target: {like}.")
    notes += [f"The target: {one!r} and {other!r} are two labels; is that meant?" for one, other in _alike(different)]
    return Outcome(name=asked.target, title=asked.target, labels=different, missing=missing), why, tuple(notes)


def _fits(cell: str) -> bool:
    return abs(float(cell)) <= INT64_MAX


def _alike(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of labels that differ by blanks, case or the spelling of a number alone."""
    first: dict[object, str] = {}
    pairs = []
    for label in labels:
        plain = label.strip()
        key: object = float(plain) if is_number(plain) else plain.lower()
        if key in first:
            pairs.append((first[key], label))
        first.setdefault(key, label)
    return pairs[:5]


# ---- the whole --------------------------------------------------------------------------------------------------


def _table_notes(table: Table, markers: Sequence[str]) -> tuple[str, ...]:
    notes = [f"{len(table):,} rows, {len(table.names)} columns ({table.source})."]
    written = ", ".join(repr(marker) for marker in markers) or "nothing"
    notes.append(f"Taken as missing: {written}.")
    same = len(table) - len(set(zip(*table.columns.values(), strict=True)))
    if same:
        notes.append(
            f"{rows_in_words(same)} like another one; where one is learned and the other tested, the figures flatter."
        )
    return tuple(notes)


def default_name(path: Path) -> str:
    """Return a release name made of a file's name."""
    return re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:64].strip("-_") or "model"
