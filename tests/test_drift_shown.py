"""Each block is read along an index and looked at once, by one process; command, API and page tell the same of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import event

from reviewapp.adapter import ModelAdapter
from reviewapp.cli import main
from reviewapp.drift import BLOCK, MOVED, ROUND, SAME, TOO_FEW, bin_words, chance_words, drift, look
from reviewapp.field import Field
from reviewapp.ledger import Ledger
from reviewapp.parts import Parts
from reviewapp.prediction import Call
from reviewapp.profile import LENGTH, MISSING, UNSEEN, VALUES, Signal
from reviewapp.purging import Purge, Selection
from reviewapp.release import Release
from reviewapp.store import Store
from reviewapp.triage import generator

from .conftest import Clock
from .page import Page
from .test_ledger import prediction

pytestmark = pytest.mark.both


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


def answered(adapter: ModelAdapter, ledger: Ledger, n: int, seed: int = 5, **how: bool) -> list[str]:
    """Keep answers to requests of the generator; return their ids."""
    examples = generator.generate(n, seed, **how)
    made = adapter.predict([dict(example.record) for example in examples], Call(dry_run=True))
    ledger.add_predictions(made, Call())
    return [one.id for one in made]


# ---- the ledger -------------------------------------------------------------------------------------------------


def test_the_last_full_block_of_the_release_is_looked_at(adapter: ModelAdapter, ledger: Ledger, clock: Clock) -> None:
    release = adapter.release
    answered(adapter, ledger, BLOCK - 1)
    assert drift(release, ledger)["state"] == TOO_FEW
    other = [prediction(clock) for _ in range(3)]  # of another release
    ledger.add_predictions(other, Call())
    assert drift(release, ledger)["requests"] == BLOCK - 1
    answered(adapter, ledger, 1, 6)
    first = drift(release, ledger)
    assert (first["state"], first["block"]["number"], first["block"]["n"]) == (SAME, 0, BLOCK)
    answered(adapter, ledger, BLOCK + 7, 7, drifted=True)
    second = drift(release, ledger)
    assert (second["state"], second["block"]["number"], second["requests"]) == (MOVED, 1, 2 * BLOCK + 7)
    assert look(release, ledger.block(release.id, BLOCK, number=0))["signals"] == first["signals"]
    assert ledger.block(release.id, BLOCK, number=2).rows == ()


def test_blocks_share_no_request_and_keep_their_order(adapter: ModelAdapter, ledger: Ledger) -> None:
    answered(adapter, ledger, 35)
    found = [ledger.block(adapter.release.id, 10, number=number).rows for number in range(4)]
    assert [len(rows) for rows in found] == [10, 10, 10, 0]
    asked = [one.record for one in generator.generate(35, 5)]
    assert [row.input for rows in found for row in rows] == asked[:30]


def test_what_was_erased_is_left_out_and_moves_no_block(
    adapter: ModelAdapter, ledger: Ledger, store: Store, clock: Clock
) -> None:
    made = answered(adapter, ledger, 2 * BLOCK)
    Purge(store, Selection(ids=made[BLOCK : BLOCK + 400]), "asked for", "ann", clock).run()
    found = drift(adapter.release, ledger)
    assert (found["requests"], found["block"]["number"], found["block"]["n"]) == (2 * BLOCK, 1, 100)
    Purge(store, Selection(ids=made[-1:]), "asked for", "ann", clock).run()
    assert drift(adapter.release, ledger)["state"] == TOO_FEW


@pytest.fixture
def asked(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """What the database is asked from here on."""
    found: list[tuple[str, Any]] = []

    def listener(_c: Any, _k: Any, sql: str, values: Any, *_: Any) -> None:
        found.append((sql, values))

    event.listen(store.engine, "before_cursor_execute", listener)
    yield found
    event.remove(store.engine, "before_cursor_execute", listener)


@pytest.mark.sqlite
def test_a_block_is_found_in_the_index_and_read_row_by_row(
    adapter: ModelAdapter, ledger: Ledger, store: Store, asked: list[tuple[str, Any]]
) -> None:
    answered(adapter, ledger, BLOCK)
    asked.clear()
    drift(adapter.release, ledger)
    with store.reading() as connection:
        plans = [
            [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            for sql, values in list(asked)
            if sql.startswith("SELECT")
        ]
    index = (
        "SEARCH predictions USING COVERING INDEX ix_predictions_release_digest_seq_decision_audit (release_digest=?)"
    )
    assert plans == [
        [index],
        ["SEARCH predictions USING INTEGER PRIMARY KEY (rowid=?)", "LIST SUBQUERY 1", index],
    ]


def test_a_block_that_was_looked_at_is_not_read_again(
    adapter: ModelAdapter, ledger: Ledger, asked: list[tuple[str, Any]]
) -> None:
    release = adapter.release
    answered(adapter, ledger, BLOCK)
    first = json.loads(json.dumps(drift(release, ledger)))
    answered(adapter, ledger, 3)
    asked.clear()
    again = drift(release, ledger, first)
    assert [sql for sql, _ in asked if "input" in sql] == []
    assert again == {**first, "requests": BLOCK + 3}
    other = replace(release, id=replace(release.id, digest="sha256:other"))
    assert drift(other, ledger, first)["state"] == TOO_FEW
    answered(adapter, ledger, BLOCK - 3, 8, drifted=True)
    assert drift(release, ledger, again)["state"] == MOVED


# ---- what is told -----------------------------------------------------------------------------------------------


def text(page: FlaskClient) -> str:
    return " ".join(Page(page.get("/monitor").text).text.split())


@pytest.mark.sqlite  # the command finds its ledger in the instance folder
def test_one_look_is_kept_for_all_and_api_page_and_command_tell_the_same(
    adapter: ModelAdapter, parts: Parts, page: FlaskClient, api: Any
) -> None:
    def told() -> Any:
        return api("get", "/monitor", role="review").json["drift"]

    assert told() is None
    assert "Nobody has looked yet." in text(page)
    parts.rounds.do_due()
    assert told()["state"] == TOO_FEW
    assert "Too few requests to tell: 0 so far, and the first look takes 500." in text(page)
    answered(adapter, parts.ledger, BLOCK + 2, drifted=True)
    found = drift(adapter.release, parts.ledger)
    parts.rounds.add(ROUND, -1.0, lambda: found)
    parts.rounds.do_due()
    assert told() == page.get("/monitor.json").json["drift"] == found
    shown = text(page)
    assert "Yes: in the last requests looked at" in shown
    assert "2 came after them; the next look takes 500." in shown
    assert "Channel values 500 chat: 33.0 % of 500, 12.3 % in the table less than once in 200 changed" in shown
    settings = {"INSTANCE": parts.settings.instance, "RELEASES": parts.settings.releases}
    command = CliRunner().invoke(main, ["monitor"], env={f"REVIEWAPP_{name}": str(at) for name, at in settings.items()})
    assert "\n  Channel, values: chat: 33.0 % of 500, 12.3 % in the table" in command.stdout


def test_the_round_looks_at_the_live_release_and_at_each_block_once(
    adapter: ModelAdapter, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(
        "reviewapp.drift.look", lambda release, block: looked.append(block.number) or look(release, block)
    )
    answered(adapter, parts.ledger, BLOCK)
    for _ in range(3):
        parts.rounds.do_due()
        with parts.store.writing() as connection:
            connection.exec_driver_sql("UPDATE rounds SET until = '2000-01-01T00:00:00.000Z'")
    assert looked == [0]
    found = parts.rounds.found(ROUND)
    assert found is not None
    assert found.result["state"] == SAME


def test_what_was_found_of_another_release_is_not_told(parts: Parts, moved: Any, api: Any) -> None:
    parts.rounds.do_due()
    assert api("get", "/monitor", role="review").json["drift"]["release"] == moved.as_json()
    parts.registry.roll_back("back", "test")
    assert api("get", "/monitor", role="review").json["drift"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"state": "no_profile"}, "Not known: this release does not keep how its table was spread."),
        (
            {"block": {"number": 0, "n": 99, "since": "2026-01-31T12:00:00.000Z", "until": "2026-01-31T12:00:00.000Z"}},
            "Too few to tell: of the last 500 requests looked at, all but 99 were erased.",
        ),
    ],
)
def test_each_state_is_a_plain_sentence(
    change: dict[str, Any], says: str, release: Release, parts: Parts, page: FlaskClient, api: Any
) -> None:
    found = {**drift(release, parts.ledger), **change}
    parts.rounds.add(ROUND, 60.0, lambda: found)
    parts.rounds.do_due()
    assert says in text(page)
    assert api("get", "/monitor", role="review").json["drift"] == found  # held against the document by the client


# ---- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "kind", "says"),
    [
        (Signal("x", VALUES, ("free", "pro"), ()), "category", ["free", "pro", "another value"]),
        (Signal("x", MISSING, ("missing",), ()), "category", ["missing", "given"]),
        (Signal("x", VALUES, (-5e-324, 0.0, 1.0, 4.0), ()), "integer", ["below 0", "0", "1", "2 to 4", "above 4"]),
        (
            Signal("x", VALUES, (float(np.nextafter(0.5, 0)), 1.25, 1500.0), ()),
            "number",
            ["below 0.5", "0.5 to 1.25", "over 1.25 to 1,500", "above 1,500"],
        ),
        (
            Signal("x", LENGTH, (float(np.nextafter(3, 0)), 7.0, 1234.0), ()),
            "text",
            ["below 3 characters", "3 to 7 characters", "8 to 1,234 characters", "above 1,234 characters"],
        ),
        (
            Signal("x", UNSEEN, (0.0, 0.0625, 0.5), ()),
            "text",
            ["no new word", "up to 6.25 % new words", "over 6.25 % up to 50 % new words",
             "over 50 % new words"],
        ),
        (
            Signal("x", VALUES, (float(np.nextafter(86400.0, 0)), 172800.0), ()),
            "date",
            ["below 1970-01-02", "1970-01-02 to 1970-01-03", "above 1970-01-03"],
        ),
    ],
)  # fmt: skip
def test_a_bin_is_told_in_words(signal: Signal, kind: str, says: list[str]) -> None:
    field = Field(name="x", kind=kind)
    assert [bin_words(signal, i, field) for i in range(len(says))] == says


def test_how_often_chance_does_as_much_is_told_in_words() -> None:
    assert [chance_words(p) for p in (1.0, 0.5, 0.25, 0.01, 0.005)] == [
        "often", "often", "once in 4", "once in 100", "less than once in 200",
    ]  # fmt: skip
