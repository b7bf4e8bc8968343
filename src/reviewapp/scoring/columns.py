"""Checks a column of cells at a time, by the very rules of the row schema.

A cell that is surely right is found by looking at the whole column: at the types in it, at its different texts, at
the characters of all its numbers together. Wherever that does not settle it, the field's own check (schemas.py) is
asked. What is left unsure is not said to be wrong: its row goes through the schema, which alone says what is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..field import CONTROL_CHARACTER, NOTHING, Field, Value
from ..schemas import NUMBER_TEXT, WHOLE_TEXT, Broken, Member

Mask = NDArray[np.bool_]
Values = Any  # a list of texts (None where there is none), or an array of numbers as frames.py makes it

LONGEST_NUMBER = 400  # characters; Python reads no whole number of some thousands
MOSTLY = 0.9  # of the cells of a column that must be plain numbers, else each different one is asked
EXACT = 2.0**53  # from here on a float is not each whole number
_CONTROLS = bytes(code for code in range(128) if CONTROL_CHARACTER.match(chr(code)))
_WHOLE, _DECIMAL = b"0123456789+-", b"0123456789+-.eE"
_ABSENT_OR_TEXT = {str, type(None)}
_NUMERIC = ("number", "integer", "boolean")


class _Unsure(Exception):
    """The whole column does not settle it."""


class Absent:
    """Stands for a member that an object does not have."""


ABSENT = Absent()


@dataclass(frozen=True)
class Column:
    """The values of a column, and in which rows they are surely right; elsewhere a value stands for nothing."""

    values: Values
    sure: Mask


class ColumnCheck:
    """Checks columns of one field. `text`: cells are text as in CSV, or None; else they are JSON values or ABSENT."""

    def __init__(self, field: Field, *, text: bool, missing: Sequence[str] = NOTHING) -> None:
        self._field, self._text = field, text
        self._check = Member(field, text=text, missing=missing).check
        listed = field.choices or field.seen_choices or ()
        empty = () if "" in listed else ("",)
        # what stands for null, as schemas.from_text reads it
        self._nothing = frozenset((*missing, *field.missing, *empty)) if text and field.nullable else frozenset()
        self._dtype = dtype_of(field)

    def __call__(self, cells: Sequence[Any]) -> Column:
        """Return the values of some cells."""
        try:
            return self._whole(cells)
        except _Unsure:
            return self._apart(cells)

    def absent(self, rows: int) -> Column:
        """Return the column of a field that no row has."""
        return self([None if self._text and not self._field.required else ABSENT] * rows)

    # ---- the whole column -----------------------------------------------------------------------------------------

    def _whole(self, cells: Sequence[Any]) -> Column:
        field = self._field
        types = set(map(type, cells))
        if field.kind in ("number", "integer"):
            return self._numbers(cells, types)
        if not types <= _ABSENT_OR_TEXT or (type(None) in types and not field.nullable):
            raise _Unsure
        if field.kind == "text" or (field.kind == "category" and field.choices is None):
            return self._texts(cells, present=type(None) not in types)
        raise _Unsure  # few different ones: each is asked

    def _numbers(self, cells: Sequence[Any], types: set[type]) -> Column:
        """Read numbers at once; those of more than 53 bits are left to who compares whole numbers exactly."""
        field = self._field
        whole = field.kind == "integer"
        allowed = {str} if self._text else {int} if whole else {int, float}
        if not types - ({type(None)} if field.nullable else set()) <= allowed:
            raise _Unsure
        given, there = cells, None
        if type(None) in types or not self._nothing.isdisjoint(cells):
            there = np.array([cell is not None and cell not in self._nothing for cell in cells], dtype=np.bool_)
            given = list(compress(cells, there.tolist()))
        numbers, read = _read(given, whole) if self._text else (_array(given, whole), None)
        low, high = field.limits
        right = (numbers >= low) & (numbers <= high) & (np.abs(numbers) < EXACT)
        if read is not None:
            right &= read
        if self._text and not whole:
            right &= ~(
                (numbers == 0) & np.signbit(numbers)
            )  # "-0" is the whole number 0 to the row schema, -0.0 is not
        if there is None:
            return Column(numbers.astype(self._dtype), right)
        values, sure = np.full(len(cells), np.nan), ~there
        values[there], sure[there] = numbers, right
        return Column(values, sure)

    def _texts(self, cells: Sequence[Any], *, present: bool) -> Column:
        values, given = cells, cells
        if self._nothing:
            values = [None if cell in self._nothing else cell for cell in cells]
        if self._nothing or not present:
            given = ["" if cell is None else cell for cell in values]
        sure = np.ones(len(cells), dtype=np.bool_)
        longest = self._field.length_limit
        if longest is not None:
            sure &= lengths(given) <= longest
        try:
            joined = "".join(given).encode()
        except UnicodeEncodeError:
            raise _Unsure from None
        if len(joined.translate(None, _CONTROLS)) < len(joined):
            sure &= np.array([CONTROL_CHARACTER.search(cell) is None for cell in given])
        return Column(values, sure)

    # ---- each cell ------------------------------------------------------------------------------------------------

    def _apart(self, cells: Sequence[Any]) -> Column:
        """Ask the field's own check, once for each different text."""
        if set(map(type, cells)) <= _ABSENT_OR_TEXT:
            known = {cell: self._one(cell) for cell in set(cells)}
            read = [known[cell] for cell in cells]
        else:
            read = [self._one(cell) for cell in cells]
        sure = np.array([value is not ABSENT for value in read], dtype=np.bool_)
        values = [None if value is ABSENT else value for value in read]
        if self._dtype is None:
            return Column(values, sure)
        numbers = _filled(values, self._dtype)
        if self._field.kind == "integer":  # a column of floats does not hold larger ones exactly; a record does
            sure &= ~(np.abs(numbers.astype(np.float64)) >= EXACT)
        return Column(numbers, sure)

    def _one(self, cell: Any) -> Value | Absent:
        """Return the value that a cell has, or ABSENT where it breaks a rule."""
        field = self._field
        if cell is ABSENT:
            return ABSENT if field.required else None
        if cell is None and field.nullable:
            return None
        try:
            return self._check(cell)
        except Broken:
            return ABSENT


def dtype_of(field: Field) -> Any:
    """Return the type of a field's numbers, as frames.py has it; None for texts."""
    if field.kind not in _NUMERIC:
        return None
    plain = {"number": np.float64, "integer": np.int64, "boolean": np.bool_}[field.kind]
    return np.float64 if field.nullable else plain


def _filled(values: Sequence[Any], dtype: Any) -> NDArray[Any]:
    nothing = np.nan if dtype is np.float64 else 0
    return np.array([nothing if value is None else value for value in values], dtype=dtype)


def _read(texts: Sequence[str], whole: bool) -> tuple[NDArray[Any], Mask | None]:
    """Return the numbers that texts say, and which of them were read, None for all of them.

    Of texts made of nothing but a number's characters, Python reads just what the row schema reads. Raises _Unsure
    where many are something else (as 3.0 for a whole number is).
    """
    joined = "".join(texts)
    read = int if whole else float
    if joined.isascii() and not joined.encode().translate(None, _WHOLE if whole else _DECIMAL):
        try:
            return _array(list(map(read, texts)), whole), None
        except ValueError:
            pass  # a sign alone, or an empty cell: found one by one
    pattern = WHOLE_TEXT if whole else NUMBER_TEXT
    plain = [len(text) < LONGEST_NUMBER and pattern.fullmatch(text) is not None for text in texts]
    if sum(plain) < MOSTLY * len(plain):
        raise _Unsure
    return _array([read(text) if is_plain else 0 for text, is_plain in zip(texts, plain, strict=True)], whole), (
        np.array(plain, dtype=np.bool_)
    )


def _array(numbers: Sequence[Any], whole: bool) -> NDArray[Any]:
    try:
        return np.array(numbers, dtype=np.int64 if whole else np.float64)
    except OverflowError:  # beyond 64 bits
        raise _Unsure from None


def lengths(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return how many characters each text has."""
    return np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))


# ---- what was seen ----------------------------------------------------------------------------------------------


def outside_seen(field: Field, values: Values) -> Mask | None:
    """Return in which rows a value lies outside of what the training table held; None where nothing is known of it."""
    within = field.within_seen
    if within is None:
        return None
    if field.kind in ("number", "integer"):
        numbers: NDArray[Any] = values
        low, high = field.seen_minimum, field.seen_maximum
        return np.asarray(~((numbers >= low) & (numbers <= high)) & ~np.isnan(numbers), dtype=np.bool_)
    if field.kind == "text":
        there = np.array([value is not None for value in values], dtype=np.bool_)
        sizes = lengths(["" if value is None else value for value in values])
        shortest, longest = cast("tuple[int, int]", (field.seen_minimum, field.seen_maximum))  # lengths, of a text
        return there & ~((sizes >= shortest) & (sizes <= longest))
    known = {value: value is not None and not within(value) for value in set(values)}
    return np.array([known[value] for value in values], dtype=np.bool_)


def as_series(values: Values) -> pd.Series:
    """Return a column of the frame that the model is given: what is missing in a list becomes not-a-number."""
    if isinstance(values, np.ndarray):
        return pd.Series(values, copy=False)
    nothing = float("nan")
    return pd.Series([nothing if value is None else value for value in values], dtype=object)


def as_values(field: Field, values: Values) -> list[Value]:
    """Return a column as a record holds it: Python's own numbers, None for what is missing."""
    if not isinstance(values, np.ndarray):
        return list(values)
    listed: list[Value] = values.tolist()
    if not field.nullable:
        return listed
    make: Callable[[Any], Value] = {"number": float, "integer": int, "boolean": bool}[field.kind]
    return [None if value != value else make(value) for value in listed]  # noqa: PLR0124 (not-a-number)
