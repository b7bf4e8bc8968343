"""Pictures over time as points of an SVG, computed here so that the template only places them.

The picture is as wide as the text beside it; its letters grow on a phone (style.css), so there are few of them, and
room is left for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..monitoring import Point
from ..trigger import evidence_words

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 104, 628, 14, 262  # of the field with the lines
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # between the marks of a share; at most five of them
LEAST, MOST = 0.1, 1e4  # what a scale of evidence shows, unless what it takes is more

Place = tuple[float, float]


@dataclass(frozen=True)
class Plot:
    """One line over the verdicts, with a limit across. `text` is what is to be read from it, for who cannot see it.

    `line` and `band` are points as SVG writes them; marks are (y, what it says); `last` and `fired` are dots.
    """

    text: str
    line: str
    band: str
    marks: list[tuple[float, str]]
    limit: tuple[float, str]
    last: Place
    fired: Place | None
    ends: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


def share_plot(points: Sequence[Point], limit: float, fired_at: int | None) -> Plot:
    """Draw the share found wrong with its interval. The scale is that of the later verdicts: of the first few, any
    share is possible, and a picture of that would show nothing else."""
    last, settled = points[-1], points[len(points) // 2 :]
    wanted = max(1.4 * limit, last.high, *(one.value for one in settled))
    step = next((step for step in STEPS if 5 * step >= wanted), STEPS[-1])
    steps = min(math.ceil(wanted / step), round(1 / step))
    y = _scale(0, steps * step)
    marks = [(y(i * step), f"{100 * i * step:.3g} %") for i in range(steps + 1)]
    band = [(one.n, one.high) for one in points] + [(one.n, one.low) for one in reversed(points)]
    text = (
        f"Share of audited answers found wrong, after each of {last.n:,} verdicts: {_percent(last.value)} now, with a "
        f"95 % interval from {_percent(last.low)} to {_percent(last.high)}, and a limit of {_percent(limit)}"
    )
    return _plot(
        points, [one.value for one in points], band, y, marks, (limit, f"limit {100 * limit:g} %"), fired_at, text
    )


def evidence_plot(points: Sequence[Point], needed: float, fired_at: int | None) -> Plot:
    """Draw the evidence against what it takes, on a logarithmic scale."""
    top = max(MOST, 10 * needed) if max(one.evidence for one in points) > 1000 else max(100.0, 10 * needed)
    low, high = round(math.log10(LEAST)), math.ceil(math.log10(top))
    y = _scale(low, high)
    every = math.ceil((high - low) / 5)
    marks = [(y(power), _power(power)) for power in range(low, high + 1, every)]
    text = (
        f"Evidence against the limit after each of {points[-1].n:,} verdicts, on a logarithmic "
        f"scale: {evidence_words(points[-1].evidence)} now, of the {needed:,.3g} that it takes"
    )
    values = [math.log10(max(one.evidence, LEAST)) for one in points]
    limit = (math.log10(needed), f"{needed:,.3g} needed")
    return _plot(points, values, [], y, marks, limit, fired_at, text)


def _plot(
    points: Sequence[Point],
    values: Sequence[float],
    band: Sequence[tuple[int, float]],
    y: Callable[[float], float],
    marks: list[tuple[float, str]],
    limit: tuple[float, str],
    fired_at: int | None,
    text: str,
) -> Plot:
    n = points[-1].n

    def place(at: int, value: float) -> Place:
        return round(LEFT + (RIGHT - LEFT) * at / n, 1), y(value)

    line = [place(one.n, value) for one, value in zip(points, values, strict=True)]
    fired = [dot for one, dot in zip(points, line, strict=True) if one.n == fired_at]
    says = f"{text}; the trigger fired at verdict {fired_at:,}." if fired else f"{text}."
    return Plot(
        text=says,
        line=_written(line),
        band=_written([place(at, value) for at, value in band]),
        marks=marks,
        limit=(y(limit[0]), limit[1]),
        last=line[-1],
        fired=fired[0] if fired else None,
        ends=f"{n:,} verdict{'s' if n > 1 else ''}",
    )


def _scale(low: float, high: float) -> Callable[[float], float]:
    """Return the way from a value to its place; what lies beyond the scale is placed at its end."""
    return lambda value: round(BOTTOM - (BOTTOM - TOP) * (min(max(value, low), high) - low) / (high - low), 1)


def _written(places: Sequence[Place]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _power(power: int) -> str:
    """Return a power of ten, short enough for the margin."""
    return f"{10.0**power:,g}" if power <= 4 else "10" + str(power).translate(_RAISED)


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
