"""Figures of probabilities against labels: what a release states of its options on data kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss

from .policy import Policy


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
