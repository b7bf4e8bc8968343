"""The six requests to click: each is what its title says, and none of them tells the answer."""

from typing import Any

import pytest

from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.field import Field
from reviewapp.golden import CLEAR, CLEAR_TOO, DIFFERENT, HARD, OUTSIDE, TITLES, UNKNOWN, samples
from reviewapp.prediction import Call, Prediction
from reviewapp.release import Release
from reviewapp.samples import outside_record

from .small import small_release


@pytest.fixture
def answered(release: Release, adapter: ModelAdapter) -> dict[str, Prediction]:
    made = adapter.predict([row.input for row in release.samples], Call(dry_run=True), compare=True)
    return {row.title: prediction for row, prediction in zip(release.samples, made, strict=True)}


def test_there_are_six_and_their_answers_are_golden(release: Release) -> None:
    assert [row.title for row in release.samples] == [*TITLES, OUTSIDE]
    assert all(set(row.answers) == {"model", "baseline"} for row in release.samples)
    assert len(release.golden) > 20


def test_no_title_names_a_label(release: Release) -> None:
    words = " ".join(row.title for row in release.samples).lower().split()
    assert not set(words) & set(release.contract.outcome.labels)


def test_each_is_what_its_title_says(answered: dict[str, Prediction]) -> None:
    reasons = {title: prediction.reasons for title, prediction in answered.items()}
    assert reasons[CLEAR] == reasons[CLEAR_TOO] == reasons[UNKNOWN] == reasons[DIFFERENT] == []
    assert reasons[HARD] == ["low_confidence"]
    assert "outside_seen" in reasons[OUTSIDE]
    assert answered[CLEAR].output["label"] != answered[CLEAR_TOO].output["label"]
    assert None in (answered[UNKNOWN].input or {}).values()
    for title, differs in ((CLEAR, False), (CLEAR_TOO, False), (DIFFERENT, True)):
        other = answered[title].comparison or {}
        assert (other["output"]["label"] != answered[title].output["label"]) is differs


def test_what_the_records_do_not_hold_is_left_out(release: Release, adapter: ModelAdapter) -> None:
    row = release.samples[0].input
    assert list(samples(release, [row])) == [CLEAR, HARD, OUTSIDE]


OUTCOME = Outcome(name="y", labels=("a", "b"))


@pytest.mark.parametrize(
    ("field", "value", "outside"),
    [
        (Field(name="x", kind="integer", seen_minimum=0, seen_maximum=12), 3, 25),
        (Field(name="x", kind="number", seen_minimum=1.5, seen_maximum=2.0), 1.6, 3.5),
        (Field(name="x", kind="number", seen_minimum=1.5, seen_maximum=2.0, maximum=2.5), 1.6, 2.5),
        (Field(name="x", kind="number", seen_minimum=1.5, seen_maximum=2.0, maximum=2), 1.6, None),
        (Field(name="x", kind="category", seen_choices=("u",)), "u", "something else"),
        (Field(name="x", kind="category", choices=("u",)), "u", None),
        (Field(name="x", kind="boolean"), True, None),
    ],
)
def test_a_value_outside_of_what_was_seen_keeps_the_hard_rules(field: Field, value: Any, outside: Any) -> None:
    contract = Contract(name="c", fields=(field,), outcome=OUTCOME)
    expected = None if outside is None else {"x": outside}
    assert outside_record(contract, {"x": value}) == expected


def test_a_release_without_titles_offers_none(release: Release) -> None:
    assert small_release(release.contract, release.model).samples == ()
