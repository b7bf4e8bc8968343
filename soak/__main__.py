"""`python -m soak [ROW …]`: run the rows, print their figures; exit code 1 where one is not reached."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from .figures import Figure

# Each is a module with `run(folder, *, full)`, which returns its figures; `folder` is empty and its own.
ROWS = {
    1: "documents",
    2: "hostile",
    3: "killed",
    4: "restarted",
    5: "damaged",
    6: "moved",
    7: "stores",
    8: "slow",
    9: "backups",
    10: "writers",
    12: "steady",
}


def run(row: int, *, full: bool) -> list[Figure]:
    """Return the figures of a row, in its full or its short form."""
    module = import_module(f".{ROWS[row]}", __package__)
    with tempfile.TemporaryDirectory(prefix=f"soak-{row}-") as folder:
        figures: list[Figure] = module.run(Path(folder), full=full)
    return figures


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description="Measure what holds while things go wrong.")
    parser.add_argument("rows", nargs="*", type=int, help="which rows (all)")
    parser.add_argument("--short", action="store_true", help="the short forms: they show that it works")
    given = parser.parse_args(words)
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"there is no row {min(unknown)}; there are {', '.join(map(str, ROWS))}")
    reached = True
    for row in given.rows or ROWS:
        began = time.monotonic()
        for figure in run(row, full=not given.short):
            reached &= figure.reached
            mark = "yes" if figure.reached else "NO "
            print(f"{row:>2} {mark} {figure.what}: {figure.measured} (must: {figure.must})", flush=True)
        print(f"{row:>2} took {time.monotonic() - began:.0f} s", flush=True)
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
