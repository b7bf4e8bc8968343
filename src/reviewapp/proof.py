"""Whether a release may be loaded here: shown once, in a process of its own, before any other process loads it.

A changed skops file can end the process that loads it, or never end; so can one that a bug of a library wrote. The
process (proving.py) has limits of memory and time, checks every digest, loads both options and lets them answer the
golden requests. What it died of, or said, is the reason why a release is refused.

That it was shown is kept in `proven/` of the instance, a file for each digest, which names the versions of the
libraries it was shown with: others show it anew. Whoever may write there may as well write the ledger.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import __version__
from .errors import ReleaseRefused
from .manifest import libraries_here
from .trust import TrustedTypes

log = logging.getLogger("reviewapp")

FOLDER = "proven"
CPU_SECONDS = 20
WALL_SECONDS = 120  # a loaded machine gives a core rarely
ROOM = 1 << 30  # bytes of memory, beside what Python and the libraries take before anything is loaded …
TIMES = 4  # … and as many times the size of the files
SAID = 4096  # bytes that are written at most, and read
ACCEPTED, REFUSED = "accepted", "refused"  # a verdict: how many golden requests were answered, or why it is not


class Proofs:
    """Which releases were shown to load, in one instance folder."""

    def __init__(self, instance: Path) -> None:
        self._instance = instance
        self._folder = instance / FOLDER

    def demand(self, folder: Path, digest: str) -> None:
        """Raise ReleaseRefused unless what lies in the folder has the digest, and was shown to load, or is now."""
        if not _holds(self._path(digest), environment()):
            in_child(folder, digest, self._instance, keep=self._instance)
            self._check_kept(digest)

    def demand_with(self, own: Mapping[str, Path], folder: Path, digest: str) -> None:
        """Do the same for a release that holds types which are not trusted yet, each with the folder of its module."""
        if not own:
            self.demand(folder, digest)
            return
        with tempfile.TemporaryDirectory() as instance:
            TrustedTypes(Path(instance)).add({**TrustedTypes(self._instance).folders(), **own})
            try:
                in_child(folder, digest, Path(instance), keep=self._instance)
            except ReleaseRefused as error:
                where = ", ".join(f"{name} from {path}" for name, path in own.items())
                raise ReleaseRefused(f"{error.detail} (imported: {where})") from None
        self._check_kept(digest)

    def _check_kept(self, digest: str) -> None:
        """Keep a proof where the process that gave it could not, and say so where that cannot be either."""
        if not _holds(self._path(digest), environment()):
            self.remember(digest)

    def remember(self, digest: str) -> None:
        """Keep it, in one step; where that fails it is shown again the next time."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, fresh = tempfile.mkstemp(dir=self._folder)  # 0600
            with os.fdopen(descriptor, "w") as file:
                json.dump(environment(), file)
            Path(fresh).replace(self._path(digest))
        except OSError as error:
            log.warning("that a release was proved cannot be kept in %s: %s", self._folder, error.strerror)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.json"


def environment() -> dict[str, Any]:
    """Return what a proof holds for: another version of anything that loads or answers asks for another."""
    return {"reviewapp": __version__, "machine": platform.machine(), **libraries_here()}


def _holds(path: Path, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_bytes()) == wanted)
    except (OSError, ValueError):
        return False


def in_child(
    folder: Path, digest: str, instance: Path, seconds: int = WALL_SECONDS, *, keep: Path | None = None
) -> int:
    """Load a release in a process of its own; return how many golden requests it answered, or raise ReleaseRefused.

    The instance folder says which types the operator trusts. In `keep`, an instance folder, that process keeps the
    proof itself: it goes on also where the worker that waits for it is ended, else each new worker would begin again.
    """
    command = [sys.executable, "-P", "-m", "reviewapp.proving"]
    command += [str(folder.absolute()), digest, str(instance.absolute())]
    command += [] if keep is None else [str(keep.absolute())]
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}  # Arrow's own one reserves 1 GiB
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(  # noqa: S603 (this very Python, and our own module)
                command, cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.DEVNULL,
                timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ReleaseRefused(f"{_TOOK} {seconds} seconds.") from None
        said.seek(0)
        line = said.read(SAID).decode(errors="replace").strip()
    verdict, _, told = line.partition(" ")
    if done.returncode == 0 and verdict == ACCEPTED and told.isdigit():
        return int(told)
    if done.returncode < 0:
        raise ReleaseRefused(_DIED.get(-done.returncode) or f"{_ENDED}, by signal {-done.returncode}.")
    raise ReleaseRefused(told if done.returncode == 1 and verdict == REFUSED else f"{_ENDED}, without a word.")


_ENDED = "Loading it and answering its golden requests ended the process that tried"
_TOOK = "Loading it and answering its golden requests took more than"
_DIED: dict[int, str] = {
    signal.SIGXCPU: f"{_TOOK} {CPU_SECONDS} seconds of a core.",
    signal.SIGKILL: f"{_ENDED}: the system did that, for want of memory.",
    signal.SIGSEGV: f"{_ENDED}, by a segmentation fault.",
}
