"""What is done every so often is done by one process at a time, goes on when that dies, and all can read it."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from reviewapp.errors import StoreBusy
from reviewapp.rounds import Rounds
from reviewapp.store import Store

from .conftest import Clock

pytestmark = pytest.mark.both


def counted(store: Store, clock: Clock, seconds: float = 60) -> tuple[Rounds, list[int]]:
    rounds, done = Rounds(store, clock), []

    def work() -> dict[str, int]:
        done.append(1)
        return {"times": len(done)}

    rounds.add("count", seconds, work)
    return rounds, done


def test_of_many_processes_one_does_a_round_and_all_can_read_what_came_of_it(store: Store, clock: Clock) -> None:
    workers = [counted(store, clock) for _ in range(8)]
    assert workers[0][0].found("count") is None
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda worker: worker[0].do_due(), workers))
    assert sum(len(done) for _, done in workers) == 1
    for rounds, _ in workers:
        found = rounds.found("count")
        assert found is not None
        assert (found.result, found.at) == ({"times": 1}, "2026-01-31T12:00:00.123Z")


def test_a_round_comes_again_when_its_time_has_passed_whoever_did_it_last(store: Store, clock: Clock) -> None:
    (first, done), (second, too) = counted(store, clock), counted(store, clock)
    first.do_due()
    clock.forward(seconds=59)
    second.do_due()
    assert (len(done), len(too)) == (1, 0)
    clock.forward(seconds=1)
    second.do_due()
    first.do_due()
    assert (len(done), len(too)) == (1, 1)


def test_what_each_process_does_for_itself_is_done_at_each_look_and_kept_nowhere(store: Store, clock: Clock) -> None:
    (first, done), (second, too) = counted(store, clock, 0), counted(store, clock, 0)
    for rounds in (first, second, first):
        rounds.do_due()
    assert (len(done), len(too)) == (2, 1)
    assert first.found("count") is None


def test_a_clock_that_was_put_back_stops_no_round(store: Store, clock: Clock) -> None:
    rounds, done = counted(store, clock)
    rounds.do_due()
    clock.forward(hours=-3)
    rounds.do_due()
    rounds.do_due()
    assert len(done) == 2


def test_one_round_that_fails_keeps_no_other_from_being_done_and_is_logged_once(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    rounds, done = Rounds(store, clock), []

    def locked() -> None:
        raise StoreBusy("The ledger is locked.")

    def broken() -> None:
        raise KeyError("secret")

    for name, work in (("locked", locked), ("broken", broken), ("last", lambda: done.append(1))):
        rounds.add(name, 10, work)
    with caplog.at_level(logging.ERROR, logger="reviewapp"):
        for _ in range(3):
            rounds.do_due()
            clock.forward(seconds=10)
    assert len(done) == 3
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "round locked failed: The ledger is locked.",
        "round broken failed: Something failed on our side; the request id finds it in the log.",
    ]


def test_a_round_that_has_nothing_new_to_say_leaves_what_is_there(store: Store, clock: Clock) -> None:
    rounds, said = Rounds(store, clock), [{"a": 1}, None]
    rounds.add("some", 10, lambda: said.pop(0))
    rounds.do_due()
    clock.forward(seconds=10)
    rounds.do_due()
    found = rounds.found("some")
    assert found is not None
    assert found.result == {"a": 1}
