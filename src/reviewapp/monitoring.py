"""The monitoring metric of what answers now, and the state of the rollback trigger, from what the ledger holds.

The metric is the share of wrong answers among those that were used without a person. Verdicts on what went to a person
anyway say nothing of the others, so it is estimated from the audit alone: automatic answers drawn by lot, each with the
same probability (`audit_share`). Weighted by one over that (Horvitz and Thompson 1952, "A generalization of sampling
without replacement from a finite universe", JASA 47; Hajek's ratio), it is the share of wrong ones among them.

`overall` is the error rate if every answer were used: both parts, each judged by its own verdicts, weighted by how
many answers it has. The plain share of wrong verdicts would weigh what went to a person, which is judged as a whole and
wrong more often, far too much.

Intervals are of 95 %: Wilson's of shares; of the weighted sum that of Zou and Donner (2008), "Construction of
confidence limits about effect measures", Statistics in Medicine 27. They hold for one look; what may be looked at after
each verdict is the trigger's evidence (trigger.py).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from .evaluation import wilson
from .ledger import Ledger
from .policy import RollbackRule
from .prediction import Prediction, timestamp, utcnow
from .release import Release
from .releaselog import ROLLED_BACK, ReleaseEvent, Standing
from .reliance import reliance, tell_reliance
from .reviews import Reviews, rejects
from .trigger import ABOVE, TOO_FEW, WITHIN, Trigger, evidence, watch

MOVED = 0.001  # a share that differs from the evaluation's with less chance than this is said to have moved
POINTS = 40  # so many of a course are shown

Share = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """What was known after `n` verdicts, the last of them given at `at`, of those in the window that ends there."""

    n: int
    at: str
    wrong: int
    value: float
    low: float
    high: float
    evidence: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def is_wrong(prediction: Prediction) -> bool | None:
    """Return whether a person found an answer wrong; None where nobody judged it, or could not tell."""
    return None if prediction.verdict is None else rejects(prediction.verdict, prediction.output)


def monitor(
    release: Release, ledger: Ledger, standing: Standing | None = None, now: datetime | None = None
) -> dict[str, Any]:
    """Return the metric of a release with its interval, the trigger's state, and the share that goes to a person.

    That share needs no verdict: where it leaves what the evaluation expects, the requests are no longer the same.
    `standing` says since when the release answers, and with which option; without it: always, with the model.
    """
    seen = standing or Standing(release.id)
    return monitored(release, ledger.reviews(release.id, seen.after), seen, now)


def monitored(
    release: Release, reviews: Reviews, standing: Standing | None = None, now: datetime | None = None
) -> dict[str, Any]:
    """Return what `monitor` does, from reviews that are read already."""
    seen, at = standing or Standing(release.id), utcnow() if now is None else now
    rule, all_judged, reviews = release.policy.rollback, reviews.judged, reviews.of(seen.option)
    counts = reviews.predictions
    n, referred = sum(counts.values()), counts.get("review", 0)
    evaluated = release.evaluation.get("results", {}).get("test", {}).get(seen.option, {})
    return {
        "release": release.id.as_json(),
        "answers_with": seen.option,
        "metric": {"name": rule.metric, **_metric(rule, reviews, at), "drawn": reviews.drawn},
        "overall": _overall(reviews, _window(rule, reviews, at)),
        "trigger": _trigger(rule, reviews, seen, at),
        "referred": {
            "predictions": n,
            **_share(referred, n),
            "expected": evaluated.get("referred"),
            "moved": _differ(referred, n, evaluated),
        },
        "shadow": _shadow(reviews) if seen.option != "model" else None,
        "reliance": reliance(all_judged, release.policy.blind),
    }


def trigger_of(rule: RollbackRule, reviews: Reviews, fired_before: str | None = None) -> Trigger:
    """Return the state of a rule of the model's answers.

    `fired_before` is when it last did: it does not again before it has cooled down.
    """
    earliest = cooled(rule, [at for at, _ in reviews.known], fired_before)
    return watch(rule, [wrong for _, wrong in reviews.known], earliest)


def cooled(rule: RollbackRule, times: Sequence[str], fired_before: str | None) -> int:
    """Return the number of the first verdict that comes after the time of cooling down; `times` are in order."""
    return 1 if fired_before is None else 1 + bisect_left(times, _cool(rule, fired_before))


def _cool(rule: RollbackRule, fired_before: str) -> str:
    return timestamp(datetime.fromisoformat(fired_before) + timedelta(hours=rule.cool_down_hours))


def _trigger(rule: RollbackRule, reviews: Reviews, seen: Standing, now: datetime) -> dict[str, Any]:
    """Return the state of the trigger: what it was when it fired, if it did and nobody has moved anything since.

    Where it has led back to another release, that one has a state of its own.
    """
    not_before = None
    if seen.fired is None or seen.fired.kind == ROLLED_BACK:
        state = trigger_of(rule, reviews, seen.fired_before)
        if seen.fired_before is not None and state.state != ABOVE:
            held = state.evidence >= state.needed and trigger_of(rule, reviews).state == ABOVE
            state = replace(state, state=ABOVE) if held else state  # though nothing is done about it yet
            until = _cool(rule, seen.fired_before)
            not_before = until if held or timestamp(now) < until else None
        found = state.as_json()
    else:
        found = seen.fired.figures["trigger"]
    return {
        "state": found["state"],
        "limit": rule.limit,
        "confidence": rule.confidence,
        "minimum_verdicts": rule.minimum_verdicts,
        "window_verdicts": rule.window_verdicts,
        "window_days": rule.window_days,
        "consecutive_failures": rule.consecutive_failures,
        "cool_down_hours": rule.cool_down_hours,
        "evidence": found["evidence"],
        "needed": found["needed"],
        "fired_at": found["fired_at"],
        "not_before": not_before,
        "action": rule.action,
        "fired": None if seen.fired is None else _firing(seen.fired),
    }


def _firing(event: ReleaseEvent) -> dict[str, Any]:
    return {
        "at": event.created_at,
        "event": event.kind,
        "release": event.figures["release"],
        "reason": event.reason,
        "metric": event.figures["metric"],
    }


def _window(rule: RollbackRule, reviews: Reviews, now: datetime) -> str:
    """Return the time from which on verdicts are in the window: so many audited ones, none too old."""
    known = reviews.known[-rule.window_verdicts :]
    first = known[0][0] if known else ""
    oldest = timestamp(now - timedelta(days=rule.window_days)) if rule.window_days else ""
    return max(first, oldest)


def _metric(rule: RollbackRule, reviews: Reviews, now: datetime) -> Share:
    since = _window(rule, reviews, now)
    known = [wrong for at, wrong in reviews.known[-rule.window_verdicts :] if at >= since]
    last = reviews.known[-1][0] if reviews.known else None
    return {**_share(sum(known), len(known)), "verdicts": len(known), "wrong": sum(known), "last_verdict_at": last}


def _overall(reviews: Reviews, since: str) -> Share:
    """Return the error rate if every answer were used; its value None where a part has no verdict."""
    given = [(wrong, drawn) for at, wrong, drawn in reviews.known_of_all if at >= since]
    total, value, below, above = sum(reviews.predictions.values()), 0.0, 0.0, 0.0
    for decision, audited in (("auto", True), ("review", False)):
        weight = reviews.predictions.get(decision, 0) / total if total else 0.0
        part = [wrong for wrong, drawn in given if drawn is audited]
        if weight == 0:
            continue
        if not part:
            return {**_share(0, 0), "verdicts": len(given)}
        share, (low, high) = sum(part) / len(part), wilson(sum(part), len(part))
        value += weight * share
        below += (weight * (share - low)) ** 2
        above += (weight * (high - share)) ** 2
    if not given:
        return {**_share(0, 0), "verdicts": 0}
    return {
        "value": value,
        "low": max(0.0, value - math.sqrt(below)),
        "high": min(1.0, value + math.sqrt(above)),
        "verdicts": len(given),
    }


def _shadow(reviews: Reviews) -> Share:
    """Return how often the model would have been wrong where the baseline answers, of what was drawn and judged."""
    known = [wrong for one in reviews.judged if one.audit and (wrong := one.shadow_wrong) is not None]
    return {**_share(sum(known), len(known)), "verdicts": len(known), "wrong": sum(known)}


def _share(count: int, of: int) -> Share:
    low, high = wilson(count, of)
    return {"value": count / of if of else None, "low": low, "high": high}


def course(rule: RollbackRule, reviews: Reviews, fired_at: int | None = None) -> list[Point]:
    """Return the metric over time: at most POINTS verdicts, evenly chosen, with the last one and the one that fired."""
    given = reviews.known
    if not given:
        return []
    wrong = [one for _, one in given]
    sums, found = np.concatenate([[0], np.cumsum(wrong)]), evidence(rule, wrong)
    even = np.linspace(1, len(given), min(len(given), POINTS - 1)).round().astype(int)
    chosen = sorted({*even.tolist(), *([] if fired_at is None else [fired_at])})
    points = []
    for n in chosen:
        first = max(0, n - rule.window_verdicts)
        bad, of = int(sums[n] - sums[first]), n - first
        points.append(Point(n, given[n - 1][0], bad, bad / of, *wilson(bad, of), float(found[n - 1])))
    return points


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
    answers = "" if found["answers_with"] == "model" else f" The {found['answers_with']} answers."
    asked = f"{metric['drawn']} automatic answers drawn, {metric['verdicts']} judged in the window"
    lines = [f"{release}: {asked}, {metric['wrong']} of these wrong.{answers}"]
    if metric["value"] is not None:
        lines.append(
            f"Error rate of what was answered without a person: {_in_words(metric)}; the limit is {trigger['limit']:g}."
        )
    if found["overall"]["value"] is not None:
        lines.append(f"Error rate if every answer were used: {_in_words(found['overall'])}.")
    lines.append(f"Trigger: {_state_in_words(trigger)}.")
    if referred["value"] is not None:
        told = "" if referred["expected"] is None else f"; the evaluation expects {referred['expected']:.3f}"
        moved = " The requests are not what they were at evaluation." if referred["moved"] else ""
        lines.append(f"Share that goes to a person: {_in_words(referred)} of {referred['predictions']}{told}.{moved}")
    shadow = found["shadow"]
    if shadow is not None and shadow["value"] is not None:
        lines.append(f"The model, asked beside it, would have been wrong in {_in_words(shadow)}.")
    people = tell_reliance(found["reliance"])
    if people is not None:
        lines.append(people)
    return "\n".join(lines)


def _state_in_words(trigger: Mapping[str, Any]) -> str:
    weight = f"evidence {min(trigger['evidence'], 1e6):.2f} of the {trigger['needed']:.0f} that it takes"
    act = "roll back, `reviewapp rollback --reason …`"
    above = f"FIRED after {trigger['fired_at']} verdicts: {act}"
    if trigger["fired_at"] is None:
        above = f"cools down, though the verdicts speak against what answers ({weight}): {act}"
    own = {
        TOO_FEW: f"waits for {trigger['minimum_verdicts']} verdicts ({weight})",
        WITHIN: f"quiet ({weight})",
        ABOVE: above,
    }[trigger["state"]]
    until = trigger["not_before"]
    if until is not None:
        own += f"; it fired before and does not again before the first verdict after {until}"
    fired = trigger["fired"]
    if fired is None:
        return own
    release, metric = f"{fired['release']['name']}/{fired['release']['version']}", fired["metric"]
    story = f"FIRED at {fired['at']} for {release}, {metric['wrong']} of {metric['verdicts']} wrong ({fired['event']})"
    return f"{story}; for what answers now: {own}" if fired["event"] == ROLLED_BACK else story


def _in_words(share: Mapping[str, Any]) -> str:
    return f"{share['value']:.3f} (95 % interval {share['low']:.3f} to {share['high']:.3f})"
