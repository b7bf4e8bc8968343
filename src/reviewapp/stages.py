"""Where the time of a request goes: the own time of each stage, without the stages inside it.

Functions say what they are by a decorator (`@stage("validate")`); outside of a request it does nothing. The API tells
the caller in the `Server-Timing` header (W3C), so the same figures can be read by a browser, a script and the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

STAGES = ("parse", "validate", "predict", "record", "render")


class _Clock:
    def __init__(self) -> None:
        self.started = self.mark = perf_counter()
        self.running = ""
        self.taken = dict.fromkeys(STAGES, 0.0)

    def turn_to(self, name: str) -> str:
        """Charge the time since the last turn to the stage that ran, and return its name."""
        now, before = perf_counter(), self.running
        if before:
            self.taken[before] += now - self.mark
        self.mark, self.running = now, name
        return before


_clock: ContextVar[_Clock | None] = ContextVar("clock", default=None)


def begin() -> None:
    """Start the clock of a request in this thread."""
    _clock.set(_Clock())


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Charge the time of the block, or of the decorated function, to one of STAGES."""
    clock = _clock.get()
    if clock is None:
        yield
        return
    before = clock.turn_to(name)
    try:
        yield
    finally:
        clock.turn_to(before)


def server_timing() -> str | None:
    """Return the header's value: milliseconds of each stage and of the whole; None where no stage has run."""
    clock = _clock.get()
    if clock is None or not any(clock.taken.values()):
        return None
    shown = {**clock.taken, "total": perf_counter() - clock.started}
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in shown.items())
