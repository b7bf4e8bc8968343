"""`python -m reviewapp.proving FOLDER DIGEST INSTANCE [KEEP]`: the process that proof.py starts to load a release.

Its last word is one line on standard output: accepted, or why it is not. In the instance folder KEEP it keeps that it
was accepted, for nobody may be left to read that word.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.linalg

from . import release as releases
from .adapter import ModelAdapter
from .errors import InvalidInput, ReleaseRefused, ReviewappError
from .prediction import Call
from .proof import ACCEPTED, CPU_SECONDS, REFUSED, ROOM, SAID, TIMES, WALL_SECONDS, Proofs
from .release import Release
from .schemas import RecordSchema
from .trust import TrustedTypes


def limit(folder: Path) -> None:
    """Bound what this process may take from here on: memory, a core's time, time, and what it writes."""
    square = np.eye(2)
    scipy.linalg.blas.dgemm(1.0, square, square @ square)  # both libraries reserve memory at their first product
    files = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, reserved + ROOM + TIMES * files),
        (resource.RLIMIT_FSIZE, SAID),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))  # the first one has a signal of its own
    signal.alarm(WALL_SECONDS)  # also where nobody waits any more


def accept(folder: Path, digest: str, instance: Path) -> int:
    """Return how many golden requests a release answered as it must; raise ReleaseRefused."""
    try:
        release = releases.read(folder, digest, TrustedTypes(instance).names())
        _check_requests(release)
        adapter = ModelAdapter(release)
        adapter.check_golden()
        asked = [one.input for one in release.golden]
        adapter.predict(asked, Call(dry_run=True), compare=True, explain=True)  # a page asks for all of it
    except ReviewappError:
        raise
    except Exception as error:  # what is wrong inside can fail anywhere
        raise ReleaseRefused(f"It cannot be loaded or asked ({type(error).__name__}).") from error
    return len(asked)


def _check_requests(release: Release) -> None:
    """Raise ReleaseRefused where the contract does not take a golden request: the model then answers other fields."""
    schema = RecordSchema(release.contract.fields)
    for number, row in enumerate(release.golden, 1):
        try:
            schema.load(row.input, "")
        except InvalidInput as error:
            one = error.errors[0]
            raise ReleaseRefused(
                f"Golden request {number} breaks the contract at {one.pointer}: {one.detail}"
            ) from None


def main(words: Sequence[str], limit: Callable[[Path], None] = limit) -> int:
    folder, digest, instance, *keep = words
    verdict, sys.stdout = sys.stdout, sys.stderr  # whatever is printed meanwhile is no verdict
    try:
        limit(Path(folder))
        said, code = f"{ACCEPTED} {accept(Path(folder), digest, Path(instance))}", 0
        for place in keep:
            Proofs(Path(place)).remember(digest)
    except ReviewappError as error:
        said, code = f"{REFUSED} {error.detail}", 1
    finally:
        sys.stdout = verdict
    verdict.write(said[: SAID // 4] + "\n")  # a character has four bytes at most
    verdict.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
