"""Tables as MLflow's scoring server takes them: data frames as JSON in two orientations, tensors by name, and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from . import bulk
from .bodies import MAX_BATCH
from .contract import Contract
from .errors import BadRequest, Flaw, InvalidInput, pointer

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def of_json(body: Any, contract: Contract) -> tuple[Any, dict[str, Any]]:
    """Return the rows of a body and its params; other members are left out, as MLflow does."""
    given = [name for name in FORMATS if name in body] if type(body) is dict else []
    if len(given) != 1:
        raise BadRequest(
            f"The input must be a JSON dictionary with exactly one of the input fields {', '.join(FORMATS)}."
        )
    [name], sent, params = given, body[given[0]], body.get("params")
    if type(params or {}) is not dict:
        raise BadRequest("params: this must be an object.")
    names: Sequence[str] = contract.names
    if name == "dataframe_split":
        if type(sent) is not dict or not all(type(sent.get(key)) is list for key in ("columns", "data")):
            raise BadRequest(f"{name}: this must have `columns` and `data`, both lists.")
        names, sent = sent["columns"], sent["data"]
        if not all(type(one) is str for one in names) or len({*names}) != len(names):
            raise BadRequest(f"{name}/columns: these must be names, each once.")
    elif type(sent) is dict and name in FORMATS[2:]:  # column by column
        names = list(sent)
        if not all(type(column) is list for column in sent.values()) or len({*map(len, sent.values())}) != 1:
            raise BadRequest(f"{name}: each column must be a list, and all equally long.")
        sent = [list(row) for row in zip(*sent.values(), strict=True)]
    if type(sent) is not list:
        raise BadRequest(f"{name}: this must be a list of rows.")
    if name == "dataframe_records":
        return sent, params or {}
    for number, row in enumerate(sent):
        if type(row) is list and len(row) != len(names):
            raise BadRequest(f"{name}: row {number} has {len(row)} values, and there are {len(names)} columns.")
    return [dict(zip(names, row, strict=True)) if type(row) is list else row for row in sent], params or {}


def of_csv(content: bytes, contract: Contract) -> list[bulk.Row]:
    """Return the rows of a CSV file, none of which has a mistake."""
    rows = list(islice(bulk.read(bulk.CSV_TYPE, content, contract), MAX_BATCH + 1))
    if len(rows) > MAX_BATCH:
        raise InvalidInput([Flaw("/inputs", "too_many_items", f"At most {MAX_BATCH} may be given.")])
    mistakes = [(row.number - 1, row.mistake) for row in rows if row.mistake is not None]
    for _, mistake in mistakes:
        if not mistake.errors:
            raise mistake
    flaws = [(pointer("inputs", number), flaw) for number, mistake in mistakes for flaw in mistake.errors]
    if flaws:
        raise InvalidInput([Flaw(at + flaw.pointer, flaw.code, flaw.detail, flaw.allowed) for at, flaw in flaws])
    return rows
