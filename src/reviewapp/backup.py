"""All that an instance keeps, in one file: the ledger, the releases that it knows, and what the operator wrote.

A backup is a tar archive: `backup.json` first (what it holds, with the digest of every other file), then the ledger as
it was at one moment, the releases, `trusted_types.json` and `config.py`. It is made while the service runs: the ledger
is copied in one transaction that reads, so writers go on and all that was acknowledged before is in it.
`restoring.py` puts it back.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from . import __version__, copying, ledgerfile, releasestore
from .config import Settings
from .copying import Progress, unseen
from .errors import ReleaseRefused, StoreBusy, StoreFull, UsageError
from .manifest import Identity, check_files
from .prediction import timestamp, utcnow
from .staging import staging, sync
from .store import Store
from .trust import FILE as TRUSTED

FORMAT = 1
MANIFEST = "backup.json"
LEDGER = "reviewapp.sqlite3"
CONFIG = "config.py"
OWN = (TRUSTED, CONFIG)  # what the operator wrote
BLOCK = 1 << 20
LARGEST_MANIFEST = 64 << 20
_RELEASE = re.compile(r"releases/(?!\.)[^/]+/[0-9]+/(?!\.)[^/]+")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Backup:
    """What a backup says of itself. `wrong` names the releases that were damaged when it was made, with the reason.

    `files` has the bytes and the SHA-256 of each file, `releases` their names (`triage/3`).
    """

    made_at: str
    version: str
    schema: str
    rows: dict[str, int]
    releases: list[str]
    live: str
    wrong: list[str]
    files: dict[str, dict[str, Any]]

    @property
    def size(self) -> int:
        return sum(facts["bytes"] for facts in self.files.values())

    def in_words(self) -> str:
        """Return what it holds, for a person."""
        counted = [f"{number:,} {name.replace('_', ' ')}" for name, number in self.rows.items()]
        kept = f"{len(self.releases)} release{'s' if len(self.releases) != 1 else ''} ({self.live or 'none'} live)"
        return f"{', '.join(counted)}; {kept}; schema {self.schema}"


# ---- making one -------------------------------------------------------------------------------------------------


def make(settings: Settings, store: Store, target: Path, progress: Progress = unseen) -> Backup:
    """Write a backup that was read again and is whole; `target` is there only then.

    Raise UsageError, StoreFull or StoreBusy; a release that is damaged is kept as it is and named in `wrong`.
    `progress` is told how far the copy of a ledger in PostgreSQL is.
    """
    target = target.absolute()
    if os.path.lexists(target):
        raise UsageError(f"{target} is here already, and a backup replaces nothing; name another file.")
    with told(target), staging(target.parent, ".backup-") as made:
        copy, archive = (made if store.is_file else made / "copied") / LEDGER, made / target.name
        if not store.is_file:
            copying.check_source(store)
        check_room(target.parent, 2 * store.size())
        if store.is_file:
            with ledgerfile.opened(store.path) as connection:
                connection.execute("VACUUM INTO ?", (str(copy),))
        else:
            _copy_of_server(store, copy, progress)
        backup, sources = _described(settings, copy)
        check_room(target.parent, backup.size)
        _write(backup, {name: sources[name] for name in backup.files}, archive)
        if unpacked(archive) != backup:
            raise StoreBusy(f"{target} was not written as it was meant to be; nothing is kept of it.")
        archive.rename(target)
        sync(target.parent)
    return backup


def _copy_of_server(store: Store, copy: Path, progress: Progress) -> None:
    """Copy a ledger in PostgreSQL into one file, which lies in a folder that nobody else holds."""
    copy.parent.mkdir()
    with closing(Store(f"sqlite:///{copy}")) as kept:
        copying.copy(store, kept, progress)
    with ledgerfile.opened(copy) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # of a write-ahead log, files would be beside it


def _described(settings: Settings, copy: Path) -> tuple[Backup, dict[str, Path]]:
    """Return what goes into a backup, and where each file of it lies."""
    found = ledgerfile.look(copy)
    if flaws := ledgerfile.flaws(copy):
        raise StoreBusy(f"The ledger is damaged ({flaws[0]}); restore a backup.")
    known, live = known_releases(copy)
    place, wrong = releasestore.of(settings), []
    sources = {LEDGER: copy, **{name: settings.instance / name for name in OWN if (settings.instance / name).is_file()}}
    for name, digest in known.items():
        try:
            folder = place.local(identity(name, digest))
            check_files(folder, digest)
        except ReleaseRefused as error:
            wrong.append(f"{name}: {error.detail}")
            if place.remote:
                continue  # nothing of it is here
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        sources |= {f"releases/{name}/{one.name}": one for one in inside if one.is_file() and not one.is_symlink()}
    sources = {name: path for name, path in sources.items() if _is_safe(name)}
    files = {name: _facts(path) for name, path in sources.items()}
    return Backup(timestamp(utcnow()), __version__, found.schema, found.rows, [*known], live, wrong, files), sources


def known_releases(ledger: Path) -> tuple[dict[str, str], str]:
    """Return the releases of a ledger with their digests, oldest first, and the name of the live one."""
    with ledgerfile.opened(ledger) as connection:
        rows = connection.execute("SELECT kind, name, version, digest FROM release_events ORDER BY seq").fetchall()
    moves = [f"{name}/{version}" for kind, name, version, _ in rows if kind != "built"]
    known = {f"{name}/{version}": digest for kind, name, version, digest in rows if kind == "built"}
    return known, moves[-1] if moves else ""


def identity(name: str, digest: str) -> Identity:
    """Return the identity of a release that is called `triage/3`."""
    first, _, version = name.rpartition("/")
    return first, int(version), digest


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _write(backup: Backup, sources: Mapping[str, Path], archive: Path) -> None:
    manifest = archive.with_name(MANIFEST)
    manifest.write_text(json.dumps({"format": FORMAT, **asdict(backup)}, indent=1, ensure_ascii=False) + "\n")
    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, path in {MANIFEST: manifest, **sources}.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode, member.mtime = path.stat().st_size, 0o600, int(path.stat().st_mtime)
                with path.open("rb") as content:
                    tar.addfile(member, content)
        file.flush()
        os.fsync(file.fileno())


# ---- reading one ------------------------------------------------------------------------------------------------


def unpacked(file: Path, roots: Mapping[str, Path] | None = None) -> Backup:
    """Return what a backup holds, every file of it read and found as listed; write them below `roots`, by first name.

    Raise UsageError where it is none, or damaged.
    """
    try:
        with tarfile.open(file, "r:") as tar:
            members = iter(tar)
            backup = _manifest(tar, next(members, None), file)
            missing = dict(backup.files)
            for member in members:
                facts = missing.pop(member.name, None)
                content = _content(tar, member)
                if facts is None or content is None:
                    raise _damaged(file, f"it holds {member.name!r}, which it does not list")
                digest = hashlib.sha256()
                with Path(os.devnull if roots is None else _place(member.name, roots)).open("wb") as kept:
                    while block := content.read(BLOCK):
                        digest.update(block)
                        kept.write(block)
                if (digest.hexdigest(), member.size) != (facts["sha256"], facts["bytes"]):
                    raise _damaged(file, f"{member.name} is not what it was")
    except tarfile.TarError as error:
        raise _damaged(file, str(error)) from None
    if missing:
        raise _damaged(file, f"{min(missing)} is missing")
    return backup


def _manifest(tar: tarfile.TarFile, member: tarfile.TarInfo | None, file: Path) -> Backup:
    content = None if member is None else _content(tar, member)
    if member is None or member.name != MANIFEST or content is None or member.size > LARGEST_MANIFEST:
        raise _damaged(file, f"it does not begin with {MANIFEST}")
    try:
        listed = json.loads(content.read())
        if listed.pop("format") != FORMAT:
            raise UsageError(f"{file} was made by a newer version of reviewapp; restore it with that one.")
        backup = Backup(**listed)
        backup.in_words()
        sound = {name: type(value) for name, value in listed.items()} == _KINDS and all(
            _is_safe(name) and {key: type(value) for key, value in facts.items()} == {"bytes": int, "sha256": str}
            for name, facts in backup.files.items()
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound or LEDGER not in backup.files:
        raise _damaged(file, f"{MANIFEST} does not list what a backup holds")
    return backup


_KINDS = dict.fromkeys(("made_at", "version", "schema", "live"), str) | {
    "rows": dict, "releases": list, "wrong": list, "files": dict,
}  # fmt: skip


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    """Return what a plain file holds; of anything else a tar archive may hold, nothing."""
    return tar.extractfile(member) if member.type == tarfile.REGTYPE and not member.issparse() else None


def _is_safe(name: str) -> bool:
    return name in (LEDGER, *OWN) or bool(_RELEASE.fullmatch(name))


def _place(name: str, roots: Mapping[str, Path]) -> Path:
    """Return where a file is unpacked to, its folder made."""
    first, _, rest = name.partition("/")
    path = roots[first] / (rest or name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _damaged(file: Path, why: str) -> UsageError:
    return UsageError(f"{file} is no whole backup of reviewapp: {why}.")


# ---- what both ways need ----------------------------------------------------------------------------------------


def files_of(ledger: Path) -> list[Path]:
    """Return the files of a ledger that are there: itself and what SQLite keeps beside it."""
    return [path for path in (ledger, *(Path(f"{ledger}{s}") for s in ledgerfile.BESIDE)) if path.exists()]


def check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFull(f"{folder} has {free:,} bytes left, and {needed:,} are needed; nothing was written.")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the system says into one sentence."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in _FULL:
            raise StoreFull(f"The disk of {path} is full; nothing was written.") from None
        raise UsageError(f"{where} cannot be used: {error.strerror or error}.") from None
