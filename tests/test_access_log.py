"""The log of requests: one line of JSON each, which tells nothing that was sent and holds nobody up."""

import fcntl
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reviewapp import access_log
from reviewapp.access_log import MOST, PIECE, AccessLog, encoded
from reviewapp.config import load_settings
from reviewapp.errors import UsageError

from .service import Service

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT = "nobody may read this"


def line(request_id: str = "r-1", traceparent: str | None = None, client: str | None = "ann", **more: Any) -> Any:
    """A line as a request leaves it."""
    given = {"method": "POST", "route": "/a", "status": 201, "taken": (0.001, 0.0, 0.0025, 0.0, 0.0), "total": 0.004}
    given |= more
    return (
        1769860800.1239, request_id, traceparent, given["method"], given["route"], given["status"], given["taken"],
        given["total"], "sha256:ab", client,
    )  # fmt: skip


# ---- a line ---------------------------------------------------------------------------------------------------------


def test_a_line_tells_when_what_how_it_ended_and_what_took_how_long() -> None:
    assert json.loads(encoded(line())) == {
        "time": "2026-01-31T12:00:00.123Z",
        "request_id": "r-1",
        "method": "POST",
        "route": "/a",
        "status": 201,
        "ms": {"parse": 1.0, "predict": 2.5, "total": 4.0},
        "release": "sha256:ab",
        "client": "ann",
    }
    all_stages = json.loads(encoded(line(taken=(0.001, 0.002, 0.003, 0.004, 0.005))))["ms"]
    assert all_stages == {"parse": 1, "validate": 2, "predict": 3, "record": 4, "render": 5, "total": 4}
    assert json.loads(encoded(line(taken=(), client=None)))["ms"] == {"total": 4.0}


@pytest.mark.parametrize("name", ['a"b', "a\\b", "日本\u202e", "a\nb", "a\x1b[31m", "é" * 100])
def test_whatever_a_client_is_called_a_line_is_one_line_of_json(name: str) -> None:
    written = encoded(line(client=name))
    assert written.count(b"\n") == 1
    assert b"\x1b" not in written
    assert json.loads(written)["client"] == name


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (TRACE, True),
        (TRACE.replace("00-", "cc-"), True),
        (TRACE.replace("00-", "ff-"), False),
        (TRACE.upper(), False),
        (TRACE + "-more", False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        ('"} {"', False),
        (TRACE + "\n", False),
        (None, False),
    ],
)
def test_a_traceparent_is_told_only_where_it_is_one(given: str | None, told: bool) -> None:
    assert json.loads(encoded(line(traceparent=given))).get("traceparent") == (given if told else None)


def test_a_method_that_somebody_made_up_is_told_as_other() -> None:
    assert json.loads(encoded(line(method='X"Y')))["method"] == "other"


# ---- writing --------------------------------------------------------------------------------------------------------


class Lost:
    """Counts lines that were dropped."""

    def __init__(self) -> None:
        self.lines = 0

    def __call__(self, lines: int) -> None:
        self.lines += lines


@pytest.fixture
def lost() -> Lost:
    return Lost()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe whose writing end is the standard output of this process."""
    reads, writes = os.pipe()
    monkeypatch.setattr(access_log, "_standard_output", lambda: writes)
    yield reads, writes
    for end in (reads, writes):
        try:
            os.close(end)
        except OSError:
            continue  # the test closed it


def test_what_waits_at_the_end_is_written_in_pieces_of_whole_lines(
    pipe: tuple[int, int], lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []
    write = os.write

    def watched(output: int, piece: bytes) -> int:
        pieces.append(piece)
        return write(output, piece)

    monkeypatch.setattr(access_log.os, "write", watched)
    log = AccessLog("auto", lost)
    log.start()
    for i in range(100):
        log.add(line(f"r-{i}"))
    log.stop()
    written = os.read(pipe[0], 1 << 20)
    assert [json.loads(one)["request_id"] for one in written.splitlines()] == [f"r-{i}" for i in range(100)]
    assert max(map(len, pieces)) <= PIECE
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert len(pieces) < 20
    assert lost.lines == 0


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_what_does_not_fit_is_counted(
    pipe: tuple[int, int], lost: Lost
) -> None:
    log = AccessLog("on", lost)
    log.start()
    size, n = fcntl.fcntl(pipe[1], fcntl.F_GETPIPE_SZ), 3 * MOST
    for i in range(n):
        log.add(line(f"r-{i}"))
    log.stop(0.5)
    read = b""
    while len(read) < size // 2:
        read += os.read(pipe[0], size)
    assert lost.lines >= n - MOST - size // 100
    log.add(line())  # after the end: no more
    assert not log.written


def test_an_output_that_is_gone_costs_lines_and_nothing_else(pipe: tuple[int, int], lost: Lost) -> None:
    os.close(pipe[0])
    log = AccessLog("on", lost)
    log.start()
    for _ in range(50):
        log.add(line())
    log.stop()
    assert lost.lines == 50


def test_an_output_that_does_not_wait_is_waited_for(pipe: tuple[int, int], lost: Lost) -> None:
    os.set_blocking(pipe[1], False)
    log = AccessLog("on", lost)
    log.start()
    n = 2 * fcntl.fcntl(pipe[1], fcntl.F_GETPIPE_SZ) // len(encoded(line("r-0000")))
    for i in range(n):
        log.add(line(f"r-{i:04}"))
    found: list[bytes] = []

    def read() -> None:
        while sum(one.count(b"\n") for one in found) < n:
            found.append(os.read(pipe[0], 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(20)
    log.stop()
    assert [json.loads(one)["request_id"] for one in b"".join(found).splitlines()] == [f"r-{i:04}" for i in range(n)]


@pytest.mark.parametrize(
    ("mode", "terminal", "written"),
    [("on", True, True), ("off", False, False), ("auto", True, False), ("auto", False, True)],
)
def test_lines_are_written_where_they_are_wanted(
    pipe: tuple[int, int], lost: Lost, monkeypatch: pytest.MonkeyPatch, mode: str, terminal: bool, written: bool
) -> None:
    monkeypatch.setattr(access_log.os, "isatty", lambda output: terminal)
    log = AccessLog(mode, lost)
    log.start()
    assert log.written is written
    log.stop()


def test_without_a_standard_output_no_other_file_is_written_to(lost: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    log = AccessLog("on", lost)
    log.start()
    log.add(line())
    assert not log.written
    log.stop()


def test_the_setting_says_what_it_takes() -> None:
    assert load_settings({}, {"REVIEWAPP_ACCESS_LOG": "on"}).access_log == "on"
    with pytest.raises(UsageError, match="REVIEWAPP_ACCESS_LOG is 'yes': it must be auto, on or off"):
        load_settings({}, {"REVIEWAPP_ACCESS_LOG": "yes"})


# ---- the service ----------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(make_service: Callable[..., Service]) -> Iterator[Service]:
    """A running service that writes its log into a file."""
    with make_service() as running:
        yield running


def lines_of(service: Service) -> list[dict[str, Any]]:
    """The lines of its log, once it has ended."""
    service.stop()
    text = service.instance.with_name("instance.log").read_text()
    return [json.loads(one) for one in text.splitlines() if one.startswith("{")]


@pytest.mark.server
def test_each_request_has_one_line_which_tells_nothing_of_what_was_sent(
    logged: Service, example: dict[str, Any]
) -> None:
    service, token = logged, logged.reviewer
    headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "mine-1", "traceparent": TRACE}
    body = {"input": {**example, "body": SENT}, "reference": SENT}
    made = service.call("POST", "/api/v1/predictions?compare=true", body, headers)
    assert made[0] == 201
    for path in (f"/api/v1/predictions/{made[1]['id']}", f"/nothing/{SENT.replace(' ', '-')}?token={token}"):
        service.call("GET", path, headers={**headers, "X-Request-ID": f"of{len(path)}"})
    service.call("POST", "/api/v1/predictions", {"input": {**example, SENT: 1}}, {**headers, "X-Request-ID": "wrong"})
    csv = b"no such column\nx\n"
    kind = {"Content-Type": "text/csv", "Accept": "text/csv", "X-Request-ID": "file"}
    service.call("POST", "/api/v1/predictions/bulk", csv, {**headers, **kind})
    lines = {one["request_id"]: one for one in lines_of(service)}
    text = json.dumps(list(lines.values()))
    assert SENT not in text
    assert SENT.replace(" ", "-") not in text
    assert token not in text
    assert made[1]["id"] not in text
    mine = lines["mine-1"]
    assert (mine["route"], mine["status"], mine["client"]) == ("/api/v1/predictions", 201, "ann")
    assert (mine["traceparent"], mine["release"]) == (TRACE, made[1]["release"]["digest"])
    assert set(mine["ms"]) == {"parse", "validate", "predict", "record", "render", "total"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", mine["time"])
    assert {(one["route"], one["status"]) for one in lines.values()} >= {
        ("/api/v1/predictions/<prediction_id>", 200),
        ("other", 404),
        ("/api/v1/predictions", 422),
        ("/api/v1/predictions/bulk", 422),
    }
    assert "release" not in lines["wrong"]


@pytest.mark.server
def test_a_service_whose_output_nobody_reads_answers_on_and_ends(
    tmp_path: Path, make_service: Callable[..., Service]
) -> None:
    """Its standard output is a pipe as small as they come, full after a few lines."""
    service = make_service(REVIEWAPP_ACCESS_LOG="on")
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    with (tmp_path / "errors").open("w") as errors:
        service.process = service.launch(stdout=writes, stderr=errors)
    os.close(writes)
    try:
        ends = time.monotonic() + 60
        while not service._ready():
            assert time.monotonic() < ends and service.process.poll() is None, (tmp_path / "errors").read_text()
            time.sleep(0.05)  # the distance of two looks
        assert {service.call("GET", "/livez")[0] for _ in range(2000)} == {200}
    finally:
        status = service.stop()
        os.close(reads)
    assert status == 0
    assert "Traceback" not in (tmp_path / "errors").read_text()


@pytest.mark.server
def test_lines_of_the_last_moment_are_written_when_a_worker_ends(logged: Service) -> None:
    for i in range(20):
        logged.call("GET", "/livez", headers={"X-Request-ID": f"last-{i}"})
    os.kill(logged.process.pid, signal.SIGTERM)
    assert {f"last-{i}" for i in range(20)} <= {one["request_id"] for one in lines_of(logged)}
