"""The real service as tests drive it: every answer checked against its OpenAPI document, killed, read and restarted."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from reviewapp.accounts import Accounts
from reviewapp.config import load_settings
from reviewapp.contract import Contract
from reviewapp.evidence.running import RunningService
from reviewapp.store import Store

from .conformance import check_answer


class Service(RunningService):
    """The service with two workers, whatever the machine has; as a context it is started and stopped."""

    def __init__(self, instance: Path, contract: Contract | None = None, **settings: str) -> None:
        super().__init__(instance, **{"REVIEWAPP_WORKERS": "2", **settings})
        self.contract = contract

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "reviewapp", *words]
        return subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True)

    def token(self, name: str, role: str) -> str:
        """Return a new token, made in this process: the command (test_server.py) takes seconds to be loaded."""
        store = Store(load_settings({}, self.environment).database_url)
        try:
            return Accounts(store).create_token(name, role)
        finally:
            store.close()

    @cached_property
    def reviewer(self) -> str:
        """The token of ann, who may review."""
        return self.token("ann", "review")

    def check(self, method: str, path: str, response: http.client.HTTPResponse, content: bytes) -> None:
        if self.contract is not None and path.startswith("/api/"):
            plain, content_type = path.split("?", maxsplit=1)[0], response.headers["Content-Type"]
            check_answer(self.contract, method, plain, response.status, content_type, content)

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
        [body] = [value for flag, value in given if flag in ("-d", "--data-binary")]
        return {"path": url.split(str(self.port), 1)[1], "headers": headers, "body": body.encode()}
