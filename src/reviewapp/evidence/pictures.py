"""Pictures of the tables, drawn with Matplotlib: one question each, with units, and readable in grey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from ..errors import UsageError
from .tables import Row, Table

Tables = Mapping[str, Table]
COLOURS = {"baseline": "#b35c00", "model": "#1d5a96", "manual": "#6b6b6b", "oracle": "#3c7d3c"}
LINES = {"baseline": "--", "model": "-"}


@dataclass(frozen=True)
class Picture:
    """`reading` says in one line what there is to see; `draw` fills a figure from the tables."""

    name: str
    title: str
    reading: str
    draw: Callable[[Any, Tables], None]

    def described(self) -> dict[str, str]:
        return {"name": self.name, "title": self.title, "reading": self.reading}


def check_drawing() -> None:
    """Raise UsageError where nothing can be drawn."""
    if find_spec("matplotlib") is None:
        raise UsageError("The pictures need Matplotlib: pip install 'reviewapp[evidence]', or `make test`.")


def draw(picture: Picture, tables: Tables) -> bytes:
    """Return the picture as PNG; the same tables make the same bytes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (an extra: the service runs without it)

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(picture.title, fontsize=12, x=0.01, ha="left", weight="bold")
    picture.draw(figure, tables)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _cost(figure: Any, tables: Tables) -> None:
    """Cost of 100 requests by option, one panel for each part of the data."""
    parts = list(dict.fromkeys(row["part"] for row in tables["comparison"].rows))
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, part in zip(panels, parts, strict=True):
        rows = tables["comparison"].find(part=part)
        for x, row in enumerate(rows):
            cost, colour = row["cost_per_100"], COLOURS[row["option"].split(",")[0]]
            spread = None
            if row["cost_low"] is not None:
                spread = [[cost - row["cost_low"]], [row["cost_high"] - cost]]
            axes.bar(x, cost, color=colour, yerr=spread, capsize=4, width=0.65)
            axes.annotate(f"{cost:.0f}", (x, 3), ha="center", color="white", weight="bold")
        axes.set_xticks(range(len(rows)), [row["option"].replace(", ", ",\n") for row in rows], fontsize=8)
        axes.set_title(f"{part.replace('_', ' ')} (n = {rows[0]['n']:,})", fontsize=10)
    panels[0].set_ylabel("expected cost of 100 requests (units)")


def _threshold(figure: Any, tables: Tables) -> None:
    """Cost by threshold, and risk by coverage, with the chosen point."""
    by_threshold, by_coverage = figure.subplots(1, 2)
    for option in ("baseline", "model"):
        rows = [row for row in tables["threshold"].find(option=option) if row["threshold"] != "chosen"]
        style = {"color": COLOURS[option], "linestyle": LINES[option], "label": option}
        by_threshold.plot([r["value"] for r in rows], [r["cost_per_100"] for r in rows], **style)
        shown = [row for row in rows if row["risk"] is not None]
        by_coverage.plot([r["coverage"] for r in shown], [r["risk"] for r in shown], **style)
    chosen = tables["threshold"].row(option="model", threshold="chosen")
    by_threshold.plot(chosen["value"], chosen["cost_per_100"], "o", color="black", label="chosen")
    if chosen["risk"] is not None:
        by_coverage.plot(chosen["coverage"], chosen["risk"], "o", color="black", label="chosen")
    by_threshold.set(xlabel="confidence asked for", ylabel="cost of 100 requests (units)", title="Cost")
    by_coverage.set(xlabel="share answered without a person", ylabel="share wrong among these", title="Risk")
    by_threshold.legend(fontsize=8)


def _calibration(figure: Any, tables: Tables) -> None:
    """Share right by confidence, and how many answers there are."""
    share, count = figure.subplots(1, 2)
    share.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="as it should be")
    for i, option in enumerate(("baseline", "model")):
        rows = tables["calibration"].find(option=option)
        x = [row["confidence"] for row in rows]
        spread = [[max(0.0, r["right"] - r["low"]) for r in rows], [max(0.0, r["high"] - r["right"]) for r in rows]]
        share.errorbar(x, [r["right"] for r in rows], yerr=spread, color=COLOURS[option], marker="so"[i], capsize=3,
                       linestyle=LINES[option], label=option)  # fmt: skip
        places = [float(row["from"]) + 0.025 + 0.045 * i for row in rows]
        count.bar(places, [row["n"] for row in rows], width=0.045, color=COLOURS[option], label=option)
    share.set(xlabel="mean confidence", ylabel="share right", title="Share right, 95 % intervals")
    count.set(xlabel="confidence", ylabel="answers", title="How many answers")
    share.legend(fontsize=8)


def _latency(figure: Any, tables: Tables) -> None:
    """Percentiles by load, one panel for each kind of load; the axis is logarithmic."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, payload in zip(panels, ("single", "batch"), strict=True):
        rows = tables["latency"].find(payload=payload)
        for name, marker in (("p50", "o"), ("p95", "s"), ("p99", "^"), ("max", "x")):
            axes.plot(range(len(rows)), [row[name] for row in rows], marker, label=name, color="#1d5a96", alpha=0.9)
        axes.set_xticks(range(len(rows)), [_load(row) for row in rows], fontsize=7)
        axes.set_yscale("log")
        axes.set_title("one request" if payload == "single" else "100 requests in one call", fontsize=10)
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(fontsize=8)


def _differences(figure: Any, tables: Tables) -> None:
    """Mean absolute error of each option, and the paired difference, by part of the data."""
    error, difference = figure.subplots(1, 2)
    rows = tables["comparison"].rows
    for x, row in enumerate(rows):
        value = row["mean_absolute_error"]
        spread = [[value - row["error_low"]], [row["error_high"] - value]]
        error.bar(x, value, color=COLOURS[row["option"]], yerr=spread, capsize=4, width=0.65)
    error.set_xticks(range(len(rows)), [f"{row['option']}\n{row['part']}" for row in rows], fontsize=8)
    error.set_title("Mean absolute error", fontsize=10)
    error.set_ylabel("in the units of the answer")
    difference.axvline(0, color="#999999", linewidth=1)
    rows = tables["differences"].rows
    for y, row in enumerate(rows):
        value = row["difference"]
        spread = [[value - row["low"]], [row["high"] - value]]
        difference.errorbar(value, y, xerr=spread, color=COLOURS["model"], marker="o", capsize=4)
    difference.set_yticks(range(len(rows)), [row["part"] for row in rows], fontsize=8)
    difference.set_ylim(-0.5, len(rows) - 0.5)
    difference.set_title("Model minus baseline, row by row", fontsize=10)
    difference.set_xlabel("absolute error, in the units of the answer")
    difference.locator_params(axis="x", nbins=5)


def _coverage(figure: Any, tables: Tables) -> None:
    """Share of truths inside the interval, and its width, by the answered value."""
    share, width = figure.subplots(1, 2)
    for i, option in enumerate(("baseline", "model")):
        rows = tables["calibration"].find(option=option)
        x = [(row["from"] + row["to"]) / 2 for row in rows]
        spread = [
            [max(0.0, r["covered"] - r["low"]) for r in rows],
            [max(0.0, r["high"] - r["covered"]) for r in rows],
        ]
        style = {"color": COLOURS[option], "marker": "so"[i], "linestyle": LINES[option], "label": option}
        share.errorbar(x, [r["covered"] for r in rows], yerr=spread, capsize=3, **style)
        width.plot(x, [r["width"] for r in rows], **style)
    share.set(xlabel="answered value", ylabel="share of truths inside", title="Coverage, 95 % intervals")
    width.set(xlabel="answered value", ylabel="mean width of the interval", title="How wide")
    width.set_ylim(bottom=0)
    share.legend(fontsize=8)


def _power(figure: Any, tables: Tables) -> None:
    """Verdicts and requests from a worsening to the trigger, by how much worse; these axes are logarithmic."""
    panels = figure.subplots(1, 2)
    rows = tables["power"].rows
    for axes, median, most, unit in (
        (panels[0], "median", "most", "verdicts"),
        (panels[1], "requests_median", "requests_most", "requests"),
    ):
        for i, before in enumerate(dict.fromkeys(row["good_before"] for row in rows)):
            shown = [row for row in rows if row["good_before"] == before]
            style, after = (
                {"color": ("#1d5a96", "#b35c00")[i], "marker": "so"[i]},
                f"after {int(before):,} good verdicts",
            )
            axes.plot(*_points(shown, median), linestyle="-", label=f"{after}: median", **style)
            axes.plot(*_points(shown, most), linestyle="--", label=f"{after}: 95 % of runs", **style)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set(xlabel="true error rate", ylabel=f"{unit} to the trigger", title=unit.capitalize())
    since = _points([row for row in rows if row["good_before"] != "0"], "since")
    panels[0].plot(*since, ":x", color="#6b6b6b", label="test since the beginning: median")
    panels[1].legend(handles=panels[0].get_lines(), fontsize=7)  # where there is room


def _points(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """Return rates and figures of the rows that have one."""
    found = [row for row in rows if row[name] is not None]
    return [row["rate"] for row in found], [row[name] for row in found]


def _unbiased(figure: Any, tables: Tables) -> None:
    """What is estimated, and the plain share of wrong verdicts, against the true rate."""
    panels = figure.subplots(1, 2, sharey=True)
    rows = tables["unbiased"].rows
    for axes, truth, name in ((panels[0], "rate", "estimate"), (panels[1], "rate_of_all", "overall")):
        x = [row[truth] for row in rows]
        axes.plot(x, x, color="#999999", linewidth=1, label="the truth")
        for one, colour, marker, label in (
            (name, "#1d5a96", "o", "estimate"),
            ("plain", "#b35c00", "s", "plain share of wrong verdicts"),
        ):
            y = [row[one] for row in rows]
            spread = [
                [row[one] - row[f"{one}_low"] for row in rows],
                [row[f"{one}_high"] - row[one] for row in rows],
            ]
            axes.errorbar(x, y, yerr=spread, color=colour, marker=marker, linestyle="", capsize=3, label=label)
    panels[0].set(xlabel="true error rate", ylabel="found", title="Answered without a person")
    panels[1].set(xlabel="true error rate", title="All answers, if all were used")
    panels[0].legend(fontsize=8)


def _load(row: Row) -> str:
    number, _, unit = row["load"].partition(" ")
    return f"{row['loop']}\n{number}\n{unit}"


LATENCY = Picture(
    "latency",
    "Latency over HTTP by load",
    "Markers from p50 to the longest, on a logarithmic scale: where they part, requests wait for each other.",
    _latency,
)
OF_RULE = (
    Picture(
        "power",
        "How soon the trigger finds what is worse",
        "The worse, the sooner, also after many good verdicts, which a test since the beginning has to outweigh.",
        _power,
    ),
    Picture(
        "unbiased",
        "Is the estimate right?",
        "On the line is right: the estimate is; the plain share of wrong verdicts counts what went to people too much.",
        _unbiased,
    ),
)
OF_LABELS = (
    Picture(
        "cost",
        "What 100 requests cost",
        "Lower is better; a bar as high as the first one saves nothing against a person who reads everything.",
        _cost,
    ),
    Picture(
        "threshold",
        "The threshold, chosen on the calibration part",
        "Left: the chosen point is the cheapest. Right: more confidence asked for, fewer answers.",
        _threshold,
    ),
    Picture(
        "calibration",
        "Is the confidence right?",
        "On the line a confidence is a probability; above it the option is more often right than it says.",
        _calibration,
    ),
    *OF_RULE,
    LATENCY,
)
OF_VALUES = (
    Picture(
        "differences",
        "How far from the truth",
        "Lower is better; left of 0 the model is nearer to the truth than the baseline on the same rows.",
        _differences,
    ),
    Picture(
        "calibration",
        "Is the interval right?",
        "Level and high is good: an interval that holds the truth as often among large values as among small ones.",
        _coverage,
    ),
    *OF_RULE,
    LATENCY,
)
PICTURES: Mapping[str, Sequence[Picture]] = {"classification": OF_LABELS, "regression": OF_VALUES}  # by task
