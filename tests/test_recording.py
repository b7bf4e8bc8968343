"""Calls that are recorded at the same time share a commit, and each is kept whole or not at all, as if alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select

from reviewapp.errors import NotFound, StoreBusy
from reviewapp.ledger import TOGETHER, Ledger
from reviewapp.prediction import Call, IdempotencyKey, Prediction
from reviewapp.store import Store
from reviewapp.tables import idempotency_keys, predictions, probe, queue

from .conftest import Clock
from .test_joining import LONG, until
from .test_ledger import prediction


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


@contextmanager
def commits_of(store: Store) -> Iterator[list[int]]:
    """Give the number of predictions that each commit from now on left in the ledger."""
    seen: list[int] = []

    def committed(connection: Connection) -> None:
        seen.append(len(connection.exec_driver_sql("SELECT seq FROM predictions").all()))

    event.listen(store.engine, "commit", committed)
    yield seen
    event.remove(store.engine, "commit", committed)


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
            until(lambda number=number: ledger._keep._led and len(ledger._keep._waiting) == number)  # type: ignore[misc]
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    return results


def kept(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.scalars(select(predictions.c.id).order_by(predictions.c.seq)))


def test_calls_that_meet_share_a_commit_in_the_order_in_which_they_came(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    made = [[prediction(clock) for _ in range(1 + number % 2)] for number in range(6)]
    with commits_of(store) as commits:
        assert record_at_once(ledger, store, [(one, Call()) for one in made]) == [None] * 6
    assert commits == [0, 9]  # the one that they waited for, and theirs
    assert kept(store) == [one.id for call in made for one in call]


def test_a_call_of_many_has_a_commit_of_its_own(ledger: Ledger, store: Store, clock: Clock) -> None:
    made = [[prediction(clock) for _ in range(n)] for n in (1, 2, TOGETHER + 1, 3, 4)]
    with commits_of(store) as commits:
        assert record_at_once(ledger, store, [(one, Call()) for one in made]) == [None] * 5
    assert commits == [0, 3, 4 + TOGETHER, 11 + TOGETHER]


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
    with pytest.raises(TypeError), commits_of(store) as commits:
        ledger.add_predictions([prediction(clock, input={"text": object()})], Call())
    assert commits == []


def test_calls_wait_for_their_turn_once_and_not_one_after_the_other(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that leads hears that the ledger is locked; all that wait behind it hear it with it."""
    tries = []

    @contextmanager
    def locked() -> Iterator[Connection]:
        tries.append(1)
        until(lambda: len(ledger._keep._waiting) == 3)
        raise StoreBusy("locked", retry_after=1)
        yield

    monkeypatch.setattr(ledger._keep, "_turn", locked)
    results = record_at_once(ledger, store, [([prediction(clock)], Call()) for _ in range(4)])
    assert [type(result) for result in results] == [StoreBusy] * 4
    assert len(tries) == 1
    assert kept(store) == []
