"""All trials in order, on a service of their own: what `reviewapp evidence` does."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from .. import release as releases
from .. import releasestore
from ..accounts import ROLES, Accounts
from ..adapter import ModelAdapter
from ..config import Settings
from ..errors import UsageError
from ..proof import Proofs
from ..registry import Registry
from ..release import Release, ReleaseId
from ..store import Store
from ..triage import build as triage
from ..trust import FILE as TRUSTED
from ..trust import TrustedTypes
from . import latency
from .behaviour import FILE as CASES
from .behaviour import behaviour, read_cases
from .comparison import comparison
from .drill import drill
from .examples import Example, labelled_requests
from .memo import MEMO, TEMPLATE, render
from .outcomes import outcomes, synthetic_requests
from .pack import REQUESTS, SOAK, Pack, changed_files, compare, facts, folder_of, is_of_table, soak_of, write
from .pictures import PICTURES, check_drawing, draw
from .running import RunningService, Trial
from .scoring import FILE as CRITERIA
from .scoring import read_criteria, scoring
from .simulation import simulation
from .testruns import test_runs
from .values import comparison_of_values
from .watching import watching

SEED = 20260131
STEPS = 10 + latency.RUNS
Progress = Callable[[str], None]


def measure(
    root: Path, settings: Settings, *, data: Path | None, quick: bool, progress: Progress, folder: Path | None = None
) -> Pack:
    """Run every trial and write the pack; `root` is the checkout, `progress` is called before each step.

    The release is the live one of the instance, else the default one, built anew; both are only read. The service, its
    ledger and its tokens are made for the trials and thrown away. `data` is the table of a release that was built from
    one, `folder` where to write instead of where the evidence of the release lies.
    """
    with tempfile.TemporaryDirectory(prefix="reviewapp-evidence-") as scratch, threadpool_limits(1):
        progress("release")
        instance = Path(scratch) / "instance"
        check_drawing()
        live = _live(settings)
        place = _place(settings, live)
        memo, of_table = place.parent, live is not None and is_of_table(live.folder)
        stated = [name for name in (CASES, CRITERIA) if not of_table or (memo / name).is_file()]
        if CRITERIA in stated:
            read_criteria(memo / CRITERIA)
        release = _release(settings, live, instance)
        examples = labelled_requests(release, data)
        if CASES in stated:
            read_cases(memo / CASES, release.contract)
        with _trial(release, examples, instance, memo, quick=quick, progress=progress) as trial:
            progress("requests")
            requests = synthetic_requests(trial)
            progress("outcomes")
            of_service = outcomes(trial, requests)
            if CASES in stated:
                progress("behaviour")
                of_service += behaviour(trial)
            of_service += latency.latency(trial, lambda: progress("latency"))
            if not of_table:
                progress("drill")
                of_service += drill(trial)
        progress("comparison")
        task = release.contract.outcome.task
        tables = comparison(trial) if task == "classification" else comparison_of_values(trial)
        if not of_table:
            progress("watching")
            tables += watching(trial)
        progress("simulation")
        tables += simulation(trial)
        by_name = {table.name: table for table in [*tables, *of_service]}
        scored = scoring(memo, by_name, SEED) if CRITERIA in stated else []
        tables += [*scored, *of_service]
        bound = facts(root, release, SEED, quick=quick)
        tests = test_runs(root, bound["source"])
        tables += [tests] if tests else []
        progress("pictures")
        files = {f"{picture.name}.png": draw(picture, by_name) for picture in PICTURES[task]}
        lines = [json.dumps(request.as_json(), ensure_ascii=False) + "\n" for request in requests]
        return write(folder or place, bound, tables, files | {REQUESTS: "".join(lines).encode()}, PICTURES[task])


def check(root: Path, settings: Settings, *, data: Path | None, quick: bool, progress: Progress) -> list[str]:
    """Run everything again and return a line for each thing that is not as the pack, or the memo, says."""
    folder = _place(settings, _live(settings))
    lines = [f"{folder.parent.name}/{folder.name}/{line}" for line in changed_files(folder)]
    if (folder / SOAK).is_dir():
        lines += [f"{folder.parent.name}/{folder.name}/{SOAK}/{line}" for line in changed_files(folder / SOAK)]
    try:
        old = Pack.read(folder)
        lines += memo_is_stale(old)
    except UsageError as error:  # without a pack to compare with, what was found so far is what can be said
        return lines or [error.detail]
    with tempfile.TemporaryDirectory() as again:
        new = measure(root, settings, data=data, quick=quick, progress=progress, folder=Path(again) / "evidence")
        return lines + list(compare(old, new, latency.FACTOR)) + failures(new)


def failures(pack: Pack) -> list[str]:
    """Return a line for every trial that did not find what it has to."""
    lines = [
        f"outcomes: {row['name']} ({row['rule'] or 'valid'}): expected {row['expected_status']} "
        f"{row['expected_code']} {row['expected_pointer']}, got {row['status']} {row['code']} {row['pointer']}"
        for row in pack.table("outcomes").find(ok="no")
    ]
    lines += [
        f"behaviour: {row['title']}: held on {row['held']} of {row['n']}, asked for is a share of {row['at_least']:g}"
        for row in (pack.table("behaviour").find(ok="no") if "behaviour" in pack.tables else [])
    ]
    lines += [
        f"latency: {row['payload']}, {row['loop']} loop, {row['load']}: {row['errors']} errors"
        for row in pack.table("latency").rows
        if row["errors"]
    ]
    lines += [
        f"drill: {row['step']}: {row['failed']} failed, {row['stale']} answered by the other option"
        for row in (pack.table("drill").rows if "drill" in pack.tables else [])
        if row["failed"] or row["stale"]
    ]
    if "tests" in pack.tables:
        lines += [f"tests: {row['area']}: {row['failed']} failed" for row in pack.table("tests").rows if row["failed"]]
    return lines


def render_memo(pack: Pack) -> Path | None:
    """Render the memo beside the evidence anew, where it has a template; return its path."""
    template = pack.folder.parent / TEMPLATE
    if not template.is_file():
        return None
    path = template.with_name(MEMO)
    text = render(template.read_text(encoding="utf-8"), _with_soak(pack))
    path.write_text(text, encoding="utf-8")
    return path


def memo_is_stale(pack: Pack) -> list[str]:
    """Return a line for each line of the memo that is not what its template and the evidence say."""
    template = pack.folder.parent / TEMPLATE
    if not template.is_file():
        return []
    path = template.with_name(MEMO)
    expected = render(template.read_text(encoding="utf-8"), _with_soak(pack)).splitlines()
    given = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    lines = [
        f"{path.parent.name}/{MEMO}, line {number}: it is {a!r} and the evidence says {b!r}"
        for number, (a, b) in enumerate(zip(given, expected, strict=False), 1)
        if a != b
    ]
    if len(given) != len(expected):
        lines.append(f"{path.parent.name}/{MEMO}: it has {len(given)} lines, and the evidence makes {len(expected)}")
    return lines


def _with_soak(pack: Pack) -> Pack:
    """Return the pack with the tables of the soak, for the memo to speak of them, too."""
    soak = soak_of(pack)
    return replace(pack, tables={**pack.tables, **soak.tables}) if soak else pack


@dataclass(frozen=True)
class _Live:
    """The live release, and the folder it lies in."""

    id: ReleaseId
    folder: Path


def _live(settings: Settings) -> _Live | None:
    """Return the live release of the instance, whose ledger is only read."""
    store = Store(settings.database_url, read_only=True)
    registry = Registry(releasestore.of(settings), store, ModelAdapter)
    try:
        found = registry.live() if store.exists() else None
    finally:
        store.close()
    return None if found is None else _Live(found, registry.folder(found))


def _place(settings: Settings, live: _Live | None) -> Path:
    return folder_of(settings, None if live is None else live.folder)


def _release(settings: Settings, live: _Live | None, instance: Path) -> Release:
    """Return the release to measure, with its folder in `instance`: the live one, or the default one built there."""
    if live is None:
        return triage.build(instance / "releases")
    Proofs(settings.instance).demand(live.folder, live.id.digest)
    release = releases.read(live.folder, live.id.digest, TrustedTypes(settings.instance).names())
    shutil.copytree(live.folder, instance / "releases" / live.id.name / str(live.id.version))
    if (settings.instance / TRUSTED).is_file():
        shutil.copy(settings.instance / TRUSTED, instance)
    return release


@contextmanager
def _trial(
    release: Release,
    examples: Mapping[str, Sequence[Example]],
    instance: Path,
    memo: Path,
    *,
    quick: bool,
    progress: Progress,
) -> Iterator[Trial]:
    """Give a trial with the service running; it is stopped when the block ends."""
    store = Store(f"sqlite:///{instance / 'reviewapp.sqlite3'}")
    Registry(instance / "releases", store, ModelAdapter, prove=Proofs(instance).demand).add(release, "evidence")
    accounts = Accounts(store)
    headers = {role: {"Authorization": f"Bearer {accounts.create_token('evidence', role, 1)}"} for role in ROLES}
    store.close()
    progress("start")
    service = RunningService(instance)
    service.start()
    try:
        yield Trial(
            release=release,
            adapter=ModelAdapter(release),
            examples=examples,
            seed=SEED,
            service=service,
            headers=headers,
            memo=memo,
            quick=quick,
        )
    finally:
        service.stop()
