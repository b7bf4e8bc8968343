"""Whole files: `reviewapp score` against `predict_proba` on the same rows. It prints a line of JSON for each run.

python -m bench.scoring FOLDER [--rows 200000] [--rounds 3] [--bad 0.01]

FOLDER keeps what is built and written. `partition` takes turns, partition by partition in one process with one numeric
thread: the bare model on a frame that is ready, in so many rows, and the whole way from the bytes of the file to the
bytes of the answers, problems included. `run` times whole runs of the command, start and end included, with one worker,
with two, and on a cluster of two workers that runs already; and two processes of the bare model beside them, which is
what two cores can give. `memory` is the most that any process of a run had, with a file and with one four times as
long.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import dask
from threadpoolctl import threadpool_limits

from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.config import NUMERIC_THREADS
from reviewapp.release import Release
from reviewapp.samples import as_text
from reviewapp.scoring.answers import answer
from reviewapp.scoring.inputs import plan, read
from reviewapp.scoring.outputs import Layout, Said, write
from reviewapp.scoring.recording import counts
from reviewapp.scoring.run import MEMORY, SPAWN
from reviewapp.scoring.tables import CSV, check
from reviewapp.triage import build, generator

AT_ONCE = 50_000  # rows that are generated at a time
LONGER = 4  # times as many rows, for the memory


def told(what: str, **figures: Any) -> None:
    print(json.dumps({"what": what, **figures}), flush=True)


def make(path: Path, rows: int, bad: float) -> None:
    """Write a file of triage requests of which a share is broken, each in one of its cells."""
    if path.exists():
        return
    rng = random.Random(1)  # noqa: S311 (a table to measure with)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for start in range(0, rows, AT_ONCE):
            for one in generator.generate(min(AT_ONCE, rows - start), 1000 + start):
                if not file.tell():
                    writer.writerow(one.record)
                cells = [as_text(value) for value in one.record.values()]
                if rng.random() < bad:
                    cells[rng.randrange(2, len(cells))] = "pigeon"
                writer.writerow(cells)


# ---- one process ------------------------------------------------------------------------------------------------


def partitions(release: Release, file: Path) -> dict[str, float]:
    """Answer each partition both ways in turn; return µs of processor time for each row."""
    adapter = ModelAdapter(release)
    began = time.process_time()
    planned = plan(str(file), release.contract)
    if len(planned.parts) == 1:
        raise SystemExit(
            f"{planned.rows} rows are one partition, and the first one only warms up: ask for more --rows."
        )
    taken = {"plan": time.process_time() - began, "ours": 0.0, "bare": 0.0}
    layout = Layout.of(CSV, planned.header, planned.kind, release.contract)
    for number, part in enumerate(planned.parts):
        began = time.process_time()
        checked = check(read(part, planned.kind, planned.header, release.contract), release.contract)
        answered = answer(checked, adapter, "model")
        write(checked, answered, layout, Said(release.id, "model", "", ""))
        counts(checked, answered)
        ours = time.process_time() - began
        frame = checked.frame()
        began = time.process_time()
        release.model.predict_proba(frame)
        # the bare model is given the right rows alone, and is charged as if it answered the others, too
        bare = (time.process_time() - began) * part.rows / len(frame)
        if number:  # the first one warms up
            taken["ours"] += ours
            taken["bare"] += bare
    rows = planned.rows - planned.parts[0].rows
    ours, bare = taken["ours"] / rows + taken["plan"] / planned.rows, taken["bare"] / rows
    return {"ours_us": ours * 1e6, "bare_us": bare * 1e6, "share_of_bare": bare / ours}


def bare_run(folder: Path, file: Path, processes: int) -> float:
    """Return how many seconds so many processes take for the bare model on all rows, their frames ready."""
    context = multiprocessing.get_context("spawn")
    ready, took = context.Barrier(processes), context.Queue()
    running = [
        context.Process(target=_bare_share, args=(folder, file, number, processes, ready, took))
        for number in range(processes)
    ]
    for one in running:
        one.start()
    longest = max(took.get() for _ in running)
    for one in running:
        one.join()
    return float(longest)


def _bare_share(folder: Path, file: Path, number: int, processes: int, ready: Any, took: Any) -> None:
    release = releases.read(folder)
    planned = plan(str(file), release.contract)
    frames = [
        check(read(part, planned.kind, planned.header, release.contract), release.contract).frame()
        for part in planned.parts[number::processes]
    ]
    ready.wait()
    began = time.perf_counter()
    for frame in frames:
        release.model.predict_proba(frame)
    took.put(time.perf_counter() - began)


# ---- whole runs -------------------------------------------------------------------------------------------------


def run(instance: Path, file: Path, *words: str) -> tuple[float, float]:
    """Run the command; return seconds, and the MiB of the process that had the most."""
    out = file.with_suffix(".answers.csv")
    command = [sys.executable, "-m", "reviewapp", "score", str(file), str(out), "--record", "none", *words]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, "REVIEWAPP_INSTANCE": str(instance)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode not in (0, 1) or not out.exists():  # 1: a row has a problem
        raise SystemExit(f"reviewapp score failed with {process.returncode}")
    out.unlink()
    return seconds, used.ru_maxrss / 1024


@contextmanager
def cluster() -> Iterator[str]:
    """Give the address of a cluster of two workers, set up as docs/scoring.md says."""
    from distributed import Client, LocalCluster  # noqa: PLC0415 (starts threads)

    with (
        dask.config.set({SPAWN: {**dask.config.get(SPAWN), **MEMORY}}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as running,
        Client(running, set_as_default=False) as client,
    ):
        client.wait_for_workers(2)
        yield running.scheduler_address


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scoring")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bad", type=float, default=0.01)
    given = parser.parse_args(words)
    instance = given.folder / "instance"
    given.folder.mkdir(parents=True, exist_ok=True)
    if not instance.exists():
        environment = {**os.environ, "REVIEWAPP_INSTANCE": str(instance)}
        subprocess.run([sys.executable, "-m", "reviewapp", "build"], env=environment, check=True)
    release = instance / "releases" / build.NAME / "1"
    file, longer = (given.folder / f"{n}-{given.bad}.csv" for n in (given.rows, LONGER * given.rows))
    make(file, given.rows, given.bad)
    make(longer, LONGER * given.rows, given.bad)
    loaded = releases.read(release)
    for _ in range(given.rounds):
        with threadpool_limits(1):
            told("partition", rows=given.rows, **partitions(loaded, file))
    times: dict[str, list[float]] = {}
    ways: dict[str, Callable[[], float]] = {
        "bare, 1 process": lambda: bare_run(release, file, 1),
        "bare, 2 processes": lambda: bare_run(release, file, 2),
        "1 worker": lambda: run(instance, file, "--workers", "1")[0],
        "1 worker, longer": lambda: run(instance, longer, "--workers", "1")[0],
        "2 workers": lambda: run(instance, file, "--workers", "2")[0],
        "2 workers, longer": lambda: run(instance, longer, "--workers", "2")[0],
    }
    with tempfile.TemporaryDirectory() as scratch, cluster() as address:
        os.environ["DASK_TEMPORARY_DIRECTORY"] = scratch
        ways["cluster of 2"] = lambda: run(instance, file, "--scheduler", address)[0]
        ways["cluster of 2, longer"] = lambda: run(instance, longer, "--scheduler", address)[0]
        for _ in range(given.rounds):
            for name, measured in ways.items():
                times.setdefault(name, []).append(measured())
                told("run", way=name, seconds=times[name][-1])
    middle = {name: median(found) for name, found in times.items()}
    told("speed-up", bare=middle["bare, 1 process"] / middle["bare, 2 processes"])
    for (shorter, long), name in zip(pairwise(middle), middle, strict=False):
        if long == f"{shorter}, longer":  # start and end cost the same in both
            seconds = (middle[long] - middle[shorter]) / ((LONGER - 1) * given.rows)
            told("each further row", way=name, us=seconds * 1e6)
    for rows, one in ((given.rows, file), (LONGER * given.rows, longer)):
        told("memory", rows=rows, mib=run(instance, one, "--workers", "2")[1])


if __name__ == "__main__":
    os.environ.update(dict.fromkeys(NUMERIC_THREADS, "1"))
    main()
