"""Each control that the threat model names is a file that is there, and is shown by a test that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODEL = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
TESTS = {
    name
    for path in (ROOT / "tests").glob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
}
PLACES = (ROOT / "src" / "reviewapp", ROOT)


def rows() -> list[list[str]]:
    """The rows of its tables: what somebody wants or does, what is in the way, what shows it."""
    cells = [line.strip("|").split("|") for line in MODEL.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells if row[0].strip() not in ("wants", "does", "brings")]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_control_names_a_file_and_a_test_that_are_there(row: list[str]) -> None:
    _, control, shown = row
    named = re.findall(r"`(test_\w+)`", shown)
    assert set(named) <= TESTS
    files = [
        name
        for group in re.findall(r"\(([^()]*)\)", control)
        for name in re.findall(r"`?([\w/-]+(?:\.\w+|/))`?", group)
    ]
    assert files
    assert [name for name in files if not any((place / name).exists() for place in PLACES)] == []
    assert named or "nothing here" in control  # what nothing shows says so


def test_what_the_policy_points_to_is_there() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)]*)\)", policy):
        assert (ROOT / name).is_file(), name
