"""Instances to break: a folder with the default release live, and the service on it."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from tests.proxy import Proxied
from tests.service import Service
from tests.small import with_limit

from reviewapp import release as releases
from reviewapp.config import load_settings
from reviewapp.evidence.pack import source_digest
from reviewapp.factory import make_parts
from reviewapp.triage import build as triage

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "soak"
ACTOR = "soak"


def fresh(folder: Path) -> Path:
    """Make the folder an instance whose release 1 is live; release 2 is the same but for one limit."""
    kept = CACHE / source_digest(ROOT).removeprefix("sha256:")[:12]
    CACHE.parent.mkdir(exist_ok=True)
    with CACHE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run several at once
        if not kept.exists():
            shutil.rmtree(CACHE, ignore_errors=True)
            _build(CACHE / "making")
            (CACHE / "making").rename(kept)
    shutil.copytree(kept, folder)
    return folder


def _build(folder: Path) -> None:
    parts = make_parts(load_settings({"instance": folder}, {}))
    first = triage.build(parts.registry.place)
    parts.registry.add(first, ACTOR)
    parts.registry.add(releases.write(with_limit(first, 10_000_000), parts.registry.place), ACTOR)
    parts.store.close()


def proxied(folder: Path, **settings: str) -> Proxied:
    """The same as it is deployed: behind the shipped nginx, on a socket that outlives the service."""
    return Proxied(fresh(folder), **settings)


def served(folder: Path, **settings: str) -> Service:
    """Return the service on a fresh instance; as a context it is started and stopped."""
    return Service(fresh(folder), **settings)


def signed_in(service: Service, role: str, name: str = ACTOR) -> dict[str, str]:
    """Return the headers of a caller with a role and a name."""
    token = service.token(name, role)
    return {"Authorization": f"Bearer {token}"}
