"""A ledger with a million rows: some recorded as the service does, and copies with ids and times of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sqlalchemy import func, select, text

from reviewapp.adapter import ModelAdapter
from reviewapp.chain import linked
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call
from reviewapp.release import read
from reviewapp.store import Store
from reviewapp.tables import predictions

from .releases import Served

FILE = "reviewapp.sqlite3"
STEP = 20  # copies of all that was recorded, in one transaction
PLAIN = [column.name for column in predictions.c if column.name not in ("seq", "id", "created_at", "seal")]

# Ids and times are in the order of the rows, as those that the service makes are, and before them.
COPY = f"""
WITH RECURSIVE copies(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM copies WHERE n + 1 < :end)
INSERT INTO predictions (id, created_at, {", ".join(PLAIN)})
SELECT printf('%08x-0000-7000-8000-%012x', n, seq), strftime('%Y-%m-%dT%H:%M:%fZ', '2025-01-01', n || ' minutes'),
       {", ".join(PLAIN)}
FROM copies CROSS JOIN predictions WHERE seq <= :last ORDER BY n, seq
"""  # noqa: S608 (names of columns)


def filled(release: Served, to: Path, rows: int) -> Path:
    """Return the file of a ledger with at least `rows` predictions of the release; it is made where it is missing."""
    if not to.is_file():
        with tempfile.TemporaryDirectory(prefix=".building-", dir=to.parent) as scratch:
            copied = release.copied(Path(scratch) / "instance")
            store = Store(f"sqlite:///{copied.instance / FILE}")
            adapter = ModelAdapter(read(copied.release), [Ledger(store).add])
            adapter.predict(copied.records(), Call(client="bench", request_id="bench"))
            _multiply(store, rows)
            store.close()  # the last one to close it brings everything into the one file
            (copied.instance / FILE).rename(to)
    return to


def _multiply(store: Store, rows: int) -> None:
    with store.reading() as connection:
        count, last = connection.execute(select(func.count(), func.max(predictions.c.seq))).one()
    copies = -(-rows // count) - 1
    for first in range(0, copies, STEP):
        with store.writing() as connection, linked(connection, "predictions"):
            connection.execute(text(COPY), {"first": first, "end": min(first + STEP, copies), "last": last})
