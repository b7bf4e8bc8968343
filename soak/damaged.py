"""Row 5: damaged and forged releases are refused, by the command and by a service that goes on answering.

The digest that counts is the one in the ledger, so one with new checksums is refused like one that a disk damaged. Of
some of those the digest is stated as trusted, and the process that loads them has to stand it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from tests.service import Service

from reviewapp import release as releases
from reviewapp.config import Settings, load_settings
from reviewapp.errors import ReleaseRefused, StoreError
from reviewapp.factory import make_parts
from reviewapp.registry import RETRY_SECONDS
from reviewapp.samples import example_record
from reviewapp.verifying import verify

from .damages import ACCIDENTS, FORGED, NEVER, OF_A_FOREST, Damage, forged, sealed, with_forest
from .figures import Figure, all_of, below, none
from .instances import ACTOR, served

SEED = 5
COPIES, SHORT_COPIES = 1000, 30
SHARE_FORGED = 0.4
EACH_BY_COMMAND, EACH_PROMOTED = 10, 10  # one in so many
STATED, SHORT_STATED = 60, 1
KILLS, SHORT_KILLS = 100, 1
PROBES = 10  # predictions at least that are asked for meanwhile
LONGEST, MOST, LOADING = 30.0, 300.0, 2000.0  # seconds, MB, and MB of a process that may load it


def run(folder: Path, *, full: bool) -> list[Figure]:
    rng = random.Random(SEED)
    service = served(folder / "instance")
    settings = load_settings({"instance": service.instance}, {})
    bases, token = _prepared(settings, proved=full)
    boss = {"Authorization": f"Bearer {token}"}
    copies = Copies(folder, bases, rng, COPIES if full else SHORT_COPIES)
    with service:
        figures = [*_verified(copies, settings, service), *_promoted(copies, service, boss, settings)]
        if full:  # a service tries only so often
            figures += _damaged_alive(service, boss, settings)
        figures += _stated(copies, service, STATED if full else SHORT_STATED)
        return figures + _killed(service, boss, settings, rng, KILLS if full else SHORT_KILLS)


def _prepared(settings: Settings, *, proved: bool) -> tuple[list[Path], str]:
    """Return release 2, one of a forest, which is in the ledger if it is to be proved, and the token of an admin."""
    parts = make_parts(settings)
    first, second = reversed([event.id for event in parts.registry.built()])
    model = releases.read(parts.registry.folder(first), first.digest)
    grown = releases.write(with_forest(model), parts.registry.place)
    if proved:
        parts.registry.add(grown, ACTOR)
    token = parts.accounts.create_token("boss", "admin", 1)
    parts.store.close()
    return [parts.registry.folder(second), parts.registry.folder(grown.id)], token


class Copies:
    """Damaged copies of a release, the same ones on every run."""

    def __init__(self, folder: Path, bases: list[Path], rng: random.Random, count: int) -> None:
        self._folder, self._bases, self._rng, self.count = folder, bases, rng, count
        self.forged = 0

    @contextmanager
    def damaged(self, damage: Damage, base: Path | None = None) -> Iterator[Path]:
        chosen = self._bases[1] if damage in OF_A_FOREST else base or self._rng.choice(self._bases)
        folder = self._folder / "copy"
        shutil.copytree(chosen, folder)
        try:
            (forged(damage) if damage in FORGED else damage)(folder, self._rng)
            yield folder
        finally:
            shutil.rmtree(folder)

    def damages(self) -> Iterator[Damage]:
        """Yield which damage each copy takes: each kind in turn, four in ten of those with new checksums."""
        for number in range(self.count):
            of_forgers = number % 10 < 10 * SHARE_FORGED
            self.forged += of_forgers
            kinds = FORGED if of_forgers else ACCIDENTS
            yield kinds[(number // 10 * 7 + number) % len(kinds)]


def _verified(copies: Copies, settings: Settings, service: Service) -> list[Figure]:
    """Verify each copy: in this process, and one in ten by the command."""
    refused = by_command = commands = 0
    slowest = most = 0.0
    workers = service.workers()
    for number, damage in enumerate(copies.damages()):
        with copies.damaged(damage) as folder:
            refused += _is_refused(folder, settings)
            if number % EACH_BY_COMMAND == 0:
                commands += 1
                code, seconds, megabytes = _command(folder, service)
                by_command += code == 1
                slowest, most = max(slowest, seconds), max(most, megabytes)
    return [
        all_of("damaged releases that are refused", refused, copies.count),
        Figure("of them with new checksums", ">= 30 %", f"{copies.forged}", copies.forged >= 0.3 * copies.count),
        all_of("of them by the command, which ends by itself", by_command, commands),
        below("the slowest refusal by the command", slowest, LONGEST, "s"),
        below("the most memory of one", most, MOST, "MB", 0),
        none("workers lost meanwhile", len(set(workers) - set(service.workers()))),
    ]


def _is_refused(folder: Path, settings: Settings, digest: str | None = None) -> bool:
    try:
        verify(folder, settings, digest)
    except ReleaseRefused:
        return True
    return False


def _command(folder: Path, service: Service, *words: str) -> tuple[int, float, float]:
    """Return how the command ended, how long it took, and the most memory of it or what it started, in MB."""
    began, most = time.monotonic(), 0.0
    command = [sys.executable, "-m", "reviewapp", "verify", str(folder), *words]
    with subprocess.Popen(
        command, env=service.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        while running.poll() is None:
            most = max(most, _megabytes(running.pid))
            time.sleep(0.01)  # from one look at its memory to the next
    return running.returncode, time.monotonic() - began, most


def _megabytes(pid: int) -> float:
    """Return the most memory that a process, or one that it started, has taken so far; 0 where it has ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return max([int(found[1]) / 1000 if found else 0.0, *(_megabytes(int(child)) for child in children)])


# ---- in a running service ---------------------------------------------------------------------------------------


class Probes:
    """Asks the service for predictions all the time, in a thread of its own, and counts what was no answer."""

    def __init__(self, service: Service, headers: dict[str, str], record: dict[str, Any]) -> None:
        self._service, self._headers, self._record = service, headers, record
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.asked = self.failed = 0
        self.versions: set[int] = set()

    def __enter__(self) -> Probes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._end.wait(0.02):
            self.asked += 1
            try:
                body = {"input": self._record}
                status, said, _ = self._service.call("POST", "/api/v1/predictions", body, self._headers, fresh=True)
            except OSError:
                self.failed += 1
                continue
            self.failed += not 200 <= status < 300
            if status < 300:
                self.versions.add(said["release"]["version"])


def _probes(service: Service, boss: dict[str, str], settings: Settings) -> Probes:
    parts = make_parts(settings)
    record = example_record(parts.registry.contract())
    parts.store.close()
    return Probes(service, boss, record)


def _promote(service: Service, boss: dict[str, str], version: int) -> int:
    body = {"reason": "soak", "breaking": True}
    return int(service.call("POST", f"/api/v1/releases/{version}/promote", body, boss, fresh=True)[0])


def _live(service: Service, boss: dict[str, str]) -> int:
    status, said, _ = service.call("GET", "/api/v1/releases/active", None, boss, fresh=True)
    return int(said["version"]) if status == 200 else 0


def _promoted(copies: Copies, service: Service, boss: dict[str, str], settings: Settings) -> list[Figure]:
    """Put damaged copies in the place of release 2 of a running service, and promote it."""
    place, aside = settings.instance / "releases" / "triage" / "2", settings.instance / "aside"
    refused = asked = 0
    workers = service.workers()
    place.rename(aside)
    with _probes(service, boss, settings) as probes:
        for number, damage in enumerate(copies.damages()):
            if number % EACH_PROMOTED == number // EACH_PROMOTED % EACH_PROMOTED:
                with copies.damaged(damage, aside) as folder:
                    folder.rename(place)
                    asked += 1
                    refused += _promote(service, boss, 2) == 409
                    place.rename(folder)
        while probes.asked < PROBES:
            time.sleep(0.05)  # the probes count on by themselves, also those that fail
    aside.rename(place)
    live = _live(service, boss)
    return [
        all_of("damaged releases that a running service refuses to promote", refused, asked),
        none("workers lost meanwhile", len(set(workers) - set(service.workers()))),
        all_of("predictions that were answered meanwhile", probes.asked - probes.failed, probes.asked),
        Figure("the releases that answered, and the live one", "1, 1", f"{_listed(probes.versions)}, {live}",
               (probes.versions, live) == ({1}, 1)),
    ]  # fmt: skip


def _listed(versions: set[int]) -> str:
    return " and ".join(map(str, sorted(versions)))


def _damaged_alive(service: Service, boss: dict[str, str], settings: Settings) -> list[Figure]:
    """Damage the live release on the disk, kill a worker, and mend it."""
    promoted = _promote(service, boss, 2)
    path = settings.instance / "releases" / "triage" / "2" / "model.skops"
    whole, master, before = path.read_bytes(), service.process.pid, service.workers()
    with _probes(service, boss, settings) as probes:
        path.write_bytes(whole[:-1])
        os.kill(before[0], signal.SIGKILL)
        reason = _waited(lambda: _unready(service), 60)
        time.sleep(1)  # of probes while the worker that came back has nothing but the release before
        path.write_bytes(whole)
        ready = _waited(lambda: all(_unready(service) is None for _ in range(20)), RETRY_SECONDS + 60)
    named = "model.skops" in str(reason)
    alive = service.process.poll() is None and service.process.pid == master
    return [
        Figure("release 2, whole, is promoted", "200", str(promoted), promoted == 200),
        Figure("readiness names the damaged file of the live release", "yes", "yes" if named else "no", named),
        Figure("the master lives on", "yes", "yes" if alive else "no", alive),
        none("predictions without an answer, beside those that the killed worker had", max(0, probes.failed - 1)),
        Figure("the releases that answered meanwhile", "1 or 2", _listed(probes.versions), probes.versions <= {1, 2}),
        Figure("ready again once it is mended", "yes", "yes" if ready else "no", bool(ready)),
    ]


def _unready(service: Service) -> str | None:
    """Return why the worker that is asked is not ready, None where it is."""
    try:
        status, said, _ = service.call("GET", "/readyz", fresh=True)
    except OSError as error:
        return str(error)
    return None if status == 200 else str(said)


def _waited(found: Callable[[], Any], seconds: float) -> Any:
    """Return what is found within so many seconds, a reason that names a file before any other."""
    until, last = time.monotonic() + seconds, None
    while time.monotonic() < until:
        last = found()
        if last is True or (isinstance(last, str) and "skops" in last):
            return last
        time.sleep(0.05)
    return None


# ---- loaded all the same ----------------------------------------------------------------------------------------


def _stated(copies: Copies, service: Service, count: int) -> list[Figure]:
    """State the digest of forged releases as trusted: what may never be loaded is refused by the process that tries."""
    refused, slowest, most = 0, 0.0, 0.0
    for number in range(count):
        with copies.damaged(NEVER[number % len(NEVER)]) as folder:
            code, seconds, megabytes = _command(folder, service, "--digest", sealed(folder))
        refused += code == 1
        slowest, most = max(slowest, seconds), max(most, megabytes)
    return [
        all_of("forged releases that the command refuses although their digest is stated", refused, count),
        below("the slowest of these", slowest, LONGEST, "s"),
        below("the most memory of one, or of what loaded it", most, LOADING, "MB", 0),
    ]


# ---- killed while it promotes -----------------------------------------------------------------------------------


def _killed(service: Service, boss: dict[str, str], settings: Settings, rng: random.Random, count: int) -> list[Figure]:
    """Kill everything while release 1 and 2 are promoted in turn; the one or the other is live, as the log says."""
    right = agreeing = 0
    for _ in range(count):
        before = _live(service, boss)
        target = 2 if before == 1 else 1
        acknowledged: list[int] = []
        asking = threading.Thread(target=_ask_to_promote, args=(service, boss, target, acknowledged))
        asking.start()
        time.sleep(rng.random() * 0.15)  # so that the kill comes at another point of a promotion each time
        service.kill()
        asking.join()
        after = _log(settings)[-1]
        right += after == target or (after == before and 200 not in acknowledged)
        service.start()
        agreeing += _live(service, boss) == after
    return [
        all_of("promotions under a kill -9 of everything that left the old or the new release live", right, count),
        all_of("services that answer after it with what the log says", agreeing, count),
    ]


def _ask_to_promote(service: Service, boss: dict[str, str], version: int, acknowledged: list[int]) -> None:
    try:
        acknowledged.append(_promote(service, boss, version))
    except OSError:
        return  # it was killed before it answered


def _log(settings: Settings) -> list[int]:
    """Return the versions that were made live, in order, from a ledger that is whole."""
    with dbapi2.connect(f"file:{settings.instance / 'reviewapp.sqlite3'}?mode=ro", uri=True) as ledger:
        [(state,)] = ledger.execute("PRAGMA integrity_check").fetchall()
        if state != "ok":
            raise StoreError(f"The ledger is damaged: {state}")
        moves = ledger.execute("SELECT version FROM release_events WHERE kind = 'promoted' ORDER BY seq")
        return [version for (version,) in moves]
