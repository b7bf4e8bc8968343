"""One run of the load on a server: by wrk where it is installed, else by the client of our own; the same report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviewapp.errors import ReviewappError

HERE = Path(__file__).resolve().parent
GENERATORS = ("wrk", "python")


class LoadFailed(ReviewappError):
    """A request was not answered with 2xx, or a process of the bench failed: the figures would mean nothing."""


@dataclass(frozen=True)
class Report:
    """`n` answers of 2xx in `seconds`; p50 and p99 in ms."""

    n: int
    errors: int
    seconds: float
    p50: float
    p99: float

    @property
    def per_second(self) -> float:
        return self.n / self.seconds


def chosen(asked: str | None) -> str:
    """Return the generator: the one asked for, else wrk where it is installed."""
    return asked or ("wrk" if shutil.which("wrk") else "python")


def load(
    generator: str, port: int, path: str, bodies: Path, token: str, *, connections: int, seconds: float, least: int = 1
) -> Report:
    """Send the bodies (a file, one a line) in turn over so many connections; raise LoadFailed where one fails."""
    if generator == "wrk":
        how = [f"-t1 -c{connections} -d{max(1, round(seconds))}s --timeout 20s"]
        command = ["wrk", *how[0].split(), "-s", str(HERE / "wrk.lua"), f"http://127.0.0.1:{port}{path}", "--"]
        command += [str(bodies), *([token] if token else [])]
    else:
        command = [sys.executable, "-m", "bench.client", "127.0.0.1", str(port), path, str(bodies), "--token", token]
        command += ["--connections", str(connections), "--seconds", str(seconds), "--least", str(least)]
    report = Report(**told(command))
    if report.errors or not report.n:
        raise LoadFailed(f"{path} on port {port}: {report.errors} requests failed, {report.n} were answered.")
    return report


def told(command: Sequence[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a process of the bench; return the JSON of its last line."""
    done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadFailed(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
