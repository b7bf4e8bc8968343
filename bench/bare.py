"""What is behind every figure, without a service, each in a process of its own; it prints one line of JSON.

python -m bench.bare model RELEASE FILE ROWS SECONDS   `predict_proba` of the release's model on ready frames
python -m bench.bare commit FOLDER SECONDS             one small row committed to SQLite with synchronous=FULL
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

FRAMES = 50  # different ones, in turn
WARM_UP = 3


def model(release: str, file: str, rows: int, seconds: float) -> dict[str, float]:
    """Time the model on frames of so many rows: the requests of the file, made to frames as the service makes them."""
    from reviewapp.frames import to_frame  # noqa: PLC0415 (a commit needs none of it)
    from reviewapp.release import read  # noqa: PLC0415
    from reviewapp.trust import TrustedTypes  # noqa: PLC0415

    folder = Path(release)
    loaded = read(folder, trusted=TrustedTypes(folder.parents[2]).names())
    records = [json.loads(line)["input"] for line in Path(file).read_text(encoding="utf-8").splitlines()]
    groups = [records[i : i + rows] for i in range(0, min(len(records), FRAMES * rows) - rows + 1, rows)]
    return timed(loaded.model.predict_proba, [to_frame(loaded.contract, group) for group in groups], seconds)


def commit(folder: str, seconds: float) -> dict[str, float]:
    """Time an insert with its commit into a file of its own in the folder."""
    from pysqlite3 import dbapi2  # noqa: PLC0415

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
    if sys.argv[1] == "model":
        print(json.dumps(model(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))))
    else:
        print(json.dumps(commit(sys.argv[2], float(sys.argv[3]))))
