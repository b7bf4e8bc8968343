"""Every rule of what breaks callers, in both directions; what does not break them is listed all the same."""

from dataclasses import replace
from typing import Any

import pytest

from reviewapp.contract import Contract, Outcome
from reviewapp.difference import Difference, differences
from reviewapp.field import INT64_MAX, INT64_MIN, Field

from .conftest import EVERY_KIND

LABELS = Outcome(name="o", labels=("a", "b", "c"))
VALUE = Outcome(name="o", task="regression", unit="€", minimum=0, maximum=10)
OTHER = Field(name="other", kind="boolean")


def contract(*fields: Field, outcome: Outcome = LABELS, missing: tuple[str, ...] = ("",)) -> Contract:
    return Contract(name="x", fields=(*fields, OTHER), outcome=outcome, missing=missing)


def field(kind: str, **changes: Any) -> Field:
    return Field(name="a/b", kind=kind, **changes)


def changes(old: Contract, new: Contract) -> list[tuple[str, str, bool]]:
    return [(one.pointer, one.detail, one.breaking) for one in differences(old, new)]


OPTIONAL = {"required": False, "nullable": True}

# The rule, one side, the other side, then what is said on the way there and on the way back, and whether it breaks.
RULES = [
    ("integer to number", field("integer"), field("number"),
     [("The kind is number and was integer.", False)], [("The kind is integer and was number.", True)]),
    ("another kind", field("text"), field("boolean"),
     [("The kind is boolean and was text.", True)], [("The kind is text and was boolean.", True)]),
    ("text and category", field("text"), field("category", choices=("x",)),
     [("The kind is category and was text.", True)], [("The kind is text and was category.", True)]),
    ("another kind hides what lies inside", field("number", maximum=3, seen_minimum=0, seen_maximum=1), field("date"),
     [("The kind is date and was number.", True)], [("The kind is number and was date.", True)]),
    ("null", field("number"), field("number", nullable=True),
     [("Null is allowed now.", False)], [("Null is no longer allowed.", True)]),
    ("left out", field("text", nullable=True), field("text", **OPTIONAL),
     [("It may be left out now.", False)], [("It may no longer be left out.", True)]),
    ("unit", field("number", unit="kg"), field("number", unit="g"),
     [("The unit is g and was kg: the same number means something else.", True)],
     [("The unit is kg and was g: the same number means something else.", True)]),
    ("unit stated", field("number"), field("number", unit="g"),
     [("The unit is g and was not stated: the same number means something else.", True)],
     [("The unit is not stated and was g: the same number means something else.", True)]),
    ("minimum", field("number", minimum=0), field("number", minimum=0.5),
     [("The smallest value is 0.5 and was 0.", True)], [("The smallest value is 0 and was 0.5.", False)]),
    ("maximum", field("integer", maximum=12), field("integer", maximum=10),
     [("The largest value is 10 and was 12.", True)], [("The largest value is 12 and was 10.", False)]),
    ("limits stated", field("number"), field("number", minimum=-1, maximum=1),
     [("The smallest value is -1 and was not limited.", True), ("The largest value is 1 and was not limited.", True)],
     [("The smallest value is not limited and was -1.", False),
      ("The largest value is not limited and was 1.", False)]),
    ("limits of 64 bits", field("number"), field("number", minimum=INT64_MIN, maximum=INT64_MAX), [], []),
    ("limits and kind", field("integer", maximum=10), field("number", maximum=9),
     [("The kind is number and was integer.", False), ("The largest value is 9 and was 10.", True)],
     [("The kind is integer and was number.", True), ("The largest value is 10 and was 9.", False)]),
    ("length", field("text", max_length=40), field("text", max_length=30),
     [("The largest number of characters is 30 and was 40.", True)],
     [("The largest number of characters is 40 and was 30.", False)]),
    ("length stated", field("text"), field("text", max_length=30),
     [("The largest number of characters is 30 and was not limited.", True)],
     [("The largest number of characters is not limited and was 30.", False)]),
    ("length of an open category", field("category"), field("category", max_length=1000), [], []),
    ("shorter open category", field("category"), field("category", max_length=5),
     [("The largest number of characters is 5 and was 1000.", True)],
     [("The largest number of characters is 1000 and was 5.", False)]),
    ("choices", field("category", choices=("x", "y")), field("category", choices=("y", "z", "x")),
     [("Allowed now, too: 'z'.", False)], [("No longer allowed: 'z'.", True)]),
    ("other choices", field("category", choices=("x", "y")), field("category", choices=("x", "z")),
     [("No longer allowed: 'y'.", True), ("Allowed now, too: 'z'.", False)],
     [("No longer allowed: 'z'.", True), ("Allowed now, too: 'y'.", False)]),
    ("choices in another order", field("category", choices=("x", "y")), field("category", choices=("y", "x")), [], []),
    ("an open category is closed", field("category"), field("category", choices=("x",)),
     [("Only the values of a list are allowed now, and any text was.", True)],
     [("Any text of 1000 characters or fewer is allowed now, and only the values of a list were.", False)]),
    ("closed, and seen values are lost", field("category", seen_choices=("x", "y")), field("category", choices=("x",)),
     [("Only the values of a list are allowed now, and any text was; training had seen others: 'y'.", True)],
     [("Any text of 1000 characters or fewer is allowed now, and only the values of a list were.", False)]),
    ("closed, though nothing seen is lost",
     field("category", seen_choices=("x",)), field("category", choices=("x", "y")),
     [("Only the values of a list are allowed now, and any text was.", True)],
     [("Any text of 1000 characters or fewer is allowed now, and only the values of a list were.", False),
      ("Training saw 'x' (before: 'x', 'y'). More values get a warning and may go to a person.", False)]),
    ("opened, but shorter", field("category", choices=("x", "long")), field("category", max_length=2),
     [("Any text of 2 characters or fewer is allowed now, and only the values of a list were.", False),
      ("No longer allowed, because too long: 'long'.", True)],
     [("Only the values of a list are allowed now, and any text was.", True)]),
    ("date format", field("date"), field("date", date_format="%d.%m.%Y"),
     [("Dates are written DD.MM.YYYY and were written YYYY-MM-DD.", True)],
     [("Dates are written YYYY-MM-DD and were written DD.MM.YYYY.", True)]),
    ("seen range", field("number", seen_minimum=0, seen_maximum=12), field("number", seen_minimum=0, seen_maximum=10),
     [("Training saw 0 to 10 (before: 0 to 12). More values get a warning and may go to a person.", False)],
     [("Training saw 0 to 12 (before: 0 to 10). Fewer values get a warning and may go to a person.", False)]),
    ("seen range moved", field("text", seen_minimum=1, seen_maximum=5), field("text", seen_minimum=2, seen_maximum=6),
     [("Training saw 2 to 6 characters (before: 1 to 5 characters). Other values get a warning and may go to a person.",
       False)],
     [("Training saw 1 to 5 characters (before: 2 to 6 characters). Other values get a warning and may go to a person.",
       False)]),
    ("seen range stated", field("number"), field("number", seen_minimum=0, seen_maximum=1),
     [("Training saw 0 to 1 (before, this was not stated). More values get a warning and may go to a person.", False)],
     [("What training saw is no longer stated (before: 0 to 1). Fewer values get a warning and may go to a person.",
       False)]),
    ("seen days in another format", field("date", seen_minimum="2020-01-01", seen_maximum="2020-12-31"),
     field("date", date_format="%d.%m.%Y", seen_minimum="01.01.2020", seen_maximum="31.12.2020"),
     [("Dates are written DD.MM.YYYY and were written YYYY-MM-DD.", True)],
     [("Dates are written YYYY-MM-DD and were written DD.MM.YYYY.", True)]),
    ("seen days", field("date", seen_minimum="2020-01-01", seen_maximum="2020-12-31"),
     field("date", seen_minimum="2020-02-01", seen_maximum="2020-12-31"),
     [("Training saw 2020-02-01 to 2020-12-31 (before: 2020-01-01 to 2020-12-31). "
       "More values get a warning and may go to a person.", False)],
     [("Training saw 2020-01-01 to 2020-12-31 (before: 2020-02-01 to 2020-12-31). "
       "Fewer values get a warning and may go to a person.", False)]),
    ("seen values", field("category", seen_choices=("x", "y")), field("category", seen_choices=("z", "x")),
     [("Training saw 'z', 'x' (before: 'x', 'y'). Other values get a warning and may go to a person.", False)],
     [("Training saw 'x', 'y' (before: 'z', 'x'). Other values get a warning and may go to a person.", False)]),
    ("seen values in another order", field("category", seen_choices=("x", "y")),
     field("category", seen_choices=("y", "x")), [], []),
    ("seen values stated", field("category"), field("category", seen_choices=tuple("abcdefg")),
     [("Training saw 'a', 'b', 'c', 'd', 'e' and 2 more (before, this was not stated). "
       "More values get a warning and may go to a person.", False)],
     [("What training saw is no longer stated (before: 'a', 'b', 'c', 'd', 'e' and 2 more). "
       "Fewer values get a warning and may go to a person.", False)]),
    ("words for people", field("number", title="T", description="D", example=1), field("number"), [], []),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "there", "back"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_a_change_of_a_field_is_said_both_ways(one: Field, other: Field, there: list, back: list) -> None:
    for old, new, expected in ((one, other, there), (other, one, back)):
        found = changes(contract(old), contract(new))
        assert found == [("/input/a~1b", detail, breaking) for detail, breaking in expected]


@pytest.mark.parametrize(
    ("added", "breaking", "says"),
    [
        (field("text"), True, "The field is new and required; a request without it is refused."),
        (field("text", nullable=True), True, "The field is new and required; a request without it is refused."),
        (field("text", **OPTIONAL), False, "The field is new; it may be left out."),
    ],
)
def test_a_field_that_is_new_breaks_callers_only_if_it_is_required(added: Field, breaking: bool, says: str) -> None:
    assert changes(contract(), contract(added)) == [("/input/a~1b", says, breaking)]


def test_a_field_that_is_gone_breaks_callers_even_if_it_was_optional() -> None:
    says = "The field is gone; a request that names it is refused."
    assert changes(contract(field("text", **OPTIONAL)), contract()) == [("/input/a~1b", says, True)]


def test_a_renamed_field_is_one_that_is_gone_and_one_that_is_new() -> None:
    found = differences(contract(Field(name="x", kind="text")), contract(Field(name="y", kind="text")))
    assert [(one.pointer, one.breaking) for one in found] == [("/input/x", True), ("/input/y", True)]


GONE = "In forms and CSV cells this no longer stands for a missing value: "
NOW = "In forms and CSV cells this stands for a missing value now: "


@pytest.mark.parametrize(
    ("old", "new", "kept", "expected"),
    [
        (("", "?"), ("",), field("number", nullable=True), [(GONE + "'?'.", True)]),
        (("",), ("", "?", "NA"), field("number", nullable=True), [(NOW + "'?', 'NA'.", False)]),
        (("?",), ("NA",), field("text", nullable=True), [(GONE + "'?'.", True), (NOW + "'NA'.", True)]),
        (("", "?"), ("?",), field("text", nullable=True), []),  # empty text can be nothing else
        (("",), ("?",), field("category", nullable=True, choices=("", "x")),
         [(GONE + "''.", True), (NOW + "'?'.", True)]),
        (("", "?"), ("",), field("number"), []),  # nothing may be missing, so no mark stands for it
    ],
)  # fmt: skip
def test_marks_of_missing_values_count_where_a_value_may_be_missing(
    old: tuple, new: tuple, kept: Field, expected: list
) -> None:
    found = changes(contract(kept, missing=old), contract(kept, missing=new))
    assert found == [("/input", detail, breaking) for detail, breaking in expected]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (LABELS, VALUE, [("/output", "The answer is a value and was a label.", True)]),
        (VALUE, LABELS, [("/output", "The answer is a label and was a value.", True)]),
        (LABELS, replace(LABELS, labels=("a", "b", "c", "d")),
         [("/output/label", "A new answer, which callers may not know: 'd'.", True)]),
        (LABELS, replace(LABELS, labels=("a", "b")), [("/output/label", "No longer an answer: 'c'.", True)]),
        (LABELS, replace(LABELS, labels=("a", "b", "d")),
         [("/output/label", "No longer an answer: 'c'.", True),
          ("/output/label", "A new answer, which callers may not know: 'd'.", True)]),
        (LABELS, replace(LABELS, labels=("c", "b", "a")),
         [("/output/label", "The labels come in another order.", False)]),
        (VALUE, replace(VALUE, unit="$"),
         [("/output/value", "The unit is $ and was €: the same number means something else.", True)]),
        (VALUE, replace(VALUE, minimum=-1, maximum=11),
         [("/output/value", "The smallest value is -1 and was 0.", True),
          ("/output/value", "The largest value is 11 and was 10.", True)]),
        (VALUE, replace(VALUE, minimum=None, maximum=None),
         [("/output/value", "The smallest value is not limited and was 0.", True),
          ("/output/value", "The largest value is not limited and was 10.", True)]),
        (VALUE, replace(VALUE, minimum=1, maximum=9),
         [("/output/value", "The smallest value is 1 and was 0.", False),
          ("/output/value", "The largest value is 9 and was 10.", False)]),
        (replace(VALUE, minimum=None, maximum=None), VALUE,
         [("/output/value", "The smallest value is 0 and was not limited.", False),
          ("/output/value", "The largest value is 10 and was not limited.", False)]),
        (LABELS, replace(LABELS, name="p", title="T"), []),
    ],
)  # fmt: skip
def test_an_answer_that_a_caller_may_not_know_breaks_it(old: Outcome, new: Outcome, expected: list) -> None:
    assert changes(contract(outcome=old), contract(outcome=new)) == expected


def test_a_contract_does_not_differ_from_itself_as_it_is_stored() -> None:
    assert differences(EVERY_KIND, Contract.from_json(EVERY_KIND.as_json())) == ()


def test_names_that_break_naive_code_are_pointed_at_as_a_refused_request_is() -> None:
    nothing = Contract(name="x", fields=(Field(name="only", kind="text"),), outcome=EVERY_KIND.outcome)
    gone = [one.pointer for one in differences(EVERY_KIND, nothing) if "gone" in one.detail]
    assert len(gone) == len(EVERY_KIND.fields)
    assert {"/input/a~1b~0c", "/input/", "/input/日付", "/input/%s {0} [1]"} <= set(gone)


def test_as_json_is_what_the_ledger_keeps() -> None:
    assert Difference("/input/x", "It is so.", True).as_json() == {
        "pointer": "/input/x",
        "detail": "It is so.",
        "breaking": True,
    }
