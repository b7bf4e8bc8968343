"""Words say what the figures say: no certainty, no blame, and sums that add up."""

import re
from dataclasses import replace
from typing import Any

import pytest

from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract
from reviewapp.policy import REASONS, Policy
from reviewapp.prediction import Call, Prediction
from reviewapp.release import Release
from reviewapp.wording import (
    AUTO_ADVICE,
    CELL,
    DIFFER_ADVICE,
    Story,
    excerpt,
    number,
    percent,
    signed,
    tell,
    tell_change,
)

from .small import RULE

POLICY = Policy(cost_wrong=10, cost_review=2, threshold=0.6682, rollback=RULE)


@pytest.fixture
def prediction(adapter: ModelAdapter, release: Release) -> Prediction:
    [made] = adapter.predict([release.samples[3].input], Call(dry_run=True), compare=True, explain=True)
    return replace(made, audit=False)  # the lot draws one in ten


@pytest.fixture
def contract(release: Release) -> Contract:
    return release.contract


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "over 99 %"), (0.9901, "over 99 %"), (0.99, "99 %"), (0.5, "50 %"), (0.01, "1 %"), (0.0, "under 1 %")],
)
def test_a_probability_never_claims_that_it_cannot_be_otherwise(share: float, words: str) -> None:
    assert percent(share).replace("\u00a0", " ") == words


def test_a_figure_has_its_sign_as_it_is_typeset() -> None:
    assert [signed(x) for x in (1.234, -0.5, 0.0)] == ["+1.23", "−0.50", "+0.00"]
    assert signed(-12345.6, 0) == "−12,346"


@pytest.mark.parametrize(("size", "shown"), [(0.00123, "+0.00123"), (12.3, "+12.3"), (45678.9, "+45,679")])
def test_what_adds_to_a_value_is_told_in_digits_of_its_size(prediction: Prediction, size: float, shown: str) -> None:
    explanation = {"method": "blanking", "scale": "value", "fields": [{"field": "channel", "contribution": size}]}
    output = {"value": size, "low": 0.0, "high": 2 * size}
    effects = tell(replace(prediction, output=output, comparison=None, explanation=explanation)).effects
    assert effects is not None
    assert effects.fields[0].figure == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(259312.4, "259,312"), (1000.4, "1,000"), (149.449, "149.4"), (0.00012345, "0.0001234")]
)
def test_a_number_of_any_size_has_its_digits_and_no_exponent(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (None, "(erased)"),
        ({"a": "x\n  y", "b": None, "c": 3, "d": ""}, "x y · 3"),
        ({"a": "x" * 200}, "x" * 89 + "…"),
        ({}, ""),
    ],
)
def test_the_beginning_of_a_request_fits_on_a_line(record: Any, shown: str) -> None:
    assert excerpt(record) == shown


def test_an_automatic_answer_says_so(prediction: Prediction, contract: Contract) -> None:
    story = tell(prediction, contract)
    assert story.decision == "This answer may be used as it is."
    assert story.advice == DIFFER_ADVICE
    assert tell(replace(prediction, comparison=None), contract).advice == AUTO_ADVICE
    assert [name for name, _ in story.answers] == ["Baseline", "Model"]
    assert story.differ


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_its_words_and_its_advice(prediction: Prediction, contract: Contract, reason: str) -> None:
    story = tell(replace(prediction, decision="review", reasons=[reason]), contract, POLICY)
    assert story.decision.startswith("A person must look at this, because ")
    assert story.advice not in (AUTO_ADVICE, DIFFER_ADVICE)
    assert (reason == "low_confidence") is ("67\u00a0%" in story.decision)
    assert (reason == "outside_seen") is ("do not rely on this figure" in story.confidence)


def test_several_reasons_make_one_sentence(prediction: Prediction, contract: Contract) -> None:
    decision = tell(replace(prediction, decision="review", reasons=list(REASONS)), contract).decision
    assert decision.count(", and ") == len(REASONS) - 1
    assert decision.endswith(".")


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (1.0, "almost certainly right: of 100 answers given with this confidence, more than 99 should be right."),
        (0.93, "very likely right: of 100 answers given with this confidence, about 93 should be right."),
        (0.5, "more likely right than wrong"),
        (0.26, "more likely wrong than right"),
    ],
)
def test_confidence_is_a_number_and_words(prediction: Prediction, contract: Contract, share: float, says: str) -> None:
    output = {**prediction.output, "confidence": share}
    assert says in tell(replace(prediction, output=output), contract).confidence


def figures(story: Story) -> list[float]:
    assert story.effects is not None
    return [one.amount for one in story.effects.fields]


def test_what_moved_the_answer_adds_up_to_the_log_odds(prediction: Prediction, contract: Contract) -> None:
    import math

    story = tell(prediction, contract)
    assert story.effects is not None
    assert prediction.explanation is not None
    shares = prediction.output["probabilities"]
    label, against = prediction.explanation["label"], prediction.explanation["against"]
    total = math.log(shares[label] / shares[against])
    assert sum(figures(story)) + prediction.explanation["intercept"] == pytest.approx(total)
    assert signed(total) in story.effects.sum
    odds = re.search(r"([\d.,]+) to 1", story.effects.sum)
    assert odds is not None
    assert float(odds[1].replace(",", "")) == pytest.approx(shares[label] / shares[against], abs=0.05)
    message = next(one for one in story.effects.fields if one.label == "Message")
    assert len(message.terms) == 7
    assert sum(term.amount for term in message.terms) == pytest.approx(message.amount)


def test_bars_start_at_zero_and_the_longest_fills_its_side(prediction: Prediction, contract: Contract) -> None:
    effects = tell(prediction, contract).effects
    assert effects is not None
    bars = [bar for one in effects.fields for bar in (one, *one.terms)]
    assert max(bar.width for bar in bars) == 100
    assert all((bar.x == -bar.width) if bar.amount < 0 else (bar.x == 0) for bar in bars)


def test_a_field_without_effect_draws_no_bar(prediction: Prediction, contract: Contract) -> None:
    explanation = {"method": "blanking", "scale": "probability", "label": prediction.output["label"],
                   "fields": [{"field": "channel", "contribution": 0.0}]}  # fmt: skip
    effects = tell(replace(prediction, explanation=explanation), contract).effects
    assert effects is not None
    assert [(one.label, one.figure, one.width) for one in effects.fields] == [("Channel", "+0.00", 0)]
    assert "leaving it empty" in effects.meaning


def test_fields_have_their_labels_and_what_the_contract_no_longer_knows_its_name(
    prediction: Prediction, contract: Contract
) -> None:
    warned = replace(
        prediction,
        input={"open_tickets": 41, "former/field": True, "customer_tier": None},
        warnings=[{"pointer": "/input/open_tickets", "code": "outside_seen_range", "detail": "41 is above"},
                  {"pointer": "/input/former~1field", "code": "outside_seen_range", "detail": "odd"}],
    )  # fmt: skip
    story = tell(warned, contract)
    assert story.request == [("Open tickets", "41"), ("former/field", "Yes"), ("Customer tier", "not known")]
    assert story.warnings == [("Open tickets", "41 is above"), ("/input/former~1field", "odd")]


def test_an_answer_without_comparison_or_explanation_is_told_too(prediction: Prediction, contract: Contract) -> None:
    story = tell(replace(prediction, comparison=None, explanation=None, input=None), contract)
    assert [name for name, _ in story.answers] == ["Model"]
    assert (story.differ, story.effects, story.request) == (False, None, [])


# ---- marked in the text -----------------------------------------------------------------------------------------


def test_the_text_of_a_field_is_told_with_its_terms_marked(prediction: Prediction, contract: Contract) -> None:
    terms = [{"term": "late again", "contribution": 2.0}, {"term": "again", "contribution": -1.0}]
    explanation = {"method": "linear", "scale": "log-odds", "label": "bug", "against": "access", "intercept": 0.0,
                   "fields": [{"field": "body", "contribution": 1.0, "terms": terms, "other_terms": 0.0}]}  # fmt: skip
    told = replace(prediction, explanation=explanation, input={"body": "Late, again! And again."})
    effects = tell(told, contract).effects
    assert effects is not None
    assert effects.sides == ("speaks for bug", "speaks for access")
    [message] = effects.fields
    assert [(piece.text, piece.amount) for piece in message.pieces] == [
        ("Late, again", 2.0), ("! And ", 0.0), ("again", -1.0), (".", 0.0),
    ]  # fmt: skip
    for without in ({"body": "nothing of it"}, {"body": None}, {}, None):
        effects = tell(replace(told, input=without), contract).effects
        assert effects is not None
        assert effects.fields[0].pieces == []


# ---- one answer beside another ----------------------------------------------------------------------------------


def test_what_differs_between_two_answers_is_said_row_by_row(prediction: Prediction, contract: Contract) -> None:
    [field] = [one for one in contract.fields if one.name == "open_tickets"]
    shares = dict.fromkeys(prediction.output["probabilities"], 0.1) | {"outage": 0.5}
    changed = replace(
        prediction,
        input={**(prediction.input or {}), "open_tickets": 40},
        output={"label": "outage", "confidence": 0.5, "probabilities": shares},
        decision="review",
        reasons=["low_confidence", "outside_seen"],
    )
    change = tell_change(prediction, changed, field)
    assert change.summary == "outage instead of bug."
    rows = {what: (before, after, differs) for what, before, after, differs in change.rows}
    assert list(rows) == ["Open tickets", "Model", "Confidence", "Decision", "Baseline"]
    assert rows["Open tickets"] == ("0", "40", True)
    assert rows["Model"] == ("bug", "outage", True)
    assert rows["Decision"][:2] == (
        "May be used as it is", "A person must look: low confidence, a value not seen in training",
    )  # fmt: skip
    assert rows["Baseline"][2] is False
    assert next(label for label, _ in change.shares) in ("bug", "outage")
    same = tell_change(prediction, prediction, field)
    assert same.summary == "The answer stays bug."
    assert not any(differs for *_, differs in same.rows)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_few_words_too(prediction: Prediction, contract: Contract, reason: str) -> None:
    changed = replace(prediction, decision="review", reasons=[reason])
    rows = tell_change(prediction, changed, contract.fields[0]).rows
    assert len(next(after for what, _, after, _ in rows if what == "Decision")) > len("A person must look: ")


def test_values_are_compared_with_their_unit_and_their_intervals(prediction: Prediction, contract: Contract) -> None:
    former = replace(prediction, output={"value": 100.0, "low": 90.0, "high": 110.0}, comparison=None)
    changed = replace(former, output={"value": 120.0, "low": 105.0, "high": 135.0})
    change = tell_change(former, changed, contract.fields[0], "EUR")
    assert change.summary == "120.0 EUR instead of 100.0 EUR."
    assert ("Interval", "90.0 to 110.0", "105.0 to 135.0", True) in change.rows
    assert change.shares == []
    assert tell_change(prediction, changed, contract.fields[0]).shares == []  # once it was labels, now it is a value


def test_of_two_long_values_what_differs_is_shown(prediction: Prediction, contract: Contract) -> None:
    [field] = [one for one in contract.fields if one.name == "body"]
    texts = ["x" * 900 + end for end in ("one" + "y" * 900, "two")]
    one, other = (replace(prediction, input={"body": text}) for text in texts)
    _, before, after, differs = tell_change(one, other, field).rows[0]
    assert differs
    assert before.startswith("…") and before.endswith("y…") and len(before) == CELL + 2
    assert after == "…" + "x" * 40 + "two"
    _, before, after, differs = tell_change(one, replace(one, input={"body": texts[0] + "z"}), field).rows[0]
    assert differs
    assert (before[-1], after[-1]) == ("y", "z")
