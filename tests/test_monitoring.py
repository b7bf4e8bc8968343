"""The metric counts what it says, and the trigger fires on worse answers, not on looking often."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from scipy.stats import binomtest
from sqlalchemy import delete, event

from reviewapp.adapter import ModelAdapter
from reviewapp.evaluation import wilson
from reviewapp.ledger import Ledger
from reviewapp.monitoring import POINTS, course, is_wrong, kinds, monitor, tell_monitor
from reviewapp.prediction import Call, Prediction, Verdict, timestamp, utcnow
from reviewapp.release import Release
from reviewapp.store import Store
from reviewapp.tables import verdicts
from reviewapp.triage import generator
from reviewapp.trigger import ABOVE, WITHIN

from .conftest import Clock
from .test_ledger import prediction, verdict

pytestmark = pytest.mark.both


def test_a_wilson_interval_is_the_textbook_one() -> None:
    low, high = wilson(10, 100)
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)
    assert wilson(0, 0) == (0.0, 1.0)
    for hits, n in ((0, 1), (1, 1), (3, 7), (183, 2000), (30_000, 100_000)):
        assert wilson(hits, n) == tuple(binomtest(hits, n).proportion_ci(0.95, method="wilson"))


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ([], None),
        ([("unsure", None)], None),
        ([("agree", None)], False),
        ([("disagree", None)], True),
        ([("corrected", "b")], True),
        ([("corrected", "a")], False),  # the right answer is the one that was given
        ([("disagree", None), ("withdrawn", None)], None),
        ([("disagree", None), ("agree", None)], False),
    ],
)
def test_the_verdict_that_holds_says_whether_an_answer_was_wrong(given: list, wrong: bool | None, clock: Clock) -> None:
    verdicts = [verdict(kind, clock, label=label) for kind, label in given]
    assert is_wrong(prediction(clock, verdicts=verdicts)) is wrong


@pytest.fixture
def judged(release: Release, store: Store) -> Callable[..., dict[str, Any]]:
    """Answer generated requests, let a person who knows the label judge what is drawn, and return the monitor."""

    def run(n: int, seed: int, refiled: dict[str, str] | None = None, *, drifted: bool = False) -> dict[str, Any]:
        ledger = Ledger(store)
        drawn = replace(release, policy=replace(release.policy, audit_share=0.25))
        examples = generator.generate(n, seed, drifted=drifted)
        made = ModelAdapter(drawn).predict([one.record for one in examples], Call(dry_run=True))
        # ids that are the same in every run: from them follows what is drawn
        named = [replace(one, id=f"{seed}-{i}") for i, one in enumerate(made)]
        rows = [replace(one, audit=one.decision == "auto" and drawn.policy.audited(one.id)) for one in named]
        ledger.add_predictions(rows, Call())
        for example, answer in zip(examples, rows, strict=True):
            if answer.audit:
                label = (refiled or {}).get(example.label, example.label)
                right = answer.output["label"] == label
                ledger.add_verdict(
                    answer.id,
                    Verdict("agree" if right else "corrected", None if right else label, None, [], None, "ann",
                            timestamp(utcnow())),
                )  # fmt: skip
        return monitor(drawn, ledger)

    return run


def test_a_desk_that_files_requests_elsewhere_fires_the_trigger(judged: Callable[..., dict[str, Any]]) -> None:
    """No request shows this change; only the verdicts on audited answers do."""
    found = judged(2500, 5, generator.REFILED)
    assert found["trigger"]["state"] == ABOVE
    assert found["metric"]["low"] > found["trigger"]["limit"]
    assert not found["referred"]["moved"]
    assert "FIRED" in tell_monitor(found)


def test_requests_that_drift_away_go_to_a_person_before_anyone_has_judged_one(
    judged: Callable[..., dict[str, Any]],
) -> None:
    """The answers still given without a person stay right more often than the limit asks, so the trigger is quiet."""
    found = judged(600, 6, drifted=True)
    assert found["referred"]["moved"]
    assert found["referred"]["low"] > found["referred"]["expected"]
    assert found["trigger"]["state"] == WITHIN
    assert "not what they were at evaluation" in tell_monitor(found)


def test_the_world_as_it_was_leaves_everything_quiet(judged: Callable[..., dict[str, Any]]) -> None:
    found = judged(600, 7)
    assert found["trigger"]["state"] == WITHIN
    assert not found["referred"]["moved"]
    assert found["metric"]["drawn"] == found["metric"]["verdicts"] > 100


def test_only_what_was_drawn_counts(release: Release, ledger: Ledger, clock: Clock) -> None:
    rows = [
        prediction(clock, release=release.id, audit=True),
        prediction(clock, release=release.id),
        prediction(clock, release=replace(release.id, digest="sha256:other"), audit=True),
    ]
    ledger.add_predictions(rows, Call())
    for row in rows:
        ledger.add_verdict(row.id, verdict("disagree", clock))
    found = monitor(release, ledger, now=clock())
    assert (found["metric"]["drawn"], found["metric"]["wrong"], found["referred"]["predictions"]) == (1, 1, 2)


def test_verdicts_count_in_the_order_they_were_given_so_that_what_fired_stays_fired(
    release: Release, ledger: Ledger, clock: Clock
) -> None:
    """The later answers are judged first, and are wrong; right verdicts on earlier ones come after and undo nothing."""
    rows = [prediction(clock, release=release.id, audit=True) for _ in range(200)]
    ledger.add_predictions(rows, Call())
    for row in rows[-30:]:
        ledger.add_verdict(row.id, verdict("disagree", clock))
    fired = monitor(release, ledger)["trigger"]
    assert (fired["state"], fired["fired_at"]) == (ABOVE, 30)
    for row in rows[:-30]:
        ledger.add_verdict(row.id, verdict("agree", clock))
    later = monitor(release, ledger, now=clock())
    assert later["metric"]["verdicts"] == 200
    assert (later["trigger"]["state"], later["trigger"]["fired_at"]) == (ABOVE, 30)


def test_a_verdict_that_changes_what_is_held_counts_from_when_it_was_given(
    release: Release, ledger: Ledger, clock: Clock
) -> None:
    first, second = (prediction(clock, release=release.id, audit=True) for _ in range(2))
    ledger.add_predictions([first, second], Call())

    def known(row: Prediction, kind: str, author: str) -> list[tuple[str, int]]:
        """Give a verdict a minute later; return (minute, how many wrong) of each verdict that counts."""
        clock.forward(minutes=1)
        ledger.add_verdict(row.id, verdict(kind, clock, author=author))
        shown = course(release.policy.rollback, ledger.reviews(release.id))
        return [(one.at[14:16], one.wrong) for one in shown]

    assert known(first, "agree", "ann") == [("01", 0)]
    assert known(second, "disagree", "ann") == [("01", 0), ("02", 1)]
    assert known(first, "agree", "bob") == [("01", 0), ("02", 1)]  # says the same again
    assert known(first, "disagree", "bob") == [("02", 1), ("04", 2)]
    assert known(first, "unsure", "bob") == [("02", 1)]


def test_a_course_shows_few_points_evenly_with_the_last_and_the_one_that_fired(
    release: Release, ledger: Ledger, clock: Clock
) -> None:
    rows = [prediction(clock, release=release.id, audit=True) for _ in range(200)]
    ledger.add_predictions(rows, Call())
    assert course(release.policy.rollback, ledger.reviews(release.id)) == []
    for row in rows:
        ledger.add_verdict(row.id, verdict("agree", clock))
    shown = course(release.policy.rollback, ledger.reviews(release.id), fired_at=133)
    assert len(shown) == POINTS
    assert (shown[0].n, shown[-1].n) == (1, 200)
    assert 133 in [one.n for one in shown]
    assert max(b.n - a.n for a, b in pairwise(shown)) <= 6
    assert (shown[-1].low, shown[-1].high) == wilson(0, 200)


def test_verdicts_are_counted_by_the_kind_that_holds(release: Release, ledger: Ledger, clock: Clock) -> None:
    rows = [prediction(clock, release=release.id, audit=i < 6) for i in range(7)]
    ledger.add_predictions(rows, Call())
    for row, given in zip(rows, ("agree", "corrected", "disagree", "unsure", "agree"), strict=False):
        ledger.add_verdict(row.id, verdict(given, clock, label="b" if given == "corrected" else None))
    ledger.withdraw_verdict(rows[4].id, "ann")
    ledger.add_verdict(rows[6].id, verdict("agree", clock))  # nobody drew this one
    counted = {"agree": 1, "corrected": 1, "disagree": 1, "unsure": 1}
    assert kinds(ledger.reviews(release.id)) == {"drawn": 6, **counted, "waiting": 2}


def test_a_value_inside_the_interval_agrees(release: Release, ledger: Ledger, clock: Clock) -> None:
    output = {"value": 2.0, "low": 1.0, "high": 3.0}
    rows = [prediction(clock, release=release.id, audit=True, output=output) for _ in range(3)]
    ledger.add_predictions(rows, Call())
    for row, value in zip(rows, (1.0, 3.0, 3.5), strict=True):
        ledger.add_verdict(row.id, verdict("corrected", clock, value=value))
    found = monitor(release, ledger, now=clock())["metric"]
    assert (found["verdicts"], found["wrong"]) == (3, 1)


@pytest.mark.sqlite
def test_monitoring_reads_no_prediction_that_nobody_judged(
    release: Release, ledger: Ledger, store: Store, clock: Clock
) -> None:
    """The plans of all that `monitor` asks the database: one index is counted, then verdicts lead to their own rows."""
    row = prediction(clock, release=release.id, audit=True)
    ledger.add_predictions([row], Call())
    ledger.add_verdict(row.id, verdict("agree", clock))
    asked: list[tuple[str, Any]] = []
    event.listen(store.engine, "before_cursor_execute", lambda _c, _k, sql, values, *_: asked.append((sql, values)))
    monitor(release, ledger)
    with store.reading() as connection:
        plans = [
            [
                row.detail
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
                if row.detail.startswith(("SEARCH", "SCAN")) and row.detail != "SCAN CONSTANT ROW"
            ]
            for sql, values in list(asked)
            if sql.startswith("SELECT")
        ]
    index = "SEARCH predictions USING COVERING INDEX ix_predictions_release_digest_seq_decision_audit"
    assert plans == [
        [f"{index} (release_digest=? AND seq>?)"],
        [
            "SEARCH verdicts USING INTEGER PRIMARY KEY (rowid>?)",
            "SEARCH predictions USING INTEGER PRIMARY KEY (rowid=?)",
        ],
    ]


def test_each_verdict_is_read_once_and_what_is_remembered_is_what_is_there(
    release: Release, ledger: Ledger, store: Store, clock: Clock
) -> None:
    """Looking after every verdict is looking once at the end; another release, or a restored ledger, is read anew."""
    rows = [prediction(clock, release=release.id, audit=True) for _ in range(6)]
    other = prediction(clock, release=replace(release.id, digest="sha256:other"), audit=True)
    ledger.add_predictions([*rows, other], Call())
    for number, row in enumerate([*rows, rows[0]]):
        ledger.add_verdict(row.id, verdict("disagree" if number % 2 else "agree", clock, author=f"p{number}"))
        if number == 3:
            ledger.add_verdict(other.id, verdict("agree", clock))
            assert monitor(replace(release, id=other.release), ledger, now=clock())["metric"]["verdicts"] == 1
        if number == 4:
            ledger.withdraw_verdict(row.id, "ann")
        assert monitor(release, ledger) == monitor(release, Ledger(store, clock))
    with store.writing() as connection:
        connection.execute(delete(verdicts).where(verdicts.c.seq > 3))
    assert monitor(release, ledger) == monitor(release, Ledger(store, clock))
    ledger.add_verdict(rows[5].id, verdict("agree", clock))
    assert monitor(release, ledger) == monitor(release, Ledger(store, clock))


def test_what_many_verdicts_have_in_common_is_remembered_once(release: Release, ledger: Ledger, clock: Clock) -> None:
    rows = [prediction(clock, release=release.id) for _ in range(2)]
    ledger.add_predictions(rows, Call())
    for row in rows:
        ledger.add_verdict(row.id, verdict("agree", clock))
    a, b = ledger.reviews(release.id).judged
    assert (a.id, b.id) == (rows[0].id, rows[1].id)
    assert a.output is b.output
    assert a.asker is b.asker
    assert (a.said[0].author is b.said[0].author, a.said[0].verdict is b.said[0].verdict) == (True, True)


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)
