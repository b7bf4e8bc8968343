"""What a release is worth on rows kept apart: the figures of both options with intervals, and their difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..adapter import ModelAdapter
from ..contract import Record
from ..evaluation import figures, figures_by_label, figures_of_values, mean_interval, wilson
from ..frames import to_frame
from ..release import Release


def evaluate(
    release: Release, records: Sequence[Record], answers: Sequence[Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of each option on rows kept apart, and the paired difference in the policy's own metric.

    `answers` are the right labels, or values. The difference is model less baseline, a mean over rows.
    """
    adapter, frame = ModelAdapter(release), to_frame(release.contract, records)
    found: dict[str, Any] = {}
    losses: dict[str, NDArray[np.float64]] = {}
    for option in ("baseline", "model"):
        outputs = adapter.outputs(option, frame)
        tell = _labels if release.contract.outcome.labels else _values
        found[option], losses[option] = tell(release, answers, outputs)
    metric = release.policy.primary_metric
    difference = losses["model"] - losses["baseline"]
    low, high = mean_interval(difference, release.seed)
    return found, {"of": metric, "value": float(difference.mean()), "low": low, "high": high}


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
