"""A server of the bench: started, asked and stopped. All run in gunicorn with the settings that the service ships."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reviewapp.evidence.running import free_port

from .load import LoadFailed, Report, load
from .releases import Served

ROOT = Path(__file__).resolve().parent.parent
TOKEN = re.compile(r"Authorization: Bearer ([\w-]+)")
START_SECONDS = 60.0  # a bound, not a goal
OURS, EMPTY, BY_HAND = "reviewapp", "(a) empty route", "(b) by hand"


class Server:
    """A command that listens on `port`, and where to POST the requests for a release."""

    def __init__(
        self, name: str, command: list[str], path: str, release: Served, folder: Path, workers: int, **more: str
    ) -> None:
        self.name, self.path, self.release, self.port = name, path, release, free_port()
        self.token = ""
        self._command = [sys.executable, "-m", *command]
        self._log = folder.parent / f"{folder.name}.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REVIEWAPP_")},
            "REVIEWAPP_INSTANCE": str(folder),
            "REVIEWAPP_BIND": f"127.0.0.1:{self.port}",
            "REVIEWAPP_WORKERS": str(workers),
            **more,
        }
        self._first = release.bodies.read_bytes().split(b"\n", 1)[0]

    @classmethod
    def ours(cls, release: Served, folder: Path, workers: int, name: str = OURS) -> Server:
        """The service on an instance folder that exists already: a copy of the release's."""
        return cls(name, ["reviewapp", "serve"], "/api/v1/predictions", release, folder, workers)

    @classmethod
    def other(cls, name: str, module: str, release: Served, folder: Path, workers: int) -> Server:
        """A module of `servers`, told by BENCH_RELEASE which release it serves."""
        folder.mkdir()
        command = ["gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), f"bench.servers.{module}:app"]
        return cls(name, command, "/predict", release, folder, workers, BENCH_RELEASE=str(release.release))

    def start(self) -> None:
        self._started = time.perf_counter()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> float:
        """Wait for the first good answer; return how many seconds after the start it came."""
        while time.perf_counter() - self._started < START_SECONDS and self._process.poll() is None:
            printed = TOKEN.search(self._log.read_text())  # which the service prints for a first try
            self.token = printed[1] if printed else ""
            try:
                self.ask(self._first)
            except (OSError, http.client.HTTPException, LoadFailed):
                time.sleep(0.01)
            else:
                return time.perf_counter() - self._started
        raise LoadFailed(f"{self.name} did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(40)

    def ask(self, body: bytes, path: str = "") -> Any:
        """Return the JSON of the answer to one request; raise LoadFailed where it is none of 2xx."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        try:
            connection.request("POST", path or self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise LoadFailed(f"{self.name} answered {response.status}: {content[:500]!r}")
        return json.loads(content)

    def load(self, generator: str, connections: int, seconds: float) -> Report:
        return load(
            generator, self.port, self.path, self.release.bodies, self.token, connections=connections, seconds=seconds
        )

    def load_batches(self, seconds: float, least: int) -> Report:
        """Batches over one connection, by the client of our own: it waits for the last one, however long it takes."""
        path = f"{self.path}/batch"
        args = "python", self.port, path, self.release.batch, self.token
        return load(*args, connections=1, seconds=seconds, least=least)

    @property
    def pid(self) -> int:
        """The process that was started: the master of the workers."""
        return self._process.pid

    def private_memory(self) -> list[float]:
        """Return the private memory of each worker, MiB, in the order in which they were started."""
        pid = self.pid
        workers = sorted(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        found = [Path(f"/proc/{worker}/smaps_rollup").read_text() for worker in workers]
        return [sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", one, re.M))) / 1024 for one in found]


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Keep the servers running for the block."""
    started: list[Server] = []
    try:
        for server in servers:
            server.start()
            started.append(server)
        for server in servers:
            server.wait()
        yield
    finally:
        for server in started:
            server.stop()


def check_alike(ours: Server, other: Server, requests: int) -> None:
    """Raise LoadFailed where another server of the same release gives other probabilities: it would do other work."""
    for body in ours.release.bodies.read_bytes().splitlines()[:requests]:
        mine, theirs = ours.ask(body)["output"]["probabilities"], other.ask(body)["probabilities"]
        if mine.keys() != theirs.keys() or any(abs(mine[label] - theirs[label]) > 1e-9 for label in mine):
            raise LoadFailed(f"{other.name} answers {theirs} where {ours.name} answers {mine} ({ours.release.name}).")
