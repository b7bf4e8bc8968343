"""The files under docs/ that are made from the code: `make docs` writes them, a test compares them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from reviewapp.api import LIST_OPTIONS, PREDICT_OPTIONS
from reviewapp.config import settings_table
from reviewapp.contract import Contract
from reviewapp.openapi import describe
from reviewapp.triage import build as triage

DOCS = Path(__file__).resolve().parent.parent / "docs"


def made_files(contract: Contract) -> dict[str, str]:
    document = json.dumps(describe(contract, PREDICT_OPTIONS, LIST_OPTIONS), indent=1, ensure_ascii=False)
    settings = "# Settings\n\nMade by `make docs`. Later wins: default, `instance/config.py`, environment.\n\n"
    return {"openapi.json": document + "\n", "settings.md": settings + settings_table()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        for name, text in made_files(triage.build(Path(root)).contract).items():
            (DOCS / name).write_text(text)
