"""How long pages take on the server with many predictions in the ledger: `python -m tests.page_speed [ROWS]`.

It starts the service on a ledger of its own, asks for each page and each filter 30 times and prints the 50th and the
95th percentile of `total` in Server-Timing, in milliseconds; then what the indexes cost a recorded prediction.
"""

from __future__ import annotations

import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

from sqlalchemy import func, select

from reviewapp.config import load_settings
from reviewapp.factory import make_parts
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call, utcnow
from reviewapp.store import Store
from reviewapp.tables import predictions
from reviewapp.triage.generator import generate

from .many import fill, moved
from .service import Service

TIMES = 30
LIMIT = 50.0  # milliseconds at the 95th percentile, with 100,000 rows


def asked(parts_of: Path) -> list[str]:
    """Return the addresses to ask for, with an id, a digest and times of the ledger filled in."""
    parts = make_parts(load_settings({"instance": parts_of}, {}))
    with parts.store.reading() as connection:
        middle = select(func.max(predictions.c.seq)).scalar_subquery() / 2
        row = connection.execute(select(predictions).where(predictions.c.seq >= middle).limit(1)).mappings().one()
        early = connection.scalar(select(predictions.c.created_at).where(predictions.c.seq == 100))
    parts.store.close()
    at, ticket = row["created_at"], row["reference"] or "ticket-50"
    filters: list[dict[str, str]] = [
        {}, {"sort": "oldest"}, {"sort": "least_sure"}, {"sort": "most_sure"},
        {"label": "billing"}, {"label": "outage"}, {"label": "nothing"}, {"decision": "auto"}, {"decision": "review"},
        {"option": "model"}, {"option": "baseline"}, {"source": "form"}, {"audit": "true"}, {"audit": "false"},
        {"reference": ticket}, {"release": "1"}, {"release": "triage/1"}, {"release": row["release_digest"]},
        {"verdict": "agree"}, {"verdict": "corrected"}, {"verdict": "unsure"}, {"verdict": "none"},
        {"since": at}, {"until": at}, {"since": early, "until": at}, {"q": "invoice"}, {"q": "refund march"},
        {"q": "i"}, {"q": "a t"}, {"q": "ticket-9"}, {"q": "nothinglikethis"}, {"q": "%"}, {"q": "🙂"},
        {"label": "outage", "decision": "auto"}, {"label": "nothing", "decision": "auto"},
        {"label": "nothing", "sort": "least_sure"}, {"label": "nothing", "since": early},
        {"decision": "review", "verdict": "none"}, {"decision": "review", "verdict": "none", "sort": "least_sure"},
        {"verdict": "corrected", "label": "billing"}, {"release": "1", "decision": "review"},
        {"q": "invoice", "label": "outage"}, {"q": "invoice", "since": at}, {"q": "i", "sort": "least_sure"},
        {"q": "invoice", "verdict": "corrected"}, {"since": at, "sort": "most_sure"}, {"since": at, "label": "outage"},
        {"source": "form", "option": "baseline", "audit": "false", "decision": "auto"},
    ]  # fmt: skip
    pages = ["/", "/?sample=1", f"/?prediction={row['id']}", f"/history/{row['id']}", f"/what-if/{row['id']}",
             "/upload", "/queue", "/queue.json", "/monitor", "/api/v1/monitor", "/contract", "/releases",
             "/evidence"]  # fmt: skip
    return [*pages, *(f"/history?{urlencode(one)}".rstrip("?") for one in filters)]


def measure(service: Service, paths: list[str]) -> list[tuple[str, float, float]]:
    """Return (path, 50th, 95th percentile of the server's milliseconds) for each path."""
    token = service.command("token", "create", "speed", "--role", "admin").stdout.strip()
    headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}
    service.call("POST", "/queue/next", headers=headers)  # a record of the queue is open
    service.call("GET", "/history?q=first", headers=headers)  # the first search takes in what there is
    found = []
    for path in paths:
        taken = []
        for _ in range(TIMES):
            status, _, answered = service.call("GET", path, headers=headers)
            if status != 200:
                raise SystemExit(f"{path}: status {status}")
            taken.append(float(re.findall(r"total;dur=([0-9.]+)", answered["Server-Timing"])[0]))
        found.append((path, statistics.median(taken), sorted(taken)[int(TIMES * 0.95)]))
    return found


def cost_of_indexes(instance: Path) -> tuple[float, float]:
    """Return the milliseconds of recording one prediction, with the indexes and without those of History."""
    parts = make_parts(load_settings({"instance": instance}, {}))
    requests = [one.record for one in generate(2000, 99)]
    rng, made = random.Random(7), parts.registry.adapter().predict(requests, Call(dry_run=True), compare=True)
    made = [moved(one, number, utcnow(), rng) for number, one in enumerate(made)]
    parts.store.close()
    taken: list[list[float]] = [[], []]
    with tempfile.TemporaryDirectory(dir=instance.parent) as folder:
        stores = []
        for kind in ("with", "without"):
            path = Path(folder) / f"{kind}.sqlite3"
            shutil.copy(instance / "reviewapp.sqlite3", path)
            stores.append(Store(f"sqlite:///{path}"))
        with stores[1].writing() as connection:
            for index in predictions.indexes:
                connection.exec_driver_sql(f"DROP INDEX {index.name}")
        ledgers = [Ledger(store) for store in stores]
        for number, one in enumerate(made):
            for which in (0, 1) if number % 2 else (1, 0):  # taking turns, so that both see the same machine
                started = time.perf_counter()
                ledgers[which].add_predictions([one], Call())
                taken[which].append((time.perf_counter() - started) * 1000)
        for store in stores:
            store.close()
    return statistics.median(taken[0]), statistics.median(taken[1])


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        instance = Path(folder) / "instance"
        with Service(instance):
            pass  # builds the release
        parts = make_parts(load_settings({"instance": instance}, {}))
        fill(parts, rows)
        parts.store.close()
        with Service(instance) as service:
            for path, middle, slow in measure(service, asked(instance)):
                print(f"{middle:8.1f} {slow:8.1f} {'' if slow < LIMIT else 'TOO SLOW '}{path}", flush=True)
        given, without = cost_of_indexes(instance)
        print(f"one recorded prediction: {given:.2f} ms, without the indexes of History {without:.2f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
