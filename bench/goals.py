"""The goals, and what the runs say of each: one figure a round, their median and how far they lie apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from reviewapp.evidence.tables import Row

from .measure import (
    AT_MANY,
    AT_ONE,
    BARE,
    BATCH,
    COMMIT,
    DISK,
    MILLION,
    START,
    memory,
)  # fmt: skip
from .releases import BOOSTING, TRIAGE
from .running import BY_HAND, EMPTY, OURS

Figures = Callable[[Sequence[Row]], list[float]]
AT_LEAST, AT_MOST = "≥", "≤"
RATE, P50, P99, FIGURE = "rows_per_second", "p50", "p99", "figure"
REACHED_AIM, REACHED_MUST, MISSED = "aim", "must", "no"


@dataclass(frozen=True)
class Goal:
    """`sense` says on which side of `must` the figure has to lie; a goal without `must` is information."""

    what: str
    figures: Figures
    sense: str = AT_LEAST
    must: float | None = None
    aim: float | None = None
    unit: str = "×"

    def row(self, runs: Sequence[Row]) -> Row:
        found = self.figures(runs)
        figure = median(found)
        return {
            "what": self.what,
            "figure": figure,
            "low": min(found),
            "high": max(found),
            "unit": self.unit,
            "sense": self.sense if self.must is not None else "",
            "must": self.must,
            "aim": self.aim,
            "reached": self._reached(figure),
        }

    def _reached(self, figure: float) -> str:
        if self.must is None:
            return ""
        for name, limit in ((REACHED_AIM, self.aim), (REACHED_MUST, self.must)):
            if limit is not None and (figure >= limit if self.sense == AT_LEAST else figure <= limit):
                return name
        return MISSED


def read(runs: Sequence[Row], release: str, server: str, what: str, column: str) -> list[float]:
    """Return a column of the runs of one kind, round by round."""
    key = {"release": release, "server": server, "what": what}
    found = [run for run in runs if all(run[name] == value for name, value in key.items())]
    return [float(run[column]) for run in sorted(found, key=lambda run: run["round"])]


def over(release: str, what: str, upper: tuple[str, str], lower: tuple[str, str]) -> Figures:
    """Return a reader of one figure divided by another, each given as server and column, round by round."""

    def figures(runs: Sequence[Row]) -> list[float]:
        above, below = (read(runs, release, server, what, column) for server, column in (upper, lower))
        return [a / b for a, b in zip(above, below, strict=True)]

    return figures


def plain(release: str, server: str, what: str, column: str, factor: float = 1.0) -> Figures:
    return lambda runs: [factor * value for value in read(runs, release, server, what, column)]


def growth(columns: tuple[str, str], grown: Callable[[float, float], float]) -> Figures:
    """Return a reader of how the service's p50 grows with the columns, against how the bare pipeline's does."""

    def figures(runs: Sequence[Row]) -> list[float]:
        few, many, bare_few, bare_many = (
            read(runs, release, server, AT_ONE, P50) for server in (OURS, BARE) for release in columns
        )
        rounds = zip(few, many, bare_few, bare_many, strict=True)
        return [grown(a, b) / grown(c, d) for a, b, c, d in rounds]

    return figures


def goals(others: Sequence[str], columns: tuple[str, str], memory_workers: Sequence[int]) -> list[Goal]:
    """Return the goals in the order in which they are stated; for the arguments see `measure.Bench`."""
    rate = (OURS, RATE)
    difference = growth(columns, lambda few, many: many - few)
    quotient = growth(columns, lambda few, many: many / few)
    return [
        Goal("triage, 16 connections: share of (a) the empty route's req/s",
             over(TRIAGE, AT_MANY, rate, (EMPTY, RATE)), must=0.33, aim=0.5),
        Goal("triage, 16 connections: req/s, times (b) by hand",
             over(TRIAGE, AT_MANY, rate, (BY_HAND, RATE)), must=6, aim=12),
        Goal("triage, 1 connection: p50, times better than (b)",
             over(TRIAGE, AT_ONE, (BY_HAND, P50), (OURS, P50)), must=5, aim=8),
        Goal("gradient boosting, 16 connections: req/s, times (b)",
             over(BOOSTING.name, AT_MANY, rate, (BY_HAND, RATE)), must=4, aim=8),
        *[Goal(f"any other pipeline ({name}), 16 connections: req/s, times (b)",
               over(name, AT_MANY, rate, (BY_HAND, RATE)), must=2, aim=3) for name in others if name != BOOSTING.name],
        Goal("batch: rows/s, against the bare pipeline on a ready frame",
             over(TRIAGE, BATCH, (BARE, P50), (OURS, P50)), must=0.35, aim=0.7),
        Goal("triage, 16 connections: p99 ÷ p50",
             over(TRIAGE, AT_MANY, (OURS, P99), (OURS, P50)), AT_MOST, must=4, aim=2.5),
        Goal("growth with the columns: added time, against the bare pipeline's",
             difference, AT_MOST, must=1),
        Goal("the same as quotients: growth factor, against the bare pipeline's",
             quotient, AT_MOST),
        *[Goal(f"private memory of a worker beyond the first, of {workers}",
               plain(TRIAGE, OURS, memory(workers), FIGURE), AT_MOST, must=150, unit="MiB")
          for workers in memory_workers],
        Goal("start to first good answer", plain(TRIAGE, OURS, START, FIGURE), AT_MOST, must=4, unit="s"),
        Goal("triage, 16 connections: req/s with the long ledger, against the short one",
             over(TRIAGE, AT_MANY, (MILLION, RATE), rate), must=0.9),
        Goal("a bare commit with synchronous=FULL on this disk, p50", plain("", DISK, COMMIT, P50, 1000), unit="µs"),
    ]  # fmt: skip
