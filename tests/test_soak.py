"""The soak: the short form of each row reaches its figures, and the table says what was measured, on what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soak.__main__ as command
from soak import results
from soak.figures import Figure, all_of, below, none

from reviewapp.evidence import pack
from reviewapp.evidence.pack import Pack, changed_files

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.usefixtures("untraced")  # it asks and watches other processes: to trace that costs much, and shows nothing
@pytest.mark.server
@pytest.mark.parametrize("row", command.ROWS)
def test_the_short_form_of_a_row_reaches_every_figure_but_times(row: int) -> None:
    measured = command.run(row, full=False)
    assert [one for one in measured.figures if not (one.reached or one.timed)] == []
    assert not all(one.timed for one in measured.figures)


# ---- the harness ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets rows return the given figures, or raise the given error."""

    def set_to(**found: Sequence[Figure] | Exception) -> None:
        def module(name: str, package: str) -> Any:
            def run(folder: Path, *, full: bool) -> Sequence[Figure]:
                assert list(folder.iterdir()) == []
                given = found[name.removeprefix(".")]
                if isinstance(given, Exception):
                    raise given
                return given

            return SimpleNamespace(run=run, SEEDS=(7, 8))

        monkeypatch.setattr(command, "import_module", module)

    return set_to


LOST, GAP = none("acknowledged answers lost", 0), below("the longest gap", 0.3, 0.5, "s")


def test_a_figure_is_reached_on_the_right_side_of_its_limit_alone() -> None:
    assert (none("x", 0).reached, none("x", 1).reached) == (True, False)
    assert (below("x", 1.9, 2, "s").reached, below("x", 2.0, 2, "s").reached) == (True, False)
    assert (all_of("x", 3, 3).reached, all_of("x", 2, 3).reached, all_of("x", 0, 0).reached) == (True, False, False)
    assert (GAP.must, GAP.measured) == ("< 0.5 s", "0.30 s")


def test_a_row_that_is_not_there_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["11"])
    assert stopped.value.code == 2
    assert "there is no row 11; there are 1, 2, 3" in capsys.readouterr().err


def test_what_is_reached_is_printed_and_nothing_is_written_unasked(rows: Any, capsys: Any, tmp_path: Path) -> None:
    rows(killed=[LOST, GAP])
    assert command.main(["3"]) == 0
    out = capsys.readouterr().out
    assert " 3 yes acknowledged answers lost: 0 (must: 0)\n 3 yes the longest gap: 0.30 s (must: < 0.5 s)\n" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ([LOST, none("sent twice", 2)], "3 NO  sent twice: 2 (must: 0)"),
        (OSError("no such tool: strace"), "3 NO  the row was measured to its end: OSError: no such tool: strace"),
    ],
    ids=["not reached", "broke off"],
)
def test_a_row_that_fails_is_shown_as_no_and_the_others_run(rows: Any, capsys: Any, found: Any, shown: str) -> None:
    rows(killed=found, slow=[GAP])
    assert command.main(["3", "8"]) == 1
    out = capsys.readouterr().out
    assert shown in out
    assert "8 yes the longest gap" in out


def test_a_row_without_figures_shows_nothing(rows: Any) -> None:
    rows(killed=[])
    assert command.main(["3"]) == 1


def test_a_row_run_alone_replaces_only_its_own_lines(rows: Any, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "out")]
    rows(killed=[LOST, GAP], slow=[GAP])
    assert command.main(["8", "3", *output]) == 0
    rows(killed=[none("acknowledged answers lost", 4)])
    assert command.main(["3", "--short", *output]) == 1
    assert list(changed_files(tmp_path / "out")) == []
    table = Pack.read(tmp_path / "out")
    lines, runs = table.table("reliability").rows, table.table("runs").rows
    assert [(one["row"], one["what"], one["measured"], one["reached"]) for one in lines] == [
        (3, "acknowledged answers lost", "4", "NO"),
        (8, "the longest gap", "0.30 s", "yes"),
    ]
    assert [(one["row"], one["form"]) for one in runs] == [(3, "short"), (8, "full")]
    digest = pack.source_digest(ROOT).removeprefix("sha256:")
    assert all(digest.startswith(one["source"]) and len(one["source"]) == 12 for one in runs)
    assert table.manifest["seeds"] == {"3": "7 8", "8": "7 8"}
    assert table.manifest["quick"] is True
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json",
        "reliability.csv",
        "runs.csv",
    ]


def test_a_table_that_was_changed_by_hand_is_not_added_to(rows: Any, capsys: Any, tmp_path: Path) -> None:
    rows(killed=[LOST])
    assert command.main(["3", "--output", str(tmp_path)]) == 0
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"7 8"', '"1"'))
    capsys.readouterr()
    assert command.main(["3", "--output", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("soak: manifest.json: it was changed after it was written")
    assert printed.out == "", "nothing is run"


def test_the_table_lies_beside_the_evidence_in_a_folder_of_its_own() -> None:
    assert results.FOLDER == ROOT / "memo" / "evidence" / "soak"
