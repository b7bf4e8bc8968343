"""Where the time of a request goes: the own time of each stage, without the stages inside it.

Functions say what they are by a decorator (`@stage("validate")`); outside of a request it does nothing. The API tells
the caller in the `Server-Timing` header (W3C), so the same figures can be read by a browser, a script and the evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from time import perf_counter
from typing import ParamSpec, TypeVar

STAGES = ("parse", "validate", "predict", "record", "render")
_SHOWN = ", ".join(f"{name};dur=%.3f" for name in (*STAGES, "total"))

P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """The time of one request; `taken` is what each of STAGES took so far, in seconds.

    `release` is the digest of the release that answered, once one has.
    """

    def __init__(self) -> None:
        self.started = self.mark = perf_counter()
        self.running = ""
        self.taken = dict.fromkeys(STAGES, 0.0)
        self.release: str | None = None

    def turn_to(self, name: str) -> str:
        """Charge the time since the last turn to the stage that ran, and return its name."""
        now, before = perf_counter(), self.running
        if before:
            self.taken[before] += now - self.mark
        self.mark, self.running = now, name
        return before


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


def begin() -> None:
    """Start the clock of a request in this thread."""
    _clock.set(Clock())


def clock() -> Clock:
    """Return the clock of the request in this thread; raises LookupError where there was none."""
    found = _clock.get()
    if found is None:
        raise LookupError("no request began in this thread")
    return found


def note_release(digest: str) -> None:
    """Say which release answers the request in this thread; outside of one it does nothing."""
    running = _clock.get()
    if running is not None:
        running.release = digest


class stage:  # noqa: N801 (reads as the statement and the decorator that it is)
    """Charge the time of the block, or of the decorated function, to one of STAGES."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._clock = _clock.get()
        if self._clock is not None:
            self._before = self._clock.turn_to(self._name)

    def __exit__(self, *_: object) -> None:
        if self._clock is not None:
            self._clock.turn_to(self._before)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        name = self._name  # not `with self`: one decorator serves all threads

        @wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            clock = _clock.get()
            if clock is None:
                return function(*args, **kwargs)
            before = clock.turn_to(name)
            try:
                return function(*args, **kwargs)
            finally:
                clock.turn_to(before)

        return timed


def server_timing() -> str | None:
    """Return the header's value: milliseconds of each stage and of the whole; None where no stage has run."""
    clock = _clock.get()
    if clock is None or not any(clock.taken.values()):
        return None
    taken = (*clock.taken.values(), perf_counter() - clock.started)
    return _SHOWN % tuple([seconds * 1000 for seconds in taken])
