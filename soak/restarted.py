"""Row 4: everything is killed, and the service is stopped and reloaded as an operator does it, again and again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.service import Service

from .figures import Figure, all_of, below, none
from .instances import fresh
from .load import Load, whole

READY = 5.0
RETRIES = 100
PAUSE = 1.0  # seconds of load before each
HUNG = 120.0  # seconds after which a reload counts as never ending: a bound, not the figure
# What systemd does for a service with a .socket unit: descriptor 3 listens, and the two variables say so.
HANDED_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "reviewapp", "serve"])
"""


def held(instance: Path, listening: socket.socket) -> Service:
    """Return a service on a listening socket that is ours and stays open while the service is restarted."""
    service, number = Service(instance), listening.fileno()
    service.port = listening.getsockname()[1]
    service.environment["REVIEWAPP_BIND"] = f"127.0.0.1:{service.port}"

    def launch(**how: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HANDED_OVER, str(number)]
        return subprocess.Popen(command, env=service.environment, pass_fds=[number], **how)

    service.launch = launch
    return service


def run(folder: Path, *, full: bool) -> list[Figure]:
    times = 20 if full else 1
    with (
        socket.create_server(("127.0.0.1", 0), backlog=2048) as listening,
        held(fresh(folder / "instance"), listening) as service,
    ):
        return [
            *_figures("kill -9 of everything", service, _kill, times, retries=RETRIES),
            *_figures("TERM with the socket held", service, _stop, times, retries=0),
            *_figures("HUP", service, _reload, times, retries=0),
        ]


def _figures(
    how: str, service: Service, restart: Callable[[Service], float], times: int, *, retries: int
) -> list[Figure]:
    slowest = 0.0
    with Load(service, connections=16, retries=retries) as load:
        for _ in range(times):
            time.sleep(PAUSE)
            slowest = max(slowest, restart(service))
        time.sleep(PAUSE)
    kept = load.check()
    return [
        none(f"{how}: acknowledged and lost, of {kept.acknowledged:,}", kept.lost),
        none(f"{how}: recorded twice", kept.twice),
        none(f"{how}: failed, of {load.sent:,}" + (" with retries" if retries else ""), len(load.failed)),
        below(f"{how}: ready again, the slowest of {times}", slowest, READY, "s"),
        all_of(f"{how}: ledger whole", int(whole(service.instance / "reviewapp.sqlite3")), 1),
    ]


def _kill(service: Service) -> float:
    service.kill()
    return _started(service)


def _stop(service: Service) -> float:
    service.stop()
    return _started(service)


def _started(service: Service) -> float:
    began = time.monotonic()
    service.start()
    return time.monotonic() - began


def _reload(service: Service) -> float:
    """Return after which time none of the old workers is there and two new ones are; the service answers throughout."""
    began, old = time.monotonic(), set(service.workers())
    service.process.send_signal(signal.SIGHUP)
    while old & set(service.workers()) or len(service.workers()) < 2:
        if time.monotonic() - began > HUNG:
            raise TimeoutError(f"{HUNG:g} s after SIGHUP, workers of before it still run, or there are too few")
        time.sleep(0.02)  # from one look to the next
    service.call("GET", "/readyz", fresh=True)
    return time.monotonic() - began
