"""What was measured, in a pack of its own: one table has a line for each figure, the other says how a row was run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reviewapp import release as releases
from reviewapp.config import load_settings
from reviewapp.evidence import pack
from reviewapp.evidence.pack import MANIFEST, Pack
from reviewapp.evidence.tables import FREE, Column, Table, key
from reviewapp.evidence.tables import Row as Line
from reviewapp.factory import make_parts

from .figures import Figure
from .instances import ROOT, fresh

FOLDER = ROOT / "memo" / "evidence" / "soak"
TABLE, RUNS = "reliability", "runs"
SOURCE_DIGITS = 12  # of a digest, behind its name


@dataclass(frozen=True)
class Measured:
    """A row that was run: its figures, the seeds it drew from, and how long it took."""

    row: int
    figures: Sequence[Figure]
    full: bool
    seeds: Sequence[int]
    seconds: float

    def lines(self) -> list[Line]:
        return [
            {"row": self.row, "what": one.what, "must": one.must, "measured": one.measured,
             "reached": "yes" if one.reached else "NO"}
            for one in self.figures
        ]  # fmt: skip

    def run(self) -> Line:
        return {
            "row": self.row,
            "form": "full" if self.full else "short",
            "seconds": round(self.seconds),
            "seeds": " ".join(map(str, self.seeds)),
            "source": pack.source_digest(ROOT).removeprefix("sha256:")[:SOURCE_DIGITS],
            "date": datetime.now(UTC).date().isoformat(),
        }


def reliability(lines: Sequence[Line]) -> Table:
    columns = [
        Column("row", "Row", "d", "key"),
        key("what", "What"),
        Column("must", "Must", kind=FREE),
        Column("measured", "Measured", kind=FREE),
        Column("reached", "Reached", kind=FREE),
    ]
    reading = "What held while things went wrong, the load on the same cores. A row is measured as a whole."
    return Table(TABLE, "What holds while things go wrong", reading, columns, lines)


def runs(lines: Sequence[Line]) -> Table:
    columns = [
        Column("row", "Row", "d", "key"),
        Column("form", "Form", kind=FREE),
        Column("seconds", "Row took (s)", "d", FREE),
        Column("seeds", "Seeds", kind=FREE),
        Column("source", "Source", kind=FREE),
        Column("date", "Date", kind=FREE),
    ]
    reading = (
        "How each row of the table above was measured. Its source is the digest of the code it was measured with, so "
        "rows of other code than this show as such."
    )
    return Table(RUNS, "How it was measured", reading, columns, lines)


def read(folder: Path) -> tuple[list[Line], list[Line]]:
    """Return the figures and the runs that lie in a folder, if any; raise UsageError where they were changed."""
    if not (folder / MANIFEST).exists():
        return [], []
    there = Pack.read(folder)
    return list(there.table(TABLE).rows), list(there.table(RUNS).rows)


def write(folder: Path, measured: Measured, scratch: Path) -> Pack:
    """Put a row in the place of what the tables have of it, the other rows left as they are; all or nothing is written.

    `scratch` is an empty folder.
    """
    figures, ran = ([one for one in lines if one["row"] != measured.row] for lines in read(folder))
    figures = sorted([*figures, *measured.lines()], key=lambda one: one["row"])  # which keeps the order within a row
    ran = sorted([*ran, measured.run()], key=lambda one: one["row"])
    parts = make_parts(load_settings({"instance": fresh(scratch / "instance")}, {}))
    live = parts.registry.live()
    assert live is not None  # noqa: S101 (`fresh` made it so)
    default = releases.read(parts.registry.folder(live), live.digest)
    parts.store.close()
    bound = pack.facts(ROOT, default, 0, quick=any(one["form"] == "short" for one in ran))
    facts = {name: bound[name] for name in ("release", "source", "quick", "commit", "machine")} | {
        "soak": pack.source_digest(ROOT, ("soak",)),
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": {str(one["row"]): one["seeds"] for one in ran},
    }
    return pack.write(folder, facts, [reliability(figures), runs(ran)], {}, ())
