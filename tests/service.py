"""The real service in a process of its own: `reviewapp serve` on a free loopback port, driven over sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reviewapp.contract import Contract

from .conformance import check_answer

START_SECONDS = 60.0  # a bound, not a promise: a machine under load builds and starts slowly
KEPT_SECONDS = 2.0  # an idle connection is used again within this; the service hangs up after 5


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


class Service:
    """Starts and stops the service; `call` speaks HTTP and, given a contract, checks answers against its OpenAPI."""

    def __init__(self, instance: Path, contract: Contract | None = None, **settings: str) -> None:
        self.instance, self.contract, self.port = instance, contract, free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REVIEWAPP_")},
            "REVIEWAPP_INSTANCE": str(instance),
            "REVIEWAPP_BIND": f"127.0.0.1:{self.port}",
            "REVIEWAPP_WORKERS": "2",
            **settings,
        }
        self.output = ""
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reviewapp", *words], env=self.environment, capture_output=True, text=True
        )

    def start(self) -> None:
        log = self.instance.parent / f"{self.instance.name}.log"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reviewapp", "serve"], env=self.environment, stdout=out, stderr=subprocess.STDOUT
            )
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            self.output = log.read_text()
            if "curl" in self.output and self._answers():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the service did not start:\n{log.read_text()}")

    def _answers(self) -> bool:
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

    def kill(self) -> None:
        """Kill the master and every worker at once, as a lost machine does."""
        self.hang_up()
        for pid in [*self.workers(), self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    # ---- what was printed ---------------------------------------------------------------------------------------

    @property
    def link(self) -> str:
        [path] = re.findall(r"http://[^/]+(/sign-in\?link=\S+)", self.output)
        return str(path)

    @property
    def curl(self) -> dict[str, Any]:
        """What the printed curl line sends: path, headers and body."""
        [line] = re.findall(r"^\s*(curl .*)$", self.output, re.MULTILINE)
        return self.read_curl(line)

    def read_curl(self, line: str) -> dict[str, Any]:
        words = shlex.split(line)
        given = [(words[i], words[i + 1]) for i in range(len(words) - 1)]
        headers = dict(value.split(": ", 1) for flag, value in given if flag == "-H")
        [url] = [word for word in words if word.startswith("http://")]
        [body] = [value for flag, value in given if flag == "-d"]
        return {"path": url.split(str(self.port), 1)[1], "headers": headers, "body": body.encode()}

    # ---- HTTP ---------------------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, fresh: bool = False
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, parsed body and headers; a connection is kept alive for the next call unless it is fresh."""
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
        if self.contract is not None and path.startswith("/api/"):
            content_type = response.headers["Content-Type"]
            check_answer(self.contract, method, path.split("?", maxsplit=1)[0], response.status, content_type, content)
        parsed = json.loads(content) if "json" in response.headers.get("Content-Type", "") else content.decode()
        return response.status, parsed, dict(response.headers)

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
