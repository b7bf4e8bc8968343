"""What is in memory when workers are forked, and what a reload takes, for both ways to start the service."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reviewapp.evidence.running import START_SECONDS
from reviewapp.release import Release

from .service import Service

pytestmark = pytest.mark.server
ROOT = Path(__file__).parent.parent
COMMANDS = {"reviewapp serve": ["-m", "reviewapp", "serve"], "gunicorn wsgi:app": ["-m", "gunicorn", "wsgi:app"]}
THREADS = 2
OWN = 2  # threads: one does the rounds, one writes the log of requests

# Settings are read by the master before it forks and by each worker: a settings file can tell what is there by then.
TELLS = """
import json, os, pathlib, sys, threadpoolctl
told = {
    "libraries": [name for name in ("numpy", "pandas", "sklearn", "skops.io") if name in sys.modules],
    "numeric threads": [pool["num_threads"] for pool in threadpoolctl.threadpool_info()],
}
pathlib.Path(__file__).with_name(f"told-{os.getpid()}.json").write_text(json.dumps(told))
"""


class Started(Service):
    """The service, started by a given command, on a machine whose own settings ask for many numeric threads."""

    def __init__(self, instance: Path, command: list[str], **settings: str) -> None:
        many = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "4")
        super().__init__(instance, REVIEWAPP_THREADS=str(THREADS), **many, **settings)
        self._command = [sys.executable, *command]

    def start(self) -> None:
        log = self.instance.parent / "log"
        with log.open("w") as out:
            self.process = self.launch(stdout=out, stderr=subprocess.STDOUT)
        self.wait(self.is_ready)

    def launch(self, **how: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self.environment, cwd=ROOT, **how)

    def is_ready(self) -> bool:
        return self._ready() and len(self.told()) == 3

    def wait(self, done: Any) -> None:
        ends = time.monotonic() + START_SECONDS
        while not done():
            assert time.monotonic() < ends and self.process.poll() is None, (self.instance.parent / "log").read_text()
            time.sleep(0.05)

    def told(self) -> dict[int, dict[str, Any]]:
        """What the master and the workers told of themselves, by their pid."""
        files = self.instance.glob("told-*.json")
        return {int(path.stem.split("-")[1]): json.loads(text) for path in files if (text := path.read_text())}


@pytest.fixture(scope="module", params=list(COMMANDS))
def started(
    request: Any, tmp_path_factory: pytest.TempPathFactory, stocked: Callable[[Path], Path]
) -> Iterator[Started]:
    service = Started(stocked(tmp_path_factory.mktemp("started") / "instance"), COMMANDS[request.param])
    (service.instance / "config.py").write_text(TELLS)
    with service:
        yield service


@pytest.fixture(scope="module")
def ask(started: Started, release: Release) -> Any:
    token = started.command("token", "create", "a", "--role", "submit").stdout.strip()
    body, headers = {"input": release.golden[0].input}, {"Authorization": f"Bearer {token}"}
    return lambda: started.call("POST", "/api/v1/predictions", body, headers, fresh=True)[0]


def threads_of(pid: int) -> int:
    """How many threads a process has, without pyarrow's memory manager, which minds a fork by itself."""
    names = [(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()]
    return len([name for name in names if name != "jemalloc_bg_thd"])


def test_libraries_are_in_memory_before_the_fork_and_no_thread_is(started: Started) -> None:
    assert started.told()[started.process.pid]["libraries"] == ["numpy", "pandas", "sklearn", "skops.io"]
    assert threads_of(started.process.pid) == 1


def test_a_worker_has_one_numeric_thread_whatever_the_machine_asks_for(started: Started, ask: Any) -> None:
    assert [ask() for _ in range(8)] == [201] * 8
    for pid in started.workers():
        numeric = started.told()[pid]["numeric threads"]
        assert numeric and set(numeric) == {1}
        assert threads_of(pid) <= 1 + THREADS + OWN


def check_cores(started: Started) -> None:
    cores = os.sched_getaffinity(started.process.pid)
    kept = [os.sched_getaffinity(pid) for pid in started.workers()]
    if len(cores) > len(kept):
        assert kept == [cores] * len(kept)
    else:
        assert [len(one) for one in kept] == [1] * len(kept)
        assert set().union(*kept) == cores


def test_where_there_is_a_worker_for_each_core_each_keeps_to_one(started: Started) -> None:
    check_cores(started)


def test_a_reload_takes_changed_settings_and_a_worker_that_was_killed_too(started: Started, ask: Any) -> None:
    assert ask() == 201
    (started.instance / "config.py").write_text("MAX_BODY = 60")
    first = started.workers()
    started.process.send_signal(signal.SIGHUP)
    started.wait(lambda: len(started.workers()) == 2 and not set(first) & set(started.workers()))
    assert {ask() for _ in range(8)} == {413}
    (started.instance / "config.py").write_text("")
    for pid in (second := started.workers()):
        os.kill(pid, signal.SIGKILL)
    started.wait(lambda: len(started.workers()) == 2 and not set(second) & set(started.workers()))
    assert {ask() for _ in range(8)} == {201}
    check_cores(started)


class Updated(Started):
    """The service on a release that is not proved yet, with less time for a request than a proof takes."""

    def __init__(self, instance: Path, command: list[str]) -> None:
        # One worker: each that is replaced begins a proof, and on few cores the proofs of more hold each other up.
        super().__init__(instance, command, REVIEWAPP_TIMEOUT="1", REVIEWAPP_WORKERS="1")

    def is_ready(self) -> bool:
        return self._ready()


@pytest.mark.parametrize("command", list(COMMANDS))
def test_after_an_update_it_answers_in_the_end_also_where_a_proof_takes_longer_than_a_request_may(
    command: str, tmp_path: Path, release: Release, releases_root: Path, live_database: Path
) -> None:
    instance = tmp_path / "instance"
    shutil.copytree(releases_root / str(release.id), instance / "releases" / str(release.id))
    shutil.copy(live_database, instance / "reviewapp.sqlite3")
    service = Updated(instance, COMMANDS[command])
    body, headers = {"input": release.golden[0].input}, {"Authorization": f"Bearer {service.token('a', 'submit')}"}

    def answers() -> bool:
        try:
            return service.call("POST", "/api/v1/predictions", body, headers, fresh=True)[0] == 201
        except OSError:  # a worker was given up
            return False

    with service:
        service.wait(answers)
