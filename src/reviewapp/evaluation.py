"""Figures of answers against the truth: what a release states of its options on data kept apart.

Intervals are of 95 %: Wilson's for shares (Wilson 1927), the percentile bootstrap over rows for means (Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support, r2_score

from .policy import Policy

RESAMPLES = 9999


def wilson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share; (0, 1) where nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    # SciPy's binomtest to the last digit; that one makes a whole test of each: too slow for every point of a picture
    z, share = float(ndtri(0.5 + 0.5 * confidence)), hits / n
    of = 2 * (n + z**2)
    middle, reach = (2 * n * share + z**2) / of, z / of * math.sqrt(4 * n * share * (1 - share) + z**2)
    return middle - reach if hits else 0.0, middle + reach if hits < n else 1.0


def mean_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the bootstrap interval of a mean over rows."""
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=500, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(found.low), float(found.high)


def sign_test(one: int, other: int) -> float:
    """Return the exact two-sided p of so many rows for one side and for the other; 1 where none is for either."""
    return float(binomtest(one, one + other).pvalue) if one + other else 1.0


def figures(
    actual: Sequence[str], shares: NDArray[np.float64], labels: Sequence[str], policy: Policy | None = None
) -> dict[str, Any]:
    """Return n, accuracy, macro-F1, Brier score and log loss of `shares` with shape (rows, labels).

    Brier score: mean over rows of the sum over labels of (share - truth)^2, from 0 (best) to 2 (Brier 1950). With a
    policy also the share referred to a person for low confidence and the expected cost of 100 requests.
    """
    names = np.asarray(labels)
    truth = names[None, :] == np.asarray(actual)[:, None]
    answered = names[shares.argmax(axis=1)]
    found: dict[str, Any] = {
        "n": len(actual),
        "accuracy": float(accuracy_score(actual, answered)),
        "macro_f1": float(f1_score(actual, answered, labels=list(labels), average="macro", zero_division=0.0)),
        "brier": float(((shares - truth) ** 2).sum(axis=1).mean()),
    }
    order = np.argsort(names)
    found["log_loss"] = float(log_loss(actual, shares[:, order], labels=list(names[order])))
    if policy is not None:
        automatic = shares.max(axis=1) >= policy.threshold
        wrong = answered != np.asarray(actual)
        cost = np.where(automatic, wrong * policy.cost_wrong, policy.cost_review)
        found["referred"] = float(1 - automatic.mean())
        found["cost_per_100"] = float(100 * cost.mean())
        found["accuracy_of_automatic"] = float(1 - wrong[automatic].mean()) if automatic.any() else None
    return found


def figures_of_values(actual: Sequence[float], intervals: NDArray[np.float64], policy: Policy) -> dict[str, Any]:
    """Return n, mean absolute and root mean squared error, R2, and what the intervals are worth.

    `intervals` has shape (rows, 3): value, low, high. `coverage` is the share of rows whose truth lies inside,
    `mean_width` the mean of high - low, `referred` the share whose interval is wider than the policy allows.
    """
    truth = np.asarray(actual, dtype=np.float64)
    value, low, high = intervals.T
    error = value - truth
    widest = np.inf if policy.widest_interval is None else policy.widest_interval
    return {
        "n": len(truth),
        "mean_absolute_error": float(np.abs(error).mean()),
        "root_mean_squared_error": float(np.sqrt((error**2).mean())),
        "r2": float(r2_score(truth, value)),
        "coverage": float(((low <= truth) & (truth <= high)).mean()),
        "mean_width": float((high - low).mean()),
        "referred": float((high - low > widest).mean()),
    }


def figures_by_label(actual: Sequence[str], answered: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Return n, precision, recall and F1 of each label; where nothing can be counted, 0."""
    precision, recall, f1, n = precision_recall_fscore_support(actual, answered, labels=list(labels), zero_division=0.0)
    return {
        label: {"n": int(n[i]), "precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i])}
        for i, label in enumerate(labels)
    }
