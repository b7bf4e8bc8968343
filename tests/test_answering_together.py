"""Requests that meet are answered and kept together, and nobody can tell: each gets its own answer or its own error."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from reviewapp.adapter import JOINED_ROWS, ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ModelBroken, StoreBusy
from reviewapp.field import Field, Record
from reviewapp.policy import Policy
from reviewapp.prediction import Answered, Call

from .conftest import Clock
from .small import RULE, small_release
from .test_joining import LONG, until_waiting

CONTRACT = Contract(
    name="small",
    fields=(Field(name="x", kind="number"),),
    outcome=Outcome(name="o", labels=("a", "b")),
)
DRY = {"dry": True}
ALONE: list[dict[str, Any]] = [{"explain": True}, {"compare": True}, {"option": "baseline"}, DRY]


class Halves:
    """Answers x as the share of b. The first call waits for `go`; x above 1 is not answered at all, 0.125 but once."""

    classes_ = np.array(["a", "b"])

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.under_way, self.go = threading.Event(), threading.Event()

    def predict_proba(self, frame: Any) -> Any:
        self.asked.append(len(frame))
        if len(self.asked) == 1:
            self.under_way.set()
            assert self.go.wait(LONG)
        second = frame["x"].to_numpy(dtype=float)
        if (second > 1).any():
            raise ValueError("too large")
        return np.column_stack([1 - second, second])[: len(frame) - (0.125 in second)]


class Meeting:
    """Calls that meet while a first one of one row is under way."""

    def __init__(self, sink: Callable[[Sequence[Answered]], None] | None = None, **policy: Any) -> None:
        self.model, self.kept = Halves(), list[list[Answered]]()
        changes = {"policy": Policy(cost_wrong=10, cost_review=2, threshold=0.6, rollback=RULE, **policy)}
        self.adapter = ModelAdapter(small_release(CONTRACT, self.model, **changes), [sink or self._keep], Clock())

    def _keep(self, answered: Sequence[Answered]) -> None:
        self.kept.append(list(answered))

    def of(self, calls: Sequence[tuple[Sequence[Record], Call]]) -> list[Any]:
        """Return what each call gave: its predictions, or its error."""
        results: list[Any] = ["nothing"] * (1 + len(calls))

        def ask(i: int, records: Sequence[Record], call: Call) -> None:
            try:
                results[i] = self.adapter.predict(records, call)
            except Exception as error:
                results[i] = error

        threads = []
        for i, given in enumerate([([{"x": 0.0}], Call(client="first")), *calls]):
            threads.append(threading.Thread(target=ask, args=(i, *given), daemon=True))
            threads[-1].start()
            assert self.model.under_way.wait(LONG)
            until_waiting(self.adapter._joined, i)
        self.model.go.set()
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()
        return results[1:]

    def kept_calls(self) -> list[list[str]]:
        return [[call.client for _, call in answered] for answered in self.kept]


def shares(made: Any) -> list[float]:
    return [prediction.output["probabilities"]["b"] for prediction in made]


def test_calls_that_meet_are_one_question_to_the_model_and_one_to_the_sinks_and_get_their_own_answers() -> None:
    meeting, rng = Meeting(), random.Random(1)
    asked = [[{"x": rng.choice([0.25, 0.5, 0.75])} for _ in range(n)] for n in (1, 3, 2)]
    calls = [
        (rows, Call(client=f"c{n}", request_id=f"r{n}", references=[f"{n}-{i}" for i in range(len(rows))]))
        for n, rows in enumerate(asked)
    ]
    results = meeting.of(calls)
    assert meeting.model.asked == [1, 6]
    assert meeting.kept_calls() == [["first"], ["c0", "c1", "c2"]]
    assert [made for made, _ in meeting.kept[1]] == results
    for (rows, call), made in zip(calls, results, strict=True):
        assert shares(made) == [row["x"] for row in rows]
        assert [prediction.input for prediction in made] == rows
        assert [prediction.reference for prediction in made] == list(call.references)
        assert {(prediction.client, prediction.request_id) for prediction in made} == {(call.client, call.request_id)}
    assert len({prediction.id for made in results for prediction in made}) == 6


@pytest.mark.parametrize("bad", [7.0, 0.125], ids=["an error", "an answer too few"])
def test_a_request_that_the_model_fails_on_fails_alone(bad: float) -> None:
    meeting = Meeting()
    results = meeting.of([([{"x": x}], Call(client=str(x))) for x in (0.25, bad, 0.5)])
    assert [type(result) for result in results] == [list, ModelBroken, list]
    assert [shares(results[0]), shares(results[2])] == [[0.25], [0.5]]
    assert meeting.kept_calls() == [["first"], ["0.25"], ["0.5"]]


def test_a_ledger_that_is_locked_is_waited_for_once_and_all_hear_of_it() -> None:
    tries: list[int] = []

    def locked(answered: Sequence[Answered]) -> None:
        tries.append(len(answered))
        if len(tries) > 1:
            raise StoreBusy("locked", retry_after=1)

    results = Meeting(locked).of([([{"x": 0.5}], Call()) for _ in range(3)])
    assert [type(result) for result in results] == [StoreBusy] * 3
    assert tries == [1, 3]


def test_where_the_options_are_compared_for_everybody_both_are_asked_once() -> None:
    meeting = Meeting(review_disagreement=True)
    results = meeting.of([([{"x": x}], Call()) for x in (0.75, 0.25)])
    assert [made[0].reasons for made in results] == [["options_disagree"], []]
    assert meeting.model.asked == [1, 2]


@pytest.mark.parametrize("how", [{}, *ALONE], ids=["many rows", "explained", "compared", "the baseline", "a dry run"])
def test_what_takes_long_or_asks_for_more_does_not_wait_for_others_nor_they_for_it(how: dict[str, Any]) -> None:
    meeting = Meeting()
    rows = [{"x": 0.5}] * (1 if how else JOINED_ROWS + 1)
    first = threading.Thread(target=meeting.adapter.predict, args=([{"x": 0.25}], Call()), daemon=True)
    first.start()
    assert meeting.model.under_way.wait(LONG)
    dry = how == DRY
    call = Call(client="alone", dry_run=dry)
    assert len(meeting.adapter.predict(rows, call, **({} if dry else how))) == len(rows)
    assert meeting.kept_calls() == ([] if dry else [["alone"]])
    meeting.model.go.set()
    first.join(LONG)
    assert not first.is_alive()
