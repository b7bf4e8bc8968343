"""Fill the ledger of an instance with many predictions of its live release: `python -m tests.many INSTANCE 100000`.

Requests are the default model's own, made from a seed; answers are those of the release; a fifth has a verdict.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select

from reviewapp.chain import linked
from reviewapp.config import load_settings
from reviewapp.factory import make_parts
from reviewapp.parts import Parts
from reviewapp.prediction import Call, Prediction, new_id, timestamp, utcnow
from reviewapp.tables import predictions, queue, verdicts
from reviewapp.triage.generator import generate

BATCH = 1000
JUDGED = 0.2
STEP = timedelta(seconds=40)  # from one prediction to the next: 100,000 are about 46 days
SOURCES = {"api": 60, "form": 10, "bulk": 25, "upload": 5}
PEOPLE = ("ann", "bob", "eve")


def fill(parts: Parts, n: int, seed: int = 7) -> None:
    """Record `n` predictions that end now, the oldest first, and verdicts on a fifth of them."""
    rng, adapter, start = random.Random(seed), parts.registry.adapter(), utcnow() - n * STEP
    requests = generate(n, seed)
    for first in range(0, n, BATCH):
        records = [one.record for one in requests[first : first + BATCH]]
        made = adapter.predict(records, Call(dry_run=True), compare=True)
        moments = [start + (first + i) * STEP for i in range(len(made))]
        parts.ledger.add_predictions(
            [moved(one, first + i, moment, rng) for i, (one, moment) in enumerate(zip(made, moments, strict=True))],
            Call(),
        )
    right = {number: one.label for number, one in enumerate(requests, 1)}
    with parts.store.writing() as connection:
        rows = connection.execute(select(predictions.c.seq, predictions.c.label, predictions.c.created_at)).all()
        judged = rng.sample(rows, int(len(rows) * JUDGED))
        with linked(connection, "verdicts"):
            connection.execute(insert(verdicts), [_verdict(row, right.get(row.seq), rng) for row in judged])
        done = select(predictions.c.id).join(verdicts, verdicts.c.prediction_seq == predictions.c.seq)
        connection.execute(delete(queue).where(queue.c.prediction_id.in_(done)))


def moved(made: Prediction, number: int, moment: datetime, rng: random.Random) -> Prediction:
    """Return a prediction as one that was asked for at a moment, through some door."""
    source = rng.choices(list(SOURCES), weights=list(SOURCES.values()))[0]
    made_id = new_id(moment)
    return replace(
        made, id=made_id, created_at=timestamp(moment), source=source, client=rng.choice(PEOPLE),
        request_id=f"r-{number}", reference=f"ticket-{number}" if rng.random() < 0.5 else None,
        comparison=made.comparison if source == "form" else None,
        audit=made.decision == "auto" and rng.random() < 0.1,
    )  # fmt: skip


def _verdict(row: Any, right: str | None, rng: random.Random) -> dict[str, Any]:
    kind = "agree" if row.label == right else rng.choice(("corrected", "disagree"))
    if rng.random() < 0.05:
        kind = rng.choice(("unsure", "withdrawn"))
    moment = datetime.fromisoformat(row.created_at) + timedelta(hours=rng.random() * 48)
    return {
        "prediction_seq": row.seq,
        "verdict": kind,
        "label": right if kind == "corrected" else None,
        "value": None,
        "reasons": [],
        "note": "as the desk filed it" if kind == "corrected" else None,
        "author": rng.choice(PEOPLE),
        "created_at": timestamp(moment),
        "blind": False,
    }


if __name__ == "__main__":
    made_parts = make_parts(load_settings({"instance": Path(sys.argv[1])}, {}))
    fill(made_parts, int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 7)
    made_parts.store.close()
