"""Each option's answers to labelled rows, and what the policy makes of them: what the comparison is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..frames import to_frame
from ..policy import Policy, choose_threshold
from ..triage.generator import Example, oracle_probabilities
from .running import Subject

BASELINE, BASELINE_OWN, MODEL, ORACLE = "baseline", "baseline, own threshold", "model", "oracle"


@dataclass(frozen=True)
class Answers:
    """One option's answers to labelled rows: shares with shape (rows, labels), and what the policy makes of them."""

    shares: NDArray[np.float64]
    actual: NDArray[np.str_]
    labels: Sequence[str]
    policy: Policy

    @property
    def confidence(self) -> NDArray[np.float64]:
        return np.asarray(self.shares.max(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(np.asarray(self.labels)[self.shares.argmax(axis=1)] == self.actual)

    @property
    def automatic(self) -> NDArray[np.bool_]:
        return self.confidence >= self.policy.threshold

    @property
    def cost(self) -> NDArray[np.float64]:
        """Cost of each row."""
        return np.where(self.automatic, ~self.right * self.policy.cost_wrong, self.policy.cost_review)


def options(subject: Subject, part: str) -> dict[str, Answers]:
    """Return the answers of each option to the rows of a part."""
    release, rows = subject.release, subject.examples[part]
    labels, actual = release.contract.outcome.labels, np.array([row.label for row in rows])

    def answers(option: str, examples: Sequence[Example], policy: Policy = release.policy) -> Answers:
        outputs = subject.adapter.outputs(option, to_frame(release.contract, [one.record for one in examples]))
        shares = np.array([[output["probabilities"][label] for label in labels] for output in outputs])
        return Answers(shares, np.array([one.label for one in examples]), labels, policy)

    calibrate = answers("baseline", subject.examples["calibrate"])
    cost_wrong, cost_review = release.policy.cost_wrong, release.policy.cost_review
    own = choose_threshold(calibrate.confidence, calibrate.right.tolist(), cost_wrong, cost_review)
    known = np.array([[oracle_probabilities(row.intent)[label] for label in labels] for row in rows])
    return {
        BASELINE: answers("baseline", rows),
        BASELINE_OWN: answers("baseline", rows, replace(release.policy, threshold=own)),
        MODEL: answers("model", rows),
        ORACLE: Answers(known, actual, labels, release.policy),
    }
