"""One walk of every field kind through everything that is derived from the contract."""

import csv
import io
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from reviewapp.bodies import prediction_request
from reviewapp.errors import InvalidInput
from reviewapp.field import INT64_MAX, INT64_MIN, KINDS, Field
from reviewapp.forms import Input, as_typed, control_names, inputs, typed
from reviewapp.frames import to_frame
from reviewapp.openapi import describe
from reviewapp.samples import as_text, broken_requests, csv_template, example_record, valid_record
from reviewapp.schemas import form_schema

from .conftest import EVERY_KIND

JSON_SCHEMA = Draft202012Validator(EVERY_KIND.as_json(), format_checker=FormatChecker(["date"]))
REQUEST = prediction_request(EVERY_KIND)
TEXT = form_schema(EVERY_KIND)
BROKEN = list(broken_requests(EVERY_KIND, random.Random(3)))


def load(record: Any) -> dict[str, Any]:
    return REQUEST.load({"input": record})[0]


def test_the_walk_meets_every_kind_with_and_without_null() -> None:
    met = {(field.kind, field.nullable) for field in EVERY_KIND.fields}
    assert met == {(kind, nullable) for kind in KINDS for nullable in (False, True)}


def test_valid_requests_pass_the_schema_and_the_json_schema_and_come_out_whole() -> None:
    rng = random.Random(5)
    for _ in range(300):
        record = valid_record(EVERY_KIND, rng)
        JSON_SCHEMA.validate(json.loads(json.dumps(record)))
        assert load(json.loads(json.dumps(record))) == {name: record.get(name) for name in EVERY_KIND.names}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: f"{b.pointer} {b.rule}")
def test_every_broken_rule_is_found_at_its_place_and_nothing_else_is(broken: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(broken.record)
    assert [(flaw.pointer, flaw.code) for flaw in refused.value.errors] == [(broken.pointer, broken.code)]
    assert not JSON_SCHEMA.is_valid(broken.record) or broken.code == "not_a_date"


def test_every_rule_of_the_json_schema_has_a_request_that_breaks_it() -> None:
    rules = {"minimum", "maximum", "enum", "maxLength", "pattern"}
    broken = {(b.pointer, b.code) for b in BROKEN}
    codes = {
        "minimum": "too_small",
        "maximum": "too_large",
        "enum": "not_a_choice",
        "maxLength": "too_long",
        "pattern": "control_character",
    }
    for field in EVERY_KIND.fields:
        schema, at = field.as_schema(), f"/input/{field.name.replace('~', '~0').replace('/', '~1')}"
        for rule in rules & set(schema):
            code = "not_a_date" if field.kind == "date" else codes[rule]
            assert (at, code) in broken, (field.name, rule)
        assert (at, "wrong_type") in broken
        assert field.nullable or (at, "null_not_allowed") in broken
        assert not field.required or (at, "missing") in broken


def test_all_mistakes_of_a_request_are_found_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        load({name: {} for name in EVERY_KIND.names})
    assert [flaw.pointer for flaw in refused.value.errors] == [
        f"/input/{name.replace('~', '~0').replace('/', '~1')}" for name in EVERY_KIND.names
    ]


def test_form_csv_and_json_mean_the_same() -> None:
    rng = random.Random(9)
    for _ in range(300):
        record = load(valid_record(EVERY_KIND, rng))
        # Empty text cannot be told from a missing one in a cell; where null is allowed it is the missing one.
        assert TEXT.load(as_typed(record), "/input") == record
        drawn = inputs(EVERY_KIND.fields, as_typed(record))
        submitted = {control.name: control.value for control in drawn}
        assert TEXT.load(typed(EVERY_KIND.fields, submitted), "/input") == record


def test_the_csv_template_is_a_valid_upload() -> None:
    header, row = csv.reader(io.StringIO(csv_template(EVERY_KIND)), strict=True)
    assert header == list(EVERY_KIND.names)
    assert TEXT.load(dict(zip(header, row, strict=True)), "/input") == load(example_record(EVERY_KIND))


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("number", "1_000", "wrong_type"),
        ("number", "１", "wrong_type"),
        ("number", "nan", "wrong_type"),
        ("number", "inf", "wrong_type"),
        ("number", "1e999", "too_large"),
        ("number", "-" + "9" * 400, "too_small"),
        ("number", " ", "missing"),
        ("class", "3.7", "wrong_type"),
        ("class", "٣", "wrong_type"),
        ("class", "9" * 5000, "too_large"),
        ("class", "-1", "too_small"),
        ("class", "", "missing"),
        ("Meta", "maybe", "wrong_type"),
        ("Meta", "", "missing"),
        ("a/b~c", "", "not_a_choice"),
        ("a/b~c", "Red", "not_a_choice"),
        ("day", "2024-02-30", "not_a_date"),
        ("day", "2024-2-3", "not_a_date"),
        ("day", "", "missing"),
        ("text", "a\x07", "control_character"),
    ],
)
def test_text_is_read_as_strictly_as_json(name: str, text: str, code: str) -> None:
    row = as_typed(load(example_record(EVERY_KIND))) | {name: text}
    with pytest.raises(InvalidInput) as refused:
        TEXT.load(row, "/input")
    assert [flaw.code for flaw in refused.value.errors] == [code]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("number", " -1.5 ", -1.5),
        ("number", "1E-1", 0.1),
        ("class", "+7", 7),
        ("class", "12.0", 12),
        ("Meta", "TRUE", True),
        ("Meta", "no", False),
        ("Meta", "1", True),
        ("x.y", "", None),
        ("text", "", ""),
        ("id", " a ", " a "),
        ("日付", "31.12.1999", "31.12.1999"),
    ],
)
def test_text_of_forms_and_cells_becomes_the_value_that_json_gives(name: str, text: str, value: object) -> None:
    row = as_typed(load(example_record(EVERY_KIND))) | {name: text}
    loaded = TEXT.load(row, "/input")[name]
    assert loaded == value
    assert type(loaded) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans())
def test_numbers_are_taken_as_the_json_schema_says(real: float, whole: int, use_real: bool) -> None:
    value: float | int = real if use_real else whole
    for name, kind in (("a number?", float), ("x.y", int)):
        record = {**example_record(EVERY_KIND), name: value}
        if JSON_SCHEMA.is_valid(record):
            loaded = load(record)[name]
            assert loaded == value or abs(loaded - value) <= abs(value) * 1e-15
            assert type(loaded) is kind
        else:
            with pytest.raises(InvalidInput):
                load(record)


def test_numbers_end_where_64_bits_do() -> None:
    record = example_record(EVERY_KIND)
    assert load({**record, "x.y": INT64_MIN})["x.y"] == INT64_MIN
    assert load({**record, "a number?": INT64_MAX})["a number?"] == float(INT64_MAX)
    for name, value in (("x.y", INT64_MIN - 1), ("a number?", INT64_MAX + 1), ("a number?", float("inf"))):
        with pytest.raises(InvalidInput):
            load({**record, name: value})


def test_the_openapi_document_has_the_fields_of_the_contract() -> None:
    document = describe(EVERY_KIND, (), ())
    assert document["components"]["schemas"]["Input"]["properties"] == EVERY_KIND.as_json()["properties"]
    assert document["components"]["schemas"]["Output"] == EVERY_KIND.outcome.as_schema()


def test_the_form_has_a_control_for_every_field() -> None:
    drawn = inputs(EVERY_KIND.fields)
    assert [control.field for control in drawn] == list(EVERY_KIND.fields)
    assert len({control.id for control in drawn}) == len({control.name for control in drawn}) == len(drawn)
    shown = {control.field.name: control for control in drawn}
    assert shown["Meta"].choices == [("true", "Yes"), ("false", "No")]
    assert shown["_schema"].choices == [("true", "Yes"), ("false", "No"), ("", "Not known")]
    assert [value for value, _ in shown["a/b~c"].choices] == ["red", "<b>&\"'", "grün"]
    assert "°C" in shown["number"].hint
    assert "DD.MM.YYYY" in shown["日付"].hint
    assert "40 characters" in shown["text"].hint
    assert "Leave it empty if it is not known" in shown["id"].hint
    assert {control.field.kind: control.widget for control in drawn} == {
        "number": "line", "integer": "line", "boolean": "radios", "category": "line", "text": "text", "date": "line",
    }  # fmt: skip
    assert [control.limit for control in drawn if control.widget == "text"] == [40, None]
    assert [control.name for control in drawn if control.keys] == ["class"]  # the others may be below zero


def test_a_date_picker_is_for_days_in_its_own_format_alone_and_shows_no_other_text() -> None:
    def drawn(text: str) -> dict[str, Input]:
        return {one.name: one for one in inputs(EVERY_KIND.fields, {"day": text, "日付": "31.12.2020"})}

    for text in ("", "2020-12-31"):
        assert (drawn(text)["day"].widget, drawn(text)["日付"].widget) == ("date", "line")
        assert drawn(text)["day"].hint == ""  # a picker shows days as its reader is used to
    for text in ("31.12.2020", "2020-02-30", "2020-1-1", " 2020-12-31", "tomorrow"):
        assert (drawn(text)["day"].widget, drawn(text)["day"].value) == ("line", text)
        assert drawn(text)["day"].hint == "Written YYYY-MM-DD."


def test_a_form_calls_a_field_by_its_name_unless_no_form_can_send_it() -> None:
    names = ("class", "", "field-1", "a\nb", "x.y[]", "field-1_")
    fields = [Field(name=name, kind="text") for name in names]
    assert control_names(fields) == ["class", "field-1__", "field-1", "field-3", "x.y[]", "field-1_"]


@pytest.mark.parametrize(
    ("choices", "compact", "widget"), [(6, False, "radios"), (7, False, "select"), (2, True, "select")]
)
def test_a_long_list_of_choices_is_a_drop_down_list(choices: int, compact: bool, widget: str) -> None:
    field = Field(name="x", kind="category", choices=tuple(str(n) for n in range(choices)))
    assert inputs([field], compact=compact)[0].widget == widget


def test_the_frame_has_the_same_dtypes_for_one_row_and_for_many() -> None:
    rng = random.Random(1)
    records = [load(valid_record(EVERY_KIND, rng)) for _ in range(40)]
    many = to_frame(EVERY_KIND, records)
    assert list(many.columns) == list(EVERY_KIND.names)
    for i in range(len(records)):
        one = to_frame(EVERY_KIND, records[i : i + 1])
        assert list(one.dtypes) == list(many.dtypes)
        assert one.equals(many.iloc[i : i + 1].reset_index(drop=True))


def test_null_and_absent_are_the_missing_value_of_the_frame() -> None:
    given = load(example_record(EVERY_KIND))
    nullable = [field.name for field in EVERY_KIND.fields if not field.required]
    null = to_frame(EVERY_KIND, [given | dict.fromkeys(nullable)])
    absent = to_frame(EVERY_KIND, [{name: value for name, value in given.items() if name not in nullable}])
    assert null.equals(absent)
    assert all(isinstance(null[name][0], float) and np.isnan(null[name][0]) for name in nullable)


def test_text_written_for_a_cell_is_exact() -> None:
    assert as_text(0.1 + 0.2) == "0.30000000000000004"
    assert as_text(True) == "true"
    assert as_text(None) == ""
