"""`python -m bench`: build what is served, run everything, write the results and the README's part."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reviewapp.errors import ReviewappError

from . import releases
from .load import GENERATORS, chosen
from .measure import Bench
from .releases import BOOSTING, FOREST, NARROW, OWN, STACK, WIDE
from .results import FOLDER, readme_part, with_part, write
from .running import ROOT

QUIET = 0.25  # processes that may wait for a core, for each core, before it all begins
WHOLE: dict[str, Any] = {
    "kinds": (BOOSTING, FOREST, STACK, OWN, NARROW, WIDE),
    "rows": 4000,
    "batch": 1000,
    "long": 1_000_000,
    "workers": 2,
    "memory_workers": (2, 4),
    "columns": (NARROW.name, WIDE.name),
}
QUICK: dict[str, Any] = {
    "kinds": (BOOSTING, OWN),
    "rows": 300,
    "batch": 20,
    "long": 2000,
    "workers": 1,
    "memory_workers": (2,),
    "columns": (BOOSTING.name, OWN.name),
}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the goals of speed.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each run is repeated (3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one run (4)")
    parser.add_argument("--load", choices=GENERATORS, help="wrk where it is installed, else python")
    parser.add_argument("--output", type=Path, default=FOLDER, help="where to write (memo/evidence/bench)")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench", help="where what is served is kept")
    parser.add_argument("--quick", action="store_true", help="small tables: shows that it works, and measures nothing")
    given = parser.parse_args(words)
    try:
        _measure(given)
    except ReviewappError as error:
        print(f"bench: {error.detail}", file=sys.stderr)
        return 1
    return 0


def _measure(given: argparse.Namespace) -> None:
    size = dict(QUICK if given.quick else WHOLE)
    kinds, rows = size.pop("kinds"), size.pop("rows")

    def told(step: str) -> None:
        tqdm.write(f"bench: {step}", file=sys.stderr)

    busy = os.getloadavg()[0]
    if busy > QUIET * (os.cpu_count() or 1):
        told(f"something else runs on this machine (load {busy:.1f}): the figures will be unsteady")
    cache = releases.of_this_code(given.cache)
    served = releases.served(cache, kinds, rows=rows, batch=size["batch"], told=told)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=cache) as scratch:  # on the disk that the figures are about
        bench = Bench(
            served=served, cache=cache, scratch=Path(scratch), rounds=given.rounds, seconds=given.seconds,
            generator=chosen(given.load), told=told, **size,
        )  # fmt: skip
        bench.everything()
    results = write(given.output, bench, quick=given.quick, busy=busy)
    readme = ROOT / "README.md"
    if given.output == FOLDER:
        readme.write_text(with_part(readme.read_text(encoding="utf-8"), readme_part(results)), encoding="utf-8")
    print(results.table("goals").as_frame().to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
