"""The trigger fires on worse answers, not on looking often: its rates are what its rule states."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from reviewapp.policy import RollbackRule
from reviewapp.trigger import ABOVE, RATES, TOO_FEW, WITHIN, alternatives, evidence, fires_at, needed, watch

RULE = RollbackRule(limit=0.2)


def verdicts(rng: np.random.Generator, n: int, rate: float) -> list[bool]:
    return [bool(one) for one in rng.random(n) < rate]


def test_the_evidence_is_the_recursion_of_shiryaev_and_roberts() -> None:
    wrong = verdicts(np.random.default_rng(1), 300, 0.3)
    rates, sums, by_hand = alternatives(0.2), np.zeros(RATES), []
    for bad in wrong:
        sums = (1 + sums) * (rates / 0.2 if bad else (1 - rates) / 0.8)
        by_hand.append(sums.mean() / RULE.window_verdicts)
    assert evidence(RULE, wrong) == pytest.approx(by_hand, rel=1e-9)


def test_the_alternatives_lie_between_the_limit_and_one() -> None:
    for limit in (0.001, 0.2, 0.5, 0.999):
        rates = alternatives(limit)
        assert limit < rates.min() < rates.max() < 1
        assert (np.diff(rates) > 0).all()


@pytest.mark.parametrize("wrong", [True, False])
def test_evidence_stays_a_number_however_many_verdicts_there_are(wrong: bool) -> None:
    found = evidence(RULE, [wrong] * 20_000)
    assert np.isfinite(found).all()
    assert bool(found[-1] > 1e100) is wrong


@pytest.mark.parametrize(("limit", "confidence"), [(0.2, 0.95), (0.05, 0.95), (0.5, 0.9)])
def test_of_a_thousand_months_with_the_rate_just_under_the_limit_no_more_fire_than_the_rule_states(
    limit: float, confidence: float
) -> None:
    """A month is a window of verdicts, looked at after each one."""
    rule, rng = RollbackRule(limit=limit, confidence=confidence), np.random.default_rng(11)
    fired = sum(watch(rule, verdicts(rng, rule.window_verdicts, 0.98 * limit)).state == ABOVE for _ in range(1000))
    assert fired <= 1000 * (1 - confidence)


def test_a_quiet_year_makes_a_false_alarm_in_a_month_no_likelier() -> None:
    """One stream of 1,000 windows, begun anew after each alarm as the service does: fewer alarms than stated."""
    rule, rng, left, alarms = RULE, np.random.default_rng(12), 1000 * RULE.window_verdicts, 0
    while left > 0:
        fired = fires_at(rule, evidence(rule, verdicts(rng, min(left, 30_000), 0.98 * rule.limit)))
        alarms += fired is not None
        left -= fired or 30_000
    assert alarms <= 1000 * (1 - rule.confidence)


@pytest.mark.parametrize("good", [0, 1000])
def test_twice_the_limit_is_found_within_150_verdicts_in_95_of_100_runs_also_after_a_good_year(good: int) -> None:
    rng, needs = np.random.default_rng(13), []
    for _ in range(300):
        found = evidence(RULE, [*verdicts(rng, good, 0.07), *verdicts(rng, 600, 2 * RULE.limit)])
        needs.append((fires_at(RULE, found) or 10_000) - good)
    assert sorted(needs)[284] <= 150


def test_a_fixed_interval_that_is_looked_at_after_each_verdict_would_fire_by_chance() -> None:
    """Why there is a test of its own: the usual 95 % bound, at the limit itself, in windows as long."""
    rng, fired = np.random.default_rng(14), 0
    n = np.arange(1, RULE.window_verdicts + 1)
    for _ in range(200):
        share: NDArray[np.float64] = np.cumsum(verdicts(rng, len(n), RULE.limit)) / n
        low = share - 1.645 * np.sqrt(np.maximum(share * (1 - share), 1e-9) / n)
        fired += bool((low[RULE.minimum_verdicts - 1 :] > RULE.limit).any())
    assert fired > 200 * 0.15


@pytest.mark.parametrize(("n", "state"), [(0, TOO_FEW), (29, TOO_FEW), (30, WITHIN)])
def test_fewer_verdicts_than_the_rule_asks_for_decide_nothing(n: int, state: str) -> None:
    assert watch(RULE, [False] * n).state == state
    assert watch(replace(RULE, minimum_verdicts=0), []).state == WITHIN


def test_the_trigger_waits_for_the_minimum_and_stays_fired() -> None:
    assert watch(RULE, [True] * 29).state == TOO_FEW
    fired = watch(RULE, [True] * 30 + [False] * 500)
    assert (fired.state, fired.fired_at, fired.wrong, fired.n) == (ABOVE, 30, 30, 530)
    assert fired.needed == needed(RULE) == pytest.approx(20)


def test_a_rule_may_ask_for_several_looks_in_a_row() -> None:
    wrong = verdicts(np.random.default_rng(15), 400, 0.35)
    found, once = evidence(RULE, wrong), RULE
    thrice = replace(RULE, consecutive_failures=3)
    speaks = found >= 20
    expected = next(
        n for n in range(30, len(found) + 1) if speaks[max(0, n - 3) : n].all() and len(speaks[max(0, n - 3) : n]) == 3
    )
    assert fires_at(thrice, found) == expected
    assert fires_at(once, found) is not None
    assert expected >= (fires_at(once, found) or 0)


def test_while_it_cools_down_it_does_not_fire_and_what_it_learned_meanwhile_counts() -> None:
    wrong = [True] * 60
    assert watch(RULE, wrong, earliest=45).fired_at == 45
    assert watch(RULE, wrong, earliest=61).fired_at is None
