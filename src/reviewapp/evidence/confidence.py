"""Whether a confidence may be read as a probability, and what each threshold on it would cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..evaluation import wilson
from .answers import BASELINE, MODEL, Answers
from .tables import Column, Row, Table, key

BINS = 10


def _bins(answers: Answers) -> list[tuple[float, NDArray[np.bool_]]]:
    """Return (lower edge, rows) of equal bins of the confidence; those without a row are left out."""
    number = np.minimum((answers.confidence * BINS).astype(int), BINS - 1)
    return [(i / BINS, number == i) for i in range(BINS) if (number == i).any()]


def calibration_error(answers: Answers) -> float:
    """Return the expected calibration error: |mean confidence - share right|, averaged over the rows of the bins."""
    gaps = [
        abs(answers.confidence[rows].mean() - answers.right[rows].mean()) * rows.mean() for _, rows in _bins(answers)
    ]
    return float(sum(gaps))


def calibration_table(options: dict[str, Answers]) -> Table:
    """Return the share right by confidence."""
    rows: list[Row] = []
    for option in (BASELINE, MODEL):
        answers = options[option]
        for edge, chosen in _bins(answers):
            n, right = int(chosen.sum()), int(answers.right[chosen].sum())
            low, high = wilson(right, n)
            rows.append(
                {"option": option, "from": f"{edge:.1f}", "n": n,
                 "confidence": float(answers.confidence[chosen].mean()), "right": right / n, "low": low, "high": high}
            )  # fmt: skip
    columns = [
        key("option", "Option"),
        key("from", "Confidence from"),
        Column("n", "n", "d"),
        Column("confidence", "Mean confidence", ".3f"),
        Column("right", "Share right", ".3f"),
        Column("low", "from", ".3f"),
        Column("high", "to", ".3f"),
    ]
    reading = "Test part. A confidence may be read as a probability where the share right is as high as it."
    return Table("calibration", "Is the confidence right?", reading, columns, rows)


def threshold_table(options: dict[str, Answers], chosen: float) -> Table:
    """Return coverage, risk and cost for every threshold in steps of 0.01, and for the one that was chosen."""
    rows: list[Row] = []
    for option in (BASELINE, MODEL):
        steps = [(f"{threshold:.2f}", threshold) for threshold in np.linspace(0, 1, 101).tolist()]
        for name, threshold in [*steps, *([("chosen", chosen)] if option == MODEL else [])]:
            answers = replace(options[option], policy=replace(options[option].policy, threshold=threshold))
            automatic = answers.automatic
            rows.append(
                {
                    "option": option,
                    "threshold": name,
                    "value": threshold,
                    "coverage": float(automatic.mean()),
                    "risk": float((~answers.right)[automatic].mean()) if automatic.any() else None,
                    "cost_per_100": 100 * float(answers.cost.mean()),
                }
            )
    columns = [
        key("option", "Option"),
        key("threshold", "Threshold"),
        Column("value", "Confidence asked for", ".3f"),
        Column("coverage", "Share answered without a person", ".3f"),
        Column("risk", "Wrong among these", ".3f"),
        Column("cost_per_100", "Cost of 100", ".1f"),
    ]
    reading = "Calibration part, on which the threshold was chosen (Chow 1970); the test part had no say in it."
    return Table("threshold", "Cost and risk by threshold", reading, columns, rows)
