"""A file sent on a page: every row is answered once, whoever breaks off, and comes back in its place."""

import csv
import io
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select

from reviewapp import bulk
from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import StoreFull
from reviewapp.field import Field
from reviewapp.parts import EXTENSION, Parts
from reviewapp.release import Release, ReleaseId
from reviewapp.samples import as_text, csv_template, valid_record
from reviewapp.tables import blind_openings, predictions, queue, upload_rows, uploads
from reviewapp.ui import uploading
from reviewapp.uploads import BLIND, NOT_REACHED, OTHER_RELEASE, Upload

from .conftest import EVERY_KIND
from .page import JSON, Page, as_csv, send_file
from .small import small_release
from .test_bulk import HEADER, ROW, StumblesAt41
from .test_pages import HOSTILE, OneRelease, Same

pytestmark = pytest.mark.both

Table = list[dict[str, str]]

NOT_UTF8 = "Line 1: this is not UTF-8; save the file as CSV in UTF-8 (in Excel: CSV UTF-8)."


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)


@pytest.fixture
def file(example: dict[str, Any]) -> Callable[..., str]:
    """Return a file of the example: `file(8, fax=[2])` has a mistake in its third row."""

    def make(rows: int, fax: Any = (), **more: Any) -> str:
        records = [{**example, "open_tickets": n, "channel": "fax" if n in fax else "web"} for n in range(rows)]
        return as_csv(records, **more)

    return make


def stored(page: FlaskClient, content: str, **fields: str) -> str:
    """Send a file to be answered later; return its address."""
    response = send_file(page, content, answer="later", **fields)
    assert response.status_code == 303, response.text
    return str(response.headers["Location"])


def go_on(page: FlaskClient, address: str) -> dict[str, Any]:
    response = page.post(f"{address}/continue", headers=JSON)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json or {}
    return found


def answers(page: FlaskClient, address: str, delimiter: str = ",") -> Table:
    response = page.get(f"{address}/answers.csv")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    header, *rows = csv.reader(io.StringIO(response.data.decode(), newline=""), delimiter=delimiter, strict=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def count(parts: Parts, table: Any) -> int:
    with parts.store.reading() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def of(parts: Parts, address: str) -> Upload:
    return parts.uploads.upload(address.rpartition("/")[2])


# ---- the same answers -------------------------------------------------------------------------------------------


def odd_file(contract: Contract, seed: int, delimiter: str) -> str:
    """A file with valid rows, rows with mistakes, hostile cells, too few and too many cells, and the callers' ids."""
    rng = random.Random(seed)
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    names = [*contract.names, "reference"]
    rng.shuffle(names)
    writer.writerow(names)
    for number in range(40):
        record = {name: as_text(value) for name, value in valid_record(contract, rng).items()}
        cells = [record.get(name, f"=ref-{number}") for name in names]
        for _ in range(rng.choice([0, 0, 1, 3])):
            cells[rng.randrange(len(cells))] = rng.choice([*HOSTILE, "", "-1", "two\r\nlines", "\u202e"])
        writer.writerow(cells if rng.random() < 0.9 else rng.choice([cells[:-2], [*cells, "more"], ["one"]]))
    return out.getvalue()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_file_comes_back_as_the_bulk_route_answers_it(
    page: FlaskClient, api: Any, parts: Parts, release: Release, delimiter: str, seed: int
) -> None:
    content = odd_file(release.contract, seed, delimiter)
    sent = api("post", "/predictions/bulk", data=content.encode(), content_type="text/csv").data.decode()
    header, *expected = csv.reader(io.StringIO(sent, newline=""), delimiter=delimiter, strict=True)
    address = send_file(page, content).headers["Location"]
    rows = answers(page, address, delimiter)
    assert list(rows[0]) == header
    made = [dict(zip(header, row, strict=True)) for row in expected]
    assert [row | {"prediction_id": ""} for row in rows] == [row | {"prediction_id": ""} for row in made]
    assert [bool(row["prediction_id"]) for row in rows] == [not row["problem"] for row in rows]
    assert 0 < sum(bool(row["problem"]) for row in rows) < 40
    for row in rows:
        if row["prediction_id"]:
            kept = parts.ledger.prediction(row["prediction_id"])
            assert kept.reference in (row["reference"] or None, row["reference"].removeprefix("'"))
            assert kept.source == "upload"
            assert kept.comparison is not None


def test_a_file_is_answered_row_by_row_and_told_on_a_page(
    page: FlaskClient, parts: Parts, file: Callable[..., str]
) -> None:
    response = page.post(
        "/upload",
        data={
            "file": (io.BytesIO(file(8, fax=[2, 5], reference=[f"T-{n}" for n in range(8)]).encode()), "my file.csv")
        },
        headers={"X-Request-ID": "req-8"},
    )
    assert response.status_code == 303
    address = response.headers["Location"]
    shown = Page(page.get(address).text)
    for words in ("my file.csv", "8 rows checked: 6 answered and recorded, 2 with a problem.", "Answered 6",
                  "With a problem 2",
                  "channel: This must be one of the allowed values (email, web, phone, chat)", "line 9",
                  "billing 6 all"):  # fmt: skip
        assert words in shown.text, words
    twin = page.get(f"{address}.json").json or {}
    assert twin == page.get(address, headers=JSON).json
    assert (twin["upload"]["rows"], twin["upload"]["answered"], twin["upload"]["finished"]) == (8, 8, True)
    assert twin["upload"]["summary"]["labels"] == {"billing": 6}
    assert [row["problem"] is None for row in twin["rows"]] == [n not in (2, 5) for n in range(8)]
    for number, row in enumerate(twin["rows"]):
        assert (row["row"], row["line"]) == (number + 1, number + 2)
        if row["prediction"]:
            kept = parts.ledger.prediction(row["prediction"]["id"])
            assert (kept.client, kept.source, kept.request_id) == ("owner", "upload", "req-8")
            assert (kept.reference, (kept.input or {})["open_tickets"]) == (f"T-{number}", number)
            assert shown.all("a", href=f"/history/{kept.id}")
    made = parts.ledger.predictions({"source": "upload"}, 10)[0]
    review = sum(one.decision == "review" for one in made)
    assert twin["upload"]["summary"]["decisions"].get("review", 0) == review
    assert count(parts, queue) == sum(one.decision == "review" or one.audit for one in made)


def test_the_template_is_a_file_that_can_be_sent_as_it_is(page: FlaskClient, release: Release) -> None:
    template = page.get("/upload/template.csv")
    assert template.text == csv_template(release.contract)
    assert template.headers["Content-Disposition"] == "attachment; filename=triage-template.csv"
    [row] = answers(page, send_file(page, template.data).headers["Location"])
    assert row["problem"] == ""


def test_rows_are_shown_in_pages_and_those_with_a_problem_alone(
    page: FlaskClient, file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 50)
    monkeypatch.setattr(uploading, "PAGE", 4)
    address = send_file(page, file(11, fax=[0, 3, 4, 5, 9, 10])).headers["Location"]
    for query, expected in (("", range(1, 12)), ("?only=problems", [1, 4, 5, 6, 10, 11])):
        seen, at = list[int](), f"{address}{query}"
        while at:
            seen += [row["row"] for row in (page.get(at, headers=JSON).json or {})["rows"]]
            links = [str(a["href"]).split("#")[0] for a in Page(page.get(at).text).all("a", rel="next")]
            at = (links or [""])[0]
        assert seen == list(expected)
    for wrong in ("?after=x", "?only=all", "?page=2", "?after=1&after=2"):
        assert page.get(f"{address}{wrong}").status_code == 422
    assert "There is no such row." in page.get(f"{address}?after=11").text


class Interval:
    def predict_interval(self, frame: Any) -> Any:
        return np.array([[1.5, 0.5, 2.5]] * len(frame))


PRICE = Contract(
    name="price",
    fields=(Field(name="prediction", kind="text"),),
    outcome=Outcome(name="price", task="regression", minimum=0),
)


@pytest.fixture
def serve(app: Flask, parts: Parts) -> Iterator[Callable[[ModelAdapter], None]]:
    """Let the app answer with another adapter."""

    def change(adapter: ModelAdapter) -> None:
        app.extensions[EXTENSION] = replace(parts, registry=OneRelease(adapter))  # type: ignore[arg-type]

    yield change
    app.extensions[EXTENSION] = parts


def test_values_and_every_odd_column_go_through_an_upload(page: FlaskClient, parts: Parts, serve: Any) -> None:
    baseline = Interval()
    serve(ModelAdapter(small_release(PRICE, Interval(), baseline=baseline), [parts.ledger.add]))
    address = send_file(page, "prediction\na\n").headers["Location"]
    [row] = answers(page, address)
    assert (row["prediction"], row["prediction_"], row["low"], row["high"]) == ("a", "1.5", "0.5", "2.5")
    assert "1.50, 0.50 to 2.50" in Page(page.get(address).text).text
    serve(ModelAdapter(small_release(EVERY_KIND, Same()), [parts.ledger.add]))
    [row] = answers(page, send_file(page, csv_template(EVERY_KIND)).headers["Location"])
    assert row["prediction"] == ">50K"
    [old] = answers(page, address)  # told by what was recorded, whatever answers now
    assert old["prediction_"] == "1.5"


# ---- exactly once -----------------------------------------------------------------------------------------------


def test_a_file_is_stored_first_and_answered_a_chunk_at_a_time(
    page: FlaskClient, parts: Parts, file: Callable[..., str]
) -> None:
    address = stored(page, file(8, fax=[4]))
    assert count(parts, predictions) == 0
    assert "The file is stored; no row is answered yet." in Page(page.get(address).text).text
    assert {row["problem"] for row in answers(page, address)} == {NOT_REACHED}
    progress = [go_on(page, address) for _ in range(4)]
    assert [(one["answered"], one["finished"]) for one in progress] == [(3, False), (6, False), (8, True), (8, True)]
    assert [sum(one["summary"]["labels"].values()) for one in progress] == [3, 5, 7, 7]
    assert count(parts, predictions) == 7


def test_a_page_of_an_unfinished_file_says_how_far_it_is_and_goes_on(
    page: FlaskClient, parts: Parts, file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "ANSWER_SECONDS", 0.0)  # a request that has no more time than for one chunk
    address = send_file(page, file(8)).headers["Location"]
    shown = Page(page.get(address).text)
    assert "3 of 8 rows" in shown.text
    assert "The answers up to row 3 are recorded; the rows after it are not answered yet." in shown.text
    assert shown.all("progress", max="8", value="3")
    assert shown.all("form", action=f"{address}/continue", method="post")
    assert "unfinished, up to row 3" in Page(page.get("/upload").text).text
    assert [row["problem"] for row in answers(page, address)] == [""] * 3 + [NOT_REACHED] * 5
    monkeypatch.setattr(uploading, "ANSWER_SECONDS", 20.0)
    response = page.post(f"{address}/continue")
    assert (response.status_code, response.headers["Location"]) == (303, address)
    assert "8 rows checked: " in page.get(address).text
    assert page.post(f"{address}/continue").status_code == 303  # once more does no harm
    assert count(parts, predictions) == 8


@pytest.mark.parametrize("breaks", ["before_cursor_execute", "commit"])
def test_a_chunk_that_is_not_committed_is_done_again_without_a_double(
    page: FlaskClient, parts: Parts, file: Callable[..., str], breaks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = stored(page, file(8, fax=[4]))
    assert go_on(page, address)["answered"] == 3
    waiting, before, adapter = count(parts, queue), of(parts, address), parts.registry.adapter()
    engine, answered, failed = parts.store.engine, bulk.answers, list[str]()

    def fail(_: Any, __: Any = None, statement: str = "", *___: Any) -> None:
        if breaks == "commit" or statement.startswith("UPDATE upload_rows"):
            failed.append(statement)
            raise StoreFull("The disk of the ledger is full; nothing was recorded.")

    def then_fail(*asked: Any, **options: Any) -> list[bulk.Result]:
        event.listen(engine, breaks, fail)  # reading is over, recording follows
        return answered(*asked, **options)

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "answers", then_fail)
        with pytest.raises(StoreFull):
            parts.uploads.go_on(before, adapter)
    event.remove(engine, breaks, fail)
    assert len(failed) == 1
    assert of(parts, address) == before
    assert (count(parts, predictions), count(parts, queue)) == (3, waiting)
    assert [row["problem"] for row in answers(page, address)] == [""] * 3 + [NOT_REACHED] * 5
    while not go_on(page, address)["finished"]:
        pass
    assert count(parts, predictions) == 7
    ids = [row["prediction_id"] for row in answers(page, address)]
    assert len(set(ids)) == 8
    assert ids[4] == ""


def test_two_who_go_on_at_once_record_each_row_once(page: FlaskClient, parts: Parts, file: Callable[..., str]) -> None:
    address, adapter = stored(page, file(30, fax=[4, 5])), parts.registry.adapter()
    same = of(parts, address)
    first, second = parts.uploads.go_on(same, adapter), parts.uploads.go_on(same, adapter)
    assert first == second == of(parts, address)
    assert (first.answered, count(parts, predictions)) == (3, 3)
    failed: list[Exception] = []

    def answer_all() -> None:
        try:
            at = of(parts, address)
            while not at.finished:
                at = parts.uploads.go_on(at, adapter)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=answer_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    after = of(parts, address)
    assert (after.finished, sum(after.summary.decisions.values()), after.summary.problems) == (True, 28, 2)
    ids = [row["prediction_id"] for row in answers(page, address)]
    assert [bool(made) for made in ids] == [n not in (4, 5) for n in range(30)]
    assert count(parts, predictions) == len(set(ids) - {""}) == 28


def test_a_chunk_without_a_valid_row_is_passed(page: FlaskClient, parts: Parts, file: Callable[..., str]) -> None:
    address = send_file(page, file(8, fax=range(7))).headers["Location"]
    assert of(parts, address).finished
    assert of(parts, address).summary.problems == 7
    assert count(parts, predictions) == 1
    none = send_file(page, file(4, fax=range(4))).headers["Location"]
    assert "Answered 0" in Page(page.get(none).text).text


def test_a_row_that_the_model_fails_at_has_that_as_its_problem(
    page: FlaskClient, parts: Parts, release: Release, serve: Any, example: dict[str, Any]
) -> None:
    stumbling = replace(release, model=StumblesAt41(release.model))
    serve(ModelAdapter(stumbling, [parts.ledger.add]))
    content = as_csv([{**example, "open_tickets": n} for n in (1, 41, 2, 41, 3)])
    rows = answers(page, send_file(page, content).headers["Location"])
    assert [bool(row["prediction"]) for row in rows] == [True, False, True, False, True]
    assert rows[1]["problem"] == "The model failed on a valid request (ValueError)."
    assert count(parts, predictions) == 3


def test_the_same_file_sent_twice_from_one_form_is_one_upload(
    page: FlaskClient, parts: Parts, file: Callable[..., str]
) -> None:
    nonce = str(Page(page.get("/upload").text).values["form"])
    first, again = (send_file(page, file(4), form=nonce) for _ in range(2))
    assert first.headers["Location"] == again.headers["Location"]
    assert "nothing was recorded twice" in page.get(again.headers["Location"]).text
    assert (count(parts, uploads), count(parts, predictions)) == (1, 4)
    for content, fields in ((file(5), {"form": nonce}), (file(4), {}), (file(4), {})):
        send_file(page, content, **fields)  # another file, or another form: meant
    assert (count(parts, uploads), count(parts, predictions)) == (4, 17)


def test_where_recording_fails_the_page_says_what_is_recorded(
    page: FlaskClient, parts: Parts, release: Release, serve: Any, file: Callable[..., str]
) -> None:
    kept = list[int]()

    def sink(answered: Any) -> None:
        if kept:
            raise StoreFull("The disk of the ledger is full; nothing was recorded.", retry_after=30)
        kept.extend(len(made) for made, _ in answered)
        parts.ledger.add(answered)

    serve(ModelAdapter(release, [sink]))
    response = send_file(page, file(8))
    address = response.headers["Location"]
    text = Page(page.get(address).text).text
    assert "The file is stored, but answering it stopped: The disk of the ledger is full" in text
    assert "The answers up to row 3 are recorded; the rows after it are not answered yet." in text
    failed = page.post(f"{address}/continue")
    assert failed.status_code == 507
    assert "Not continued: The disk of the ledger is full" in Page(failed.text).text
    problem = page.post(f"{address}/continue", headers=JSON)
    assert (problem.status_code, (problem.json or {})["type"]) == (507, "/problems/store-full")
    assert count(parts, predictions) == 3


def test_one_file_is_answered_by_one_release(
    page: FlaskClient, parts: Parts, file: Callable[..., str], narrower: Release
) -> None:
    address = stored(page, file(8))
    go_on(page, address)
    parts.registry.add(narrower, "test")
    moved: ReleaseId = parts.registry.promote(narrower.id.version, "narrower", "test", breaking=True).id
    shown = Page(page.get(address).text)
    assert f"Another release, {moved}, answers now than when this file was sent" in shown.text
    assert "The answers up to row 3 are recorded; the rows after it are not answered." in shown.text
    assert shown.all("form", action=f"{address}/continue") == []
    refused = page.post(f"{address}/continue")
    assert refused.status_code == 409
    assert "The answers up to row 3 are recorded; send the other rows as a file of their own." in refused.text
    assert page.post(f"{address}/continue", headers=JSON).status_code == 409
    assert [row["problem"] for row in answers(page, address)] == [""] * 3 + [OTHER_RELEASE] * 5
    assert count(parts, predictions) == 3
    parts.registry.roll_back("back", "test")  # and the one that began may go on
    while not go_on(page, address)["finished"]:
        pass
    assert {row["problem"] for row in answers(page, address)} == {""}


def test_a_file_that_is_written_while_it_is_answered_is_of_one_moment(
    page: FlaskClient, parts: Parts, file: Callable[..., str]
) -> None:
    address = stored(page, file(8))
    go_on(page, address)
    pieces = parts.uploads.written(of(parts, address), NOT_REACHED, set())
    begun = [next(pieces), next(pieces)]
    while not go_on(page, address)["finished"]:
        pass
    text = b"".join([*begun, *pieces]).decode()
    assert [row["problem"] for row in csv.DictReader(io.StringIO(text))] == [""] * 3 + [NOT_REACHED] * 5


# ---- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "File: Line 1 is empty; a file begins with the names of its columns."),
        (HEADER, "File: The file has a header and no row."),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), f"File: {NOT_UTF8}"),
        (f'{HEADER}\n{ROW}\n"a\n{ROW}', "File: Line 3: this cannot be read as CSV (unexpected end of data)."),
        (f"{HEADER.replace('body', 'a/b')}\n{ROW}", "body: Line 1: this column is required."),
        (f"{HEADER},a/b\n{ROW},1", "a/b: Line 1: the contract knows no column of this name."),
        (f"{HEADER},channel\n{ROW},web", "channel: Line 1: give this column once."),
        (b"\x89PNG\r\n\x1a\n\0", f"File: {NOT_UTF8}"),
        (",".join(map(str, range(3000))) + "\n", "File: 2,956 more mistakes."),
    ],
    ids=["empty", "header only", "UTF-16", "open quote", "missing", "unknown", "twice", "picture", "very many"],
)  # fmt: skip
def test_a_file_with_a_mistake_is_refused_on_the_page_and_nothing_is_recorded(
    page: FlaskClient, parts: Parts, content: bytes | str, says: str
) -> None:
    response = send_file(page, content)
    assert response.status_code == 422
    shown = Page(response.text)
    assert says in shown.text
    assert "This file was not taken, and nothing of it is recorded." in shown.text
    assert shown.title.startswith("Mistakes: ")
    assert shown.all("a", href="#file")
    [control] = shown.all("input", id="file")
    assert (control["aria-invalid"], control["aria-describedby"]) == ("true", "file-hint file-mistake")
    assert len(response.data) <= 60 << 10
    assert (count(parts, uploads), count(parts, upload_rows), count(parts, predictions)) == (0, 0, 0)
    file = (io.BytesIO(content.encode() if isinstance(content, str) else content), "x.csv")
    problem = page.post("/upload", data={"file": file}, headers=JSON)
    assert (problem.status_code, (problem.json or {})["type"]) == (422, "/problems/invalid-input")


def test_a_file_above_the_limit_is_413_with_the_limit(
    app: Flask, page: FlaskClient, parts: Parts, file: Callable[..., str]
) -> None:
    app.extensions[EXTENSION] = replace(parts, settings=replace(parts.settings, max_bulk=2000))
    response = send_file(page, file(50))
    shown = Page(response.text)
    assert response.status_code == 413
    assert "File: This is too large. The body may have 2,000 bytes at most." in shown.text
    assert shown.all("a", href="#file")
    assert count(parts, uploads) == 0
    assert send_file(page, file(2)).status_code == 303


def test_a_form_that_is_not_ours_is_refused(page: FlaskClient, parts: Parts) -> None:
    good = f"{HEADER}\n{ROW}".encode()

    def send(data: Any, **more: Any) -> tuple[int, str]:
        response = page.post("/upload", data=data, **more)
        return response.status_code, Page(response.text).text

    def file(content: bytes = good, name: str = "x.csv") -> Any:
        return io.BytesIO(content), name

    multipart = "multipart/form-data"
    assert "File: Choose a CSV file." in send({"form": "x"}, content_type=multipart)[1]
    assert "File: Choose a CSV file." in send({"file": file(b"", "")}, content_type=multipart)[1]
    assert "colour: The contract knows no member of this name." in send({"file": file(), "colour": "red"})[1]
    assert "answer: This must be one of the allowed values." in send({"file": file(), "answer": "never"})[1]
    assert send({"file": file(), "second": file()})[0] == 422
    assert "Give this once." in send({"file": [file(), file()]})[1]
    assert send({f"f{n}": "x" for n in range(30)} | {"file": file()})[0] == 400
    assert send({"form": "x" * 505_000, "file": file()})[0] == 400
    assert send({"file": "text"})[0] == 415  # a form without a file is of another kind
    assert send(good, content_type="text/csv")[0] == 415
    assert send(good, content_type=multipart)[0] == 415
    for body in (b"", b"nothing", b"--x", b"--x\r\n\r\n\r\n--x--",
                 b'--x\r\nContent-Disposition: form-data; name="file"',
                 b'--x\r\nContent-Disposition: form-data; name="\xff"; filename="a"\r\n\r\na\r\n--x--\r\n',
                 b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\na\r\n--x--\r\n',
                 b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + good):  # fmt: skip
        assert send(body, content_type=f"{multipart}; boundary=x")[0] in (400, 422), body
    assert count(parts, uploads) == 0


# ---- whose ------------------------------------------------------------------------------------------------------


def test_everybody_sees_their_own_files_and_an_admin_all(
    app: Flask, page: FlaskClient, parts: Parts, auth: Any, file: Callable[..., str]
) -> None:
    client = app.test_client()
    ann, ben = auth("submit", name="ann"), auth("review", name="ben")
    body = {"file": (io.BytesIO(file(4).encode()), "ann's.csv"), "answer": "later"}
    address = client.post("/upload", data=body, headers=ann).headers["Location"]
    for path in (address, f"{address}.json", f"{address}/answers.csv"):
        assert client.get(path, headers=ann).status_code == 200
        assert client.get(path, headers=ben).status_code == 404
        assert page.get(path).status_code == 200
        assert client.get(path.replace(address, "/upload/nothing"), headers=ann).status_code == 404
    assert client.post(f"{address}/continue", headers=ben).status_code == 404
    assert Page(client.get(address, headers=ann).text).all("form", data_start="") == []
    assert "data-start" in client.get(address, headers=ann).text  # script goes on by itself for who sent it,
    assert "data-start" not in page.get(address).text  # and not for who only looks
    assert page.post(f"{address}/continue").status_code == 303
    [made] = {one.client for one in parts.ledger.predictions({}, 10)[0]}
    assert made == "ann"
    assert "None yet." in Page(client.get("/upload", headers=ben).text).text
    assert (client.get("/upload.json", headers=ben).json or {})["uploads"] == []
    assert "ann's.csv" in Page(client.get("/upload", headers=ann).text).text
    shown = Page(page.get("/upload").text)
    assert "ann's.csv" in shown.text
    assert shown.all("td", **{"data-name": "By"})


def test_an_empty_page_says_what_to_do(page: FlaskClient, parts: Parts) -> None:
    shown = Page(page.get("/upload").text)
    assert "None yet. The template is a file that you can send as it is." in shown.text
    assert "at most 32 MiB" in shown.text
    assert shown.all("a", href="/upload/template.csv")
    assert (page.get("/upload.json").json or {}) == {"uploads": []}


def test_what_a_reviewer_judges_blind_is_not_told_by_the_file_either(
    page: FlaskClient, parts: Parts, file: Callable[..., str]
) -> None:
    content = file(2).replace('"billing"', "x")
    address = send_file(page, content.replace(",web,", ",chat,")).headers["Location"]
    with parts.store.writing() as connection:
        [made] = [row["prediction_id"] for row in answers(page, address)][:1]
        connection.execute(blind_openings.insert().values(reviewer="owner", prediction_id=made))
    assert [row["problem"] for row in answers(page, address)] == [BLIND, ""]
    assert answers(page, address)[0]["prediction"] == ""
    assert BLIND in Page(page.get(address).text).text
    twin = (page.get(address, headers=JSON).json or {})["rows"]
    assert [row["prediction"] is None for row in twin] == [True, False]


# ---- hostile content --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 10_000])
def test_hostile_cells_and_names_are_shown_as_text(
    page: FlaskClient, parts: Parts, example: dict[str, Any], text: str
) -> None:
    def shown(text: str) -> tuple[set[tuple[str, str]], list[Page]]:
        records = [{**example, "subject": text[:200]}, {**example, "subject": text, "channel": text}]
        address = send_file(page, as_csv(records, reference=[text[:200]] * 2), name=f"{text}.csv").headers["Location"]
        found = [Page(page.get(path).text) for path in (address, "/upload", f"{address}?only=problems")]
        return {(tag, name) for one in found for tag, attributes in one.elements for name in attributes}, found

    known, _ = shown("harmless")
    drawn, found = shown(text)
    assert drawn <= known
    for one in found:
        assert text[:60] in one.raw_text
        assert len(one.raw_text) < 20_000
    assert "subject" in found[0].text or "channel" in found[0].text


@pytest.mark.parametrize(
    ("name", "kept", "saved"),
    [
        ("büro.CSV", "büro.CSV", "buro-answers.csv"),
        ("a\tb.csv", "a b.csv", "a_b-answers.csv"),
        ("../../etc/passwd", "../../etc/passwd", "etc_passwd-answers.csv"),
        ("日付", "日付", "upload-answers.csv"),
        ('"; filename=x.exe', '"; filename=x.exe', "filenamex.exe-answers.csv"),
        ("x" * 300, "x" * 199 + "…", "x" * 100 + "-answers.csv"),
    ],
)
def test_whatever_a_file_is_called_it_is_text_and_a_safe_name(
    page: FlaskClient, parts: Parts, file: Callable[..., str], name: str, kept: str, saved: str
) -> None:
    address = send_file(page, file(1), name=name).headers["Location"]
    assert of(parts, address).name == kept
    assert page.get(f"{address}/answers.csv").headers["Content-Disposition"] == f"attachment; filename={saved}"


def test_no_cell_is_written_that_a_spreadsheet_runs(page: FlaskClient, example: dict[str, Any]) -> None:
    content = as_csv([{**example, "subject": "=HYPERLINK(1)"}], reference=["@SUM(1)"])
    [row] = answers(page, send_file(page, content).headers["Location"])
    assert (row["subject"], row["reference"]) == ("'=HYPERLINK(1)", "'@SUM(1)")


# ---- speed ------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_every_page_finds_its_rows_by_an_index(page: FlaskClient, parts: Parts, file: Callable[..., str]) -> None:
    address = send_file(page, file(4, fax=[1])).headers["Location"]
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if "upload" in statement and statement.startswith("SELECT"):
            asked.append((statement, values))

    event.listen(parts.store.engine, "before_cursor_execute", note)
    for path in ("/upload", address, f"{address}?only=problems&after=1", f"{address}/answers.csv"):
        assert page.get(path).data
    parts.uploads.latest("owner")
    event.remove(parts.store.engine, "before_cursor_execute", note)
    assert len(asked) >= 7
    with parts.store.reading() as connection:
        for statement, values in asked:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not [step for step in plan if "TEMP B-TREE" in step], (statement, plan)
            assert all("USING" in step for step in plan), (statement, plan)
