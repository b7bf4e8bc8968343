"""`python -m soak [ROW …]`: run the rows, print their figures; exit code 1 where one is not reached."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path

from reviewapp.errors import ReviewappError

from . import results
from .figures import Figure
from .results import Measured

# Each is a module with `run(folder, *, full)`, which returns its figures; `folder` is empty and its own. What it draws
# at random comes from its `SEEDS`.
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


def run(row: int, *, full: bool) -> Measured:
    """Measure a row in its full or its short form; one that breaks off has that as its figure."""
    module, began = import_module(f".{ROWS[row]}", __package__), time.monotonic()
    figures: list[Figure]
    with tempfile.TemporaryDirectory(prefix=f"soak-{row}-") as folder:
        try:
            figures = module.run(Path(folder), full=full)
        except Exception as error:  # an hour of other rows must not be lost by one
            traceback.print_exc()
            figures = [Figure("the row was measured to its end", "yes", f"{type(error).__name__}: {error}", False)]
    return Measured(row, figures, full, getattr(module, "SEEDS", ()), time.monotonic() - began)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description="Measure what holds while things go wrong.")
    parser.add_argument("rows", nargs="*", type=int, help="which rows (all)")
    parser.add_argument("--short", action="store_true", help="the short forms: they show that it works")
    parser.add_argument("--output", type=Path, help="the folder of the table, where each row replaces its own lines")
    given = parser.parse_args(words)
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"there is no row {min(unknown)}; there are {', '.join(map(str, ROWS))}")
    try:
        if given.output:
            results.read(given.output)  # an hour later is too late to find that it cannot be added to
        missed = [row for row in given.rows or ROWS if not _measure(row, given.output, full=not given.short)]
    except ReviewappError as error:
        print(f"soak: {error.detail}", file=sys.stderr)
        return 2
    return int(bool(missed))


def _measure(row: int, output: Path | None, *, full: bool) -> bool:
    """Run a row, print its figures, keep them where asked for; return whether all are reached."""
    measured = run(row, full=full)
    for figure in measured.figures:
        mark = "yes" if figure.reached else "NO "
        print(f"{row:>2} {mark} {figure.what}: {figure.measured} (must: {figure.must})", flush=True)
    print(f"{row:>2} took {measured.seconds:.0f} s", flush=True)
    if output:
        with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
            results.write(output, measured, Path(scratch))
    return bool(measured.figures) and all(figure.reached for figure in measured.figures)


if __name__ == "__main__":
    sys.exit(main())
