"""The rows that the ledger leaves, pinned whole, and the sentences with which it refuses."""

import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, insert, select

from reviewapp import ledger as ledgers
from reviewapp.errors import Conflict, KeyReused, NotFound, StoreBusy, UsageError
from reviewapp.ledger import KEY_LIFE, Ledger
from reviewapp.prediction import Call, IdempotencyKey, Prediction, timestamp
from reviewapp.release import ReleaseId
from reviewapp.store import Store
from reviewapp.tables import blind_openings, idempotency_keys, predictions, probe, queue, verdicts

from .conftest import Clock
from .test_ledger import KEY, prediction, verdict

pytestmark = pytest.mark.both

NONE = "There is no prediction with this id."
REVIEW = {"decision": "review", "reasons": ["low_confidence"]}


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


def rows(store: Store, table: Table) -> list[dict[str, Any]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def agree(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether a row has these values; it may have more columns than what it says of the prediction or verdict."""
    assert {name: row[name] for name in expected} == expected
    return True


def keep(ledger: Ledger, clock: Clock, n: int = 1, **changes: Any) -> list[Prediction]:
    made = [prediction(clock, **changes) for _ in range(n)]
    ledger.add_predictions(made, Call())
    return made


def ids(found: Any) -> list[str]:
    return [one.id for one in found]


def test_a_prediction_is_one_row_with_its_release_its_label_and_its_doubt(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    [made] = keep(
        ledger, clock, reference="A-1", reasons=["low_confidence"], warnings=[{"code": "c"}], audit=True, source="form",
        comparison={"option": "baseline"}, explanation={"method": "linear"}, option="baseline", input=None,
        output={"label": "b", "confidence": 0.25, "probabilities": {"a": 0.75, "b": 0.25}}, decision="review",
    )  # fmt: skip
    value = {"value": 3.0, "low": 1.0, "high": 6.5}
    ledger.add_predictions([prediction(clock, output=value)], Call())
    labelled, valued = rows(store, predictions)
    assert agree(labelled, {
        "seq": 1, "id": made.id, "created_at": "2026-01-31T12:00:00.123Z", "release_name": "triage",
        "release_version": 1, "release_digest": "sha256:" + "a" * 64, "option": "baseline", "source": "form",
        "client": "ann", "request_id": "r", "reference": "A-1", "input": None, "output": made.output, "label": "b",
        "decision": "review", "reasons": ["low_confidence"], "warnings": [{"code": "c"}],
        "comparison": {"option": "baseline"}, "explanation": {"method": "linear"}, "audit": True, "doubt": 0.75,
    })  # fmt: skip
    assert (valued["output"], valued["label"], valued["doubt"]) == (value, None, 5.5)


def test_a_key_is_one_row_that_is_known_for_a_day_and_goes_with_the_next_one(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    made = [prediction(clock) for _ in range(2)]
    ledger.add_predictions(made[::-1], Call(key=KEY))
    assert rows(store, idempotency_keys) == [
        {
            "client": "ann", "key": "k-1", "fingerprint": "f" * 64, "prediction_ids": ids(made[::-1]),
            "created_at": "2026-01-31T12:00:00.123Z",
        }
    ]  # fmt: skip
    with ledger.claim(KEY) as answered:
        assert answered == made[::-1]
    clock.now += KEY_LIFE
    ledger.add_predictions(keep_for := [prediction(clock)], Call(key=IdempotencyKey("ann", "k-2", "e" * 64)))
    with ledger.claim(KEY) as answered:
        assert answered == made[::-1]
    clock.forward(milliseconds=1)
    with ledger.claim(KEY) as answered:
        assert answered is None
    ledger.add_predictions([prediction(clock)], Call(key=IdempotencyKey("bob", "k-1", "f" * 64)))
    assert [(row["client"], row["key"]) for row in rows(store, idempotency_keys)] == [("ann", "k-2"), ("bob", "k-1")]
    with ledger.claim(IdempotencyKey("ann", "k-2", "e" * 64)) as answered:
        assert answered == keep_for


def test_a_retry_that_cannot_be_answered_is_told_why(ledger: Ledger, store: Store, clock: Clock) -> None:
    ledger.add_predictions([prediction(clock)], Call(key=KEY))
    with pytest.raises(KeyReused) as reused, ledger.claim(IdempotencyKey("ann", "k-1", "e" * 64)):
        pass
    assert reused.value.detail == "The key was used before with another body or other options; take a new one."
    with ledger.claim(KEY), pytest.raises(Conflict) as held, ledger.claim(KEY):
        pass
    assert held.value.detail == "The first request with this Idempotency-Key is still under way; ask again."
    assert held.value.retry_after == 1
    if store.is_file:
        assert Path(f"{store.path}.locks").stat().st_mode & 0o777 == 0o600


@pytest.mark.sqlite
def test_a_file_of_locks_that_cannot_be_used_is_said_and_nothing_is_recorded(ledger: Ledger, store: Store) -> None:
    Path(f"{store.path}.locks").mkdir()
    with pytest.raises(StoreBusy, match="file of locks beside the ledger cannot be used: Is a directory"):
        ledger.claim(KEY).__enter__()
    assert rows(store, idempotency_keys) == []


def test_a_child_that_is_forked_while_its_parent_holds_a_key_does_not_believe_it_has_it(ledger: Ledger) -> None:
    with ledger.claim(KEY):
        child = os.fork()
        if child == 0:
            os._exit(len(ledger._locks._held))
    assert os.waitpid(child, 0)[1] == 0


def test_a_verdict_is_one_row_and_so_is_the_one_that_takes_it_back(ledger: Ledger, store: Store, clock: Clock) -> None:
    [made, _] = keep(ledger, clock, 2, **REVIEW)
    ledger.add_verdict(made.id, verdict("corrected", clock, label="b", reasons=["rule"], note="so", author="bob"))
    clock.forward(seconds=2)
    done: list[Connection] = []
    ledger.withdraw_verdict(made.id, "cy", beside=done.append)
    given, back = rows(store, verdicts)
    assert agree(given, {
        "seq": 1, "prediction_seq": 1, "verdict": "corrected", "label": "b", "value": None, "reasons": ["rule"],
        "note": "so", "author": "bob", "created_at": "2026-01-31T12:00:00.123Z", "blind": False,
    })  # fmt: skip
    assert agree(back, {
        "seq": 2, "prediction_seq": 1, "verdict": "withdrawn", "label": None, "value": None, "reasons": [],
        "note": None, "author": "cy", "created_at": "2026-01-31T12:00:02.123Z", "blind": False,
    })  # fmt: skip
    assert len(done) == 1
    assert isinstance(done[0], Connection)


def test_what_is_judged_waits_no_more_and_waits_again_before_all_others_once_that_is_taken_back(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    made = ids(keep(ledger, clock, 3, **REVIEW))
    ledger.add_verdict(made[1], verdict("agree", clock))
    assert [row["prediction_id"] for row in rows(store, queue)] == [made[0], made[2]]
    ledger.withdraw_verdict(made[1], "ann")
    waiting = sorted(rows(store, queue), key=lambda row: row["place"])
    assert [(row["prediction_id"], row["why"]) for row in waiting] == [
        (made[1], "low_confidence"), (made[0], "low_confidence"), (made[2], "low_confidence"),
    ]  # fmt: skip


def test_a_verdict_that_cannot_be_is_refused_in_a_sentence_and_leaves_nothing(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    [made] = keep(ledger, clock, **REVIEW)

    def refuse(connection: Connection) -> None:
        connection.execute(insert(probe).values(id=1))
        raise UsageError("no")

    def told(kind: type[Exception], work: Any, *given: Any, **more: Any) -> str:
        with pytest.raises(kind) as refused:
            work(*given, **more)
        return str(refused.value)

    assert told(NotFound, ledger.prediction, "nothing") == NONE
    assert told(NotFound, ledger.prediction, made.id, "bob") == NONE
    assert told(NotFound, ledger.add_verdict, "nothing", verdict("agree", clock)) == NONE
    assert told(NotFound, ledger.withdraw_verdict, "nothing", "ann") == NONE
    assert told(NotFound, ledger.withdraw_verdict, made.id, "ann") == "This prediction has no verdict to take back."
    assert told(UsageError, ledger.add_verdict, made.id, verdict("agree", clock), check=refuse) == "no"
    assert (rows(store, verdicts), rows(store, probe), len(rows(store, queue))) == ([], [], 1)
    ledger.add_verdict(made.id, verdict("agree", clock))
    assert told(Conflict, ledger.withdraw_verdict, made.id, "bob", only_own=True) == (
        "The verdict that holds is ann's; only they take it back here."
    )
    assert told(UsageError, ledger.withdraw_verdict, made.id, "ann", beside=refuse) == "no"
    assert (len(rows(store, verdicts)), rows(store, probe), rows(store, queue)) == (1, [], [])
    assert ledger.withdraw_verdict(made.id, "ann", only_own=True).verdict is None


def test_a_verdict_is_blind_where_its_author_could_not_see_the_options_and_says_what_they_think_themselves(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    asked = [
        ("agree", "ann", {}, False), ("agree", "ann", {"own_answer": True}, True), ("corrected", "ann", {}, True),
        ("unsure", "ann", {}, True), ("corrected", "bob", {}, False), ("agree", "bob", {"own_answer": True}, False),
    ]  # fmt: skip
    made = keep(ledger, clock, len(asked), **REVIEW)
    with store.writing() as connection:
        for one in made:
            connection.execute(insert(blind_openings).values(reviewer="ann", prediction_id=one.id))
    for one, (kind, author, more, blind) in zip(made, asked, strict=True):
        given = verdict(kind, clock, author=author, label="b" if kind == "corrected" else None)
        judged = ledger.add_verdict(one.id, given, **more)
        assert [said.blind for said in judged.verdicts] == [blind], (kind, author)
        clock.forward(seconds=1)
        again = verdict(kind, clock, author=author, label=given.label)
        assert ledger.add_verdict(one.id, again, **more) == judged  # one of which the options are known now
    assert rows(store, blind_openings) == []
    assert [row["blind"] for row in rows(store, verdicts)] == [blind for *_, blind in asked]


def test_only_the_verdict_that_holds_is_the_one_that_is_said_again(ledger: Ledger, clock: Clock) -> None:
    [made] = keep(ledger, clock)
    for number, (author, n) in enumerate([("ann", 1), ("bob", 2), ("bob", 2), ("ann", 3), ("ann", 3)]):
        clock.forward(seconds=number)
        assert len(ledger.add_verdict(made.id, verdict("agree", clock, author=author)).verdicts) == n


def test_pages_hold_all_that_was_there_at_the_first_one(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "EXPORTED", 2)
    assert list(ledger.pages({})) == [[]]
    made = keep(ledger, clock, 5, input={"text": "apple"})
    given = ledger.add_verdict(made[4].id, verdict("agree", clock))
    reading = ledger.pages({})
    pages = [next(reading)]
    late = keep(ledger, clock, reference="late")
    pages += reading
    assert pages[0] == [given, made[3]]
    assert [ids(page) for page in pages] == [ids(made[4:2:-1]), ids(made[2:0:-1]), ids(made[:1])]
    assert [ids(page) for page in ledger.pages({}, "oldest", [made[0].id, made[3].id])] == [
        ids(made[1:3]), ids([made[4], *late]),
    ]  # fmt: skip
    assert [ids(page) for page in ledger.pages({"reference": "late"})] == [ids(late)]
    assert [ids(page) for page in ledger.pages({"q": "appl"}, "oldest")] == [
        ids(made[:2]),
        ids(made[2:4]),
        ids(made[4:]),
    ]


def test_some_can_be_left_out_of_a_page_and_its_cursor_goes_on_behind_it(ledger: Ledger, clock: Clock) -> None:
    made = keep(ledger, clock, 4)
    page, cursor = ledger.predictions({}, 2, sort="oldest", without=[made[0].id])
    assert ids(page) == ids(made[1:3])
    assert ids(ledger.predictions({}, 2, cursor, "oldest")[0]) == ids(made[3:])
    assert ids(ledger.predictions({}, 2)[0]) == ids(made[:1:-1])


def test_the_ledger_knows_which_kinds_of_answers_and_how_many_of_a_release_there_are(
    ledger: Ledger, clock: Clock
) -> None:
    assert ledger.tasks() == set()
    made = keep(ledger, clock, 2)
    assert ledger.tasks() == {"classification"}
    keep(ledger, clock, output={"value": 3.0, "low": 1.0, "high": 6.5}, release=ReleaseId("price", 2, "sha256:b"))
    assert ledger.tasks() == {"classification", "regression"}
    ledger.add_verdict(made[0].id, verdict("agree", clock))
    reviews = ledger.reviews(made[0].release)
    assert (reviews.predictions, ids(reviews.judged)) == ({"auto": 2}, [made[0].id])
    assert ledger.reviews(ReleaseId("price", 2, "sha256:b")).predictions == {"auto": 1}


def test_a_call_without_predictions_keeps_nothing_but_what_belongs_beside_it(
    ledger: Ledger, store: Store, clock: Clock
) -> None:
    ledger.add_predictions([], Call())
    ledger.add_predictions([], Call(beside=lambda connection: connection.execute(insert(probe).values(id=7))))
    assert rows(store, predictions) == []
    assert [row["id"] for row in rows(store, probe)] == [7]


def test_the_clock_of_a_ledger_is_that_of_the_machine_where_none_is_given(store: Store, clock: Clock) -> None:
    plain = Ledger(store)
    [made] = keep(plain, clock)
    plain.add_verdict(made.id, verdict("agree", clock))
    assert plain.withdraw_verdict(made.id, "ann").verdicts[-1].created_at > timestamp(clock())
