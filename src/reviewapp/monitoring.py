"""The monitoring metric and the rollback trigger of a release, from what the ledger holds.

The metric is the share of wrong answers among those that were used without a person. Verdicts on what went to a
person anyway say nothing of the others, so it is estimated from the audit alone: automatic answers drawn by lot, each
with the same probability (`audit_share`), which makes the plain share of wrong ones the Horvitz-Thompson estimate.

The trigger tests "the error rate is at most the limit" after every verdict, so a fixed-size interval would fire by
chance sooner or later. `evidence_above` is a likelihood ratio averaged over all rates above the limit; while the rate
is at or below it, such a ratio ever reaches 1/(1 - confidence) with a probability of 1 - confidence at most,
however often one looks (Ville 1939; Robbins 1970, "Statistical methods related to the law of the iterated logarithm").

That holds for verdicts in the order in which they become known. In the order of the predictions a late verdict would
come between earlier ones and make new beginnings to look at: with the rate at the limit, 200 verdicts and an answer
judged at random, that fires in 15 % of runs, with the newest judged first in 74 %, where 5 % is promised and the order
of the verdicts gives 3 %. A verdict that changes what is held of an answer counts as a new one, at its own time. What
nothing can mend: people who choose what to judge by whether it looks wrong; the queue hands out in order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaln
from scipy.stats import fisher_exact

from .evaluation import wilson
from .ledger import Ledger
from .policy import RollbackRule
from .prediction import Prediction
from .release import Release
from .reviews import Reviews, rejects

MOVED = 0.001  # a share that differs from the evaluation's with less chance than this is said to have moved
POINTS = 40  # so many of a course are shown
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


@dataclass(frozen=True)
class Point:
    """What was known after `n` verdicts, the last of them given at `at`; `evidence` is the highest so far."""

    n: int
    at: str
    wrong: int
    value: float
    low: float
    high: float
    evidence: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def evidence_above(limit: float, wrong: int, n: int) -> float:
    """Return how much likelier `wrong` of `n` are under a rate drawn evenly from (limit, 1] than under the limit.

    The limit lies between 0 and 1, and is neither.
    """
    return float(_evidence(limit, np.array([wrong]), np.array([n]))[0])


def _evidence(limit: float, wrong: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    a, b = wrong + 1, n - wrong + 1
    tail = betaincc(a, b, limit)
    log_limit = wrong * math.log(limit) + (n - wrong + 1) * math.log1p(-limit)
    log_tail = np.log(tail, where=tail > 0, out=np.full(tail.shape, -np.inf))
    found: NDArray[np.float64] = np.exp(np.minimum(betaln(a, b) + log_tail - log_limit, 700.0))
    return found


def _highest(rule: RollbackRule, wrong: Sequence[bool]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many were wrong, and the highest evidence so far, after each verdict."""
    bad = np.cumsum(np.asarray(wrong, dtype=np.int64))
    return bad, np.maximum.accumulate(_evidence(rule.limit, bad, np.arange(1, len(bad) + 1)))


def watch(rule: RollbackRule, wrong: Sequence[bool]) -> Trigger:
    """Return the state of the rule after verdicts in order, looking after each one; once fired it stays fired."""
    needed, n = 1 / (1 - rule.confidence), len(wrong)
    if n == 0:
        return Trigger(0, 0, 0.0, needed, None, TOO_FEW if rule.minimum_verdicts else WITHIN)
    bad, best = _highest(rule, wrong)
    fired_at = max(rule.minimum_verdicts, int(np.argmax(best >= needed)) + 1) if best[-1] >= needed else n + 1
    state = ABOVE if fired_at <= n else TOO_FEW if n < rule.minimum_verdicts else WITHIN
    return Trigger(n, int(bad[-1]), float(best[-1]), needed, fired_at if fired_at <= n else None, state)


def is_wrong(prediction: Prediction) -> bool | None:
    """Return whether a person found an answer wrong; None where nobody judged it, or could not tell."""
    return None if prediction.verdict is None else rejects(prediction.verdict, prediction.output)


def monitor(release: Release, ledger: Ledger) -> dict[str, Any]:
    """Return the metric of a release with its interval, the trigger's state, and the share that goes to a person.

    That share needs no verdict: where it leaves what the evaluation expects, the requests are no longer the same.
    """
    return monitored(release, ledger.reviews(release.id))


def monitored(release: Release, reviews: Reviews) -> dict[str, Any]:
    """Return what `monitor` does, from reviews that are read already."""
    rule = release.policy.rollback
    trigger = watch(rule, [wrong for _, wrong in reviews.known])
    counts = reviews.predictions
    n, referred = sum(counts.values()), counts.get("review", 0)
    low, high = wilson(trigger.wrong, trigger.n)
    referred_low, referred_high = wilson(referred, n)
    evaluated = release.evaluation.get("results", {}).get("test", {}).get("model", {})
    return {
        "release": release.id.as_json(),
        "metric": {
            "name": rule.metric,
            "value": trigger.wrong / trigger.n if trigger.n else None,
            "low": low,
            "high": high,
            "verdicts": trigger.n,
            "wrong": trigger.wrong,
            "drawn": reviews.drawn,
        },
        "trigger": {
            "state": trigger.state,
            "limit": rule.limit,
            "confidence": rule.confidence,
            "minimum_verdicts": rule.minimum_verdicts,
            "evidence": trigger.evidence,
            "needed": trigger.needed,
            "fired_at": trigger.fired_at,
            "action": rule.action,
        },
        "referred": {
            "predictions": n,
            "value": referred / n if n else None,
            "low": referred_low,
            "high": referred_high,
            "expected": evaluated.get("referred"),
            "moved": _differ(referred, n, evaluated),
        },
    }


def course(rule: RollbackRule, reviews: Reviews, fired_at: int | None = None) -> list[Point]:
    """Return the metric over time: at most POINTS verdicts, evenly chosen, with the last one and the one that fired."""
    given = reviews.known
    if not given:
        return []
    bad, best = _highest(rule, [wrong for _, wrong in given])
    even = np.linspace(1, len(given), min(len(given), POINTS - 1)).round().astype(int)
    chosen = sorted({*even.tolist(), *([] if fired_at is None else [fired_at])})
    return [
        Point(n, given[n - 1][0], wrong, wrong / n, *wilson(wrong, n), float(best[n - 1]))
        for n, wrong in ((n, int(bad[n - 1])) for n in chosen)
    ]


def kinds(reviews: Reviews) -> dict[str, int]:
    """Return how many of the audited answers each kind of verdict holds for, and how many wait for one."""
    held = Counter(one.holds for one in reviews.judged if one.audit)
    found = {kind: held[kind] for kind in ("agree", "corrected", "disagree", "unsure")}
    return {"drawn": reviews.drawn, **found, "waiting": reviews.drawn - sum(found.values())}


def _differ(hits: int, n: int, evaluated: Mapping[str, Any]) -> bool:
    """Whether a share differs from the one at evaluation, itself measured on n requests (Fisher's exact test)."""
    if n == 0 or not {"n", "referred"} <= set(evaluated):
        return False
    then, of = round(evaluated["n"] * evaluated["referred"]), evaluated["n"]
    return bool(fisher_exact([[hits, n - hits], [then, of - then]]).pvalue < MOVED)


def tell_monitor(found: dict[str, Any]) -> str:
    """Return the figures of `monitor` in words, one line a subject."""
    metric, trigger, referred = found["metric"], found["trigger"], found["referred"]
    release = f"{found['release']['name']}/{found['release']['version']}"
    asked = f"{metric['drawn']} automatic answers drawn, {metric['verdicts']} of them judged"
    lines = [f"{release}: {asked}, {metric['wrong']} wrong."]
    if metric["value"] is not None:
        share = f"{metric['value']:.3f} (95 % interval {metric['low']:.3f} to {metric['high']:.3f})"
        lines.append(f"Error rate of what was answered without a person: {share}; the limit is {trigger['limit']:g}.")
    evidence = f"evidence {min(trigger['evidence'], 1e6):.2f} of the {trigger['needed']:.0f} that it takes"
    state = {
        TOO_FEW: f"waits for {trigger['minimum_verdicts']} verdicts ({evidence})",
        WITHIN: f"quiet ({evidence})",
        ABOVE: f"FIRED after {trigger['fired_at']} verdicts: roll back, `reviewapp rollback --reason …`",
    }[trigger["state"]]
    lines.append(f"Trigger: {state}.")
    if referred["value"] is not None:
        share = f"{referred['value']:.3f} (95 % interval {referred['low']:.3f} to {referred['high']:.3f})"
        told = "" if referred["expected"] is None else f"; the evaluation expects {referred['expected']:.3f}"
        moved = " The requests are not what they were at evaluation." if referred["moved"] else ""
        lines.append(f"Share that goes to a person: {share} of {referred['predictions']}{told}.{moved}")
    return "\n".join(lines)
