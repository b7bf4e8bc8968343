"""All that an instance keeps, in one file: the ledger, the releases that it knows, and what the operator wrote.

A backup is a tar archive: `backup.json` first (what it holds, with the digest of every other file), then the ledger as
it was at one moment, the releases, `trusted_types.json` and `config.py`. It is made while the service runs: the ledger
is copied in one transaction that reads, so writers go on and all that was acknowledged before is in it.

It is put back under a service that is stopped. Releases never change, so those of the backup are laid beside what is
there; the ledger takes its place last and in one step. What is replaced is put aside, never deleted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import IO, Any

from pysqlite3 import dbapi2

from . import __version__, ledgerfile
from .config import Settings, load_settings
from .errors import ReleaseRefused, StoreBusy, StoreError, StoreFull, UsageError
from .manifest import check_files
from .prediction import timestamp, utcnow
from .staging import staging, sync
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


def make(settings: Settings, ledger: Path, target: Path) -> Backup:
    """Write a backup that was read again and is whole; `target` is there only then.

    Raise UsageError, StoreFull or StoreBusy; a release that is damaged is kept as it is and named in `wrong`.
    """
    target = target.absolute()
    if os.path.lexists(target):
        raise UsageError(f"{target} is here already, and a backup replaces nothing; name another file.")
    with _told(target), staging(target.parent, ".backup-") as made:
        copy, archive = made / LEDGER, made / target.name
        _check_room(target.parent, 2 * sum(path.stat().st_size for path in _files_of(ledger)))
        with ledgerfile.opened(ledger) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
        backup = _described(settings, copy, made)
        _check_room(target.parent, backup.size)
        _write(backup, {name: _source(name, settings, copy) for name in backup.files}, archive)
        if _unpacked(archive) != backup:
            raise StoreBusy(f"{target} was not written as it was meant to be; nothing is kept of it.")
        archive.rename(target)
        sync(target.parent)
    return backup


def _described(settings: Settings, copy: Path, made: Path) -> Backup:
    found = ledgerfile.look(copy)
    if flaws := ledgerfile.flaws(copy):
        raise StoreBusy(f"The ledger is damaged ({flaws[0]}); restore a backup.")
    known, live = _known_releases(copy)
    names, wrong = [LEDGER, *(name for name in OWN if (settings.instance / name).is_file())], []
    for name, digest in known.items():
        folder = settings.releases / name
        try:
            check_files(folder, digest)
        except ReleaseRefused as error:
            wrong.append(f"{name}: {error.detail}")
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        names += [f"releases/{name}/{path.name}" for path in inside if path.is_file() and not path.is_symlink()]
    files = {name: _facts(_source(name, settings, copy)) for name in names if name in OWN or _is_safe(name)}
    return Backup(timestamp(utcnow()), __version__, found.schema, found.rows, [*known], live, wrong, files)


def _known_releases(ledger: Path) -> tuple[dict[str, str], str]:
    """Return the releases of a ledger with their digests, oldest first, and the name of the live one."""
    with ledgerfile.opened(ledger) as connection:
        rows = connection.execute("SELECT kind, name, version, digest FROM release_events ORDER BY seq").fetchall()
    moves = [f"{name}/{version}" for kind, name, version, _ in rows if kind != "built"]
    known = {f"{name}/{version}": digest for kind, name, version, digest in rows if kind == "built"}
    return known, moves[-1] if moves else ""


def _source(name: str, settings: Settings, copy: Path) -> Path:
    if name == LEDGER:
        return copy
    return settings.releases / name.removeprefix("releases/") if "/" in name else settings.instance / name


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


def _unpacked(file: Path, roots: Mapping[str, Path] | None = None) -> Backup:
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


# ---- putting one back -------------------------------------------------------------------------------------------


def restore(file: Path, settings: Settings, ledger: Path, *, replace: bool) -> tuple[Backup, list[Path]]:
    """Put a backup in the place of what is there; return what it holds and where what was there lies now.

    The caller holds the instance, so that no service runs. All of it is put in its place or, where that fails, none.
    A release that the backup holds damaged, and that is whole here, stays as it is here, and is not `wrong` any more.
    """
    with _told(file):
        if not file.is_file():
            raise UsageError(f"There is no file {file}.")
        if not replace and (there := _files_of(ledger)):
            raise UsageError(
                f"There is a ledger already: {there[0]}. Set another REVIEWAPP_INSTANCE, or put it aside by --replace."
            )
        for folder in (settings.instance, ledger.parent, settings.releases):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _told(ledger), ExitStack() as stack:
        made = {
            name: stack.enter_context(staging(folder, ".restoring-"))
            for name, folder in {
                LEDGER: ledger.parent,
                TRUSTED: settings.instance,
                "releases": settings.releases,
            }.items()
        }
        made[CONFIG] = made[TRUSTED]
        _check_room(ledger.parent, file.stat().st_size)
        backup = _unpacked(file, made)
        damaged = _check_ledger(backup, made)
        sound = {name for name, digest in damaged.items() if _is_sound(settings.releases, name, digest)}
        if CONFIG in backup.files:
            _check_config(made[CONFIG], settings)
        aside = _exchange(backup, made, settings, ledger, replace, keep=sound)
    return changed(backup, wrong=[one for one in backup.wrong if _name_in(one) not in sound]), aside


def _check_ledger(backup: Backup, made: Mapping[str, Path]) -> dict[str, str]:
    """Raise where the ledger of a backup, or a release that it knows, is not whole.

    Return the releases, with their digests, that were damaged when the backup was made.
    """
    copy = made[LEDGER] / LEDGER
    found = ledgerfile.look(copy)
    if found.state == ledgerfile.UNKNOWN:
        raise StoreError(f"The backup's ledger has schema {found.schema}, which a newer version of reviewapp made.")
    if flaws := ledgerfile.flaws(copy):
        raise UsageError(f"The backup's ledger is damaged: {flaws[0]}.")
    wrong, damaged = set(map(_name_in, backup.wrong)), dict[str, str]()
    for name, digest in _known_releases(copy)[0].items():
        try:
            check_files(made["releases"] / name, digest)
        except ReleaseRefused as error:
            if name not in wrong:
                raise UsageError(f"The backup's release {name} is not whole: {error.detail}") from None
            damaged[name] = digest
    return damaged


def _name_in(wrong: str) -> str:
    return wrong.partition(": ")[0]


def _is_sound(releases: Path, name: str, digest: str) -> bool:
    try:
        manifest = check_files(releases / name, digest)
    except ReleaseRefused:
        return False
    return f"{manifest['name']}/{manifest['version']}" == name


def _check_config(made: Path, settings: Settings) -> None:
    """Raise UsageError where the backup's config.py would let the service look elsewhere than where it is put."""
    if (settings.instance / CONFIG).exists():
        return  # it is the one that was read, and is held to be the same, or replaced, below
    then = load_settings({"instance": made})
    here = str(made), str(settings.instance)
    if (then.database_url.replace(*here), str(then.releases).replace(*here)) != (
        settings.database_url,
        str(settings.releases),
    ):
        raise UsageError(
            f"The backup's {CONFIG} names another place for the ledger or the releases; unpack it into "
            f"{settings.instance} first (tar -xf FILE {CONFIG}), and restore then."
        )


def _exchange(
    backup: Backup, made: Mapping[str, Path], settings: Settings, ledger: Path, replace: bool, *, keep: Set[str]
) -> list[Path]:
    """Move all to its place, the ledger last; whatever fails before that is undone. Return what was put aside.

    The releases in `keep` stay as they are here.
    """
    stamp = utcnow().strftime("before-%Y%m%dT%H%M%S.%f")
    names = sorted({name.removeprefix("releases/").rpartition("/")[0] for name in backup.files if "/" in name} - keep)
    moves = [(made["releases"] / name, settings.releases / name) for name in names]
    moves += [(made[name] / name, settings.instance / name) for name in OWN]
    moves = [(new, place) for new, place in moves if new.exists() and not _same(new, place)]
    if not replace and (there := [place for _, place in moves if place.exists()]):
        raise UsageError(f"{there[0]} is here already and is another one; put it aside by --replace.")
    aside: list[Path] = []
    with ExitStack() as undo:

        def move(old: Path, new: Path) -> None:
            new.parent.mkdir(exist_ok=True)
            old.rename(new)
            undo.callback(new.rename, old)

        for new, place in moves:
            if place.exists():
                aside.append(place.with_name(f"{place.name}.{stamp}"))
                move(place, aside[-1])
            for path in [new, *new.rglob("*")]:
                sync(path)
            move(new, place)
            sync(place.parent)
        whole = made[LEDGER] / LEDGER
        whole.chmod(0o600)
        sync(whole)
        kept = {path: ledger.with_name(f"{ledger.name}.{stamp}{_suffix(path, ledger)}") for path in _files_of(ledger)}
        for path, name in kept.items():  # under both names: at no moment is there no ledger, for which one is made
            os.link(path, name)
            undo.callback(name.unlink, missing_ok=True)
        beside = {path: name for path, name in kept.items() if path != ledger}
        if _fold(ledger):
            for name in beside.values():
                name.unlink()  # SQLite has brought what it holds into the ledger
        else:
            for path, name in beside.items():
                path.unlink(missing_ok=True)
                undo.callback(os.link, name, path)
        aside += [name for name in kept.values() if name.exists()]
        whole.rename(ledger)
        undo.pop_all()
    sync(ledger.parent)
    return aside


def _same(new: Path, place: Path) -> bool:
    """Whether a file, or all the files of a folder, are there already."""
    if new.is_dir():
        names = {path.name for path in new.iterdir()}
        return (
            place.is_dir()
            and names == {path.name for path in place.iterdir()}
            and all(_same(new / name, place / name) for name in names)
        )
    return place.is_file() and place.read_bytes() == new.read_bytes()


def _files_of(ledger: Path) -> list[Path]:
    """Return the files of a ledger that are there: itself and what SQLite keeps beside it."""
    return [path for path in (ledger, *(Path(f"{ledger}{s}") for s in ledgerfile.BESIDE)) if path.exists()]


def _suffix(path: Path, ledger: Path) -> str:
    return path.name.removeprefix(ledger.name)


def _fold(ledger: Path) -> bool:
    """Bring what is beside a ledger into it; return False where it cannot be read. Raise StoreBusy if it is used."""
    if not ledger.is_file():
        return False
    connection = dbapi2.connect(str(ledger), timeout=0, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    except dbapi2.OperationalError as error:
        raise StoreBusy(f"The ledger is in use ({error}); stop what uses it first.") from None
    except dbapi2.DatabaseError:
        return False
    else:
        return True
    finally:
        connection.close()


# ---- space ------------------------------------------------------------------------------------------------------


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFull(f"{folder} has {free:,} bytes left, and {needed:,} are needed; nothing was written.")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the system says into one sentence."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in _FULL:
            raise StoreFull(f"The disk of {path} is full; nothing was written.") from None
        raise UsageError(f"{where} cannot be used: {error.strerror or error}.") from None
