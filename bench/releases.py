"""What is served: the default release and releases of seeded tables, made by `reviewapp build`, and requests for each.

Each lies in an instance folder of its own, with its release live and an empty ledger. They are built once and kept in a
folder that is named for the digest of the code; a folder of other code is thrown away.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reviewapp.errors import UsageError
from reviewapp.evidence.pack import source_digest
from reviewapp.triage import build as triage

from . import models

SEED = 20260131
REQUESTS = 1000  # different ones that are sent in turn, and the rows of a batch
MISSING = 0.05  # of the cells of every fourth number
LEVELS = ("north", "east", "south", "west", "centre")
TRIAGE = "triage"
CACHE = re.compile(r"[0-9a-f]{16}")  # a folder of what is served, named for the digest of its code


@dataclass(frozen=True)
class Kind:
    """A table with so many columns of each kind, and the pipeline (of `models`) that is fitted to it."""

    name: str
    pipeline: str
    numbers: int = models.NUMBERS
    categories: int = models.CATEGORIES
    trust: tuple[str, ...] = ()


BOOSTING = Kind("boosting", "boosting")
FOREST, STACK = Kind("forest", "forest"), Kind("stack", "stack")
OWN = Kind("own", "own", trust=("bench.models.Ratios",))
NARROW, WIDE = Kind("narrow", "linear_10", 8, 2), Kind("wide", "linear_600", 480, 120)


@dataclass(frozen=True)
class Served:
    """A release in an instance folder, and requests for it: a file with a body a line, and one with one batch."""

    name: str
    instance: Path

    @property
    def release(self) -> Path:
        return next((self.instance / "releases").glob("*/1"))

    @property
    def digest(self) -> str:
        return str(json.loads((self.release / "release.json").read_text(encoding="utf-8"))["digest"])

    @property
    def bodies(self) -> Path:
        return self.instance / "bodies.jsonl"

    @property
    def batch(self) -> Path:
        return self.instance / "batch.json"

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line)["input"] for line in self.bodies.read_text(encoding="utf-8").splitlines()]

    def copied(self, to: Path) -> Served:
        """Return a copy with a ledger of its own."""
        shutil.copytree(self.instance, to)
        return Served(self.name, to)


def reviewapp(instance: Path, *words: str) -> str:
    """Run the command in an instance folder and return what it prints; raise UsageError with what it says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REVIEWAPP_")}
    done = subprocess.run(
        [sys.executable, "-m", "reviewapp", *words],
        env={**environment, "REVIEWAPP_INSTANCE": str(instance)},
        cwd=Path(__file__).resolve().parent.parent,  # from which `bench` is imported
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UsageError(f"reviewapp {' '.join(words)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def of_this_code(cache: Path) -> Path:
    """Return the folder, in the one where what is served is kept, of the code as it is."""
    root = Path(__file__).resolve().parent.parent
    code = source_digest(root, ("src", "constraints.txt", "bench/models.py", "bench/releases.py", "bench/ledger.py"))
    return cache / code.removeprefix("sha256:")[:16]


def served(
    cache: Path, kinds: Sequence[Kind], *, rows: int, batch: int, told: Callable[[str], None]
) -> dict[str, Served]:
    """Return the default release and one of each kind of table (of `rows` rows) by name, building what is not there."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    for other in cache.parent.iterdir():
        if CACHE.fullmatch(other.name) and other != cache:  # nothing else that may lie there
            shutil.rmtree(other)

    def one(kind: Kind | None) -> Served:
        name = TRIAGE if kind is None else kind.name
        if not (cache / name).is_dir():
            told(f"build {name}")
            with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as scratch:
                instance = Path(scratch) / name
                instance.mkdir()
                _build(instance, kind, rows, batch)
                instance.rename(cache / name)
        return Served(name, cache / name)

    cache.mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as two:  # each waits for a process
        return {made.name: made for made in two.map(one, (None, *kinds))}


def _build(instance: Path, kind: Kind | None, rows: int, batch: int) -> None:
    if kind is None:
        reviewapp(instance, "build")
        records = [dict(example.record) for example in triage.examples()["test"][:REQUESTS]]
    else:
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch) / f"{kind.name}.csv"
            _write(data, table(kind, rows, SEED))
            trust = [word for name in kind.trust for word in ("--trust", name)]
            words = ("--data", str(data), "--target", "y", "--name", kind.name)
            reviewapp(instance, "build", *words, "--pipeline", f"bench.models:{kind.pipeline}", *trust)
        records = [{k: v for k, v in row.items() if k != "y"} for row in table(kind, REQUESTS, SEED + 1)]
    made = Served("", instance)
    lines = [json.dumps({"input": record}, ensure_ascii=False) + "\n" for record in records]
    made.bodies.write_text("".join(lines), encoding="utf-8")
    made.batch.write_text(json.dumps({"inputs": records[:batch]}, ensure_ascii=False) + "\n", encoding="utf-8")


def table(kind: Kind, rows: int, seed: int) -> list[dict[str, Any]]:
    """Return rows of a table: numbers n1 …, categories c1 …, and the answer y, which five of them decide with noise."""
    rng = np.random.default_rng(seed)
    figures = np.round(rng.normal(10, 3, (rows, kind.numbers)), 3)
    figures[:, ::4][rng.random(figures[:, ::4].shape) < MISSING] = np.nan
    levels = rng.integers(len(LEVELS), size=(rows, kind.categories))
    known = np.nan_to_num(figures, nan=10.0)
    score = known[:, 0] + known[:, 1] - known[:, 2] + 0.2 * known[:, 3] * (levels[:, 0] == 1) + 2 * (levels[:, 1] > 2)
    answers = score + rng.normal(0, 2, rows) > 12
    names = [*models.numbers(kind.numbers), *models.categories(kind.categories), "y"]
    return [
        dict(
            zip(
                names,
                [
                    *(None if np.isnan(number) else float(number) for number in figures[i]),
                    *(LEVELS[level] for level in levels[i]),
                    "yes" if answers[i] else "no",
                ],
                strict=True,
            )
        )
        for i in range(rows)
    ]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
