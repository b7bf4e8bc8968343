"""Row 3: a worker is killed again and again under load, once with clients that ask once, once with those that retry."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.service import Service

from .figures import Figure, all_of, below, none
from .instances import served
from .load import Load

EVERY = 2.0  # seconds from one kill to the next
SETTLE = 0.02  # seconds in which whoever asks a worker that stands still has asked
GAP = 1.5
RETRIES = 20
ESTABLISHED = "01"


def run(folder: Path, *, full: bool) -> list[Figure]:
    with served(folder / "instance", REVIEWAPP_WORKERS="2") as service:
        kills, every = (30, EVERY) if full else (1, 0.5)
        return [
            figure
            for how, retries in (("asked once", 0), ("with retries", RETRIES))
            for figure in _figures(service, how, retries, kills, every)
        ]


def _figures(service: Service, how: str, retries: int, kills: int, every: float) -> list[Figure]:
    asked: list[int] = []  # by each kill: requests that the worker had
    replaced = 0
    chance = random.Random(3)
    with Load(service, connections=16, retries=retries) as load:
        moments = []
        for _ in range(kills):
            time.sleep(every)
            old = chance.choice(service.workers())
            os.kill(old, signal.SIGSTOP)
            time.sleep(SETTLE)
            asked.append(len(callers(old, service.port)))
            moments.append(time.monotonic())
            os.kill(old, signal.SIGKILL)
        time.sleep(every)
        replaced = len(service.workers())
    kept = load.check()
    ends = [*moments[1:], float("inf")]
    failed = [sum(a <= one.at < b for one in load.failed) for a, b in zip(moments, ends, strict=True)]
    beyond = sum(max(0, f - n) for f, n in zip(failed, asked, strict=True))
    beyond += sum(one.at < moments[0] for one in load.failed)
    figures = [
        none(f"{how}: acknowledged and lost, of {kept.acknowledged:,}", kept.lost),
        none(f"{how}: recorded twice", kept.twice),
        all_of(f"{how}: workers there after {kills:,} killed", replaced, 2),
        below(f"{how}: longest time without an answer to anybody", load.longest_gap(), GAP, "s"),
    ]
    if retries:
        return [*figures, none(f"{how}: failed, of {load.sent:,}", len(load.failed))]
    what = f"{how}: failed beyond what the killed worker had ({len(load.failed)} of {load.sent:,} failed in all)"
    return [*figures, none(what, beyond)]


def callers(pid: int, port: int) -> set[int]:
    """Return the ports of the clients whose connections a process holds; each has one request under way at most."""
    sockets = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        target = str(one.readlink())
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if state == ESTABLISHED and rest[5] in sockets and int(local.split(":")[1], 16) == port:
            found.add(int(remote.split(":")[1], 16))
    return found
