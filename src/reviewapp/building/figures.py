"""What a release is worth on rows kept apart, and how the rows were spread that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..adapter import ModelAdapter
from ..evaluation import figures, figures_by_label, figures_of_values, mean_interval, wilson
from ..field import Record
from ..policy import choose_threshold
from ..profile import Profile
from ..release import Release

PERSON = "a person who reads everything"


def own_threshold(release: Release, option: str, records: Sequence[Record], answers: Sequence[str]) -> float:
    """Return the confidence from which on an option's answers cost least on labelled requests."""
    said = ModelAdapter(release).outputs(option, records)
    right = [one["label"] == answer for one, answer in zip(said, answers, strict=True)]
    confidence = np.array([one["confidence"] for one in said])
    return choose_threshold(confidence, right, release.policy.cost_wrong, release.policy.cost_review)


def evaluate(
    release: Release, records: Sequence[Record], answers: Sequence[Any], threshold: float | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the figures of each option on rows kept apart, and the paired differences in the policy's own metric.

    `answers` are the right labels, or values. A difference is the model less another way to answer, a mean over rows.
    `threshold` is the baseline's own: judged at the model's it would be made to look worse, or better, than it is.
    """
    adapter, policy = ModelAdapter(release), release.policy
    own = policy if threshold is None else replace(policy, threshold=threshold)
    found: dict[str, Any] = {}
    losses: dict[str, NDArray[np.float64]] = {}
    for option, at in (("baseline", own), ("model", policy)):
        outputs = adapter.outputs(option, records)
        tell = _labels if release.contract.outcome.labels else _values
        found[option], losses[option] = tell(replace(release, policy=at), answers, outputs)
    others = {"the baseline": losses["baseline"]}
    if release.contract.outcome.labels:
        others[PERSON] = np.full(len(answers), 100 * policy.cost_review)
    return found, [
        {"of": policy.primary_metric, "against": name, "value": float((losses["model"] - loss).mean())}
        | dict(zip(("low", "high"), mean_interval(losses["model"] - loss, release.seed), strict=True))
        for name, loss in others.items()
    ]


def with_profile(release: Release, parts: Mapping[str, Sequence[Record]]) -> Release:
    """Return the release with the profile of its table, whose requests are given by part."""
    adapter = ModelAdapter(release)
    outputs = {part: adapter.outputs("model", parts[part]) for part in ("calibrate", "test")}
    return replace(release, profile=Profile.of(release.contract, parts, outputs))


def _labels(
    release: Release, actual: Sequence[str], outputs: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    labels, policy = release.contract.outcome.labels, release.policy
    shares = np.array([[said["probabilities"][label] for label in labels] for said in outputs])
    found = figures(actual, shares, labels, policy)
    wrong = np.array([said["label"] != answer for said, answer in zip(outputs, actual, strict=True)])
    automatic = shares.max(axis=1) >= policy.threshold
    cost = 100 * np.where(automatic, wrong * policy.cost_wrong, policy.cost_review)
    n = len(actual)
    found["intervals"] = {
        "accuracy": list(wilson(int(n - wrong.sum()), n)),
        "referred": list(wilson(int(n - automatic.sum()), n)),
        "cost_per_100": list(mean_interval(cost, release.seed)),
    }
    found["by_label"] = figures_by_label(actual, [said["label"] for said in outputs], labels)
    return found, cost


def _values(
    release: Release, actual: Sequence[float], outputs: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    intervals = np.array([[said["value"], said["low"], said["high"]] for said in outputs])
    found = figures_of_values(actual, intervals, release.policy)
    error = np.abs(intervals[:, 0] - np.asarray(actual))
    n = len(actual)
    found["intervals"] = {
        "mean_absolute_error": list(mean_interval(error, release.seed)),
        "coverage": list(wilson(round(found["coverage"] * n), n)),
        "referred": list(wilson(round(found["referred"] * n), n)),
    }
    return found, error
