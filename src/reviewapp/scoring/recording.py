"""What a run leaves in the ledger: nothing, one row that counts its answers, or every answer as a prediction.

Answers are recorded some hundred at a time. In the same commit it is noted which of the run's rows they are, so a
partition that is done again finds them and records nothing twice. The notes go once the run has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from ..adapter import ModelAdapter
from ..bulk import CHUNK, Result, Row, answers
from ..errors import ModelBroken, ReviewappError
from ..ledger import Ledger
from ..prediction import Call, Prediction
from ..release import Release
from ..store import Store
from ..tables import scoring_chunks, scorings
from .answers import VALUE_NAMES, Answers
from .tables import Checked

NONE, SUMMARY, ALL = "none", "summary", "all"
MODES = (NONE, SUMMARY, ALL)


def answer_and_record(checked: Checked, adapter: ModelAdapter, option: str, store: Store, call: Call) -> Answers:
    """Answer the right rows as single requests are, and record each; the request id of the call names the run."""
    rows = np.flatnonzero(checked.right).tolist()
    asked = [
        Row(checked.table.first + row, record, checked.references[row])
        for row, record in zip(rows, checked.records(checked.values()), strict=True)
    ]
    made: list[Prediction] = []
    for start in range(0, len(asked), CHUNK):
        chunk = asked[start : start + CHUNK]
        results = _kept(store, call.request_id, chunk, adapter.release) or _recorded(adapter, chunk, option, call)
        for row, result in zip(rows[start : start + CHUNK], results, strict=True):
            if isinstance(result, ReviewappError):
                checked.mistakes[row], checked.right[row] = result, False
            else:
                made.append(result)
    return _columns(made, adapter)


def _recorded(adapter: ModelAdapter, chunk: Sequence[Row], option: str, call: Call) -> list[Result]:
    """Answer rows and record the answers, and beside them which rows they are; at some the model may fail."""
    results = answers(chunk, adapter, replace(call, dry_run=True), option=option)
    ids = [None if isinstance(result, ReviewappError) else result.id for result in results]

    def note(connection: Connection) -> None:
        values = {"scoring_id": call.request_id, "row": chunk[0].number, "prediction_ids": ids}
        connection.execute(insert(scoring_chunks).values(**values))

    made = [result for result in results if not isinstance(result, ReviewappError)]
    if made:
        adapter.keep(made, replace(call, beside=note))
    return results


def _kept(store: Store, run: str, chunk: Sequence[Row], release: Release) -> list[Result]:
    """Return what was recorded for some rows by a run that was broken off; nothing where nothing was."""
    table = scoring_chunks.c
    query = select(table.prediction_ids).where(table.scoring_id == run, table.row == chunk[0].number)
    with store.reading() as connection:
        ids = connection.scalar(query)
    ledger = Ledger(store)
    failed = ModelBroken(f"{release.id} failed on this request before.")
    return [failed if one is None else ledger.prediction(one) for one in ids or ()]


def _columns(made: Sequence[Prediction], adapter: ModelAdapter) -> Answers:
    names = adapter.contract.outcome.labels
    compared = [one.comparison["output"] for one in made if one.comparison is not None]
    return Answers(
        names,
        _figures([one.output for one in made], names),
        _figures(compared, names) if made and len(compared) == len(made) else None,
        [one.reasons for one in made],
        {row: one.warnings for row, one in enumerate(made) if one.warnings},
        [one.id for one in made],
        [one.created_at for one in made],
    )


def _figures(outputs: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Any:
    rows = [
        [output["probabilities"][name] for name in names] if names else [output[name] for name in VALUE_NAMES]
        for output in outputs
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names) or len(VALUE_NAMES))


# ---- counting ---------------------------------------------------------------------------------------------------


def counts(checked: Checked, answered: Answers) -> dict[str, Any]:
    """Return what is counted of a partition; the counts of all partitions add up (`total`)."""
    problems: Counter[str] = Counter()
    for mistake in checked.mistakes.values():
        problems.update({flaw.code for flaw in mistake.errors} or {mistake.slug})
    return {
        "rows": checked.table.rows,
        "predictions": answered.rows,
        "problems": len(checked.mistakes),
        "review": sum(map(bool, answered.reasons)),
        "labels": Counter(answered.predictions if answered.names else ()),
        "reasons": Counter(reason for reasons in answered.reasons for reason in reasons),
        "codes": problems,
    }


def total(all_counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of several partitions together."""
    whole: dict[str, Any] = dict.fromkeys(("rows", "predictions", "problems", "review"), 0)
    whole |= {name: {} for name in ("labels", "reasons", "codes")}
    for one in all_counts:
        for name, value in whole.items():
            if isinstance(value, dict):
                whole[name] = dict(Counter(value) + Counter(one[name]))
            else:
                whole[name] += one[name]
    return whole


def runs(store: Store) -> list[dict[str, Any]]:
    """Return what the ledger holds of each run (the columns of `scorings`), the newest first."""
    query = select(scorings).order_by(scorings.c.started_at.desc(), scorings.c.id)
    with store.reading() as connection:
        return [{str(name): row[name] for name in row} for row in connection.execute(query).mappings()]


def end(store: Store, row: Mapping[str, Any] | None, run: str) -> None:
    """Write the row that counts a run, where there is to be one, and forget which of its rows were recorded."""
    with store.writing() as connection:
        if row is not None:  # perhaps again, by a run that was killed just after it
            connection.execute(delete(scorings).where(scorings.c.id == run))
            connection.execute(insert(scorings).values(**row))
        connection.execute(delete(scoring_chunks).where(scoring_chunks.c.scoring_id == run))
