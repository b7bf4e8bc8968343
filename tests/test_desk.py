"""The queue hands each record to one reviewer at a time, and loses none."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reviewapp.desk import LEASE, Desk
from reviewapp.errors import Conflict
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call, Prediction, Verdict, new_id
from reviewapp.release import ReleaseId
from reviewapp.store import Store

pytestmark = pytest.mark.both

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(store: Store, clock: Clock) -> Desk:
    return Desk(store, clock)


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


@pytest.fixture
def add(ledger: Ledger) -> Callable[..., list[str]]:
    """Record predictions that wait (or, with `decision="auto"`, do not); return their ids."""

    def record(n: int = 1, **changes: Any) -> list[str]:
        made = [
            Prediction(
                id=new_id(NOW), created_at="2026-01-31T12:00:00.000Z", release=ReleaseId("triage", 1, "sha256:x"),
                option="model", reference=None, input={"text": "x"}, output={"label": "bug", "confidence": 0.4},
                decision="review", reasons=["low_confidence"], warnings=[],
            )
            for _ in range(n)
        ]  # fmt: skip
        ledger.add_predictions([replace(one, **changes) for one in made], Call())
        return [one.id for one in made]

    return record


@pytest.fixture
def late(desk: Desk, ledger: Ledger) -> Callable[[str, str], None]:
    """Give a verdict as the page of the queue does, in whatever state the record is by now."""

    def give(prediction_id: str, author: str) -> None:
        ledger.add_verdict(prediction_id, verdict(author=author), check=lambda c: desk.check(c, prediction_id, author))

    return give


def never(_: str) -> bool:
    return False


def always(_: str) -> bool:
    return True


def verdict(name: str = "agree", author: str = "ann", **more: Any) -> Verdict:
    values = {"label": None, "value": None, "reasons": [], "note": None, "created_at": "2026-01-31T12:00:00.000Z"}
    return Verdict(**{**values, "verdict": name, "author": author, **more})


def taken(desk: Desk, reviewer: str = "ann", blind: Callable[[str], bool] = never) -> str | None:
    lease = desk.next(reviewer, blind)
    return None if lease is None else lease.prediction_id


def test_what_waits_comes_in_its_order_and_leaves_with_its_verdict(desk: Desk, ledger: Ledger, add: Any) -> None:
    add(2, decision="auto", reasons=[])
    waiting = add(2) + add(1, decision="auto", reasons=[], audit=True)
    assert desk.waiting("ann").by_reason == {"low_confidence": 2, "audit": 1}
    seen = []
    while (found := taken(desk)) is not None:
        seen.append(found)
        ledger.add_verdict(found, verdict())
    assert seen == waiting
    assert desk.waiting("ann").left == 0
    assert desk.judged("ann", NOW - timedelta(days=1)) == 3
    assert desk.judged("ann", NOW + timedelta(days=1)) == desk.judged("bob", NOW - timedelta(days=1)) == 0


def test_a_reviewer_keeps_their_record_and_two_never_have_the_same(desk: Desk, add: Any) -> None:
    first, second = add(2)
    assert taken(desk, "ann") == taken(desk, "ann") == first
    assert taken(desk, "bob") == second
    assert taken(desk, "cid") is None
    assert desk.waiting("cid").with_others == 2
    assert desk.waiting("ann").with_others == 1
    held = desk.held("ann")
    assert held is not None
    assert held.prediction_id == first


def test_many_reviewers_at_once_get_a_record_each(desk: Desk, add: Any) -> None:
    waiting = add(20)
    got: list[str | None] = []
    threads = [threading.Thread(target=lambda n=n: got.append(taken(desk, f"reviewer {n}"))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, got)) == sorted(waiting)


def test_a_lease_ends_by_itself(desk: Desk, clock: Clock, add: Any, late: Any) -> None:
    [only] = add()
    assert taken(desk, "ann") == only
    clock.now = NOW + LEASE - timedelta(seconds=1)
    assert taken(desk, "bob") is None
    assert taken(desk, "ann") == only  # asking again renews it
    clock.now += LEASE
    assert desk.held("ann") is None
    assert taken(desk, "bob") == only
    with pytest.raises(Conflict, match="another reviewer"):
        late(only, "ann")
    with pytest.raises(Conflict, match="do not have"):
        desk.skip(only, "ann")
    late(only, "bob")


def test_who_comes_late_may_judge_as_long_as_nobody_else_has(
    desk: Desk, ledger: Ledger, clock: Clock, add: Any, late: Any
) -> None:
    [only, other] = add(2)
    taken(desk, "ann")
    clock.now += 2 * LEASE
    late(only, "bob")
    late(only, "bob")
    with pytest.raises(Conflict, match="bob has judged"):
        late(only, "ann")
    late(other, "ann")


def test_a_skipped_record_comes_back_last(desk: Desk, add: Any) -> None:
    first, second, third = add(3)
    taken(desk)
    desk.skip(first, "ann")
    order = []
    for _ in range(4):
        order.append(taken(desk))
        desk.skip(str(order[-1]), "ann")
    assert order == [second, third, first, second]
    [later] = add()
    assert [taken(desk, name) for name in "abcd"] == [third, first, second, later]


def test_a_verdict_that_is_taken_back_puts_the_record_in_front(
    store: Store, desk: Desk, ledger: Ledger, add: Any
) -> None:
    first, second = add(2)
    ledger.add_verdict(first, verdict())
    assert desk.last("ann") == first
    ledger.withdraw_verdict(first, "ann")
    assert desk.last("ann") is None
    assert taken(desk, "bob") == first
    with store.writing() as connection:
        desk.take(connection, first, "ann")  # bob has it
        desk.take(connection, second, "ann")
        desk.take(connection, "nothing", "ann")
    held = [desk.held(name) for name in ("ann", "bob")]
    assert [one and one.prediction_id for one in held] == [second, first]


def test_an_own_verdict_is_taken_back_and_the_record_had_again_in_one_step(
    store: Store, desk: Desk, ledger: Ledger, add: Any
) -> None:
    first, second = add(2)
    ledger.add_verdict(first, verdict())
    assert taken(desk) == second
    ledger.withdraw_verdict(first, "ann", only_own=True, beside=lambda c: desk.take(c, first, "ann"))
    assert (taken(desk, "ann"), taken(desk, "bob")) == (first, second)  # one record at a time: the other is free again
    ledger.add_verdict(first, verdict(author="bob"))
    with pytest.raises(Conflict, match="bob's; only they"):
        ledger.withdraw_verdict(first, "ann", only_own=True)
    with pytest.raises(RuntimeError):
        ledger.withdraw_verdict(first, "bob", beside=lambda _: (_ for _ in ()).throw(RuntimeError))
    assert [one.author for one in ledger.prediction(first).verdicts] == ["ann", "ann", "bob"]  # all of it, or nothing


def test_what_never_waited_does_not_come_in_by_a_verdict_taken_back(desk: Desk, ledger: Ledger, add: Any) -> None:
    [sure] = add(decision="auto", reasons=[])
    ledger.add_verdict(sure, verdict())
    ledger.withdraw_verdict(sure, "ann")
    assert taken(desk) is None


def test_the_last_verdict_is_ones_own_and_holds(desk: Desk, ledger: Ledger, add: Any) -> None:
    first, second = add(2)
    ledger.add_verdict(first, verdict(created_at="2026-01-31T12:00:01.000Z"))
    ledger.add_verdict(second, verdict(created_at="2026-01-31T12:00:02.000Z"))
    assert desk.last("ann") == second
    ledger.add_verdict(second, verdict("unsure", "bob"))
    assert (desk.last("ann"), desk.last("bob")) == (first, second)
    ledger.withdraw_verdict(first, "ann")
    assert desk.last("ann") is None


# ---- blind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "own", "blind"),
    [
        (verdict("corrected", label="bug"), False, True),
        (verdict("unsure"), False, True),
        (verdict("agree"), True, True),  # the page found that the reviewer's own answer is the model's
        (verdict("agree"), False, False),  # whoever agrees with what they do not see has not answered themselves
        (verdict("corrected", "bob", label="bug"), False, False),
    ],
)
def test_a_verdict_is_blind_where_its_author_had_to_answer_first(
    desk: Desk, ledger: Ledger, add: Any, given: Verdict, own: bool, blind: bool
) -> None:
    [only] = add()
    lease = desk.next("ann", always)
    assert lease is not None
    assert lease.blind
    assert (desk.hidden("ann"), desk.hidden("bob")) == ({only}, set())
    [kept] = ledger.add_verdict(only, given, own_answer=own).verdicts
    assert kept.blind is blind
    assert ledger.prediction(only).verdicts == (kept,)
    assert desk.hidden("ann") == set()
    assert len(ledger.add_verdict(only, given, own_answer=own).verdicts) == 1  # a second click


def test_nobody_judges_blind_what_was_judged_before(desk: Desk, ledger: Ledger, add: Any) -> None:
    [only] = add()
    ledger.add_verdict(only, verdict())
    ledger.withdraw_verdict(only, "ann")
    lease = desk.next("bob", always)
    assert lease is not None
    assert not lease.blind


def test_nobody_judges_blind_what_they_asked_for_themselves(desk: Desk, add: Any) -> None:
    [own] = add(1, client="ann")
    lease = desk.next("ann", always)
    assert lease is not None
    assert not lease.blind
    desk.skip(own, "ann")
    lease = desk.next("bob", always)
    assert lease is not None
    assert lease.blind


def test_what_was_opened_blind_stays_hidden_until_somebody_judges_it(
    desk: Desk, ledger: Ledger, clock: Clock, add: Any
) -> None:
    only, other = add(2)
    desk.next("ann", always)
    clock.now += LEASE
    assert taken(desk, "bob", always) == only
    assert desk.hidden("ann") == desk.hidden("bob") == {only}  # ann let it go, and may get it again
    desk.skip(only, "bob")
    assert desk.hidden("bob") == {only}
    assert taken(desk, "bob") == other
    ledger.add_verdict(other, verdict(author="bob"))
    again = desk.next("bob", never)
    assert again is not None
    assert (again.prediction_id, again.blind) == (only, True)  # also where the lot would fall differently by now
    ledger.add_verdict(only, verdict("unsure", "ann"))
    assert desk.hidden("ann") == desk.hidden("bob") == set()


@pytest.mark.sqlite
def test_the_next_record_is_found_by_an_index(store: Store, desk: Desk, add: Any) -> None:
    add(3)
    plan = (
        "EXPLAIN QUERY PLAN SELECT prediction_id FROM queue WHERE leased_until IS NULL OR leased_until <= ?"
        " ORDER BY place LIMIT 1"
    )
    with store.reading() as connection:
        steps = [row[3] for row in connection.exec_driver_sql(plan, ("x",))]
    assert steps == ["SCAN queue USING INDEX ix_queue_place"]
