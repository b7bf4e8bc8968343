"""One partition from its bytes to its file, wherever Dask has it done: it needs this package, the files and no more.

The release comes along as bytes, is checked by the digest that the ledger knows, and answers its golden requests before
it answers a row; a process keeps it for the next partition.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import release as releases
from ..adapter import ModelAdapter
from ..ledger import Ledger
from ..prediction import Call, timestamp, utcnow
from ..store import Store
from .answers import answer
from .folder import Folder, Mark
from .inputs import Part, read
from .outputs import Layout, Said, write
from .recording import answer_and_record, counts
from .tables import Header, check

SOURCE = "bulk"


@dataclass(frozen=True)
class Job:
    """What all partitions of a run have in common.

    `serving` is the option that answers single requests now, `option` the one that is asked. `types` are the operator's
    own types, with the folders that their modules lie in. `database` is where each answer is recorded, if any is.
    """

    run: str
    out: str
    kind: str
    header: Header
    layout: Layout
    digest: str
    serving: str
    option: str
    actor: str
    types: Mapping[str, str]
    database: str | None = None


_loaded: dict[tuple[str, str | None], tuple[ModelAdapter, Store | None]] = {}  # what this process answers with


def do(job: Job, part: Part, files: Mapping[str, bytes]) -> Mark:
    """Answer a partition and write its files; return its mark. `files` are those of the release."""
    adapter, store = _adapter(job, files)
    checked = check(read(part, job.kind, job.header, adapter.contract), adapter.contract)
    call = Call(source=SOURCE, client=job.actor, request_id=job.run, dry_run=store is None)
    answers = (
        answer(checked, adapter, job.option)
        if store is None
        else answer_and_record(checked, adapter, job.option, store, call)
    )
    said = Said(adapter.release.id, job.option, timestamp(utcnow()), job.run)
    whole, bad = write(checked, answers, job.layout, said)
    return Folder(job.out).keep(part.number, whole, bad, counts(checked, answers))


def _adapter(job: Job, files: Mapping[str, bytes]) -> tuple[ModelAdapter, Store | None]:
    """Return what answers, and, where each answer is recorded, the store."""
    key = job.digest, job.database
    if key not in _loaded:
        forget()
        sys.path += [folder for folder in job.types.values() if folder and folder not in sys.path]
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            release = releases.read(Path(folder), job.digest, tuple(job.types))
        store = None if job.database is None else Store(job.database)
        adapter = ModelAdapter(release, sinks=[] if store is None else [Ledger(store).add])
        adapter.check_golden()
        _loaded[key] = adapter, store
    adapter, store = _loaded[key]
    return adapter.answering(job.serving), store


def forget() -> None:
    """Let go of the release and the store that this process has kept."""
    for _, store in _loaded.values():
        if store is not None:
            store.close()
    _loaded.clear()
