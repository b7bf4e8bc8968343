"""Calls that are recorded at the same time share a commit, and each is kept whole or not at all, as if alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from reviewapp.errors import NotFound, StoreBusy, StoreFull
from reviewapp.ledger import TOGETHER, Ledger
from reviewapp.prediction import Call, IdempotencyKey, Prediction
from reviewapp.statements import AT_ONCE
from reviewapp.store import Store, Turn
from reviewapp.tables import idempotency_keys, predictions, probe, queue

from .conftest import Clock
from .test_joining import LONG, until_waiting
from .test_ledger import prediction

pytestmark = pytest.mark.both


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


FRAME, PAGE = 24, 4096  # bytes, after a header of 32 (https://www.sqlite.org/fileformat2.html#the_write_ahead_log)


def frames(store: Store) -> Iterator[bytes]:
    """Yield the heads of the frames in the log of an open store: one is a page as written."""
    log = Path(f"{store.path}-wal").read_bytes()
    for at in range(32, len(log), FRAME + PAGE):
        if log[at + 8 : at + 16] == log[16:24]:  # of this log, not left from one before
            yield log[at : at + FRAME]


def commits(store: Store) -> int:
    """Return the number of commits: the last frame of each says how large the file is then, all others 0."""
    return sum(frame[4:8] != b"\0\0\0\0" for frame in frames(store))


@contextmanager
def works_of(ledger: Ledger, store: Store) -> Iterator[list[int]]:
    """Give the number of predictions that each piece of work from now on left in the ledger, in a commit of its own."""
    seen: list[int] = []
    work = ledger._keep._work

    def watched(turn: Turn, additions: Sequence[Any]) -> Sequence[None]:
        before = commits(store)
        done = work(turn, additions)
        assert commits(store) == before + 1
        seen.append(len(kept(store)))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger._keep, "_work", watched)
        yield seen


def record_at_once(ledger: Ledger, store: Store, asked: Sequence[tuple[Sequence[Prediction], Call]]) -> list[Any]:
    """Record calls that meet while somebody else writes; return what became of each: None, or its error."""
    results: list[Any] = ["nothing"] * len(asked)

    def record(number: int) -> None:
        try:
            results[number] = ledger.add_predictions(*asked[number])
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=record, args=(number,), daemon=True) for number in range(len(asked))]
    with store.writing():
        for number, thread in enumerate(threads):
            thread.start()
            until_waiting(ledger._keep, number)
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    return results


def kept(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.scalars(select(predictions.c.id).order_by(predictions.c.seq)))


@pytest.mark.sqlite  # commits are counted in its log
def test_calls_that_meet_share_a_commit_in_the_order_in_which_they_came(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    made = [[prediction(clock) for _ in range(1 + number % 2)] for number in range(6)]
    with works_of(ledger, store) as works:
        assert record_at_once(ledger, store, [(one, Call()) for one in made]) == [None] * 6
    assert works == [9]
    assert kept(store) == [one.id for call in made for one in call]


@pytest.mark.sqlite  # commits are counted in its log
def test_a_call_of_many_has_a_commit_of_its_own(ledger: Ledger, store: Store, clock: Clock) -> None:
    made = [[prediction(clock) for _ in range(n)] for n in (1, 2, TOGETHER + 1, 3, 4)]
    with works_of(ledger, store) as works:
        assert record_at_once(ledger, store, [(one, Call()) for one in made]) == [None] * 5
    assert works == [3, 4 + TOGETHER, 11 + TOGETHER]
    assert kept(store) == [one.id for call in made for one in call]


def fails(connection: Connection) -> None:
    connection.execute(insert(probe).values(id=1))
    raise ZeroDivisionError


def test_one_that_fails_is_not_kept_at_all_and_the_others_are(ledger: Ledger, store: Store, clock: Clock) -> None:
    first = prediction(clock)
    ledger.add_predictions([first], Call())
    review = {"decision": "review", "reasons": ["low_confidence"]}
    made = [prediction(clock, **review) for _ in range(5)]
    keys = [IdempotencyKey("ann", f"k-{number}", "f" * 64) for number in range(5)]
    asked = [([one], Call(key=key)) for one, key in zip(made, keys, strict=True)]
    asked[1] = ([made[1]], Call(key=keys[1], beside=fails))
    asked[3] = ([made[3], first], Call(key=keys[3]))  # an id that is there
    results = record_at_once(ledger, store, asked)
    assert [type(result).__name__ for result in results] == [
        "NoneType", "ZeroDivisionError", "NoneType", "IntegrityError", "NoneType",
    ]  # fmt: skip
    good = [made[0].id, made[2].id, made[4].id]
    assert sorted(kept(store)) == sorted([first.id, *good])
    with store.reading() as connection:
        assert sorted(connection.scalars(select(queue.c.prediction_id))) == sorted(good)
        assert sorted(connection.scalars(select(idempotency_keys.c.key))) == ["k-0", "k-2", "k-4"]
        assert connection.execute(select(probe)).all() == []
    with pytest.raises(NotFound):
        ledger.prediction(made[1].id)


def test_what_belongs_beside_each_call_is_in_the_same_commit(ledger: Ledger, store: Store, clock: Clock) -> None:
    def beside(number: int) -> Callable[[Connection], None]:
        def record(connection: Connection) -> None:
            connection.execute(insert(probe).values(id=number, written_at=f"{number}"))

        return record

    asked = [([prediction(clock)], Call(beside=beside(number))) for number in range(4)]
    assert record_at_once(ledger, store, asked) == [None] * 4
    with store.reading() as connection:
        assert connection.scalars(select(probe.c.id).order_by(probe.c.id)).all() == [0, 1, 2, 3]


def test_what_cannot_be_written_down_fails_before_it_meets_others(ledger: Ledger, store: Store, clock: Clock) -> None:
    with pytest.raises(TypeError), works_of(ledger, store) as works:
        ledger.add_predictions([prediction(clock, input={"text": object()})], Call())
    assert works == []


def waiting(store: Store) -> list[tuple[str, str]]:
    with store.reading() as connection:
        rows = connection.execute(select(queue.c.prediction_id, queue.c.why).order_by(queue.c.place))
        return [(prediction_id, why) for prediction_id, why in rows]


@pytest.mark.parametrize("size", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 2])
@pytest.mark.parametrize("call", [Call(), Call(beside=lambda connection: None)], ids=["plain", "with more"])
@pytest.mark.sqlite  # commits are counted in its log
def test_a_call_of_any_size_is_one_commit(ledger: Ledger, store: Store, clock: Clock, size: int, call: Call) -> None:
    made = [prediction(clock) for _ in range(size)]
    with works_of(ledger, store) as works:
        ledger.add_predictions(made, call)
    assert works == [size]
    assert kept(store) == [one.id for one in made]


@pytest.mark.parametrize("call", [Call(), Call(beside=lambda connection: None)], ids=["plain", "with more"])
def test_what_a_person_must_look_at_waits_in_the_order_in_which_it_was_recorded(
    ledger: Ledger, store: Store, clock: Clock, call: Call
) -> None:
    unsure = {"decision": "review", "reasons": ["outside_seen", "low_confidence"]}
    asked = [{"audit": True}, {}, unsure, {}, {**unsure, "audit": True}, {"decision": "review"}]
    made = [prediction(clock, **values) for values in asked]
    record_at_once(ledger, store, [(made[:3], call), (made[3:], call)])
    why = ["audit", None, "outside_seen", None, "outside_seen", "audit"]
    assert waiting(store) == [(one.id, reason) for one, reason in zip(made, why, strict=True) if reason]
    assert kept(store) == [one.id for one in made]


def test_one_call_that_fails_among_others_leaves_nothing_behind(ledger: Ledger, store: Store, clock: Clock) -> None:
    """Nothing here needs more than one call of the driver: all that met are in one insert, and it fails whole."""
    review = {"decision": "review", "reasons": ["low_confidence"]}
    there = prediction(clock, **review)
    ledger.add_predictions([there], Call())
    made = [prediction(clock, **review) for _ in range(4)]
    asked = [[made[0]], [made[1], there], [made[2], made[2]], [made[3]]]
    results = record_at_once(ledger, store, [(one, Call()) for one in asked])
    assert [type(result).__name__ for result in results] == ["NoneType", "IntegrityError", "IntegrityError", "NoneType"]
    assert sorted(kept(store)) == sorted([there.id, made[0].id, made[3].id])
    assert [prediction_id for prediction_id, _ in waiting(store)] == kept(store)


@pytest.mark.sqlite
def test_a_full_disk_keeps_no_part_of_a_call(ledger: Ledger, store: Store, clock: Clock) -> None:
    ledger.add_predictions([prediction(clock)], Call())
    kept_before = kept(store)
    kept_open = store.database.appends._kept
    assert kept_open is not None
    [pages] = kept_open.execute("PRAGMA page_count").fetchone()
    kept_open.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull):
        ledger.add_predictions([prediction(clock, input={"text": "x" * 5000}) for _ in range(20)], Call())
    assert kept(store) == kept_before
    kept_open.execute("PRAGMA max_page_count=1000000")
    ledger.add_predictions([prediction(clock)], Call())
    assert len(kept(store)) == len(kept_before) + 1


def test_calls_wait_for_their_turn_once_and_not_one_after_the_other(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that leads hears that the ledger is locked; all that wait behind it hear it with it."""
    tries = []
    turn = ledger._keep._turn

    @contextmanager
    def locked() -> Iterator[Turn]:
        tries.append(1)
        with turn():  # it comes once all wait
            raise StoreBusy("locked", retry_after=1)
        yield

    monkeypatch.setattr(ledger._keep, "_turn", locked)
    results = record_at_once(ledger, store, [([prediction(clock)], Call()) for _ in range(4)])
    assert [type(result) for result in results] == [StoreBusy] * 4
    assert len(tries) == 1
    assert kept(store) == []
