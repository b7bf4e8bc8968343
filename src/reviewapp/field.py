"""A field: one member of the request, its kind and its limits, written and read as JSON Schema.

Two kinds of limits. Hard limits (type, closed list, minimum, maximum, length) are rules: broken, the request is
refused. Seen limits say what the training table held: outside, the request is answered, with a warning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from . import dates
from .dates import ISO_DATE
from .errors import ContractError

JSON_TYPES = {  # the JSON type of each kind of field
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "category": "string",
    "text": "string",
    "date": "string",
}
KINDS = tuple(JSON_TYPES)
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
NOTHING = ("",)  # an empty cell: what a missing value is written as where nothing else is said
LONGEST = 10**9  # characters; more is no limit
OPEN_CATEGORY_LENGTH = 1000  # characters of a category whose list is open, where no other limit is given

# C0 controls but tab, line feed and carriage return, and DEL. (C1 occurs in real text and passes.)
_CONTROLS = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f"
CONTROL_CHARACTER = re.compile(f"[{_CONTROLS}]")
NO_CONTROLS = f"^[^{_CONTROLS}]*$"

Value = str | int | float | bool | None
Record = dict[str, Value]
Limit = int | float | str | None


@dataclass(frozen=True, kw_only=True)
class Field:
    """One member of the input object, under the table's own column name.

    `minimum` and `maximum` are hard (numbers only); `max_length` counts characters. `choices` is the closed list of
    a category, `seen_choices` the open one. `seen_minimum` and `seen_maximum` are numbers, dates in the table's own
    format, or lengths of a text. `missing` are texts that stand for null in this column alone, beside the contract's.
    """

    name: str
    kind: str
    title: str = ""
    description: str = ""
    unit: str = ""
    required: bool = True
    nullable: bool = False
    choices: tuple[str, ...] | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    max_length: int | None = None
    date_format: str = ISO_DATE
    seen_minimum: Limit = None
    seen_maximum: Limit = None
    seen_choices: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    example: Value = None

    def __post_init__(self) -> None:
        problem = _problem_of(self)
        if problem:
            raise ContractError(f"Field {self.name!r}: {problem}")

    def __hash__(self) -> int:
        return hash(self.name)  # what is compiled from fields is looked up by them, with each request

    @property
    def label(self) -> str:
        """What a person reads: the title, else the name, else a word for the nameless column."""
        return self.title or self.name or "(no name)"

    @property
    def limits(self) -> tuple[int | float, int | float]:
        """The hard range of a number: what 64 bits hold where the contract says nothing narrower."""
        low = INT64_MIN if self.minimum is None else self.minimum
        high = INT64_MAX if self.maximum is None else self.maximum
        return low, high

    @property
    def length_limit(self) -> int | None:
        """The most characters a text or an open category may have."""
        return OPEN_CATEGORY_LENGTH if self.kind == "category" and self.max_length is None else self.max_length

    @property
    def date_words(self) -> str:
        """The date format as people write it: DD/MM/YYYY."""
        return dates.words(self.date_format)

    def parse_date(self, text: str) -> datetime:
        """Return the moment that `text` names in the field's own format; raise ValueError where it names none."""
        return dates.parse(text, self.date_format)

    def outside_seen(self, value: Value) -> str | None:
        """Return what the training table held, in words, where `value` lies outside of it, else None."""
        if value is None or self.within_seen is None or self.within_seen(value):
            return None
        if self.kind == "category":
            return "this value is none of those seen in training"
        at = self._measure(value)
        side = "below" if at < self._measure(self.seen_minimum) else "above"
        subject = f"a length of {at}" if self.kind == "text" else f"{value}"
        return f"{subject} is {side} {self.seen_minimum}…{self.seen_maximum} seen in training"

    @cached_property
    def within_seen(self) -> Callable[[Value], bool] | None:
        """What says whether a value is one of those, or in the range, that was seen; None: it always is."""
        if self.kind == "category":
            return None if self.seen_choices is None else frozenset(self.seen_choices).__contains__
        if self.seen_minimum is None or self.seen_maximum is None or self.kind == "boolean":
            return None
        low, high = self._measure(self.seen_minimum), self._measure(self.seen_maximum)
        if self.kind in ("number", "integer"):
            return lambda value: bool(low <= value <= high)
        if self.kind == "text":
            return lambda value: bool(low <= len(str(value)) <= high)
        return lambda value: bool(low <= self._measure(value) <= high)

    def _measure(self, value: Value) -> Any:
        """Return by what values are compared, or limits of a range: a text by its length, a date as a moment."""
        if self.kind == "text":
            return len(value) if isinstance(value, str) else value
        return self.parse_date(str(value)) if self.kind == "date" else value

    def as_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of this member. `type` is always there; null allowed is a second type."""
        json_type = JSON_TYPES[self.kind]
        schema: dict[str, Any] = {"type": [json_type, "null"] if self.nullable else json_type}
        for key in ("title", "description"):
            if getattr(self, key):
                schema[key] = getattr(self, key)
        if self.kind in ("number", "integer"):
            schema["minimum"], schema["maximum"] = self.limits
        elif self.choices is not None:
            schema["enum"] = [*self.choices, None] if self.nullable else list(self.choices)
        elif self.kind in ("text", "category"):
            if self.length_limit is not None:
                schema["maxLength"] = self.length_limit
            schema["pattern"] = NO_CONTROLS
        elif self.kind == "date":
            if self.date_format == ISO_DATE:
                schema["format"] = "date"
            schema["pattern"] = dates.pattern(self.date_format)
            schema["x-reviewapp-date-format"] = self.date_format
        if self.example is not None:
            schema["examples"] = [self.example]
        schema["x-reviewapp-kind"] = self.kind
        if self.unit:
            schema["x-reviewapp-unit"] = self.unit
        seen: dict[str, Any] = {}
        if self.seen_minimum is not None:
            seen = {"minimum": self.seen_minimum, "maximum": self.seen_maximum}
        if self.seen_choices is not None:
            seen = {"values": list(self.seen_choices)}
        if seen:
            schema["x-reviewapp-seen"] = seen
        if self.missing:
            schema["x-reviewapp-missing"] = list(self.missing)
        return schema

    @classmethod
    def from_schema(cls, name: str, schema: Mapping[str, Any], required: bool) -> Field:
        """Read a member back; raise ContractError naming what cannot be understood."""
        where = f"Field {name!r}"
        if not isinstance(schema, Mapping):
            raise ContractError(f"{where} must be an object, as {{'type': 'integer'}}.")
        unknown = sorted(set(schema) - _FIELD_KEYS)
        if unknown:
            raise ContractError(f"{where} has {unknown[0]!r}, which is not understood; known: {sorted(_FIELD_KEYS)}.")
        kind = schema.get("x-reviewapp-kind")
        if kind not in KINDS:
            raise ContractError(f"{where}: x-reviewapp-kind must be one of {', '.join(KINDS)}.")
        types = schema.get("type")
        names = types if isinstance(types, list) else [types]
        nullable = "null" in names
        if sorted(str(t) for t in names if t != "null") != [JSON_TYPES[kind]]:
            raise ContractError(f"{where}: type must be {JSON_TYPES[kind]!r}, or a list of it and 'null'.")
        enum, seen = schema.get("enum"), schema.get("x-reviewapp-seen", {})
        if enum is not None and not isinstance(enum, list):
            raise ContractError(f"{where}: enum must be a list of texts.")
        if not isinstance(seen, Mapping) or set(seen) - {"minimum", "maximum", "values"}:
            raise ContractError(f"{where}: x-reviewapp-seen holds minimum and maximum, or values.")
        missing = schema.get("x-reviewapp-missing", [])
        if not isinstance(missing, list) or not isinstance(seen.get("values", []), list):
            raise ContractError(f"{where}: x-reviewapp-missing, and the values seen, are lists of texts.")
        examples = schema.get("examples")
        low, high = schema.get("minimum"), schema.get("maximum")
        return cls(
            name=name,
            kind=kind,
            title=schema.get("title", ""),
            description=schema.get("description", ""),
            unit=schema.get("x-reviewapp-unit", ""),
            required=required,
            nullable=nullable,
            choices=None if enum is None else tuple(choice for choice in enum if choice is not None),
            minimum=None if low == INT64_MIN else low,
            maximum=None if high == INT64_MAX else high,
            max_length=schema.get("maxLength"),
            date_format=schema.get("x-reviewapp-date-format", ISO_DATE),
            seen_minimum=seen.get("minimum"),
            seen_maximum=seen.get("maximum"),
            seen_choices=tuple(seen["values"]) if "values" in seen else None,
            missing=tuple(missing),
            example=examples[0] if isinstance(examples, list) and examples else None,
        )


_FIELD_KEYS = {
    "type", "title", "description", "minimum", "maximum", "enum", "maxLength", "pattern", "format", "examples",
    "x-reviewapp-kind", "x-reviewapp-unit", "x-reviewapp-seen", "x-reviewapp-date-format", "x-reviewapp-missing",
}  # fmt: skip


def _problem_of(field: Field) -> str | None:
    """Return why a field cannot be used, in words, or None."""
    numeric = field.kind in ("number", "integer")
    limits = [limit for limit in (field.minimum, field.maximum) if limit is not None]
    checks = {
        f"its kind must be one of {', '.join(KINDS)}.": field.kind not in KINDS,
        "its name must be text without control characters.": not isinstance(field.name, str)
        or CONTROL_CHARACTER.search(field.name) is not None,
        "title, description, unit and date format must be text.": not all(
            isinstance(text, str) for text in (field.title, field.description, field.unit, field.date_format)
        ),
        "a field that may be absent must allow null: an absent value is a missing one.": (
            not field.required and not field.nullable
        ),
        "minimum and maximum belong to numbers and integers, and are numbers.": bool(limits)
        and not (numeric and all(is_number(limit) for limit in limits)),
        "choices (enum) belong to a category, and are different texts, at least one.": field.choices is not None
        and not (field.kind == "category" and distinct_texts(field.choices)),
        "the list of seen values belongs to a category without choices (enum), and holds different texts.": (
            field.seen_choices is not None
            and not (field.kind == "category" and field.choices is None and distinct_texts(field.seen_choices))
        ),
        f"maxLength must be a whole number from 1 to {LONGEST:,}, of a text or of a category without choices (enum).": (
            field.max_length is not None
            and not (
                field.kind in ("text", "category")
                and field.choices is None
                and isinstance(field.max_length, int)
                and 0 < field.max_length <= LONGEST
            )
        ),
        "x-reviewapp-missing holds different texts, of a field that may be null.": bool(field.missing)
        and not (field.nullable and distinct_texts(field.missing)),
        "seen minimum and maximum go together.": (field.seen_minimum is None) != (field.seen_maximum is None),
    }
    for problem, holds in checks.items():
        if holds:
            return problem
    if field.kind in ("number", "integer") and field.limits[0] > field.limits[1]:
        return "minimum is above maximum."
    if field.kind == "date":
        try:
            dates.pattern(field.date_format)
            for day in (field.seen_minimum, field.seen_maximum):
                if day is not None:
                    field.parse_date(str(day))
        except (ValueError, KeyError):
            return (
                "its date format must be made of %Y %m %d, perhaps %H %M %S, and signs between them, "
                "and its seen days written so."
            )
    elif field.seen_minimum is not None and not (is_number(field.seen_minimum) and is_number(field.seen_maximum)):
        return "seen minimum and maximum must be numbers."
    return None


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def distinct_texts(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values) and len(set(values)) == len(values)
