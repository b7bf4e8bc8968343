"""`reviewapp verify`: whether a folder is a release that was built here, and would be accepted.

Almost every damaged folder is found by its digests, which costs no more than to read it: nothing large is imported
before they are right. What is right is then loaded in a process of its own (proof.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from . import proof, releasestore
from .config import Settings
from .errors import ReleaseRefused
from .manifest import Identity, check_files
from .store import Store
from .tables import release_events

SECONDS = 20  # that loading may take


@dataclass(frozen=True)
class Verified:
    """A folder that would be accepted, and how many golden requests it answered."""

    identity: Identity
    golden: int


def verify(path: Path, settings: Settings, digest: str | None = None) -> Verified:
    """Return what lies in a folder, or in that of a version of this instance; raise ReleaseRefused, naming the folder.

    It must have been built here, says the ledger, or have the digest that is stated.
    """
    built, place = _built(settings), releasestore.of(settings)
    try:
        if not os.path.exists(path):  # noqa: PTH110 (of one that may not be looked into, Path.exists raises)
            for one in built or ():
                if str(path) in (str(one[1]), f"{one[0]}/{one[1]}"):
                    path = path if place.remote else place.local(one)  # the name that is told
                    with place.as_it_lies(one) as folder:
                        return _verify(folder, one[2], built, settings, digest)
        lies_here = [] if place.remote else [one for one in built or () if place.local(one) == path.absolute()]
        return _verify(path, lies_here[0][2] if lies_here else None, built, settings, digest)
    except ReleaseRefused as error:
        raise ReleaseRefused(f"{path} is refused. {error.detail}") from error


def _verify(
    folder: Path, known: str | None, built: list[Identity] | None, settings: Settings, digest: str | None
) -> Verified:
    """Do it with a folder of which the ledger knows which digest it must have, or does not."""
    manifest = check_files(folder, known)
    identity = manifest["name"], manifest["version"], manifest["digest"]
    if digest is None:
        _check_built(identity, built)
    elif identity[2] != digest:
        raise ReleaseRefused(f"Its digest is {identity[2]}, and {digest} was stated.")
    return Verified(identity, proof.in_child(folder, identity[2], settings.instance, SECONDS))


def _built(settings: Settings) -> list[Identity] | None:
    """Return the releases that the ledger knows, newest first; None where there is no ledger. It is only read."""
    store = Store(settings.database_url, read_only=True)
    if not store.exists():
        return None
    columns = release_events.c
    query = select(columns.name, columns.version, columns.digest).where(columns.kind == "built")
    try:
        with store.reading() as connection:
            return [
                (name, version, digest)
                for name, version, digest in connection.execute(query.order_by(columns.seq.desc()))
            ]
    finally:
        store.close()


def _check_built(identity: Identity, built: list[Identity] | None) -> None:
    name, version, digest = identity
    if built is None:
        raise ReleaseRefused(
            f"Its digest is {digest}, and there is no ledger here (REVIEWAPP_INSTANCE) that could know it; "
            "--digest states one that you trust."
        )
    if identity not in built:
        raise ReleaseRefused(
            f"Its digest is {digest}, and the ledger knows no {name}/{version} of it: it was not built here, or was "
            "changed; --digest states one that you trust."
        )
