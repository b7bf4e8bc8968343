"""What is behind every figure, without a service, each in a process of its own; it prints one line of JSON.

python -m bench.bare model RELEASE FILE ROWS SECONDS   `predict_proba` of the release's model on ready frames
python -m bench.bare commit FOLDER SECONDS             one small row committed to SQLite with synchronous=FULL
python -m bench.bare engine KIND RELEASE FILE ROWS SECONDS   the release's `native` or `compiled` engine on requests
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from reviewapp.engine.engines import Compiled, Engine, Native
from reviewapp.frames import to_frame
from reviewapp.release import read
from reviewapp.trust import TrustedTypes

FRAMES = 50  # different ones, in turn
WARM_UP = 3


def model(release: str, file: str, rows: int, seconds: float) -> dict[str, float]:
    """Time the model on frames of so many rows: the requests of the file, made to frames as the service makes them."""
    folder = Path(release)
    loaded = read(folder, trusted=TrustedTypes(folder.parents[2]).names())
    records = [json.loads(line)["input"] for line in Path(file).read_text(encoding="utf-8").splitlines()]
    groups = [records[i : i + rows] for i in range(0, min(len(records), FRAMES * rows) - rows + 1, rows)]
    return timed(loaded.model.predict_proba, [to_frame(loaded.contract, group) for group in groups], seconds)


def engine(kind: str, release: str, file: str, rows: int, seconds: float) -> dict[str, float]:
    """Time an engine of the release on so many requests at once: from the requests to the figures."""
    folder = Path(release)
    loaded = read(folder, trusted=TrustedTypes(folder.parents[2]).names())
    asked: Engine = Native(loaded.model, loaded.contract)
    if kind == "compiled":
        asked = Compiled(loaded.model, loaded.contract, Native(loaded.model, loaded.contract))
    records = [json.loads(line)["input"] for line in Path(file).read_text(encoding="utf-8").splitlines()]
    return timed(asked.figures, [records[i : i + rows] for i in range(0, len(records) - rows + 1, rows)], seconds)


def commit(folder: str, seconds: float) -> dict[str, float]:
    """Time an insert with its commit into a file of its own in the folder."""
    path = Path(folder) / "commit.sqlite3"
    connection = dbapi2.connect(str(path), isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE t (a INTEGER)"):
        connection.execute(statement)
    try:
        return timed(lambda number: connection.execute("INSERT INTO t VALUES (?)", (number,)), range(1000), seconds)
    finally:
        connection.close()
        path.unlink()


def timed(call: Callable[[Any], Any], given: Sequence[Any], seconds: float) -> dict[str, float]:
    """Call again and again, for so many seconds; return the figures, times in ms."""
    turn = cycle(given)
    for _ in range(WARM_UP):
        call(next(turn))
    taken: list[float] = []
    started = time.perf_counter()
    while not taken or time.perf_counter() - started < seconds:
        one = next(turn)
        before = time.perf_counter()
        call(one)
        taken.append((time.perf_counter() - before) * 1000)
    took = time.perf_counter() - started
    taken.sort()
    p50, p99 = (taken[int(share * (len(taken) - 1))] for share in (0.5, 0.99))
    return {"n": len(taken), "errors": 0, "seconds": took, "p50": p50, "p99": p99}


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "model":
        found = model(given[0], given[1], int(given[2]), float(given[3]))
    elif what == "engine":
        found = engine(given[0], given[1], given[2], int(given[3]), float(given[4]))
    else:
        found = commit(given[0], float(given[1]))
    print(json.dumps(found))
