"""All predictions that a filter finds, as a file: JSON Lines with the whole record, or CSV for a spreadsheet.

A file is made page by page, so that memory stays flat. Neither kind has room for a failure: where reading fails, the
failure is raised. The service then cuts the connection off before its end is sent, which every client takes for a
broken download, and the command line puts no file in place.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import csvfiles, strictjson
from .bulk import CSV_TYPE, NDJSON_TYPE
from .contract import Contract
from .errors import UsageError
from .ledger import Ledger
from .prediction import Prediction, Verdict
from .samples import as_text

KINDS = {"csv": CSV_TYPE, "jsonl": NDJSON_TYPE}
_ANSWERS = {"classification": ("label", "confidence"), "regression": ("value", "low", "high")}
_COLUMNS: dict[str, Callable[[Prediction], Any]] = {
    "id": lambda one: one.id,
    "created_at": lambda one: one.created_at,
    "release": lambda one: one.release,
    "release_digest": lambda one: one.release.digest,
    "option": lambda one: one.option,
    "reference": lambda one: one.reference,
    "source": lambda one: one.source,
    "client": lambda one: one.client,
    "request_id": lambda one: one.request_id,
    "decision": lambda one: one.decision,
    "reasons": lambda one: "; ".join(one.reasons),
    "warnings": lambda one: "; ".join(f"{warning['pointer']}: {warning['detail']}" for warning in one.warnings),
    "audit": lambda one: one.audit,
}
_VERDICT: dict[str, Callable[[Verdict], Any]] = {
    "verdict": lambda one: one.verdict,
    "right_answer": lambda one: one.label if one.value is None else one.value,
    "verdict_reasons": lambda one: "; ".join(one.reasons),
    "verdict_by": lambda one: one.author,
    "verdict_at": lambda one: one.created_at,
    "verdict_note": lambda one: one.note,
    "blind": lambda one: one.blind,
}


def export(
    kind: str,
    ledger: Ledger,
    filters: Mapping[str, Any],
    sort: str,
    contract: Contract | None,
    without: Collection[str] = (),
) -> Iterator[bytes]:
    """Yield a file of one of KINDS, at least one piece, perhaps an empty one.

    A CSV has a column for each field of the contract (`input.` and its name); what the contract does not know, as of
    an older release, is JSON in the last column. Without a contract all of the input is there. Those whose ids
    are in `without` are left out.
    """
    if kind == "jsonl":
        for page in ledger.pages(filters, sort, without):
            yield b"".join(strictjson.dumps(one.as_record()) + b"\n" for one in page)
        return
    tasks = ledger.tasks() | ({contract.outcome.task} if contract else set())
    answers = [name for task, names in _ANSWERS.items() if task in tasks for name in names]
    fields = contract.names if contract else ()
    header = [
        *_COLUMNS,
        *answers,
        "other_option_answer",
        *_VERDICT,
        *(f"input.{name}" for name in fields),
        "other_input",
    ]
    before = csvfiles.write([header])
    for page in ledger.pages(filters, sort, without):
        yield (before + csvfiles.write(_cells(one, answers, fields) for one in page)).encode()
        before = ""


def _cells(one: Prediction, answers: Sequence[str], fields: Sequence[str]) -> list[str]:
    second, verdict, record = (one.comparison or {}).get("output", {}), one.verdict, one.input or {}
    other = {name: value for name, value in record.items() if name not in fields}
    cells = [
        *(tell(one) for tell in _COLUMNS.values()),
        *(one.output.get(name) for name in answers),
        second.get("label", second.get("value")),
        *(None if verdict is None else tell(verdict) for tell in _VERDICT.values()),
        *(record.get(name) for name in fields),
        strictjson.dumps(other).decode() if other else None,
    ]
    return [as_text(cell) for cell in cells]


def write_beside(pieces: Iterator[bytes], path: Path) -> None:
    """Write a file whole or not at all: beside its place, and moved there at the end; raise UsageError."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        beside.unlink(missing_ok=True)
