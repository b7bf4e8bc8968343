"""What the worker's loop does with requests that take too long, look by look; test_worker.py has it under gunicorn."""

import errno
import gc
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import TConn, ThreadWorker

from reviewapp import worker as module
from reviewapp.access_log import AccessLog
from reviewapp.counters import OTHER, Counters
from reviewapp.metering import Meter, note
from reviewapp.stages import begin, clock
from reviewapp.worker import FairWorker

REQUEST = b"GET /slow?token=secret HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Left(BaseException):
    """Raised where the process would end."""


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda text, *values, **_: self.lines.append(" ".join([f"{name}: {text}", *map(str, values)]))


class Held:
    """A connection of which only the socket matters."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock


class Pieces(list[bytes]):
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(module.os, "_exit", leave)
    config = Config()
    config.set("threads", 2)
    made: Any = FairWorker(0, 0, [], SimpleNamespace(wsgi=lambda: made.ask), 0, config, Log())
    made.ask = ok
    made.load_wsgi()
    gc.unfreeze()
    made.murder_pending()  # the first look
    yield made
    made.tmp.close()


def ok(environ: Any, start: Any) -> list[bytes]:
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection and the worker's."""
    client, served = socket.socketpair()
    client.settimeout(5)
    with client, served:
        yield client, served


def connection(worker: Any, served: socket.socket) -> TConn:
    return TConn(worker.cfg, served, ("127.0.0.1", 1), ("127.0.0.1", 2))


def look(worker: Any, monkeypatch: pytest.MonkeyPatch, later: float = 0.0) -> None:
    """Have the loop look, after a time that does not pass."""
    now = time.monotonic()
    worker._looked = now + later - module.LOOK_SECONDS
    monkeypatch.setattr(module.time, "monotonic", lambda: now + later)
    try:
        worker.murder_pending()
    finally:
        monkeypatch.setattr(module.time, "monotonic", REAL)


REAL = time.monotonic


def asked(worker: Any, served: socket.socket) -> Any:
    found = module._Asked({"REQUEST_METHOD": "GET", "PATH_INFO": "/slow"}, time.monotonic())
    worker._under_way[served] = found
    worker.nr_conns += 1
    return found


def test_a_request_that_is_answered_leaves_nothing_behind(worker: Any, ends: Any) -> None:
    client, served = ends
    client.sendall(REQUEST)
    assert worker.handle(connection(worker, served)) is True, worker.log.lines
    assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert (worker._under_way, worker._heads, worker._queued) == ({}, {}, set())


@pytest.mark.parametrize("made", [Pieces([b"late"]), [b"late"]])
def test_an_answer_that_comes_after_all_is_not_sent_behind_the_503(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    client, served = ends
    worker.nr_conns = 2

    def slow(environ: Any, start: Any) -> Any:
        look(worker, monkeypatch, later=31)
        start("200 OK", [("Content-Length", "4")])
        return made

    worker._app = slow
    client.sendall(REQUEST)
    assert worker.handle(connection(worker, served)) is False
    answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"late" not in answer + client.recv(65536)
    assert getattr(made, "closed", True)
    assert not worker.alive
    assert not any("secret" in line for line in worker.log.lines)
    assert worker._under_way == {}


def test_a_request_that_is_given_up_counts_once_as_failed_and_no_longer_as_under_way(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client, served = ends
    worker.nr_conns = 2
    counters = Counters(tmp_path)
    counters.lay_out([("/slow", "GET")])
    worker._meter = meter = Meter(counters, AccessLog("off", counters.dropped))

    def slow(environ: Any, start: Any) -> Any:
        begin()
        look(worker, monkeypatch, later=31)
        start("200 OK", [("Content-Length", "4")])
        note(environ, ("/slow", 200, clock(), None, False))
        return [b"late"]

    worker._app = meter.wrap(slow)
    client.sendall(REQUEST)
    worker.handle(connection(worker, served))
    found = counters.totals()
    assert found.requests == {(OTHER, OTHER, "503"): 1}
    assert (found.served.requests, found.served.failures, found.in_flight) == (1, 1, 0)
    counters.close()


def test_a_worker_leaves_once_the_others_have_ended_or_had_their_time(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = asked(worker, ends[1])
    worker.nr_conns += 1
    look(worker, monkeypatch, later=29)
    assert worker.alive
    look(worker, monkeypatch, later=31)
    assert (worker.alive, stuck.given_up) == (False, True)
    look(worker, monkeypatch, later=33)
    with pytest.raises(Left):
        look(worker, monkeypatch, later=31 + module.LEAVE_SECONDS + 1)
    worker.nr_conns -= 1
    with pytest.raises(Left):
        look(worker, monkeypatch, later=34)


def test_who_waits_for_a_thread_is_told_when_all_are_stuck(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, served = socket.socketpair()
    worker.tpool = SimpleNamespace(submit=lambda *given: Future())
    worker.enqueue_req(Held(served))
    gone, other = socket.socketpair()
    gone.close()
    asked(worker, ends[1])
    asked(worker, other)
    worker.nr_conns = 9
    with client, served, other:
        with pytest.raises(Left):
            look(worker, monkeypatch, later=31)
        assert client.recv(65536).startswith(b"HTTP/1.1 503")
    assert ends[0].recv(65536).startswith(b"HTTP/1.1 503")


def test_a_worker_that_stood_still_blames_no_request(worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = asked(worker, ends[1])
    worker.nr_conns += 1
    stuck.since = worker._looked = time.monotonic() - 100
    worker.murder_pending()
    assert (worker.alive, stuck.given_up) == (True, False)
    worker.murder_pending()  # too soon for another look
    look(worker, monkeypatch, later=31)
    assert stuck.given_up


def test_an_answer_that_is_being_sent_is_hung_up_on_first(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = asked(worker, ends[1])
    worker.nr_conns += 1
    assert stuck.turn.acquire(blocking=False)
    stuck.response = SimpleNamespace(sent=10)
    look(worker, monkeypatch, later=31)  # there was something new to see
    assert not stuck.hung_up
    look(worker, monkeypatch, later=62)
    assert (stuck.hung_up, stuck.given_up, worker.alive) == (True, False, True)
    assert ends[0].recv(1) == b""
    look(worker, monkeypatch, later=62 + module.HUNG_UP_SECONDS)
    assert (stuck.given_up, worker.alive) == (True, False)
    look(worker, monkeypatch, later=63 + module.HUNG_UP_SECONDS)
    assert sum("stuck within its answer" in line for line in worker.log.lines) == 1


def test_who_reads_a_body_is_not_stuck(worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = asked(worker, ends[1])
    ends[1].settimeout(10)
    look(worker, monkeypatch, later=31)
    ends[1].settimeout(None)
    look(worker, monkeypatch, later=60)
    assert not reading.given_up


def test_a_body_has_its_time_and_more_the_more_of_it_came(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, served = ends
    reading = asked(worker, served)
    reading.environ[module.BODY_READ] = 10 * module.BODY_RATE
    assert not reading.reads_too_long(served, time.monotonic() + 999, 0.0), "no body is waited for"
    served.settimeout(10)
    look(worker, monkeypatch, later=module.BODY_SECONDS + 9)
    assert not reading.cut
    for later in (11, 12):
        look(worker, monkeypatch, later=module.BODY_SECONDS + later)
    assert reading.cut
    assert served.recv(1) == b""
    assert sum("its body comes too slowly" in line for line in worker.log.lines) == 1
    served.sendall(b"an answer")
    assert client.recv(9) == b"an answer"
    assert worker.alive


def test_the_rest_of_a_body_that_came_too_slowly_is_not_read_as_a_request(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, served = ends

    def reads(environ: Any, start: Any) -> list[bytes]:
        served.settimeout(10)
        look(worker, monkeypatch, later=module.BODY_SECONDS + 1)
        body = environ["wsgi.input"].read()
        served.settimeout(None)
        start("400 Bad Request", [("Content-Length", str(len(body)))])
        return [body]

    worker._app = reads
    client.sendall(b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nbody")
    assert worker.handle(connection(worker, served)) is False
    answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Connection: close" in answer
    assert answer.endswith(b"body")


def test_where_no_descriptor_is_left_a_worker_takes_nothing_new_for_a_moment(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENFILE, "Too many open files in system")]

    def accept() -> Any:
        raise failing.pop(0)

    listener = SimpleNamespace(accept=accept)
    worker.accept(listener)
    worker.accept(listener)
    assert worker.worker_connections == 0
    assert [line for line in worker.log.lines if "no new connection" in line] == [
        "warning: no new connection can be taken for now: %s; see `ulimit -n` Too many open files"
    ]
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.FULL_SECONDS)
    assert worker.worker_connections == 2
    failing.append(OSError(errno.EINVAL, "no listener"))
    with pytest.raises(OSError, match="no listener"):
        worker.accept(listener)


@pytest.mark.parametrize(("files", "most"), [(1024, 824), (8192, 1000), (100, 3), (resource.RLIM_INFINITY, 1000)])
def test_a_worker_leaves_descriptors_for_all_that_is_no_connection(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: (files, files))
    config = Config()
    config.set("threads", 2)
    made: Any = FairWorker(0, 0, [], None, 0, config, Log())
    made.tmp.close()
    made.keepalived_conns.extend(range(2000))
    assert (made.worker_connections, made.max_keepalived) == (most, most - 2)


def test_a_head_that_does_not_come_is_the_end_of_its_connection(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker._heads[Held(ends[1])] = time.monotonic() + 1
    look(worker, monkeypatch)
    look(worker, monkeypatch, later=2)
    assert ends[1].recv(1) == b""


def test_a_process_whose_threads_do_not_end_ends_all_the_same(
    worker: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ThreadWorker, "run", lambda self: None)
    worker.run()
    asked(worker, ends[1])
    with pytest.raises(Left):
        worker.run()


def test_the_loop_looks_more_often_while_something_is_under_way(worker: Any, ends: Any) -> None:
    waited = []
    worker.poller = SimpleNamespace(select=lambda timeout: waited.append(timeout) or [])
    worker.wait_for_and_dispatch_events(1.0)
    asked(worker, ends[1])
    worker.wait_for_and_dispatch_events(1.0)
    worker.wait_for_and_dispatch_events(0.1)
    assert waited == [1.0, module.LOOK_SECONDS, 0.1]


def test_a_request_keeps_the_id_that_the_app_gave_it() -> None:
    named = module._Asked({module.REQUEST_ID: "r-1"}, 0.0)
    unnamed = module._Asked({}, 0.0)
    assert (named.id, unnamed.id) == ("r-1", unnamed.id)
