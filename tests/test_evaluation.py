"""Figures are what their definitions say, on numbers small enough to work out by hand."""

import math

import numpy as np
import pytest

from reviewapp.evaluation import figures
from reviewapp.policy import Policy

from .small import RULE

SHARES = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])


def test_figures_of_four_rows() -> None:
    found = figures(
        ["x", "y", "a", "y"],
        SHARES,
        ["x", "y", "a"],
        Policy(cost_wrong=10, cost_review=2, threshold=0.6, rollback=RULE),
    )
    assert found["n"] == 4
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["brier"] == pytest.approx((0.02 + 0.32 + 0.24 + 0.78) / 4)
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.6, 0.6, 0.3))) / 4)
    assert found["referred"] == 0.25
    assert found["cost_per_100"] == 50
    assert found["accuracy_of_automatic"] == 1


def test_where_everything_is_referred_there_is_no_accuracy_of_automatic_answers() -> None:
    found = figures(
        ["x", "y", "a", "y"], SHARES, ["x", "y", "a"], Policy(cost_wrong=10, cost_review=2, threshold=1, rollback=RULE)
    )
    assert (found["referred"], found["cost_per_100"], found["accuracy_of_automatic"]) == (1, 200, None)
