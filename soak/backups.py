"""Row 9: backups that are made under load and put back, each held to what was acknowledged before it began."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from pysqlite3 import dbapi2
from tests.service import Service

from reviewapp import backup, ledgerfile, restoring
from reviewapp.config import load_settings
from reviewapp.errors import ReviewappError
from reviewapp.factory import make_parts
from reviewapp.samples import example_record
from reviewapp.store import Store

from .figures import Figure, all_of, below, none
from .instances import served

CALLERS = 3
PAUSE = 0.03  # seconds between the requests of one caller: the ledger is to grow, not to fill the disk


class Load:
    """Callers that ask one request after the other until they are told to stop."""

    def __init__(self, service: Service, record: Mapping[str, object]) -> None:
        self.acknowledged: list[str] = []
        self.failed = 0
        self.longest = 0.0
        self._service, self._record = service, record
        self.headers = {"Authorization": f"Bearer {service.reviewer}"}
        self._over = threading.Event()
        self._callers = [threading.Thread(target=self._ask) for _ in range(CALLERS)]

    def __enter__(self) -> Load:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for caller in self._callers:
            caller.join()

    def _ask(self) -> None:
        while not self._over.wait(PAUSE):
            began = time.monotonic()
            try:
                status, made, _ = self._service.call(
                    "POST", "/api/v1/predictions", {"input": self._record}, self.headers
                )
            except OSError:
                status = 0
            self.longest = max(self.longest, time.monotonic() - began)
            if status == 201:
                self.acknowledged.append(made["id"])
            else:
                self.failed += 1


def run(folder: Path, *, full: bool) -> list[Figure]:
    rounds = 100 if full else 3
    service = served(folder / "instance")
    parts = make_parts(load_settings({"instance": service.instance}, {}))
    record = example_record(parts.registry.contract())
    parts.store.close()
    written = whole = complete = 0
    with service, Load(service, record) as load:
        for number in range(rounds):
            while len(load.acknowledged) < 5 * (number + 1) and not load.failed:
                time.sleep(0.01)
            before = set(load.acknowledged)
            archive = folder / f"{number}.tar"
            try:
                backup.make(parts.settings, parts.store, archive)
                written += 1
                found = _put_back(archive, folder / "restored")
            except ReviewappError as error:
                print(f"   backup {number}: {error.detail}", flush=True)
            else:
                whole += found is not None
                complete += found is not None and before <= found
            archive.unlink(missing_ok=True)
            shutil.rmtree(folder / "restored", ignore_errors=True)
        by_commands = [_by_commands(folder, service, load)] if full else []
    return [
        all_of("backups written while the service answered", written, rounds),
        all_of("of these put back and whole", whole, rounds),
        all_of("of these with every answer that was acknowledged before", complete, rounds),
        none(f"answers that failed meanwhile, of {len(load.acknowledged) + load.failed:,}", load.failed),
        below("longest wait for an answer meanwhile", load.longest, 15, "s"),
        *by_commands,
    ]


def _put_back(archive: Path, instance: Path) -> set[str] | None:
    """Put a backup into an instance of its own; return the ids that its ledger holds, or None if it is not whole."""
    settings = load_settings({"instance": instance}, {})
    store = Store(settings.database_url)
    restoring.restore(archive, settings, store, replace=False)
    if ledgerfile.flaws(ledger := store.path):
        return None
    with closing(dbapi2.connect(str(ledger))) as connection:
        return {one for (one,) in connection.execute("SELECT id FROM predictions")}


def _by_commands(folder: Path, service: Service, load: Load) -> Figure:
    """Back up and restore as an operator does."""
    before, archive = list(load.acknowledged)[-50:], str(folder / "kept.tar")
    service.command("backup", archive)
    second = Service(folder / "second")
    second.command("restore", archive)
    with second:  # the token was restored, too
        found = [second.call("GET", f"/api/v1/predictions/{one}", headers=load.headers)[0] for one in before]
    what = "answers acknowledged before `reviewapp backup` and read after `reviewapp restore`"
    return all_of(what, found.count(200), len(before))
