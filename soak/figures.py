"""What a row measures: figures, each with what it has to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One figure: `what` it is in words, what it `must` be (`0`, `< 1.5 s`), what was `measured`, and whether it is.

    One that is `timed` says as much of the machine as of the service: the tests, on any machine, leave it out.
    """

    what: str
    must: str
    measured: str
    reached: bool
    timed: bool = False


def none(what: str, found: int) -> Figure:
    """A figure that must be 0."""
    return Figure(what, "0", str(found), not found)


def below(what: str, measured: float, limit: float, unit: str, digits: int = 2) -> Figure:
    """A figure that must be below a limit, both in the unit."""
    return Figure(what, f"< {limit:g} {unit}", f"{measured:.{digits}f} {unit}", measured < limit, unit in ("s", "ms"))


def all_of(what: str, right: int, of: int) -> Figure:
    """A figure that must be all there are, and there must be some."""
    return Figure(what, f"{of:,} of {of:,}", f"{right:,} of {of:,}", 0 < of == right)
