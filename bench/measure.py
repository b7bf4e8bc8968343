"""All runs. What is compared runs in turn, round by round, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reviewapp.config import NUMERIC_THREADS
from reviewapp.evidence.tables import Row

from . import ledger
from .load import LoadFailed, Report, told
from .releases import NARROW, TRIAGE, WIDE, Served
from .running import BY_HAND, EMPTY, OURS, Server, check_alike, running

MANY, ONE = 16, 1  # connections
MILLION, BARE, DISK = f"{OURS}, long ledger", "bare pipeline", "SQLite"
AT_MANY, AT_ONE, BATCH, COMMIT = f"{MANY} connections", f"{ONE} connection", "batch", "commit"
START = "start to first good answer (s)"
WARM_UP = 0.5  # seconds before each run that are left out
SETTLE = 1.5  # seconds of load after a start, so that every worker has loaded its model
LEAST_BATCHES = 3
SHORT = 0.5  # of the seconds of a run; bare calls and commits need no longer
TRIES = 20  # of a load that reaches every worker: which one takes a connection is the system's choice
ALIKE = 25  # requests that both must answer alike


def memory(workers: int) -> str:
    return f"private memory with {workers} workers (MiB)"


@dataclass
class Bench:
    """`long` is how many rows the long ledger has at least; `rows` fills up with one row a run.

    `columns` are two of the releases, with few columns and with many; the memory is measured with each of
    `memory_workers`, everything else with `workers`.
    """

    served: Mapping[str, Served]
    cache: Path
    scratch: Path
    rounds: int
    seconds: float
    generator: str
    batch: int
    long: int
    workers: int
    memory_workers: Sequence[int]
    columns: tuple[str, str]
    told: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)

    def everything(self) -> list[Row]:
        self._triage()
        for name in self.others():
            self._other(name)
        self._columns()
        self._processes()
        return self.rows

    def others(self) -> list[str]:
        """Return the releases that are only compared with (b)."""
        return [name for name in self.served if name not in (TRIAGE, NARROW.name, WIDE.name)]

    # ---- groups of servers ------------------------------------------------------------------------------------

    def _triage(self) -> None:
        release = self.served[TRIAGE]
        ours, million = self._ours(release), self._ours(release, long=True)
        empty, by_hand = (
            Server.other(name, module, release, self.scratch / module, self.workers)
            for name, module in ((EMPTY, "empty"), (BY_HAND, "by_hand"))
        )
        with running(ours, million, empty, by_hand):
            check_alike(ours, by_hand, ALIKE)
            self._settle(ours, million, empty, by_hand)
            for number in self._rounds(TRIAGE):
                for server in (million, ours, empty, by_hand):
                    self._load(number, server, MANY)
                for server in (ours, by_hand):
                    self._load(number, server, ONE)
                self._note(TRIAGE, OURS, BATCH, number, ours.load_batches(self.seconds, LEAST_BATCHES), self.batch)
                self._bare(number, release, self.batch, BATCH)
                command = ["-m", "bench.bare", "commit", str(self.scratch), str(self.seconds * SHORT)]
                self._note("", DISK, COMMIT, number, Report(**told([sys.executable, *command])))

    def _other(self, name: str) -> None:
        release = self.served[name]
        ours = self._ours(release)
        by_hand = Server.other(BY_HAND, "by_hand", release, self.scratch / f"{name}-by-hand", self.workers)
        with running(ours, by_hand):
            check_alike(ours, by_hand, ALIKE)
            self._settle(ours, by_hand)
            for number in self._rounds(name):
                self._load(number, ours, MANY)
                self._load(number, by_hand, MANY)

    def _columns(self) -> None:
        both = [self.served[name] for name in self.columns]
        servers = [self._ours(release) for release in both]
        with running(*servers):
            self._settle(*servers)
            for number in self._rounds("columns"):
                for server in servers:
                    self._load(number, server, ONE)
                for release in both:
                    self._bare(number, release, 1, AT_ONE)

    def _processes(self) -> None:
        """Starts, in turn with so many workers; the last of each kind tells its memory."""
        for number in self._rounds("starts and memory"):
            for workers in self.memory_workers:
                server = self._ours(self.served[TRIAGE], workers=workers)
                server.start()
                try:
                    seconds = server.wait()
                    if workers == self.memory_workers[0]:
                        self._figure(START, number, seconds)
                    if number == self.rounds:
                        for worker, mebibytes in enumerate(self._memory(server)[1:], 1):
                            self._figure(memory(workers), worker, mebibytes)
                finally:
                    server.stop()

    def _memory(self, server: Server) -> list[float]:
        """Return the private memory of each worker once all of them have answered, MiB; one that rests has no model."""
        for _ in range(TRIES):
            self._settle(server)
            found = server.private_memory()
            if min(found) > max(found) / 2:
                return found
        raise LoadFailed(f"A worker answered nothing in {TRIES} loads of {MANY} connections; its memory says nothing.")

    # ---- parts of them ----------------------------------------------------------------------------------------

    def _ours(self, release: Served, *, long: bool = False, workers: int = 0) -> Server:
        folder = self.scratch / f"instance-{len(list(self.scratch.iterdir()))}"
        copied = release.copied(folder)
        if long:
            shutil.copy(ledger.filled(release, self.cache / f"{self.long}.sqlite3", self.long), folder / ledger.FILE)
            os.sync()  # else the disk writes the copy while the commits are measured
        return Server.ours(copied, folder, workers or self.workers, MILLION if long else OURS)

    def _rounds(self, what: str) -> Iterator[int]:
        for number in range(1, self.rounds + 1):
            self.told(f"{what}, round {number} of {self.rounds}")
            yield number

    def _settle(self, *servers: Server) -> None:
        for server in servers:
            server.load(self.generator, MANY, min(SETTLE, self.seconds))

    def _load(self, number: int, server: Server, connections: int) -> None:
        server.load("python", connections, min(WARM_UP, self.seconds))
        report = server.load(self.generator, connections, self.seconds)
        what = AT_MANY if connections == MANY else AT_ONE
        self._note(server.release.name, server.name, what, number, report)

    def _bare(self, number: int, release: Served, rows: int, what: str) -> None:
        command = ["model", str(release.release), str(release.bodies), str(rows), str(self.seconds * SHORT)]
        environment = {**os.environ, **NUMERIC_THREADS}
        found = Report(**told([sys.executable, "-m", "bench.bare", *command], environment))
        self._note(release.name, BARE, what, number, found, rows)

    def _note(self, release: str, server: str, what: str, number: int, report: Report, rows: int = 1) -> None:
        self.rows.append(
            {
                "release": release,
                "server": server,
                "what": what,
                "round": number,
                "n": report.n,
                "errors": report.errors,
                # of a few long calls the last one is cut off: their median says what they take
                "rows_per_second": rows * (1000 / report.p50 if rows > 1 else report.per_second),
                "p50": report.p50,
                "p99": report.p99,
                "figure": None,
            }
        )

    def _figure(self, what: str, number: int, figure: float) -> None:
        empty = dict.fromkeys(("n", "errors", "rows_per_second", "p50", "p99"))
        self.rows.append({"release": TRIAGE, "server": OURS, "what": what, "round": number, **empty, "figure": figure})
