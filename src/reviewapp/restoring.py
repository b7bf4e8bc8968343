"""A backup in the place of what is there: all of it, or nothing is changed.

It is put back under a service that is stopped. Releases never change, so those of the backup are laid beside what is
there; the ledger takes its place last and in one step. What is replaced is put aside, never deleted. Under a URL,
releases that were put there stay, whatever fails after that: nothing answers from them before a ledger knows them. In
PostgreSQL the ledger goes into an empty database, in one transaction; a database with rows in it is never replaced.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import replace as changed
from pathlib import Path

from pysqlite3 import dbapi2

from . import copying, ledgerfile, releasestore
from .backup import CONFIG, LEDGER, OWN, Backup, check_room, files_of, identity, known_releases, told, unpacked
from .config import Settings, load_settings
from .copying import Progress, unseen
from .errors import ReleaseRefused, StoreBusy, StoreError, UsageError
from .manifest import check_files
from .prediction import utcnow
from .releasestore import Place, Remote
from .staging import staging, sync
from .store import Store
from .trust import FILE as TRUSTED


def restore(
    file: Path, settings: Settings, store: Store, *, replace: bool, progress: Progress = unseen
) -> tuple[Backup, list[Path | str]]:
    """Put a backup in the place of what is there; return what it holds and where what was there lies now.

    The caller holds the instance, so that no service runs. All of it is put in its place or, where that fails, none.
    A release that the backup holds damaged, and that is whole here, stays as it is here, and is not `wrong` any more.
    `progress` is told how far the copy into PostgreSQL is.
    """
    place = releasestore.of(settings)
    ledger = store.path if store.is_file else settings.instance / LEDGER  # the latter: where it is unpacked
    with told(file):
        if not file.is_file():
            raise UsageError(f"There is no file {file}.")
        if not store.is_file:
            with store.writing() as connection:
                copying.check_empty(connection, store)
        elif not replace and (there := files_of(ledger)):
            raise UsageError(
                f"There is a ledger already: {there[0]}. Set another REVIEWAPP_INSTANCE, or put it aside by --replace."
            )
        for folder in (settings.instance, ledger.parent, place.here):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with told(ledger), ExitStack() as stack:
        made = {
            name: stack.enter_context(staging(folder, ".restoring-"))
            for name, folder in {
                LEDGER: ledger.parent,
                TRUSTED: settings.instance,
                "releases": place.here,
            }.items()
        }
        made[CONFIG] = made[TRUSTED]
        check_room(ledger.parent, file.stat().st_size)
        backup = unpacked(file, made)
        damaged = _check_ledger(backup, made)
        sound = {name for name, digest in damaged.items() if _is_sound(place, name, digest)}
        if CONFIG in backup.files:
            _check_config(made[CONFIG], settings)
        whole = made[LEDGER] / LEDGER
        stamp = utcnow().strftime("before-%Y%m%dT%H%M%S.%f")
        with ExitStack() as undo:
            aside = _exchange(backup, made, settings, place, stamp, undo, replace=replace, keep=sound)
            if store.is_file:
                aside += _put_file(whole, ledger, stamp, undo)
            else:
                _put_on_server(whole, store, progress)
            undo.pop_all()
        sync(ledger.parent)
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
    for name, digest in known_releases(copy)[0].items():
        try:
            check_files(made["releases"] / name, digest)
        except ReleaseRefused as error:
            if name not in wrong:
                raise UsageError(f"The backup's release {name} is not whole: {error.detail}") from None
            damaged[name] = digest
    return damaged


def _name_in(wrong: str) -> str:
    return wrong.partition(": ")[0]


def _is_sound(place: Place, name: str, digest: str) -> bool:
    try:
        with place.as_it_lies(identity(name, digest)) as folder:
            manifest = check_files(folder, digest)
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


def _put_back(made: Path, names: Sequence[str], place: Remote, replace: bool, stamp: str) -> list[str]:
    """Put releases under a URL, those that are whole and not there already; return what was put aside for that."""
    aside = []
    for name in names:
        try:
            digest = check_files(made / name)["digest"]
        except ReleaseRefused:  # it was damaged when the backup was made
            continue
        if _is_sound(place, name, digest):
            continue
        first, version, _ = identity(name, digest)
        if not replace and place.holds(first, version):
            raise UsageError(f"{place}/{name} is there already and is another one; put it aside by --replace.")
        if (old := place.put_aside(first, version, stamp)) is not None:
            aside.append(old)
        place.upload(made / name, first, version)
    return aside


def _exchange(
    backup: Backup,
    made: Mapping[str, Path],
    settings: Settings,
    place: Place,
    stamp: str,
    undo: ExitStack,
    *,
    replace: bool,
    keep: Set[str],
) -> list[Path | str]:
    """Move all but the ledger to its place, so that `undo` can undo it; return what was put aside.

    `stamp` ends the names of that. The releases in `keep` stay as they are here.
    """
    names = sorted({name.removeprefix("releases/").rpartition("/")[0] for name in backup.files if "/" in name} - keep)
    moves = [] if place.remote else [(made["releases"] / name, place.here / name) for name in names]
    moves += [(made[name] / name, settings.instance / name) for name in OWN]
    moves = [(new, old) for new, old in moves if new.exists() and not _same(new, old)]
    if not replace and (there := [old for _, old in moves if old.exists()]):
        raise UsageError(f"{there[0]} is here already and is another one; put it aside by --replace.")
    aside: list[Path | str] = []
    if isinstance(place, Remote):
        aside += _put_back(made["releases"], names, place, replace, stamp)

    def move(old: Path, new: Path) -> None:
        new.parent.mkdir(exist_ok=True)
        old.rename(new)
        undo.callback(new.rename, old)

    for new, old in moves:
        if old.exists():
            away = old.with_name(f"{old.name}.{stamp}")
            move(old, away)
            aside.append(away)
        for path in [new, *new.rglob("*")]:
            sync(path)
        move(new, old)
        sync(old.parent)
    return aside


def _put_file(whole: Path, ledger: Path, stamp: str, undo: ExitStack) -> list[Path]:
    """Let a whole file be the ledger, in one step; return where the one that was there lies now."""
    whole.chmod(0o600)
    sync(whole)
    kept = {path: ledger.with_name(f"{ledger.name}.{stamp}{_suffix(path, ledger)}") for path in files_of(ledger)}
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
    aside = [name for name in kept.values() if name.exists()]
    whole.rename(ledger)
    return aside


def _put_on_server(whole: Path, store: Store, progress: Progress) -> None:
    """Copy a whole file into an empty database of PostgreSQL; one of an older version is brought up to date before."""
    apart = whole.parent / "apart" / LEDGER  # whoever opens a ledger holds its folder, and this one is held
    apart.parent.mkdir()
    whole.rename(apart)
    with closing(Store(f"sqlite:///{apart}")) as kept:
        with kept.reading():
            pass
        copying.copy(kept, store, progress)


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
