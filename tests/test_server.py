"""The service as a user meets it: started by its command under gunicorn, spoken to over a socket, killed, restarted."""

import csv
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reviewapp.evidence.running import free_port
from reviewapp.frames import to_frame
from reviewapp.release import Release
from reviewapp.samples import broken_requests, csv_template, valid_record
from reviewapp.triage import generator

from .page import JSON, as_csv
from .service import Service

pytestmark = pytest.mark.server
PREDICT = "/api/v1/predictions"
Call = Callable[..., tuple[int, Any, dict[str, str]]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, release: Release) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service") / "instance", release.contract) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(service: Service) -> dict[str, dict[str, str]]:
    made = {}
    for role in ("submit", "review", "admin"):
        printed = service.command("token", "create", f"test {role}", "--role", role)
        assert printed.returncode == 0, printed.stderr
        made[role] = {"Authorization": f"Bearer {printed.stdout.strip()}"}
    return made


def test_the_printed_curl_line_is_answered_with_a_prediction(service: Service, release: Release) -> None:
    sent = service.curl
    status, made, headers = service.call("POST", sent["path"], sent["body"], sent["headers"])
    assert status == 201
    assert headers["Location"] == f"{PREDICT}/{made['id']}"
    assert made["release"] == {"name": "triage", "version": 1, "digest": release.id.digest}
    assert (
        service.call("GET", headers["Location"], None, sent["headers"])[1]["input"] == json.loads(sent["body"])["input"]
    )


def test_the_printed_link_signs_in_once(service: Service) -> None:
    status, _, headers = service.call("GET", service.link)
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"].split(";")[0]
    assert service.call("GET", "/", None, {"Cookie": cookie})[0] == 200
    assert service.call("GET", service.link)[0] == 401


def test_the_examples_of_the_readme_work_as_they_stand(service: Service, tokens: Any, release: Release) -> None:
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
    readme = readme.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    token = tokens["submit"]["Authorization"].removeprefix("Bearer ")
    [program] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "TOKEN": token}, capture_output=True, text=True
    )
    assert done.stdout == "access auto access\n", done.stderr
    commands = re.findall(r"\$ (curl .*?)\n```", readme, re.DOTALL)
    one, file = (service.read_curl(line.replace("\\\n", " ").replace("$TOKEN", token)) for line in commands)
    status, made, _ = service.call("POST", one["path"], one["body"], one["headers"])
    assert (status, made["reference"], made["output"]["label"]) == (201, "ticket-4711", "billing")
    assert file["body"] == b"@requests.csv"
    content = csv_template(release.contract).encode()
    status, answers, _ = service.call("POST", file["path"], content, file["headers"])
    [row] = csv.DictReader(io.StringIO(answers, newline=""))
    assert (status, row["prediction"], row["problem"]) == (200, "billing", "")


def test_two_thousand_generated_requests_get_the_right_status_and_pointer(
    service: Service, tokens: Any, release: Release
) -> None:
    rng = random.Random(2026)
    requests: list[tuple[Any, list[tuple[str, str]]]] = []
    while len(requests) < 1000:
        requests += [(b.record, [(b.pointer, b.code)]) for b in broken_requests(release.contract, rng)]
    del requests[1000:]
    requests += [(example.record, []) for example in generator.generate(500, 8)]
    requests += [(valid_record(release.contract, rng), []) for _ in range(500)]
    rng.shuffle(requests)

    def send(request: tuple[Any, list[tuple[str, str]]]) -> str | None:
        record, mistakes = request
        status, answer, _ = service.call("POST", PREDICT, {"input": record}, tokens["submit"])
        found = [(error["pointer"], error["code"]) for error in answer.get("errors", [])]
        expected = (422, mistakes) if mistakes else (201, [])
        return None if (status, found) == expected else f"{record} → {status} {found}, not {expected}"

    with ThreadPoolExecutor(8) as pool:
        wrong = [result for result in pool.map(send, requests) if result]
    assert (len(requests), wrong) == (2000, [])


def test_answers_over_http_equal_the_pipelines_own_on_500_rows(service: Service, tokens: Any, release: Release) -> None:
    records = [example.record for example in generator.generate(250, 21) + generator.generate(250, 22, drifted=True)]
    model = release.model
    expected = model.predict_proba(to_frame(release.contract, records))
    order = [list(model.classes_).index(label) for label in release.contract.outcome.labels]

    def alone(record: Any) -> dict[str, Any]:
        status, answer, _ = service.call("POST", PREDICT, {"input": record}, tokens["submit"])
        assert status == 201
        return dict(answer)

    with ThreadPoolExecutor(4) as pool:
        single = list(pool.map(alone, records))
    status, answer, _ = service.call("POST", f"{PREDICT}/batch", {"inputs": records}, tokens["submit"])
    assert status == 200
    for answers in (single, answer["predictions"]):
        shares = np.array([list(made["output"]["probabilities"].values()) for made in answers])
        assert np.abs(shares - expected[:, order]).max() <= 1e-9
        labels = [made["output"]["label"] for made in answers]
        assert labels == model.classes_[expected.argmax(axis=1)].tolist()


def test_one_key_sent_many_times_at_once_is_answered_once(service: Service, tokens: Any, release: Release) -> None:
    body = {"input": release.golden[0].input, "reference": "all at once"}
    headers = {**tokens["submit"], "Idempotency-Key": "all-at-once"}

    def send(_: int) -> tuple[int, Any]:
        while True:
            status, answer, _headers = service.call("POST", PREDICT, body, headers, fresh=True)
            if status != 409:
                return status, answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert {status for status, _ in answers} == {201}
    assert len({answer["id"] for _, answer in answers}) == 1
    found = service.call("GET", f"{PREDICT}?reference=all+at+once", None, tokens["review"])[1]
    assert len(found["predictions"]) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_too_much_still_reads_the_413(service: Service, tokens: Any, chunked: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    body = (b"x" * 65536 for _ in range(320)) if chunked else b"x" * (20 << 20)
    connection.request(
        "POST", PREDICT, body, {**tokens["submit"], "Content-Type": "application/json"}, encode_chunked=chunked
    )
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["type"] == "/problems/too-large"
    connection.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET http://evil.example/livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /api/v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_request_that_is_not_well_formed_gets_one_4xx(service: Service, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        connection.sendall(raw)
        answer = b""
        while chunk := connection.recv(65536):  # until the service hangs up: nothing of it is read as a next request
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"evil" not in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize("length", [b"99999999999999999999", b"10"])
def test_a_client_that_says_more_than_it_sends_is_not_waited_for(service: Service, length: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        connection.sendall(b"POST /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + length + b"\r\n\r\n{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 405")


def test_a_promotion_is_followed_by_every_worker_before_it_is_acknowledged(
    service: Service, tokens: Any, release: Release
) -> None:
    built = service.command("build")
    assert built.returncode == 0, built.stderr
    assert "promote 2" in built.stdout
    body = {"input": release.golden[0].input}

    def version(_: int) -> int:
        return int(service.call("POST", PREDICT, body, tokens["submit"], fresh=True)[1]["release"]["version"])

    with ThreadPoolExecutor(8) as pool:
        for move, expected in (("2/promote", 2), ("rollback", 1), ("2/promote", 2)):
            path = f"/api/v1/releases/{move}"
            assert service.call("POST", path, {"reason": "test"}, tokens["admin"])[0] == 200
            assert set(pool.map(version, range(32))) == {expected}
    back = service.command("rollback", "--reason", "test")
    assert (back.returncode, back.stdout) == (0, "triage/1 is live.\n")
    assert version(0) == 1


def test_a_taken_port_and_a_taken_instance_folder_are_said_in_one_line(service: Service) -> None:
    other = {**service.environment, "REVIEWAPP_BIND": f"127.0.0.1:{free_port()}"}
    for environment, says in (
        (service.environment, f"port {service.port} on 127.0.0.1 is taken"),
        (other, f"A service runs from {service.instance} already"),
    ):
        second = subprocess.run(
            [sys.executable, "-m", "reviewapp", "serve"], env=environment, capture_output=True, text=True
        )
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert says in second.stderr
    assert (service.instance / "gunicorn.pid").read_text().strip() == str(service.process.pid)


def test_a_killed_worker_is_replaced_and_nothing_acknowledged_is_lost(
    service: Service, tokens: Any, release: Release
) -> None:
    body = {"input": release.golden[1].input}
    kept: list[str] = []
    for i in range(30):
        if i in (5, 15):
            service.hang_up()
            os.kill(service.workers()[0], signal.SIGKILL)
        try:
            status, made, _ = service.call("POST", PREDICT, body, tokens["submit"], fresh=True)
        except OSError:
            continue  # it was under way in the killed worker
        assert status == 201
        kept.append(made["id"])
    assert len(kept) >= 26
    for prediction_id in kept:
        assert service.call("GET", f"{PREDICT}/{prediction_id}", None, tokens["submit"])[0] == 200


def test_a_file_goes_on_after_a_worker_was_killed_and_no_row_is_recorded_twice(service: Service, tokens: Any) -> None:
    def answered(*_: Any) -> Any:
        try:
            return service.call("POST", f"{address}/continue", b"", {**tokens["submit"], **JSON}, fresh=True)[1]
        except OSError:
            return None  # it was under way in the killed worker

    content = as_csv([one.record for one in generator.generate(4000, 9)])
    body = f'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n{content}\r\n'
    body += '--x\r\nContent-Disposition: form-data; name="answer"\r\n\r\nlater\r\n--x--\r\n'
    sent = {**tokens["submit"], "Content-Type": "multipart/form-data; boundary=x"}
    address = service.call("POST", "/upload", body.encode(), sent)[2]["Location"]
    with ThreadPoolExecutor(4) as threads:  # four at once, and twice a worker dies under them
        asked = [threads.submit(answered) for _ in range(12)]
        for number in (2, 6):
            asked[number].result()
            service.hang_up()
            os.kill(service.workers()[0], signal.SIGKILL)
    for _ in range(20):
        found = answered()
        if found and found["finished"]:
            break
    table = service.call("GET", f"{address}/answers.csv", None, tokens["submit"])[1]
    ids = [row["prediction_id"] for row in csv.DictReader(io.StringIO(table, newline=""))]
    assert len(ids) == len(set(ids)) == found["rows"] == sum(found["summary"]["decisions"].values()) == 4000
    query = f"{PREDICT}?source=upload&limit=200"
    kept, cursor = list[str](), ""
    while cursor is not None:
        made = service.call("GET", f"{query}{cursor and f'&cursor={cursor}'}", None, tokens["review"])[1]
        kept, cursor = [*kept, *(one["id"] for one in made["predictions"])], made["next"]
    assert sorted(kept) == sorted(ids)


def test_after_everything_was_killed_the_next_start_has_the_whole_ledger(
    service: Service, tokens: Any, release: Release
) -> None:
    body = {"input": release.golden[2].input}
    kept = [service.call("POST", PREDICT, body, tokens["submit"])[1]["id"] for _ in range(10)]
    verdict = {"verdict": "corrected", "label": "bug", "note": "before the crash"}
    service.call("PUT", f"{PREDICT}/{kept[0]}/verdict", verdict, tokens["review"])
    service.kill()
    (service.instance / "gunicorn.pid").write_text(
        str(os.getpid())
    )  # left behind, and the pid is another program's now
    service.start()
    for prediction_id in kept:
        assert service.call("GET", f"{PREDICT}/{prediction_id}", None, tokens["submit"])[0] == 200
    found = service.call("GET", f"{PREDICT}/{kept[0]}", None, tokens["submit"])[1]
    assert (found["verdict"]["label"], found["verdict"]["note"]) == ("bug", "before the crash")
    assert service.curl["headers"]["Authorization"]  # a new link and a new token are printed at each start


def test_it_stops_when_it_is_told_to_and_says_where_it_ran(service: Service) -> None:
    assert (service.instance / "gunicorn.pid").read_text().strip() == str(service.process.pid)
    assert service.stop() == 0
    assert not (service.instance / "gunicorn.pid").exists()
    service.start()


def test_the_instance_folder_is_its_owners_alone(service: Service) -> None:
    assert service.instance.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(service.instance).glob("*.sqlite3*"))
