"""Row 7: what carries the ledger fails under load: its disk, its lock, its log, its file."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from tests.service import Service

from .figures import Figure, all_of, below, none
from .instances import fresh
from .load import Load, whole

CONNECTIONS = 16
BACK = 1.0  # seconds after the end of a fault in which the first request is recorded again
# Seconds in which /readyz has said so: it may first wait for a thread, all of which wait 1.5 s for the lock, and then
# for half a second at its own turn and a little at the one that all processes share.
READY = 2.5
READ = 3.5  # and a read or a page has been answered, all threads being busy with what waits
LOG = 21 << 20  # bytes of the write-ahead log once nobody reads any more; the checkpoint's 4,000 pages, and some more
READS = "/livez", "/api/v1/predictions?limit=1", "/api/v1/releases/active", "/history"
# A file system of its own that is small: in a name space of the user's own nobody need be root for it.
MOUNTED = (
    'mount -t tmpfs -o size="$1" none "$REVIEWAPP_INSTANCE" && cp -a "$2/." "$REVIEWAPP_INSTANCE" && '
    'exec "$3" -m reviewapp serve'
)
SIZE = 24 << 20

Fault = Callable[[Path], AbstractContextManager[object]]


def run(folder: Path, *, full: bool) -> list[Figure]:
    with Service(fresh(folder / "instance")) as service:
        ledger, figures = service.instance / "reviewapp.sqlite3", []

        def failing(_: Path) -> AbstractContextManager[None]:
            return no_writing(service.workers())

        faults: list[tuple[str, Fault, float]] = [("lock held", locked, 20 if full else 0.5)]
        if full:
            faults += [("disk fails", failing, 6), ("file away", away, 6), ("long reader", _read, 60)]
        for what, fault, seconds in [*faults, ("file replaced", _replaced, 0)]:
            figures += _figures(what, service, ledger, fault, seconds, fails=what != "long reader")
            if what == "long reader":
                size = ledger.with_name(f"{ledger.name}-wal").stat().st_size
                figures.append(below("log after a long reader", size / 2**20, LOG / 2**20, "MiB"))
    with mounted(folder / "small", SIZE) as service:
        ledger = Path(f"/proc/{service.process.pid}/root{service.instance}/reviewapp.sqlite3")
        return figures + _figures("disk full", service, ledger, filled, 6 if full else 0.5)


def _figures(
    what: str, service: Service, ledger: Path, fault: Fault, seconds: float, *, fails: bool = True
) -> list[Figure]:
    took, detail, status = 0.0, "", 200
    with Load(service, connections=CONNECTIONS) as load, _Reading(service) as reading:
        time.sleep(0.5)
        with fault(ledger):
            if seconds and fails:
                took, detail, status = _ready(service)
            time.sleep(seconds)
        ended = time.monotonic()
        time.sleep(BACK)
    file = _seen_from_here(ledger, service.instance.parent)
    kept = load.check(file)
    dishonest = [one for one in load.failed if not one.honest]
    back = min((at for at in load.answered if at > ended), default=float("inf")) - ended
    figures = [
        none(f"{what}: acknowledged and lost, of {kept.acknowledged:,}", kept.lost),
        none(f"{what}: recorded twice", kept.twice),
        all_of(f"{what}: ledger whole", int(whole(file)), 1),
        none(f"{what}: failed otherwise than with 503 or 507 and Retry-After, of {load.sent:,}", len(dishonest)),
        none(f"{what}: reads and pages that failed, of {reading.asked}", len(reading.failed)),
        below(f"{what}: slowest read or page", reading.slowest, READ, "s"),
        below(f"{what}: slowest refusal", max((one.took for one in load.failed), default=0.0), READ, "s"),
        below(f"{what}: first recorded after its end", back, BACK, "s"),
    ]
    if fails and seconds:
        figures.append(Figure(f"{what}: /readyz says “{detail}”", f"503 in {READY:g} s", f"{status} in {took:.2f} s",
                              status == 503 and took < READY))  # fmt: skip
    for one in [*dishonest[:3], *reading.failed[:3]]:
        print(f"  {what}: {one}", file=sys.stderr)
    return figures


def _seen_from_here(ledger: Path, aside: Path) -> Path:
    """Return a copy, made while nobody writes, of a ledger on another's file system; SQLite would follow the link."""
    if not ledger.is_relative_to("/proc"):
        return ledger
    folder = Path(tempfile.mkdtemp(prefix="ledger-", dir=aside))
    for end in ("", "-wal"):
        shutil.copyfile(f"{ledger}{end}", folder / f"{ledger.name}{end}")
    return folder / ledger.name


def _ready(service: Service) -> tuple[float, str, int]:
    """Ask whether the service is ready until it is not, or not at all; return after which time, and what it said."""
    began, status, detail = time.monotonic(), 200, ""
    while status == 200 and time.monotonic() - began < 2 * READY:
        status, answer, _ = service.call("GET", "/readyz", fresh=True)
        detail = answer.get("detail", "")
    return time.monotonic() - began, detail, status


class _Reading:
    """One who only reads, again and again, each time on a connection of its own."""

    def __init__(self, service: Service) -> None:
        self._service, self._stop = service, threading.Event()
        self._headers = {"Authorization": f"Bearer {service.reviewer}"}
        self._thread = threading.Thread(target=self._work)
        self.asked, self.slowest = 0, 0.0
        self.failed: list[str] = []

    def __enter__(self) -> _Reading:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(0.05):
            path = READS[self.asked % len(READS)]
            began = time.monotonic()
            try:
                status, answer, _ = self._service.call("GET", path, None, self._headers, fresh=True)
            except OSError as error:
                status, answer = 0, str(error)
            self.asked += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if status != 200:
                self.failed.append(f"GET {path}: {status} {str(answer)[:300]}")


# ---- faults -------------------------------------------------------------------------------------------------------


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    with closing(dbapi2.connect(str(ledger), isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def _read(ledger: Path) -> Iterator[None]:
    with closing(dbapi2.connect(str(ledger), isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM predictions").fetchone()
        yield
        other.execute("ROLLBACK")


@contextmanager
def no_writing(workers: list[int]) -> Iterator[None]:
    """Let every write to a file fail."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in workers}
    for pid, (_, most) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
    yield
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def away(ledger: Path) -> Iterator[None]:
    elsewhere = ledger.with_name("elsewhere")
    ledger.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(ledger)


def _replaced(ledger: Path) -> AbstractContextManager[None]:
    """Put a copy in its place, as who restores a backup does; the lock makes it one of all that is acknowledged."""
    copy = ledger.with_name("copy")
    with locked(ledger):
        with closing(dbapi2.connect(str(ledger))) as source, closing(dbapi2.connect(str(copy))) as target:
            source.backup(target)
        for end in ("-wal", "-shm"):
            ledger.with_name(f"{ledger.name}{end}").unlink()
        copy.rename(ledger)
    return nullcontext()


@contextmanager
def filled(ledger: Path) -> Iterator[None]:
    filler = ledger.with_name("filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:  # it is full
            yield
    filler.unlink()


@contextmanager
def mounted(instance: Path, size: int) -> Iterator[Service]:
    """Give a service whose instance is on a file system of a size."""
    service = Service(fresh(instance.with_name("original")))
    _ = service.reviewer  # made now: a command later would see another file system than the service
    original, service.instance = service.instance, instance
    service.environment["REVIEWAPP_INSTANCE"] = str(instance)
    instance.mkdir()

    def launch(**how: Any) -> subprocess.Popen[bytes]:
        command = ["unshare", "-Urm", "sh", "-ec", MOUNTED, "sh", str(size), str(original), sys.executable]
        return subprocess.Popen(command, env=service.environment, cwd=os.sep, **how)

    service.launch = launch
    with service:
        yield service
