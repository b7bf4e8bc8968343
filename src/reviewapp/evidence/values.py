"""Trial: both options on the same rows where the answer is a value: how far from the truth, and how wide in doubt.

The primary metric is the policy's: the mean absolute error. Options answer the same rows, so differences are paired:
exact sign test for who is nearer to the truth, bootstrap over rows (Efron 1979) for means. An interval is held to what
it promises: `coverage` is the share of rows whose truth lies inside, and wide ones go to a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation import figures_of_values, mean_interval, sign_test, wilson
from ..policy import Policy
from .answers import BASELINE, MODEL, median_latency, outputs
from .comparison import paired, paired_table
from .running import CALIBRATE, TEST, Subject
from .slices import SMALLEST, slices
from .tables import TIMING, Column, Row, Table, key

OPTIONS = (BASELINE, MODEL)
BINS = 10
STEPS = 20  # widths that are tried as the widest allowed one, from the narrowest to the widest there is

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Values:
    """One option's answers to labelled rows: value, low and high with shape (rows, 3), and the truth of each row."""

    intervals: Floats
    actual: Floats
    policy: Policy

    @property
    def said(self) -> Floats:
        return self.intervals[:, 0]

    @property
    def error(self) -> Floats:
        """How far from the truth each row is, whatever the side."""
        return np.abs(self.said - self.actual)

    @property
    def width(self) -> Floats:
        return self.intervals[:, 2] - self.intervals[:, 1]

    @property
    def covered(self) -> NDArray[np.bool_]:
        return (self.intervals[:, 1] <= self.actual) & (self.actual <= self.intervals[:, 2])

    @property
    def referred(self) -> NDArray[np.bool_]:
        widest = self.policy.widest_interval
        return self.width > (math.inf if widest is None else widest)


Parts = dict[str, dict[str, Values]]


def options(subject: Subject, part: str) -> dict[str, Values]:
    """Return the answers of each option to the rows of a part."""
    rows = subject.examples[part]
    actual = np.array([row.answer for row in rows], dtype=np.float64)
    found = {}
    for option in OPTIONS:
        said = [(one["value"], one["low"], one["high"]) for one in outputs(subject, option, rows)]
        found[option] = Values(np.array(said), actual, subject.release.policy)
    return found


def comparison_of_values(subject: Subject) -> list[Table]:
    """Return options side by side, their paired differences, slices, coverage, and the curve of the widest interval."""
    parts = {part: options(subject, part) for part in (CALIBRATE, *subject.tested)}
    form = form_of(parts[TEST][MODEL].actual)
    return [
        _options_table(subject, parts, form),
        _pairs_table(subject, parts),
        _differences_table(subject, parts, form),
        _slices_table(subject, parts[TEST], form),
        _coverage_table(parts[TEST], form),
        _widest_table(parts[CALIBRATE], form),
    ]


def form_of(actual: Floats) -> str:
    """Return how people read such values: three digits of how far they lie apart, and no more."""
    apart = float(actual.std())
    decimals = max(0, 2 - math.floor(math.log10(apart))) if 0 < apart < math.inf else 3
    return f",.{decimals}f"


# ---- side by side -----------------------------------------------------------------------------------------------


def _options_table(subject: Subject, parts: Parts, form: str) -> Table:
    latency = {option: median_latency(subject, option) for option in OPTIONS}
    rows: list[Row] = []
    for part in subject.tested:
        for option, values in parts[part].items():
            n = len(values.actual)
            error = mean_interval(values.error, subject.seed)
            covered = wilson(int(values.covered.sum()), n)
            referred = wilson(int(values.referred.sum()), n)
            rows.append(
                {
                    "part": part,
                    "option": option,
                    **figures_of_values(values.actual.tolist(), values.intervals, values.policy),
                    "error_low": error[0],
                    "error_high": error[1],
                    "coverage_low": covered[0],
                    "coverage_high": covered[1],
                    "referred_low": referred[0],
                    "referred_high": referred[1],
                    "latency": latency[option],
                }
            )
    outcome, policy = subject.release.contract.outcome, subject.release.policy
    columns = [
        key("part", "Data"),
        key("option", "Option"),
        Column("n", "n", "d"),
        Column("mean_absolute_error", "Mean absolute error", form),
        Column("error_low", "from", form),
        Column("error_high", "to", form),
        Column("root_mean_squared_error", "Root mean squared error", form),
        Column("r2", "R²", ".3f"),
        Column("coverage", "Truth inside the interval", ".3f"),
        Column("coverage_low", "from", ".3f"),
        Column("coverage_high", "to", ".3f"),
        Column("mean_width", "Mean width", form),
        Column("referred", "Share to a person", ".3f"),
        Column("referred_low", "from", ".3f"),
        Column("referred_high", "to", ".3f"),
        Column("latency", "One answer, in process (ms)", ".2f", TIMING),
    ]
    reading = f"Same rows for both options. Errors and widths are in the units of {outcome.name}"
    reading += f" ({outcome.unit})." if outcome.unit else "."
    if policy.coverage is not None:
        reading += f" An interval is to hold the truth in {100 * policy.coverage:g} % of the rows."
    if policy.widest_interval is not None:
        reading += f" One wider than {format(policy.widest_interval, form)} goes to a person."
    reading += " Intervals of 95 %: Wilson for shares, bootstrap for the error."
    return Table("comparison", "The options side by side", reading, columns, rows)


# ---- against each other -----------------------------------------------------------------------------------------


def _pairs_table(subject: Subject, parts: Parts) -> Table:
    rows: list[Row] = []
    for part in subject.tested:
        model, baseline = parts[part][MODEL].error, parts[part][BASELINE].error
        nearer, farther = int((model < baseline).sum()), int((model > baseline).sum())
        rows.append(
            {
                "part": part,
                "n": len(model),
                "model": nearer,
                "baseline": farther,
                "neither": len(model) - nearer - farther,
                "p": sign_test(nearer, farther),
            }
        )
    columns = [
        key("part", "Data"),
        Column("n", "n", "d"),
        Column("model", "Model nearer to the truth", "d"),
        Column("baseline", "Baseline nearer", "d"),
        Column("neither", "Equally near", "d"),
        Column("p", "Exact sign test p", ".1e"),
    ]
    reading = "Only the rows on which one option is nearer to the truth tell them apart, whatever by how much."
    return Table("pairs", "Who is nearer where", reading, columns, rows)


def _differences_table(subject: Subject, parts: Parts, form: str) -> Table:
    rows = [
        paired(subject, part, "absolute error", BASELINE, parts[part][MODEL].error - parts[part][BASELINE].error)
        for part in subject.tested
    ]
    return paired_table("The model against the baseline", " Below 0 the model is nearer to the truth.", rows, form)


# ---- where it is better and worse -------------------------------------------------------------------------------


def _slices_table(subject: Subject, answers: dict[str, Values], form: str) -> Table:
    model, baseline = answers[MODEL], answers[BASELINE]
    figures = [
        Column("model", "Mean absolute error, model", form),
        Column("low", "from", form),
        Column("high", "to", form),
        Column("baseline", "Mean absolute error, baseline", form),
        Column("coverage", "Model: truth inside the interval", ".3f"),
        Column("referred", "Model: share to a person", ".3f"),
    ]
    rows: list[Row] = []
    for name, value, chosen in slices(subject):
        n = int(chosen.sum())
        row: dict[str, Any] = {"by": name, "value": value, "n": n} | {column.name: None for column in figures}
        if n >= SMALLEST:
            low, high = mean_interval(model.error[chosen], subject.seed)
            row |= {
                "model": float(model.error[chosen].mean()),
                "low": low,
                "high": high,
                "baseline": float(baseline.error[chosen].mean()),
                "coverage": float(model.covered[chosen].mean()),
                "referred": float(model.referred[chosen].mean()),
            }
        rows.append(row)
    columns = [key("by", "By"), key("value", "Value"), Column("n", "n", "d"), *figures]
    reading = f"Test part. With fewer than {SMALLEST} rows a slice has no figures; intervals are of the bootstrap."
    return Table("slices", "Slices", reading, columns, rows)


# ---- what an interval is worth ----------------------------------------------------------------------------------


def _coverage_table(answers: dict[str, Values], form: str) -> Table:
    """Return the share of truths inside the interval by bins of the predicted value, each with as many rows."""
    rows: list[Row] = []
    for option, values in answers.items():
        bins = max(1, min(BINS, len(values.said) // SMALLEST))
        edges = np.unique(np.quantile(values.said, np.arange(1, bins) / bins))
        number = np.searchsorted(edges, values.said, side="left")
        for i, chosen in enumerate((number == one for one in np.unique(number)), 1):
            n, covered = int(chosen.sum()), int(values.covered[chosen].sum())
            low, high = wilson(covered, n)
            rows.append(
                {
                    "option": option,
                    "bin": str(i),
                    "n": n,
                    "from": float(values.said[chosen].min()),
                    "to": float(values.said[chosen].max()),
                    "covered": covered / n,
                    "low": low,
                    "high": high,
                    "width": float(values.width[chosen].mean()),
                    "error": float(values.error[chosen].mean()),
                }
            )
    columns = [
        key("option", "Option"),
        key("bin", "Bin"),
        Column("n", "n", "d"),
        Column("from", "Values from", form),
        Column("to", "to", form),
        Column("covered", "Truth inside the interval", ".3f"),
        Column("low", "from", ".3f"),
        Column("high", "to", ".3f"),
        Column("width", "Mean width", form),
        Column("error", "Mean absolute error", form),
    ]
    reading = (
        "Test part, in bins of the answered value. An interval may be relied on where it holds the truth as often as "
        "it promises, among small values and large ones."
    )
    return Table("calibration", "Is the interval right?", reading, columns, rows)


def _widest_table(answers: dict[str, Values], form: str) -> Table:
    """Return share referred and error of the rest for several widest intervals, and for the one that was chosen."""
    rows: list[Row] = []
    for option, values in answers.items():
        widths = np.quantile(values.width, np.arange(STEPS + 1) / STEPS, method="inverted_cdf").tolist()
        steps = {
            _rounded_up(width): f"{100 * i // STEPS} %" for i, width in enumerate(widths)
        }  # of equal ones the last
        limits = [(name, width) for width, name in steps.items()]
        chosen = values.policy.widest_interval
        if option == MODEL and chosen is not None:
            limits.append(("chosen", chosen))
        for name, limit in limits:
            rest = values.width <= limit
            rows.append(
                {
                    "option": option,
                    "limit": name,
                    "value": limit,
                    "referred": float(1 - rest.mean()),
                    "error": float(values.error[rest].mean()) if rest.any() else None,
                }
            )
    columns = [
        key("option", "Option"),
        key("limit", "Narrowest intervals"),
        Column("value", "Widest allowed", form),
        Column("referred", "Share to a person", ".3f"),
        Column("error", "Mean absolute error of the rest", form),
    ]
    reading = "Calibration part, on which the intervals were made; the test part had no say in it."
    return Table("widest", "Error and looks by the widest interval allowed", reading, columns, rows)


def _rounded_up(width: float) -> float:
    """Return a width as a limit for all that are the same: high - low moves in the last digits with the value."""
    return float(f"{width * (1 + 1e-9):.10g}")
