"""The files that are made from the code, and those with a part of them: `make docs` writes them, a test compares."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from bench.results import FOLDER, readme_part, with_part
from bench.scale import read_costs, tables

from reviewapp.api import LIST_OPTIONS, PREDICT_OPTIONS
from reviewapp.config import settings_table
from reviewapp.contract import Contract
from reviewapp.evidence.pack import Pack
from reviewapp.openapi import describe
from reviewapp.triage import build as triage

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("docs/openapi.json", "docs/settings.md", "deploy/README.md", "README.md", "docs/scale.md")


def made_files(contract: Contract) -> dict[str, str]:
    document = json.dumps(describe(contract, PREDICT_OPTIONS, LIST_OPTIONS), indent=1, ensure_ascii=False)
    settings = "# Settings\n\nMade by `make docs`. Later wins: default, `instance/config.py`, environment.\n\n"
    notes = _with_part("deploy/README.md", "settings", settings_table())
    scale = _with_part("docs/scale.md", "tables", tables(read_costs()))
    readme = with_part((ROOT / "README.md").read_text(encoding="utf-8"), readme_part(Pack.read(FOLDER)))
    return dict(zip(NAMES, (document + "\n", settings + settings_table(), notes, readme, scale), strict=True))


def _with_part(name: str, part: str, content: str) -> str:
    """Return the text of a file with what lies between two marks made anew."""
    begin, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->\n"
    before, rest = (ROOT / name).read_text(encoding="utf-8").split(begin)
    return f"{before}{begin}{content}{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        for name, text in made_files(triage.build(Path(root)).contract).items():
            (ROOT / name).write_text(text, encoding="utf-8")
