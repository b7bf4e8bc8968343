"""The envelopes around records: one request, a batch, a verdict, a move; every mistake at once, with its pointer."""

import random
import time
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewapp.bodies import batch_request, move_request, prediction_request, promote_request, verdict_request
from reviewapp.contract import Outcome
from reviewapp.errors import InvalidInput, pointer
from reviewapp.samples import as_text, broken_requests, example_record, valid_record
from reviewapp.schemas import RecordSchema, form_schema

from .conftest import EVERY_KIND

LABELS = Outcome(name="o", labels=("a", "b"))
VALUE = Outcome(name="o", task="regression", unit="€", minimum=0)


def mistakes(load: Any, body: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        load(body)
    return [(flaw.pointer, flaw.code) for flaw in refused.value.errors]


def test_a_request_may_carry_a_reference() -> None:
    example = example_record(EVERY_KIND)
    load = prediction_request(EVERY_KIND).load
    assert load({"input": example}) == (example, None)
    assert load({"input": example, "reference": None})[1] is None
    assert load({"input": example, "reference": "A-1"})[1] == "A-1"
    assert mistakes(load, {"input": example, "reference": 5}) == [("/reference", "wrong_type")]
    assert mistakes(load, {"input": example, "reference": "x" * 201}) == [("/reference", "too_long")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, [("", "not_an_object")]),
        ([], [("", "not_an_object")]),
        ("text", [("", "not_an_object")]),
        ({}, [("/input", "missing")]),
        ({"input": None}, [("/input", "null_not_allowed")]),
        ({"input": []}, [("/input", "not_an_object")]),
        ({"input": "x", "zz": 1}, [("/input", "not_an_object"), ("/zz", "unknown_member")]),
    ],
)
def test_an_envelope_that_is_wrong_is_pointed_at(body: Any, expected: list[tuple[str, str]]) -> None:
    assert mistakes(prediction_request(EVERY_KIND).load, body) == expected


def test_a_member_of_a_batch_is_pointed_at_by_its_row() -> None:
    example = example_record(EVERY_KIND)
    load = batch_request(EVERY_KIND).load
    assert load({"inputs": [example, example]}) == [example, example]
    bad = {**example, "a/b~c": "blue"}
    rows = [example, bad, None, 3, {**example, "more": 1}]
    assert mistakes(load, {"inputs": rows}) == [
        ("/inputs/1/a~1b~0c", "not_a_choice"),
        ("/inputs/2", "null_not_allowed"),
        ("/inputs/3", "not_an_object"),
        ("/inputs/4/more", "unknown_member"),
    ]


def test_a_batch_has_one_to_a_thousand_rows_and_too_many_cost_nothing() -> None:
    example = example_record(EVERY_KIND)
    load = batch_request(EVERY_KIND).load
    assert len(load({"inputs": [example] * 1000})) == 1000
    assert mistakes(load, {"inputs": []}) == [("/inputs", "too_few_items")]
    assert mistakes(load, {"inputs": {}}) == [("/inputs", "not_a_list")]
    before = time.process_time()
    assert mistakes(load, {"inputs": [{}] * 350_000}) == [("/inputs", "too_many_items")]
    few = time.process_time() - before
    before = time.process_time()
    mistakes(load, {"inputs": [{}] * 1000})
    assert few < 10 * (time.process_time() - before)  # a ratio in one run: the rows were not looked at


@pytest.mark.parametrize(
    ("outcome", "body", "expected"),
    [
        (LABELS, {}, [("/verdict", "missing")]),
        (LABELS, {"verdict": "yes"}, [("/verdict", "not_a_choice")]),
        (LABELS, {"verdict": "agree", "label": "a"}, [("/label", "not_allowed_here")]),
        (LABELS, {"verdict": "corrected"}, [("/label", "missing")]),
        (LABELS, {"verdict": "corrected", "label": "c"}, [("/label", "not_a_choice")]),
        (LABELS, {"verdict": "corrected", "value": 3}, [("/value", "unknown_member")]),
        (LABELS, {"verdict": "agree", "reasons": "x"}, [("/reasons", "not_a_list")]),
        (LABELS, {"verdict": "agree", "reasons": ["x", 1]}, [("/reasons/1", "wrong_type")]),
        (LABELS, {"verdict": "agree", "reasons": ["x"] * 21}, [("/reasons", "too_many_items")]),
        (LABELS, {"verdict": "agree", "note": "x" * 2001}, [("/note", "too_long")]),
        (VALUE, {"verdict": "corrected"}, [("/value", "missing")]),
        (VALUE, {"verdict": "corrected", "value": -1}, [("/value", "too_small")]),
        (VALUE, {"verdict": "corrected", "label": "a"}, [("/label", "unknown_member")]),
    ],
)
def test_a_wrong_verdict_is_refused(outcome: Outcome, body: Any, expected: list[tuple[str, str]]) -> None:
    assert mistakes(verdict_request(outcome).load, body) == expected


def test_a_correction_says_what_is_right() -> None:
    loaded = verdict_request(LABELS).load({"verdict": "corrected", "label": "b", "reasons": ["rule"], "note": "n"})
    assert loaded == {"verdict": "corrected", "label": "b", "reasons": ["rule"], "note": "n"}
    assert verdict_request(VALUE).load({"verdict": "corrected", "value": 3})["value"] == 3.0


def test_a_move_needs_a_reason_that_says_something() -> None:
    assert move_request().load({"reason": "better"}) == "better"
    assert mistakes(move_request().load, {"reason": "  "}) == [("/reason", "missing")]
    assert mistakes(move_request().load, {"reason": None}) == [("/reason", "null_not_allowed")]
    assert mistakes(move_request().load, {}) == [("/reason", "missing")]
    assert mistakes(move_request().load, {"reason": "x", "breaking": True}) == [("/breaking", "unknown_member")]


def test_a_promotion_may_say_that_the_callers_are_ready() -> None:
    load = promote_request().load
    assert load({"reason": "better"}) == load({"reason": "better", "breaking": None}) == ("better", False)
    assert load({"reason": "better", "breaking": False}) == ("better", False)
    assert load({"reason": "better", "breaking": True}) == ("better", True)
    for value in ("true", "yes", 1, 0, [], {}):
        assert mistakes(load, {"reason": "better", "breaking": value}) == [("/breaking", "wrong_type")]
    assert mistakes(load, {"breaking": 1}) == [("/reason", "missing"), ("/breaking", "wrong_type")]
    typed = promote_request(text=True).load
    assert typed({"reason": "better", "breaking": "true"}) == ("better", True)
    assert typed({"reason": "better", "breaking": ""}) == typed({"reason": "better"}) == ("better", False)
    assert mistakes(typed, {"reason": "", "breaking": "false"}) == [("/reason", "missing")]


def test_mistakes_come_in_the_order_of_the_contract_then_unknown_members_by_name() -> None:
    unknown = dict.fromkeys(("zebra", "ant", "moth", "bee", "fly"), 1)
    found = mistakes(prediction_request(EVERY_KIND).load, {"input": unknown})
    required = [pointer("input", field.name) for field in EVERY_KIND.fields if field.required]
    assert [at for at, _ in found] == required + [f"/input/{name}" for name in sorted(unknown)]


# ---- a right record is checked quickly, and comes out as marshmallow would give it ------------------------------

ODD = [None, True, 0, 1, -1, 3.0, 3.7, -0.0, 1e300, 2**70, "", "3", "x", "a\x00b", "x" * 300, [], {}, {"a": 1}]
BROKEN = [one.record for one in broken_requests(EVERY_KIND, random.Random(3)) if isinstance(one.record, dict)]
ODD += [record[name] for record in BROKEN for name in EVERY_KIND.names if name in record]


@st.composite
def records(draw: Any) -> Any:
    """Right records, and records in which members are odd, missing or unknown, or which are none."""
    record: Any = valid_record(EVERY_KIND, random.Random(draw(st.integers(0, 10_000))))
    for name in draw(st.lists(st.sampled_from([*EVERY_KIND.names, "unknown", "f0"]), max_size=2)):
        record[name] = draw(st.sampled_from(ODD))
    for name in draw(st.lists(st.sampled_from(EVERY_KIND.names), max_size=1)):
        record.pop(name, None)
    return draw(st.sampled_from([record, record, record, record, [record], None, list(record.items())]))


def outcome(load: Any, *given_: Any) -> Any:
    """What comes out, kinds of values and order included, or every mistake with its words."""
    try:
        return repr(load(*given_))
    except InvalidInput as error:
        return error.errors


def by_marshmallow(load: Any, *given_: Any) -> Any:
    with patch.object(RecordSchema, "quick", return_value=None):
        return outcome(load, *given_)


@given(records(), st.sampled_from([{}, {"reference": "A-1"}, {"reference": None}, {"reference": 5}, {"more": 1}]))
def test_a_request_is_accepted_or_refused_just_as_marshmallow_does(record: Any, beside: dict[str, Any]) -> None:
    load = prediction_request(EVERY_KIND).load
    assert outcome(load, {"input": record} | beside) == by_marshmallow(load, {"input": record} | beside)


@given(st.lists(records(), max_size=3))
def test_a_batch_is_accepted_or_refused_just_as_marshmallow_does(rows: list[Any]) -> None:
    load = batch_request(EVERY_KIND).load
    for body in ({"inputs": rows}, {"inputs": rows, "more": 1}):
        assert outcome(load, body) == by_marshmallow(load, body)


@given(records())
def test_a_form_is_accepted_or_refused_just_as_marshmallow_does(record: Any) -> None:
    load = form_schema(EVERY_KIND).load
    texts = {name: as_text(value) for name, value in record.items()} if isinstance(record, dict) else record
    assert outcome(load, texts, "/input") == by_marshmallow(load, texts, "/input")


def test_a_right_request_needs_no_walk_through_marshmallow() -> None:
    example = example_record(EVERY_KIND)
    with patch("marshmallow.Schema.load", side_effect=AssertionError):
        assert prediction_request(EVERY_KIND).load({"input": example, "reference": "A-1"}) == (example, "A-1")
        assert batch_request(EVERY_KIND).load({"inputs": [example] * 3}) == [example] * 3
