"""The worker class under a real gunicorn: connections go to whoever has a thread for them, and nobody waits in vain."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from reviewapp.evidence.running import free_port

pytestmark = pytest.mark.server
WORKERS, THREADS = 2, 2
ALL = WORKERS * THREADS
SECONDS = 20.0  # a bound, not a promise

# GET /<name>/<n> is answered once n requests of that name are under way, in whatever worker, or a file lets it go.
# Those of /read/<n> have read their body by then; /endless and /torn answer in pieces, and /torn gets stuck in between.
APP = """
import gc, os, pathlib, time, uuid

def app(environ, start):
    _, name, n = environ["PATH_INFO"].split("/")
    if name == "read":
        environ["gunicorn.socket"].settimeout(SECONDS)
        environ["wsgi.input"].read()
        environ["gunicorn.socket"].settimeout(None)
    if name in ("endless", "torn"):
        start("200 OK", [("X-Worker", str(os.getpid()))])
        return pieces(name)
    folder = pathlib.Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    (folder / uuid.uuid4().hex).touch()
    ends = time.monotonic() + SECONDS
    while len(os.listdir(folder)) < int(n) and not (folder / "go").exists() and time.monotonic() < ends:
        time.sleep(0.005)
    met = "200 OK" if time.monotonic() < ends else "504 Nobody came"
    start(met, [("Content-Length", "0"), ("X-Frozen", str(gc.get_freeze_count()))])
    return [b""]

def pieces(name):
    while True:
        yield b"x" * 100_000
        time.sleep(SECONDS if name == "torn" else 0)
""".replace("SECONDS", str(SECONDS))

CONF = f"""
import reviewapp.worker
reviewapp.worker.HEAD_SECONDS = 0.2
reviewapp.worker.HUNG_UP_SECONDS = 0.2
reviewapp.worker.BODY_SECONDS = BODY_TIME
reviewapp.worker.OTHER_FILES = 0

class worker_class(reviewapp.worker.FairWorker):
    answer_seconds = ANSWER_SECONDS

workers, threads, keepalive, control_socket_disable = {WORKERS}, {THREADS}, 30, True
"""


class Gunicorn:
    def __init__(
        self, folder: Path, answer_seconds: float = 2 * SECONDS, body_seconds: float = 2 * SECONDS, files: int = 0
    ) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "app.py").write_text(APP)
        conf = CONF.replace("ANSWER_SECONDS", str(answer_seconds)).replace("BODY_TIME", str(body_seconds))
        (folder / "gunicorn.conf.py").write_text(conf)
        command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{self.port}", "app:app"]
        if files:
            command = ["/bin/sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> "Gunicorn":
        self.until(lambda: self.log.count("Booting worker") == WORKERS)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(40)

    def until(self, happened: Callable[[], bool]) -> None:
        ends = time.monotonic() + SECONDS
        while not happened():
            assert time.monotonic() < ends and self.process.poll() is None, self.log
            time.sleep(0.005)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * SECONDS)

    def ask(self, name: str, n: int = 1) -> int:
        """Ask on a connection of its own."""
        with closing(self.connection()) as connection:
            return answered(connection, name, n)

    def under_way(self, name: str) -> int:
        return len(list((self.folder / name).glob("*")))


def answered(connection: http.client.HTTPConnection, name: str, n: int = 1) -> int:
    connection.request("GET", f"/{name}/{n}")
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Gunicorn]:
    with Gunicorn(tmp_path) as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * ALL) as made:
        yield made


def test_as_many_connections_as_threads_are_all_under_way_at_once_whichever_worker_wakes_first(
    server: Gunicorn, pool: ThreadPoolExecutor
) -> None:
    for turn in range(20):  # they wait for each other, so one that queues behind another's thread would never end
        meeting = [pool.submit(server.ask, f"meeting-{turn}", ALL) for _ in range(ALL)]
        assert [one.result() for one in meeting] == [200] * ALL


def test_connections_that_are_kept_alive_take_no_room(server: Gunicorn, pool: ThreadPoolExecutor) -> None:
    with ExitStack() as open_ones:
        idle = [open_ones.enter_context(closing(server.connection())) for _ in range(3 * ALL)]
        assert [answered(one, "before") for one in idle] == [200] * len(idle)
        meeting = [pool.submit(server.ask, "new", ALL) for _ in range(ALL)]
        assert [one.result() for one in meeting] == [200] * ALL
        assert [answered(one, "after") for one in idle] == [200] * len(idle)


def test_a_connection_that_finds_every_thread_busy_waits_for_the_first_that_is_free(
    server: Gunicorn, pool: ThreadPoolExecutor
) -> None:
    busy = [pool.submit(server.ask, f"busy-{i}", 2) for i in range(ALL)]
    server.until(lambda: all(server.under_way(f"busy-{i}") for i in range(ALL)))
    late = [pool.submit(server.ask, "late") for _ in range(3)]
    (server.folder / "busy-2" / "go").touch()
    assert [one.result() for one in late] == [200] * 3
    assert [one.done() for one in busy] == [False, False, True, False]
    for i in range(ALL):
        (server.folder / f"busy-{i}" / "go").touch()
    assert [one.result() for one in busy] == [200] * ALL


def test_connections_that_are_kept_busy_do_not_keep_the_threads_to_themselves(server: Gunicorn) -> None:
    clients, total = 3 * ALL, 100 * ALL
    answers = [0] * clients

    def keep_busy(i: int) -> None:
        with closing(server.connection()) as connection:
            while sum(answers) < total:
                assert answered(connection, "quick") == 200
                answers[i] += 1

    with ThreadPoolExecutor(clients) as pool:
        for one in [pool.submit(keep_busy, i) for i in range(clients)]:
            one.result()
    assert min(answers) > total / clients / 10


def test_clients_that_never_end_their_request_hold_no_thread_for_ever(server: Gunicorn) -> None:
    address = ("127.0.0.1", server.port)
    with ExitStack() as open_ones:
        stuck = [open_ones.enter_context(socket.create_connection(address, 2 * SECONDS)) for _ in range(2 * ALL)]
        for one in stuck:
            one.sendall(b"GET /half/1 HTTP/1.1\r\nHost: lo")
        assert server.ask("whole") == 200
        assert [one.recv(1) for one in stuck] == [b""] * len(stuck), "they were hung up on"
    assert "Traceback" not in server.log


def test_a_stop_lets_what_is_under_way_end_and_takes_nothing_new(server: Gunicorn, pool: ThreadPoolExecutor) -> None:
    busy = [pool.submit(server.ask, f"busy-{i}", 2) for i in range(ALL)]
    server.until(lambda: all(server.under_way(f"busy-{i}") for i in range(ALL)))
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: "Handling signal: term" in server.log)
    for i in range(ALL):
        (server.folder / f"busy-{i}" / "go").touch()
    assert [one.result() for one in busy] == [200] * ALL
    assert server.process.wait(SECONDS) == 0
    with pytest.raises(ConnectionRefusedError):
        server.ask("new")


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Gunicorn]:
    with Gunicorn(tmp_path, answer_seconds=1.0) as running:
        yield running


def test_when_every_thread_is_stuck_each_client_gets_a_503_and_the_service_answers_again(
    impatient: Gunicorn, pool: ThreadPoolExecutor
) -> None:
    def stuck(_: int) -> tuple[int, Any, Any]:
        with closing(impatient.connection()) as connection:
            connection.request("GET", "/stuck/99?token=secret")
            response = connection.getresponse()
            return response.status, json.loads(response.read()), response.headers

    for status, problem, headers in pool.map(stuck, range(ALL)):
        assert (status, headers["Content-Type"]) == (503, "application/problem+json")
        assert (headers["Retry-After"], headers["Connection"]) == ("1", "close")
        assert problem["request_id"] == headers["X-Request-ID"]
        assert f"request {problem['request_id']} is stuck" in impatient.log
        assert "took more than 1 s" in problem["detail"]
    assert impatient.ask("after") == 200
    assert "GET '/stuck/99'" in impatient.log
    assert "secret" not in impatient.log


def test_who_waits_for_a_thread_behind_stuck_ones_is_told_too(impatient: Gunicorn, pool: ThreadPoolExecutor) -> None:
    with ExitStack() as open_ones:
        kept = [open_ones.enter_context(closing(impatient.connection())) for _ in range(2 * ALL)]
        assert [answered(one, "before") for one in kept] == [200] * len(kept)
        assert set(pool.map(lambda one: answered(one, "stuck", 99), kept)) == {503}
    assert impatient.ask("after") == 200


def test_a_stuck_request_takes_no_other_one_along(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with Gunicorn(tmp_path, answer_seconds=4.0) as server:
        stuck = pool.submit(server.ask, "stuck", 99)
        server.until(lambda: server.under_way("stuck") == 1)
        time.sleep(2.0)
        others = [pool.submit(server.ask, f"other-{i}", 99) for i in range(ALL - 1)]
        assert stuck.result() == 503
        for i in range(ALL - 1):
            (server.folder / f"other-{i}" / "go").touch()
        assert [one.result() for one in others] == [200] * (ALL - 1)
        server.until(lambda: server.log.count("Booting worker") == WORKERS + 1)
        assert server.ask("after") == 200


def test_a_client_that_does_not_read_its_answer_is_hung_up_on_and_costs_no_worker(impatient: Gunicorn) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), SECONDS) as connection:
        connection.sendall(b"GET /endless/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        impatient.until(lambda: "is hung up on" in impatient.log)
        assert impatient.ask("after") == 200
        time.sleep(0.5)
    assert "is given up" not in impatient.log
    assert impatient.log.count("Booting worker") == WORKERS


def test_an_answer_in_pieces_may_take_long_as_a_whole(impatient: Gunicorn) -> None:
    with closing(impatient.connection()) as connection:
        connection.request("GET", "/endless/1")
        response = connection.getresponse()
        ends = time.monotonic() + 2.5
        while time.monotonic() < ends:
            assert len(response.read(1_000_000)) == 1_000_000
    assert "hung up on" not in impatient.log


def test_an_answer_that_gets_stuck_within_is_cut_and_its_worker_replaced(impatient: Gunicorn) -> None:
    with closing(impatient.connection()) as connection:
        connection.request("GET", "/torn/1")
        response = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    impatient.until(lambda: impatient.log.count("Booting worker") == WORKERS + 1)
    assert "is stuck within its answer" in impatient.log
    assert impatient.ask("after") == 200


def test_a_body_that_comes_slowly_is_waited_for(impatient: Gunicorn) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), SECONDS) as connection:
        connection.sendall(b"POST /read/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
        for _ in range(3):
            time.sleep(0.7)
            connection.sendall(b"x")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_clients_that_trickle_a_body_hold_no_thread_for_ever(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, body_seconds=0.5) as server, ExitStack() as open_ones:
        address = ("127.0.0.1", server.port)
        slow = [open_ones.enter_context(socket.create_connection(address, 2 * SECONDS)) for _ in range(2 * ALL)]
        for one, framing in zip(slow, ALL * (b"Content-Length: 9000", b"Transfer-Encoding: chunked"), strict=True):
            one.sendall(b"POST /read/1 HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
        ended = threading.Event()

        def trickle() -> None:
            while not ended.wait(0.05):
                for one in slow:
                    with suppress(OSError):  # that one was hung up on
                        one.sendall(b"1")

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            assert server.ask("whole") == 200
        finally:
            ended.set()
            sender.join()
        assert server.log.count("its body comes too slowly: POST '/read/1'") >= 1


def test_more_connections_than_a_worker_may_open_files_for_cost_no_worker(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, files=64) as server, ExitStack() as open_ones:
        address = ("127.0.0.1", server.port)
        for _ in range(3 * 64):
            one = open_ones.enter_context(socket.create_connection(address, 2 * SECONDS))
            one.sendall(b"GET /kept/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        open_ones.close()
        assert server.ask("after") == 200
        assert server.log.count("Booting worker") == WORKERS, server.log


def test_a_stop_is_not_held_up_by_what_is_stuck(impatient: Gunicorn, pool: ThreadPoolExecutor) -> None:
    stuck = pool.submit(impatient.ask, "stuck", 99)
    impatient.until(lambda: impatient.under_way("stuck") == 1)
    impatient.process.send_signal(signal.SIGTERM)
    assert stuck.result() == 503
    assert impatient.process.wait(SECONDS) == 0


def test_what_is_there_at_the_start_is_never_searched_for_garbage(server: Gunicorn) -> None:
    with closing(server.connection()) as connection:
        connection.request("GET", "/frozen/1")
        assert int(connection.getresponse().headers["X-Frozen"]) > 10_000


def test_no_more_connections_are_held_open_than_gunicorn_is_told(tmp_path: Path) -> None:
    from gunicorn.config import Config

    from reviewapp.worker import FairWorker

    config = Config()
    config.set("threads", 2)
    config.set("worker_connections", 5)
    worker = FairWorker(0, 0, [], None, 0, config, None)
    try:
        assert worker.worker_connections == 2
        worker.keepalived_conns.extend(range(2))
        worker.pending_conns.append(0)
        assert worker.worker_connections == 5
        worker.keepalived_conns.extend(range(10))
        assert worker.worker_connections == 5
    finally:
        worker.tmp.close()


def test_what_is_no_request_is_refused_as_a_problem_that_repeats_nothing_of_it(server: Gunicorn) -> None:
    for head, status, kind in (
        (b"GET / evil", 400, "bad-request"),
        (b"GET /1/1 HTTP/1.1\r\nevil : 1", 400, "bad-request"),
        (b"GET /" + b"evil" * 3000 + b" HTTP/1.1", 414, "address-too-long"),
        (b"GET /1/1 HTTP/1.1\r\nX-A: " + b"evil" * 3000, 431, "headers-too-large"),
        (b"POST /1/1 HTTP/1.1\r\nTransfer-Encoding: evil", 501, "bad-request"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
            connection.sendall(head + b"\r\n\r\n")
            answer = b""
            with suppress(ConnectionResetError):
                while chunk := connection.recv(65536):
                    answer += chunk
        said, _, body = answer.partition(b"\r\n\r\n")
        assert said.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Content-Type: application/problem+json" in said
        assert (json.loads(body)["status"], json.loads(body)["type"]) == (status, f"/problems/{kind}")
        assert b"evil" not in answer


def test_large_pieces_of_memory_go_back_to_the_system_once_they_are_freed() -> None:
    """glibc takes the second one from a heap, for the first was freed; what is mapped is in no heap."""
    program = """
import ctypes, sys
from reviewapp.worker import LARGE, return_large_pieces
if sys.argv[1] == "returned":
    return_large_pieces()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(ctypes.c_size_t(16 * LARGE)))
kept = ctypes.string_at(libc.malloc(ctypes.c_size_t(8 * LARGE)) - 8, 8)  # the size of the piece; bit 1: it is mapped
print(bool(kept[0] & 2))
"""
    mapped = [
        subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True).stdout.strip()
        for how in ("as it is", "returned")
    ]
    assert mapped == ["False", "True"]
