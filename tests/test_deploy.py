"""The deployment notes: what they tell an operator to type works, and what they name is there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from click import Context

from reviewapp.cli import main
from reviewapp.ledger import Ledger
from reviewapp.parts import Parts
from reviewapp.store import Store

ROOT = Path(__file__).resolve().parent.parent
NOTES = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")


def test_every_command_that_the_notes_name_is_there() -> None:
    named = set(re.findall(r"reviewapp ([a-z]+)", NOTES)) - {"answers"}
    assert named <= set(main.list_commands(Context(main)))
    assert {"serve", "rollback", "promote", "verify", "monitor", "replay", "evidence", "token"} <= named


def test_every_file_that_the_notes_show_is_there() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", NOTES):
        assert (ROOT / "deploy" / path).exists(), path
    ElementTree.parse(ROOT / "deploy" / "boundary.svg")  # noqa: S314 (our own file)


def test_the_words_of_alarms_are_those_of_the_service() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for words in ("No release ", "The live release does not serve", "not what they were at evaluation", "failed:"):
        assert words in NOTES
        assert words in source
    assert "is not ready" in source


def test_the_commands_for_a_backup_keep_a_ledger_that_is_in_use(
    api: Callable[..., Any], example: dict[str, Any], parts: Parts, tmp_path: Path
) -> None:
    made = [api("post", "/predictions", json={"input": example}).json["id"] for _ in range(3)]
    [keep] = re.findall(r"^\$ reviewapp (backup) \S+", NOTES, re.MULTILINE)
    [put_back] = re.findall(r"^\$ reviewapp (restore) \S+$", NOTES, re.MULTILINE)
    here = {"REVIEWAPP_INSTANCE": str(parts.settings.instance), "REVIEWAPP_RELEASES": str(parts.settings.releases)}
    there, archive = tmp_path / "restored", str(tmp_path / "kept.tar")
    for words, environment in (([keep, archive], here), ([put_back, archive], {"REVIEWAPP_INSTANCE": str(there)})):
        command = [sys.executable, "-m", "reviewapp", *words]
        subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=60, capture_output=True)
    store = Store(f"sqlite:///{there / 'reviewapp.sqlite3'}")
    assert [Ledger(store).prediction(one).id for one in made] == made
    store.close()
