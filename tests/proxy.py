"""The shipped nginx configuration on loopback, before the real service: only its ports, paths and name are put in."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from reviewapp.contract import Contract
from reviewapp.evidence.running import START_SECONDS, free_port

from .service import Service

SHIPPED = Path(__file__).resolve().parent.parent / "deploy" / "nginx"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
MARKS = [  # CI installs it, and fails where a test was skipped
    pytest.mark.server,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed here; `apt install nginx-light` brings it"),
]
PATIENCE = 300.0  # a bound, not a promise: on a machine under load a restart takes long, and callers wait through it
MAIN = """{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/reviewapp.conf;
}}
"""


def put_in(text: str, values: dict[str, str]) -> str:
    """Replace each value of the shipped file, which must be there."""
    for old, new in values.items():
        assert old in text, f"{old} is no longer in the shipped file"
        text = text.replace(old, new)
    return text


# What systemd does with a socket: it is descriptor 3, and the process is told that it is meant.
_HAND_OVER = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "reviewapp", "serve"])"""


class Proxied(Service):
    """The service as it is deployed: the shipped nginx before it, and its Unix socket held by another, as by systemd.

    `port` and `call` are nginx's, and `direct` is the socket. `prefix` is the sub-path that it lies under, if any.
    Where it is not `answered`, there is nginx alone, and the held socket.
    """

    def __init__(
        self,
        instance: Path,
        contract: Contract | None = None,
        *,
        prefix: str = "",
        answered: bool = True,
        **settings: str,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="reviewapp-nginx-"))  # short: the path of a socket may be 107 bytes
        self.direct = self.folder / "app.sock"
        self.prefix, self.answered = prefix, answered
        super().__init__(instance, contract, REVIEWAPP_BIND=f"unix:{self.direct}", REVIEWAPP_PROXIES="1", **settings)
        self.metrics_port = free_port()

    def __enter__(self) -> Proxied:
        self.held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.held.bind(str(self.direct))
        self.held.listen(4096)  # as in reviewapp.socket
        self._start_nginx()
        try:
            if self.answered:
                self.start()
            else:
                self._wait_for_nginx()
        except BaseException:
            self._end_nginx()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.answered:
            self.stop()
        self._end_nginx()

    def _end_nginx(self) -> None:
        self.nginx.terminate()
        self.nginx.wait(20)
        self.held.close()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        self.launch()
        try:
            self._wait(self.log)
        except BaseException:  # an interrupt, too, must not leave it behind
            self.stop()
            raise

    def launch(self) -> None:
        """Start the service; whoever calls meanwhile waits in the socket's queue."""
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _HAND_OVER, str(self.held.fileno())],
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=[self.held.fileno()],
            )

    @property
    def log(self) -> Path:
        return self.instance.parent / f"{self.instance.name}.log"

    def _start_nginx(self) -> None:
        shutil.copytree(SHIPPED / "reviewapp", self.folder / "reviewapp", dirs_exist_ok=True)
        values = {
            "unix:/run/reviewapp/reviewapp.sock": f"unix:{self.direct}",
            "listen 80 ": f"listen 127.0.0.1:{self.port} ",
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "127.0.0.1:8001": f"127.0.0.1:{self.metrics_port}",
            "triage.example.org": "127.0.0.1",
            "/var/log/nginx/access.log": str(self.folder / "access.log"),
        }
        if self.prefix:
            values['set $reviewapp_prefix "";'] = f'set $reviewapp_prefix "{self.prefix}";'
            values["include reviewapp/locations.conf;"] = "include reviewapp/locations-subpath.conf;"
        proxy = self.folder / "reviewapp" / "proxy.conf"
        proxy.write_text(put_in(proxy.read_text(), {"proxy_read_timeout 60s": f"proxy_read_timeout {PATIENCE:.0f}s"}))
        site = put_in((SHIPPED / "reviewapp.conf").read_text(), values)
        (self.folder / "reviewapp.conf").write_text(site)
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not read the folder
        (self.folder / "nginx.conf").write_text(MAIN.format(user=user, folder=self.folder))
        with (self.folder / "nginx.log").open("w") as out:
            self.nginx = subprocess.Popen(
                [str(NGINX), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")],
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def _wait_for_nginx(self) -> None:
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            assert self.nginx.poll() is None, self.nginx_log
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError(self.nginx_log)

    def _wait(self, log: Path) -> None:
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends and self.process.poll() is None:
            assert self.nginx.poll() is None, self.nginx_log
            self.output = log.read_text()
            if "reviewapp answers on" in self.output and self._ready():
                return
            time.sleep(0.05)
        raise AssertionError(f"The service did not start:\n{self.output}\n{self.nginx_log}")

    def _ready(self) -> bool:
        try:
            return self.call("GET", f"{self.prefix}/readyz", fresh=True)[0] == 200
        except OSError:
            return False

    def _connection(self, fresh: bool) -> http.client.HTTPConnection:
        connection = super()._connection(fresh)
        connection.timeout = PATIENCE
        if connection.sock is not None:
            connection.sock.settimeout(PATIENCE)
        return connection

    def logged(self, line: str) -> str:
        """Return nginx's log of requests once it has the line, which it writes after it has answered."""
        ends = time.monotonic() + PATIENCE
        while line not in (log := (self.folder / "access.log").read_text()):
            assert time.monotonic() < ends, log
            time.sleep(0.01)
        return log

    @property
    def nginx_log(self) -> str:
        """What nginx said of itself."""
        return "".join(path.read_text() for path in (self.folder / "nginx.log", self.folder / "error.log"))
