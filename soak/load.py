"""Clients that predict and judge without a pause, and a journal of what each of them was told.

    with Load(service, connections=16, retries=5) as load:
        …break something…
    load.failed              each request that got no answer, or one of 500 and more
    load.longest_gap()       seconds without an answer to anybody
    load.check()             what the ledger holds of it: lost, twice

Without retries a request is sent once, without an Idempotency-Key. With them it has a key and is sent again, as a
careful client does; it has failed only after the last of them.
"""

from __future__ import annotations

import http.client
import itertools
import json
import select
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from tests.service import Service

from reviewapp.triage import generator

PREDICT = "/api/v1/predictions"
PATIENCE = 40.0  # seconds that an answer is waited for
PAUSE = 0.2  # seconds between two tries
REST = 0.02  # seconds that a client rests after a failure, so that one that fails at once does not take the machine


@dataclass(frozen=True)
class Failure:
    """A request that was not answered as it should: `status` is 0 where no answer came; `port` is the client's own."""

    at: float  # monotonic
    status: int
    what: str
    port: int
    took: float  # seconds, of the last try
    retry_after: str | None = None

    @property
    def honest(self) -> bool:
        """Whether the service said that it cannot now, and when to ask again."""
        return self.status in (503, 507) and self.retry_after is not None


@dataclass(frozen=True)
class Kept:
    """What the ledger holds of what was acknowledged."""

    predictions: int  # that were acknowledged
    verdicts: int
    lost: int  # of both
    twice: int  # of both

    @property
    def acknowledged(self) -> int:
        return self.predictions + self.verdicts


class Load:
    """`connections` clients at once, each on a connection that it keeps; as a context they are started and stopped.

    Each predicts, and judges each `judged`-th of its predictions (0: none).
    """

    def __init__(self, service: Service, *, connections: int = 16, retries: int = 0, judged: int = 4) -> None:
        self._service, self._retries, self._judged = service, retries, judged
        self._headers = {"Authorization": f"Bearer {service.reviewer}", "Content-Type": "application/json"}
        self._inputs = [example.record for example in generator.generate(100, 3)]
        self._mark = uuid.uuid4().hex[:12]  # begins each reference and each note of this load
        self._stop = threading.Event()
        self._clients = [_Client(service.port) for _ in range(connections)]
        self._threads = [threading.Thread(target=self._work, args=one, daemon=True) for one in enumerate(self._clients)]
        self.answered: list[float] = []  # when, monotonic
        self.failed: list[Failure] = []
        self.predicted: list[tuple[str, str]] = []  # acknowledged: id and reference
        self.verdicts: list[tuple[str, str]] = []  # acknowledged: id of the prediction and note
        self.began = self.ended = 0.0

    def __enter__(self) -> Load:
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each client end its request, with its retries, and go."""
        if not self._stop.is_set():
            self._stop.set()
            for thread in self._threads:
                thread.join()
            self.ended = time.monotonic()

    # ---- figures ------------------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        return len(self.answered) + len(self.failed)

    def longest_gap(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Return the longest time in which nobody got an answer, in seconds."""
        inside = [at for at in sorted(self.answered) if since <= at <= until]
        ends = [max(since, self.began), *inside, min(until, self.ended or time.monotonic())]
        return max(b - a for a, b in itertools.pairwise(ends))

    def check(self, ledger: Path | None = None) -> Kept:
        """Look every acknowledged id up in the ledger: it must be there, and no request may be there twice."""
        file = ledger or self._service.instance / "reviewapp.sqlite3"
        connection = dbapi2.connect(f"file:{file}?mode=ro", uri=True)
        mine = f"{self._mark}-%"
        made = connection.execute("SELECT id, reference FROM predictions WHERE reference LIKE ?", [mine]).fetchall()
        given = connection.execute(
            "SELECT predictions.id, verdicts.note FROM verdicts JOIN predictions ON predictions.seq = prediction_seq "
            "WHERE note LIKE ?",
            [mine],
        ).fetchall()
        connection.close()
        return Kept(
            len(self.predicted),
            len(self.verdicts),
            len(set(self.predicted) - set(made)) + len(set(self.verdicts) - set(given)),
            _again(reference for _, reference in made) + _again(note for _, note in given),
        )

    # ---- clients ------------------------------------------------------------------------------------------------

    def _work(self, number: int, client: _Client) -> None:
        for n in itertools.count():
            if self._stop.is_set():
                break
            reference = f"{self._mark}-{number}-{n}"
            body = {"input": self._inputs[n % len(self._inputs)], "reference": reference}
            made = self._ask(client, "POST", PREDICT, body)
            if made is None:
                time.sleep(REST)
                continue
            self.predicted.append((made["id"], reference))
            if self._judged and n % self._judged == 0:
                verdict = {"verdict": "agree", "note": reference}
                if self._ask(client, "PUT", f"{PREDICT}/{made['id']}/verdict", verdict) is not None:
                    self.verdicts.append((made["id"], reference))
        client.hang_up()

    def _ask(self, client: _Client, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer, or None where the request failed, which is noted."""
        headers, content = self._headers, json.dumps(body)
        if method == "POST" and self._retries:
            headers = {**headers, "Idempotency-Key": body["reference"]}
        for tries_left in range(self._retries, -1, -1):
            began = time.monotonic()
            status, answer, retry_after = client.call(method, path, content, headers)
            if status in (200, 201):
                self.answered.append(time.monotonic())
                return dict(json.loads(answer))
            if tries_left:
                time.sleep(PAUSE)
        now, what = time.monotonic(), f"{method} {path}: {answer[:300]}"
        self.failed.append(Failure(now, status, what, client.port, now - began, retry_after))
        return None


def whole(ledger: Path) -> bool:
    """Whether SQLite finds its tables and indexes as they should be."""
    connection = dbapi2.connect(f"file:{ledger}?mode=ro", uri=True)
    [[answer]] = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return bool(answer == "ok")


class _Client:
    """One connection that is kept, and opened anew where the service closed it while nothing was under way."""

    def __init__(self, port: int) -> None:
        self._service_port = port
        self._connection: http.client.HTTPConnection | None = None
        self.port = 0  # its own

    def call(self, method: str, path: str, body: str, headers: dict[str, str]) -> tuple[int, str, str | None]:
        """Return status, body and Retry-After; status 0 and the reason where no whole answer came."""
        try:
            connection = self._open()
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.hang_up()
            return 0, f"{type(error).__name__}: {error}", None
        if response.will_close:
            self.hang_up()
        return response.status, answer, response.headers["Retry-After"]

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is not None and select.select([self._connection.sock], [], [], 0)[0]:
            self.hang_up()  # nothing was asked, so what there is to read is the end
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._service_port, timeout=PATIENCE)
            self._connection.connect()
            self.port = self._connection.sock.getsockname()[1]
        return self._connection

    def hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None


def _again(names: Any) -> int:
    return sum(count - 1 for count in Counter(names).values())
