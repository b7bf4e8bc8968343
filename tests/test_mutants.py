"""The measure of what the tests notice: its settings name what there is, and its score decides."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from soak import mutants

ROOT = Path(__file__).resolve().parent.parent


def test_the_settings_name_modules_and_tests_that_are_there_and_tests_of_each_kind() -> None:
    table = tomllib.loads(mutants.settings(ROOT))["tool"]["mutmut"]
    tests = table["pytest_add_cli_args_test_selection"]
    assert len(table["only_mutate"]) >= 8
    assert all((ROOT / name).is_file() for name in [*table["only_mutate"], *tests])
    assert {"tests/test_contract_document.py", "tests/test_ledger_rows.py", "tests/test_signing.py"} <= set(tests)
    assert "not server and not browser" in table["pytest_add_cli_args"]


@pytest.mark.parametrize(("killed", "code"), [(17, 1), (18, 0)])
def test_more_than_the_share_must_be_killed_and_what_survives_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], killed: int, code: int
) -> None:
    """Of twenty, seventeen are 85 %, which is not more than that; a timeout counts as a kill, no test does not."""
    kinds = ["timeout", *["killed"] * (killed - 1), "no tests", *["survived"] * (19 - killed)]
    found = {f"reviewapp.ui.signing.x_f__mutmut_{number}": kind for number, kind in enumerate(kinds)}
    monkeypatch.setattr(mutants, "TREE", tmp_path / "mutants")
    monkeypatch.setattr(mutants, "measure", lambda size, seed: {} | found if (size, seed) == (20, 3) else {})
    monkeypatch.setattr(mutants, "mutmut", lambda *words: f"changed {words[1]}")
    assert mutants.main(["--sample", "20", "--seed", "3"]) == code
    said = capsys.readouterr().out
    assert said.count("changed ") == 20 - killed
    assert "ui/signing" in said
    assert f"{killed} of 20 killed: {killed / 20:.1%} (must: > 85%)" in said
    report: dict[str, Any] = json.loads((tmp_path / "mutants.json").read_text())
    assert (report["score"], report["mutants"], len(report["survivors"])) == (killed / 20, found, 20 - killed)


def test_the_tests_that_need_no_release_built_come_first() -> None:
    class Item:
        def __init__(self, *names: str) -> None:
            self.fixturenames = names

    items = [Item("release"), Item("store"), Item("app", "release"), Item()]
    mutants.pytest_collection_modifyitems(items)
    assert [item.fixturenames for item in items] == [("store",), (), ("release",), ("app", "release")]
