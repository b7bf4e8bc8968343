"""`python -m bench.scale`: what a recorded prediction costs, and what follows from it for many machines.

`measure` writes the costs on this machine to `scale_costs.json`; `tables` prints what docs/scale.md says of them, of
which the last one is simulated, because a queue before one turn to write is beyond arithmetic.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sqlalchemy import text

from reviewapp.adapter import ModelAdapter
from reviewapp.errors import ReviewappError
from reviewapp.ledger import TOGETHER, Ledger
from reviewapp.postgres import CONNECTIONS
from reviewapp.prediction import Call, Prediction, new_id, utcnow
from reviewapp.registry import Registry
from reviewapp.release import read
from reviewapp.store import Store

from .load import chosen
from .releases import TRIAGE, Served, of_this_code, served
from .running import ROOT, Server, running

COSTS = Path(__file__).with_name("scale_costs.json")
RATES = (1_000, 10_000, 100_000)  # requests a second
BUSY = 0.6  # the share of a core that is planned to be used: above it, queues grow faster than the load
CORES = 8  # of a machine that is planned with
BATCHES = (1, 64)  # rows of a commit, measured
COMMITS = 60
DAY = 86_400
TICKS = os.sysconf("SC_CLK_TCK")
SLOW_COMMIT = 0.003  # seconds that one takes where the disk, or a network to the database, is slower than here


@dataclass(frozen=True)
class Costs:
    """What one recorded prediction costs on one kind of database; seconds, bytes.

    A commit of n rows takes `commit` + n * `row` while one has the turn to write.
    """

    database: str
    cpu: float  # of a worker, for a request
    cpu_database: float  # of the database's processes, for a row
    bytes: float  # that a row takes, with its indexes
    log: float  # bytes of the database's own log, for a row in commits of 16
    commit: float
    row: float

    @property
    def most(self) -> float:
        """Rows a second in one chain, where each commit is as full as it may be."""
        return TOGETHER / (self.commit + TOGETHER * self.row)


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(url: str | None, seconds: float, cache: Path) -> list[Costs]:
    """Return what it costs with SQLite and, where an empty database of it is named, with PostgreSQL."""
    release = served(of_this_code(cache), (), rows=300, batch=20, told=lambda what: None)[TRIAGE]
    return [_costs(release, one, seconds) for one in ([None] if url is None else [None, url])]


def _costs(release: Served, url: str | None, seconds: float) -> Costs:
    with tempfile.TemporaryDirectory(prefix="scale-") as scratch:
        copied = release.copied(Path(scratch) / "instance")
        address = url or f"sqlite:///{copied.instance / 'reviewapp.sqlite3'}"
        store, loaded = Store(address), read(copied.release)
        if url is not None:
            Registry(copied.release.parent.parent, store, ModelAdapter).add(loaded, "bench")
        made = ModelAdapter(loaded).predict(copied.records(), Call(client="bench", request_id="bench"))
        commit, row = _line([(n, _commit(store, made, n)) for n in BATCHES])
        before, log, rows = _size(store), _log(store), 2000
        ledger = Ledger(store)
        for some in _batches(made, 16, rows // 16):
            ledger.add_predictions(some, Call())
        size, logged = (_size(store) - before) / rows, (_log(store) - log) / rows
        cpu, cpu_database = _cpu(copied, store, address, seconds)
        store.close()
    return Costs("SQLite" if url is None else "PostgreSQL", cpu, cpu_database, size, logged, commit, row)


def _batches(made: Sequence[Prediction], n: int, count: int) -> Iterator[list[Prediction]]:
    """Yield so many batches of n predictions, each with an id of its own."""
    numbers = (number % len(made) for number in range(n * count))
    for _ in range(count):
        yield [replace(made[next(numbers)], id=new_id(utcnow())) for _ in range(n)]


def _commit(store: Store, made: Sequence[Prediction], n: int) -> float:
    """Return the median of the seconds that a commit of n rows takes."""
    ledger, took = Ledger(store), []
    for some in _batches(made, n, COMMITS):
        began = time.perf_counter()
        ledger.add_predictions(some, Call())
        took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2]


def _line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return where a line begins that goes through the first and the last point, and how it rises."""
    (few, fast), (many, slow) = points[0], points[-1]
    rises = (slow - fast) / (many - few)
    return fast - few * rises, rises


def _size(store: Store) -> int:
    with store.writing() as connection:  # all that was recorded is in the file
        connection.execute(text("SELECT 1"))
    if store.is_file:
        store.tidy()
    return store.size()


def _log(store: Store) -> float:
    """Return how much the log of a server has had, bytes; that of SQLite has all pages that were written, 0 here."""
    if store.is_file:
        return 0.0
    with store.reading() as connection:
        return float(connection.scalar(text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")) or 0)


def _cpu(release: Served, store: Store, address: str, seconds: float) -> tuple[float, float]:
    """Return the seconds of a core that one request takes of the workers, and of the server of the database."""
    command = ["reviewapp", "serve"]
    server = Server(
        "reviewapp", command, "/api/v1/predictions", release, release.instance, 2, REVIEWAPP_DATABASE_URL=address
    )
    with running(server):
        server.load(chosen(None), 16, 1)
        workers, behind = _children(server), _backends(store)
        before = _spent(workers), _spent(behind)
        n = server.load(chosen(None), 16, seconds).n
        return (_spent(workers) - before[0]) / n, (_spent(behind) - before[1]) / n


def _children(server: Server) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]


def _backends(store: Store) -> list[int]:
    if store.is_file:
        return []
    with store.reading() as connection:
        return list(connection.scalars(text("SELECT pid FROM pg_stat_activity WHERE application_name = 'reviewapp'")))


def _spent(pids: Sequence[int]) -> float:
    """Return the seconds of a core that processes of this machine have had."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS


# ---- one turn to write ----------------------------------------------------------------------------------------------


def simulate(costs: Costs, rate: float, workers: int, requests: int = 15_000, seed: int = 10) -> tuple[float, float]:
    """Return the 99th percentile of the seconds that recording takes, and the share of time that somebody writes.

    Requests come at random (Poisson), each to one of the workers. A worker that has some asks for the turn, which is
    given in the order in which it was asked for; what it takes along is what had come to it when it asked, TOGETHER at
    most; what comes meanwhile waits for its next turn. Infinite where the queue only grows.
    """
    seconds = max(requests / rate, 2.0)
    rng = random.Random(seed)  # noqa: S311 (no secret)
    waiting: list[deque[float]] = [deque() for _ in range(workers)]
    turns: deque[tuple[int, list[float]]] = deque()  # who asked, and when each of what it takes along came
    asked = [False] * workers
    arrival, busy = rng.expovariate(rate), 0.0
    took: list[float] = []
    ends: list[tuple[float, int, list[float]]] = []  # the commit under way

    def ask(worker: int) -> None:
        if waiting[worker] and not asked[worker]:
            asked[worker] = True
            n = min(len(waiting[worker]), TOGETHER)
            turns.append((worker, [waiting[worker].popleft() for _ in range(n)]))

    while min(arrival, ends[0][0] if ends else math.inf) < seconds:
        if ends and ends[0][0] <= arrival:
            now, worker, came = ends.pop()
            took += [now - one for one in came]
            asked[worker] = False
            ask(worker)
        else:
            now, arrival = arrival, arrival + rng.expovariate(rate)
            worker = rng.randrange(workers)
            waiting[worker].append(now)
            ask(worker)
        if turns and not ends:
            worker, came = turns.popleft()
            lasts = costs.commit + costs.row * len(came)
            busy += lasts
            ends.append((now + lasts, worker, came))
    left = sum(map(len, waiting)) + sum(len(came) for _, came in turns)
    if left > rate * 0.5:  # half a second's worth
        return math.inf, 1.0
    return sorted(took)[int(0.99 * len(took))], min(1.0, busy / seconds)


# ---- what follows ---------------------------------------------------------------------------------------------------


def tables(costs: Sequence[Costs]) -> str:
    """Return the tables of docs/scale.md, as Markdown."""
    last = costs[-1]
    slower = replace(last, database=f"{last.database}, {SLOW_COMMIT * 1000:.0f} ms a commit", commit=SLOW_COMMIT)
    shown = (_costs_table(costs), _hosts_table(last), _chains_table(last), _chains_table(slower))
    return "\n\n".join("\n".join(table) for table in shown) + "\n"


def _costs_table(costs: Sequence[Costs]) -> Iterator[str]:
    yield from _head("what one recorded prediction costs", *(one.database for one in costs))
    rows = {
        "core of a worker, for a request": [f"{one.cpu * 1000:.2f} ms" for one in costs],
        "core of the database's server, for a row": [f"{one.cpu_database * 1000:.2f} ms" for one in costs],
        "bytes of the ledger, with its indexes": [f"{one.bytes:,.0f}" for one in costs],
        "bytes of the server's log, 16 rows a commit": [f"{one.log:,.0f}" if one.log else "" for one in costs],
        "a commit, while one has the turn": [
            f"{one.commit * 1000:.2f} ms + {one.row * 1000:.3f} ms a row" for one in costs
        ],
        f"most rows a second in one chain, {TOGETHER} a commit": [f"{one.most:,.0f}" for one in costs],
    }
    for name, figures in rows.items():
        yield _row(name, *figures)


def _hosts_table(costs: Costs) -> Iterator[str]:
    yield from _head(f"{costs.database}, requests/s", *(f"{rate:,}" for rate in RATES))
    hosts = [_hosts(costs, rate) for rate in RATES]
    yield _row("cores that answer", *(f"{rate * costs.cpu:,.1f}" for rate in RATES))
    yield _row(f"machines of {CORES} cores, {BUSY:.0%} busy, and one more", *(f"{n:,}" for n in hosts))
    yield _row("cores of the database's server", *(f"{rate * costs.cpu_database:,.1f}" for rate in RATES))
    yield _row("ledger a day", *(f"{rate * costs.bytes * DAY / 1e9:,.0f} GB" for rate in RATES))
    yield _row("log of the server", *(f"{rate * costs.log / 1e6:,.0f} MB/s" for rate in RATES))
    yield _row("connections at most", *(f"{n * CORES * CONNECTIONS:,}" for n in hosts))
    yield _row("chains that are needed at 60 % of the most", *(f"{rate / (BUSY * costs.most):,.1f}" for rate in RATES))


def _chains_table(costs: Costs) -> Iterator[str]:
    """How long recording takes where a load is shared out to several ledgers, each with workers of its own."""
    chains = (1, 2, 4, 8, 16, 32)
    yield from _head(f"{costs.database}: p99 of recording, with so many ledgers", *map(str, chains))
    for rate in RATES:
        figures = []
        for n in chains:
            workers = max(1, math.ceil((_hosts(costs, rate) - 1) * CORES / n))
            p99, busy = simulate(costs, rate / n, workers)
            figures.append("grows" if math.isinf(p99) else f"{p99 * 1000:,.0f} ms, {busy:.0%} busy")
        yield _row(f"{rate:,} requests/s", *figures)


def _hosts(costs: Costs, rate: float) -> int:
    return math.ceil(rate * costs.cpu / (CORES * BUSY)) + 1


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield _row("---", *["---:"] * (len(cells) - 1))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def read_costs() -> list[Costs]:
    """Return the costs that were measured last."""
    return [Costs(**one) for one in json.loads(COSTS.read_text())["costs"]]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="What many machines would need.")
    parser.add_argument("what", choices=("measure", "tables"))
    parser.add_argument("--database", metavar="URL", help="an empty database of PostgreSQL, which is filled")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load (8)")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench", help="where what is served is kept")
    given = parser.parse_args(words)
    try:
        if given.what == "measure":
            machine = {"cores": os.cpu_count(), "python": platform.python_version()}
            found = [asdict(one) for one in measure(given.database, given.seconds, given.cache)]
            COSTS.write_text(json.dumps({"machine": machine, "costs": found}, indent=1) + "\n")
    except ReviewappError as error:
        print(f"scale: {error.detail}", file=sys.stderr)
        return 1
    print(tables(read_costs()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
