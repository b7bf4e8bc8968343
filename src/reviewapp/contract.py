"""The contract: THE one description of a request and of its outcome.

Stored as `contract.json`, a JSON Schema (2020-12) of one input object that any other tool can read; what JSON
Schema has no word for stands under `x-reviewapp-…`. The marshmallow schema, the OpenAPI document, the form, the
CSV template, the synthetic and the broken requests are all derived from the `Contract` read here.
What one field says is in `field.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .errors import ContractError
from .field import INT64_MAX, NOTHING, Field, Record, Value, distinct_texts, is_number

DIALECT = "https://json-schema.org/draft/2020-12/schema"


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
        if not all(is_number(limit) and abs(limit) <= INT64_MAX for limit in limits) or limits != sorted(limits):
            raise ContractError(
                "The outcome's minimum and maximum are numbers of 64 bits at most, the smaller one first."
            )
        if self.missing and not distinct_texts(self.missing):
            raise ContractError("The outcome's missing is a list of different texts.")
        if self.task not in ("classification", "regression"):
            raise ContractError("The outcome's task must be classification or regression.")
        if self.task == "classification" and not (distinct_texts(self.labels) and len(self.labels) >= 2):
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
        if self.missing and not distinct_texts(self.missing):
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
