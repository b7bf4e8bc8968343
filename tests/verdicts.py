"""A ledger with answers that people have judged, made at once: for tests of what is told of them."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import insert, select

from reviewapp.chain import linked
from reviewapp.parts import Parts
from reviewapp.prediction import Call, Prediction, new_id, timestamp, utcnow
from reviewapp.tables import predictions, verdicts

SIGNS = {"+": "agree", "-": "corrected", "x": "disagree", "?": "unsure"}  # and . for an answer nobody judged
PER_COMMIT = 2000


def judge(parts: Parts, signs: str, *, audit: bool = True, blind: bool = False) -> None:
    """Keep an answer for each sign, drawn for a check or else gone to a person, with its verdict."""
    release, now = parts.registry.adapter().release.id, timestamp(utcnow())
    plain = Prediction(
        id="", created_at=now, release=release, option="model", reference=None, input={"subject": "s" * 300},
        output={"label": "access", "confidence": 0.9, "probabilities": {"access": 0.9, "bug": 0.1}},
        decision="auto" if audit else "review", reasons=[] if audit else ["low_confidence"], warnings=[], audit=audit,
    )  # fmt: skip
    drawn = parts.registry.adapter().release.policy.blind
    ids = (new_id(utcnow()) for _ in iter(int, 1))
    made = [replace(plain, id=next(one for one in ids if drawn(one) is blind)) for _ in signs]
    for start in range(0, len(made), PER_COMMIT):
        parts.ledger.add_predictions(made[start : start + PER_COMMIT], Call())
    last = select(predictions.c.seq).order_by(predictions.c.seq.desc()).limit(len(made))
    with parts.store.writing() as connection, linked(connection, "verdicts"):
        rows = [
            {"prediction_seq": seq, "verdict": SIGNS[sign], "label": "bug" if sign == "-" else None, "value": None,
             "reasons": [], "note": None, "author": "ann", "created_at": now, "blind": blind}
            for seq, sign in zip(sorted(connection.scalars(last)), signs, strict=True)
            if sign != "."
        ]  # fmt: skip
        if rows:
            connection.execute(insert(verdicts), rows)
