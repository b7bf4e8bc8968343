"""The policy of a release: what to do with an answer, what it costs, what is watched, and when to stop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ReleaseRefused

LOW_CONFIDENCE = "low_confidence"
WIDE_INTERVAL = "wide_interval"
OUTSIDE_SEEN = "outside_seen"
OPTIONS_DISAGREE = "options_disagree"
REASONS = (LOW_CONFIDENCE, WIDE_INTERVAL, OUTSIDE_SEEN, OPTIONS_DISAGREE)


PRIMARY_METRICS = ("cost_per_100", "mean_absolute_error")
METRICS = ("audited_error_rate",)
LAST_DIGITS = 1e-9  # rows beside it, or another engine, may move the last digits of an answer
ALERT, BASELINE, PREVIOUS = "alert", "baseline", "previous"
ACTIONS = (ALERT, BASELINE, PREVIOUS)


@dataclass(frozen=True, kw_only=True)
class RollbackRule:
    """When the release must stop answering without a person: the share of wrong audited answers is above `limit`.

    "Above" is believed once the verdicts, `minimum_verdicts` at least, speak against the limit with `confidence` at
    `consecutive_failures` looks in a row, one after each verdict: while the rate keeps to the limit, that happens in a
    share of 1 - `confidence` of windows of `window_verdicts` verdicts at most (see monitoring.py). The figure itself is
    taken over that many of the latest verdicts, none older than `window_days` (0: of any age). After it fired, it does
    not fire again for the same release for `cool_down_hours`.

    `action`: `baseline` answers from then on, while the model is only asked beside it; the `previous` release does;
    or `alert`: nothing changes until an operator rolls back.
    """

    metric: str = METRICS[0]
    limit: float
    confidence: float = 0.95
    minimum_verdicts: int = 30
    window_verdicts: int = 300
    window_days: int = 90
    consecutive_failures: int = 1
    cool_down_hours: int = 24
    action: str = BASELINE

    @property
    def consequence(self) -> str:
        """What happens when it fires, in words."""
        return {
            ALERT: "the release should be rolled back",
            BASELINE: "the baseline answers in place of the model",
            PREVIOUS: "the release before answers again",
        }[self.action]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """`cost_wrong` and `cost_review` share one unit: a wrong automatic answer, and a look by a person.

    An answer is `auto` where its confidence reaches `threshold` (a label), or its interval, which holds the truth with
    the probability `coverage`, is no wider than `widest_interval` (a value), and no other reason speaks against it. The
    share `audit_share` of these is drawn by lot for a person to check. Of all that a person looks at in the queue, the
    share `blind_share`, by lot too, is answered by them before they see what the options say; `reason_options` are
    offered beside the note. Options are compared by `primary_metric`.
    """

    cost_wrong: float
    cost_review: float
    threshold: float = 0.0
    coverage: float | None = None
    widest_interval: float | None = None
    review_outside_seen: bool = True
    review_disagreement: bool = False
    primary_metric: str = PRIMARY_METRICS[0]
    audit_share: float = 0.1
    blind_share: float = 0.1
    reason_options: tuple[str, ...] = (
        "Several answers fit",
        "The request leaves out what matters",
        "The wording misled it",
        "The rule itself is not clear",
    )
    rollback: RollbackRule

    def reasons(self, output: Mapping[str, Any], *, outside_seen: bool, disagree: bool) -> list[str]:
        """Return why a person must look, in a fixed order; empty means that the answer may be used as it is."""
        found = []
        if output.get("confidence", 1.0) < self.threshold:
            found.append(LOW_CONFIDENCE)
        if self.widest_interval is not None and _width(output) > self.widest_interval:
            found.append(WIDE_INTERVAL)
        if outside_seen and self.review_outside_seen:
            found.append(OUTSIDE_SEEN)
        if disagree and self.review_disagreement:
            found.append(OPTIONS_DISAGREE)
        return found

    def audited(self, prediction_id: str) -> bool:
        """Return whether an automatic answer is drawn for a person to check: by its id alone, so anyone can check it.

        The id is random, and made after the request was sent: no caller can choose what is checked.
        """
        return _drawn(prediction_id, self.audit_share)

    def blind(self, prediction_id: str) -> bool:
        """Return whether a person answers before they see the options; drawn apart from what is audited."""
        return _drawn(f"blind:{prediction_id}", self.blind_share)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Policy:
        """Read `policy.json`; raise ReleaseRefused naming what is missing or wrong."""
        since_then = _BEFORE_THE_QUEUE if isinstance(document, Mapping) else {}
        policy = _members({**since_then, **document} if since_then else document, cls, "policy.json")
        asked = policy["rollback"]
        rule = {**_BEFORE_THE_WINDOW, **asked} if isinstance(asked, Mapping) else asked
        rollback = _members(rule, RollbackRule, "policy.json, rollback")
        reasons = tuple(policy["reason_options"])
        return cls(**{**policy, "rollback": RollbackRule(**rollback), "reason_options": reasons})


def _drawn(name: str, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < share * 2**64


def _width(output: Mapping[str, Any]) -> float:
    return float(output["high"] - output["low"]) if "high" in output else 0.0


_BEFORE_THE_QUEUE = {"blind_share": 0.0, "reason_options": []}  # what releases of older versions do not state
_BEFORE_THE_WINDOW = {
    name: RollbackRule.__dataclass_fields__[name].default
    for name in ("window_verdicts", "window_days", "consecutive_failures", "cool_down_hours")
}
MAX_REASON_OPTIONS, LONGEST_REASON = 12, 100
_ONE_AT_LEAST = {"window_verdicts", "consecutive_failures"}
_AT_MOST = {  # beyond which no date lies so far back or ahead, and a look would take for ever
    "minimum_verdicts": 1_000_000, "window_verdicts": 1_000_000, "consecutive_failures": 10_000,
    "window_days": 36_500, "cool_down_hours": 876_000,
}  # fmt: skip
_SHARES = {"audit_share", "blind_share"}
_BETWEEN_0_AND_1 = {"limit", "confidence", "coverage"}
_NAMES = {"primary_metric": PRIMARY_METRICS, "metric": METRICS, "action": ACTIONS}


def _members(document: Any, kind: type, where: str) -> dict[str, Any]:
    """Return the members of an object, each checked by its kind; raise ReleaseRefused."""
    names = {f.name: f.type for f in fields(kind)}
    if not isinstance(document, Mapping) or set(document) != set(names):
        raise ReleaseRefused(f"{where} must be an object with just {', '.join(names)}.")
    for name, of in names.items():
        value = document[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if of == "bool" and not isinstance(value, bool):
            raise ReleaseRefused(f"{where}: {name} must be true or false.")
        if value is None and str(of).endswith("| None"):
            continue
        if str(of).startswith("tuple") and not _short_texts(value):
            raise ReleaseRefused(
                f"{where}: {name} must be a list of {MAX_REASON_OPTIONS} different texts at most, "
                f"each of 1 to {LONGEST_REASON} characters."
            )
        if str(of).startswith("float") and not (number and value >= 0):
            raise ReleaseRefused(f"{where}: {name} must be a number, 0 or more.")
        if of == "int" and not (number and isinstance(value, int) and value >= 0):
            raise ReleaseRefused(f"{where}: {name} must be a whole number, 0 or more.")
        if name in _ONE_AT_LEAST and value < 1:
            raise ReleaseRefused(f"{where}: {name} must be 1 or more.")
        if name in _AT_MOST and value > _AT_MOST[name]:
            raise ReleaseRefused(f"{where}: {name} must be {_AT_MOST[name]:,} at most.")
        if name in _SHARES and value > 1:
            raise ReleaseRefused(f"{where}: {name} must be 1 at most.")
        if name in _BETWEEN_0_AND_1 and not 0 < value < 1:
            raise ReleaseRefused(f"{where}: {name} must lie between 0 and 1, and be neither.")
        if name in _NAMES and value not in _NAMES[name]:
            raise ReleaseRefused(f"{where}: {name} must be {' or '.join(_NAMES[name])}.")
    return dict(document)


def _short_texts(value: Any) -> bool:
    right = isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= MAX_REASON_OPTIONS
    return (
        right
        and all(isinstance(one, str) and one.isprintable() and 1 <= len(one.strip()) <= LONGEST_REASON for one in value)
        and len(set(value)) == len(value)
    )


def choose_threshold(
    confidence: NDArray[np.float64], right: Sequence[bool], cost_wrong: float, cost_review: float
) -> float:
    """Return the confidence from which on answering costs least on labelled requests (Chow 1970).

    Each request costs `cost_review` where its confidence lies below the threshold, else `cost_wrong` if the answer
    is wrong. Candidates are the confidences themselves; of equal ones the highest is taken, so that a person looks
    where the data cannot tell. What is returned lies LAST_DIGITS below the candidate, so that the same request falls on
    the same side of it whichever engine answers, alone or in a batch.
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    ranked = np.asarray(confidence)[order]
    wrong = ~np.asarray(right, dtype=bool)[order]
    answered = np.arange(len(ranked) + 1)
    cost = np.concatenate([[0.0], np.cumsum(wrong) * cost_wrong]) + (len(ranked) - answered) * cost_review
    # a threshold cannot part equal confidences: only the last of a run may be the lowest one answered
    possible = np.concatenate([[True], ranked[:-1] != ranked[1:], [True]]) if len(ranked) else np.array([True])
    cost[~possible] = np.inf
    best = int(np.argmin(cost))
    if not best:
        return float(np.nextafter(1.0, 2.0))
    lowest = float(ranked[best - 1])
    between = (lowest + float(ranked[best])) / 2 if best < len(ranked) else 0.0
    return max(lowest - LAST_DIGITS, between)
