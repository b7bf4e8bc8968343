"""The ledger finds what was kept, keeps every verdict, and answers a retry with the first answer."""

import re
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, insert

from reviewapp.errors import Conflict, InvalidInput, KeyReused, NotFound
from reviewapp.finding import SORTS
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call, IdempotencyKey, Prediction, Verdict, doubt, new_id, timestamp
from reviewapp.release import ReleaseId
from reviewapp.store import Store
from reviewapp.tables import predictions

from .conftest import Clock
from .test_joining import until

pytestmark = pytest.mark.both

KEY = IdempotencyKey("ann", "k-1", "f" * 64)


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


def prediction(clock: Clock, **changes: Any) -> Prediction:
    values: dict[str, Any] = {
        "id": new_id(clock()),
        "created_at": timestamp(clock()),
        "release": ReleaseId("triage", 1, "sha256:" + "a" * 64),
        "option": "model",
        "reference": None,
        "input": {"text": "Größe 🙂 100%_", "n": 3, "x.y": None},
        "output": {"label": "a", "confidence": 0.1 + 0.2, "probabilities": {"a": 0.1 + 0.2, "b": 0.7}},
        "decision": "auto",
        "reasons": [],
        "warnings": [],
        "client": "ann",
        "request_id": "r",
    }
    return Prediction(**{**values, **changes})


def verdict(kind: str, clock: Clock, **changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "verdict": kind, "label": None, "value": None, "reasons": [], "note": None, "author": "ann",
        "created_at": timestamp(clock()),
    }  # fmt: skip
    return Verdict(**{**values, **changes})


def test_a_prediction_is_read_as_it_was_kept(ledger: Ledger, clock: Clock) -> None:
    kept = prediction(
        clock,
        reference="A-1",
        decision="review",
        reasons=["low_confidence"],
        warnings=[{"pointer": "/input/n", "code": "c", "detail": "d"}],
        comparison={"option": "baseline", "output": {"label": "b"}},
        explanation={"method": "linear", "fields": [{"contribution": 1e-17}]},
        source="form",
    )
    ledger.add_predictions([kept], Call())
    assert ledger.prediction(kept.id) == kept
    plain = prediction(clock)
    ledger.add_predictions([plain], Call())
    assert ledger.prediction(plain.id) == plain


def test_a_prediction_is_written_down_as_the_types_of_its_table_have_it(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    full = prediction(
        clock, reference="A-1", reasons=["low_confidence"], warnings=[{"pointer": "/input/n"}], audit=True,
        comparison={"option": "baseline", "output": {"label": "b"}}, explanation={"fields": [{"contribution": 1e-17}]},
    )  # fmt: skip
    value = prediction(clock, input=None, output={"value": 2, "low": 1, "high": 4})
    for one in (full, value):
        ledger.add_predictions([one], Call())
        fields = {name: getattr(one, name) for name in vars(one) if name in predictions.c}
        release = {f"release_{name}": part for name, part in one.release.as_json().items()}
        named = (
            fields | release | {"label": one.output.get("label"), "doubt": doubt(one.output), "id": f"{one.id[1:]}x"}
        )
        with store.writing() as connection:
            connection.execute(insert(predictions).values(named))
            raw = connection.exec_driver_sql("SELECT * FROM predictions ORDER BY seq DESC LIMIT 2").mappings().all()
        by_types, by_us = ({k: v for k, v in row.items() if k not in ("seq", "id", "salt", "seal")} for row in raw)
        assert by_types == by_us
        assert [type(known) for known in by_types.values()] == [type(known) for known in by_us.values()]


def test_another_clients_prediction_is_not_found(ledger: Ledger, clock: Clock) -> None:
    kept = prediction(clock)
    ledger.add_predictions([kept], Call())
    assert ledger.prediction(kept.id, "ann") == kept
    for asked in ((kept.id, "bob"), ("nothing", None)):
        with pytest.raises(NotFound):
            ledger.prediction(*asked)


def test_pages_go_from_new_to_old_in_the_order_of_keeping_even_when_the_clock_jumps_back(
    ledger: Ledger, clock: Clock
) -> None:
    kept = []
    for step in (1, 1, -500, 1, 1):
        clock.forward(seconds=step)
        kept.append(prediction(clock))
        ledger.add_predictions(kept[-1:], Call())
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = ledger.predictions({}, 2, cursor)
        seen += [found.id for found in page]
        if cursor is None:
            break
    assert seen == [made.id for made in reversed(kept)]
    page, cursor = ledger.predictions({}, 5)
    assert (len(page), cursor) == (5, None)


def walk(ledger: Ledger, sort: str, limit: int = 2, **filters: Any) -> list[str]:
    """Return the ids of all pages."""
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = ledger.predictions(filters, limit, cursor, sort)
        seen += [found.id for found in page]
        if cursor is None:
            return seen


def sure(confidence: float) -> dict[str, Any]:
    return {"label": "a", "confidence": confidence, "probabilities": {"a": confidence, "b": 1 - confidence}}


def test_pages_can_begin_with_the_oldest_or_with_how_sure_the_answer_is(ledger: Ledger, clock: Clock) -> None:
    kept = [prediction(clock, output=sure(one)) for one in (0.7, 0.1 + 0.2, 0.9, 0.3, 0.7, 0.7)]
    for one in kept:
        clock.forward(seconds=1)
        ledger.add_predictions([replace(one, created_at=timestamp(clock()))], Call())
    ids = [one.id for one in kept]
    assert walk(ledger, "oldest") == ids
    assert walk(ledger, "newest") == ids[::-1]
    least = [ids[i] for i in (3, 1, 5, 4, 0, 2)]  # of equal ones the newest first
    assert walk(ledger, "least_sure") == least
    assert walk(ledger, "most_sure") == least[::-1]
    assert walk(ledger, "least_sure", decision="auto", since="2026", q="größe") == least
    assert walk(ledger, "newest", since=timestamp(clock())) == ids[-1:]


def test_with_a_time_pages_go_by_the_time(ledger: Ledger, clock: Clock) -> None:
    kept = []
    for step in (0, 60, -90, 60, 0):  # the clock was put back once
        clock.forward(seconds=step)
        kept.append(prediction(clock))
        ledger.add_predictions(kept[-1:], Call())
    ids = [one.id for one in kept]
    by_time = [ids[i] for i in (2, 0, 3, 4, 1)]
    assert walk(ledger, "oldest", since="2026") == by_time
    assert walk(ledger, "newest", until="2027") == by_time[::-1]
    assert walk(ledger, "newest", since=kept[0].created_at, until=kept[1].created_at) == [ids[4], ids[3], ids[0]]


def test_a_page_is_followed_by_the_same_whatever_is_recorded_meanwhile(ledger: Ledger, clock: Clock) -> None:
    for sort in ("newest", "oldest", "least_sure", "most_sure"):
        ledger.add_predictions([prediction(clock, client=sort, output=sure(i / 10)) for i in range(1, 9)], Call())
        before = walk(ledger, sort)
        first, cursor = ledger.predictions({}, 3, None, sort)
        second, _ = ledger.predictions({}, 3, cursor, sort)
        ledger.add_predictions([prediction(clock, output=sure(0.5)) for _ in range(4)], Call())
        again, _ = ledger.predictions({}, 3, cursor, sort)
        assert [one.id for one in first + second] == before[:6]
        known = [one.id for one in again if one.id in before]
        assert known == before[3 : 3 + len(known)]


CURSORS = ["", "x", "c", "c-1", "c１", "c" + "9" * 19, "z1", "c0000000000000000_1", "l1", "l2026-01-31T12:00:00.000Z_1",
           "t0000000000000000_1", "l7ff8000000000000_1", "l00_1", "c1\n"]  # fmt: skip


@pytest.mark.parametrize("cursor", CURSORS)
@pytest.mark.parametrize("sort", SORTS)
def test_a_cursor_that_is_none_of_ours_is_refused(ledger: Ledger, cursor: str, sort: str) -> None:
    for filters in ({}, {"since": "2026"}):
        with pytest.raises(InvalidInput) as refused:
            ledger.predictions(filters, 2, cursor, sort)
        assert refused.value.errors[0].pointer == "/query/cursor"


def test_a_cursor_of_another_order_says_so(ledger: Ledger, clock: Clock) -> None:
    ledger.add_predictions([prediction(clock) for _ in range(3)], Call())
    asked: list[tuple[str, dict[str, Any]]] = [(sort, {}) for sort in SORTS]
    asked += [("newest", {"since": "2026"}), ("oldest", {"until": "2027"})]
    cursors = [str(ledger.predictions(filters, 1, None, sort)[1]) for sort, filters in asked]
    for mine, (sort, filters) in zip(cursors, asked, strict=True):
        for cursor in cursors:
            if cursor == mine:
                assert len(ledger.predictions(filters, 9, cursor, sort)[0]) == 2
                continue
            with pytest.raises(InvalidInput) as refused:
                ledger.predictions(filters, 9, cursor, sort)
            assert [flaw.code for flaw in refused.value.errors] == ["other_order"]


PLANNED: list[tuple[str, dict[str, Any]]] = [
    *((sort, {}) for sort in SORTS),
    *(
        (sort, {name: value, **more})
        for sort in SORTS
        for more in ({}, {"since": "2026-01-31T13:00:00.000Z"}, {"label": "b"}, {"q": "größe"})
        for name, value in {
            "label": "a", "decision": "review", "source": "form", "option": "baseline", "audit": True, "reference": "A",
            "release": "triage/1", "verdict": "agree", "until": "2027", "q": "100%_",
        }.items()
    ),
    *((sort, {"verdict": "none", **more}) for sort in SORTS for more in ({}, {"decision": "review"})),
    *((sort, usual) for sort in SORTS for usual in ({"audit": False}, {"option": "model"})),
    *(("newest", {"decision": "auto", **more}) for more in ({"audit": False}, {"release": "1"}, {"label": "a"})),
]  # fmt: skip


@pytest.mark.sqlite
def test_every_page_is_read_along_an_index_in_its_order(ledger: Ledger, store: Store, clock: Clock) -> None:
    """No table is read from end to end, and nothing is sorted, whatever is asked for."""
    made = [prediction(clock, reference="A") for _ in range(5)]
    ledger.add_predictions(made, Call())
    ledger.add_verdict(made[0].id, verdict("agree", clock))
    seen: list[tuple[str, Any]] = []

    def listener(_: Any, __: Any, statement: str, values: Any, *more: Any) -> None:
        seen.append((statement, values))

    event.listen(store.engine, "before_cursor_execute", listener)
    for sort, filters in PLANNED:
        _, cursor = ledger.predictions(filters, 1, None, sort)
        if cursor is not None:
            ledger.predictions(filters, 1, cursor, sort)
        ledger.predictions(filters, 1, None, sort, without=[made[1].id])
    event.remove(store.engine, "before_cursor_execute", listener)
    steps = set()
    with store.reading() as connection:
        for statement, values in seen:
            if statement.startswith(("SELECT", "WITH")):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                steps |= {(row[3], statement) for row in plan}
    bad = [step for step in steps if "TEMP B-TREE" in step[0]]
    # `w` is what is walked: without an index it goes by the row's own number, which is the order
    bad += [
        step
        for step in steps
        if re.fullmatch("SCAN (predictions|p|v|l|verdicts).*", step[0]) and "INDEX" not in step[0]
    ]
    assert bad == []
    walked = {step[0] for step in steps if re.search(r"\bw\b", step[0])}
    for name in ("label", "decision", "source", "option", "audit", "reference", "doubt", "created_at"):
        assert any(f"INDEX ix_predictions_{name}_seq" in step for step in walked), name
    assert any("ix_predictions_release_digest_seq_decision_audit" in step for step in walked)
    assert any("ix_verdicts_verdict_prediction_seq" in step for step in walked)


def test_filters_find_what_they_say(ledger: Ledger, clock: Clock) -> None:
    first = prediction(clock, reference="A-1", source="form", audit=True)
    clock.forward(hours=1)
    second = prediction(
        clock,
        decision="review",
        output={"label": "b", "confidence": 1, "probabilities": {}},
        release=ReleaseId("triage", 2, "sha256:" + "b" * 64),
        option="baseline",
        input={"text": "invoice"},
    )
    ledger.add_predictions([first, second], Call())
    ledger.add_verdict(first.id, verdict("agree", clock))

    def found(**filters: Any) -> list[str]:
        return [{first.id: "first", second.id: "second"}[p.id] for p in ledger.predictions(filters, 10)[0]]

    assert found() == ["second", "first"]
    assert found(decision="review") == found(label="b") == found(option="baseline") == ["second"]
    assert found(option="model") == found(audit=True) == found(audit=True, option="model") == ["first"]
    assert found(audit=False) == found(audit=False, option="baseline") == ["second"]
    assert found(audit=False, option="model") == found(audit=True, option="baseline") == []
    assert found(release="2") == found(release="triage/2") == found(release="sha256:" + "b" * 64) == ["second"]
    assert found(release="other/2") == found(release="nine") == []
    assert found(reference="A-1") == found(source="form") == found(verdict="agree") == ["first"]
    assert found(verdict="none") == found(since="2026-01-31T13:00:00.000Z") == ["second"]
    assert found(until="2026-01-31T13:00:00.123Z") == ["first"]
    ledger.add_verdict(second.id, verdict("agree", clock))
    assert found(verdict="agree") == ["second", "first"]
    ledger.add_verdict(first.id, verdict("withdrawn", clock))
    assert (found(verdict="agree"), found(verdict="none")) == (["second"], ["first"])
    ledger.add_verdict(second.id, verdict("withdrawn", clock))
    assert (found(verdict="agree"), found(verdict="none")) == ([], ["second", "first"])
    ledger.add_verdict(first.id, verdict("agree", clock))
    assert (found(verdict="agree"), found(verdict="none")) == (["first"], ["second"])
    assert found(q="größe") == ["first"]
    assert found(q="text") == found(q="x.y") == []  # names of members are not searched
    assert found(q="Größe 🙂") == found(q="100%_") == found(q="A-1") == ["first"]
    assert found(q="%") == ["first"]
    assert found(decision="auto", label="b") == []


def test_verdicts_are_appended_and_the_last_one_holds(ledger: Ledger, clock: Clock) -> None:
    kept = prediction(clock)
    ledger.add_predictions([kept], Call())
    agree = verdict("agree", clock)
    corrected = verdict("corrected", clock, label="b", reasons=["rule"], note="=1+1", author="bob")
    assert ledger.add_verdict(kept.id, agree).verdicts == (agree,)
    assert ledger.add_verdict(kept.id, corrected).verdict == corrected
    withdrawn = ledger.withdraw_verdict(kept.id, "bob")
    assert withdrawn.verdict is None
    assert [given.verdict for given in withdrawn.verdicts] == ["agree", "corrected", "withdrawn"]
    assert ledger.prediction(kept.id) == withdrawn
    assert ledger.predictions({"verdict": "none"}, 9)[0] == [withdrawn]
    assert ledger.predictions({"verdict": "corrected"}, 9)[0] == []
    with pytest.raises(NotFound):
        ledger.withdraw_verdict(kept.id, "bob")
    with pytest.raises(NotFound):
        ledger.add_verdict("nothing", agree)


def test_the_same_verdict_twice_is_one(ledger: Ledger, clock: Clock) -> None:
    kept = prediction(clock)
    ledger.add_predictions([kept], Call())
    first = ledger.add_verdict(kept.id, verdict("agree", clock))
    clock.forward(seconds=5)
    assert ledger.add_verdict(kept.id, verdict("agree", clock)) == first
    assert len(ledger.add_verdict(kept.id, verdict("agree", clock, author="bob")).verdicts) == 2


def test_a_retry_gets_the_first_answer_in_its_order(ledger: Ledger, clock: Clock) -> None:
    made = [prediction(clock) for _ in range(3)]
    with ledger.claim(KEY) as answered:
        assert answered is None
        ledger.add_predictions(made, Call(key=KEY))
    with ledger.claim(KEY) as answered:
        assert answered == made
    with ledger.claim(IdempotencyKey("bob", "k-1", "other")) as answered:
        assert answered is None


def test_the_key_of_another_request_is_refused(ledger: Ledger, clock: Clock) -> None:
    with ledger.claim(KEY):
        ledger.add_predictions([prediction(clock)], Call(key=KEY))
    with pytest.raises(KeyReused), ledger.claim(IdempotencyKey("ann", "k-1", "other")):
        pass


def test_a_key_is_forgotten_after_a_day(ledger: Ledger, clock: Clock) -> None:
    with ledger.claim(KEY):
        ledger.add_predictions([prediction(clock)], Call(key=KEY))
    clock.forward(hours=24, seconds=1)
    with ledger.claim(KEY) as answered:
        assert answered is None
        ledger.add_predictions([prediction(clock)], Call(key=KEY))


def test_a_key_that_is_under_way_is_a_conflict_for_other_threads(ledger: Ledger) -> None:
    met: list[Exception] = []

    def other() -> None:
        try:
            with ledger.claim(KEY):
                pass
        except Conflict as error:
            met.append(error)

    with ledger.claim(KEY):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(met) == 1
    with ledger.claim(KEY):
        pass  # free again


HOLD = """
import sys
from reviewapp.ledger import Ledger
from reviewapp.prediction import IdempotencyKey
from reviewapp.store import Store
with Ledger(Store(sys.argv[1])).claim(IdempotencyKey("ann", "k-1", "f" * 64)):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_key_is_free_again_when_the_process_that_held_it_is_killed(ledger: Ledger, store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.url)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Conflict), ledger.claim(KEY):
            pass
        holder.kill()
        holder.wait()
    until(lambda: claimed(ledger))  # a server finds out a little later that a process has gone


def claimed(ledger: Ledger) -> bool:
    try:
        with ledger.claim(KEY) as answered:
            return answered is None
    except Conflict:
        return False


def test_prediction_and_key_are_kept_together_or_not_at_all(ledger: Ledger, clock: Clock) -> None:
    with ledger.claim(KEY):
        ledger.add_predictions([prediction(clock)], Call(key=KEY))
        second = prediction(clock)
        with pytest.raises(Conflict, match="under way"):
            ledger.add_predictions([second], Call(key=KEY))
    with pytest.raises(NotFound):
        ledger.prediction(second.id)


def test_ids_are_version_7_and_sort_by_time(clock: Clock) -> None:
    import uuid

    earlier = new_id(clock())
    clock.forward(milliseconds=1)
    later = new_id(clock())
    assert earlier < later
    assert (uuid.UUID(later).version, uuid.UUID(later).variant) == (7, uuid.RFC_4122)
    assert uuid.UUID(later).int >> 80 == int(clock().timestamp() * 1000)
