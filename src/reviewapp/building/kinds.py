"""Which kind of field a column is, decided on all of its cells, with the reason in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

from .. import dates
from ..errors import UsageError
from ..field import INT64_MAX, INT64_MIN

CLOSED_CHOICES = 30  # a list of more values is left open
CLOSED_TIMES = 10  # how often each value of a closed list occurs at least
FEW_VALUES = 20  # so few different texts are a category, whatever they look like
WORDS_OF_TEXT = 3.0  # words a cell, on average, from which many different cells are free text
LETTERS_OF_TEXT = 60  # or so many letters, in writing without blanks
LONGEST_INTEGER = 25  # characters; more are beyond 64 bits without counting
DATE_FORMATS = tuple(
    day + time
    for days, times in (
        (("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y"),
         ("", " %H:%M:%S", "T%H:%M:%S", " %H:%M", "T%H:%M:%SZ", " %H:%M:%SZ", " %-H:%M")),
        (("%-m/%-d/%Y", "%-d/%-m/%Y", "%-d.%-m.%Y", "%Y/%-m/%-d", "%Y-%-m-%-d"),
         ("", " %-H:%M", " %H:%M", " %-H:%M:%S", " %H:%M:%S")),
        (("%Y%m%dT%H%M%S",), ("",)),
    )
    for time in times
    for day in days
)  # fmt: skip
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CODE_NAME = re.compile(
    r"(^|[\W_])(code|category|class|type|kind|group|zip|postcode|region|service|status)(\W|_|\d|$)", re.I
)
_BOOLEAN = {"true", "false"}


@dataclass(frozen=True)
class Kind:
    """A kind and why. `choices` closes the list of a category; `date_format` is a date's."""

    name: str
    why: str
    choices: tuple[str, ...] | None = None
    date_format: str = dates.ISO_DATE


def kind_of(cells: Sequence[str]) -> Kind:
    """Return the kind of a column from the cells that are not missing; at least one."""
    stripped = [cell.strip(" \t\r\n") for cell in cells]
    counts = Counter(cells)
    if all(map(_INTEGER.fullmatch, stripped)):
        if all(len(cell) < LONGEST_INTEGER and INT64_MIN <= int(cell) <= INT64_MAX for cell in stripped):
            return Kind("integer", "every value is a whole number")
        return _category(counts, "whole numbers beyond 64 bits are names, not quantities")
    if any(map(_LEADING_ZERO.fullmatch, stripped)) and all(cell.isdigit() for cell in stripped):
        return _category(counts, "digits with leading zeros are codes, not quantities")
    if all(map(_NUMBER.fullmatch, stripped)) and all(abs(float(cell)) <= INT64_MAX for cell in stripped):
        return Kind("number", "every value is a number")
    if {cell.lower() for cell in stripped} <= _BOOLEAN:
        return Kind("boolean", "every value is true or false")
    found = date_formats(stripped)
    if found:
        other = f" (it could be {dates.words(found[1])}, too: correct x-reviewapp-date-format)" if found[1:] else ""
        return Kind("date", f"every value is a date written {dates.words(found[0])}{other}", date_format=found[0])
    return _of_texts(counts)


def _of_texts(counts: Counter[str]) -> Kind:
    total = sum(counts.values())
    words = mean(len(cell.split()) for cell in counts)
    long = words >= WORDS_OF_TEXT or mean(map(len, counts)) >= LETTERS_OF_TEXT
    if len(counts) > FEW_VALUES and long and len(counts) > 0.1 * total:
        return Kind("text", f"{len(counts):,} different values of {words:.0f} words on average: free text")
    return _category(counts, f"{len(counts):,} different value{'s' if len(counts) > 1 else ''}")


def _category(counts: Counter[str], why: str) -> Kind:
    rarest = min(counts.values())
    if len(counts) <= CLOSED_CHOICES and rarest >= CLOSED_TIMES:
        return Kind("category", f"{why}, each in {rarest:,} rows or more: a closed list", choices=sorted_values(counts))
    return Kind("category", f"{why}, some of them rare: an open list")


def sorted_values(values: Iterable[str]) -> tuple[str, ...]:
    """Return different texts in order; numbers in the order of their size."""
    found = set(values)
    if all(_NUMBER.fullmatch(value) for value in found):
        return tuple(sorted(found, key=lambda value: (float(value), value)))
    return tuple(sorted(found))


def named_kind(name: str, column: str, cells: Sequence[str]) -> Kind:
    """Return the kind that the caller named; raise UsageError where the cells are not of that kind."""
    why = f"named by --{name}"
    if name == "text":
        return Kind("text", why)
    if name == "category":
        return _category(Counter(cells), why)
    stripped = [cell.strip(" \t\r\n") for cell in cells]
    if name == "date":
        found = date_formats(stripped)
        if not found:
            some = next(cell for cell in stripped if not date_formats([cell])) if stripped else ""
            raise UsageError(
                f"Column {column!r} is no date: {some!r} is written in none of the known ways, as YYYY-MM-DD."
                if some
                else f"Column {column!r} is no date: its values are written in more than one way."
            )
        return Kind("date", why, date_format=found[0])
    wrong = next((cell for cell in stripped if not (is_number(cell) and abs(float(cell)) <= INT64_MAX)), None)
    if wrong is not None:
        hint = f"if that means missing, add --na {wrong!r}." if not is_number(wrong) else "give it in a larger unit."
        raise UsageError(f"Column {column!r} is no number of 64 bits: it holds {wrong!r}; {hint}")
    return Kind("integer" if all(map(_INTEGER.fullmatch, stripped)) else "number", why)


def date_formats(cells: Sequence[str]) -> list[str]:
    """Return every format that all cells are written in; where two digits everywhere fit, none with fewer."""
    different = sorted(set(cells))
    possible = [form for form in DATE_FORMATS if re.fullmatch(dates.pattern(form), different[0])] if different else []
    found = [form for form in possible if all(is_date(cell, form) for cell in different)]
    return [form for form in found if "%-" not in form] or found


def is_date(cell: str, date_format: str) -> bool:
    """Whether a cell names a day, written in just this format."""
    try:
        dates.parse(cell, date_format)
    except ValueError:
        return False
    return True


def is_integer(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None


def is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def looks_like_codes(column: str, cells: Sequence[str]) -> str | None:
    """Return why whole numbers look like names rather than quantities, or None."""
    different = sorted({int(cell) for cell in cells})
    digits = {len(cell.strip().lstrip("+-")) for cell in cells}
    if len(different) <= 2:
        return None
    if _CODE_NAME.search(column):
        return "the column's name says so"
    if len(different) > FEW_VALUES and len(digits) == 1 and digits.pop() >= 4 and different[0] > 0:
        return "all of them have the same number of digits"
    if len(different) <= FEW_VALUES and different[0] in (0, 1) and all(b - a == 1 for a, b in pairwise(different)):
        return f"there are only {len(different)}, counted from {different[0]}"
    return None
