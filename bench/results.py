"""The results: goals.csv, runs.csv and a picture, bound by a manifest of their own; and the part of the README."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reviewapp import release as releases
from reviewapp.evidence import pack
from reviewapp.evidence.pack import Pack
from reviewapp.evidence.pictures import Picture, draw
from reviewapp.evidence.tables import FREE, Column, Row, Table, key

from .goals import AT_LEAST, MISSED, REACHED_AIM, REACHED_MUST, Goal, goals
from .measure import Bench
from .releases import SEED, TRIAGE
from .running import ROOT

FOLDER = ROOT / "memo" / "evidence" / "bench"
LIBRARIES = ("flask", "werkzeug", "gunicorn", "sqlalchemy", "pysqlite3", "orjson", "marshmallow")
HOW = ("rounds", "seconds", "generator", "workers", "batch", "long")  # was measured, as the manifest states it
BEGIN, END = "<!-- bench -->\n", "<!-- end of bench -->\n"
COLOURS = {REACHED_AIM: "#3c7d3c", REACHED_MUST: "#1d5a96", MISSED: "#b35c00"}


def goals_table(runs: Sequence[Row], all_goals: Sequence[Goal]) -> Table:
    columns = [
        key("what", "What"),
        Column("figure", "Measured", ".3f", FREE),
        Column("low", "Lowest", ".3f", FREE),
        Column("high", "Highest", ".3f", FREE),
        Column("unit", "Unit", kind=FREE),
        Column("sense", "Side", kind=FREE),
        Column("must", "Must", "g", FREE),
        Column("aim", "Aim", "g", FREE),
        Column("reached", "Reached", kind=FREE),
    ]
    reading = (
        "Each figure is the median of one figure a round, made of runs that took turns; lowest and highest are the "
        "rounds' own. Ratios of one run on one machine: absolute figures of two machines say nothing of each other."
    )
    return Table("goals", "The goals of speed", reading, columns, [goal.row(runs) for goal in all_goals])


def runs_table(runs: Sequence[Row]) -> Table:
    columns = [
        *(key(*one) for one in (("release", "Release"), ("server", "Server"), ("what", "What"))),
        Column("round", "Round", "d", "key"),
        Column("n", "Answers", "d", FREE),
        Column("errors", "Errors", "d", FREE),
        Column("rows_per_second", "Rows a second", ".1f", FREE),
        Column("p50", "p50 (ms)", ".3f", FREE),
        Column("p99", "p99 (ms)", ".3f", FREE),
        Column("figure", "Figure", ".3f", FREE),
    ]
    reading = "Every run that a goal is made of. The load comes from the same machine and shares its cores."
    return Table("runs", "Every run", reading, columns, runs)


def write(folder: Path, bench: Bench, *, quick: bool, busy: float) -> Pack:
    """Write what was measured, all or none; `busy` is the machine's load before it all began."""
    default = releases.read(bench.served[TRIAGE].release)
    bound = pack.facts(ROOT, default, SEED, quick=quick)
    facts = {name: bound[name] for name in ("source", "seed", "quick", "commit")} | {
        "bench": pack.source_digest(ROOT, ("bench",)),
        "releases": {name: one.digest for name, one in bench.served.items()},
        "date": datetime.now(UTC).date().isoformat(),
        **{name: getattr(bench, name) for name in HOW},
        "machine": bound["machine"]
        | {
            "kernel": platform.release(),
            "load_before": round(busy, 2),
            "file_system": file_system(folder),
            "libraries": {name: version(name) for name in LIBRARIES},
        },
    }
    all_goals = goals(bench.others(), bench.columns, bench.memory_workers)
    tables = [goals_table(bench.rows, all_goals), runs_table(bench.rows)]
    picture = draw(PICTURE, {table.name: table for table in tables})
    return pack.write(folder, facts, tables, {f"{PICTURE.name}.png": picture}, [PICTURE])


def file_system(path: Path) -> str:
    """Return the type of the file system on which a path lies, or will lie."""
    there = next(one for one in (path, *path.parents) if one.exists())
    done = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(there)],  # noqa: S607 (coreutils as the machine has it)
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _draw(figure: Any, tables: Mapping[str, Table]) -> None:
    """Each goal as what was measured ÷ what it must be, turned so that right of the line is reached."""
    rows = [row for row in tables["goals"].rows if row["must"] is not None]
    figure.set_size_inches(9, 0.8 + 0.32 * len(rows))
    axes = figure.subplots()
    axes.axvline(1, color="#444444", linewidth=1.2)
    for y, row in enumerate(reversed(rows)):
        low, high = sorted((_against(row, row["low"]), _against(row, row["high"])))
        axes.plot([low, high], [y, y], color=COLOURS[row["reached"]], linewidth=2.5, solid_capstyle="butt")
        axes.plot(_against(row, row["figure"]), y, "o", color=COLOURS[row["reached"]])
        if row["aim"] is not None:
            axes.plot(_against(row, row["aim"]), y, "|", color="#444444", markersize=11)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [_label(row) for row in reversed(rows)], fontsize=8)
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("measured against must; the short upright line is the aim", fontsize=8)


def _against(row: Row, figure: float) -> float:
    """Return how a figure stands to what it must be: 1 or more is reached."""
    if row["sense"] == AT_LEAST:
        return max(figure, 1e-3) / float(row["must"])
    return float(row["must"]) / max(figure, 1e-3)


def _label(row: Row) -> str:
    return f"{row['what']}: {_shown(row, row['figure'])} ({row['sense']} {row['must']:g})"


def _shown(row: Row, figure: float) -> str:
    unit = "" if row["unit"] == "×" else f" {row['unit']}"
    digits = 3 if figure < 1 else 2 if figure < 10 else 1 if figure < 100 else 0
    return f"{figure:.{digits}f}{unit}"


PICTURE = Picture(
    "bench",
    "The goals of speed, against what they must be",
    "Right of the line is reached; a bar is as long as the rounds lie apart.",
    _draw,
)


def readme_part(results: Pack) -> str:
    """Return the table, with what it was measured on, as Markdown; all of it from the results."""
    about = results.manifest
    machine = about["machine"]
    lines = ["| what | measured | rounds | must | aim | reached |", "|---|--:|--:|--:|--:|---|"]
    for row in results.table("goals").rows:
        spread = f"{_shown(row, row['low'])} – {_shown(row, row['high'])}"
        must, aim = ("–" if row[name] is None else f"{row['sense']} {row[name]:g}" for name in ("must", "aim"))
        reached = {MISSED: "**no**", "": "–"}.get(row["reached"], row["reached"])
        lines.append(f"| {row['what']} | **{_shown(row, row['figure'])}** | {spread} | {must} | {aim} | {reached} |")
    processor = machine["numeric"]["processor"].partition(" (")[0]
    lines += [
        "",
        f"{machine['cores']} cores ({processor}), {machine['file_system']}, Python "
        f"{machine['numeric']['libraries']['python']}; {about['workers']} workers, load by {about['generator']} on the "
        f"same cores, on which other work had a load of {machine['load_before']:g} before; {about['rounds']} rounds of "
        f"{about['seconds']:g} s each; {about['date']}. Medians; `rounds` is the lowest and the highest. The "
        f"long ledger has {about['long']:,} rows, a batch {about['batch']:,}.",
        "",
        f"![{PICTURE.title}](memo/evidence/bench/{PICTURE.name}.png)",
    ]
    return "\n".join(lines) + "\n"


def with_part(readme: str, part: str) -> str:
    """Return the README with its part between the marks made anew."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}{part}{END}{rest.split(END)[1]}"
