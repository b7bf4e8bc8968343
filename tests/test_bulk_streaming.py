"""A file of requests is answered while it is sent, and whoever sends all of it first is not waited for for ever."""

import csv
import http.client
import io
import json
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from reviewapp import bulk
from reviewapp.errors import BadRequest, StoreFull, TooLarge
from reviewapp.incoming import Incoming
from reviewapp.lines import Lines
from reviewapp.parts import Parts
from reviewapp.release import Release
from reviewapp.triage import generator

from .page import as_csv
from .service import Service
from .test_bulk import HEADER, NDJSON, ROW, Send, as_lines, lines, recorded, send, table  # noqa: F401 (a fixture)

PATH = "/api/v1/predictions/bulk?dry_run=true"


# ---- lines --------------------------------------------------------------------------------------------------------


class Cut:
    """Bytes that come in pieces of given lengths; one that has not come is waited for."""

    def __init__(self, content: bytes, cuts: list[int]) -> None:
        self.pieces, start = [], 0
        for cut in [*cuts, len(content)]:
            self.pieces.append(content[start : start + cut])
            start += cut

    def __iter__(self) -> Iterator[bytes]:
        return (piece for piece in self.pieces if piece)

    def waits(self) -> bool:
        return True


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc", b'"', b"\xff"])), st.lists(st.integers(1, 4)))
def test_lines_are_the_same_however_the_bytes_are_cut(words: list[bytes], cuts: list[int]) -> None:
    content = b"".join(words)
    assert list(Lines(Cut(content, cuts), 1000, universal=True)) == content.splitlines(keepends=True)
    assert list(Lines(Cut(content, cuts), 1000, universal=False)) == list(io.BytesIO(content))


@pytest.mark.parametrize("universal", [True, False])
def test_of_a_line_that_is_too_long_the_rest_is_left_out(universal: bool) -> None:
    content = b"a\n" + b"x" * 50 + b"\nb\n"
    for size in (1, 3, 7, 64):
        first, long, last = Lines(Cut(content, [size] * 64), 10, universal=universal)
        assert (first, last) == (b"a\n", b"b\n")
        assert len(long) > 10
        assert size == 64 or len(long) <= 10 + size


def test_a_line_waits_only_where_none_is_left_over() -> None:
    found = Lines(Cut(b"a\nb\nc", [4, 1]), 10, universal=False)
    assert [(next(found), found.waits()) for _ in range(2)] == [(b"a\n", False), (b"b\n", True)]


# ---- what is seen late --------------------------------------------------------------------------------------------


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)


NOT_UTF8 = "Line 6: this is not UTF-8; save the file as CSV in UTF-8 (in Excel: CSV UTF-8)"


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("late", "says"),
    [
        (b"\xff" + ROW.encode(), NOT_UTF8),
        (b"\0" + ROW.encode(), NOT_UTF8.replace("this is not UTF-8", "here is a NUL character")),
        (b'"a' + ROW.encode(), "Line 6: this cannot be read as CSV (unexpected end of data)"),
        (b'"a"b' + ROW.encode(), "Line 6: this cannot be read as CSV (',' expected after '\"')"),
        (
            b'"' + b"x" * (2 << 20),
            "Line 6: this row has more than 1,048,576 characters; perhaps a quote is not closed",
        ),
    ],
)
def test_what_cannot_be_read_after_rows_were_answered_is_the_problem_of_the_last_row(
    send: Send,  # noqa: F811
    parts: Parts,
    late: bytes,
    says: str,
) -> None:
    good = ROW.encode()
    content = b"\n".join([HEADER.encode(), *[good] * 4, late, good, good])
    rows = table(send(content))
    assert [row["prediction"] != "" for row in rows] == [True] * 4 + [False]
    assert rows[4]["problem"] == f"{says}. Neither this row nor any after it was answered."
    assert recorded(parts) == 4
    summary = table(send(content, query="?summary=true"))[-1]
    assert summary["problem"] == "Summary: 5 rows, 4 predictions, 1 problems."
    assert set(summary.values()) == {"", summary["problem"]}


def test_a_summary_ends_csv_where_it_is_asked_for(send: Send, example: dict) -> None:  # noqa: F811
    content = as_csv([example, {**example, "channel": "fax"}])
    rows = table(send(content, query="?summary=true"))
    assert len(rows) == 3
    assert rows[2]["problem"] == "Summary: 2 rows, 1 predictions, 1 problems."
    assert len(table(send(content, query="?summary=false"))) == 2
    assert len(lines(send(as_lines([example]), NDJSON, "?summary=true"))[0]) == 1


@pytest.mark.usefixtures("small_chunks")
def test_a_line_that_is_too_long_is_its_own_problem(send: Send, parts: Parts, example: dict) -> None:  # noqa: F811
    good = as_lines([example]).encode()
    long = b'{"input": "' + b"x" * (parts.settings.max_body + 1) + b'"}\n'
    answers, summary = lines(send(good + long + good, NDJSON))
    assert summary == {"rows": 3, "predictions": 2, "problems": 1}
    assert answers[1]["problem"]["type"] == "/problems/too-large"


# ---- bodies -------------------------------------------------------------------------------------------------------


def request(body: bytes = b"", **environ: Any) -> Request:
    return Request({**EnvironBuilder(method="POST", data=body).get_environ(), **environ})


@pytest.mark.parametrize(
    "environ",
    [{"HTTP_VIA": "1.1 x"}, {"HTTP_X_FORWARDED_FOR": "10.0.0.1"}, {"HTTP_FORWARDED": "for=x"},
     {"SERVER_PROTOCOL": "HTTP/1.0"}],
)  # fmt: skip
def test_behind_a_proxy_a_body_is_read_whole_before_it_is_answered(tmp_path: Path, environ: dict[str, str]) -> None:
    for proxied in (True, False):
        asked = request(b"x" * 200_000, **({} if proxied else environ))
        body = Incoming(asked, 200_000, tmp_path, proxied=proxied)
        assert asked.environ["wsgi.input"].read() == b""
        assert b"".join(body) == b"x" * 200_000
        body.close()
    direct = Incoming(asked := request(b"x" * 200_000), 200_000, tmp_path, proxied=False)
    assert asked.environ["wsgi.input"].tell() == 0
    direct.close()


@pytest.mark.parametrize("proxied", [True, False])
def test_a_body_that_is_too_long_or_too_short_is_refused(tmp_path: Path, proxied: bool) -> None:
    with pytest.raises(TooLarge):
        Incoming(request(b"x" * 11), 10, tmp_path, proxied=proxied)
    chunked = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
    for asked, error in (
        (request(b"x" * 11, **chunked), TooLarge),
        (request(b"x" * 5, CONTENT_LENGTH="6"), BadRequest),
    ):
        with pytest.raises(error):
            body = Incoming(asked, 10, tmp_path, proxied=proxied)
            try:
                list(body)
            finally:
                body.close()


def test_a_disk_that_is_full_is_a_store_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda _, dir: Full())
    with pytest.raises(StoreFull):
        Incoming(request(b"x"), 10, tmp_path, proxied=True)


# ---- over a socket ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(make_service: Any) -> Iterator[Service]:
    with make_service(REVIEWAPP_WORKERS="1", REVIEWAPP_MAX_BULK=str(12 << 20)) as service:
        yield service


@pytest.fixture(scope="module")
def head(running: Service) -> Callable[..., bytes]:
    token = running.reviewer

    def made(kind: str = NDJSON, length: int | None = None) -> bytes:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        return (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {kind}\r\n{framing}\r\n\r\n"
        ).encode()

    return made


@pytest.fixture(scope="module")
def many() -> list[bytes]:
    """1,000 lines, about 330 kB."""
    return as_lines([one.record for one in generator.generate(1000, 5)]).encode().splitlines(keepends=True)


def connect(running: Service, receive: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive is not None:  # so that little waits on the way: the service must wait for who does not read
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", running.port))
    return connection


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.server
@pytest.mark.parametrize("kind", [NDJSON, "text/csv"])
def test_each_row_is_answered_before_the_next_one_is_sent(
    running: Service, head: Any, kind: str, release: Release
) -> None:
    records = [one.record for one in generator.generate(5, 6)]
    if kind == NDJSON:
        rows = as_lines(records).encode().splitlines(keepends=True)
    else:
        rows = [as_csv([one]).encode().split(b"\r\n", 1)[1] for one in records]
        rows[0] = as_csv(records[:1]).encode()
    with connect(running) as connection, connection.makefile("rb") as answers:
        connection.sendall(head(kind))
        for row in rows:
            connection.sendall(chunk(row))
            answer = b""
            while b'"output"' not in answer and b'"auto"' not in answer and b'"review"' not in answer:
                answer = answers.readline()  # which would time out
                assert answer, "the answer ended"
        connection.sendall(b"0\r\n\r\n")
        rest = b"".join(iter(answers.readline, b"0\r\n"))
    assert kind != NDJSON or b'"rows":5,"predictions":5,"problems":0' in rest


@pytest.mark.server
@pytest.mark.parametrize("chunked", [True, False])
def test_who_sends_all_before_they_read_anything_is_answered_and_memory_stays_flat(
    running: Service, head: Any, many: list[bytes], chunked: bool
) -> None:
    content = b"".join(many) * 30  # about 10 MB, and 16 MB of answers: more than the system keeps on the way
    assert len(content) < 12 << 20
    with connect(running) as connection:  # so that the worker has its release loaded
        connection.sendall(head(length=len(many[0])) + many[0])
        assert answer_of(connection)[0] == 200
    [pid] = running.workers()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(pid, "VmRSS")
    with connect(running, receive=1 << 14) as connection:
        connection.sendall(head(length=None if chunked else len(content)))
        for start in range(0, len(content), 1 << 16):
            piece = content[start : start + (1 << 16)]
            connection.sendall(chunk(piece) if chunked else piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        status, answers = answer_of(connection)
    *made, last = answers.splitlines()
    assert (status, json.loads(last)) == (
        200,
        {"summary": {"rows": 30_000, "predictions": 30_000, "problems": 0}},
    )
    assert len(made) == 30_000
    grown = memory(pid, "VmHWM") - before
    assert grown < len(content), f"{grown:,} bytes for a body of {len(content):,}"


def memory(pid: int, what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.server
def test_a_body_that_grows_beyond_the_limit_is_answered_up_to_there(
    running: Service, head: Any, many: list[bytes]
) -> None:
    with connect(running) as connection:
        connection.sendall(head())
        for _ in range(45):
            connection.sendall(chunk(b"".join(many)))
        connection.sendall(b"0\r\n\r\n")
        status, answers = answer_of(connection)
    *_, problem, last = map(json.loads, answers.splitlines())
    assert (status, problem["problem"]["type"]) == (200, "/problems/bad-request")
    assert "The body may have 12,582,912 bytes at most" in problem["problem"]["detail"]
    assert last["summary"]["problems"] == 1
    assert last["summary"]["predictions"] == problem["row"] - 1 > 30_000
    with connect(running) as connection:
        connection.sendall(head(length=(12 << 20) + 1))
        assert answer_of(connection)[0] == 413


@pytest.mark.server
@pytest.mark.parametrize("end", ["hung up", "no chunk"])
def test_a_body_that_breaks_off_is_answered_as_far_as_it_came_and_nothing_of_it_is_a_request(
    running: Service, head: Any, many: list[bytes], end: str
) -> None:
    with connect(running) as connection, connection.makefile("rb") as answers:
        connection.sendall(head() + chunk(many[0]))
        while b'"output"' not in (line := answers.readline()):
            assert line
        if end == "hung up":
            connection.sendall(b"ff\r\nhalf a ")
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.sendall(b"zz\r\nGET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        rest = answers.read()  # until the service hangs up
    assert b"The body broke off" in rest
    assert b'"rows":2,"predictions":1,"problems":1' in rest
    assert b"HTTP/1.1" not in rest


def test_the_answer_in_csv_stays_csv(app: Flask, send: Send, example: dict) -> None:  # noqa: F811
    response = send(as_csv([example] * 3), query="?summary=true")
    widths = {len(row) for row in csv.reader(io.StringIO(response.text, newline=""), strict=True)}
    assert len(widths) == 1
