"""The ledger: where its file lies, who may read it, whether it is whole and keeps what is acknowledged."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select

from .. import ledgerfile
from ..errors import ReviewappError
from ..prediction import timestamp
from ..tables import predictions, release_events
from .finding import OK, WARNING, WRONG, Case, Finding

LEAST, LITTLE = 100 << 20, 1 << 30  # bytes
REMOTE = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "gfs2",
    "ocfs2",
    "virtiofs",
}
PASSING = {"tmpfs", "ramfs"}
FULL_SYNC = 2  # of PRAGMA synchronous
TOLERANCE = timedelta(seconds=5)  # between the clock that wrote a row and the look at it


def disk(case: Case) -> Iterator[Finding]:
    """SQLite's write-ahead log needs memory that all its users share, and locks that hold."""
    folder = case.parts.store.path.parent
    kind = file_system(folder, case.facts.mounts)
    if kind in REMOTE or (kind.startswith("fuse.") and kind != "fuse.fuse-overlayfs"):
        yield Finding(WRONG, f"{folder} lies on {kind}, over a network.", "Move the instance folder to a local disk.")
    elif kind in PASSING:
        yield Finding(WARNING, f"{folder} lies on {kind}, in memory: a restart loses it.", "Move it to a disk.")
    else:
        yield Finding(OK, f"{folder} lies on {kind or 'a disk of a kind that is not known here'}.")


def file_system(folder: Path, mounts: str) -> str:
    """Return the kind of file system that a folder lies on, from what Linux says of mounts (`mountinfo`); else ""."""
    kinds = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        kinds[Path(point)] = after.split()[0]
    where = folder.resolve()
    return next((kinds[one] for one in (where, *where.parents) if one in kinds), "")


def space(case: Case) -> Iterator[Finding]:
    path = case.parts.store.path
    folder = next(one for one in path.parents if one.is_dir())
    free = shutil.disk_usage(folder).free
    copies = 2 * path.stat().st_size if path.is_file() else 0
    fix = "Free space: a full disk refuses every request (507)."
    if free < LEAST:
        yield Finding(WRONG, f"{folder} has {free:,} bytes left.", fix)
    elif free < max(LITTLE, copies):
        yield Finding(WARNING, f"{folder} has {free:,} bytes left; a backup there needs {copies:,}.", fix)
    else:
        yield Finding(OK, f"{folder} has {free / (1 << 30):,.0f} GB left.")


def modes(case: Case) -> Iterator[Finding]:
    """The ledger and its copies hold all that was asked; what others may write would be run by the service."""
    instance, store = case.parts.settings.instance, case.parts.store
    inside = [*instance.iterdir()] if instance.is_dir() else []
    secret = {path for path in inside if path.suffix in (".tar", ".py", ".json")}
    if store.is_file:
        secret |= {*store.path.parent.glob(f"{store.path.name}*")}
    found = False
    for path in sorted(secret):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077 and (path.suffix not in (".py", ".json") or mode & 0o022 or _tells(path, store.url.password)):
            found = True
            yield Finding(WRONG, f"{path} has mode {mode:03o}: others may read or change it.", f"chmod 600 {path}")
    mode = stat.S_IMODE(instance.stat().st_mode) if inside else 0
    if mode & 0o022:
        yield Finding(WRONG, f"{instance} has mode {mode:03o}: others may put files there.", f"chmod 700 {instance}")
    elif mode & 0o055:
        yield Finding(WARNING, f"{instance} has mode {mode:03o}: others may look into it.", f"chmod 700 {instance}")
    elif not found:
        yield Finding(OK, f"{instance} and the ledger are for their owner alone.")


def _tells(path: Path, password: object) -> bool:
    """Whether a file holds the password of the ledger's URL."""
    return password is not None and str(password) in path.read_text(encoding="utf-8", errors="replace")


def schema(case: Case) -> Iterator[Finding]:
    found, store = case.looked, case.parts.store
    if isinstance(found, ReviewappError):
        if not store.is_file and isinstance(case.server, ReviewappError):
            yield unread()  # of the server, that is said already
        elif store.is_file and store.path.is_file():
            yield Finding(WRONG, found.detail, "Restore a backup.")
        else:
            yield Finding(WARNING, found.detail, "The first start makes one.")
        return
    if found.state == ledgerfile.CURRENT:
        yield Finding(OK, f"The schema is {found.schema}, that of this version.")
    elif found.state == ledgerfile.OLDER:
        yield Finding(
            WARNING, f"The schema is {found.schema}, of an older version.", "Back up, then `reviewapp db upgrade`."
        )
    else:
        yield Finding(
            WRONG, f"The schema is {found.schema}, of a newer version.", "Run that version, or restore a backup."
        )


def durability(case: Case) -> Iterator[Finding]:
    """As the service opens the file: what is acknowledged is on the disk."""
    if not usable(case):
        yield unread()
        return
    with case.parts.store.reading() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    if journal != "wal" or synchronous != FULL_SYNC:
        yield Finding(
            WRONG,
            f"The ledger is opened with journal_mode {journal} and synchronous {synchronous}, not WAL and FULL.",
            "Move the instance folder to a local disk that can lock.",
        )
    else:
        yield Finding(OK, "WAL and synchronous FULL are in force.")


def content(case: Case) -> Iterator[Finding]:
    path = case.parts.store.path
    if not path.is_file():
        yield unread()
    elif found := ledgerfile.flaws(path, quick=True):
        yield Finding(
            WRONG, f"The ledger's file is damaged: {found[0]}", "Restore a backup; `reviewapp db check` says more."
        )
    else:
        yield Finding(OK, "SQLite finds the ledger's file whole.")


def times(case: Case) -> Iterator[Finding]:
    """A clock that was set back gives new rows earlier times than old ones."""
    if not usable(case):
        yield unread()
        return
    with case.parts.store.reading() as connection:
        newest = max(
            connection.scalar(select(func.max(table.c.created_at))) or "" for table in (predictions, release_events)
        )
    if newest > timestamp(case.facts.clock() + TOLERANCE):
        yield Finding(WRONG, f"The newest row is of {newest}, which is yet to come.", "Set the clock; keep it by NTP.")
    else:
        yield Finding(OK, "No row is later than the clock.")


def usable(case: Case) -> bool:
    """Whether the ledger can be opened without being changed: it is there, whole, and of this version."""
    return not isinstance(case.looked, ReviewappError) and case.looked.state == ledgerfile.CURRENT


def unread() -> Finding:
    return Finding(WARNING, "Not looked at: there is no ledger that can be opened as it is.")
