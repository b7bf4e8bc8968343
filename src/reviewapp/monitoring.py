"""The monitoring metric and the rollback trigger of a release, from what the ledger holds.

The metric is the share of wrong answers among those that were used without a person. Verdicts on what went to a
person anyway say nothing of the others, so it is estimated from the audit alone: automatic answers drawn by lot, each
with the same probability (`audit_share`), which makes the plain share of wrong ones the Horvitz-Thompson estimate.

The trigger tests "the error rate is at most the limit" after every verdict, so a fixed-size interval would fire by
chance sooner or later. `evidence_above` is a likelihood ratio averaged over all rates above the limit; while the rate
is at or below it, such a ratio ever reaches 1/(1 - confidence) with a probability of 1 - confidence at most,
however often one looks (Ville 1939; Robbins 1970, "Statistical methods related to the law of the iterated logarithm").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import betaincc, betaln
from scipy.stats import fisher_exact

from .evaluation import wilson
from .ledger import Ledger
from .policy import RollbackRule
from .prediction import Prediction, Verdict
from .release import Release

MOVED = 0.001  # a share that differs from the evaluation's with less chance than this is said to have moved
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


def evidence_above(limit: float, wrong: int, n: int) -> float:
    """Return how much likelier `wrong` of `n` are under a rate drawn evenly from (limit, 1] than under the limit.

    The limit lies between 0 and 1, and is neither.
    """
    a, b = wrong + 1, n - wrong + 1
    tail = float(betaincc(a, b, limit))
    if tail == 0:
        return 0.0
    log_limit = wrong * math.log(limit) + (n - wrong + 1) * math.log1p(-limit)
    return math.exp(min(float(betaln(a, b)) + math.log(tail) - log_limit, 700.0))


def watch(rule: RollbackRule, wrong: Sequence[bool]) -> Trigger:
    """Return the state of the rule after verdicts in order, looking after each one; once fired it stays fired."""
    needed = 1 / (1 - rule.confidence)
    bad, best, fired_at = 0, 0.0, None
    for n, this_one in enumerate(wrong, 1):
        bad += this_one
        best = max(best, evidence_above(rule.limit, bad, n))
        if fired_at is None and n >= rule.minimum_verdicts and best >= needed:
            fired_at = n
    few = len(wrong) < rule.minimum_verdicts
    state = ABOVE if fired_at is not None else TOO_FEW if few else WITHIN
    return Trigger(len(wrong), bad, best, needed, fired_at, state)


def is_wrong(prediction: Prediction) -> bool | None:
    """Return whether a person found an answer wrong; None where nobody judged it, or could not tell."""
    given = prediction.verdict
    if given is None or given.verdict == "unsure":
        return None
    if given.verdict == "corrected":
        return not _allows(prediction.output, given)
    return given.verdict == "disagree"


def _allows(output: Mapping[str, Any], right: Verdict) -> bool:
    """Whether an output was right after all: the same label, or an interval that holds the right value."""
    if right.value is None:
        return bool(output.get("label") == right.label)
    return bool(output["low"] <= right.value <= output["high"])


def monitor(release: Release, ledger: Ledger) -> dict[str, Any]:
    """Return the metric of a release with its interval, the trigger's state, and the share that goes to a person.

    That share needs no verdict: where it leaves what the evaluation expects, the requests are no longer the same.
    """
    rule = release.policy.rollback
    drawn = ledger.audited(release.id)
    judged = [found for found in map(is_wrong, drawn) if found is not None]
    trigger = watch(rule, judged)
    counts = ledger.counts(release.id)
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
            "drawn": len(drawn),
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
