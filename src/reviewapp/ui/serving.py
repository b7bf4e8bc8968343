"""The part of Monitor that tells how the service stands to its objectives: slo.py's figures in plain words."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Json

WINDOWS = {"1h": "hour", "6h": "6 hours", "30d": "30 days"}
NOTHING = "–"


@dataclass(frozen=True)
class ServiceRow:
    """A window of time; what is not known is a dash."""

    window: str
    requests: str
    available: str
    refused: str
    in_time: str
    slowest: str


@dataclass(frozen=True)
class ServicePart:
    """What the last minute left; None: the service is in its first."""

    found: Json | None

    @property
    def goal(self) -> str:
        """The objectives, in a sentence; only where something is found."""
        goal = self._found["objectives"]
        return (
            f"Over {goal['days']} days, {100 * goal['availability']:g} % of all requests should not fail (a status of "
            f"500 or more), and {100 * goal['latency_share']:g} % should be answered within "
            f"{1000 * goal['latency_seconds']:g} ms."
        )

    @property
    def alarms(self) -> list[str]:
        """What burns the error budget too fast, a sentence each."""
        what = {"availability": "Too many requests fail", "latency": "Too many requests take too long"}
        lasts = {"fast": "2 days", "slow": "5 days"}
        return [
            f"{what[kind]}: if it goes on so, what 30 days may have of them is used up in {lasts[alarm]} or less."
            for kind, alarm in self._found["burning"].items()
            if alarm is not None
        ]

    @property
    def left(self) -> list[tuple[str, str]]:
        """(what may fail, how much of that is left)"""
        names = {"availability": "Failures allowed", "latency": "Slow answers allowed"}
        return [
            (names[kind], "nothing was asked yet" if share is None else f"{100 * share:.0f}\u00a0% left of 30 days'")
            for kind, share in self._found["budget_left"].items()
        ]

    @property
    def rows(self) -> list[ServiceRow]:
        return [_row(words, self._found["windows"][name]) for name, words in WINDOWS.items()]

    @property
    def _found(self) -> Json:
        if self.found is None:
            raise ValueError("nothing is found yet")
        return self.found


def _row(window: str, of: Json) -> ServiceRow:
    return ServiceRow(
        window=window,
        requests=f"{of['requests']:,}",
        available=_percent(of["availability"], 3),
        refused=_percent(of["rejected"], 1),
        in_time=_percent(of["in_time"], 2),
        slowest=NOTHING if of["p95_seconds"] is None else f"{1000 * of['p95_seconds']:.3g}\u00a0ms",
    )


def _percent(share: float | None, digits: int) -> str:
    return NOTHING if share is None else f"{100 * share:.{digits}f}\u00a0%"
