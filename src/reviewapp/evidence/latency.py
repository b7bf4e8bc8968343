"""Trial: how long an answer takes, and where the time goes.

Closed loop: so many connections, each asks again as soon as it is answered; it tells the throughput. Open loop:
requests arrive at a constant rate whether or not the former ones are answered, and the time counts from the moment a
request was due, not from when it could be sent, so a slow moment cannot hide behind the requests it held up
(coordinated omission: Tene, "How NOT to measure latency"). The rates are shares of what the closed loop of the same run
reached: near to or above that a queue grows for as long as one looks, and its length says nothing of the service. The
load comes from the same machine and shares its cores.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..stages import STAGES
from .outcomes import PREDICT
from .running import KEPT_SECONDS, TEST, Trial
from .tables import EXACT, FREE, TIMING, Column, Row, Table, key

ROWS = 100  # of a batch
CONNECTIONS = (1, 8, 32)
SHARES = (20, 40, 60)  # % of the capacity: the most answers a second that the closed loop reached
PAYLOADS = {"single": "one request", "batch": f"a batch of {ROWS}"}
SENDERS = 64  # of the open loop: more requests than this under way at once and the loop is no longer open
WARM_UP = 0.5  # seconds before each run that are not measured
FACTOR = 30.0  # timings of two runs may differ by this: a commit took 0.1 and 4 ms on one shared disk


@dataclass
class _Run:
    """What one run of the load saw: seconds of each request, failures, the stages as the service told them."""

    taken: list[float] = field(default_factory=list)
    errors: int = 0
    stages: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


class Sender:
    """One kept-alive connection that sends the bodies in turn; one that rested too long is opened anew."""

    def __init__(self, trial: Trial, path: str, bodies: Sequence[bytes], first: int) -> None:
        self._port, self._path, self._bodies, self._next = trial.service.port, path, bodies, first
        self._headers = {**trial.headers["submit"], "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        self._used = 0.0
        self.answer = b""  # the last one

    def send(self) -> tuple[bool, str]:
        """Send one request; return whether it was answered with 2xx, and where its time went."""
        body = self._bodies[self._next % len(self._bodies)]
        self._next += 1
        if time.monotonic() - self._used > KEPT_SECONDS:
            self.close()
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            self.answer = response.read()
            return 200 <= response.status < 300, response.headers.get("Server-Timing", "")
        except (OSError, http.client.HTTPException):
            self.close()
            return False, ""
        finally:
            self._used = time.monotonic()

    def close(self) -> None:
        self._connection.close()


def latency(trial: Trial, progress: Callable[[], None] = lambda: None) -> list[Table]:
    """Return percentiles of each run of the load, and where the time of a request goes."""
    rows: list[Row] = []
    stages: list[Row] = []
    for payload, (path, bodies) in _payloads(trial).items():
        most = 0.0
        for connections in CONNECTIONS:
            run = _closed(trial, path, bodies, connections)
            rows.append(_row("closed", payload, f"{connections} connection{'s' * (connections > 1)}", run))
            most = max(most, rows[-1]["per_second"])
            if connections == 1:
                stages += _stages(payload, run)
            progress()
        for share in SHARES:
            rate = max(1.0, most * share / 100)
            rows.append(_row("open", payload, f"{share} % of capacity", _open(trial, path, bodies, rate)))
            progress()
    return [_latency_table(rows), _stages_table(stages)]


RUNS = len(PAYLOADS) * (len(CONNECTIONS) + len(SHARES))


def _payloads(trial: Trial) -> Mapping[str, tuple[str, list[bytes]]]:
    records = [dict(example.record) for example in trial.examples[TEST]]
    whole = records * math.ceil(ROWS / len(records))  # a small table fills a batch more than once
    batches = [whole[i : i + ROWS] for i in range(0, len(whole) - ROWS + 1, ROWS)]
    return {
        "single": (PREDICT, [json.dumps({"input": record}).encode() for record in records]),
        "batch": (f"{PREDICT}/batch", [json.dumps({"inputs": batch}).encode() for batch in batches]),
    }


def _closed(trial: Trial, path: str, bodies: Sequence[bytes], connections: int) -> _Run:
    """Ask again and again over `connections` connections."""
    runs = [_Run() for _ in range(connections)]
    started = time.perf_counter() + WARM_UP
    ends = started + trial.seconds

    def loop(number: int) -> None:
        sender, run = Sender(trial, path, bodies, number * 97), runs[number]
        while (sent := time.perf_counter()) < ends:
            _note(run, sender.send(), sent, measured=sent >= started)
        sender.close()

    _together([partial(loop, number) for number in range(connections)])
    whole = _Run(seconds=trial.seconds)
    for run in runs:
        whole.taken += run.taken
        whole.stages += run.stages
        whole.errors += run.errors
    return whole


def _open(trial: Trial, path: str, bodies: Sequence[bytes], rate: float) -> _Run:
    """Send at a constant rate; a request's time counts from when it was due."""
    first = time.perf_counter() + 0.05
    warm, n = int(rate * WARM_UP), int(rate * (WARM_UP + trial.seconds))
    lock, run, due = threading.Lock(), _Run(seconds=trial.seconds), iter(range(n))

    idle = [Sender(trial, path, bodies, number * 97) for number in range(SENDERS)]

    def loop() -> None:
        while True:
            with lock:
                turn = next(due, None)
            if turn is None:
                break
            at = first + turn / rate
            time.sleep(max(0.0, at - time.perf_counter()))
            with lock:
                sender = idle.pop()  # the one used last, so that few connections do the work and stay open
            answer = sender.send()
            with lock:
                idle.append(sender)
                _note(run, answer, at, measured=turn >= warm)

    _together([loop] * SENDERS)
    for sender in idle:
        sender.close()
    return run


def _note(run: _Run, answer: tuple[bool, str], since: float, *, measured: bool) -> None:
    right, timing = answer
    if not measured:
        return
    if right:
        run.taken.append(time.perf_counter() - since)
        run.stages.append({name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", timing)})
    else:
        run.errors += 1


def _together(loops: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=loop) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _row(loop: str, payload: str, load: str, run: _Run) -> dict[str, Any]:
    p50, p95, p99 = (np.percentile(run.taken, (50, 95, 99)) * 1000).tolist() if run.taken else (None,) * 3
    return {
        "payload": payload,
        "load": load,
        "loop": loop,
        "n": len(run.taken),
        "errors": run.errors,
        "per_second": len(run.taken) / run.seconds,
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "max": max(run.taken) * 1000 if run.taken else None,
    }


def _latency_table(rows: Sequence[Row]) -> Table:
    columns = [
        key("payload", "Payload"),
        key("loop", "Loop"),
        key("load", "Load"),
        Column("n", "Answers", "d", FREE),
        Column("errors", "Errors", "d", EXACT),
        Column("per_second", "Answers a second", ".1f", TIMING),
        Column("p50", "p50 (ms)", ".1f", TIMING),
        Column("p95", "p95 (ms)", ".1f", TIMING),
        Column("p99", "p99 (ms)", ".1f", FREE),
        Column("max", "Longest (ms)", ".1f", FREE),
    ]
    reading = (
        "Closed loop: each connection asks as soon as it is answered; the most answers a second are the capacity. "
        "Open loop: constant arrivals at a share of that, timed from when a request was due. Every answer is "
        f"recorded. Single: one request; batch: {ROWS} in one call. Warm-up left out."
    )
    return Table("latency", "Latency over HTTP, load on the same cores", reading, columns, rows)


def _stages(payload: str, run: _Run) -> list[Row]:
    if not run.taken:
        return []
    means = {name: float(np.mean([told.get(name, 0.0) for told in run.stages])) for name in (*STAGES, "total")}
    means["the rest of the application"] = means["total"] - sum(means[name] for name in STAGES)
    means["outside of it (gunicorn, sockets, client)"] = 1000 * float(np.mean(run.taken)) - means.pop("total")
    whole = sum(means.values())
    return [{"payload": payload, "stage": name, "mean": mean, "share": mean / whole} for name, mean in means.items()]


def _stages_table(rows: Sequence[Row]) -> Table:
    columns = [
        key("payload", "Payload"),
        key("stage", "Stage"),
        Column("mean", "Mean (ms)", ".3f", FREE),
        Column("share", "Share", ".1%", FREE),
    ]
    reading = "Means over one connection, as the service tells them in Server-Timing; record is a durable commit."
    return Table("stages", "Where the time of a request goes", reading, columns, rows)
