"""A file of requests: every row is answered or named in its place, and no file ends silently short."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from reviewapp import bulk, csvfiles
from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import StoreFull
from reviewapp.field import Field
from reviewapp.parts import EXTENSION, Parts
from reviewapp.prediction import Answered, Call
from reviewapp.release import Release
from reviewapp.samples import as_text, csv_template, example_record
from reviewapp.triage import generator

from .conformance import CheckedClient
from .conftest import EVERY_KIND
from .page import as_csv
from .small import small_release
from .test_pages import OneRelease, Same

NDJSON = "application/x-ndjson"
Send = Callable[..., Any]


def as_lines(records: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps({"input": record}) + "\n" for record in records)


def table(response: Any, delimiter: str = ",") -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    text = io.StringIO(response.data.decode(), newline="")
    header, *rows = csv.reader(text, delimiter=delimiter, strict=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def lines(response: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == NDJSON
    *answers, last = map(json.loads, response.data.splitlines())
    return answers, last["summary"]


def recorded(parts: Parts) -> int:
    return sum(parts.ledger.reviews(parts.registry.adapter().release.id).predictions.values())


@pytest.fixture
def send(api: Send) -> Send:
    """Send a file: `send(text)` as CSV, `send(text, NDJSON, "?dry_run=true")`."""

    def post(body: str | bytes, kind: str = "text/csv", query: str = "", **kwargs: Any) -> Any:
        return api("post", f"/predictions/bulk{query}", data=body, content_type=kind, **kwargs)

    return post


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)


# ---- the same answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/csv", NDJSON])
def test_the_answers_are_the_adapters_own_in_the_order_of_the_rows(
    send: Send, parts: Parts, adapter: ModelAdapter, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 200)  # 500 rows are three chunks, the last one not full
    records = [one.record for one in generator.generate(250, 31) + generator.generate(250, 32, drifted=True)]
    expected = adapter.predict(records, Call())
    if kind == NDJSON:
        answers, summary = lines(send(as_lines(records), kind))
        assert summary == {"rows": 500, "predictions": 500, "problems": 0}
        said = [(made["output"]["label"], made["decision"], made["reasons"], made["warnings"]) for made in answers]
        assert said == [(made.output["label"], made.decision, made.reasons, made.warnings) for made in expected]
        figures = np.array([list(made["output"]["probabilities"].values()) for made in answers])
        assert np.abs(figures - [list(made.output["probabilities"].values()) for made in expected]).max() <= 1e-9
        ids = [made["id"] for made in answers]
    else:
        answers = table(send(as_csv(records)))
        said = [
            (row["prediction"], row["decision"], row["reasons"], row["warnings"], row["problem"]) for row in answers
        ]
        assert said == [
            (made.output["label"], made.decision, "; ".join(made.reasons),
             "; ".join(warning["detail"] for warning in made.warnings), "")
            for made in expected
        ]  # fmt: skip
        figures = np.array([float(row["confidence"]) for row in answers])
        assert np.abs(figures - [made.output["confidence"] for made in expected]).max() <= 1e-9
        ids = [row["prediction_id"] for row in answers]
    assert recorded(parts) == 500
    for record, prediction_id in list(zip(records, ids, strict=True))[::71]:
        kept = parts.ledger.prediction(prediction_id)
        assert (kept.input, kept.source, kept.client) == (record, "bulk", "submit")


def test_csv_keeps_its_columns_and_their_order_and_takes_the_callers_ids(
    send: Send, parts: Parts, example: dict
) -> None:
    turned = dict(reversed(example.items()))
    rows = table(send(as_csv([turned, turned], reference=["A-1", ""])))
    names = ["prediction", "confidence", "decision", "reasons", "warnings", "prediction_id", "problem"]
    assert list(rows[0]) == [*turned, "reference", *names]
    assert {name: rows[0][name] for name in turned} == {name: as_text(value) for name, value in turned.items()}
    assert [parts.ledger.prediction(row["prediction_id"]).reference for row in rows] == ["A-1", None]


def test_ndjson_takes_what_the_single_route_takes(send: Send, parts: Parts, example: dict) -> None:
    body = json.dumps({"input": example, "reference": "A-1"})
    answers, summary = lines(send(f"\n{body}\r\n \t\n{body}", NDJSON))
    assert summary == {"rows": 2, "predictions": 2, "problems": 0}
    assert [made["reference"] for made in answers] == ["A-1", "A-1"]
    assert parts.ledger.prediction(answers[1]["id"]).as_json() == answers[1]


def test_a_dry_run_records_nothing(send: Send, parts: Parts, example: dict) -> None:
    [row] = table(send(as_csv([example]), query="?dry_run=true"))
    assert (row["prediction"], row["prediction_id"]) == ("billing", "")
    [made], _ = lines(send(as_lines([example]), NDJSON, "?dry_run=1"))
    assert (made["output"]["label"], made["id"]) == ("billing", None)
    assert recorded(parts) == 0


# ---- rows with mistakes -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
def test_a_row_with_mistakes_is_named_in_its_place_and_the_others_are_answered(
    send: Send, parts: Parts, example: dict
) -> None:
    wrong = {**example, "channel": "s3cret-fax", "open_tickets": "s3cret", "account_age_days": -1}
    response = send(as_csv([example, wrong, example, wrong, example], reference=["", "", "", "x" * 201, ""]))
    rows = table(response)
    assert [row["prediction"] for row in rows] == ["billing", "", "billing", "", "billing"]
    assert [bool(row["prediction_id"]) for row in rows] == [True, False, True, False, True]
    mistakes = (
        "channel: This must be one of the allowed values (email, web, phone, chat); "
        "open_tickets: This must be a whole number; account_age_days: This must be 0 days or more"
    )
    assert rows[1]["problem"] == mistakes
    assert rows[3]["problem"] == f"{mistakes}; reference: This must have 200 characters or fewer"
    assert "s3cret" not in "".join(row["problem"] for row in rows)
    assert recorded(parts) == 3


@pytest.mark.usefixtures("small_chunks")
def test_a_line_with_mistakes_is_answered_with_its_problem(send: Send, parts: Parts, example: dict) -> None:
    good = as_lines([example]).encode()
    wrong = as_lines([{**example, "channel": "s3cret"}]).encode()
    response = send(good + wrong + b"NaN\n" + b'{"input": "\xff"}\n' + b"\n" + b"[]\n" + good, NDJSON)
    answers, summary = lines(response)
    assert summary == {"rows": 6, "predictions": 2, "problems": 4}
    assert [row.get("row") for row in answers] == [None, 2, 3, 4, 5, None]
    problems = [row["problem"] for row in answers if "row" in row]
    kinds = [(problem["status"], problem["type"].rpartition("/")[2]) for problem in problems]
    assert kinds == [(422, "invalid-input"), (400, "not-json"), (400, "not-json"), (422, "invalid-input")]
    assert [flaw["pointer"] for flaw in problems[0]["errors"]] == ["/input/channel"]
    assert {problem["request_id"] for problem in problems} == {response.headers["X-Request-ID"]}
    assert b"s3cret" not in response.data
    assert recorded(parts) == 2


def test_a_row_with_another_number_of_cells_is_its_own_problem_and_never_shifted(
    send: Send, parts: Parts, example: dict
) -> None:
    header, good, *_ = as_csv([example]).split("\r\n")
    rows = table(send("\n".join([header, good, good + ",more", "", "only,two", good])))
    assert [row["problem"] for row in rows] == [
        "",
        "Line 3: this row has 8 cells, and the header has 7.",
        "Line 5: this row has 2 cells, and the header has 7.",
        "",
    ]
    assert [row["prediction"] for row in rows] == ["billing", "", "", "billing"]
    assert list(rows[2].values())[:4] == ["only", "two", "", ""]
    assert recorded(parts) == 2


# ---- files as they come -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\r\n", "\n").encode(),
        lambda text: text.replace("\r\n", "\r").encode(),
        lambda text: text.replace("\r\n", "\r\n\r\n").encode(),
        lambda text: text.removesuffix("\r\n").encode(),
    ],
    ids=["BOM", "LF", "CR only", "empty lines", "no last line end"],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_every_way_to_write_the_same_file_is_read(
    send: Send, parts: Parts, example: dict, delimiter: str, change: Callable[[str], bytes]
) -> None:
    # LF and CR would change a line break inside of a cell, so the cell with one has its own test.
    records = [{**example, "body": "a, b; c\td"}, {**example, "subject": 'say "no"'}]
    rows = table(send(change(as_csv(records, delimiter))), delimiter)
    assert [parts.ledger.prediction(row["prediction_id"]).input for row in rows] == records


def test_a_cell_may_hold_line_breaks_quotes_and_a_long_text(send: Send, parts: Parts, example: dict) -> None:
    records = [{**example, "body": text} for text in ('two\r\nlines\nand "more"\r', "é" * 4000)]
    long = {**example, "body": "x" * 200_000}
    rows = table(send(as_csv([*records, long])))
    assert [parts.ledger.prediction(row["prediction_id"]).input for row in rows[:2]] == records
    assert rows[2]["problem"] == "body: This must have 4000 characters or fewer"
    assert rows[0]["body"] == records[0]["body"]


def test_an_empty_cell_is_the_missing_value_where_null_is_allowed(send: Send, parts: Parts, example: dict) -> None:
    [row] = table(send(as_csv([{**example, "customer_tier": None}])))
    assert parts.ledger.prediction(row["prediction_id"]).input["customer_tier"] is None


HEADER = "subject,body,channel,customer_tier,open_tickets,account_age_days,has_attachment"
ROW = "a,b,web,pro,1,1,true"


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        (b"", [("", "not_csv", "Line 1 is empty; a file begins with the names of its columns.")]),
        (b"\xef\xbb\xbf", [("", "not_csv", "Line 1 is empty; a file begins with the names of its columns.")]),
        (f"\n{HEADER}\n{ROW}", [("", "not_csv", "Line 1 is empty; a file begins with the names of its columns.")]),
        (HEADER, [("", "too_few_items", "The file has a header and no row.")]),
        (f"{HEADER}\n\n\r\n", [("", "too_few_items", "The file has a header and no row.")]),
        (
            f"{HEADER}\n{ROW}\n".encode("utf-16"),
            [("", "not_csv", "Line 1: this is not UTF-8; save the file as CSV in UTF-8 (in Excel: CSV UTF-8).")],
        ),
        (
            f"{HEADER}\n{ROW}\n".encode("utf-16-le"),
            [("", "not_csv", "Line 1: here is a NUL character; save the file as CSV in UTF-8 (in Excel: CSV UTF-8).")],
        ),
        (
            f"{HEADER}\r\n{ROW}\rcafé{ROW}".encode("latin-1"),
            [("", "not_csv", "Line 3: this is not UTF-8; save the file as CSV in UTF-8 (in Excel: CSV UTF-8).")],
        ),
        (
            f"{HEADER}\n{ROW}\na\0{ROW}",
            [("", "not_csv", "Line 3: here is a NUL character; save the file as CSV in UTF-8 (in Excel: CSV UTF-8).")],
        ),
        (
            f'{HEADER}\n{ROW}\n"a\n{ROW}',
            [("", "not_csv", "Line 3: this cannot be read as CSV (unexpected end of data).")],
        ),
        (
            f'{HEADER}\n{ROW}\n"a"b{ROW}',
            [("", "not_csv", "Line 3: this cannot be read as CSV (',' expected after '\"').")],
        ),
        (
            f"{HEADER.replace('body', 'text')}\n{ROW}",
            [
                ("/body", "missing", "Line 1: this column is required."),
                ("/text", "unknown_member", "Line 1: the contract knows no column of this name."),
            ],
        ),
        (f"{HEADER},channel\n{ROW},web", [("/channel", "given_twice", "Line 1: give this column once.")]),
        (
            f"{HEADER},reference,reference\n{ROW},1,1",
            [("/reference", "given_twice", "Line 1: give this column once.")],
        ),
        (f"{HEADER},a/b\n{ROW},1", [("/a~1b", "unknown_member", "Line 1: the contract knows no column of this name.")]),
        (
            f"{HEADER},{'x' * 200_000}\n{ROW},1",
            [(f"/{'x' * 100}…", "unknown_member", "Line 1: the contract knows no column of this name.")],
        ),
    ],
)  # fmt: skip
def test_a_mistake_of_the_whole_file_is_422_with_its_line_and_nothing_is_recorded(
    send: Send, parts: Parts, content: bytes | str, errors: list[tuple[str, str, str]]
) -> None:
    response = send(content)
    assert (response.status_code, response.json["type"]) == (422, "/problems/invalid-input")
    assert [(flaw["pointer"], flaw["code"], flaw["detail"]) for flaw in response.json["errors"]] == errors
    assert recorded(parts) == 0


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t"])
def test_a_file_of_no_lines_is_refused(send: Send, content: bytes) -> None:
    response = send(content, NDJSON)
    assert response.status_code == 422
    assert [flaw["code"] for flaw in response.json["errors"]] == ["too_few_items"]


def test_a_file_of_very_many_columns_is_refused_with_the_first_mistakes(send: Send) -> None:
    response = send(",".join(map(str, range(100_000))) + "\n")
    assert (response.status_code, len(response.json["errors"]), response.json["error_count"]) == (422, 50, 100_006)


# ---- formulas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"])
def test_no_cell_is_written_that_a_spreadsheet_runs(send: Send, parts: Parts, example: dict, sign: str) -> None:
    text = f"{sign}HYPERLINK(1)"
    response = send(as_csv([{**example, "subject": text}], reference=[f"{sign}1+1"]))
    [row] = table(response)
    assert (row["subject"], row["reference"]) == (f"'{text}", f"'{sign}1+1")
    kept = parts.ledger.prediction(row["prediction_id"])
    assert (kept.input["subject"], kept.reference) == (text, f"{sign}1+1")
    assert all(line.startswith('"') and line.endswith('"') for line in response.text.split("\r\n")[:-1] if sign != "\r")


@pytest.mark.parametrize("number", ["-1.5", "+1", "-.5e-3", "-0", "+1E9", "+", "-"])
def test_a_plain_number_and_a_sign_alone_stay_as_they_are(number: str) -> None:
    assert csvfiles.safe(number) == number
    assert csvfiles.safe(f"{number}+1") == f"'{number}+1"


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), min_size=1))
def test_what_is_written_is_read_again_and_no_cell_begins_as_a_formula(rows: list[list[str]]) -> None:
    again = [cells for _, cells in csvfiles.records(csvfiles.write(rows, ";").encode(), ";")]
    for row, read in zip(rows, again, strict=True):
        for cell, shown in zip(row, read, strict=True):
            assert shown in (cell, f"'{cell}")
            assert not shown.startswith(("=", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
            assert not shown.startswith(("+", "-")) or shown in ("+", "-") or float(shown) is not None


# ---- other contracts --------------------------------------------------------------------------------------------


@pytest.fixture
def serve(app: Flask, parts: Parts) -> Iterator[Callable[[Contract, Any], ModelAdapter]]:
    """Let the app answer for another contract: `serve(contract, model)`."""

    def change(contract: Contract, model: Any) -> ModelAdapter:
        adapter = ModelAdapter(small_release(contract, model), [parts.ledger.add])
        app.extensions[EXTENSION] = replace(parts, registry=OneRelease(adapter))
        CheckedClient.contract = contract
        return adapter

    yield change
    app.extensions[EXTENSION] = parts


def test_every_kind_of_field_under_every_odd_name_goes_through_a_file(send: Send, serve: Any, parts: Parts) -> None:
    serve(EVERY_KIND, Same())
    record = example_record(EVERY_KIND)
    rows = table(send(csv_template(EVERY_KIND)))
    [made], _ = lines(send(as_lines([record]), NDJSON))
    assert parts.ledger.prediction(rows[0]["prediction_id"]).input == parts.ledger.prediction(made["id"]).input
    assert rows[0]["prediction"] == ">50K"
    needed = {field.name: record[field.name] for field in EVERY_KIND.fields if field.required}
    [short] = table(send(as_csv([needed])))
    kept = parts.ledger.prediction(short["prediction_id"]).input
    assert kept == dict.fromkeys(EVERY_KIND.names) | needed
    broken = table(send(as_csv([dict.fromkeys(record, "?")])))[0]["problem"].split("; ")
    assert [mistake.partition(": ")[0] for mistake in broken] == [
        "number", "a number?", "class", "x.y", "Meta", "_schema", "a/b~c", "(no name)", "day", "日付", "m/d",
    ]  # fmt: skip


TAKEN = Contract(
    name="taken",
    fields=tuple(
        Field(name=name, kind="text", required=False, nullable=True)
        for name in ("prediction", "prediction_", "reference")
    ),
    outcome=Outcome(name="price", task="regression", unit="€", minimum=0),
)  # fmt: skip


class Interval:
    def predict_interval(self, frame: Any) -> Any:
        return np.array([[1.5, 0.5, 2.5]] * len(frame))


def test_a_value_has_its_interval_and_no_column_hides_another(send: Send, serve: Any, parts: Parts) -> None:
    serve(TAKEN, Interval())
    [row] = table(send("prediction,reference,prediction_\na,b,c\n"))
    names = ["prediction__", "low", "high", "decision", "reasons", "warnings", "prediction_id", "problem"]
    assert list(row) == ["prediction", "reference", "prediction_", *names]
    assert [row["prediction__"], row["low"], row["high"]] == ["1.5", "0.5", "2.5"]
    kept = parts.ledger.prediction(row["prediction_id"])
    assert (kept.input, kept.reference) == ({"prediction": "a", "prediction_": "c", "reference": "b"}, None)


def test_a_row_of_one_column_may_hold_every_sign(send: Send, serve: Any) -> None:
    one = replace(TAKEN, fields=(Field(name="a;b", kind="text"),))
    serve(one, Interval())
    rows = table(send('a;b\n"1,2"\n""\n3;4\n5,6\n'))
    assert [row["a;b"] for row in rows] == ["1,2", "", "3;4", "5"]
    assert [row["problem"] for row in rows] == ["", "", "", "Line 5: this row has 2 cells, and the header has 1."]


# ---- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "text/plain", "text/csv; charset=latin-1", "application/x-ndjson; charset=utf-16",
     "application/vnd.ms-excel", "multipart/form-data; boundary=x"],
)  # fmt: skip
def test_another_kind_of_file_is_refused(send: Send, kind: str) -> None:
    response = send(f"{HEADER}\n{ROW}", kind)
    assert (response.status_code, response.json["type"]) == (415, "/problems/unsupported-media-type")
    assert "text/csv or application/x-ndjson" in response.json["detail"]


@pytest.mark.parametrize("kind", ["text/csv; charset=UTF-8", "Text/CSV; header=present"])
def test_a_file_may_say_that_it_is_utf8(send: Send, kind: str) -> None:
    assert table(send(f"{HEADER}\n{ROW}", kind))[0]["problem"] == ""


def test_an_encoded_file_is_refused_unopened(send: Send) -> None:
    assert send(HEADER, headers={"Content-Encoding": "gzip"}).status_code == 415


def test_a_client_that_cannot_read_the_kind_it_sends_is_told(send: Send, example: dict) -> None:
    for accept in ("application/json", NDJSON):
        response = send(as_csv([example]), headers={"Accept": accept})
        assert (response.status_code, response.json["type"]) == (406, "/problems/not-acceptable")
    for accept in ("text/csv", "text/*", "*/*"):
        assert send(as_csv([example]), headers={"Accept": accept}).status_code == 200
    assert send(as_lines([example]), NDJSON, headers={"Accept": NDJSON}).status_code == 200


def test_a_file_above_the_limit_is_413(app: Flask, parts: Parts, send: Send, example: dict) -> None:
    content = as_csv([example])
    app.extensions[EXTENSION] = replace(parts, settings=replace(parts.settings, max_bulk=len(content)))
    assert send(content).status_code == 200
    response = send(content + "\n")
    assert (response.status_code, response.json["type"]) == (413, "/problems/too-large")
    assert f"{len(content):,} bytes" in response.json["detail"]
    assert recorded(parts) == 1


def test_who_is_not_known_and_what_the_route_does_not_take_is_refused(send: Send, parts: Parts, example: dict) -> None:
    content = as_csv([example])
    assert send(content, role=None).status_code == 401
    for query in ("?explain=true", "?compare=true"):
        response = send(content, query=query)
        assert [flaw["code"] for flaw in response.json["errors"]] == ["unknown_member"]
    assert send(content, headers={"Idempotency-Key": "k"}).status_code == 400
    assert recorded(parts) == 0


# ---- failures in the middle -------------------------------------------------------------------------------------


@pytest.fixture
def failing(app: Flask, parts: Parts, release: Release) -> Callable[[int, Exception], None]:
    """Let the ledger fail from its n-th batch of predictions on: `failing(2, StoreFull("…"))`."""

    def change(batch: int, error: Exception) -> None:
        batches: list[int] = []

        def sink(answered: Sequence[Answered]) -> None:
            batches.append(len(answered))
            if len(batches) >= batch:
                raise error
            parts.ledger.add(answered)

        registry = OneRelease(ModelAdapter(release, [sink]))
        app.extensions[EXTENSION] = replace(parts, registry=registry)

    return change


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("error", "slug", "says"),
    [
        (StoreFull("The disk of the ledger is full; nothing was recorded."), "store-full", "is full"),
        (RuntimeError("s3cret"), "internal-error", "failed on our side"),
    ],
)
def test_after_a_failure_every_row_says_so_and_what_was_acknowledged_stays(
    send: Send, parts: Parts, failing: Any, example: dict, caplog: Any, error: Exception, slug: str, says: str
) -> None:
    records = [{**example, "open_tickets": number} for number in range(8)]
    records[4]["channel"] = "fax"
    failing(2, error)
    rows = table(send(as_csv(records)))
    assert [row["prediction"] for row in rows] == ["billing"] * 3 + [""] * 5
    assert [says in row["problem"] for row in rows] == [False] * 3 + [True, False, True, True, True]
    assert rows[4]["problem"].startswith("channel: ")
    failing(2, error)
    answers, summary = lines(send(as_lines(records), NDJSON))
    assert summary == {"rows": 8, "predictions": 3, "problems": 5}
    assert [row.get("row") for row in answers] == [None] * 3 + [4, 5, 6, 7, 8]
    assert answers[3]["problem"]["type"] == answers[7]["problem"]["type"] == f"/problems/{slug}"
    assert [parts.ledger.prediction(made["id"]).input for made in answers[:3]] == records[:3]
    assert recorded(parts) == 6
    assert "(from row 4 on)" in caplog.text
    assert ("Traceback" in caplog.text) == (slug == "internal-error")
    assert "s3cret" not in json.dumps(answers)


def test_a_failure_before_anything_was_recorded_has_its_own_status(
    send: Send, parts: Parts, failing: Any, example: dict
) -> None:
    failing(1, StoreFull("The disk of the ledger is full; nothing was recorded.", retry_after=30))
    for response in (send(as_csv([example])), send(as_lines([example]), NDJSON)):
        assert (response.status_code, response.json["type"]) == (507, "/problems/store-full")
        assert response.headers["Retry-After"] == "30"
    assert recorded(parts) == 0


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_is_handed_out_before_the_next_one_is_answered(
    adapter: ModelAdapter, release: Release, example: dict
) -> None:
    asked: list[int] = []
    watched = ModelAdapter(release, [lambda answered: asked.extend(len(made) for made, _ in answered)])
    pieces = bulk.answer(bulk.read(NDJSON, as_lines([example] * 7).encode(), release.contract), watched, Call())
    for handed_out in ([3], [3, 3], [3, 3, 1]):
        next(pieces)
        assert asked == handed_out
    assert json.loads(next(pieces)) == {"summary": {"rows": 7, "predictions": 7, "problems": 0}}


class StumblesAt41:
    """A model that fails at one request, and takes all with it that are asked beside that."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.classes_ = inner, inner.classes_

    def predict_proba(self, frame: Any) -> Any:
        if (frame["open_tickets"] == 41).any():
            raise ValueError("s3cret")
        return self.inner.predict_proba(frame)


@pytest.mark.parametrize("bad", [0, 5])
def test_a_row_that_the_model_fails_at_fails_alone(release: Release, example: dict, bad: int) -> None:
    kept: list[str] = []

    def sink(answered: Sequence[Answered]) -> None:
        kept.extend(prediction.id for made, _ in answered for prediction in made)

    stumbling = ModelAdapter(replace(release, model=StumblesAt41(release.model)), [sink])
    records = [{**example, "open_tickets": 41 if i == bad else 1} for i in range(7)]
    read = bulk.read(NDJSON, as_lines(records).encode(), release.contract)
    pieces = b"".join(bulk.answer(read, stumbling, Call(request_id="r")))
    *answers, summary = [json.loads(line) for line in pieces.splitlines()]
    assert summary == {"summary": {"rows": 7, "predictions": 6, "problems": 1}}
    assert answers[bad]["problem"]["type"] == "/problems/model-broken"
    assert [made["id"] for i, made in enumerate(answers) if i != bad] == kept
    assert b"s3cret" not in pieces
