"""The service's objectives (SLO): how many requests must not fail, and how many must be answered in time.

What counts are the requests of people and scripts: the API and the pages, not the questions of machines (`/livez`,
`/readyz`, `/metrics`) and files that are only handed out. One that ends with a status of 500 or more has failed; what
takes longer than the objective says is slow, but for whole files, which take as long as they have rows.

The error budget is what the objective leaves to fail; the burn rate is how fast it is used up: at 1 it lasts just as
long as the period of the objective. The alarms are those of the Site Reliability Workbook (Beyer et al. 2018, chapter
5): a fast one at 14.4 over an hour, when 2 % of 30 days' budget are gone, a slow one at 6 over six hours (5 %); each
ends when a twelfth of that time is within it again. Where little is asked, one failed request would already be such a
rate, so an alarm also needs FEWEST of them within its longer window (the same chapter, on low traffic).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, true, update

from . import places
from .counters import BOUNDS, Counters, Served
from .prediction import utcnow
from .rounds import Rounds
from .sqlwords import numbers
from .store import Store
from .tables import minutes, rounds
from .tally import Tally

PERIOD = timedelta(days=30)
WINDOWS = {
    "5m": timedelta(minutes=5), "30m": timedelta(minutes=30), "1h": timedelta(hours=1), "6h": timedelta(hours=6),
    "30d": PERIOD,
}  # fmt: skip
ALARMS = {"fast": (14.4, "1h", "5m"), "slow": (6.0, "6h", "30m")}  # burn rate, over both of these windows
FEWEST = 5  # requests that failed, or were late, over the longer window; deploy/prometheus has the same
SHOWN = ("1h", "6h", "30d")
ROUND, EVERY_SECONDS = "minute", 60.0
KEPT = timedelta(days=31)


@dataclass(frozen=True)
class Objectives:
    """Shares of requests, between 0 and 1: that do not fail, and that are answered within `latency` seconds."""

    availability: float
    latency: float
    latency_share: float


class Minutes:
    """What came in each minute, in the ledger: written by one process of a machine at a time, for all that it has.

    `name` is that of the round in which this machine does so: each counts its own requests, and their minutes add up.
    `clock` returns the time as an aware datetime.
    """

    def __init__(
        self,
        store: Store,
        all_rounds: Rounds,
        counters: Counters,
        tally: Tally,
        goal: Objectives,
        clock: Callable[[], datetime] = utcnow,
        name: str = ROUND,
    ) -> None:
        self.name = name
        self._store, self._rounds, self._counters, self._tally = store, all_rounds, counters, tally
        self._goal, self._clock = goal, clock

    def go_round(self) -> dict[str, Any]:
        """Write down what came since the last time, forget what is old, and return how the service stands.

        What came is kept in one commit with the sums that the next time is held against: nothing counts twice, whatever
        ends this process. The sums over all windows, which take a while, hold up nobody who writes.
        """
        self._tally.catch_up(self.counted(), EVERY_SECONDS / 2)
        now, served = self._clock(), self._counters.totals().served
        with self._store.writing() as connection:
            last = connection.scalar(select(rounds.c.found).where(rounds.c.name == self.name))
            came = came_since(served, _served(last["served"]) if last else None)
            if came != Served():
                _add_to(connection, minute(now), came)
            connection.execute(delete(minutes).where(minutes.c.minute < minute(now - KEPT)))
            found = {"served": asdict(served), "predictions": self._tally.checkpoint()}
            kept = {**(last or {}), **found}
            connection.execute(update(rounds).where(rounds.c.name == self.name).values(found=kept))
        with self._store.reading() as connection:
            windows = {name: _served_since(connection, since(name, now)) for name in WINDOWS}
        return {**found, "service": describe(windows, self._goal)}

    def counted(self) -> Mapping[str, Any] | None:
        """Return how many predictions there were the last time, as Tally.checkpoint says it."""
        found = self._rounds.found(self.name)
        return None if found is None else found.result["predictions"]

    def service(self) -> dict[str, Any] | None:
        """Return how the service stood to its objectives the last time, and `at` when; None before the first."""
        found = self._rounds.found(self.name)
        return None if found is None or "service" not in found.result else {"at": found.at, **found.result["service"]}


def round_of(store: Store, instance: Path) -> str:
    """Return the name of the round of who serves from this instance folder, of the machines that share a ledger.

    It lies beside the counters: a container may be called otherwise each time it starts, and they go on.
    """
    return ROUND if store.is_file else f"{ROUND} {places.host(instance)}".rstrip()


def _served(kept: Mapping[str, Any]) -> Served:
    latency = tuple(kept["latency"])
    if len(latency) != len(Served().latency):  # by a version with other bounds
        latency = Served().latency
    return Served(**{**kept, "latency": latency})


def _add_to(connection: Connection, when: str, came: Served) -> None:
    there = connection.execute(select(minutes).where(minutes.c.minute == when)).mappings().first()
    if there is None:
        connection.execute(insert(minutes).values(minute=when, **asdict(came)))
        return
    summed = add(came, _served({name: there[name] for name in asdict(came)}))
    connection.execute(update(minutes).where(minutes.c.minute == when).values(**asdict(summed)))


def _served_since(connection: Connection, first: str) -> Served:
    of = minutes.c
    sums = [func.coalesce(func.sum(one), 0) for one in (of.requests, of.failures, of.rejected, of.slow)]
    each, bound, n = numbers(of.latency, connection.dialect)
    by_bound = select(bound, func.sum(n)).select_from(minutes.join(each, true())).where(of.minute >= first)
    counts = {int(bound): int(n) for bound, n in connection.execute(by_bound.group_by(bound))}
    latency = [counts.get(i, 0) for i in range(len(Served().latency))]
    requests, failures, rejected, slow = connection.execute(select(*sums).where(of.minute >= first)).one()
    return Served(int(requests), int(failures), int(rejected), int(slow), tuple(latency))


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
    """Return the first minute of a window that ends with this one, as minutes are kept."""
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
        "burning": {kind: _alarm(kind, windows, burns) for kind in ("availability", "latency")},
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


def _alarm(kind: str, served: Mapping[str, Served], burns: Mapping[str, Mapping[str, float | None]]) -> str | None:
    for name, (limit, long, short) in ALARMS.items():
        bad = served[long].failures if kind == "availability" else served[long].slow
        if bad >= FEWEST and all((burns[window][kind] or 0.0) >= limit for window in (long, short)):
            return name
    return None


def _share(n: int, of: int) -> float | None:
    return n / of if of else None
