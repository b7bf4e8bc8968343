"""Labelled requests by part: those that triage generates, or the rows of the table that a release was built from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..building.subject import parts_of
from ..building.table import read_table
from ..errors import UsageError
from ..field import Record
from ..release import Release
from ..triage import build as triage
from .pack import TABLE

LEARNED_FROM = "train"  # the part that no option is tried on


@dataclass(frozen=True)
class Example:
    """A request and its right answer: a label, or a value. `intent` is what is behind a generated one."""

    record: Record
    answer: Any
    intent: str | None = None


def labelled_requests(release: Release, data: Path | None) -> dict[str, list[Example]]:
    """Return labelled requests by part; raise UsageError where `data` is not what the release needs.

    A release that was built from a table needs that table, triage none, and for any other there are no such requests.
    """
    told = release.evaluation.get("data", {})
    if told.get("kind") == TABLE:
        if data is None:
            raise UsageError(f"{release.id} was built from {told['file']} and is tried on its rows: add --data FILE.")
        return of_table(release, data)
    if release.id.name != triage.NAME:
        raise UsageError(
            f"The live release is {release.id}: labelled requests are made for triage, and read for a release that "
            "`reviewapp build --data` built."
        )
    if data is not None:
        raise UsageError(f"{release.id} was not built from a table, and its requests are generated: leave --data out.")
    return generated()


def generated() -> dict[str, list[Example]]:
    """Return the labelled requests of triage by part: calibrate, test, later drift."""
    return {
        part: [Example(one.record, one.label, one.intent) for one in rows]
        for part, rows in triage.examples().items()
        if part != LEARNED_FROM
    }


def _check_table(release: Release, data: Path) -> None:
    """Raise UsageError where a file is not the table that the release was built from, byte for byte."""
    told = release.evaluation["data"]
    try:
        digest = hashlib.sha256(data.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"--data {data} cannot be read: {error.strerror}.") from None
    if digest != told["sha256"]:
        raise UsageError(
            f"--data {data} is not the table that {release.id} was built from: its SHA-256 begins with {digest[:12]}, "
            f"and that of {told['file']} with {told['sha256'][:12]}."
        )


def of_table(release: Release, data: Path) -> dict[str, list[Example]]:
    """Return the rows of the release's own table by part: calibrate and test, never those it learned from.

    Raises UsageError where the file is another one, or this version parts it otherwise than the release was built.
    """
    _check_table(release, data)
    told = release.evaluation["data"]
    _, parts, _ = parts_of(read_table(data), release.contract, told["time"], release.seed)
    if {part: len(rows) for part, rows in parts.items()} != told["parts"]:
        raise UsageError(
            f"This version parts the rows of {told['file']} otherwise than {release.id} was built, so rows that it "
            "learned from would be among those it is tried on: build it anew."
        )
    return {
        part: [Example(record, answer) for record, answer in zip(rows.records, rows.answers, strict=True)]
        for part, rows in parts.items()
        if part != LEARNED_FROM
    }
