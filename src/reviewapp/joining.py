"""Calls that meet join: while one piece of work is under way, those that arrive wait and are the next one, together.

Who meets nobody works at once, in their own thread. It serves what costs little more for many than for one: an answer
of the model, a commit.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any, Generic, TypeVar
from weakref import WeakSet

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 1000  # of one piece of work, by `size`; one call alone may be larger


class Joined(Generic[Item, Result]):
    """Called with one item from many threads, returns that item's own result or raises its own error.

    One caller at a time leads: it enters `turn()`, takes all that wait by then (up to `most`, by `size` of an item),
    calls `work` with what the turn gave and the items, for a result each in their order, and leaves the turn. Only
    then does anybody get a result, so a turn that commits has committed. The first that came meanwhile leads next.

    Where that fails, each of them is done again, alone in a turn of its own, so `work` must leave nothing behind when
    it fails in a turn. Errors of the types `alike` concern everybody: all that wait hear of them at once.

    They all get their results at once and tend to come again at once, but one thread runs at a time: the first would
    lead alone, and the rest come a moment later. So after a work that was shared, who leads lets the others go first.
    """

    def __init__(
        self,
        work: Callable[[Any, Sequence[Item]], Sequence[Result]],
        turn: Callable[[], AbstractContextManager[Any]] = nullcontext,
        *,
        most: int = MOST,
        size: Callable[[Item], int] = lambda item: 1,
        alike: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work, self._turn = work, turn
        self._most, self._size, self._alike = most, size, alike
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Nobody is here: in a new object, and in a child, which has none of its parent's threads."""
        self._lock = threading.Lock()
        self._led = False  # whether somebody leads
        self._shared = False  # whether the last work was of more than one
        self._waiting: deque[_Call[Item, Result]] = deque()  # all but who leads

    def __call__(self, item: Item) -> Result:
        mine = _Call[Item, Result](item, self._size(item))
        with self._lock:
            leads, self._led = not self._led, True
            if not leads:
                mine.wait = threading.Lock()
                mine.wait.acquire()
                self._waiting.append(mine)
        if not leads:
            self._stand_by(mine)
            if mine.error is not None:
                raise copy(mine.error) from mine.error  # an error that several threads raise gets mixed traces
            if not mine.leads:
                return mine.results[0]
        return self._lead(mine)

    def _stand_by(self, mine: _Call[Item, Result]) -> None:
        """Return once the item is done, or it is this caller's turn to lead."""
        try:
            mine.wait.acquire()
        except BaseException:  # a signal: whoever leads must not wait for a caller that has gone
            with self._lock:
                mine.gone = True
                if mine.leads:
                    self._hand_over()
            raise

    def _lead(self, mine: _Call[Item, Result]) -> Result:
        batch = [mine]
        try:
            with self._turn() as given:
                if not mine.alone:
                    if self._shared:
                        time.sleep(0)  # gives the interpreter away; on Linux for some 60 µs
                    self._take(batch)
                self._shared = len(batch) > 1
                results = self._work(given, [call.item for call in batch])
                if len(results) != len(batch):
                    raise RuntimeError(f"{len(batch)} items were given and {len(results)} results came back")
        except BaseException as error:
            again = len(batch) > 1 and isinstance(error, Exception) and not isinstance(error, self._alike)
            self._failed(batch[1:], error, leads_on=again)
            if not again:
                raise
        else:
            with self._lock:
                self._hand_over()
            for call, result in zip(batch[1:], results[1:], strict=True):
                call.results = (result,)
                call.wait.release()
            return results[0]
        mine.alone = True
        return self._lead(mine)

    def _take(self, batch: list[_Call[Item, Result]]) -> None:
        room = self._most - batch[0].size
        with self._lock:
            while self._waiting and not self._waiting[0].alone and (room := room - self._waiting[0].size) >= 0:
                call = self._waiting.popleft()
                if not call.gone:
                    batch.append(call)

    def _failed(self, others: Sequence[_Call[Item, Result]], error: BaseException, *, leads_on: bool) -> None:
        """Tell all of an error that concerns them; else let each of the others do its own, before all that wait."""
        told: list[_Call[Item, Result]] = []
        with self._lock:
            if isinstance(error, self._alike):
                told = [*others, *self._waiting]
                self._waiting.clear()
            else:
                for call in reversed(others):
                    call.alone = True
                    self._waiting.appendleft(call)
            if not leads_on:
                self._hand_over()
        for call in told:
            call.error = error
            call.wait.release()

    def _hand_over(self) -> None:
        """Let the first that waits lead, if there is one; the lock is held."""
        while self._waiting:
            call = self._waiting.popleft()
            if not call.gone:
                call.leads = True
                call.wait.release()
                return
        self._led = False


class _Call(Generic[Item, Result]):
    __slots__ = ("alone", "error", "gone", "item", "leads", "results", "size", "wait")

    wait: threading.Lock  # only where it waits: held until it is done or leads

    def __init__(self, item: Item, size: int) -> None:
        self.item, self.size = item, size
        self.alone = self.gone = self.leads = False
        self.results: tuple[Result, ...] = ()  # one, once it is done
        self.error: BaseException | None = None


_all: WeakSet[Joined[Any, Any]] = WeakSet()


def _forget_parent() -> None:
    for joined in _all:
        joined._begin()


os.register_at_fork(after_in_child=_forget_parent)
