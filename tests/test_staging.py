"""What a process that was killed left half made is taken away, and what another one makes is not."""

import os
import signal
from pathlib import Path

import pytest

from reviewapp import release as releases
from reviewapp.cli import group
from reviewapp.release import Release
from reviewapp.staging import _is_held, left_behind, staging


def killed_in(folder: Path) -> None:
    """Let a process be killed while it makes something."""
    child = os.fork()
    if child == 0:
        with staging(folder, ".building-") as made:
            (made / "half").write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_what_was_left_behind_goes_when_the_next_one_comes(tmp_path: Path) -> None:
    killed_in(tmp_path)
    [left] = left_behind(tmp_path, ".building-", ".other-")
    assert (left / "half").exists()
    with staging(tmp_path, ".other-"):
        assert left.exists()  # it is not one of these
    with staging(tmp_path, ".building-") as made, staging(tmp_path, ".building-") as second:
        assert sorted(tmp_path.iterdir()) == sorted([made, second])  # both are held
        assert left_behind(tmp_path, ".building-") == []
    assert list(tmp_path.iterdir()) == []


def test_what_has_moved_to_its_place_meanwhile_is_nobody_s_to_take(tmp_path: Path) -> None:
    assert _is_held(tmp_path / "gone")
    assert left_behind(tmp_path / "gone", ".building-") == []


def test_a_later_build_takes_away_what_a_killed_one_left(tmp_path: Path, release: Release) -> None:
    killed_in(tmp_path)
    releases.write(release, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "triage"]


def test_sigterm_ends_a_command_as_an_error_does(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    group.end_tidily()
    with pytest.raises(SystemExit, match="143"):
        handlers[signal.SIGTERM]()
