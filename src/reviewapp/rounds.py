"""Rounds: what one process at a time does every so often, however many workers and machines there are.

Each round has a row in the ledger that says until when somebody has it for themselves. Who finds that time over takes
the row, in one statement, does the work and writes down what came of it, for all to read. Where that process dies, the
next one takes over as the time ends.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, insert, select, update

from .errors import as_own
from .prediction import timestamp, utcnow
from .store import Store
from .tables import rounds

log = logging.getLogger("reviewapp")
LOOK_SECONDS = 5.0  # from one look at what is due to the next
_UNTIL = select(rounds.c.until).where(rounds.c.name == bindparam("name"))
_FOUND = select(rounds.c.found_at, rounds.c.found).where(rounds.c.name == bindparam("name"))


class Found(NamedTuple):
    """What a round found, and when."""

    at: str
    result: Mapping[str, Any]


class _Round(NamedTuple):
    seconds: float
    work: Callable[[], Mapping[str, Any] | None]


class Rounds:
    """The rounds of a service. `clock` returns the time as an aware datetime."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utcnow) -> None:
        self._store, self._clock = store, clock
        self._rounds: dict[str, _Round] = {}
        self._told: dict[str, str] = {}  # of a round, which failure was logged last

    def add(self, name: str, seconds: float, work: Callable[[], Mapping[str, Any] | None]) -> None:
        """Have `work` done every so many seconds; what it returns is kept as JSON, None keeps what is there.

        With 0 seconds every process does it for itself, at each look, and nothing is kept.
        """
        self._rounds[name] = _Round(seconds, work)

    def found(self, name: str) -> Found | None:
        """Return what a round found the last time, None where it has not been done yet."""
        row = self._store.lookup(_FOUND, name=name)
        return None if row is None or row[0] is None else Found(row[0], orjson.loads(row[1]))

    def do_due(self) -> None:
        """Do each round whose time has come and that nobody else is doing. A failure is logged, and tried again."""
        for name, one in self._rounds.items():
            try:
                if not one.seconds:
                    one.work()
                elif self._take(name, one.seconds):
                    self._keep(name, one.work())
                self._told.pop(name, None)
            except Exception as error:  # the next round must be done whatever came of this one
                said = as_own(error)
                if self._told.get(name) != said.detail:
                    trace = error if said.status == 500 else None
                    log.error("round %s failed: %s", name, said.detail, exc_info=trace)  # noqa: TRY400 (busy: no trace)
                self._told[name] = said.detail

    def keep_doing(self) -> None:
        """Begin a thread that does what is due, for as long as this process lives."""
        threading.Thread(target=self._go_on, name="rounds", daemon=True).start()

    def _go_on(self) -> None:
        never = threading.Event()
        while not never.wait(LOOK_SECONDS):
            self.do_due()

    def _take(self, name: str, seconds: float) -> bool:
        now = self._clock()
        row = self._store.lookup(_UNTIL, name=name)
        # A time far ahead was written by a clock that has been put right since.
        soonest, latest = timestamp(now), timestamp(now + timedelta(seconds=2 * seconds))
        if row is not None and soonest < row[0] <= latest:
            return False
        until = timestamp(now + timedelta(seconds=seconds))
        with self._store.writing() as connection:
            if row is None:
                there = connection.scalar(select(rounds.c.name).where(rounds.c.name == name))
                if there is None:
                    connection.execute(insert(rounds).values(name=name, until=until))
                return there is None
            mine = update(rounds).where(rounds.c.name == name, rounds.c.until == row[0]).values(until=until)
            return bool(connection.execute(mine).rowcount)

    def _keep(self, name: str, result: Mapping[str, Any] | None) -> None:
        if result is None:
            return
        with self._store.writing() as connection:
            found = {"found_at": timestamp(self._clock()), "found": dict(result)}
            connection.execute(update(rounds).where(rounds.c.name == name).values(**found))
