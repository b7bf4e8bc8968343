"""The service's objectives (SLO): how many requests must not fail, and how many must be answered in time.

What counts are the requests of people and scripts: the API and the pages, not the questions of machines (`/livez`,
`/readyz`, `/metrics`) and files that are only handed out. One that ends with a status of 500 or more has failed; what
takes longer than the objective says is slow, but for whole files, which take as long as they have rows.

The error budget is what the objective leaves to fail; the burn rate is how fast it is used up: at 1 it lasts just as
long as the period of the objective. The alarms are those of the Site Reliability Workbook (Beyer et al. 2018, chapter
5): a fast one at 14.4 over an hour, when 2 % of 30 days' budget are gone, a slow one at 6 over six hours (5 %); each
ends when a twelfth of that time is within it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .counters import BOUNDS, Served

PERIOD = timedelta(days=30)
WINDOWS = {
    "5m": timedelta(minutes=5), "30m": timedelta(minutes=30), "1h": timedelta(hours=1), "6h": timedelta(hours=6),
    "30d": PERIOD,
}  # fmt: skip
ALARMS = {"fast": (14.4, "1h", "5m"), "slow": (6.0, "6h", "30m")}  # burn rate, over both of these windows
SHOWN = ("1h", "6h", "30d")


@dataclass(frozen=True)
class Objectives:
    """Shares of requests, between 0 and 1: that do not fail, and that are answered within `latency` seconds."""

    availability: float
    latency: float
    latency_share: float


def came_since(now: Served, before: Served | None) -> Served:
    """Return what came between two readings of the counters; where they are less than before, they began anew."""
    if before is None or now.requests < before.requests:
        return now
    return _each(now, before, -1)


def add(one: Served, other: Served) -> Served:
    """Return the sums of two."""
    return _each(one, other, 1)


def _each(one: Served, other: Served, sign: int) -> Served:
    return Served(
        requests=max(0, one.requests + sign * other.requests),
        failures=max(0, one.failures + sign * other.failures),
        rejected=max(0, one.rejected + sign * other.rejected),
        slow=max(0, one.slow + sign * other.slow),
        latency=tuple(max(0, a + sign * b) for a, b in zip(one.latency, other.latency, strict=True)),
    )


def since(window: str, now: datetime) -> str:
    """Return the first minute of a window that ends now, as minutes are kept."""
    return minute(now - WINDOWS[window] + timedelta(minutes=1))


def minute(now: datetime) -> str:
    """Return the minute of a time in UTC, as minutes are kept; such texts sort as the minutes do."""
    return f"{now:%Y-%m-%dT%H:%MZ}"


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return within how many seconds a share of answers came, as Prometheus' histogram_quantile estimates it.

    `counts` are as Histogram.counts. Within a bucket the answers are taken to lie evenly; of what lies beyond the last
    bound, that bound is all that is known. None where there are none.
    """
    n = sum(counts)
    if n == 0:
        return None
    rank, seen = share * n, 0
    for i, bound in enumerate(BOUNDS):
        if counts[i] and seen + counts[i] >= rank:
            low = BOUNDS[i - 1] if i else 0.0
            return low + (bound - low) * (rank - seen) / counts[i]
        seen += counts[i]
    return BOUNDS[-1]


def describe(windows: Mapping[str, Served], goal: Objectives) -> dict[str, Any]:
    """Return how the service stands to its objectives, from what was served in each of WINDOWS.

    Shares and rates are None where nothing was asked.
    """
    burns = {name: _burn(served, goal) for name, served in windows.items()}
    shown = {name: _figures(windows[name]) | {"burn_rate": burns[name]} for name in SHOWN}
    return {
        "objectives": {
            "days": PERIOD.days,
            "availability": goal.availability,
            "latency_seconds": goal.latency,
            "latency_share": goal.latency_share,
        },
        "windows": shown,
        "budget_left": {kind: None if burn is None else 1 - burn for kind, burn in burns["30d"].items()},
        "burning": {kind: _alarm(kind, burns) for kind in ("availability", "latency")},
    }


def _figures(served: Served) -> dict[str, Any]:
    timed = sum(served.latency)
    return {
        "requests": served.requests,
        "failures": served.failures,
        "availability": _share(served.requests - served.failures, served.requests),
        "rejected": _share(served.rejected, served.requests),
        "in_time": _share(timed - served.slow, timed),
        "p95_seconds": quantile(served.latency, 0.95),
    }


def _burn(served: Served, goal: Objectives) -> dict[str, float | None]:
    failed, slow = _share(served.failures, served.requests), _share(served.slow, sum(served.latency))
    return {
        "availability": None if failed is None else failed / (1 - goal.availability),
        "latency": None if slow is None else slow / (1 - goal.latency_share),
    }


def _alarm(kind: str, burns: Mapping[str, Mapping[str, float | None]]) -> str | None:
    for name, (limit, *windows) in ALARMS.items():
        if all((burns[window][kind] or 0.0) >= limit for window in windows):
            return name
    return None


def _share(n: int, of: int) -> float | None:
    return n / of if of else None
