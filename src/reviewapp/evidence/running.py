"""The service under trial: `reviewapp serve` with the shipped configuration, in a process and a folder of its own."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..adapter import ModelAdapter
from ..errors import NotReady
from ..release import Release
from .examples import Example

START_SECONDS = 60.0  # a bound, not a promise: a machine under load builds and starts slowly
KEPT_SECONDS = 2.0  # an idle connection is used again within this; the service hangs up after 5

CALIBRATE, TEST = "calibrate", "test"  # parts of the labelled requests

Answer = tuple[int, Any, dict[str, str]]


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


class RunningService:
    """Starts and stops the service on a free loopback port; `call` speaks HTTP with it.

    Settings of the environment do not reach it, only those given here (`REVIEWAPP_WORKERS="2"`).
    """

    def __init__(self, instance: Path, **settings: str) -> None:
        self.instance, self.port = instance, free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REVIEWAPP_")},
            "REVIEWAPP_INSTANCE": str(instance),
            "REVIEWAPP_BIND": f"127.0.0.1:{self.port}",
            **settings,
        }
        self.output = ""
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []

    def start(self) -> None:
        """Start it and wait until it is ready; raise NotReady with what it printed where that does not happen."""
        log = self.instance.parent / f"{self.instance.name}.log"
        with log.open("w") as out:
            self.process = self.launch(stdout=out, stderr=subprocess.STDOUT)
        try:
            self._wait(log)
        except BaseException:  # an interrupt, too, must not leave it behind
            self.stop()
            raise

    def launch(self, **how: Any) -> subprocess.Popen[bytes]:
        """Start the process; where another way to start it is tried, this is what differs."""
        return subprocess.Popen([sys.executable, "-m", "reviewapp", "serve"], env=self.environment, **how)

    def _wait(self, log: Path) -> None:
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends and self.process.poll() is None:
            self.output = log.read_text()
            if "curl" in self.output and self._ready():
                return
            time.sleep(0.05)
        raise NotReady(f"The service did not start:\n{log.read_text()}")

    def _ready(self) -> bool:
        try:
            return self.call("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def stop(self) -> int:
        """End the service as an operator does; return its exit code."""
        self.hang_up()
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(40)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, fresh: bool = False
    ) -> Answer:
        """Return status, parsed body and headers; a connection is kept alive for the next call unless it is fresh.

        A body that is no bytes is sent as JSON. Raises OSError where no whole answer came.
        """
        connection = self._connection(fresh)
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise OSError(str(error)) from error
        if fresh:
            connection.close()
        else:
            self._idle.append((connection, time.monotonic()))
        self.check(method, path, response, content)
        parsed = json.loads(content) if "json" in response.headers.get("Content-Type", "") else content.decode()
        return response.status, parsed, dict(response.headers)

    def check(self, method: str, path: str, response: http.client.HTTPResponse, content: bytes) -> None:
        """Called with every answer; here nothing is checked."""

    def _connection(self, fresh: bool) -> http.client.HTTPConnection:
        while not fresh and self._idle:
            connection, used = self._idle.pop()
            if time.monotonic() - used < KEPT_SECONDS:
                return connection
            connection.close()
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def hang_up(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is compared: a release, its adapter, labelled requests by part, and the seed of all that is drawn.

    The part `calibrate` is what probabilities, intervals and threshold were chosen on; the others only test.
    """

    release: Release
    adapter: ModelAdapter
    examples: Mapping[str, Sequence[Example]]
    seed: int

    @property
    def tested(self) -> list[str]:
        """The parts that the options are compared on."""
        return [part for part in self.examples if part != CALIBRATE]


@dataclass(frozen=True, kw_only=True)
class Trial(Subject):
    """The same behind the service that answers with it.

    `headers` sign a request in, by role; `memo` holds the files that people write for the evidence; `seconds` is how
    long one run of the load takes.
    """

    service: RunningService
    headers: Mapping[str, Mapping[str, str]]
    memo: Path
    quick: bool

    @property
    def seconds(self) -> float:
        return 1.5 if self.quick else 12.0
