"""The last run of the tests, by area, from the JUnit file that `make test` leaves in build/."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from .tables import FREE, Column, Row, Table, key

REPORT = Path("build") / "junit.xml"
SOURCE = "source"  # the property in which a test run says what it tested
LEFT_OUT = {"evidence", "memo", "notebook"}  # they test what this table is part of: it would go in a circle


def test_runs(root: Path, source: str) -> Table | None:
    """Return one row an area, or None where there is no report, or one of other code than `source`."""
    path = root / REPORT
    if not path.is_file():
        return None
    report = ElementTree.parse(path)  # noqa: S314 (our own file)
    if source not in [one.get("value") for one in report.iter("property") if one.get("name") == SOURCE]:
        return None
    areas: dict[str, dict[str, int]] = {}
    for case in report.iter("testcase"):
        area = case.get("classname", "").rpartition(".")[2].removeprefix("test_")
        if area.split("_")[0] in LEFT_OUT:
            continue
        counts = areas.setdefault(area, {"cases": 0, "failed": 0, "skipped": 0})
        outcome = {child.tag for child in case}
        counts["cases"] += 1
        counts["failed"] += bool(outcome & {"failure", "error"})
        counts["skipped"] += "skipped" in outcome
    rows: list[Row] = [{"area": area, **counts} for area, counts in sorted(areas.items())]
    rows.append({"area": "all"} | {name: sum(row[name] for row in rows) for name in ("cases", "failed", "skipped")})
    columns = [
        key("area", "Area"),
        Column("cases", "Cases", "d"),
        Column("failed", "Failed", "d"),
        Column("skipped", "Skipped", "d", FREE),
    ]
    reading = (
        "The last run of the tests, without those of evidence, memo and notebook. Without a browser its tests skip."
    )
    return Table("tests", "Test cases by area", reading, columns, rows)
