"""Write what CI did (steps, versions, tests by area, coverage) as JSON: evidence that a reviewer can read."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

steps_file, target = Path(sys.argv[1]), Path(sys.argv[2])
build = target.parent


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def tests_by_area() -> dict[str, dict[str, float]]:
    areas: dict[str, dict[str, float]] = {}
    path = build / "junit.xml"
    if not path.is_file():
        return areas
    for case in ElementTree.parse(path).iter("testcase"):
        area = case.get("classname", "").split(".")[1].removeprefix("test_")
        counts = areas.setdefault(area, {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0})
        outcome = {child.tag for child in case} & {"failure", "error", "skipped"}
        counts["skipped" if "skipped" in outcome else "failed" if outcome else "passed"] += 1
        counts["seconds"] = round(counts["seconds"] + float(case.get("time", 0)), 2)
    return areas


def coverage() -> dict[str, float] | None:
    path = build / "coverage.json"
    if not path.is_file():
        return None
    totals = json.loads(path.read_text())["totals"]
    return {
        "percent": round(totals["percent_covered"], 2),
        "lines": totals["num_statements"],
        "branches": totals["num_branches"],
    }


rows = [line.split("\t") for line in steps_file.read_text().splitlines()]
areas = tests_by_area()
record = {
    "steps": [{"step": name, "result": result, "seconds": float(seconds)} for name, result, seconds in rows],
    "versions": {
        "python": output(".venv/bin/python", "-V"),
        "packages": output(".venv/bin/python", "-m", "pip", "freeze", "--exclude-editable").splitlines(),
    },
    "machine": {"system": platform.platform(), "cores": os.cpu_count()},
    "commit": output("git", "rev-parse", "HEAD"),
    "tests": areas,
    "coverage": coverage(),
}
target.write_text(json.dumps(record, indent=1) + "\n")
passed = int(sum(area["passed"] for area in areas.values()))
failed = int(sum(area["failed"] for area in areas.values()))
skipped = int(sum(area["skipped"] for area in areas.values()))
print(f"\n{target}: {'; '.join(f'{name} {result} in {seconds} s' for name, result, seconds in rows)}")
print(f"{passed} passed, {failed} failed, {skipped} skipped")
if skipped:
    print("A test was skipped: CI has to run every one.")
    sys.exit(1)
