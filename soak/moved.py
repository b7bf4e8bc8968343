"""Row 6: the live release is moved to and fro under load, and none answers that was left before it was asked.

Each answer names its release. Of a request that was sent after a move was acknowledged it must be the new one; of one
that was under way meanwhile it may be either.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from tests.service import Service
from tests.small import with_limit

from reviewapp import release as releases
from reviewapp.config import load_settings
from reviewapp.factory import make_parts

from .figures import Figure, all_of, none
from .instances import ACTOR, served, signed_in
from .load import Load

MOVES, EVERY, CONNECTIONS = 1000, 1.0, 16
SHORT_MOVES, SHORT_EVERY, SHORT_CONNECTIONS = 8, 0.3, 8
PAIRS, SHORT_PAIRS = 200, 5  # of promotions at once


@dataclass(frozen=True)
class Move:
    """A move of the live release: when it was asked for and acknowledged, on the monotonic clock, and to what."""

    asked: float
    done: float
    version: int


@dataclass(frozen=True)
class Read:
    """An answer: when the request was sent, when it was there, its id and its release."""

    sent: float
    there: float
    id: str
    version: int


class Reading(Load):
    """The load, which also keeps which release answered."""

    def __init__(self, service: Service, connections: int) -> None:
        super().__init__(service, connections=connections)
        self.reads: list[Read] = []

    def _ask(self, client: Any, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        sent = time.monotonic()
        answer = super()._ask(client, method, path, body)
        if answer is not None and method == "POST":
            self.reads.append(Read(sent, time.monotonic(), answer["id"], answer["release"]["version"]))
        return answer


def stale(reads: Sequence[Read], moves: Sequence[Move], first: int) -> list[Read]:
    """Return the answers of a release that had been left before they were asked for; `first` was live at first.

    Moves come one after another, in their order.
    """
    done, asked = [move.done for move in moves], [move.asked for move in moves]
    versions = [first, *(move.version for move in moves)]

    def allowed(read: Read) -> list[int]:
        before = bisect.bisect_right(done, read.sent)  # moves that were done by then
        begun = bisect.bisect_left(asked, read.there)  # and those that began before the answer was there
        return versions[before : begun + 1]

    return [read for read in reads if read.version not in allowed(read)]


def run(folder: Path, *, full: bool) -> list[Figure]:
    n, every, connections = (
        (MOVES, EVERY, CONNECTIONS) if full else (SHORT_MOVES, SHORT_EVERY, SHORT_CONNECTIONS)
    )  # fmt: skip
    service = served(folder / "instance")
    _third(service.instance)
    with service:
        admin = signed_in(service, "admin")
        load = Reading(service, connections)
        with load:
            moves = _to_and_fro(service, admin, n, every)
        ledger = _ledger(service.instance)
        kept = load.check()
        pairs = _at_once(service, admin, PAIRS if full else SHORT_PAIRS)
    reads = load.reads
    return [
        all_of("moves of the live release, promoted and rolled back in turn", len(moves), n),
        all_of("answers by a release that was live after the request was sent",
               len(reads) - len(stale(reads, moves, 1)), len(reads)),
        none("requests that got no answer or a failure", len(load.failed)),
        all_of("answers whose release is that of their row in the ledger",
               sum(ledger.get(read.id) == read.version for read in reads), len(reads)),
        none("acknowledged answers and verdicts lost", kept.lost),
        *pairs,
    ]  # fmt: skip


def _third(instance: Path) -> None:
    """Add a release, so that two promotions at once may differ."""
    parts = make_parts(load_settings({"instance": instance}, {}))
    live = parts.registry.live()
    assert live is not None  # noqa: S101 (a fresh instance has one)
    first = releases.read(parts.registry.folder(live), live.digest)
    parts.registry.add(releases.write(with_limit(first, 20_000_000), parts.registry.place), ACTOR)
    parts.store.close()


def _to_and_fro(service: Service, admin: dict[str, str], n: int, every: float) -> list[Move]:
    """Promote release 2 and roll back to 1 in turn; a move that is not acknowledged is none."""
    moves: list[Move] = []
    for number in range(n):
        asked = time.monotonic()
        status = _back(service, admin) if number % 2 else _promote(service, admin, 2)
        done = time.monotonic()
        if status == 200:
            moves.append(Move(asked, done, 1 if number % 2 else 2))
        time.sleep(max(0.0, asked + every - done))
    return moves


def _ledger(instance: Path) -> dict[str, int]:
    connection = dbapi2.connect(f"file:{instance / 'reviewapp.sqlite3'}?mode=ro", uri=True)
    found = dict(connection.execute("SELECT id, release_version FROM predictions").fetchall())
    connection.close()
    return found


def _at_once(service: Service, admin: dict[str, str], pairs: int) -> list[Figure]:
    """Promote two releases at the same time, again and again from the first one; just one may be told that it is live.

    Two that came one after the other, both rightly acknowledged, say nothing: they are tried again.
    """
    one_won, half, tries = 0, 0, 0

    def promote(version: int) -> int:
        gate.wait()
        return _promote(service, admin, version)

    with ThreadPoolExecutor(2) as both:
        while one_won < pairs and tries < 3 * pairs:
            tries += 1
            gate = threading.Barrier(2)
            statuses = dict(zip((2, 3), both.map(promote, (2, 3)), strict=True))
            winners = [version for version, status in statuses.items() if status == 200]
            live = {_active(service, admin) for _ in range(4)}
            one_won += sorted(statuses.values()) == [200, 409]
            half += not (winners and len(live) == 1 and live <= {*winners} and {*statuses.values()} <= {200, 409})
            for _ in winners:
                _back(service, admin)
    return [
        all_of("pairs of promotions at once of which one was told 200 and one 409", one_won, pairs),
        none("of them, states that are neither the one nor the other", half),
    ]


def _promote(service: Service, admin: dict[str, str], version: int) -> int:
    body = {"reason": "a try", "breaking": True}
    status: int = service.call("POST", f"/api/v1/releases/{version}/promote", body, admin)[0]
    return status


def _back(service: Service, admin: dict[str, str]) -> int:
    status: int = service.call("POST", "/api/v1/releases/rollback", {"reason": "back"}, admin)[0]
    return status


def _active(service: Service, admin: dict[str, str]) -> int:
    return int(service.call("GET", "/api/v1/releases/active", None, admin, fresh=True)[1]["version"])
