"""The policy says what goes to a person, and its threshold is the cheapest one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewapp.errors import ReleaseRefused
from reviewapp.policy import Policy, choose_threshold

from .small import RULE

POLICY = Policy(cost_wrong=10, cost_review=2, threshold=0.7, rollback=RULE)


@pytest.mark.parametrize(
    ("confidence", "outside", "disagree", "reasons"),
    [
        (0.7, False, False, []),
        (math.nextafter(0.7, 0), False, False, ["low_confidence"]),
        (0.9, True, False, ["outside_seen"]),
        (0.1, True, True, ["low_confidence", "outside_seen"]),
    ],
)
def test_reasons_are_named_in_a_fixed_order(confidence: float, outside: bool, disagree: bool, reasons: list) -> None:
    assert POLICY.reasons({"confidence": confidence}, outside_seen=outside, disagree=disagree) == reasons


def test_disagreement_and_the_unseen_count_only_where_the_policy_asks() -> None:
    strict = Policy(
        cost_wrong=1, cost_review=1, threshold=0, review_outside_seen=False, review_disagreement=True, rollback=RULE
    )
    assert strict.reasons({"confidence": 0.5}, outside_seen=True, disagree=True) == ["options_disagree"]


def cost(threshold: float, confidence: np.ndarray, right: list[bool]) -> float:
    return sum(2.0 if c < threshold else 0.0 if r else 10.0 for c, r in zip(confidence, right, strict=True))


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.4, 0.5, 0.5000001, 0.8, 0.99]), st.booleans()), max_size=12))
def test_no_other_threshold_is_cheaper(rows: list[tuple[float, bool]]) -> None:
    confidence, right = np.array([row[0] for row in rows]), [row[1] for row in rows]
    chosen = choose_threshold(confidence, right, 10.0, 2.0)
    best = min(cost(t, confidence, right) for t in [0.0, *confidence, 2.0])
    assert cost(chosen, confidence, right) == best


def test_nothing_is_answered_where_every_answer_costs_more_than_a_look() -> None:
    assert choose_threshold(np.array([0.9, 0.8]), [False, False], 10.0, 2.0) > 1


def test_audits_are_drawn_by_the_id_alone_at_the_stated_share() -> None:
    ids = [f"id-{i}" for i in range(20_000)]
    drawn = [POLICY.audited(one) for one in ids]
    assert drawn == [POLICY.audited(one) for one in ids]
    assert abs(sum(drawn) / len(ids) - POLICY.audit_share) < 0.01
    assert not any(replace(POLICY, audit_share=0.0).audited(one) for one in ids)
    assert all(replace(POLICY, audit_share=1.0).audited(one) for one in ids)


def test_a_policy_survives_being_written_and_read() -> None:
    assert Policy.from_json(POLICY.as_json()) == POLICY


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {**POLICY.as_json(), "more": 1},
        {**POLICY.as_json(), "threshold": "0.5"},
        {**POLICY.as_json(), "threshold": True},
        {**POLICY.as_json(), "cost_wrong": -1},
        {**POLICY.as_json(), "review_outside_seen": 1},
        {**POLICY.as_json(), "audit_share": 1.1},
        {**POLICY.as_json(), "primary_metric": "accuracy"},
        {**POLICY.as_json(), "rollback": None},
        {**POLICY.as_json(), "rollback": {"limit": 0.2}},
        {**POLICY.as_json(), "rollback": {**POLICY.as_json()["rollback"], "minimum_verdicts": 1.5}},
        {**POLICY.as_json(), "rollback": {**POLICY.as_json()["rollback"], "confidence": 1}},
        {**POLICY.as_json(), "rollback": {**POLICY.as_json()["rollback"], "window_days": 1_000_000}},
        {**POLICY.as_json(), "rollback": {**POLICY.as_json()["rollback"], "cool_down_hours": 10**12}},
        {**POLICY.as_json(), "rollback": {**POLICY.as_json()["rollback"], "consecutive_failures": 10**9}},
        {**POLICY.as_json(), "rollback": {**POLICY.as_json()["rollback"], "limit": 0}},
        {**POLICY.as_json(), "rollback": {**POLICY.as_json()["rollback"], "action": "hope"}},
    ],
)
def test_a_policy_that_cannot_be_understood_is_refused(document: object) -> None:
    with pytest.raises(ReleaseRefused, match=r"policy\.json"):
        Policy.from_json(document)
