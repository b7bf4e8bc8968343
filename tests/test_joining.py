"""Calls that meet are done together, and nobody can tell: each gets its own result or error; nobody waits for ever."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from reviewapp import joining
from reviewapp.errors import StoreBusy
from reviewapp.joining import Joined, _Call

LONG = 30  # seconds after which a test has failed


class Calls:
    """Calls of one `Joined`, each in a thread of its own, in the order in which they are made.

    The first to lead stops in its turn, or in its work, until `go`, so that the others meet while it is under way.
    """

    def __init__(self, work: Callable[[Sequence[Any]], Sequence[Any]] = list, **how: Any) -> None:
        self.batches: list[list[Any]] = []
        self.go, self.under_way = threading.Event(), threading.Event()
        self.leaving: Callable[[], None] = lambda: None
        self._do = work
        self.joined: Joined[Any, Any] = Joined(self._work, self._turn, **how)
        self.threads: list[threading.Thread] = []
        self.results: dict[Any, Any] = {}

    def _work(self, given: int, items: Sequence[Any]) -> Sequence[Any]:
        assert given == 7
        self.batches.append(list(items))
        self.under_way.set()
        assert self.go.wait(LONG)
        return self._do(items)

    @contextmanager
    def _turn(self) -> Iterator[int]:
        yield 7
        self.leaving()

    def start(self, item: Any) -> None:
        """Let a call begin, and return once it leads or waits."""
        waiting = len(self.joined._waiting)
        thread = threading.Thread(target=self._call, args=(item,), daemon=True)
        self.threads.append(thread)
        thread.start()
        if len(self.threads) == 1:
            assert self.under_way.wait(LONG)
        else:
            until(lambda: len(self.joined._waiting) > waiting)

    def _call(self, item: Any) -> None:
        try:
            self.results[item] = self.joined(item)
        except BaseException as error:
            self.results[item] = error

    def end(self) -> dict[Any, Any]:
        self.go.set()
        for thread in self.threads:
            thread.join(LONG)
            assert not thread.is_alive()
        assert not self.joined._led and not self.joined._waiting
        return self.results


def until(holds: Callable[[], bool]) -> None:
    for _ in range(LONG * 1000):
        if holds():
            return
        threading.Event().wait(0.001)
    raise AssertionError("waited for nothing")


def until_waiting(joined: Joined[Any, Any], calls: int) -> None:
    """Return once so many calls wait behind the one that leads."""
    until(lambda: joined._led and len(joined._waiting) == calls)


def twice(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


def test_a_lone_call_does_its_own_work_at_once() -> None:
    threads = []

    def work(given: None, items: Sequence[int]) -> list[int]:
        threads.append(threading.current_thread())
        return twice(items)

    joined: Joined[int, int] = Joined(work)
    assert [joined(item) for item in range(3)] == [0, 2, 4]
    assert set(threads) == {threading.current_thread()}


def test_calls_that_come_while_one_is_under_way_are_the_next_work_together_in_their_order() -> None:
    calls = Calls(twice)
    for item in range(6):
        calls.start(item)
    assert calls.end() == {item: 2 * item for item in range(6)}
    assert calls.batches == [[0], [1, 2, 3, 4, 5]]


def test_who_comes_while_the_turn_is_waited_for_is_in_it() -> None:
    batches, waits, go = [], threading.Event(), threading.Event()

    @contextmanager
    def turn() -> Iterator[None]:
        waits.set()
        assert go.wait(LONG)
        yield

    def work(given: None, items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        return twice(items)

    joined: Joined[int, int] = Joined(work, turn)
    threads = [threading.Thread(target=joined, args=(item,), daemon=True) for item in range(3)]
    threads[0].start()
    assert waits.wait(LONG)
    for number, thread in enumerate(threads[1:], 1):
        thread.start()
        until_waiting(joined, number)
    go.set()
    for thread in threads:
        thread.join(LONG)
    assert batches == [[0, 1, 2]]


def test_after_a_shared_work_who_is_on_the_way_is_in_the_next_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(twice)
    for item in range(3):
        calls.start(item)
    pauses: list[float] = []
    late = threading.Thread(target=calls._call, args=(4,), daemon=True)

    def others_go_on(seconds: float) -> None:
        pauses.append(seconds)
        late.start()
        until(lambda: len(calls.joined._waiting) == 1)

    monkeypatch.setattr(joining.time, "sleep", others_go_on)
    calls.end()
    assert not pauses
    assert calls.joined(3) == 6
    late.join(LONG)
    assert calls.batches == [[0], [1, 2], [3, 4]]
    assert pauses == [0]


def test_nobody_gets_a_result_before_the_turn_was_left() -> None:
    calls = Calls(twice)
    for item in range(4):
        calls.start(item)
    others, waited = list(calls.joined._waiting), list[bool]()
    calls.leaving = lambda: waited.extend(call.wait.locked() for call in others[1:])  # the first of them leads
    calls.end()
    assert waited == [True] * 4


def test_a_large_item_is_not_stuck_with_others_and_nobody_passes_it() -> None:
    calls = Calls(twice, most=10, size=lambda item: item)
    for item in (1, 4, 5, 6, 100, 2, 3):
        calls.start(item)
    calls.end()
    assert calls.batches == [[1], [4, 5], [6], [100], [2, 3]]


def failing_at(bad: set[int], error: type[Exception] = ValueError) -> Callable[[Sequence[int]], list[int]]:
    def work(items: Sequence[int]) -> list[int]:
        for item in items:
            if item in bad:
                raise error(str(item))
        return twice(items)

    return work


def test_a_bad_item_fails_alone_with_its_own_error() -> None:
    calls = Calls(failing_at({2, 4}))
    for item in range(6):
        calls.start(item)
    results = calls.end()
    assert {item: results[item] for item in (0, 1, 3, 5)} == {0: 0, 1: 2, 3: 6, 5: 10}
    for bad in (2, 4):
        assert isinstance(results[bad], ValueError) and str(results[bad]) == str(bad)
    assert calls.batches == [[0], [1, 2, 3, 4, 5], [1], [2], [3], [4], [5]]


def test_a_turn_that_cannot_be_left_is_done_again_one_by_one() -> None:
    calls = Calls(twice)

    def leaving() -> None:
        if len(calls.batches[-1]) > 1 or calls.batches[-1] == [2]:
            raise ValueError("not committed")

    calls.leaving = leaving
    for item in range(4):
        calls.start(item)
    results = calls.end()
    assert str(results.pop(2)) == "not committed"
    assert results == {0: 0, 1: 2, 3: 6}


def test_work_that_gives_too_few_results_gives_nobody_that_of_another() -> None:
    calls = Calls(lambda items: twice(items)[:1])
    for item in range(4):
        calls.start(item)
    assert calls.end() == {0: 0, 1: 2, 2: 4, 3: 6}


@pytest.mark.parametrize("at_once", [True, False])
def test_an_error_that_concerns_all_is_told_to_all_that_wait_at_once(at_once: bool) -> None:
    tries = 0

    def work(items: Sequence[int]) -> list[int]:
        nonlocal tries
        tries += 1
        if at_once or tries == 2:
            raise StoreBusy("locked", retry_after=3)
        return twice(items)

    calls = Calls(work, alike=(StoreBusy,))
    for item in range(5):
        calls.start(item)
    results = calls.end()
    errors = [result for result in results.values() if isinstance(result, StoreBusy)]
    assert len(errors) == len({id(error) for error in errors}) == (5 if at_once else 4)
    assert {(error.detail, error.retry_after) for error in errors} == {("locked", 3)}
    assert tries == (1 if at_once else 2)
    assert calls.joined(9) if not at_once else True


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("when", [1, 2])
def test_nobody_waits_for_ever_when_the_one_that_leads_is_stopped(stop: type[BaseException], when: int) -> None:
    tries = 0

    def work(items: Sequence[int]) -> list[int]:
        nonlocal tries
        tries += 1
        if tries == when:
            raise stop
        return twice(items)

    calls = Calls(work)
    for item in range(4):
        calls.start(item)
    results = calls.end()
    assert isinstance(results.pop(when - 1), stop)
    assert results == {item: 2 * item for item in range(4) if item != when - 1}


def test_a_caller_that_is_stopped_while_it_waits_is_waited_for_by_nobody() -> None:
    class Stopped:
        def acquire(self) -> None:
            raise KeyboardInterrupt

    joined: Joined[int, int] = Joined(lambda given, items: twice(items))
    joined._led = True
    first, second = joined_call(joined, 1), joined_call(joined, 2)
    joined._waiting.extend((first, second))
    first.wait = Stopped()
    with pytest.raises(KeyboardInterrupt):
        joined._stand_by(first)
    with joined._lock:
        joined._hand_over()
    assert second.leads and not first.leads
    second.wait = Stopped()
    with pytest.raises(KeyboardInterrupt):
        joined._stand_by(second)
    assert not joined._led and joined(3) == 6


def joined_call(joined: Joined[int, int], item: int) -> Any:
    call: Any = _Call(item, 1)
    call.wait = threading.Lock()
    call.wait.acquire()
    return call


def test_who_leads_serves_one_work_and_is_not_kept() -> None:
    """The caller that led is back before the work that met it is done."""
    calls = Calls(twice)
    calls.start(0)
    second = threading.Event()
    calls.leaving = lambda: None if len(calls.batches) == 1 else _wait(second)
    for item in (1, 2):
        calls.start(item)
    calls.go.set()
    calls.threads[0].join(LONG)
    assert calls.results == {0: 0}
    second.set()
    assert calls.end() == {0: 0, 1: 2, 2: 4}


def _wait(event: threading.Event) -> None:
    assert event.wait(LONG)


@pytest.mark.parametrize("seed", range(5))
def test_joined_is_as_alone_whoever_meets_whom(seed: int) -> None:
    rng = random.Random(seed)
    bad = {rng.randrange(400) for _ in range(20)}
    alone = failing_at(bad)
    joined: Joined[int, int] = Joined(lambda given, items: alone(items), most=rng.randint(1, 9))
    results: dict[int, Any] = {}
    begin = threading.Barrier(8)

    def call(first: int) -> None:
        begin.wait(LONG)
        for item in range(first, 400, 8):
            try:
                results[item] = joined(item)
            except ValueError as error:
                results[item] = str(error)

    threads = [threading.Thread(target=call, args=(first,), daemon=True) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert results == {item: str(item) if item in bad else 2 * item for item in range(400)}


def test_a_child_that_was_forked_while_one_was_under_way_begins_anew() -> None:
    calls = Calls(twice)
    calls.start(0)
    calls.start(1)
    with calls.joined._lock:
        child = os.fork()
        if not child:
            signal.alarm(LONG)
            calls._do, calls.go = twice, threading.Event()
            calls.go.set()
            os._exit(0 if calls.joined(4) == 8 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert calls.end() == {0: 0, 1: 2}
