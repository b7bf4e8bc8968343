"""Trial: both options on the same labelled rows, against each other and against a person who reads everything.

The primary metric is the policy's: expected cost of 100 requests, where a wrong automatic answer costs `cost_wrong`
and a look by a person `cost_review` (who is then taken to be right). Options answer the same rows, so differences are
paired: exact McNemar test (McNemar 1947) for who is right, bootstrap over rows (Efron 1979) for means. Nothing here is
used to choose anything; the threshold is chosen on the calibration part alone, when the release is built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation import RESAMPLES, figures, mean_interval, sign_test, wilson
from .answers import BASELINE, BASELINE_OWN, MODEL, ORACLE, Answers, median_latency, options
from .confidence import calibration_error, calibration_table, threshold_table
from .running import CALIBRATE, TEST, Subject
from .slices import SMALLEST, grouped, slices
from .tables import TIMING, Column, Row, Table, key

MANUAL = "manual"  # a person reads everything


def comparison(subject: Subject) -> list[Table]:
    """Return options side by side, their paired differences, slices, calibration and the curves of the threshold."""
    parts = {part: options(subject, part) for part in (CALIBRATE, *subject.tested)}
    return [
        _options_table(subject, parts),
        _pairs_table(subject, parts),
        _differences_table(subject, parts),
        _slices_table(subject, parts[TEST]),
        calibration_table(parts[TEST]),
        threshold_table(parts[CALIBRATE], subject.release.policy.threshold),
    ]


# ---- side by side -----------------------------------------------------------------------------------------------


def _options_table(subject: Subject, parts: dict[str, dict[str, Answers]]) -> Table:
    policy = subject.release.policy
    latency = {option: median_latency(subject, option) for option in ("baseline", "model")}
    rows: list[Row] = []
    for part in subject.tested:
        n = len(parts[part][MODEL].actual)
        manual = {"n": n, "referred": 1.0, "cost_per_100": 100 * policy.cost_review}
        rows.append({"part": part, "option": MANUAL} | dict.fromkeys(_FIGURES) | manual)
        for option, answers in parts[part].items():
            found = figures(answers.actual.tolist(), answers.shares, answers.labels, answers.policy)
            automatic = int(answers.automatic.sum())
            accuracy = wilson(int(answers.right.sum()), n)
            referred = wilson(n - automatic, n)
            wrong = int((answers.automatic & ~answers.right).sum())
            cost = mean_interval(answers.cost, subject.seed)
            rows.append(
                {
                    "part": part,
                    "option": option,
                    **{
                        name: found[name] for name in ("n", "accuracy", "macro_f1", "brier", "referred", "cost_per_100")
                    },
                    "accuracy_low": accuracy[0],
                    "accuracy_high": accuracy[1],
                    "ece": calibration_error(answers),
                    "referred_low": referred[0],
                    "referred_high": referred[1],
                    "error_of_automatic": wrong / automatic if automatic else None,
                    "error_low": wilson(wrong, automatic)[0],
                    "error_high": wilson(wrong, automatic)[1],
                    "cost_low": 100 * cost[0],
                    "cost_high": 100 * cost[1],
                    "threshold": answers.policy.threshold,
                    "latency": latency.get(option.split(",")[0]),
                }
            )
    columns = [key("part", "Data"), key("option", "Option"), *_FIGURES.values()]
    reading = (
        f"Same rows for every option. Cost: {policy.cost_wrong:g} for a wrong automatic answer, "
        f"{policy.cost_review:g} for a look by a person, who is taken to be right. Intervals of 95 %: Wilson for "
        "shares, bootstrap for cost."
    )
    if ORACLE in parts[TEST]:
        reading += " The oracle knows the hidden intent: no option can beat it."
    return Table("comparison", "The options side by side", reading, columns, rows)


_FIGURES = {
    column.name: column
    for column in (
        Column("n", "n", "d"),
        Column("cost_per_100", "Cost of 100", ".1f"),
        Column("cost_low", "from", ".1f"),
        Column("cost_high", "to", ".1f"),
        Column("accuracy", "Accuracy", ".3f"),
        Column("accuracy_low", "from", ".3f"),
        Column("accuracy_high", "to", ".3f"),
        Column("macro_f1", "Macro-F1", ".3f"),
        Column("brier", "Brier (0–2)", ".3f"),
        Column("ece", "Calibration error", ".3f"),
        Column("referred", "Share to a person", ".3f"),
        Column("referred_low", "from", ".3f"),
        Column("referred_high", "to", ".3f"),
        Column("error_of_automatic", "Wrong among automatic", ".3f"),
        Column("error_low", "from", ".3f"),
        Column("error_high", "to", ".3f"),
        Column("threshold", "Threshold", ".3f"),
        Column("latency", "One answer, in process (ms)", ".2f", TIMING),
    )
}


# ---- against each other -----------------------------------------------------------------------------------------


def _pairs_table(subject: Subject, parts: dict[str, dict[str, Answers]]) -> Table:
    rows: list[Row] = []
    for part in subject.tested:
        model, baseline = parts[part][MODEL].right, parts[part][BASELINE].right
        only_model, only_baseline = int((model & ~baseline).sum()), int((~model & baseline).sum())
        rows.append(
            {
                "part": part,
                "n": len(model),
                "both": int((model & baseline).sum()),
                "only_model": only_model,
                "only_baseline": only_baseline,
                "neither": int((~model & ~baseline).sum()),
                "p": sign_test(only_model, only_baseline),
            }
        )
    columns = [
        key("part", "Data"),
        Column("n", "n", "d"),
        Column("both", "Both right", "d"),
        Column("only_model", "Only the model right", "d"),
        Column("only_baseline", "Only the baseline right", "d"),
        Column("neither", "Both wrong", "d"),
        Column("p", "Exact McNemar p", ".1e"),
    ]
    reading = "Only the rows on which just one option is right tell them apart."
    return Table("pairs", "Who is right where", reading, columns, rows)


def _differences_table(subject: Subject, parts: dict[str, dict[str, Answers]]) -> Table:
    cost_review = subject.release.policy.cost_review
    rows: list[Row] = []
    for part in subject.tested:
        model, baseline, own = (parts[part][name] for name in (MODEL, BASELINE, BASELINE_OWN))
        for measure, against, values in (
            ("cost of 100", BASELINE, 100 * (model.cost - baseline.cost)),
            ("cost of 100", BASELINE_OWN, 100 * (model.cost - own.cost)),
            ("cost of 100", MANUAL, 100 * (model.cost - cost_review)),
            ("accuracy", BASELINE, model.right.astype(float) - baseline.right),
            ("Brier", BASELINE, _brier(model) - _brier(baseline)),
        ):
            rows.append(paired(subject, part, measure, against, values))
    return paired_table("The model against the others", "", rows)


def paired(subject: Subject, part: str, measure: str, against: str, values: NDArray[np.float64]) -> Row:
    """Return the mean of paired differences (the model less another option, by row) with its interval."""
    low, high = mean_interval(values, subject.seed)
    return {
        "part": part,
        "measure": measure,
        "against": against,
        "n": len(values),
        "difference": float(values.mean()),
        "low": low,
        "high": high,
    }


def paired_table(title: str, more: str, rows: list[Row], form: str = ".3f") -> Table:
    """Return rows made by `paired` as a table."""
    columns = [
        key("part", "Data"),
        key("measure", "Measure"),
        key("against", "Model minus"),
        Column("n", "n", "d"),
        Column("difference", "Difference", f"+{form}"),
        Column("low", "from", f"+{form}"),
        Column("high", "to", f"+{form}"),
    ]
    reading = f"Means of paired differences, 95 % bootstrap intervals over rows ({RESAMPLES:,} resamples).{more}"
    return Table("differences", title, reading, columns, rows)


def _brier(answers: Answers) -> NDArray[np.float64]:
    truth = np.asarray(answers.labels)[None, :] == answers.actual[:, None]
    return np.asarray(((answers.shares - truth) ** 2).sum(axis=1))


# ---- where it is better and worse -------------------------------------------------------------------------------


def _slices_table(subject: Subject, answers: dict[str, Answers]) -> Table:
    model, baseline = answers[MODEL], answers[BASELINE]
    rows: list[Row] = []
    for name, value, chosen in [*slices(subject), *grouped("Right answer", model.actual.tolist())]:
        n = int(chosen.sum())
        row: dict[str, Any] = {"by": name, "value": value, "n": n} | dict.fromkeys(_SLICE_FIGURES)
        if n >= SMALLEST:
            right = int(model.right[chosen].sum())
            row |= {
                "model": right / n,
                "low": wilson(right, n)[0],
                "high": wilson(right, n)[1],
                "baseline": float(baseline.right[chosen].mean()),
                "referred": float(1 - model.automatic[chosen].mean()),
                "model_cost": 100 * float(model.cost[chosen].mean()),
                "baseline_cost": 100 * float(baseline.cost[chosen].mean()),
            }
        rows.append(row)
    columns = [key("by", "By"), key("value", "Value"), Column("n", "n", "d"), *_SLICE_FIGURES.values()]
    reading = f"Test part. With fewer than {SMALLEST} rows a slice has no figures; intervals are Wilson's."
    return Table("slices", "Slices", reading, columns, rows)


_SLICE_FIGURES = {
    column.name: column
    for column in (
        Column("model", "Accuracy, model", ".3f"),
        Column("low", "from", ".3f"),
        Column("high", "to", ".3f"),
        Column("baseline", "Accuracy, baseline", ".3f"),
        Column("referred", "Model: share to a person", ".3f"),
        Column("model_cost", "Cost of 100, model", ".1f"),
        Column("baseline_cost", "Cost of 100, baseline", ".1f"),
    )
}
