"""Exports hold exactly what is found, in its order, whole or visibly broken, and no cell that a spreadsheet runs."""

import csv
import http.client
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reviewapp import ledger as ledgers
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import StoreBusy, UsageError
from reviewapp.export import export, write_beside
from reviewapp.field import Field
from reviewapp.filters import to_export
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call
from reviewapp.store import Store

from .conftest import Clock
from .service import Service
from .test_ledger import prediction, verdict

pytestmark = pytest.mark.both

CONTRACT = Contract(
    name="small",
    fields=(
        Field(name="text", kind="text"),
        Field(name="=n", kind="integer"),
        Field(name="gone", kind="boolean", required=False, nullable=True),
    ),
    outcome=Outcome(name="y", labels=("a", "b")),
)
FIXED = ["id", "created_at", "release", "release_digest", "option", "reference", "source", "client", "request_id",
         "decision", "reasons", "warnings", "audit"]  # fmt: skip
JUDGED = ["verdict", "right_answer", "verdict_reasons", "verdict_by", "verdict_at", "verdict_note", "blind"]


@pytest.fixture
def ledger(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(ledgers, "EXPORTED", 2)
    return Ledger(store, clock)


def rows(ledger: Ledger, contract: Contract | None = CONTRACT, **filters: Any) -> list[dict[str, str]]:
    content = b"".join(export("csv", ledger, filters, "newest", contract)).decode()
    return list(csv.DictReader(io.StringIO(content, newline="")))


def lines(ledger: Ledger, sort: str = "newest", **filters: Any) -> list[dict[str, Any]]:
    content = b"".join(export("jsonl", ledger, filters, sort, CONTRACT))
    return [json.loads(line) for line in content.splitlines()]


def test_json_lines_are_the_records_of_the_api_in_every_order(ledger: Ledger, clock: Clock) -> None:
    made = [prediction(clock, reference=str(i), source="form" if i % 2 else "api") for i in range(7)]
    ledger.add_predictions(made, Call())
    ledger.add_verdict(made[3].id, verdict("corrected", clock, label="b", note="ß 🙂"))
    for sort in ("newest", "oldest", "least_sure", "most_sure"):
        for filters in ({}, {"source": "form"}, {"since": "2026"}, {"q": "größe"}, {"verdict": "none"}):
            shown, _ = ledger.predictions(filters, 200, None, sort)
            assert lines(ledger, sort, **filters) == [one.as_record() for one in shown]
    assert len(lines(ledger)) == 7


def test_a_csv_row_tells_the_whole_story(ledger: Ledger, clock: Clock) -> None:
    made = prediction(
        clock, reference="A-1", input={"text": "Größe", "=n": -3, "gone": True, "old": None, "older": 1.5},
        comparison={"option": "baseline", "output": {"label": "b"}}, decision="review", audit=False,
        reasons=["low_confidence", "outside_seen"],
        warnings=[{"pointer": "/input/n", "code": "c", "detail": "41 is above"}],
    )  # fmt: skip
    ledger.add_predictions([made, prediction(clock, input=None)], Call())
    ledger.add_verdict(made.id, verdict("agree", clock))
    ledger.add_verdict(made.id, verdict("corrected", clock, label="b", reasons=["x", "y"], note="why", author="bob"))
    erased, row = rows(ledger)
    header = [*FIXED, "label", "confidence", "other_option_answer", *JUDGED,
              "input.text", "input.=n", "input.gone", "other_input"]  # fmt: skip
    assert list(row) == header
    at = made.created_at
    assert list(row.values()) == [
        made.id, at, "triage/1", made.release.digest, "model", "A-1", "api", "ann", "r", "review",
        "low_confidence; outside_seen", "/input/n: 41 is above", "false", "a", repr(0.1 + 0.2), "b",
        "corrected", "b", "x; y", "bob", at, "why", "false", "Größe", "-3", "true", '{"old":null,"older":1.5}',
    ]  # fmt: skip
    assert [erased[name] for name in (*JUDGED, "input.text", "other_input")] == [""] * 9
    assert rows(ledger, None)[1]["other_input"].startswith('{"text":"Größe"')


def test_a_ledger_that_holds_values_and_labels_loses_neither(ledger: Ledger, clock: Clock) -> None:
    value = prediction(clock, output={"value": 2.5, "low": -1.0, "high": 3.0})
    ledger.add_predictions([value, prediction(clock)], Call())
    ledger.add_verdict(value.id, verdict("corrected", clock, value=1234.5))
    label, number = rows(ledger)
    assert (label["label"], label["value"]) == ("a", "")
    assert [number[name] for name in ("label", "value", "low", "high", "right_answer")] == [
        "", "2.5", "-1.0", "3.0", "1234.5",
    ]  # fmt: skip


HOSTILE = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", 'a"b',
           "a\r\nb;,c", "x" * 10_000, "\u202etxt.exe", "🙂", "<script>alert(1)</script>", "-5", "+",
           "007", " =1"]  # fmt: skip


def test_no_cell_is_a_formula_and_every_text_comes_back(ledger: Ledger, clock: Clock) -> None:
    made = [
        prediction(clock, reference=one, client=one, input={"text": one, one: one}, reasons=[one]) for one in HOSTILE
    ]
    ledger.add_predictions(made, Call())
    for one in made:
        ledger.add_verdict(one.id, verdict("unsure", clock, note=one.reference, author=str(one.reference)))
    content = b"".join(export("csv", ledger, {}, "oldest", CONTRACT)).decode()
    found = list(csv.DictReader(io.StringIO(content, newline="")))
    assert len(found) == len(HOSTILE)
    for row, text in zip(found, HOSTILE, strict=True):
        for name in ("reference", "client", "input.text", "verdict_note", "verdict_by", "reasons"):
            assert row[name].removeprefix("'") == text
            harmless = text in ("-5", "+")
            assert harmless or not row[name].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
        assert json.loads(row["other_input"]) == {text: text}
    assert [
        json.loads(line)["reference"] for line in b"".join(export("jsonl", ledger, {}, "oldest", None)).splitlines()
    ] == HOSTILE


def test_a_file_with_nothing_in_it_is_a_file(ledger: Ledger) -> None:
    assert list(export("jsonl", ledger, {}, "newest", CONTRACT)) == [b""]
    assert rows(ledger) == []
    assert b"".join(export("csv", ledger, {}, "newest", CONTRACT)).startswith(b'"id","created_at"')


def test_what_is_recorded_while_a_file_is_made_is_left_out_so_that_it_ends(ledger: Ledger, clock: Clock) -> None:
    ledger.add_predictions([prediction(clock) for _ in range(5)], Call())
    for sort in ("newest", "oldest", "least_sure", "most_sure"):
        before, seen = len(lines(ledger)), 0
        for piece in export("jsonl", ledger, {}, sort, CONTRACT):
            seen += len(piece.splitlines())
            ledger.add_predictions([prediction(clock)], Call())
        assert seen == before


def test_no_more_rows_than_a_page_are_read_at_a_time(ledger: Ledger, clock: Clock) -> None:
    ledger.add_predictions([prediction(clock) for _ in range(7)], Call())
    pieces = [len(piece.splitlines()) for piece in export("jsonl", ledger, {}, "newest", CONTRACT)]
    assert pieces == [2, 2, 2, 1]


def test_a_failure_in_the_middle_is_raised_and_leaves_no_file(
    ledger: Ledger, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add_predictions([prediction(clock) for _ in range(5)], Call())
    target = tmp_path / "out.jsonl"
    target.write_text("as it was")
    find, calls = ledgers.find, []

    def failing(*values: Any) -> Any:
        calls.append(1)
        if len(calls) % 3 == 0:
            raise StoreBusy("damaged")
        return find(*values)

    monkeypatch.setattr(ledgers, "find", failing)
    made = export("jsonl", ledger, {}, "newest", CONTRACT)
    assert next(made)
    assert next(made)
    with pytest.raises(StoreBusy):
        next(made)
    with pytest.raises(StoreBusy):
        write_beside(export("jsonl", ledger, {}, "newest", CONTRACT), target)
    assert target.read_text() == "as it was"
    assert list(tmp_path.glob("*out*")) == [target]


def test_a_file_is_put_in_place_whole(ledger: Ledger, clock: Clock, tmp_path: Path) -> None:
    ledger.add_predictions([prediction(clock) for _ in range(5)], Call())
    target = tmp_path / "out.csv"
    write_beside(export("csv", ledger, {}, "newest", CONTRACT), target)
    assert target.read_bytes() == b"".join(export("csv", ledger, {}, "newest", CONTRACT))
    assert target.stat().st_mode & 0o077 == 0
    for wrong in (tmp_path, tmp_path / "no" / "x.csv"):
        with pytest.raises(UsageError, match="cannot be written"):
            write_beside(iter([b"x"]), wrong)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_options_of_an_export_are_read_as_the_page_reads_them() -> None:
    filters, sort = to_export({"decision": "auto", "since": "2026-01-31", "q": "", "audit": "true"})
    assert {name: value for name, value in filters.items() if value is not None} == {
        "decision": "auto", "since": "2026-01-31T00:00:00.000Z", "audit": True,
    }  # fmt: skip
    assert sort == "newest"
    assert to_export({"sort": "oldest"})[1] == "oldest"


@pytest.mark.server
def test_a_download_that_fails_in_the_middle_does_not_look_whole(
    tmp_path: Path, clock: Clock, stocked: Callable[[Path], Path]
) -> None:
    """More than the sockets between hold is on its way when the ledger breaks."""
    with Service(stocked(tmp_path / "instance")) as service:
        store = Store(f"sqlite:///{tmp_path / 'instance' / 'reviewapp.sqlite3'}")
        for _ in range(15):
            large = [prediction(clock, input={"text": "x" * 50_000}) for _ in range(100)]
            Ledger(store, clock).add_predictions(large, Call())
        token = service.token("ann", "review")
        headers = {"Authorization": f"Bearer {token}"}
        for kind, broken in (("csv", True), ("jsonl", True), ("csv", False)):
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
            connection.request("GET", f"/history.{kind}", headers=headers)
            response = connection.getresponse()
            assert response.status == 200
            response.read(1000)
            if broken:
                _rename(store, "verdicts", "away")
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    response.read()
                _rename(store, "away", "verdicts")
            else:
                assert response.read().count(b"\r\n") == 1500  # the header was read before
            connection.close()
        store.close()


def _rename(store: Store, old: str, new: str) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")
