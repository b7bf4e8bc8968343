"""Contract → requests: valid ones at random, one broken one for every rule of every field, and a CSV template.

They feed the tests, the form's "random request", the evidence and whoever wants to try a client. All are seeded.
"""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import dates
from .contract import Contract
from .errors import pointer
from .field import Field, Record, Value
from .schemas import MISSING, NOT_AN_OBJECT, NULL, UNKNOWN

# Words with accents, other scripts, markup, quotes and an astral character: all of it is plain text to us.
_WORDS = [
    "please",
    "request",
    "account",
    "invoice",
    "error",
    "slow",
    "login",
    "naïve",
    "Größe",
    "café",
    "заказ",
    "注文",
    "مرحبا",
    "🙂",
    "<b>bold</b>",
    "a&b",
    '"quoted"',
    "it's",
    "=1+1",
    "100%",
    "x/y",
]


_DAY = datetime(2020, 1, 1)  # noqa: DTZ001 (a table's dates have no zone)


@dataclass(frozen=True)
class BrokenRequest:
    """A record that breaks exactly one rule: the answer is 422 with this pointer and code, and nothing else."""

    record: Any
    pointer: str
    code: str
    rule: str


def valid_record(contract: Contract, rng: random.Random, like: Sequence[Record] = ()) -> Record:
    """Return a record that keeps every hard rule; an optional member is at times null and at times absent.

    Its texts are made of a few odd words, or, where there are records to be `like`, are theirs.
    """
    record: Record = {}
    for field in contract.fields:
        if not field.required and rng.random() < 0.1:
            continue
        record[field.name] = None if field.nullable and rng.random() < 0.15 else _valid_value(field, rng)
        texts = [other[field.name] for other in like if isinstance(other.get(field.name), str)]
        if texts and field.kind == "text" and record[field.name] is not None:
            record[field.name] = rng.choice(texts)
    return record


def outside_record(contract: Contract, record: Record) -> Record | None:
    """Return the record with one value outside of what training saw, within the hard rules; None where none can be."""
    for field in contract.fields:
        high = field.limits[1]
        value: Value = None
        if field.kind in ("number", "integer") and field.seen_maximum is not None:
            value = min(high, 2 * float(field.seen_maximum) - float(field.seen_minimum or 0) + 1)
            value = int(value) if field.kind == "integer" else value
        elif field.kind == "category" and field.seen_choices is not None:
            value = "something else"
        if field.outside_seen(value) is not None:
            return {**record, field.name: value}
    return None


def example_record(contract: Contract) -> Record:
    """Return the contract's own example of each field, else a value from inside what training saw."""
    rng = random.Random(0)  # noqa: S311 (examples, not secrets)
    return {f.name: _valid_value(f, rng) if f.example is None else f.example for f in contract.fields}


def _valid_value(field: Field, rng: random.Random) -> Value:
    if field.kind == "boolean":
        return rng.random() < 0.5
    if field.kind == "category" and (field.choices or field.seen_choices):
        return rng.choice(field.choices or field.seen_choices or ())
    if field.kind == "date":
        first = _day(field, field.seen_minimum, _DAY)
        last = _day(field, field.seen_maximum, _DAY + timedelta(days=2000))
        return dates.written(first + timedelta(days=rng.randint(0, (last - first).days)), field.date_format)
    if field.kind in ("number", "integer"):
        low, high = field.limits
        low = max(low, _seen(field.seen_minimum, max(low, -1000)))
        high = min(high, _seen(field.seen_maximum, max(low, min(high, low + 1000))))
        if field.kind == "integer":
            return rng.randint(math.ceil(low), max(math.ceil(low), math.floor(high)))
        return rng.uniform(low, max(low, high))
    text = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 30)))
    return text if field.length_limit is None else text[: field.length_limit]


def _seen(limit: Any, otherwise: float) -> Any:
    return otherwise if limit is None else limit


def _day(field: Field, limit: Any, otherwise: datetime) -> datetime:
    return otherwise if limit is None else field.parse_date(str(limit))


def broken_requests(contract: Contract, rng: random.Random) -> Iterator[BrokenRequest]:
    """Yield one request for every rule of every field, and for the rules of the object itself."""
    for field in contract.fields:
        at = pointer("input", field.name)
        if field.required:
            record = valid_record(contract, rng)
            record.pop(field.name, None)
            yield BrokenRequest(record, at, MISSING.code, "required")
        for rule, value, code in _broken_values(field):
            yield BrokenRequest({**valid_record(contract, rng), field.name: value}, at, code, rule)
    unknown = "unknown"
    while unknown in contract.names:
        unknown += "_"
    yield BrokenRequest({**valid_record(contract, rng), unknown: 1}, f"/input/{unknown}", UNKNOWN.code, "unknown")
    yield BrokenRequest([valid_record(contract, rng)], "/input", NOT_AN_OBJECT.code, "object")


def _broken_values(field: Field) -> Iterator[tuple[str, Any, str]]:
    """Yield (rule, a value that breaks it, the code of the mistake) for one field."""
    if not field.nullable:
        yield "null", None, NULL.code
    yield "type: object", {"a": 1}, "wrong_type"
    yield "type: list", [], "wrong_type"
    if field.kind in ("number", "integer"):
        yield "type: text", "3", "wrong_type"
        yield "type: boolean", True, "wrong_type"
        low, high = field.limits
        yield "minimum", low - 1 if field.kind == "integer" else math.nextafter(low, -math.inf), "too_small"
        yield "maximum", high + 1 if field.kind == "integer" else math.nextafter(high, math.inf), "too_large"
        yield "64 bits", 10**30, "too_large"
        if field.kind == "integer":
            yield "whole", 0.5, "wrong_type"
        return
    if field.kind == "boolean":
        yield "type: text", "true", "wrong_type"
        yield "type: number", 1, "wrong_type"
        return
    yield "type: number", 3, "wrong_type"
    yield "type: boolean", True, "wrong_type"
    if field.kind == "date":
        no_day = field.date_format.replace("%-d", "32").replace("%d", "32")
        yield "day", dates.written(_DAY, no_day), "not_a_date"
        yield "format", "soon", "not_a_date"
    elif field.choices is not None:
        yield "choices", "".join(field.choices) + "?", "not_a_choice"
    else:
        yield "control character", "a\x00b", "control_character"
        if field.length_limit is not None:
            yield "length", "x" * (field.length_limit + 1), "too_long"


def csv_template(contract: Contract) -> str:
    """Return a CSV file with the header and the example row: what to fill in for an upload."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(contract.names)
    writer.writerow([as_text(value) for value in example_record(contract).values()])
    return out.getvalue()


def as_text(value: Value) -> str:
    """Return a value as a form or a CSV cell writes it; text mode of the schema reads the same value back."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
