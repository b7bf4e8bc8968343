"""Contract and evidence: what a request may hold, and what was measured."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import send_from_directory
from flask.typing import ResponseReturnValue

from ..contract import Contract
from ..errors import NotFound, UsageError
from ..evidence.pack import SOAK, TABLE, Pack, changed_files, folder_of, soak_of
from ..field import Field, Record
from ..forms import limits_in_words
from ..parts import parts
from ..release import ReleaseId
from ..samples import as_text, example_record
from ..security import EVERYBODY, needs
from .base import Json, page, show, ui
from .judging import copies

SHOWN_VALUES = 60  # of an open list the page shows so many; the contract itself has all


@dataclass(frozen=True)
class ContractPage:
    """The reference: every field with its limits, what comes out, and requests to copy."""

    contract: Contract
    example: Record
    snippets: Mapping[str, str]

    @property
    def example_text(self) -> str:
        return json.dumps({"input": self.example}, indent=2, ensure_ascii=False)

    @property
    def rows(self) -> list[tuple[Field, str, str, str]]:
        """(field, hard limits, what training saw, example) in words."""
        return [(one, _rule(one), _seen(one), as_text(one.example)) for one in self.contract.fields]

    def as_json(self) -> Json:
        return self.contract.as_json()


@page("/contract")
@needs(EVERYBODY)
def show_contract() -> ResponseReturnValue:
    """What a request may hold, for people."""
    contract = parts.registry.adapter().contract
    example = example_record(contract)
    return show("contract.html", ContractPage(contract, example, copies(example)))


def _rule(one: Field) -> str:
    if one.kind == "boolean":
        rule = "true or false."
    elif one.choices is not None:
        rule = f"One of {', '.join(one.choices)}."
    else:
        rule = limits_in_words(one) or "Any text."
    absent = "" if one.required else ", or left out"
    return f"{rule} May be null{absent}: not known." if one.nullable else f"{rule} Required."


def _seen(one: Field) -> str:
    if one.seen_choices is not None:
        more = len(one.seen_choices) - SHOWN_VALUES
        return ", ".join(one.seen_choices[:SHOWN_VALUES]) + (f" and {more:,} more" if more > 0 else "")
    if one.seen_minimum is None:
        return ""
    what = " characters" if one.kind == "text" else ""
    return f"{one.seen_minimum} to {one.seen_maximum}{what}"


@dataclass(frozen=True)
class EvidencePage:
    """The evidence pack. `problem` says why there is none, or why it must be read with care."""

    pack: Pack | None
    problem: str | None
    soak: Pack | None = None  # what holds while things go wrong, measured apart
    longest: int = 45  # rows of a table that is shown; of a longer one there is the file alone

    @property
    def data(self) -> str:
        """What the labelled requests are."""
        data = self._data
        if data.get("kind") == TABLE:
            rows = data["parts"]
            return (
                f"the labelled requests are rows of {data['file']} that no option was fitted on: {rows['test']:,} that "
                f"only test, and {rows['calibrate']:,} that calibrated what it says"
            )
        return f"the data are {data['kind']}" if data else ""

    @property
    def command(self) -> str:
        """What measures all of it."""
        return f"reviewapp evidence{self._table}" if self._table else "make evidence"

    @property
    def check(self) -> str:
        """What measures it again and compares."""
        return f"reviewapp evidence --check{self._table}"

    @property
    def _table(self) -> str:
        data = self._data
        return f" --data {shlex.quote(data['file'])}" if data.get("kind") == TABLE else ""

    @property
    def _data(self) -> Mapping[str, Any]:
        return self.pack.manifest["data"] if self.pack else {}

    def as_json(self) -> Json:
        if self.pack is None:
            return {"problem": self.problem, "manifest": None, "tables": {}}
        packs = [self.pack, *([self.soak] if self.soak else [])]
        tables = {table.name: list(table.rows) for pack in packs for table in pack.tables.values()}
        return {"problem": self.problem, "manifest": self.pack.manifest, "tables": tables}


@page("/evidence")
@needs("submit")
def show_evidence() -> ResponseReturnValue:
    """What was measured, and whether it belongs to the release that answers now."""
    live = parts.registry.live()
    folder = _evidence_folder(live)
    try:
        pack = Pack.read(folder)
        soak = soak_of(pack)
        problems = [
            *changed_files(folder),
            *(f"{SOAK}/{line}" for line in (changed_files(soak.folder) if soak else ())),
        ]
    except UsageError as error:
        return show("evidence.html", EvidencePage(None, error.detail))
    if live is None or live.digest != pack.manifest["release"]["digest"]:
        problems.insert(
            0,
            f"These figures are of another build than the live one{f', {live}' if live else ''}: its digest differs, "
            "as it does where another processor moved the last digits of a fit; `reviewapp evidence --check` tells "
            "whether the figures hold",
        )
    return show("evidence.html", EvidencePage(pack, "; ".join(problems) + "." if problems else None, soak))


@ui.get("/evidence/<name>")
@needs("submit")
def evidence_file(name: str) -> ResponseReturnValue:
    """One file of the evidence, as it lies there; pictures are shown, the others downloaded."""
    return _file(_evidence_folder(parts.registry.live()), name)


@ui.get(f"/evidence/{SOAK}/<name>")
@needs("submit")
def soak_file(name: str) -> ResponseReturnValue:
    """One file of the soak."""
    return _file(_evidence_folder(parts.registry.live()) / SOAK, name)


def _file(folder: Path, name: str) -> ResponseReturnValue:
    try:
        known = name in Pack.read(folder).files
    except UsageError:
        known = False
    if not known:
        raise NotFound("The evidence has no such file.")
    return send_from_directory(folder, name, as_attachment=not name.endswith(".png"))


def _evidence_folder(live: ReleaseId | None) -> Path:
    return folder_of(parts.settings, None if live is None else parts.registry.folder(live))
