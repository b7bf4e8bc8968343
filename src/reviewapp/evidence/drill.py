"""Trial: the roll-back drill, under load: break, detect, fall back, recover; and whether anybody noticed.

Scripts send requests all the while. Reviewers find every answer wrong that is drawn for a check, as they would where
the world has changed. From the acknowledged verdict that fires on, each request that is sent must be answered by the
baseline; from the acknowledged promotion on by the model again. A request that is answered otherwise is stale.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .latency import Sender
from .outcomes import PREDICT
from .running import TEST, Trial
from .tables import FREE, TIMING, Column, Row, Table, key

SENDERS = 4
SECONDS = 120.0  # a bound: so long may it take until enough answers were drawn and judged
REST = 0.3  # seconds of load before and after, so that there is something to compare
PAGE = 200
REASON = "drill: what made the answers wrong is mended"


@dataclass(frozen=True)
class _Sent:
    """One request of the load: when it was sent, whether it was answered, and by which option."""

    at: float
    fine: bool
    option: str


class _Load:
    """Scripts that ask again as soon as they are answered, until told to stop."""

    def __init__(self, trial: Trial) -> None:
        bodies = [json.dumps({"input": dict(one.record)}).encode() for one in trial.examples[TEST]]
        self._sent: list[list[_Sent]] = [[] for _ in range(SENDERS)]
        self._over = threading.Event()
        senders = [Sender(trial, PREDICT, bodies, 97 * number) for number in range(SENDERS)]
        self._threads = [
            threading.Thread(target=self._ask, args=(sender, sent))
            for sender, sent in zip(senders, self._sent, strict=True)
        ]

    def __enter__(self) -> _Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, sender: Sender, sent: list[_Sent]) -> None:
        while not self._over.is_set():
            at = time.perf_counter()
            fine, _ = sender.send()
            sent.append(_Sent(at, fine, "baseline" if b'"option":"baseline"' in sender.answer else "model"))
        sender.close()

    def between(self, start: float, end: float) -> list[_Sent]:
        return [one for sent in self._sent for one in sent if start <= one.at < end]


def drill(trial: Trial, fallen_back: Callable[[], None] = lambda: None) -> list[Table]:
    """Return what each step of the drill took, and what became of the requests meanwhile.

    `fallen_back` is called while the baseline answers.
    """
    with _Load(trial) as load:
        begun = time.perf_counter()
        time.sleep(REST)  # load as it always is
        broken = time.perf_counter()
        verdicts, firing, fired = _judge_all_wrong(trial, broken + SECONDS)
        time.sleep(REST)
        fallen_back()
        asked = time.perf_counter()
        version = _call(trial, "GET", "/releases/active")["version"]
        _call(trial, "POST", f"/releases/{version}/promote", {"reason": REASON})
        recovered = time.perf_counter()
        time.sleep(REST)
        ended = time.perf_counter()
    rows = [
        _row("before", 0.0, load.between(begun, broken), "model"),
        _row("break to detect", firing - broken, load.between(broken, firing), "model", verdicts - 1),
        _row("the verdict that fires", fired - firing, load.between(firing, fired), None, 1),
        _row("fallen back", 0.0, load.between(fired, asked), "baseline"),
        _row("promotion", recovered - asked, load.between(asked, recovered), None),
        _row("recovered", 0.0, load.between(recovered, ended), "model"),
    ]
    reading = (
        f"{SENDERS} scripts ask all the while. Every answer that is drawn is found wrong; from the verdict that fires "
        "on the baseline answers, after a promotion with a reason the model again. Stale: answered by another option "
        "than the one that had been acknowledged when the request was sent."
    )
    columns = [
        key("step", "Step"),
        Column("seconds", "Seconds", ".3f", TIMING),
        Column("verdicts", "Verdicts", "d", FREE),
        Column("requests", "Requests meanwhile", "d", FREE),
        Column("failed", "Failed", "d"),
        Column("stale", "Stale", "d"),
    ]
    return [Table("drill", "The roll-back drill", reading, columns, rows)]


def _row(step: str, seconds: float, sent: Sequence[_Sent], option: str | None, verdicts: int | None = None) -> Row:
    stale = 0 if option is None else sum(one.fine and one.option != option for one in sent)
    return {
        "step": step,
        "seconds": seconds,
        "verdicts": verdicts,
        "requests": len(sent),
        "failed": sum(not one.fine for one in sent),
        "stale": stale,
    }


def _judge_all_wrong(trial: Trial, until: float) -> tuple[int, float, float]:
    """Find each drawn answer wrong until the baseline answers; return how many, and when the last was sent and kept."""
    given = 0
    while time.perf_counter() < until:
        for one in _call(trial, "GET", f"/predictions?audit=true&verdict=none&option=model&limit={PAGE}")[
            "predictions"
        ]:
            start = time.perf_counter()
            _call(trial, "PUT", f"/predictions/{one['id']}/verdict", {"verdict": "disagree"})
            kept = time.perf_counter()
            given += 1
            if _call(trial, "GET", "/releases/active")["answers_with"] == "baseline":
                return given, start, kept
    raise TimeoutError(f"{given} verdicts in {SECONDS:g} s, and the trigger has not fired.")


def _call(trial: Trial, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    status, document, _ = trial.service.call(method, f"/api/v1{path}", body, dict(trial.headers["admin"]))
    if status != 200:
        raise RuntimeError(f"{method} {path} was answered with {status}.")
    return document
