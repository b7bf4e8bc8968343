"""What a rollback rule is worth, on synthetic verdicts: how often it fires on nothing, how soon it finds what is worse.

Many streams of verdicts run side by side, a row of an array each; after each verdict of all of them the rule is looked
at, as the service does (trigger.py), and a stream in which it fired begins anew. Two other tests look at the same
verdicts, for comparison: one of a fixed size, and one since the beginning. The same seed draws the same verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtri

from .monitoring import monitored
from .policy import Policy, RollbackRule
from .prediction import timestamp
from .release import Release
from .reviews import Judged, Reviews, Said
from .trigger import RATES, alternatives, needed

SEED = 20260131
MONTHS = 1000  # a month is a window of verdicts
SHARES = (0.5, 0.75, 0.9, 0.98, 1.0)  # of the limit: rates at which nothing is wrong
WORSE = (1.25, 1.5, 2.0, 3.0)  # times the limit: rates that are to be found
GOOD = (0, 1000)  # so many verdicts at a good rate come before
STREAMS = 20  # long ones, which share the months
SOON = 150  # verdicts
LONGEST = 10  # windows after which nobody waits any more
TRIED = (0.25, 0.5, 1.0, 1.5, 2.0)  # times the limit: rates that are estimated
HARDER = 0.4  # of the answers that would be right: so many are wrong among the requests that go to a person

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)  # of no importance

Row = dict[str, Any]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Traffic:
    """What is supposed of the requests: the share answered without a person, of these the share that is drawn and
    judged, and the share of these that is wrong while all is well."""

    automatic: float
    drawn: float
    wrong: float

    @property
    def judged(self) -> float:
        """The share of requests that leads to a verdict."""
        return self.automatic * self.drawn


def expected(policy: Policy, evaluation: Mapping[str, Any]) -> Traffic:
    """Return what the evaluation of a release says of its requests.

    Where it says nothing: all are answered without a person, and a third of the limit is wrong. What is well is half
    of the limit at most.
    """
    seen = evaluation.get("results", {}).get("test", {}).get("model", {})
    limit, right = policy.rollback.limit, seen.get("accuracy_of_automatic", seen.get("coverage"))
    wrong = limit / 3 if right is None else 1 - right
    return Traffic(1 - seen.get("referred", 0.0), policy.audit_share, min(wrong, limit / 2))


class _Streams:
    """The rule on many streams of verdicts at once."""

    def __init__(self, rule: RollbackRule, streams: int) -> None:
        rates = alternatives(rule.limit)
        self._rule, self._enough = rule, needed(rule) * rule.window_verdicts
        self._bad, self._good = rates / rule.limit, (1 - rates) / (1 - rule.limit)
        self._evidence = np.zeros((streams, RATES))
        self._seen, self._run = np.zeros((2, streams), dtype=np.int64)

    def look(self, wrong: Flags) -> Flags:
        """Take one more verdict of each stream, and return where the rule fires; there it begins anew."""
        with np.errstate(over="ignore"):  # without end is enough
            self._evidence = (self._evidence + 1) * np.where(wrong[:, None], self._bad, self._good)
        speaks = self._evidence.mean(axis=1) >= self._enough
        self._seen += 1
        self._run = np.where(speaks, self._run + 1, 0)
        fired = (self._run >= self._rule.consecutive_failures) & (self._seen >= self._rule.minimum_verdicts)
        for kept in (self._evidence, self._seen, self._run):
            kept[fired] = 0
        return fired


# ---- false alarms -----------------------------------------------------------------------------------------------


def false_alarms(rule: RollbackRule, months: int = MONTHS, seed: int = SEED) -> list[Row]:
    """Return how often the rule fires while the true rate is the limit at most.

    `alone` is the share of months in which it does, each begun from nothing; `long` is how often it does in a month of
    long streams, each begun anew after each alarm. `fixed` is the share of months in which a test of the same
    confidence and of a fixed size (the score test, whose interval is Wilson's) would, looked at after each verdict.
    """
    rows = []
    bound = _of_fixed_size(rule)
    for number, share in enumerate(SHARES):
        rng, rate = np.random.default_rng([seed, number]), share * rule.limit
        streams, wrong = _Streams(rule, months), np.zeros(months, dtype=np.int64)
        fired, fixed = np.zeros((2, months), dtype=np.bool_)
        for n in range(rule.window_verdicts):
            bad = rng.random(months) < rate
            wrong += bad
            fired |= streams.look(bad)
            fixed |= wrong >= bound[n]
        row = {"of_limit": share, "rate": rate, "alone": float(fired.mean())}
        rows.append(row | {"long": _alarms(rule, rate, months, rng), "fixed": float(fixed.mean())})
    return [row | {"stated": 1 - rule.confidence, "months": months} for row in rows]


def _alarms(rule: RollbackRule, rate: float, months: int, rng: np.random.Generator) -> float:
    """Return how often it fires in a month of long streams."""
    n = min(STREAMS, months)
    each, streams, alarms = months // n, _Streams(rule, n), 0
    for _ in range(each * rule.window_verdicts):
        alarms += int(streams.look(rng.random(n) < rate).sum())
    return alarms / (n * each)


def _of_fixed_size(rule: RollbackRule) -> Counts:
    """Return how many of the first n verdicts of a window, n = 1, 2 …, must be wrong for a test of a fixed size."""
    n, limit = np.arange(1, rule.window_verdicts + 1), rule.limit
    enough = np.floor(n * limit + ndtri(rule.confidence) * np.sqrt(n * limit * (1 - limit))).astype(np.int64) + 1
    return np.where(n < rule.minimum_verdicts, n + 1, enough)


# ---- power ------------------------------------------------------------------------------------------------------


def power(rule: RollbackRule, traffic: Traffic, runs: int = MONTHS, seed: int = SEED) -> list[Row]:
    """Return how many verdicts, and how many requests, pass between a worsening and the trigger.

    Which answers are drawn is up to chance, request by request. A figure is None where the rule has not fired within
    LONGEST windows in that share of runs. `since` is the median of a test since the beginning: the same alternatives,
    without the new beginnings.
    """
    rows = []
    for number, (before, times) in enumerate(product(GOOD, _possible(rule.limit, WORSE))):
        rng, rate = np.random.default_rng([seed, 100 + number]), times * rule.limit
        found, since = _found(rule, runs, before, (traffic.wrong, rate), rng)
        asked = found + _between(found, traffic.judged, rng)
        row: Row = {"good_before": before, "of_limit": times, "rate": rate}
        row |= {"median": _within(found, found, 0.5), "most": _within(found, found, 0.95)}
        if traffic.judged:
            row |= {"requests_median": _within(asked, found, 0.5), "requests_most": _within(asked, found, 0.95)}
        else:
            row |= {"requests_median": None, "requests_most": None}
        row |= {"soon": float(((found > 0) & (found <= SOON)).mean()), "never": float((found == 0).mean())}
        rows.append(row | {"since": _within(since, since, 0.5), "runs": runs})
    return rows


def _found(
    rule: RollbackRule, runs: int, before: int, rates: tuple[float, float], rng: np.random.Generator
) -> tuple[Counts, Counts]:
    """Return after how many verdicts at the second rate each run is found, by the rule and since the beginning; or 0.

    So many verdicts at the first rate come before.
    """
    longest = LONGEST * rule.window_verdicts
    streams, bound = _Streams(rule, runs), _since_beginning(rule, before + longest)
    wrong, found, since = np.zeros((3, runs), dtype=np.int64)
    for n in range(1 - before, longest + 1):  # up to 0 all is well
        bad = rng.random(runs) < rates[n > 0]
        wrong += bad
        if found.all():
            if since.all():
                break
        else:
            fired = streams.look(bad)
            found[fired & (found == 0) & (n > 0)] = n
        since[(wrong >= bound[before + n - 1]) & (since == 0) & (n > 0)] = n
    return found, since


def _possible(limit: float, times: Sequence[float]) -> list[float]:
    """Return those multiples of a limit that a rate can have."""
    return [one for one in times if one * limit < 1]


def _between(verdicts: Counts, judged: float, rng: np.random.Generator) -> Counts:
    """Return how many requests pass that lead to no verdict, before so many that do."""
    if not judged:
        return np.zeros_like(verdicts)
    missed = rng.negative_binomial(np.maximum(verdicts, 1), judged)
    return np.where(verdicts > 0, missed, 0)


def _within(values: Counts, found: Counts, share: float) -> int | None:
    """Return the least value that this share of all runs does not exceed; those in which nothing was found do."""
    ordered = np.sort(values[found > 0])
    rank = math.ceil(share * len(values)) - 1
    return int(ordered[rank]) if rank < len(ordered) else None


def _since_beginning(rule: RollbackRule, most: int) -> Counts:
    """Return how many of the first n verdicts, n = 1 … most, must be wrong for a test since the beginning.

    The mean over the alternatives of the likelihood ratio of all verdicts is a martingale, which reaches c with a
    chance of 1 / c at most (Ville 1939). It grows with the wrong ones, so the least number is found by halving.
    """
    n, rates = np.arange(1, most + 1), alternatives(rule.limit)
    bad, good = np.log(rates / rule.limit), np.log1p(-rates) - np.log1p(-rule.limit)
    low, high = np.zeros(most, dtype=np.int64), n + 1  # n + 1 is never reached
    while (low < high).any():
        wrong = np.minimum((low + high) // 2, n)
        sums = wrong[:, None] * bad + (n - wrong)[:, None] * good
        enough = logsumexp(sums, axis=1) >= math.log(needed(rule) * RATES)
        low, high = np.where(enough, low, np.minimum(wrong + 1, high)), np.where(enough, wrong, high)
    return np.where(n < rule.minimum_verdicts, n + 1, low)


# ---- is the estimate right? -------------------------------------------------------------------------------------


def unbiased(release: Release, traffic: Traffic, runs: int = 500, requests: int = 2000, seed: int = SEED) -> list[Row]:
    """Return what `monitor` estimates where the truth is known: what goes to a person is wrong oftener, and all of it
    is judged, but of the automatic answers only those that are drawn.

    `estimate` and `overall` are means over the runs, `_off` by how many of their own standard errors the mean is off
    the truth, `_low` and `_high` hold the middle 95 % of the runs, `_covered` is the share of runs whose interval held
    the truth. `plain` is the share of wrong verdicts. Runs in which nothing was drawn estimate nothing and are left
    out; there is no row where that is all of them.
    """
    rows: list[Row] = []
    said, limit = _all_that_may_be_said(requests), release.policy.rollback.limit
    for number, times in enumerate(_possible(limit, TRIED)):
        rng, rate = np.random.default_rng([seed, 200 + number]), times * limit
        harder = rate + (1 - rate) * HARDER
        truth = traffic.automatic * rate + (1 - traffic.automatic) * harder
        tried = (_estimates(release, traffic, (rate, harder), said, rng) for _ in range(runs))
        found = np.array([one for one in tried if one is not None])
        if len(found) < 2:
            continue
        row: Row = {"of_limit": times, "rate": rate, "rate_of_referred": harder, "rate_of_all": truth}
        row |= {"runs": len(found), "requests": requests}
        row |= _summed("estimate", found[:, 0:3], rate) | _summed("overall", found[:, 3:6], truth)
        plain = found[:, 6]
        low, high = np.quantile(plain, (0.025, 0.975))
        rows.append(row | {"plain": float(plain.mean()), "plain_low": float(low), "plain_high": float(high)})
    return rows


def _summed(name: str, found: NDArray[np.float64], truth: float) -> Row:
    """Return the mean of estimates (value, low, high), how far it is off, the middle 95 %, and how many held it."""
    value, low, high = found.T
    error, middle = value.std(ddof=1) / math.sqrt(len(value)), np.quantile(value, (0.025, 0.975))
    return {
        name: float(value.mean()),
        f"{name}_off": float((value.mean() - truth) / error) if error else None,
        f"{name}_low": float(middle[0]),
        f"{name}_high": float(middle[1]),
        f"{name}_covered": float(((low <= truth) & (truth <= high)).mean()),
    }


_Said = Mapping[tuple[bool, bool], Sequence[Judged]]


def _estimates(
    release: Release, traffic: Traffic, rates: tuple[float, float], may: _Said, rng: np.random.Generator
) -> list[float] | None:
    """Answer requests, let people judge, and return value, low and high of the metric and of all answers, and the plain
    share of wrong verdicts; None where nothing was drawn.

    `rates` are those of wrong answers given without a person, and to what goes to one.
    """
    requests = len(may[True, True])
    referred = rng.random(requests) >= traffic.automatic
    drawn = ~referred & (rng.random(requests) < traffic.drawn)
    wrong = rng.random(requests) < np.where(referred, rates[1], rates[0])
    if not drawn.any():
        return None
    said = [may[bool(drawn[i]), bool(wrong[i])][i] for i in np.flatnonzero(referred | drawn).tolist()]
    counts = {"auto": int((~referred).sum()), "review": int(referred.sum())}
    found = monitored(release, Reviews(counts, int(drawn.sum()), said), now=NOON)
    told = [found[name][part] for name in ("metric", "overall") for part in ("value", "low", "high")]
    return [*told, float(wrong[referred | drawn].mean())]


def _all_that_may_be_said(requests: int) -> _Said:
    """Return each request as judged, by whether its answer was drawn (else it went to a person) and was wrong."""
    times = [timestamp(NOON - timedelta(milliseconds=requests - i)) for i in range(requests)]
    output = {"label": ""}

    def one(i: int, *, drawn: bool, wrong: bool) -> Judged:
        said = Said(i, "disagree" if wrong else "agree", None, None, "", times[i], blind=False)
        return Judged(str(i), output, drawn, not drawn, "", said=(said,))

    return {
        (drawn, wrong): [one(i, drawn=drawn, wrong=wrong) for i in range(requests)]
        for drawn, wrong in product((True, False), repeat=2)
    }
