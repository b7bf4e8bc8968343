"""The metric counts what it says, and the trigger fires on worse answers, not on looking often."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reviewapp.adapter import ModelAdapter
from reviewapp.ledger import Ledger
from reviewapp.monitoring import ABOVE, TOO_FEW, WITHIN, evidence_above, is_wrong, monitor, tell_monitor, watch, wilson
from reviewapp.policy import RollbackRule
from reviewapp.prediction import Call, Verdict, timestamp, utcnow
from reviewapp.release import Release
from reviewapp.store import Store
from reviewapp.triage import generator

from .conftest import Clock
from .test_ledger import prediction, verdict

RULE = RollbackRule(limit=0.2)


def test_a_wilson_interval_is_the_textbook_one() -> None:
    low, high = wilson(10, 100)
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_evidence_is_the_averaged_likelihood_ratio() -> None:
    # by hand: the mean over r in (0.5, 1] of r^2 / 0.5^2 is (1 - 1/8) / 3 / 0.5 / 0.25
    assert evidence_above(0.5, 2, 2) == pytest.approx(7 / 3)
    assert evidence_above(0.2, 0, 0) == pytest.approx(1.0)
    assert evidence_above(0.2, 0, 100_000) == 0.0
    assert evidence_above(0.2, 100_000, 100_000) > 1e100


def test_looking_after_every_verdict_fires_no_oftener_than_the_confidence_allows() -> None:
    rng = random.Random(1)
    fired = [watch(RULE, [rng.random() < RULE.limit for _ in range(300)]).state == ABOVE for _ in range(200)]
    assert sum(fired) <= 10  # 5 % of 200, with the true rate at the limit itself


def test_twice_the_limit_is_found_soon() -> None:
    rng = random.Random(1)
    needed = [watch(RULE, [rng.random() < 2 * RULE.limit for _ in range(400)]).fired_at or 401 for _ in range(100)]
    assert sorted(needed)[94] <= 150


@pytest.mark.parametrize(("n", "state"), [(0, TOO_FEW), (29, TOO_FEW), (30, WITHIN)])
def test_fewer_verdicts_than_the_rule_asks_for_decide_nothing(n: int, state: str) -> None:
    assert watch(RULE, [False] * n).state == state


def test_the_trigger_waits_for_the_minimum_and_stays_fired() -> None:
    assert watch(RULE, [True] * 29).state == TOO_FEW
    fired = watch(RULE, [True] * 30 + [False] * 500)
    assert (fired.state, fired.fired_at) == (ABOVE, 30)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ([], None),
        ([("unsure", None)], None),
        ([("agree", None)], False),
        ([("disagree", None)], True),
        ([("corrected", "b")], True),
        ([("corrected", "a")], False),  # the right answer is the one that was given
        ([("disagree", None), ("withdrawn", None)], None),
        ([("disagree", None), ("agree", None)], False),
    ],
)
def test_the_verdict_that_holds_says_whether_an_answer_was_wrong(given: list, wrong: bool | None, clock: Clock) -> None:
    verdicts = [verdict(kind, clock, label=label) for kind, label in given]
    assert is_wrong(prediction(clock, verdicts=verdicts)) is wrong


@pytest.fixture
def judged(release: Release, store: Store) -> Callable[..., dict[str, Any]]:
    """Answer generated requests, let a person who knows the label judge what is drawn, and return the monitor."""

    def run(n: int, seed: int, refiled: dict[str, str] | None = None, *, drifted: bool = False) -> dict[str, Any]:
        ledger = Ledger(store)
        drawn = replace(release, policy=replace(release.policy, audit_share=0.25))
        examples = generator.generate(n, seed, drifted=drifted)
        made = ModelAdapter(drawn).predict([one.record for one in examples], Call(dry_run=True))
        # ids that are the same in every run: from them follows what is drawn
        named = [replace(one, id=f"{seed}-{i}") for i, one in enumerate(made)]
        rows = [replace(one, audit=one.decision == "auto" and drawn.policy.audited(one.id)) for one in named]
        ledger.add_predictions(rows, Call())
        for example, answer in zip(examples, rows, strict=True):
            if answer.audit:
                label = (refiled or {}).get(example.label, example.label)
                right = answer.output["label"] == label
                ledger.add_verdict(
                    answer.id,
                    Verdict("agree" if right else "corrected", None if right else label, None, [], None, "ann",
                            timestamp(utcnow())),
                )  # fmt: skip
        return monitor(drawn, ledger)

    return run


def test_a_desk_that_files_requests_elsewhere_fires_the_trigger(judged: Callable[..., dict[str, Any]]) -> None:
    """No request shows this change; only the verdicts on audited answers do."""
    found = judged(2500, 5, generator.REFILED)
    assert found["trigger"]["state"] == ABOVE
    assert found["metric"]["low"] > found["trigger"]["limit"]
    assert not found["referred"]["moved"]
    assert "FIRED" in tell_monitor(found)


def test_requests_that_drift_away_go_to_a_person_before_anyone_has_judged_one(
    judged: Callable[..., dict[str, Any]],
) -> None:
    """The answers still given without a person stay right more often than the limit asks, so the trigger is quiet."""
    found = judged(600, 6, drifted=True)
    assert found["referred"]["moved"]
    assert found["referred"]["low"] > found["referred"]["expected"]
    assert found["trigger"]["state"] == WITHIN
    assert "not what they were at evaluation" in tell_monitor(found)


def test_the_world_as_it_was_leaves_everything_quiet(judged: Callable[..., dict[str, Any]]) -> None:
    found = judged(600, 7)
    assert found["trigger"]["state"] == WITHIN
    assert not found["referred"]["moved"]
    assert found["metric"]["drawn"] == found["metric"]["verdicts"] > 100


def test_only_what_was_drawn_counts(release: Release, ledger: Ledger, clock: Clock) -> None:
    rows = [
        prediction(clock, release=release.id, audit=True),
        prediction(clock, release=release.id),
        prediction(clock, release=replace(release.id, digest="sha256:other"), audit=True),
    ]
    ledger.add_predictions(rows, Call())
    for row in rows:
        ledger.add_verdict(row.id, verdict("disagree", clock))
    found = monitor(release, ledger)
    assert (found["metric"]["drawn"], found["metric"]["wrong"], found["referred"]["predictions"]) == (1, 1, 2)


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)
