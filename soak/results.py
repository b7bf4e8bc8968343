"""The table of what was measured: one line a figure, in a pack of its own; each row says what it was measured on."""

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
TABLE = "reliability"
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
        about = {
            "form": "full" if self.full else "short",
            "seconds": round(self.seconds),
            "seeds": " ".join(map(str, self.seeds)),
            "source": pack.source_digest(ROOT).removeprefix("sha256:")[:SOURCE_DIGITS],
            "date": datetime.now(UTC).date().isoformat(),
        }
        return [
            {"row": self.row, "what": one.what, "must": one.must, "measured": one.measured, **about,
             "reached": "yes" if one.reached else "NO"}
            for one in self.figures
        ]  # fmt: skip


def reliability(lines: Sequence[Line]) -> Table:
    columns = [
        Column("row", "Row", "d", "key"),
        key("what", "What"),
        Column("must", "Must", kind=FREE),
        Column("measured", "Measured", kind=FREE),
        Column("reached", "Reached", kind=FREE),
        Column("form", "Form", kind=FREE),
        Column("seconds", "Row took (s)", "d", FREE),
        Column("seeds", "Seeds", kind=FREE),
        Column("source", "Source", kind=FREE),
        Column("date", "Date", kind=FREE),
    ]
    reading = (
        "What held while things went wrong, the load on the same cores. A row is measured as a whole; "
        "its source is the digest of the code it was measured with, so rows of other code than this show as such."
    )
    return Table(TABLE, "What holds while things go wrong", reading, columns, lines)


def read(folder: Path) -> list[Line]:
    """Return the lines that lie in a folder, none where there are none; raise UsageError where they were changed."""
    return list(Pack.read(folder).table(TABLE).rows) if (folder / MANIFEST).exists() else []


def write(folder: Path, measured: Measured, scratch: Path) -> Pack:
    """Put a row in the place of what the table has of it, the other rows left as they are; all or nothing is written.

    `scratch` is an empty folder.
    """
    kept = [line for line in read(folder) if line["row"] != measured.row]
    lines = sorted([*kept, *measured.lines()], key=lambda line: line["row"])  # which keeps the order within a row
    parts = make_parts(load_settings({"instance": fresh(scratch / "instance")}, {}))
    live = parts.registry.live()
    assert live is not None  # noqa: S101 (`fresh` made it so)
    default = releases.read(parts.registry.folder(live), live.digest)
    parts.store.close()
    bound = pack.facts(ROOT, default, 0, quick=any(line["form"] == "short" for line in lines))
    facts = {name: bound[name] for name in ("release", "source", "quick", "commit", "machine")} | {
        "soak": pack.source_digest(ROOT, ("soak",)),
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": {str(line["row"]): line["seeds"] for line in lines},
    }
    return pack.write(folder, facts, [reliability(lines)], {}, ())
