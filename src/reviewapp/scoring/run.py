"""Answers all files that IN names, with Dask: on the cores of this machine, or on a cluster that runs already."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import fsspec
import orjson
from sqlalchemy import make_url

from ..errors import ReviewappError, UsageError
from ..parts import Parts
from ..prediction import new_id, timestamp, utcnow
from ..release import ReleaseId
from ..trust import TrustedTypes
from . import recording
from .folder import Folder, Mark
from .inputs import ROWS, Part, Plan, files, kind_of, plan
from .outputs import Layout
from .recording import ALL, NONE
from .tables import JSON_LINES
from .work import Job, do

AHEAD = 3  # partitions that wait for each worker: more would only be memory of the scheduler
CONNECT_SECONDS = 15
TABS = ".tsv"  # the ending of a file whose cells are parted by tabs, whatever parts those of IN
TRIES = 3  # more, of a partition that fails: the ledger may have been busy
SPAWN = "distributed.nanny.pre-spawn-environ"
# By Dask's own setting glibc hands each array back to the system once it is let go, which clears its pages before the
# next one may have them: a fifth to a quarter of a worker's time (docs/performance.md).
MEMORY = {"MALLOC_MMAP_THRESHOLD_": 32 << 20, "MALLOC_TRIM_THRESHOLD_": 128 << 20}  # bytes

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Totals:
    """What came of it: the counts of all partitions, in which file the bad rows are, and what is to be said of it."""

    counts: Mapping[str, Any]
    problems: str
    said: str


@dataclass(frozen=True)
class Wish:
    """What is asked for. `option` None: the one that answers single requests; `workers` None: one a core."""

    given: str
    out: str
    option: str | None = None
    record: str = recording.SUMMARY
    scheduler: str | None = None
    workers: int | None = None


def score(
    parts: Parts, wish: Wish, actor: str, begin: Callable[[int, int], Progress], tell: Callable[[str], None]
) -> Totals:
    """Answer every row of the files and write OUT, and beside it the bad rows.

    `begin` is told how many rows there are, and how many of them are done already, and returns what is told of more.
    Raises UsageError for what is wrong with a file; a bad row is no error.
    """
    database = _database(parts, wish)
    adapter = parts.registry.adapter()
    kind, folder = kind_of(wish.out), Folder(wish.out)
    before = _stamps(wish.given, folder)
    planned = plan(wish.given, adapter.contract, list(before))
    layout = Layout.of(kind, planned.header, planned.kind, adapter.contract)
    if wish.out.lower().endswith(TABS):
        layout = replace(layout, delimiter="\t")
    option, release = wish.option or adapter.option, adapter.release.id
    same = {
        "release": release.digest, "option": [option, adapter.option], "record mode": wish.record,
        "input": planned.as_json(),
    }  # fmt: skip
    with folder.held():
        run, said = folder.begin(same, {"id": new_id(utcnow()), "started_at": timestamp(utcnow())})
        if said:
            tell(said)
        job = Job(
            run["id"], folder.out, planned.kind, planned.header, layout, release.digest, adapter.option, option, actor,
            {name: str(where) for name, where in TrustedTypes(parts.settings.instance).folders().items()}, database,
        )  # fmt: skip
        marks = {part.number: mark for part in planned.parts if (mark := folder.mark(part.number)) is not None}
        todo = [part for part in planned.parts if part.number not in marks]
        progress = begin(planned.rows, sum(mark["rows"] for mark in marks.values()))
        content = {path.name: path.read_bytes() for path in parts.registry.folder(release).iterdir() if path.is_file()}
        for part, mark in _done(wish, job, todo, content):
            marks[part.number] = mark
            progress(part.rows)
        if _stamps(wish.given, folder) != before:
            raise UsageError(f"{wish.given} has changed while it was answered; run it again.")
        ordered = [marks[part.number] for part in planned.parts]
        counts = recording.total(ordered)
        _write_down(parts, wish, job, release, run, planned, counts)
        folder.finish(layout, ordered, _end(kind, counts))
    return Totals(counts, folder.problems, said)


def _database(parts: Parts, wish: Wish) -> str | None:
    """Return where each answer is to be recorded, or None; raise UsageError where the workers cannot."""
    if wish.record != ALL:
        return None
    url = parts.settings.database_url
    if wish.scheduler is not None and make_url(url).get_backend_name() == "sqlite":
        raise UsageError(
            "The ledger is an SQLite file, which only processes of its own machine may write: "
            "say --record summary, or leave out --scheduler."
        )
    return url


def _stamps(given: str, folder: Folder) -> dict[str, str]:
    """Return the addresses of the files that IN names, each with what tells whether it was changed.

    Raises UsageError where OUT would take the place of one of them. What the run keeps in its folder is none of them.
    """
    stamps = {}
    for url in files(given):
        system, path = fsspec.core.url_to_fs(url)
        if not folder.writes(url):
            system.invalidate_cache()
            stamps[url] = str(system.ukey(path))
        elif not folder.keeps(url):
            raise UsageError(f"{url} is one of the files to answer, and would be overwritten: give OUT another name.")
    if not stamps:
        raise UsageError(f"{given} names no file but those of a run.")
    return stamps


def _write_down(
    parts: Parts,
    wish: Wish,
    job: Job,
    release: ReleaseId,
    run: Mapping[str, Any],
    planned: Plan,
    counts: Mapping[str, Any],
) -> None:
    if wish.record == NONE:
        return
    row = {
        "id": job.run,
        "started_at": run["started_at"],
        "ended_at": timestamp(utcnow()),
        "release_name": release.name,
        "release_version": release.version,
        "release_digest": job.digest,
        "option": job.option,
        "actor": job.actor,
        "recorded": wish.record,
        "files": planned.as_json()["files"],
        "output": wish.out,
        **counts,
    }
    recording.end(parts.store, row, job.run)


def _end(kind: str, counts: Mapping[str, Any]) -> bytes:
    """Return what comes after the answers: the bulk route's summary, in JSON Lines."""
    summary = {name: counts[name] for name in ("rows", "predictions", "problems")}
    return orjson.dumps({"summary": summary}) + b"\n" if kind == JSON_LINES else b""


# ---- Dask -------------------------------------------------------------------------------------------------------


def _done(wish: Wish, job: Job, todo: Sequence[Part], content: Mapping[str, bytes]) -> Iterator[tuple[Part, Mark]]:
    """Have partitions done and yield each as it is; here, where starting other processes would take longer."""
    few = len(todo) <= 1 or (wish.workers is None and sum(part.rows for part in todo) <= ROWS)
    if wish.scheduler is None and (few or wish.workers == 1):
        for part in todo:
            yield part, do(job, part, content)
        return
    from distributed import KilledWorker, as_completed  # noqa: PLC0415 (takes a second, and may not be needed)

    with _client(wish, len(todo)) as client:
        [release] = client.scatter([dict(content)], broadcast=True, hash=False)
        waiting = iter(todo)
        threads = sum(client.nthreads().values())
        parts = {}

        def submit(part: Part) -> Any:
            future = client.submit(do, job, part, release, pure=False, retries=TRIES)
            parts[future.key] = part
            return future

        first = [submit(part) for part in islice(waiting, AHEAD * threads)]
        running = as_completed(first, loop=client.loop)
        for future in running:
            part = parts.pop(future.key)
            try:
                mark = future.result()
            except KilledWorker as error:
                raise ReviewappError(
                    f"Workers ended again and again at rows {part.first:,} to {part.first + part.rows - 1:,} of all, "
                    "perhaps for want of memory. The same command goes on with these."
                ) from error
            following = next(waiting, None)
            if following is not None:
                running.add(submit(following))
            yield part, mark


@contextmanager
def _client(wish: Wish, partitions: int) -> Iterator[Any]:
    """Give a client of the cluster at the scheduler's address, or of one of this machine that ends with the block."""
    import dask  # noqa: PLC0415 (as above)
    from distributed import Client, LocalCluster  # noqa: PLC0415 (as above)
    from distributed.comm.addressing import get_address_host_port  # noqa: PLC0415 (as above)

    if wish.scheduler is not None:
        try:
            get_address_host_port(wish.scheduler, strict=True)  # else a Client that nobody made waits, and complains
            client = Client(wish.scheduler, set_as_default=False, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise UsageError(f"There is no Dask scheduler at {wish.scheduler}: {error}") from None
        with client:
            if not client.nthreads():
                raise ReviewappError(f"The Dask scheduler at {wish.scheduler} has no workers.")
            yield client
        return
    workers = min(wish.workers or os.cpu_count() or 1, partitions)
    with dask.config.set({SPAWN: {**dask.config.get(SPAWN), **MEMORY}}):
        with _without_interrupt():
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
                host="127.0.0.1", silence_logs=logging.CRITICAL,  # what fails in a worker is raised here
            )  # fmt: skip
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl+C, which a terminal sends to all: this one ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
