"""How many predictions the ledger holds, by release, option, label and decision, counted as they are added.

Predictions are never removed, so each is counted once by a process: what it counted it remembers, with the row it came
to, and goes on from there. A checkpoint that was kept elsewhere spares a new process all the rows before it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import func, select

from .store import Store
from .tables import predictions

AT_ONCE = 20_000  # rows of one query
SECONDS = 2.0  # that a catching-up may take; the next one goes on


class Kind(NamedTuple):
    """What is counted apart; the label of a number is empty."""

    release: str
    option: str
    label: str
    decision: str


class Tally:
    """Counts the predictions of a store. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._seq, self._id = 0, ""  # of the last row that is counted
        self._counts: Counter[Kind] = Counter()

    def catch_up(self, checkpoint: Mapping[str, Any] | None = None, seconds: float = SECONDS) -> dict[Kind, int] | None:
        """Return the counts of all there are now, or None where counting them takes longer than this.

        A checkpoint, as `checkpoint` returns it, is where to start from if it is further on.
        """
        with self._lock:
            ends = time.monotonic() + seconds
            self._forget_another_ledger()
            if checkpoint is not None and checkpoint["seq"] > self._seq:
                self._go_on_from(checkpoint)
            with self._store.reading() as connection:
                last = connection.scalar(select(func.max(predictions.c.seq))) or 0
            while self._seq < last:
                if time.monotonic() > ends:
                    return None
                self._count(min(self._seq + AT_ONCE, last))
            return dict(self._counts)

    def checkpoint(self) -> dict[str, Any]:
        """Return how far this has come, for another process to go on from; JSON."""
        with self._lock:
            return {"seq": self._seq, "id": self._id, "counts": [[*kind, n] for kind, n in self._counts.items()]}

    def _forget_another_ledger(self) -> None:
        """Start anew where the row that was counted last is another one now: a backup was put in the ledger's place."""
        if self._seq and self._id_of(self._seq) != self._id:
            self._start()

    def _go_on_from(self, checkpoint: Mapping[str, Any]) -> None:
        if self._id_of(checkpoint["seq"]) == checkpoint["id"]:
            self._seq, self._id = checkpoint["seq"], checkpoint["id"]
            self._counts = Counter({Kind(*kind): n for *kind, n in checkpoint["counts"]})

    def _id_of(self, seq: int) -> str | None:
        with self._store.reading() as connection:
            found: str | None = connection.scalar(select(predictions.c.id).where(predictions.c.seq == seq))
            return found

    def _count(self, until: int) -> None:
        kept = predictions.c
        kinds = (kept.release_name, kept.release_version, kept.option, kept.label, kept.decision)
        counts = select(*kinds, func.count()).where(kept.seq > self._seq, kept.seq <= until).group_by(*kinds)
        with self._store.reading() as connection:
            for name, version, option, label, decision, n in connection.execute(counts):
                self._counts[Kind(f"{name}/{version}", option, label or "", decision)] += n
            last_id = select(kept.id).where(kept.seq <= until).order_by(kept.seq.desc()).limit(1)
            self._seq, self._id = until, connection.scalar(last_id) or ""
