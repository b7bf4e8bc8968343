"""The notebook runs from top to bottom without an error, and says what the evidence says."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from reviewapp.evidence.pack import Pack

MEMO = Path(__file__).resolve().parent.parent / "memo"
KEYS = ["module", "decision", "artifact", "alternatives", "recommendation"]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(notebook: Any) -> list[str]:
    """What the cells print, but for digests: another processor moves the last digits of a fit."""
    text = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    return [line for line in text.splitlines() if "sha256" not in line]


def workspace(notebook: Any) -> dict[str, Any]:
    found = ast.literal_eval(notebook.cells[-1].outputs[-1].data["text/plain"])
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def committed() -> Any:
    return nbformat.read(MEMO / "notebook.ipynb", as_version=4)


@pytest.fixture(scope="module")
def executed(committed: Any) -> Any:
    notebook = nbformat.from_dict(committed)
    return NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(MEMO)}}).execute()


@pytest.fixture(scope="module")
def pack() -> Pack:
    return Pack.read(MEMO / "evidence")


@pytest.mark.server
def test_it_runs_clean_and_finds_the_figures_of_the_evidence(executed: Any) -> None:
    assert {output.output_type for output in outputs(executed)} <= {"stream", "display_data", "execute_result"}
    text = "".join(output.get("text", "") for output in outputs(executed))
    assert "tables compared; moved: nothing" in text
    assert "one bit changed: model.skops was changed" in text
    assert "still answering: 201 CREATED" in text
    assert "the trigger fires after" in text


@pytest.mark.server
def test_its_last_cell_is_the_workspace_with_the_figures_of_the_evidence(executed: Any, pack: Pack) -> None:
    filled = workspace(executed)
    assert list(filled) == KEYS
    assert filled["module"] == 5
    assert list(filled["alternatives"]) == ["baseline_or_manual_process", "ai_assisted_or_advanced_option"]
    rows = {"baseline_or_manual_process": "baseline, own threshold", "ai_assisted_or_advanced_option": "model"}
    comparison = pack.table("comparison")
    for name, option in rows.items():
        told = filled["alternatives"][name]
        assert list(told) == ["strength", "risk", "evidence"]
        row = comparison.row(part="test", option=option)
        assert (
            f"cost of 100 requests {comparison.column('cost_per_100').shown(row['cost_per_100'])}" in told["evidence"]
        )
        assert f"accuracy {comparison.column('accuracy').shown(row['accuracy'])}" in told["evidence"]
    recommended = filled["recommendation"]
    assert list(recommended) == [
        "decision", "recommended_option", "minimum_evidence_before_pilot", "monitoring_metric", "rollback_trigger",
    ]  # fmt: skip
    assert recommended["recommended_option"] in filled["alternatives"]
    assert isinstance(recommended["minimum_evidence_before_pilot"], list)
    assert recommended["monitoring_metric"].startswith(pack.manifest["policy"]["rollback"]["metric"])
    assert f"above {pack.manifest['policy']['rollback']['limit']:g}" in recommended["rollback_trigger"]


def test_what_is_committed_was_executed_from_top_to_bottom(committed: Any) -> None:
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert "error" not in {output.output_type for output in outputs(committed)}


@pytest.mark.server
def test_what_is_committed_says_what_a_run_says(committed: Any, executed: Any) -> None:
    assert workspace(committed) == workspace(executed)
    assert printed(committed) == printed(executed)
