"""The policy of a release: what to do with an answer, and what being wrong or asking a person costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ReleaseRefused

LOW_CONFIDENCE = "low_confidence"
OUTSIDE_SEEN = "outside_seen"
OPTIONS_DISAGREE = "options_disagree"
REASONS = (LOW_CONFIDENCE, OUTSIDE_SEEN, OPTIONS_DISAGREE)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """`cost_wrong` and `cost_review` share one unit: a wrong automatic answer, and a look by a person.

    An answer is `auto` where its confidence reaches `threshold` and no other reason speaks against it.
    """

    cost_wrong: float
    cost_review: float
    threshold: float
    review_outside_seen: bool = True
    review_disagreement: bool = False

    def reasons(self, confidence: float, *, outside_seen: bool, disagree: bool) -> list[str]:
        """Return why a person must look, in a fixed order; empty means that the answer may be used as it is."""
        return [
            reason
            for reason, holds in (
                (LOW_CONFIDENCE, confidence < self.threshold),
                (OUTSIDE_SEEN, outside_seen and self.review_outside_seen),
                (OPTIONS_DISAGREE, disagree and self.review_disagreement),
            )
            if holds
        ]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Policy:
        """Read `policy.json`; raise ReleaseRefused naming what is missing or wrong."""
        kinds: dict[str, Any] = {f.name: bool if f.type == "bool" else float for f in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != set(kinds):
            raise ReleaseRefused(f"policy.json must be an object with just {', '.join(kinds)}.")
        for name, kind in kinds.items():
            value = document[name]
            if kind is bool and not isinstance(value, bool):
                raise ReleaseRefused(f"policy.json: {name} must be true or false.")
            if kind is float and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
                raise ReleaseRefused(f"policy.json: {name} must be a number, 0 or more.")
        return cls(**document)


def choose_threshold(
    confidence: NDArray[np.float64], right: Sequence[bool], cost_wrong: float, cost_review: float
) -> float:
    """Return the confidence from which on answering costs least on labelled requests (Chow 1970).

    Each request costs `cost_review` where its confidence lies below the threshold, else `cost_wrong` if the answer
    is wrong. Candidates are the confidences themselves; of equal ones the highest is taken, so that a person looks
    where the data cannot tell.
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
    return float(ranked[best - 1]) if best else float(np.nextafter(1.0, 2.0))
