"""The contract: THE one description of a request and of its outcome.

Stored as `contract.json`, a JSON Schema (2020-12) of one input object that any other tool can read; what JSON
Schema has no word for stands under `x-reviewapp-…`. The marshmallow schema, the OpenAPI document, the form, the
CSV template, the synthetic and the broken requests are all derived from the `Contract` read here.

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
DIALECT = "https://json-schema.org/draft/2020-12/schema"
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
        and not (numeric and all(_is_number(limit) for limit in limits)),
        "choices (enum) belong to a category, and are different texts, at least one.": field.choices is not None
        and not (field.kind == "category" and _distinct_texts(field.choices)),
        "the list of seen values belongs to a category without choices (enum), and holds different texts.": (
            field.seen_choices is not None
            and not (field.kind == "category" and field.choices is None and _distinct_texts(field.seen_choices))
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
        and not (field.nullable and _distinct_texts(field.missing)),
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
    elif field.seen_minimum is not None and not (_is_number(field.seen_minimum) and _is_number(field.seen_maximum)):
        return "seen minimum and maximum must be numbers."
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _distinct_texts(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values) and len(set(values)) == len(values)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What comes out: the labels in their order (classification), or a value's unit and range (regression).

    `missing` are texts that stand for no answer in the table's own column, beside the contract's.
    """

    name: str
    task: str = "classification"
    title: str = ""
    labels: tuple[str, ...] = ()
    unit: str = ""
    minimum: int | float | None = None
    maximum: int | float | None = None
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.name, self.title, self.unit)):
            raise ContractError("The outcome's name, title and unit are texts.")
        limits = [limit for limit in (self.minimum, self.maximum) if limit is not None]
        if not all(_is_number(limit) and abs(limit) <= INT64_MAX for limit in limits) or limits != sorted(limits):
            raise ContractError(
                "The outcome's minimum and maximum are numbers of 64 bits at most, the smaller one first."
            )
        if self.missing and not _distinct_texts(self.missing):
            raise ContractError("The outcome's missing is a list of different texts.")
        if self.task not in ("classification", "regression"):
            raise ContractError("The outcome's task must be classification or regression.")
        if self.task == "classification" and not (_distinct_texts(self.labels) and len(self.labels) >= 2):
            raise ContractError("The outcome of a classification needs at least two different labels, as texts.")
        if self.task == "regression" and self.labels:
            raise ContractError("The outcome of a regression has a unit and a range, no labels.")

    def as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "task": self.task, "title": self.title}
        shown |= {"missing": list(self.missing)} if self.missing else {}
        if self.task == "classification":
            return shown | {"labels": list(self.labels)}
        return shown | {"unit": self.unit, "minimum": self.minimum, "maximum": self.maximum}

    def as_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of `output`."""
        share = {"type": "number", "minimum": 0, "maximum": 1}
        if self.task == "classification":
            properties: dict[str, Any] = {
                "label": {"type": "string", "enum": list(self.labels)},
                "confidence": share,
                "probabilities": {
                    "type": "object",
                    "properties": dict.fromkeys(self.labels, share),
                    "required": list(self.labels),
                    "additionalProperties": False,
                },
            }
        else:
            value: dict[str, Any] = {"type": "number"}
            if self.minimum is not None:
                value["minimum"] = self.minimum
            if self.maximum is not None:
                value["maximum"] = self.maximum
            properties = {"value": value, "low": {"type": "number"}, "high": {"type": "number"}}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Contract:
    """The fields of a request, in the table's order, and the outcome.

    `missing` are the texts that stand for a missing value in the table, and so in forms and CSV cells, of a field
    that may be null. Compared by identity, so that what is compiled from a contract can be kept by it; `as_json()`
    compares content.
    """

    name: str
    fields: tuple[Field, ...]
    outcome: Outcome
    title: str = ""
    description: str = ""
    missing: tuple[str, ...] = NOTHING

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names:
            raise ContractError("A contract needs at least one field.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ContractError(f"Two fields are named {twice[0]!r}.")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", self.name):
            raise ContractError("A contract's name is made of a-z, 0-9, '-' and '_', 64 characters at most.")
        if not isinstance(self.title, str) or not isinstance(self.description, str):
            raise ContractError("A contract's title and description are texts.")
        if self.missing and not _distinct_texts(self.missing):
            raise ContractError("'x-reviewapp-missing' is a list of different texts.")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def outside_seen(self, record: Record) -> list[tuple[Field, str]]:
        """Return the fields whose values lie outside of what the training table held, each with that in words."""
        found = []
        for name, within, field in self._watched:
            value = record.get(name)
            if value is not None and not within(value):
                found.append((field, str(field.outside_seen(value))))
        return found

    @cached_property
    def _watched(self) -> list[tuple[str, Callable[[Value], bool], Field]]:
        """The fields of which something is known to have been seen, and how a value is held against it."""
        return [(one.name, one.within_seen, one) for one in self.fields if one.within_seen is not None]

    def as_json(self) -> dict[str, Any]:
        """Return the document that is stored as `contract.json` and served as it is."""
        missing = {} if self.missing == NOTHING else {"x-reviewapp-missing": list(self.missing)}
        return {
            "$schema": DIALECT,
            "$id": f"urn:reviewapp:contract:{self.name}",
            "title": self.title,
            "description": self.description,
            "type": "object",
            "properties": {field.name: field.as_schema() for field in self.fields},
            "required": [field.name for field in self.fields if field.required],
            "additionalProperties": False,
            "x-reviewapp-output": self.outcome.as_dict(),
            **missing,
        }

    @classmethod
    def from_json(cls, document: Any) -> Contract:
        """Read `contract.json`; raise ContractError naming what is wrong and what would be right."""
        if not isinstance(document, Mapping):
            raise ContractError("A contract is a JSON object (JSON Schema 2020-12 of one input object).")
        properties, required = document.get("properties"), document.get("required", [])
        output, name = document.get("x-reviewapp-output"), document.get("$id")
        if document.get("$schema") != DIALECT or document.get("type") != "object":
            raise ContractError(f"A contract has '$schema': '{DIALECT}' and 'type': 'object'.")
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise ContractError("A contract has 'properties' (an object) and 'required' (a list of names).")
        if document.get("additionalProperties") is not False:
            raise ContractError("A contract says 'additionalProperties': false; unknown members are always refused.")
        unknown = [name for name in required if not isinstance(name, str) or name not in properties]
        if unknown:
            raise ContractError(f"'required' names {unknown[0]!r}, which is not among the properties.")
        missing_texts = document.get("x-reviewapp-missing", NOTHING)
        if not isinstance(missing_texts, (list, tuple)):
            raise ContractError("'x-reviewapp-missing' is a list of different texts.")
        if not isinstance(output, Mapping) or not all(
            isinstance(output.get(n, []), list) for n in ("labels", "missing")
        ):
            raise ContractError("A contract has 'x-reviewapp-output', an object with name, task and labels or unit.")
        lists = {name: tuple(output[name]) for name in ("labels", "missing") if name in output}
        known = {"name", "task", "title", "labels", "unit", "minimum", "maximum", "missing"}
        if set(output) - known or "name" not in output:
            raise ContractError(f"'x-reviewapp-output' holds name and any of {sorted(known - {'name'})}.")
        return cls(
            name=str(name).removeprefix("urn:reviewapp:contract:"),
            title=document.get("title", ""),
            description=document.get("description", ""),
            missing=tuple(missing_texts),
            fields=tuple(Field.from_schema(name, schema, name in required) for name, schema in properties.items()),
            outcome=Outcome(**{**output, **lists}),
        )
