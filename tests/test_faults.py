"""What carries the ledger fails under a service: who writes is told so and when to ask again, and reading goes on."""

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from soak import stores
from soak.instances import fresh

from reviewapp.release import Release
from reviewapp.samples import example_record
from reviewapp.triage import generator

from .page import as_csv, form
from .service import Service

pytestmark = pytest.mark.server
PREDICT = "/api/v1/predictions"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
UPLOAD = {"Content-Type": "multipart/form-data; boundary=x", "Accept": "application/json"}
READS = "/livez", PREDICT, "/api/v1/releases", "/api/v1/monitor", "/history", "/queue", "/releases", "/upload", "/"


def in_a_form(table: str) -> bytes:
    """Return a file as the page Upload sends it, for UPLOAD."""
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    return f"{head}{table}\r\n--x--\r\n".encode()


class Called:
    """A service, and the ways to write to it; who asks is an admin, or else a reviewer."""

    def __init__(self, service: Service, release: Release, token: str, *, admin: bool = True) -> None:
        self.service, self.record, self.token, self.admin = service, example_record(release.contract), token, admin
        self.who = {"Authorization": f"Bearer {token}"}
        self.form = "&".join(f"{name}={text}" for name, text in form(release.contract, self.record).items())
        self.judged = self.predicted()
        status, *_ = self.call("PUT", f"{PREDICT}/{self.judged}/verdict", {"verdict": "agree"})
        assert status == 200
        for example in generator.generate(20, 5):  # some of them wait for a reviewer
            self.call("POST", PREDICT, {"input": example.record})

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return self.service.call(method, path, body, {**self.who, **headers}, fresh=True)

    def predicted(self) -> str:
        status, made, _ = self.call("POST", PREDICT, {"input": self.record})
        assert status == 201, made
        return str(made["id"])

    def writes(self) -> list[tuple[int, str, dict[str, str]]]:
        """Try each; return status, what was called, and the headers of the answer."""
        one = self.judged
        table = as_csv([self.record] * 3)
        calls: list[tuple[str, str, Any, dict[str, str]]] = [
            ("POST", PREDICT, {"input": self.record}, {}),
            ("POST", PREDICT, {"input": self.record}, {"Idempotency-Key": f"k-{time.monotonic_ns()}"}),
            ("POST", f"{PREDICT}/batch", {"inputs": [self.record] * 3}, {}),
            ("POST", f"{PREDICT}/bulk", table.encode(), {"Content-Type": "text/csv"}),
            ("PUT", f"{PREDICT}/{one}/verdict", {"verdict": "disagree"}, {}),
            ("DELETE", f"{PREDICT}/{one}/verdict", None, {}),
            ("POST", "/api/v1/queue/next", {}, {}),
            ("POST", "/", self.form.encode(), FORM),
            ("POST", f"/history/{one}/verdict", b"verdict=disagree", FORM),
            ("POST", "/queue/next", b"", FORM),
            ("POST", "/sign-in", f"token={self.token}".encode(), FORM),
            ("GET", self.service.link, None, {}),
            ("POST", "/upload", in_a_form(table), UPLOAD),
        ]
        if self.admin:
            calls += [
                ("POST", "/api/v1/releases/2/promote", {"reason": "test", "breaking": True}, {}),
                ("POST", "/releases/2/promote", b"reason=test&breaking=yes", FORM),
            ]
        found = []
        for method, path, body, headers in calls:
            status, answer, got = self.call(method, path, body, **headers)
            if path.startswith("/api/") and status >= 400:
                assert got["Content-Type"] == "application/problem+json"
                assert answer["status"] == status
            assert "Traceback" not in str(answer)
            found.append((status, f"{method} {path}: {str(answer)[:200]}", got))
        return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, release: Release) -> Iterator[Called]:
    """A service on the file system that all tests use."""
    with Service(fresh(tmp_path_factory.mktemp("faults") / "instance")) as service:
        yield Called(service, release, service.token("eve", "admin"))


def check_fault(called: Called, statuses: set[int], says: str, *, reads: Collection[int] = (200,)) -> None:
    """While something is wrong."""
    began = time.monotonic()
    status, answer, headers = called.call("GET", "/readyz")
    assert (status, "Retry-After" in headers) == (503, True)
    assert re.search(says, answer["detail"])
    assert time.monotonic() - began < 10  # a bound, not the promise, which is 2 s
    wrong = [
        (status, what)
        for status, what, headers in called.writes()
        if status not in statuses or int(headers.get("Retry-After", 0)) < 1
    ]
    assert wrong == []
    for path in READS:
        assert called.call("GET", path)[0] in reads, path
    status, metrics, _ = called.call("GET", "/metrics")
    assert (status, "\nreviewapp_ledger_writable 0.0\n" in metrics) == (200, True)


def check_over(called: Called) -> None:
    """When nothing is wrong any more."""
    assert called.call("GET", "/readyz")[0] == 200
    assert called.call("GET", f"{PREDICT}/{called.predicted()}")[0] == 200
    assert "\nreviewapp_ledger_writable 1.0\n" in called.call("GET", "/metrics")[1]


@pytest.mark.parametrize(
    ("fault", "says", "reads"),
    [
        ("locked", "is locked", [200]),
        ("no_writing", "disk of the ledger fails", [200]),
        ("away", "file is gone", [200, 503]),  # a thread that did not read before has nothing to open
    ],
)
def test_while_the_ledger_cannot_be_written_each_way_to_write_says_so_and_reading_goes_on(
    plain: Called, fault: str, says: str, reads: list[int]
) -> None:
    service = plain.service
    given: Any = service.workers() if fault == "no_writing" else service.instance / "reviewapp.sqlite3"
    with getattr(stores, fault)(given):
        check_fault(plain, {503}, says, reads=reads)
    check_over(plain)
    assert stores.whole(service.instance / "reviewapp.sqlite3")


def test_while_the_disk_is_full_each_way_to_write_says_so_and_reading_goes_on(tmp_path: Path, release: Release) -> None:
    with stores.mounted(tmp_path / "small", 12 << 20) as service:
        called = Called(service, release, service.reviewer, admin=False)
        ledger = Path(f"/proc/{service.process.pid}/root{service.instance}/reviewapp.sqlite3")
        with stores.filled(ledger):
            check_fault(called, {507}, "disk of the ledger is full")
        check_over(called)


def test_a_worker_that_stands_still_takes_down_only_what_it_had_and_goes_on_with_it(plain: Called) -> None:
    """It answers what it had late; nothing is given up, for it was not the requests that took long."""
    service = plain.service
    before = service.workers()
    with ThreadPoolExecutor(8) as pool:
        os.kill(before[0], signal.SIGSTOP)
        try:
            answers = [pool.submit(plain.call, "GET", "/livez") for _ in range(40)]
            time.sleep(1)
            assert sum(one.done() for one in answers) >= 40 - 8
        finally:
            os.kill(before[0], signal.SIGCONT)
        assert [one.result()[0] for one in answers] == [200] * 40
    assert service.workers() == before


def test_a_request_that_needs_too_much_memory_fails_alone(plain: Called) -> None:
    service = plain.service
    table = as_csv([one.record for one in generator.generate(500, 6)])
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_AS) for pid in service.workers()}
    big = table + "\r\n".join(table.split("\r\n")[1:-1] * 300)
    for pid, (_, most) in limits.items():
        used = int(re.findall(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) << 10
        resource.prlimit(pid, resource.RLIMIT_AS, (used + (16 << 20), most))
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(plain.call, "POST", "/upload", in_a_form(big), **UPLOAD)  # which has it whole
            neighbours = [plain.call("POST", PREDICT, {"input": plain.record})[0] for _ in range(10)]
            status, answer, headers = asked.result()
    finally:
        for pid, before in limits.items():
            resource.prlimit(pid, resource.RLIMIT_AS, before)
    assert (status, headers.get("Retry-After")) == (503, "1"), str(answer)[:300]
    assert "not enough memory" in answer["detail"]
    assert neighbours == [201] * 10
    check_over(plain)


@pytest.mark.skipif(shutil.which("strace") is None, reason="only strace shows the calls of the system")
def test_what_is_acknowledged_was_brought_to_the_disk_before(plain: Called) -> None:
    """Each answer comes after a call of the system that ends only once the data is there."""
    service, times = plain.service, 20
    out, said = service.instance.parent / "calls", service.instance.parent / "said"
    with said.open("w") as file:
        command = ["strace", "-f", "-o", str(out), "-e", "trace=fdatasync,fsync"]
        tracing = subprocess.Popen([*command, *(f"-p{pid}" for pid in service.workers())], stderr=file)
    try:
        ends = time.monotonic() + 20
        while said.read_text().count("attached") < len(service.workers()) and time.monotonic() < ends:
            time.sleep(0.05)
        for _ in range(times):
            plain.predicted()
        verdicts = [
            plain.call("PUT", f"{PREDICT}/{plain.judged}/verdict", {"verdict": v})[0] for v in ("unsure", "agree")
        ]
        assert verdicts == [200, 200]
    finally:
        tracing.send_signal(signal.SIGINT)
        tracing.wait(20)
    assert len(re.findall(r"f(?:data)?sync\(\d+\)\s+= 0|resumed.*= 0", out.read_text())) >= times + 2
