"""Trial: what metric, trigger and drift say while the world stays as it was, drifts, or files its requests elsewhere.

Each scenario fills a ledger of its own through the adapter; a person judges every audited answer by the label that the
desk would write down; then the figures are those of `reviewapp monitor`. The ids that decide what is audited are made
from the scenario's name, so the same rows are drawn each time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import binom

from ..drift import ALPHA, BLOCK, MOVED, look
from ..ledger import Ledger
from ..monitoring import monitor
from ..prediction import Call, Verdict, timestamp, utcnow
from ..store import Store
from ..triage import generator
from .running import Subject
from .tables import Column, Row, Table, key

REQUESTS = 4000
SCENARIOS: Mapping[str, dict[str, Any]] = {
    "as it was": {},
    "later drift": {"drifted": True},
    "filed elsewhere": {"refiled": generator.REFILED},
}


def watching(subject: Subject) -> list[Table]:
    """Return metric, trigger and drift of each scenario."""
    rows = [_scenario(subject, number, name, **how) for number, (name, how) in enumerate(SCENARIOS.items())]
    columns = [
        key("scenario", "Scenario"),
        Column("requests", "Requests", "d"),
        Column("drawn", "Drawn and judged", "d"),
        Column("verdicts", "in the window", "d"),
        Column("wrong", "Wrong", "d"),
        Column("value", "Error rate", ".3f"),
        Column("low", "from", ".3f"),
        Column("high", "to", ".3f"),
        Column("limit", "Limit", ".2f"),
        Column("state", "Trigger"),
        Column("fired_at", "Fired after verdicts", "d"),
        Column("fired_after", "that is after requests", "d"),
        Column("referred", "Share to a person", ".3f"),
        Column("moved", "Share has moved"),
        Column("drift", "Requests have changed"),
        Column("drifted", "Blocks that say so", "d"),
        Column("blocks", "of blocks", "d"),
    ]
    refiled = " and ".join(f"{old} under {new}" for old, new in generator.REFILED.items())
    reading = (
        f"Later drift: other shares of the intents, new wordings. Filed elsewhere: the desk files {refiled} from now "
        "on, which no request shows. Figures as `reviewapp monitor` computes them from the ledger. A block of "
        f"{BLOCK} requests says that they have changed where it differs from the table in any field, or in the "
        f"answers, by more than chance does in {ALPHA:.0%} of blocks; requests have changed where more blocks say so "
        f"than chance brings about in {ALPHA:.0%} of such scenarios."
    )
    return [Table("watching", "What the monitoring metric sees", reading, columns, rows)]


def _scenario(
    subject: Subject, number: int, name: str, *, drifted: bool = False, refiled: Mapping[str, str] | None = None
) -> Row:
    examples = generator.generate(REQUESTS, subject.seed + 100 + number, drifted=drifted)
    made = subject.adapter.predict([dict(one.record) for one in examples], Call(dry_run=True))
    policy = subject.release.policy
    full = REQUESTS // BLOCK
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'ledger.sqlite3'}")
        ledger = Ledger(store)
        named = [replace(one, id=f"{name} {i}") for i, one in enumerate(made)]
        rows = [replace(one, audit=one.decision == "auto" and policy.audited(one.id)) for one in named]
        ledger.add_predictions(rows, Call())
        order = []
        for i, (example, answer) in enumerate(zip(examples, rows, strict=True)):
            if answer.audit:
                label = (refiled or {}).get(example.label, example.label)
                order.append(i)
                ledger.add_verdict(answer.id, _verdict(label, answer.output["label"]))
        found = monitor(subject.release, ledger)
        blocks = [look(subject.release, ledger.block(subject.release.id, BLOCK, number=n)) for n in range(full)]
        store.close()
    metric, trigger, referred = found["metric"], found["trigger"], found["referred"]
    fired_at = trigger["fired_at"]
    drifted_blocks = sum(one["state"] == MOVED for one in blocks)
    return {
        "scenario": name,
        "requests": REQUESTS,
        **{column: metric[column] for column in ("drawn", "verdicts", "wrong", "value", "low", "high")},
        **{column: trigger[column] for column in ("limit", "state", "fired_at")},
        "fired_after": None if fired_at is None else order[fired_at - 1] + 1,
        "referred": referred["value"],
        "moved": "yes" if referred["moved"] else "no",
        "drift": "too few" if not full else "yes" if binom.sf(drifted_blocks - 1, full, ALPHA) <= ALPHA else "no",
        "drifted": drifted_blocks,
        "blocks": full,
    }


def _verdict(label: str, answered: str) -> Verdict:
    right = label == answered
    return Verdict(
        "agree" if right else "corrected", None if right else label, None, [], None, "evidence", timestamp(utcnow())
    )
