"""Row 10: eight processes write to one ledger at once, four workers of the service and four that use the package.

Each update is one that is lost where a writer acts on what it read before another wrote: a verdict on a prediction that
all judge, the lease of the next record that waits, the verdict on it, a move of the live release.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from sqlalchemy import Connection
from tests.service import Service

from reviewapp.config import load_settings
from reviewapp.errors import Conflict
from reviewapp.factory import make_parts
from reviewapp.prediction import utcnow, verdict_of
from reviewapp.triage.generator import generate

from .figures import Figure, all_of, none
from .instances import served, signed_in

SEEDS = (5,)
WRITERS = 4  # through each of the two doors; the service has as many workers
SHARED = 20  # predictions that all judge
VERDICTS, LEASES, MOVES = 770, 240, 6  # of each writer, the moves of the first through each door alone
SHORT_VERDICTS, SHORT_LEASES, SHORT_MOVES = 32, 9, 1
TRIES = 200  # of a move until no other comes first
BATCH = 1000
REASON = "moved by a writer"
NAMES = [f"package {n}" for n in range(WRITERS)] + [f"client {n}" for n in range(WRITERS)]
START_SECONDS, END_SECONDS = 120.0, 600.0  # bounds, not promises


@dataclass(frozen=True)
class Plan:
    """What a writer is to do, and the predictions that all judge."""

    name: str
    number: int
    verdicts: int
    leases: int
    moves: int
    shared: Sequence[str]

    @property
    def updates(self) -> int:
        return self.verdicts + 2 * self.leases + self.moves

    def steps(self) -> list[str]:
        """The steps in an order of its own."""
        steps = ["verdict"] * self.verdicts + ["lease"] * self.leases + ["move"] * self.moves
        random.Random(SEEDS[0] + self.number).shuffle(steps)
        return steps


@dataclass
class Told:
    """What a writer was told is done: verdicts (prediction, note), what it leased, how often it moved."""

    verdicts: list[tuple[str, str]] = field(default_factory=list)
    leased: list[str] = field(default_factory=list)
    moves: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def updates(self) -> int:
        return len(self.verdicts) + len(self.leased) + self.moves


class Package:
    """Writes straight through the package, as the command does."""

    def __init__(self, instance: Path, name: str) -> None:
        self._parts = make_parts(load_settings({"instance": instance}, {}))
        self._name = name

    def judge(self, prediction_id: str, note: str, *, in_turn: bool) -> None:
        """Add a verdict; `in_turn`: on the record that this writer has."""

        def check(connection: Connection) -> None:
            if in_turn:
                self._parts.desk.check(connection, prediction_id, self._name)

        given = verdict_of({"verdict": "agree", "reasons": [], "note": note}, self._name, utcnow())
        self._parts.ledger.add_verdict(prediction_id, given, check=check)

    def lease(self) -> str:
        found = self._parts.desk.next(self._name, lambda _: False)
        if found is None:
            raise LookupError("nothing waits")
        return found.prediction_id

    def move(self, version: int) -> bool:
        """Move the live release; False: another move came first."""
        try:
            self._parts.registry.promote(version, REASON, self._name, breaking=True)
        except Conflict:
            return False
        return True


class Http:
    """Writes through the service."""

    def __init__(self, service: Service, name: str) -> None:
        self._service, self._headers = service, signed_in(service, "admin", name)

    def judge(self, prediction_id: str, note: str, *, in_turn: bool) -> None:
        self._call("PUT", f"predictions/{prediction_id}/verdict", {"verdict": "agree", "note": note})

    def lease(self) -> str:
        return str(self._call("POST", "queue/next")[1]["id"])

    def move(self, version: int) -> bool:
        asked = {"reason": REASON, "breaking": True}
        return bool(self._call("POST", f"releases/{version}/promote", asked, also=409)[0] == 200)

    def _call(self, method: str, path: str, body: Any = None, also: int = 200) -> tuple[int, Any]:
        status, answer, _ = self._service.call(method, f"/api/v1/{path}", body, self._headers, fresh=True)
        if status not in (200, also):
            raise OSError(f"{method} {path}: {status} {answer}")
        return status, answer


def write(door: Package | Http, plan: Plan) -> Told:
    """Carry out a plan, and return what was acknowledged of it."""
    told = Told()
    for number, step in enumerate(plan.steps()):
        note = f"{plan.name}-{number}"
        try:
            if step == "verdict":
                prediction_id = plan.shared[number % len(plan.shared)]
                door.judge(prediction_id, note, in_turn=False)
                told.verdicts.append((prediction_id, note))
            elif step == "lease":
                told.leased.append(door.lease())
                door.judge(told.leased[-1], note, in_turn=True)
                told.verdicts.append((told.leased[-1], note))
            else:
                told.moves += any(door.move(2 - n % 2) for n in range(TRIES))
        except Exception as error:  # whatever it is: an update that was not made
            told.refused.append(f"{step}: {type(error).__name__}: {error}")
    return told


def _in_a_process(instance: Path, plan: Plan, ready: Any, told: Any) -> None:
    door = Package(instance, plan.name)
    ready.wait(START_SECONDS)
    told.put(write(door, plan))


def run(folder: Path, *, full: bool) -> list[Figure]:
    each = (VERDICTS, LEASES, MOVES) if full else (SHORT_VERDICTS, SHORT_LEASES, SHORT_MOVES)
    with served(folder / "instance", REVIEWAPP_WORKERS=str(WRITERS)) as service:
        shared = _prepare(service, 2 * WRITERS * each[1])
        plans = [Plan(name, n, each[0], each[1], 0 if n % WRITERS else each[2], shared) for n, name in enumerate(NAMES)]
        told = _all_at_once(service, plans)
        reviewer = signed_in(service, "review")
        shown = {one: service.call("GET", f"/api/v1/predictions/{one}", None, reviewer)[1] for one in shared}
    for one in told:
        print(*one.refused[:5], sep="\n", end="", file=sys.stderr)
    return _figures(service.instance / "reviewapp.sqlite3", plans, told, shown)


def _prepare(service: Service, waiting: int) -> list[str]:
    """Let enough records wait for a person; return predictions that do not wait, for all to judge."""
    headers, shared, found = signed_in(service, "submit"), [], 0
    for seed in itertools.count(SEEDS[0]):
        inputs = [example.record for example in generate(BATCH, seed)]
        made = service.call("POST", "/api/v1/predictions/batch", {"inputs": inputs}, headers)[1]["predictions"]
        found += sum(one["decision"] == "review" for one in made)
        shared += [one["id"] for one in made if one["decision"] == "auto"]
        if found >= waiting:
            with closing(dbapi2.connect(f"file:{service.instance / 'reviewapp.sqlite3'}?mode=ro", uri=True)) as ledger:
                waits = {one for (one,) in ledger.execute("SELECT prediction_id FROM queue")}  # also by lot
            return [one for one in shared if one not in waits][:SHARED]
    raise AssertionError


def _all_at_once(service: Service, plans: Sequence[Plan]) -> list[Told]:
    """Let every writer carry out its plan at the same time: half of them in processes, half as clients."""
    context = multiprocessing.get_context("spawn")  # a child of a fork would share what this process has open
    ready, told = context.Barrier(WRITERS + 1), context.Queue()
    processes = [
        context.Process(target=_in_a_process, args=(service.instance, plan, ready, told)) for plan in plans[:WRITERS]
    ]
    doors = [Http(service, plan.name) for plan in plans[WRITERS:]]
    for process in processes:
        process.start()
    try:
        ready.wait(START_SECONDS)
        with ThreadPoolExecutor(len(doors)) as clients:
            of_clients = list(clients.map(write, doors, plans[WRITERS:]))
        of_processes = [told.get(timeout=END_SECONDS) for _ in processes]
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    return [*of_processes, *of_clients]


def _figures(file: Path, plans: Sequence[Plan], told: Sequence[Told], shown: dict[str, Any]) -> list[Figure]:
    connection = dbapi2.connect(f"file:{file}?mode=ro", uri=True)
    given = connection.execute(
        "SELECT predictions.id, verdicts.note FROM verdicts JOIN predictions ON predictions.seq = prediction_seq"
    ).fetchall()
    moves = connection.execute("SELECT count(*) FROM release_events WHERE reason = ?", [REASON]).fetchone()[0]
    waiting = {one for (one,) in connection.execute("SELECT prediction_id FROM queue")}
    connection.close()
    acknowledged = [one for writer in told for one in writer.verdicts]
    leased = [one for writer in told for one in writer.leased]
    moved = sum(writer.moves for writer in told)
    lost = len(set(acknowledged) - set(given)) + max(0, moved - moves)
    histories = {one: [verdict["note"] for verdict in shown[one]["verdicts"]] for one in shown}
    whole = sum(
        Counter(notes) == Counter(note for where, note in acknowledged if where == one)
        for one, notes in histories.items()
    )
    return [
        all_of("updates of eight writers at once that were acknowledged", sum(one.updates for one in told),
               sum(plan.updates for plan in plans)),
        none("acknowledged updates lost", lost),
        none("updates that are there twice, or were never acknowledged",
             len(given) - len(set(given)) + len(set(given) - set(acknowledged)) + max(0, moves - moved)),
        none("records that were leased to two, or wait although they are judged",
             len(leased) - len(set(leased)) + len(waiting & set(leased))),
        all_of("predictions whose history has every verdict of every writer", whole, len(shown)),
    ]  # fmt: skip
