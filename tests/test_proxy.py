"""The service behind the shipped nginx: what is let through and refused, restarts, kills, callers that leave."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from pysqlite3 import dbapi2

from reviewapp import proof
from reviewapp.config import Settings
from reviewapp.release import Release
from reviewapp.samples import csv_template, example_record
from reviewapp.triage import generator

from . import browser as browsers
from .proxy import MARKS, NGINX, SHIPPED, Proxied, put_in

pytestmark = MARKS
PREDICT = "/api/v1/predictions"
FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Protocol": "ssl",
    "X-Real-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;host=evil.example;proto=https",
    "SCRIPT_NAME": "/evil",
    "PATH_INFO": "/evil",
    "REMOTE_USER": "evil",
    "Upgrade": "h2c",
}


Made = Callable[..., Proxied]


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory, release: Release, releases_root: Path, live_database: Path, proven: Path
) -> Made:
    """Return the service behind nginx, not started yet, on an instance where the default release is live."""

    def made(**settings: str) -> Proxied:
        instance = tmp_path_factory.mktemp("proxied") / "instance"
        instance.mkdir(mode=0o700)
        shutil.copytree(proven, instance / proof.FOLDER)
        shutil.copy(live_database, instance / "reviewapp.sqlite3")
        return Proxied(instance, release.contract, REVIEWAPP_RELEASES=str(releases_root), **settings)

    return made


@pytest.fixture(scope="module")
def proxied(make: Made) -> Iterator[Proxied]:
    with make() as running:
        yield running


@pytest.fixture(scope="module")
def below(make: Made) -> Iterator[Proxied]:
    """The same under a sub-path."""
    with make(prefix="/reviewapp", REVIEWAPP_WORKERS="1") as running:
        yield running


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Proxied]:
    """nginx without the service: whoever looks into the held socket sees what is handed on."""
    with Proxied(tmp_path / "instance", answered=False) as running:
        yield running


@pytest.fixture(scope="module")
def signed(proxied: Proxied) -> dict[str, str]:
    return {"Authorization": f"Bearer {proxied.reviewer}"}


def events(service: Proxied) -> list[str]:
    """The lines of the log that are of no request."""
    return [line for line in service.log.read_text().splitlines() if not line.startswith("{")]


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):  # hung up on, too
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def ask(port: int, raw: bytes) -> bytes:
    """Return all that is answered to raw bytes until the other side hangs up."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(raw)
        return read_all(connection)


def handed_on(alone: Proxied, raw: bytes) -> bytes:
    """Return the head that reaches the service of a request that is sent to nginx."""
    with socket.create_connection(("127.0.0.1", alone.port), 30) as client:
        client.sendall(raw)
        alone.held.settimeout(30)
        service, _ = alone.held.accept()
        with service:
            service.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head:
                head += service.recv(65536)
            service.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        client.recv(65536)
    return head


# ---- who asks, and for what -------------------------------------------------------------------------------------


def test_the_service_hears_from_the_proxy_alone_who_asks_and_by_which_address(alone: Proxied) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in FORGED.items())
    head = handed_on(alone, f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{alone.port}\r\n{lines}\r\n".encode()).decode()
    got = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
    request_id = got.pop("X-Request-ID")
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert got == {
        "Host": f"127.0.0.1:{alone.port}",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": f"127.0.0.1:{alone.port}",
    }


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "127.0.0.1:80@evil.example"])
def test_a_host_beside_a_whole_address_is_not_handed_on(alone: Proxied, host: str) -> None:
    head = handed_on(alone, f"GET http://127.0.0.1/livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert b"evil" not in head
    assert head.count(b"Host: 127.0.0.1\r\n") == 2


def test_forged_headers_change_no_link_no_redirect_no_sign_in_and_no_log(
    proxied: Proxied, signed: dict[str, str], release: Release
) -> None:
    token = signed["Authorization"].removeprefix("Bearer ")
    form = {**FORGED, "Content-Type": "application/x-www-form-urlencoded"}
    assert proxied.call("GET", "/history", None, FORGED)[2]["Location"] == "/sign-in?next=/history"
    status, _, headers = proxied.call("POST", "/sign-in", f"token={token}".encode(), form)
    assert (status, headers["Location"]) == (303, "/")
    assert "Path=/;" in headers["Set-Cookie"] + ";"
    assert "Secure" not in headers["Set-Cookie"]
    cookie = {"Cookie": headers["Set-Cookie"].split(";")[0]}
    page = proxied.call("GET", "/contract", None, {**FORGED, **cookie})[1]
    assert "evil" not in page
    assert "https://127" not in page
    made = proxied.call("POST", PREDICT, {"input": example_record(release.contract)}, {**FORGED, **signed})
    assert made[0] == 201
    assert made[2]["Location"] == f"{PREDICT}/{made[1]['id']}"
    status, _, headers = proxied.call("GET", PREDICT, None, {"REMOTE_USER": "admin", "Remote-User": "admin"})
    assert status == 401
    log = proxied.logged(f"{headers['X-Request-ID']} ")
    assert "6.6.6.6" not in log
    assert "evil" not in log


def test_a_sign_in_that_fails_counts_for_the_address_it_came_from(proxied: Proxied) -> None:
    form = {**FORGED, "Content-Type": "application/x-www-form-urlencoded"}
    assert proxied.call("POST", "/sign-in", b"token=wrong", form)[0] == 401
    ledger = dbapi2.connect(f"file:{proxied.instance / 'reviewapp.sqlite3'}?mode=ro", uri=True)
    assert ledger.execute("SELECT address FROM failed_sign_ins").fetchall() == [("127.0.0.1",)]
    ledger.close()


def test_who_comes_by_the_socket_is_not_believed_what_no_proxy_of_ours_says(
    proxied: Proxied, signed: dict[str, str]
) -> None:
    body = f"token={signed['Authorization'].removeprefix('Bearer ')}"
    raw = "POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Forwarded-Ssl: on\r\n"
    raw += "X-Forwarded-Protocol: ssl\r\nScript_Name: /evil\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(str(proxied.direct))
        connection.sendall(f"{raw}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 303 ")
    assert b"Location: /\r\n" in answer
    assert b"Secure" not in answer


def test_the_log_knows_the_request_id_and_no_query_string(proxied: Proxied) -> None:
    _, _, headers = proxied.call("GET", "/sign-in?link=secret", None, {"X-Request-ID": "one-of-mine"})
    assert headers["X-Request-ID"] == "one-of-mine"
    made = proxied.call("GET", "/livez", None, {"X-Request-ID": 'a "quoted" one'})[2]["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    proxied.logged('one-of-mine "GET /sign-in"')
    assert "secret" not in proxied.logged(f'{made} "GET /livez"')


@pytest.mark.parametrize(
    "head",
    ["GET /livez HTTP/1.1\r\nHost: evil.example", "GET http://evil.example/livez HTTP/1.1\r\nHost: 127.0.0.1"],
)
def test_who_asks_for_another_name_is_hung_up_on(proxied: Proxied, head: str) -> None:
    assert ask(proxied.port, f"{head}\r\n\r\n".encode()) == b""


@pytest.mark.parametrize("path", ["/metrics", "//metrics", "/%6detrics", "/x/../metrics", "/./metrics?a=1"])
def test_metrics_are_shut_from_outside(proxied: Proxied, path: str) -> None:
    answer = ask(proxied.port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"Content-Type: application/problem+json" in answer


def test_metrics_are_open_to_a_scraper_on_the_machine_and_nothing_else_is(alone: Proxied) -> None:
    scraper = Proxied.__new__(Proxied)
    scraper.port, scraper.held = alone.metrics_port, alone.held
    assert handed_on(scraper, b"GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n\r\n").startswith(b"GET /metrics ")
    assert ask(alone.metrics_port, b"GET /history HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 404")


# ---- refusals ---------------------------------------------------------------------------------------------------


def padded(document: Any, size: int) -> bytes:
    body = json.dumps(document).encode()
    return body + b" " * (size - len(body))


def test_a_body_at_the_limit_is_answered_and_one_byte_more_is_refused_by_the_proxy(
    proxied: Proxied, signed: dict[str, str], release: Release
) -> None:
    document, limit = {"input": example_record(release.contract)}, Settings.max_body
    assert proxied.call("POST", PREDICT, padded(document, limit), signed)[0] == 201
    status, problem, _ = proxied.call("POST", PREDICT, padded(document, limit + 1), signed)
    assert (status, problem["type"]) == (413, "/problems/too-large")
    assert problem["detail"] == f"The body may have {limit:,} bytes at most."


@pytest.mark.parametrize("path", [f"{PREDICT}/bulk?dry_run=true", "/upload?a=1"])
def test_a_file_at_the_limit_is_read_and_one_byte_more_is_refused_by_the_proxy(
    proxied: Proxied, signed: dict[str, str], path: str
) -> None:
    sent, limit = {**signed, "Content-Type": "text/csv", "Accept": "*/*"}, Settings.max_bulk
    status, answer, _ = proxied.call("POST", path, b"x" * limit, sent)
    assert status in (415, 422)  # read by the service, which finds no column of its own, or wants a form
    assert "bytes at most" not in str(answer)
    chunks = (b"x" * 65536 for _ in range(limit // 65536 + 1))
    for body in (b"x" * (limit + 1), chunks):
        connection = http.client.HTTPConnection("127.0.0.1", proxied.port, timeout=30)
        connection.request("POST", path, body, sent, encode_chunked=body is chunks)
        response = connection.getresponse()
        problem = json.loads(response.read())
        assert (response.status, problem["detail"]) == (413, f"The body may have {limit:,} bytes at most.")
        connection.close()


@pytest.mark.parametrize("chunked", [True, False])
def test_a_large_file_is_answered_whole_though_nginx_ends_a_body_once_its_answer_begins(
    proxied: Proxied, signed: dict[str, str], chunked: bool
) -> None:
    rows = [json.dumps({"input": one.record}).encode() + b"\n" for one in generator.generate(1000, 5)] * 20
    connection = http.client.HTTPConnection("127.0.0.1", proxied.port, timeout=60)
    body = b"".join(rows)  # 6 MB
    sent = {**signed, "Content-Type": "application/x-ndjson"}
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    connection.request(
        "POST", f"{PREDICT}/bulk?dry_run=true", pieces if chunked else body, sent, encode_chunked=chunked
    )
    *answers, last = connection.getresponse().read().splitlines()
    assert json.loads(last) == {"summary": {"rows": 20_000, "predictions": 20_000, "problems": 0}}
    assert len(answers) == 20_000
    connection.close()


@pytest.mark.parametrize(
    ("raw", "status", "kind"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad-request"),
        (b"TRACE /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405, "method-not-allowed"),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 414, "address-too-long"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"a" * 8192 + b"\r\n\r\n", 431, "headers-too-large"),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "bad-request"),
        (b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", 505, "bad-request"),
    ],
)
def test_what_the_proxy_refuses_is_a_problem_document_like_any_other(
    proxied: Proxied, raw: bytes, status: int, kind: str
) -> None:
    head, _, body = ask(proxied.port, raw).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    problem = json.loads(body)
    assert (problem["status"], problem["type"]) == (status, f"/problems/{kind}")
    assert problem["instance"] == f"urn:uuid:{problem['request_id']}"
    assert set(problem) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert f"X-Request-ID: {problem['request_id']}".encode() in head
    assert b"nginx/" not in head


def test_an_address_as_long_as_it_may_be_reaches_the_service(proxied: Proxied) -> None:
    target = "/livez?" + "a" * (8190 - len("GET /livez? HTTP/1.1"))
    raw = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    assert ask(proxied.port, raw).startswith(b"HTTP/1.1 200")
    assert ask(proxied.port, raw.replace(b"?", b"?a")).startswith(b"HTTP/1.1 414")


def test_a_service_that_is_not_there_is_a_503_that_says_when_to_ask_again(alone: Proxied) -> None:
    alone.held.close()
    length = Settings.max_bulk
    head = f"POST {PREDICT}/bulk HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    answer = ask(alone.port, head.encode() + b"x" * length)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 2\r\n" in answer
    assert b'"type": "/problems/not-ready"' in answer


def test_a_caller_above_the_limit_of_requests_is_told_when_to_ask_again(alone: Proxied) -> None:
    site, limits = alone.folder / "reviewapp.conf", alone.folder / "reviewapp" / "limits.conf"
    site.write_text(put_in(site.read_text(), {"rate=2000r/s": "rate=1r/m"}))
    limits.write_text(put_in(limits.read_text(), {" burst=4000 nodelay": ""}))
    alone.nginx.send_signal(signal.SIGHUP)
    alone.held.close()  # who is let through gets a 503 at once
    answer, ends = b"", time.monotonic() + 30
    while not answer.startswith(b"HTTP/1.1 429 ") and time.monotonic() < ends:  # until it has read its files anew
        answer = ask(alone.port, b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert b'"type": "/problems/too-many-requests"' in answer


# ---- connections ------------------------------------------------------------------------------------------------


def test_requests_in_one_piece_are_answered_in_their_order(proxied: Proxied) -> None:
    one = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n"
    raw = one.format("/livez", "") + one.format("/nothing", "") + one.format("/readyz", "Connection: close\r\n")
    answer = ask(proxied.port, raw.encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_a_connection_is_used_again_after_a_refusal_and_no_body_is_taken_for_a_request(
    proxied: Proxied, signed: dict[str, str], release: Release
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxied.port, timeout=30)
    good = json.dumps({"input": example_record(release.contract)}).encode()
    hidden = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for body, status in ((hidden, 400), (good, 201), (b"{}", 422), (good, 201)):
        connection.request("POST", PREDICT, body, {**signed, "Content-Type": "application/json"})
        response = connection.getresponse()
        assert (response.status, b"alive" in response.read()) == (status, False)
    connection.close()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {2 << 20}\r\n\r\n".encode()
    answer = ask(proxied.port, head + hidden * ((2 << 20) // len(hidden) + 1))
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"413"]


def sockets_of(pids: list[int]) -> int:
    """Return how many sockets processes hold; one that is closed meanwhile does not count."""
    found = 0
    for pid in pids:
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += str(one.readlink()).startswith("socket:")
    return found


@pytest.mark.parametrize("door", ["nginx", "socket"])
def test_clients_that_leave_in_the_middle_leave_nothing_behind(
    proxied: Proxied, signed: dict[str, str], release: Release, door: str
) -> None:
    def connect() -> socket.socket:
        if door == "nginx":
            return socket.create_connection(("127.0.0.1", proxied.port), 30)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(proxied.direct))
        return connection

    token = signed["Authorization"]
    head = f"Host: 127.0.0.1\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n"
    body = json.dumps({"inputs": [example_record(release.contract)] * 100}).encode()
    length = f"Content-Length: {len(body)}\r\n\r\n"
    batch = f"POST {PREDICT}/batch?dry_run=true HTTP/1.1\r\n{head}{length}".encode()

    def leave(number: int) -> None:
        with connect() as connection:
            # in its head, in its body, while it is answered, before it reads the answer
            sent = (batch[:40], batch + body[: len(body) // 2], batch + body, batch + body)[number % 4]
            connection.sendall(sent)
            if number % 4 == 3:
                connection.recv(10)

    def callers(count: int) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(leave, range(count)))

    pids = proxied.workers()
    callers(40)
    time.sleep(6)  # connections that were kept alive are hung up on
    before, logged = sockets_of(pids), events(proxied)
    callers(200)
    ends = time.monotonic() + 40
    while sockets_of(pids) > before and time.monotonic() < ends:
        time.sleep(0.2)
    assert sockets_of(pids) <= before
    assert all(len(list(Path(f"/proc/{pid}/task").iterdir())) <= Settings.threads + 3 for pid in pids)
    assert proxied.workers() == pids
    assert events(proxied) == logged
    assert proxied.call("GET", "/readyz", fresh=True)[0] == 200


# ---- restarts and killed workers ----------------------------------------------------------------------------------


class Callers:
    """Threads that send requests, each with an idempotency key, until they are told to stop."""

    def __init__(self, proxied: Proxied, signed: dict[str, str], record: Any, tries: int) -> None:
        self.made: list[str] = []
        self.wrong: list[Any] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(proxied, signed, {"input": record}, number, tries))
            for number in range(4)
        ]

    def _call(self, proxied: Proxied, signed: dict[str, str], body: Any, number: int, tries: int) -> None:
        sent = 0
        while not self._over.is_set():
            sent += 1
            headers = {**signed, "Idempotency-Key": f"{id(self)}-{number}-{sent}"}
            for left in reversed(range(tries)):
                try:
                    status, answer, _ = proxied.call("POST", PREDICT, body, headers)
                except OSError as error:  # an answer that broke off is none
                    status, answer = 0, error
                if status == 201:
                    self.made.append(answer["id"])
                    break
                if not left:
                    self.wrong.append((status, answer))
                time.sleep(0.05)

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(300)

    def wait_for(self, more: int) -> None:
        wanted, ends = len(self.made) + more, time.monotonic() + 300
        while len(self.made) < wanted and time.monotonic() < ends:
            time.sleep(0.02)


def test_a_restart_fails_no_request_while_the_socket_is_held(
    proxied: Proxied, signed: dict[str, str], release: Release
) -> None:
    with Callers(proxied, signed, example_record(release.contract), tries=1) as callers:
        for _ in range(2):
            callers.wait_for(50)
            before = proxied.process
            before.terminate()
            assert before.wait(120) == 0
            proxied.launch()
        callers.wait_for(50)
    assert callers.wrong == []
    assert len(callers.made) >= 150
    assert len(set(callers.made)) == len(callers.made)


def test_workers_that_are_killed_lose_nothing_and_callers_who_ask_again_are_all_answered(
    proxied: Proxied, signed: dict[str, str], release: Release
) -> None:
    with Callers(proxied, signed, example_record(release.contract), tries=20) as callers:
        for _ in range(4):
            callers.wait_for(40)
            workers = proxied.workers()
            if workers:
                os.kill(workers[0], signal.SIGKILL)
        callers.wait_for(40)
    assert callers.wrong == []
    assert len(set(callers.made)) == len(callers.made) >= 200
    for made in callers.made:
        assert proxied.call("GET", f"{PREDICT}/{made}", None, signed)[0] == 200


# ---- under a sub-path -------------------------------------------------------------------------------------------


def test_everything_works_under_a_sub_path(below: Proxied, release: Release) -> None:
    prefix, form = below.prefix, {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, headers = below.call("GET", f"{prefix}")
    assert (status, headers["Location"]) == (308, f"{prefix}/")
    assert below.call("GET", f"{prefix}/history")[2]["Location"] == f"{prefix}/sign-in?next={prefix}/history"
    sent = f"token={below.reviewer}&next={prefix}/history".encode()
    status, _, headers = below.call("POST", f"{prefix}/sign-in", sent, form)
    assert (status, headers["Location"]) == (303, f"{prefix}/history")
    assert f"Path={prefix};" in headers["Set-Cookie"] + ";"
    cookie = {"Cookie": headers["Set-Cookie"].split(";")[0]}
    for name in ("", "queue", "history", "upload", "evidence", "releases", "monitor", "contract"):
        status, page, _ = below.call("GET", f"{prefix}/{name}", None, cookie)
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
        assert (status, [link for link in links if not link.startswith(f"{prefix}/")]) == (200, [])
        for link in {one for one in links if "/static/" in one}:
            assert below.call("GET", link)[0] == 200
        assert below.call("GET", f"{prefix}/{name}", None, {**cookie, "Accept": "application/json"})[0] == 200
    signed = {"Authorization": f"Bearer {below.reviewer}"}
    record = example_record(release.contract)
    status, made, headers = below.call("POST", f"{prefix}{PREDICT}", {"input": record}, signed)
    assert (status, headers["Location"]) == (201, f"{prefix}{PREDICT}/{made['id']}")
    assert below.call("GET", headers["Location"], None, signed)[1]["input"] == record
    kind = {**signed, "Content-Type": "text/csv"}
    status, answers, _ = below.call("POST", f"{prefix}{PREDICT}/bulk", csv_template(release.contract).encode(), kind)
    assert (status, made["output"]["label"] in answers) == (200, True)
    too_long = below.call("POST", f"{prefix}{PREDICT}/bulk", b" " * (Settings.max_bulk + 1), kind)
    assert (too_long[0], too_long[1]["detail"]) == (413, f"The body may have {Settings.max_bulk:,} bytes at most.")
    assert below.call("GET", f"{prefix}/metrics")[0] == 404
    assert below.call("GET", "/livez")[0] == 404  # what lies beside it is not ours


@pytest.mark.browser
@pytest.mark.skipif(browsers.executable() is None, reason="no browser is installed here")
def test_a_browser_signs_in_asks_and_reads_every_page_under_a_sub_path(below: Proxied, browser: Browser) -> None:
    base = f"http://127.0.0.1:{below.port}{below.prefix}/"
    with browsers.watched(browser, base) as page:
        page.goto(f"{base}sign-in")
        page.get_by_label("Token").fill(below.reviewer)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(base)
        page.goto(f"{base}?sample=1")
        page.get_by_role("button", name="Ask for an answer").click()
        page.wait_for_url(re.compile(r"prediction="))
        for name in page.locator("nav a").all_inner_texts():
            page.get_by_role("navigation").get_by_role("link", name=name, exact=True).first.click()
            page.wait_for_load_state()
            assert page.url.startswith(base)
            expect(page.locator("h1")).to_have_count(1)


def test_other_protocols_are_spoken_under_a_sub_path(below: Proxied, release: Release) -> None:
    for path in ("/ping", "/health", "/version", "/v2", "/v2/health/ready", f"/v2/models/{release.id.name}/ready"):
        assert below.call("GET", f"{below.prefix}{path}")[0] == 200, path
    bearer = {"Authorization": f"Bearer {below.reviewer}"}
    body = {"instances": [example_record(release.contract)]}
    status, answer, _ = below.call("POST", f"{below.prefix}/invocations", body, bearer)
    assert (status, answer) == (200, {"predictions": ["billing"]})


def test_both_files_of_locations_are_the_same_but_for_the_prefix() -> None:
    at_root = (SHIPPED / "reviewapp" / "locations.conf").read_text().split("\n", 1)[1]
    below = (SHIPPED / "reviewapp" / "locations-subpath.conf").read_text().split("}\n", 1)[1]
    assert re.sub(r"(http://reviewapp)/[^;]*;", r"\1;", below).replace(" /reviewapp/", " /") == at_root


# ---- TLS --------------------------------------------------------------------------------------------------------


def test_the_site_with_tls_is_taken_by_nginx(alone: Proxied) -> None:
    folder = alone.folder
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
         "-keyout", f"{folder}/privkey.pem", "-out", f"{folder}/fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = put_in((SHIPPED / "reviewapp" / "tls.conf").read_text(), {"/etc/ssl/reviewapp": str(folder), "443": "8443"})
    (folder / "reviewapp" / "tls.conf").write_text(tls)
    site = (folder / "reviewapp.conf").read_text()
    site = site.replace("# include reviewapp/tls.conf;", "include reviewapp/tls.conf;")
    site = site.replace("# listen 443 ssl default_server;", "listen 8443 ssl default_server; ssl_reject_handshake on;")
    (folder / "reviewapp.conf").write_text(site)
    said = subprocess.run(
        [str(NGINX), "-t", "-p", str(folder), "-c", f"{folder}/nginx.conf"], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    assert "[warn]" not in said.stderr
