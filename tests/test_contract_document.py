"""The contract document, pinned whole: each member, each default, each sentence about what is wrong with one."""

import copy
import json
import math
from typing import Any

import pytest

from reviewapp import dates
from reviewapp.contract import DIALECT, Contract, Outcome
from reviewapp.errors import ContractError
from reviewapp.field import INT64_MAX, INT64_MIN, LONGEST, NO_CONTROLS, Field

DAY = "%Y-%m-%d"
GRADE = Outcome(name="grade", title="Grade", labels=("a", "b"), missing=("-",))
WHOLE = Contract(
    name="whole",
    title="All of it",
    description="Every kind, every member.",
    missing=("", "NA"),
    outcome=GRADE,
    fields=(
        Field(
            name="age", kind="integer", title="Age", description="In full years.", unit="a", minimum=0, maximum=130,
            seen_minimum=17, seen_maximum=90, example=42,
        ),
        Field(name="share", kind="number", required=False, nullable=True),
        Field(name="active", kind="boolean", nullable=True),
        Field(name="colour", kind="category", required=False, nullable=True, choices=("red", "blue"), missing=("?",)),
        Field(name="size", kind="category", choices=("s", "m")),
        Field(name="city", kind="category", max_length=1000, seen_choices=("Bern", "Ulm")),
        Field(name="code", kind="category", max_length=5),
        Field(name="note", kind="text", max_length=40, seen_minimum=1, seen_maximum=30),
        Field(name="free", kind="text"),
        Field(name="day", kind="date", seen_minimum="2020-01-01", seen_maximum="2024-12-31"),
        Field(name="since", kind="date", date_format="%d.%m.%Y"),
    ),
)  # fmt: skip
DOCUMENT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "urn:reviewapp:contract:whole",
    "title": "All of it",
    "description": "Every kind, every member.",
    "type": "object",
    "properties": {
        "age": {
            "type": "integer", "title": "Age", "description": "In full years.", "minimum": 0, "maximum": 130,
            "examples": [42], "x-reviewapp-kind": "integer", "x-reviewapp-unit": "a",
            "x-reviewapp-seen": {"minimum": 17, "maximum": 90},
        },
        "share": {
            "type": ["number", "null"], "minimum": INT64_MIN, "maximum": INT64_MAX, "x-reviewapp-kind": "number",
        },
        "active": {"type": ["boolean", "null"], "x-reviewapp-kind": "boolean"},
        "colour": {
            "type": ["string", "null"], "enum": ["red", "blue", None], "x-reviewapp-kind": "category",
            "x-reviewapp-missing": ["?"],
        },
        "size": {"type": "string", "enum": ["s", "m"], "x-reviewapp-kind": "category"},
        "city": {
            "type": "string", "maxLength": 1000, "pattern": NO_CONTROLS, "x-reviewapp-kind": "category",
            "x-reviewapp-seen": {"values": ["Bern", "Ulm"]},
        },
        "code": {"type": "string", "maxLength": 5, "pattern": NO_CONTROLS, "x-reviewapp-kind": "category"},
        "note": {
            "type": "string", "maxLength": 40, "pattern": NO_CONTROLS, "x-reviewapp-kind": "text",
            "x-reviewapp-seen": {"minimum": 1, "maximum": 30},
        },
        "free": {"type": "string", "pattern": NO_CONTROLS, "x-reviewapp-kind": "text"},
        "day": {
            "type": "string", "format": "date", "pattern": dates.pattern(DAY), "x-reviewapp-date-format": DAY,
            "x-reviewapp-kind": "date", "x-reviewapp-seen": {"minimum": "2020-01-01", "maximum": "2024-12-31"},
        },
        "since": {
            "type": "string", "pattern": dates.pattern("%d.%m.%Y"), "x-reviewapp-date-format": "%d.%m.%Y",
            "x-reviewapp-kind": "date",
        },
    },
    "required": ["age", "active", "size", "city", "code", "note", "free", "day", "since"],
    "additionalProperties": False,
    "x-reviewapp-output": {
        "name": "grade", "task": "classification", "title": "Grade", "missing": ["-"], "labels": ["a", "b"],
    },
    "x-reviewapp-missing": ["", "NA"],
}  # fmt: skip
LEAST = {
    "$schema": DIALECT,
    "$id": "urn:reviewapp:contract:least",
    "type": "object",
    "properties": {"n": {"type": ["integer", "null"], "x-reviewapp-kind": "integer"}},
    "additionalProperties": False,
    "x-reviewapp-output": {"name": "o", "labels": ["x", "y"]},
}


def members(contract: Contract) -> tuple[Any, ...]:
    return (
        contract.name, contract.title, contract.description, contract.missing, contract.fields, contract.outcome,
    )  # fmt: skip


def test_a_contract_with_every_member_is_written_and_read_whole() -> None:
    assert WHOLE.as_json() == DOCUMENT
    assert members(Contract.from_json(json.loads(json.dumps(DOCUMENT)))) == members(WHOLE)
    assert len({hash(field) for field in WHOLE.fields}) == len(WHOLE.fields)


def test_what_a_document_does_not_say_is_nothing_and_what_it_says_of_nothing_is_read_as_that() -> None:
    least = Contract.from_json(LEAST)
    field = Field(name="n", kind="integer", required=False, nullable=True)
    assert members(least) == ("least", "", "", ("",), (field,), Outcome(name="o", labels=("x", "y")))
    assert "x-reviewapp-missing" not in least.as_json()
    assert least.as_json()["x-reviewapp-output"] == {
        "name": "o", "task": "classification", "title": "", "labels": ["x", "y"],
    }  # fmt: skip
    odd = {"type": ["null", "integer"], "x-reviewapp-kind": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX}
    for examples in ([], "none", None):
        assert Field.from_schema("n", {**odd, "examples": examples}, False) == field
    assert Field.from_schema("n", {"type": ["integer"], "x-reviewapp-kind": "integer"}, True) == Field(
        name="n", kind="integer"
    )
    assert members(Contract.from_json({**LEAST, "x-reviewapp-missing": []}))[3] == ()


@pytest.mark.parametrize(
    ("outcome", "told", "properties"),
    [
        (
            Outcome(name="grade", labels=("a", "b")),
            {"name": "grade", "task": "classification", "title": "", "labels": ["a", "b"]},
            {
                "label": {"type": "string", "enum": ["a", "b"]},
                "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                "probabilities": {
                    "type": "object",
                    "properties": {
                        "a": {"type": "number", "minimum": 0, "maximum": 1},
                        "b": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                    "required": ["a", "b"],
                    "additionalProperties": False,
                },
            },
        ),
        (
            Outcome(name="price", task="regression", title="Price", unit="€", minimum=0, maximum=9.5, missing=("-",)),
            {
                "name": "price", "task": "regression", "title": "Price", "missing": ["-"], "unit": "€", "minimum": 0,
                "maximum": 9.5,
            },
            {
                "value": {"type": "number", "minimum": 0, "maximum": 9.5},
                "low": {"type": "number"},
                "high": {"type": "number"},
            },
        ),
        (
            Outcome(name="price", task="regression"),
            {"name": "price", "task": "regression", "title": "", "unit": "", "minimum": None, "maximum": None},
            {"value": {"type": "number"}, "low": {"type": "number"}, "high": {"type": "number"}},
        ),
    ],
)  # fmt: skip
def test_an_outcome_is_written_read_and_described_whole(outcome: Outcome, told: Any, properties: Any) -> None:
    assert outcome.as_dict() == told
    assert Contract.from_json({**LEAST, "x-reviewapp-output": told}).outcome == outcome
    assert outcome.as_schema() == {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


KINDS = "number, integer, boolean, category, text, date"
NUMBERS = "minimum and maximum belong to numbers and integers, and are numbers."
CHOICES = "choices (enum) belong to a category, and are different texts, at least one."
SEEN = "the list of seen values belongs to a category without choices (enum), and holds different texts."
LENGTH = "maxLength must be a whole number from 1 to 1,000,000,000, of a text or of a category without choices (enum)."
TEXTS = "title, description, unit and date format must be text."
MISSING = "x-reviewapp-missing holds different texts, of a field that may be null."
TOGETHER = "seen minimum and maximum go together."
DATES = (
    "its date format must be made of %Y %m %d, perhaps %H %M %S, and signs between them, and its seen days written so."
)
NAME = "its name must be text without control characters."


@pytest.mark.parametrize(
    ("problem", "members"),
    [
        (f"its kind must be one of {KINDS}.", {"kind": "int"}),
        (NAME, {"name": 3}),
        (NAME, {"name": "a\x07b"}),
        *((TEXTS, {text: 3}) for text in ("title", "description", "unit", "date_format")),
        ("a field that may be absent must allow null: an absent value is a missing one.", {"required": False}),
        *((NUMBERS, {"minimum": number}) for number in ("0", True, math.nan, -math.inf)),
        (NUMBERS, {"maximum": "0"}),
        (NUMBERS, {"minimum": 0, "maximum": "9"}),
        *((NUMBERS, {"kind": kind, "minimum": 0}) for kind in ("text", "date", "category", "boolean")),
        (CHOICES, {"choices": ("a", "b")}),
        *((CHOICES, {"kind": "category", "choices": choices}) for choices in ((), ("a", "a"), ("a", 1))),
        (SEEN, {"seen_choices": ("a", "b")}),
        (SEEN, {"kind": "category", "seen_choices": ("a", "a")}),
        (SEEN, {"kind": "category", "seen_choices": ("a",), "choices": ("a",)}),
        *((LENGTH, {"kind": "text", "max_length": length}) for length in (0, LONGEST + 1, 1.5, "5")),
        (LENGTH, {"max_length": 5}),
        (LENGTH, {"kind": "category", "choices": ("a",), "max_length": 5}),
        (MISSING, {"missing": ("?",)}),
        (MISSING, {"nullable": True, "missing": ("?", "?")}),
        (TOGETHER, {"seen_minimum": 1}),
        (TOGETHER, {"seen_maximum": 1}),
        ("minimum is above maximum.", {"minimum": 2, "maximum": 1}),
        ("minimum is above maximum.", {"kind": "number", "minimum": 2.5, "maximum": 2.4}),
        ("minimum is above maximum.", {"minimum": 2**63}),
        *((DATES, {"kind": "date", "date_format": written}) for written in ("%H", "%q", "")),
        (DATES, {"kind": "date", "seen_minimum": "1.1.2020", "seen_maximum": "2024-12-31"}),
        (DATES, {"kind": "date", "seen_minimum": "2020-01-01", "seen_maximum": "31.12.2024"}),
        ("seen minimum and maximum must be numbers.", {"seen_minimum": "1", "seen_maximum": 2}),
        ("seen minimum and maximum must be numbers.", {"seen_minimum": 1, "seen_maximum": "2"}),
        ("seen minimum and maximum must be numbers.", {"kind": "text", "seen_minimum": 1, "seen_maximum": math.inf}),
    ],
)
def test_a_field_that_cannot_be_used_is_refused_in_a_sentence_with_its_name(problem: str, members: Any) -> None:
    with pytest.raises(ContractError) as refused:
        Field(**{"name": "x", "kind": "integer", **members})
    assert refused.value.detail == f"Field {members.get('name', 'x')!r}: {problem}"


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "integer", "minimum": 1, "maximum": 1},
        {"kind": "number", "maximum": -0.5},
        {"kind": "text", "max_length": 1},
        {"kind": "category", "max_length": LONGEST},
        {"kind": "category", "choices": ("a",)},
        {"kind": "integer", "seen_minimum": 1, "seen_maximum": 1},
        {"kind": "boolean", "nullable": True, "missing": ("?",)},
    ],
)
def test_a_field_at_the_edge_of_what_can_be_used_is_taken(members: Any) -> None:
    field = Field(name="x", **members)
    assert Field.from_schema("x", field.as_schema(), True) == field


LABELS = "The outcome of a classification needs at least two different labels, as texts."
LIMITS = "The outcome's minimum and maximum are numbers of 64 bits at most, the smaller one first."
VALUE = {"task": "regression", "labels": ()}


@pytest.mark.parametrize(
    ("problem", "members"),
    [
        *(("The outcome's name, title and unit are texts.", {text: 3}) for text in ("name", "title", "unit")),
        *((LIMITS, {**VALUE, "minimum": limit}) for limit in ("0", True, math.inf, INT64_MAX + 1, -INT64_MAX - 1)),
        (LIMITS, {**VALUE, "minimum": 1, "maximum": "2"}),
        (LIMITS, {**VALUE, "minimum": 2, "maximum": 1}),
        ("The outcome's missing is a list of different texts.", {"missing": ("-", "-")}),
        ("The outcome's task must be classification or regression.", {"task": "guess"}),
        *((LABELS, {"labels": labels}) for labels in ((), ("a",), ("a", "a"), ("a", 1))),
        ("The outcome of a regression has a unit and a range, no labels.", {"task": "regression"}),
    ],
)
def test_an_outcome_that_cannot_be_used_is_refused_in_a_sentence(problem: str, members: Any) -> None:
    with pytest.raises(ContractError) as refused:
        Outcome(**{"name": "o", "labels": ("a", "b"), **members})
    assert refused.value.detail == problem


def test_an_outcome_may_reach_from_one_end_of_64_bits_to_the_other_or_be_one_value() -> None:
    for low, high in ((-INT64_MAX, INT64_MAX), (1, 1), (None, 0), (0, None)):
        outcome = Outcome(name="o", task="regression", minimum=low, maximum=high)
        assert (outcome.minimum, outcome.maximum) == (low, high)


@pytest.mark.parametrize(
    ("problem", "members"),
    [
        ("A contract needs at least one field.", {"fields": ()}),
        ("Two fields are named 'age'.", {"fields": (WHOLE.fields[0], WHOLE.fields[1], WHOLE.fields[0])}),
        *(
            ("A contract's name is made of a-z, 0-9, '-' and '_', 64 characters at most.", {"name": name})
            for name in ("", "A", "-a", "_a", "a b", "a" * 65)
        ),
        *(("A contract's title and description are texts.", {text: 3}) for text in ("title", "description")),
        ("'x-reviewapp-missing' is a list of different texts.", {"missing": ("", "")}),
    ],
)
def test_a_contract_that_cannot_be_used_is_refused_in_a_sentence(problem: str, members: Any) -> None:
    given = {"name": "c", "fields": WHOLE.fields, "outcome": GRADE}
    with pytest.raises(ContractError) as refused:
        Contract(**{**given, **members})
    assert refused.value.detail == problem
    assert Contract(**{**given, "name": "0_-" + "a" * 61, "missing": ()}).missing == ()


SHAPE = f"A contract has '$schema': '{DIALECT}' and 'type': 'object'."
PARTS = "A contract has 'properties' (an object) and 'required' (a list of names)."
CLOSED = "A contract says 'additionalProperties': false; unknown members are always refused."
OUTPUT = "A contract has 'x-reviewapp-output', an object with name, task and labels or unit."
HOLDS = (
    "'x-reviewapp-output' holds name and any of "
    "['labels', 'maximum', 'minimum', 'missing', 'task', 'title', 'unit']."
)  # fmt: skip


@pytest.mark.parametrize(
    ("problem", "members"),
    [
        *((SHAPE, change) for change in ({"$schema": "draft-04"}, {"$schema": None}, {"type": "array"})),
        *((PARTS, change) for change in ({"properties": []}, {"properties": None}, {"required": "n"})),
        *((CLOSED, {"additionalProperties": value}) for value in (True, None, 0)),
        ("'required' names 'm', which is not among the properties.", {"required": ["n", "m"]}),
        ("'required' names 3, which is not among the properties.", {"required": [3]}),
        ("'x-reviewapp-missing' is a list of different texts.", {"x-reviewapp-missing": "NA"}),
        *((OUTPUT, {"x-reviewapp-output": given}) for given in (None, [], {"name": "o", "labels": "xy"})),
        (OUTPUT, {"x-reviewapp-output": {"name": "o", "labels": ["x", "y"], "missing": "-"}}),
        (HOLDS, {"x-reviewapp-output": {"labels": ["x", "y"]}}),
        (HOLDS, {"x-reviewapp-output": {"name": "o", "labels": ["x", "y"], "more": 1}}),
        ("A contract's name is made of a-z, 0-9, '-' and '_', 64 characters at most.", {"$id": ""}),
        ("A contract's title and description are texts.", {"title": 3}),
        ("A contract's title and description are texts.", {"description": 3}),
    ],
)
def test_a_document_that_cannot_be_used_is_refused_in_a_sentence(problem: str, members: Any) -> None:
    with pytest.raises(ContractError) as refused:
        Contract.from_json({**copy.deepcopy(LEAST), **members})
    assert refused.value.detail == problem


def test_what_is_no_object_is_told_what_a_contract_is() -> None:
    with pytest.raises(ContractError) as refused:
        Contract.from_json([])
    assert refused.value.detail == "A contract is a JSON object (JSON Schema 2020-12 of one input object)."


TYPE = ": type must be 'integer', or a list of it and 'null'."
KNOWN = (
    "known: ['description', 'enum', 'examples', 'format', 'maxLength', 'maximum', 'minimum', 'pattern', 'title', "
    "'type', 'x-reviewapp-date-format', 'x-reviewapp-kind', 'x-reviewapp-missing', 'x-reviewapp-seen', "
    "'x-reviewapp-unit']."
)
BOUNDS = ": x-reviewapp-seen holds minimum and maximum, or values."
LISTS = ": x-reviewapp-missing, and the values seen, are lists of texts."


@pytest.mark.parametrize(
    ("problem", "members"),
    [
        (f" has 'const', which is not understood; {KNOWN}", {"const": 1}),
        *((f": x-reviewapp-kind must be one of {KINDS}.", {"x-reviewapp-kind": kind}) for kind in ("int", None)),
        *((TYPE, {"type": kind}) for kind in (None, "string", "null", ["null"], ["integer", "string"], 3)),
        (": enum must be a list of texts.", {"enum": "xy"}),
        *((BOUNDS, {"x-reviewapp-seen": seen}) for seen in (3, ["a"], {"minimum": 1, "most": 2})),
        *((LISTS, change) for change in ({"x-reviewapp-missing": "?"}, {"x-reviewapp-seen": {"values": "xy"}})),
    ],
)
def test_a_property_that_cannot_be_read_is_refused_in_a_sentence_with_its_name(problem: str, members: Any) -> None:
    with pytest.raises(ContractError) as refused:
        Field.from_schema("n", {"type": "integer", "x-reviewapp-kind": "integer", **members}, True)
    assert refused.value.detail == f"Field 'n'{problem}"


def test_a_property_that_is_no_object_is_told_what_one_is() -> None:
    with pytest.raises(ContractError) as refused:
        Field.from_schema("n", 3, True)  # type: ignore[arg-type]
    assert refused.value.detail == "Field 'n' must be an object, as {'type': 'integer'}."


def test_a_request_is_told_of_each_value_that_training_did_not_see_and_of_no_other() -> None:
    record = {
        "age": 91, "share": 1e9, "active": True, "colour": "red", "size": "s", "city": "Rom", "code": "x",
        "note": "x" * 31, "free": "x", "day": "2019-12-31", "since": "01.01.1900",
    }  # fmt: skip
    assert [(field.name, said) for field, said in WHOLE.outside_seen(record)] == [
        ("age", "91 is above 17…90 seen in training"),
        ("city", "this value is none of those seen in training"),
        ("note", "a length of 31 is above 1…30 seen in training"),
        ("day", "2019-12-31 is below 2020-01-01…2024-12-31 seen in training"),
    ]
    inside = {"age": 17, "city": "Ulm", "note": "x", "day": "2024-12-31"}
    assert WHOLE.outside_seen(inside) == []
    assert WHOLE.outside_seen({"age": 90, "city": None, "note": "x" * 30, "day": "2020-01-01"}) == []
    assert [field.name for field, _ in WHOLE.outside_seen({**inside, "age": 16, "note": ""})] == ["age", "note"]
