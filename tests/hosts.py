"""Several hosts, each with an instance of its own on a loopback address, behind the shipped nginx; and callers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reviewapp.evidence.running import START_SECONDS, free_port

from .proxy import MAIN, NGINX, SHIPPED, put_in
from .service import Service

PREDICT = "/api/v1/predictions"
PATIENCE = 60.0  # a bound, not a promise
UPSTREAM = r'upstream: "http://([^/]+)/'  # in nginx's log of errors
PAUSE = 0.05  # seconds between the requests of a caller: the hosts and their proxy share the cores of one machine


class Host(Service):
    """A service on an address of its own (127.0.0.2), all of whose processes can be killed at once."""

    def __init__(self, address: str, instance: Path, **settings: str) -> None:
        super().__init__(instance, None, **settings)
        self.address = address
        self.environment["REVIEWAPP_BIND"] = f"{address}:{self.port}"
        self.environment["REVIEWAPP_HOSTS"] = f"127.0.0.1,{address}"

    @property
    def server(self) -> str:
        return f"{self.address}:{self.port}"

    def launch(self, **how: Any) -> subprocess.Popen[bytes]:
        return super().launch(start_new_session=True, **how)

    def _connection(self, fresh: bool) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, self.port, timeout=PATIENCE)

    def lose(self) -> tuple[float, float]:
        """Kill the whole process group, as a lost machine does; return when that began and when nothing was left."""
        self.hang_up()
        pids, began = self.workers(), time.monotonic()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        ends = time.monotonic() + PATIENCE
        while any(map(_runs, pids)):
            assert time.monotonic() < ends
            time.sleep(0.002)
        return began, time.monotonic()


def _runs(pid: int) -> bool:
    """Whether a process has its sockets still; one that is only waited for has not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Deaf:
    """A host that reads requests, and hangs up on them or says that it is not ready; `heard` has their methods."""

    def __init__(self, *, hangs_up: bool) -> None:
        heard: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                heard.append(self.command)
                self.close_connection = True
                if not hangs_up:
                    self.send_response(503)
                    self.send_header("Content-Type", "application/problem+json")
                    self.send_header("Content-Length", "2")
                    self.send_header("Connection", "close")  # else the proxy may use it again just as it is closed
                    self.end_headers()
                    self.wfile.write(b"{}")

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.heard, self._answering = heard, ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server = f"127.0.0.1:{self._answering.server_port}"

    def __enter__(self) -> Deaf:
        self._thread = threading.Thread(target=self._answering.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._answering.shutdown()
        self._thread.join()
        self._answering.server_close()


class Balancer:
    """The shipped nginx before several hosts."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="reviewapp-hosts-"))
        self.port = free_port()

    def __enter__(self) -> Balancer:
        shutil.copytree(SHIPPED / "reviewapp", self.folder / "reviewapp", dirs_exist_ok=True)
        values = {
            "    server unix:/run/reviewapp/reviewapp.sock fail_timeout=0;\n": "",
            "# include reviewapp/hosts.conf;": "include reviewapp/hosts.conf;",
            "listen 80 ": f"listen 127.0.0.1:{self.port} ",
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "127.0.0.1:8001": f"127.0.0.1:{free_port()}",
            "triage.example.org": "127.0.0.1",
            "/var/log/nginx/access.log": str(self.folder / "access.log"),
        }
        (self.folder / "reviewapp.conf").write_text(put_in((SHIPPED / "reviewapp.conf").read_text(), values))
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(MAIN.format(user=user, folder=self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        self.nginx.terminate()
        self.nginx.wait(20)
        shutil.rmtree(self.folder)

    def hand_on_to(self, *hosts: Host | Deaf | SimpleNamespace) -> None:
        """Write the hosts into the shipped file and start nginx, or let it read the file again."""
        lines = [line for line in (SHIPPED / "reviewapp" / "hosts.conf").read_text().splitlines() if line]
        [pattern, other] = [line for line in lines if line.startswith("server ")]
        kept = [line for line in lines if line not in (pattern, other)]
        kept += [put_in(pattern, {"10.0.0.11:8000": host.server}) for host in hosts]
        (self.folder / "reviewapp" / "hosts.conf").write_text("\n".join(kept) + "\n")
        if hasattr(self, "nginx"):
            self.nginx.send_signal(signal.SIGHUP)
            return
        with (self.folder / "nginx.log").open("w") as out:
            words = [str(NGINX), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
            self.nginx = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            assert self.nginx.poll() is None, self.log
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError(self.log)

    @property
    def log(self) -> str:
        paths = [self.folder / "nginx.log", self.folder / "error.log"]
        return "".join(path.read_text() for path in paths if path.exists())

    def broken(self) -> list[tuple[str, str]]:
        """Return of each request that broke off at a host which host that was, and why, as the proxy tells it."""
        return [(server, line) for line in self.log.splitlines() for server in re.findall(UPSTREAM, line)]

    def call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        """Return status and JSON of one request on a connection of its own, which no reload of nginx hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class Sent:
    """One request and what came of it; `key` is its Idempotency-Key, `reference` its own name. Times are monotonic."""

    reference: str
    key: str | None
    began: float
    ended: float
    status: int  # 0: no answer at all
    answer: Any


@dataclass
class Callers:
    """Callers who ask again and again; who sends a key sends it again until there is an answer."""

    proxy: Balancer
    token: str
    example: dict[str, Any]
    count: int = 6
    sent: list[Sent] = field(default_factory=list)

    def __enter__(self) -> Callers:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(number,)) for number in range(self.count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def wait(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        wanted, ends = len(self.answered) + more, time.monotonic() + PATIENCE
        while len(self.answered) < wanted:
            assert time.monotonic() < ends, self.sent[-5:]
            time.sleep(0.01)

    @property
    def answered(self) -> list[Sent]:
        return [one for one in self.sent if one.status == 201]

    @property
    def failed(self) -> list[Sent]:
        return [one for one in self.sent if one.status != 201]

    def _go_on(self, number: int) -> None:
        made = 0
        while not self._over.is_set():
            made += 1
            reference = f"{number}-{made}"
            key = f"key-{reference}" if made % 2 else None
            while self._send(reference, key) != 201 and key is not None:
                pass
            self._over.wait(PAUSE)

    def _send(self, reference: str, key: str | None) -> int:
        headers = {"Authorization": f"Bearer {self.token}", **({"Idempotency-Key": key} if key else {})}
        began = time.monotonic()
        try:
            status, answer = self.proxy.call("POST", PREDICT, {"input": self.example, "reference": reference}, headers)
        except (OSError, http.client.HTTPException) as error:
            status, answer = 0, repr(error)
        self.sent.append(Sent(reference, key, began, time.monotonic(), status, answer))
        return status
