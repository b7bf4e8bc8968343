"""The rule that says when a release must stop, tested after every verdict.

The null is "the error rate is at most the limit", whatever it was before and whatever comes next. Against it stand
alternatives: RATES rates p from the limit to 1. After a verdict each has the likelihood ratio p / limit (wrong) or
(1 - p) / (1 - limit) (right), whose mean is 1 at most while the rate keeps to the limit. The detector of Shiryaev and
Roberts adds up the evidence of all beginnings, since nobody knows from which verdict on the rate was too high:

    R(n) = (1 + R(n - 1)) * ratio(n), and the evidence is the mean of R(n) over the alternatives, divided by the window

While the rate keeps to the limit, R(n) - n is a supermartingale: within any given number of verdicts R reaches c with a
chance of that number / c at most, and takes c verdicts on average (Shin, Ramdas, Rinaldo 2024, "E-detectors: a
nonparametric framework for sequential change detection", New England Journal of Statistics in Data Science 2, 229-260).
With c = window / (1 - confidence) that is a share of 1 - confidence of all windows, however often one looks, and a
release that did well for a year is found out as soon as a new one: an average since the beginning would first have to
outweigh all the good verdicts.

That holds for verdicts in the order in which they become known. In the order of the predictions a late verdict would
come between earlier ones and make new beginnings to look at. A verdict that changes what is held of an answer counts as
a new one, at its own time. What nothing can mend: people who choose what to judge by whether it looks wrong; the queue
hands out in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .policy import RollbackRule

RATES = 16  # alternatives to the limit
TOO_FEW, WITHIN, ABOVE = "too_few_verdicts", "within_limit", "above_limit"


@dataclass(frozen=True)
class Trigger:
    """The state of a rule after `n` verdicts, in order. `fired_at` counts the verdicts that it took, or is None."""

    n: int
    wrong: int
    evidence: float
    needed: float
    fired_at: int | None
    state: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def alternatives(limit: float) -> NDArray[np.float64]:
    """Return the rates above a limit that are tried, the closer to it the denser."""
    steps = (np.arange(RATES) + 0.5) / RATES
    return limit + (1 - limit) * steps**2


def needed(rule: RollbackRule) -> float:
    """Return the evidence that it takes."""
    return 1 / (1 - rule.confidence)


def evidence(rule: RollbackRule, wrong: Sequence[bool]) -> NDArray[np.float64]:
    """Return the evidence against the limit after each verdict."""
    bad = np.asarray(wrong, dtype=bool)[:, None]
    rates = alternatives(rule.limit)
    ratios = np.where(bad, np.log(rates / rule.limit), np.log1p(-rates) - np.log1p(-rule.limit))
    sums = np.cumsum(ratios, axis=0)
    begun = np.logaddexp.accumulate(ratios - sums, axis=0)  # of all beginnings: minus the sum before each
    found: NDArray[np.float64] = np.exp(np.minimum(sums + begun, 700.0)).mean(axis=1) / rule.window_verdicts
    return found


def fires_at(rule: RollbackRule, found: NDArray[np.float64], earliest: int = 1) -> int | None:
    """Return after how many verdicts a rule fires, given the evidence after each; None where it does not.

    `earliest` is the number of the first verdict that is not in the time of cooling down.
    """
    speaks = found >= needed(rule)
    run = rule.consecutive_failures
    if run > 1:
        long = np.convolve(speaks, np.ones(run, dtype=int))[: len(speaks)]
        speaks = long == run
    first = max(earliest, rule.minimum_verdicts, 1)
    later = np.flatnonzero(speaks[first - 1 :])
    return int(later[0]) + first if len(later) else None


def watch(rule: RollbackRule, wrong: Sequence[bool], earliest: int = 1) -> Trigger:
    """Return the state of the rule after verdicts in order, looking after each one; once fired it stays fired."""
    n = len(wrong)
    few = TOO_FEW if n < rule.minimum_verdicts else WITHIN
    if n == 0:
        return Trigger(0, 0, 0.0, needed(rule), None, few)
    found = evidence(rule, wrong)
    fired_at = fires_at(rule, found, earliest)
    state = few if fired_at is None else ABOVE
    return Trigger(n, sum(wrong), float(found[-1]), needed(rule), fired_at, state)


def evidence_words(found: float) -> str:
    """Return evidence to the digits that matter."""
    return "over a million" if found > 1e6 else f"{found:,.0f}" if found >= 1000 else f"{found:.3g}"
