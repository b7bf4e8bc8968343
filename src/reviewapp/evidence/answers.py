"""Each option's answers to labelled rows, and what the policy makes of them: what the comparison is computed from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..policy import Policy, choose_threshold
from ..triage.generator import oracle_probabilities
from .examples import Example
from .running import CALIBRATE, TEST, Subject

BASELINE, BASELINE_OWN, MODEL, ORACLE = "baseline", "baseline, own threshold", "model", "oracle"
TIMED = 200  # single answers a latency is the median of


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
    """Return the answers of each option to the rows of a part; the oracle's where what is behind the rows is known."""
    release, rows = subject.release, subject.examples[part]
    labels, actual = release.contract.outcome.labels, np.array([row.answer for row in rows])

    def answers(option: str, examples: Sequence[Example], policy: Policy = release.policy) -> Answers:
        said = outputs(subject, option, examples)
        shares = np.array([[output["probabilities"][label] for label in labels] for output in said])
        return Answers(shares, np.array([one.answer for one in examples]), labels, policy)

    calibrate = answers("baseline", subject.examples[CALIBRATE])
    cost_wrong, cost_review = release.policy.cost_wrong, release.policy.cost_review
    own = choose_threshold(calibrate.confidence, calibrate.right.tolist(), cost_wrong, cost_review)
    found = {
        BASELINE: answers("baseline", rows),
        BASELINE_OWN: answers("baseline", rows, replace(release.policy, threshold=own)),
        MODEL: answers("model", rows),
    }
    intents = [row.intent for row in rows if row.intent is not None]
    if len(intents) == len(rows):
        known = np.array([[oracle_probabilities(intent)[label] for label in labels] for intent in intents])
        found[ORACLE] = Answers(known, actual, labels, release.policy)
    return found


def outputs(subject: Subject, option: str, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Return what an option answers to the requests, in this process."""
    return subject.adapter.outputs(option, [one.record for one in examples])


def median_latency(subject: Subject, option: str) -> float:
    """Return the median milliseconds of one answer in this process, without HTTP and ledger."""
    taken = []
    for example in subject.examples[TEST][:TIMED]:
        started = time.perf_counter()
        outputs(subject, option, [example])
        taken.append(time.perf_counter() - started)
    return 1000 * float(np.median(taken))
