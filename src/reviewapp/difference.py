"""What changes for callers from one contract to another, in plain sentences, and whether it breaks them.

Breaking is what refuses a request that was answered before, gives the same value another meaning, or sends an answer
that a caller may not know. The other changes are listed beside it. Titles, descriptions and examples are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .contract import Contract, Outcome
from .errors import pointer
from .field import Field

Change = tuple[str, bool]  # what changes, and whether it breaks callers
NUMERIC = ("number", "integer")
FEW = 5  # of a list so many values are named, the others counted


@dataclass(frozen=True)
class Difference:
    """One change: where (JSON pointer: /input/<field>, /output…), what, and whether it breaks callers."""

    pointer: str
    detail: str
    breaking: bool

    def as_json(self) -> dict[str, Any]:
        return {"pointer": self.pointer, "detail": self.detail, "breaking": self.breaking}


def differences(old: Contract, new: Contract) -> tuple[Difference, ...]:
    """Return every change: fields in the old contract's order, new fields, marks of missing values, the outcome."""
    before, after = ({field.name: field for field in contract.fields} for contract in (old, new))
    found: list[tuple[str, Change]] = []
    for name, field in before.items():
        changes = _field(field, after[name]) if name in after else iter([_GONE])
        found += [(pointer("input", name), change) for change in changes]
    found += [
        (pointer("input", name), _REQUIRED if field.required else _OPTIONAL)
        for name, field in after.items()
        if name not in before
    ]
    found += [(pointer("input"), change) for change in _missing(old, new)]
    found += list(_outcome(old.outcome, new.outcome))
    return tuple(Difference(at, detail, breaking) for at, (detail, breaking) in found)


_GONE = ("The field is gone; a request that names it is refused.", True)
_REQUIRED = ("The field is new and required; a request without it is refused.", True)
_OPTIONAL = ("The field is new; it may be left out.", False)


# ---- a field ------------------------------------------------------------------------------------------------------


def _field(old: Field, new: Field) -> Iterator[Change]:
    if old.kind != new.kind:
        yield f"The kind is {new.kind} and was {old.kind}.", (old.kind, new.kind) != ("integer", "number")
    if old.nullable != new.nullable:
        yield ("Null is allowed now.", False) if new.nullable else ("Null is no longer allowed.", True)
    if old.required != new.required:
        yield ("It may no longer be left out.", True) if new.required else ("It may be left out now.", False)
    if old.unit != new.unit:
        yield from _unit(old.unit, new.unit)
    if old.kind in NUMERIC and new.kind in NUMERIC:
        yield from _limits((old.minimum, old.maximum), (new.minimum, new.maximum), old.limits, new.limits)
        yield from _seen_range(old, new)
    elif old.kind != new.kind:
        return  # what holds inside of one kind cannot be compared with another
    elif new.kind == "category":
        yield from _choices(old, new)
        yield from _seen_choices(old, new)
    elif new.kind in ("text", "date"):
        if old.date_format != new.date_format:
            yield f"Dates are written {new.date_words} and were written {old.date_words}.", True
        yield from _length(old.length_limit, new.length_limit)
        yield from _seen_range(old, new)


def _unit(old: str, new: str) -> Iterator[Change]:
    is_, was = f"is {new}" if new else "is not stated", f"was {old}" if old else "was not stated"
    yield f"The unit {is_} and {was}: the same number means something else.", True


def _limits(
    old: Sequence[Any],
    new: Sequence[Any],
    before: Sequence[float],
    after: Sequence[float],
    narrower_breaks: bool = True,
) -> Iterator[Change]:
    """Compare (smallest, largest) value: as the contracts state them, for the words, and as they hold."""
    for i, what in enumerate(("smallest", "largest")):
        if before[i] != after[i]:
            narrower = before[i] < after[i] if what == "smallest" else after[i] < before[i]
            yield f"The {what} value {_moved(old[i], new[i])}.", narrower == narrower_breaks


def _length(old: int | None, new: int | None) -> Iterator[Change]:
    if old != new:
        yield f"The largest number of characters {_moved(old, new)}.", _or(new, math.inf) < _or(old, math.inf)


def _moved(old: float | None, new: float | None) -> str:
    is_, was = "is not limited" if new is None else f"is {new}", "was not limited" if old is None else f"was {old}"
    return f"{is_} and {was}"


def _choices(old: Field, new: Field) -> Iterator[Change]:
    if old.choices is not None and new.choices is not None:
        gone, added = _without(old.choices, new.choices), _without(new.choices, old.choices)
        if gone:
            yield f"No longer allowed: {_few(gone)}.", True
        if added:
            yield f"Allowed now, too: {_few(added)}.", False
    elif new.choices is not None:
        unlisted = _without(old.seen_choices or (), new.choices)
        named = f"; training had seen others: {_few(unlisted)}" if unlisted else ""
        yield f"Only the values of a list are allowed now, and any text was{named}.", True
    elif old.choices is not None:
        yield (
            f"Any text of {new.length_limit} characters or fewer is allowed now, and only the values of a list were.",
            False,
        )
        too_long = [choice for choice in old.choices if len(choice) > _or(new.length_limit, math.inf)]
        if too_long:
            yield f"No longer allowed, because too long: {_few(too_long)}.", True
    else:
        yield from _length(old.length_limit, new.length_limit)


# ---- what training saw --------------------------------------------------------------------------------------------


def _seen_range(old: Field, new: Field) -> Iterator[Change]:
    before, after = _range(old), _range(new)
    if before != after:
        more, fewer = before is None, after is None
        if before is not None and after is not None:
            more = after[0] > before[0] or after[1] < before[1]
            fewer = after[0] < before[0] or after[1] > before[1]
        yield _seen(_range_words(old), _range_words(new), more, fewer)


def _range(field: Field) -> tuple[Any, Any] | None:
    """Return the seen range so that it can be compared: a date as the moment it names, whatever its format."""
    if field.seen_minimum is None or field.seen_maximum is None:
        return None
    if field.kind == "date":
        return field.parse_date(str(field.seen_minimum)), field.parse_date(str(field.seen_maximum))
    return field.seen_minimum, field.seen_maximum


def _range_words(field: Field) -> str:
    if field.seen_minimum is None:
        return ""
    return f"{field.seen_minimum} to {field.seen_maximum}{' characters' if field.kind == 'text' else ''}"


def _seen_choices(old: Field, new: Field) -> Iterator[Change]:
    if new.choices is not None:
        return  # what is not in the list is refused, whatever training saw
    before, after = old.seen_choices if old.choices is None else old.choices, new.seen_choices
    more = after is not None and (before is None or bool(_without(before, after)))
    fewer = old.choices is None and before is not None and (after is None or bool(_without(after, before)))
    if more or fewer:
        yield _seen(_few(before or ()), _few(after or ()), more, fewer)


def _seen(old: str, new: str, more: bool, fewer: bool) -> Change:
    """Return the one line about seen limits; an empty text is a side that states none."""
    saw = f"Training saw {new}" if new else "What training saw is no longer stated"
    before = f"before: {old}" if old else "before, this was not stated"
    which = "Other" if more and fewer else "More" if more else "Fewer"
    return f"{saw} ({before}). {which} values get a warning and may go to a person.", False


# ---- missing values and outcome -----------------------------------------------------------------------------------


def _missing(old: Contract, new: Contract) -> Iterator[Change]:
    """Compare the texts that stand for a missing value in forms and CSV cells, of the fields that stay nullable."""
    after = {field.name: field for field in new.fields if field.nullable}
    both = [(field, after[field.name]) for field in old.fields if field.nullable and field.name in after]
    gone = _marks_lost(both, old.missing, new.missing)
    if gone:
        yield f"In forms and CSV cells this no longer stands for a missing value: {_few(gone)}.", True
    added = _marks_lost([(b, a) for a, b in both], new.missing, old.missing)
    if added:
        texts = any(one.kind in ("text", "category") for _, one in both)  # where it was a value like any other
        yield f"In forms and CSV cells this stands for a missing value now: {_few(added)}.", texts


def _marks_lost(pairs: Sequence[tuple[Field, Field]], marks: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the marks of the first fields, their own or their contract's, that mean nothing missing in the second."""
    return list(
        dict.fromkeys(
            mark for one, other in pairs for mark in (*marks, *one.missing) if not _is_missing(mark, other, others)
        )
    )


def _is_missing(text: str, field: Field, marks: Sequence[str]) -> bool:
    """Whether text is a missing value of a nullable field; empty text is also where it can be nothing else."""
    can_be_nothing_else = text == "" and "" not in (field.choices or field.seen_choices or ())
    return text in marks or text in field.missing or can_be_nothing_else


def _outcome(old: Outcome, new: Outcome) -> Iterator[tuple[str, Change]]:
    if old.task != new.task:
        words = {"classification": "a label", "regression": "a value"}
        yield pointer("output"), (f"The answer is {words[new.task]} and was {words[old.task]}.", True)
        return
    if new.task == "classification":
        gone, added = _without(old.labels, new.labels), _without(new.labels, old.labels)
        if gone:
            yield pointer("output", "label"), (f"No longer an answer: {_few(gone)}.", True)
        if added:
            yield pointer("output", "label"), (f"A new answer, which callers may not know: {_few(added)}.", True)
        if not gone and not added and old.labels != new.labels:
            yield pointer("output", "label"), ("The labels come in another order.", False)
        return
    if old.unit != new.unit:
        for change in _unit(old.unit, new.unit):
            yield pointer("output", "value"), change
    before, after = (old.minimum, old.maximum), (new.minimum, new.maximum)
    for change in _limits(before, after, _held(old), _held(new), narrower_breaks=False):
        yield pointer("output", "value"), change


def _held(outcome: Outcome) -> tuple[float, float]:
    return _or(outcome.minimum, -math.inf), _or(outcome.maximum, math.inf)


# ---- words --------------------------------------------------------------------------------------------------------


def _without(values: Sequence[str], others: Sequence[str]) -> list[str]:
    known = frozenset(others)
    return [value for value in values if value not in known]


def _few(values: Sequence[str]) -> str:
    more = f" and {len(values) - FEW} more" if len(values) > FEW else ""
    return ", ".join(repr(value) for value in values[:FEW]) + more


def _or(limit: float | None, otherwise: float) -> float:
    return otherwise if limit is None else limit
