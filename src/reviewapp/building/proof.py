"""Would a service accept what was just built? Asked before it is given a version, as a service asks.

A release that holds types of the caller's own is read in another process, with the modules that a service would find:
here they are imported already. `python -m reviewapp.building.proof FOLDER INSTANCE` is that process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import release as releases
from ..adapter import ModelAdapter
from ..errors import ReleaseRefused, ReviewappError
from ..prediction import Call
from ..trust import TrustedTypes


def prove(folder: Path, trust: TrustedTypes, own: Mapping[str, Path]) -> None:
    """Raise ReleaseRefused where a release would not be; `own` are types that are to be trusted, with their folders."""
    if not own:
        _accept(folder, trust.names())
        return
    with tempfile.TemporaryDirectory() as instance:
        TrustedTypes(Path(instance)).add({**trust.folders(), **own})
        done = subprocess.run(  # noqa: S603 (this very Python, and our own module)
            [sys.executable, "-m", "reviewapp.building.proof", str(folder), instance],
            cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        said = (done.stdout or done.stderr).strip().splitlines()
        where = ", ".join(f"{name} from {path}" for name, path in own.items())
        raise ReleaseRefused(f"{said[-1] if said else 'it ended the process.'} (imported: {where})")


def _accept(folder: Path, trusted: Sequence[str]) -> None:
    adapter = ModelAdapter(releases.read(folder, trusted=tuple(trusted)))
    adapter.check_golden()
    asked = [one.input for one in adapter.release.golden]
    adapter.predict(asked, Call(dry_run=True), compare=True, explain=True)  # a page asks for all of it


def main(folder: str, instance: str) -> int:
    try:
        _accept(Path(folder), TrustedTypes(Path(instance)).names())
    except ReviewappError as error:
        sys.stdout.write(error.detail + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
