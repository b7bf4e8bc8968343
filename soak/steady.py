"""Row 12: under mixed traffic and moves of the live release no worker grows, and every answer counts once.

The memory of a worker is what it shares with nobody (`Private_*` of smaps_rollup). Its growth is the slope of a line by
least squares through it against the requests that all workers have answered by then, of which each has about an equal
share: every request has a connection of its own, since one that is kept stays with its worker. The first part is left
out: threads begin, their connections to the ledger open, both releases are loaded.
"""

from __future__ import annotations

import csv
import io
import random
import re
import statistics
import sys
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from pysqlite3 import dbapi2
from tests.service import Service

from reviewapp.triage.generator import generate

from .figures import Figure, all_of, below, none
from .instances import served, signed_in

SEEDS = (12,)
SECONDS, MOVES = 900.0, 100
CLIENTS = 16  # as many as two workers have threads
SHORT_SECONDS, SHORT_MOVES = 8.0, 2
WARM_UP = 0.34  # the part of the time that is left out
GROWTH = 1.0  # MB for each 10,000 requests that a worker answered
# The short form shows that figures are taken. In its few hundred requests each worker still loads a release for the
# first time, which is tens of MB; only what would fill a machine at once is told from that.
SHORT_GROWTH = 100.0  # MB, in all
SAMPLES = 120  # of each worker in all
HELD, SHORT_HELD = 3, 20  # descriptors or threads: a few come and go with connections; a leak has no end
COUNTED_SECONDS = 60.0  # that a long ledger may take to be counted for /metrics
BATCH, FILE = 20, 50  # rows of a batch, of a file

KEPT = 500  # ids of predictions that may be judged
PAGES = ("/", "/history", "/queue", "/releases", "/monitor", "/contract")
PREDICT = "/api/v1/predictions"


@dataclass(frozen=True)
class Sample:
    """A worker at a time: how many requests all workers had answered by then, and what it holds."""

    answered: int
    megabytes: float
    descriptors: int
    threads: int


class Traffic:
    """Clients that ask for whatever comes next by lot, and count what was acknowledged."""

    def __init__(self, service: Service) -> None:
        self._service, self._headers = service, signed_in(service, "review")
        self._inputs = [example.record for example in generate(200, SEEDS[0])]
        self._lock = threading.Lock()
        self._ids: deque[str] = deque(maxlen=KEPT)
        self.answered = self.predictions = self.verdicts = 0
        self.wrong: Counter[str] = Counter()  # answers of another status than they should have
        self._asks = {self._predict: 30, self._batch: 1, self._bulk: 1, self._judge: 1, self._look: 4, self._err: 3}

    def run(self, number: int, ended: threading.Event) -> None:
        rng = random.Random(SEEDS[0] + number)
        while not ended.is_set():
            [ask] = rng.choices(list(self._asks), weights=list(self._asks.values()))
            ask(rng)

    def _predict(self, rng: random.Random) -> None:
        made = self._call(201, "POST", PREDICT, {"input": rng.choice(self._inputs)})
        if made is not None:
            self._count(1)
            self._ids.append(made["id"])

    def _batch(self, rng: random.Random) -> None:
        if self._call(200, "POST", f"{PREDICT}/batch", {"inputs": rng.sample(self._inputs, BATCH)}) is not None:
            self._count(BATCH)

    def _bulk(self, rng: random.Random) -> None:
        rows = rng.sample(self._inputs, FILE)
        file = io.StringIO()
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(
            {name: str(value).lower() if value is True or value is False else value for name, value in row.items()}
            for row in rows
        )
        answer = self._call(200, "POST", f"{PREDICT}/bulk", file.getvalue().encode(), {"Content-Type": "text/csv"})
        if answer is not None:
            self._count(sum(bool(line["prediction_id"]) for line in csv.DictReader(io.StringIO(answer))))

    def _judge(self, rng: random.Random) -> None:
        if self._ids:
            note = f"{rng.random()}"  # the same words again would be the verdict that is there
            path = f"{PREDICT}/{rng.choice(list(self._ids))}/verdict"
            if self._call(200, "PUT", path, {"verdict": "agree", "note": note}) is not None:
                with self._lock:
                    self.verdicts += 1

    def _look(self, rng: random.Random) -> None:
        path = rng.choice((*PAGES, f"{PREDICT}?limit=50", "/api/v1/monitor", "/api/v1/openapi.json"))
        self._call(200, "GET", path, None, {} if path.startswith("/api/") else {"Accept": "text/html"})

    def _err(self, rng: random.Random) -> None:
        self._call(422, "POST", PREDICT, {"input": {**rng.choice(self._inputs), "open_tickets": -1}})
        self._call(400, "POST", PREDICT, b"{")

    def _call(self, wanted: int, method: str, path: str, body: Any = None, more: dict[str, str] | None = None) -> Any:
        """Return the answer where it has the status that it should have, else None."""
        try:
            status, answer, _ = self._service.call(method, path, body, self._headers | (more or {}), fresh=True)
        except OSError as error:
            status, answer = 0, str(error)
        with self._lock:
            self.answered += 1
            if status != wanted:
                self.wrong[f"{method} {path.partition('?')[0]}: {status} {str(answer)[:300]}"] += 1
        return answer if status == wanted else None

    def _count(self, predictions: int) -> None:
        with self._lock:
            self.predictions += predictions


def run(folder: Path, *, full: bool) -> list[Figure]:
    seconds, moves = (SECONDS, MOVES) if full else (SHORT_SECONDS, SHORT_MOVES)
    with served(folder / "instance") as service:
        traffic, workers = Traffic(service), service.workers()
        ended = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as clients:
            working = [clients.submit(traffic.run, number, ended) for number in range(CLIENTS)]
            try:
                moved, samples = _watch(service, traffic, workers, seconds, moves)
            finally:
                ended.set()
            for one in working:
                one.result()
        survived = len({*workers} & {*service.workers()})
        counted = _counted(service)
        predictions, verdicts = _ledger(service.instance)
    print(*(f"{n} × {what}\n" for what, n in traffic.wrong.most_common(5)), sep="", end="", file=sys.stderr)
    return [
        all_of("moves of the live release meanwhile", moved, moves),
        none("answers of another status than was asked for", traffic.wrong.total()),
        all_of("workers that were there to the end", survived, len(workers)),
        *_growth(samples, full=full),
        Figure("predictions acknowledged and in the ledger", "equal", f"{traffic.predictions:,} and {predictions:,}",
               traffic.predictions == predictions > 0),
        Figure("verdicts acknowledged and in the ledger", "equal", f"{traffic.verdicts:,} and {verdicts:,}",
               traffic.verdicts == verdicts > 0),
        Figure("predictions that /metrics tells of and in the ledger", "equal", f"{counted:,} and {predictions:,}",
               counted == predictions),
    ]  # fmt: skip


def _watch(
    service: Service, traffic: Traffic, workers: list[int], seconds: float, moves: int
) -> tuple[int, dict[int, list[Sample]]]:
    """Move the live release again and again and take samples; return how often it moved, and what was seen."""
    admin, moved = signed_in(service, "admin"), 0
    samples: dict[int, list[Sample]] = {pid: [] for pid in workers}
    began, steps = time.monotonic(), max(SAMPLES, moves)
    for step in range(steps):
        if step * moves // steps > (step - 1) * moves // steps:
            there = "rollback" if moved % 2 else "2/promote"
            asked = {"reason": "a try"} | ({} if moved % 2 else {"breaking": True})
            moved += service.call("POST", f"/api/v1/releases/{there}", asked, admin)[0] == 200
        time.sleep(max(0.0, began + (step + 1) * seconds / steps - time.monotonic()))
        for pid, seen in samples.items():
            seen.append(_sample(pid, traffic.answered))
    return moved, samples


def _sample(pid: int, answered: int) -> Sample:
    process = Path(f"/proc/{pid}")
    rollup = (process / "smaps_rollup").read_text()
    kilobytes = sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))
    descriptors, threads = (sum(1 for _ in (process / name).iterdir()) for name in ("fd", "task"))
    return Sample(answered, kilobytes / 1024, descriptors, threads)


def _growth(samples: dict[int, list[Sample]], *, full: bool) -> list[Figure]:
    later = {pid: seen[round(WARM_UP * len(seen)) :] for pid, seen in samples.items()}
    if full:
        slopes = [_slope(seen, len(samples)) for seen in later.values()]
        memory = below(
            "growth of a worker after warm-up, for each 10,000 requests that it answers", max(slopes), GROWTH, "MB"
        )
    else:
        grown = max(seen[-1].megabytes - seen[0].megabytes for seen in later.values())
        memory = below("growth of a worker in so short a time", grown, SHORT_GROWTH, "MB", 1)
    held = {
        name: max(_last_against_first([getattr(one, name) for one in seen]) for seen in later.values())
        for name in ("descriptors", "threads")
    }
    more = HELD if full else SHORT_HELD
    return [
        memory,
        *(below(f"growth of the {name} of a worker", n, more, name, 0) for name, n in held.items()),
    ]


def _slope(seen: list[Sample], workers: int) -> float:
    """Return MB for each 10,000 requests of a worker."""
    requests = [one.answered / workers / 10_000 for one in seen]
    return statistics.linear_regression(requests, [one.megabytes for one in seen]).slope


def _last_against_first(counts: list[int]) -> float:
    third = max(1, len(counts) // 3)
    return statistics.median(counts[-third:]) - statistics.median(counts[:third])


def _counted(service: Service) -> int:
    """Return how many predictions /metrics tells of, once all are counted that are there."""
    ends = time.monotonic() + COUNTED_SECONDS
    while True:
        _, text, _ = service.call("GET", "/metrics")
        families = {family.name: family for family in text_string_to_metric_families(text)}
        if "reviewapp_predictions" in families:
            return round(sum(one.value for one in families["reviewapp_predictions"].samples))
        if time.monotonic() > ends:
            return 0
        time.sleep(1)  # the distance of two looks


def _ledger(instance: Path) -> tuple[int, int]:
    """Return how many predictions and verdicts there are."""
    connection = dbapi2.connect(f"file:{instance / 'reviewapp.sqlite3'}?mode=ro", uri=True)
    [found] = connection.execute("SELECT (SELECT count(*) FROM predictions), (SELECT count(*) FROM verdicts)")
    connection.close()
    predictions, verdicts = found
    return predictions, verdicts
