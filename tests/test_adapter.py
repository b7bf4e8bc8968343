"""The adapter answers with checked outputs, hands them to its sinks first, and alike for one row and for many."""

import gc
from typing import Any
from weakref import ref

import numpy as np
import pytest

from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ModelBroken, ReleaseRefused
from reviewapp.field import Field
from reviewapp.frames import to_frame
from reviewapp.policy import Policy
from reviewapp.prediction import Call, Prediction
from reviewapp.release import Golden, Release

from .conftest import Clock
from .small import RULE, small_release

CONTRACT = Contract(
    name="small",
    fields=(Field(name="n/o", kind="number", seen_minimum=0, seen_maximum=1), Field(name="t", kind="text")),
    outcome=Outcome(name="o", labels=("a", "b")),
)
RECORD = {"n/o": 0.5, "t": "x"}


class Fake:
    """An estimator that answers what a test says."""

    classes_ = np.array(["b", "a"])

    def __init__(self, *rows: list[float]) -> None:
        self.rows = rows

    def predict_proba(self, frame: Any) -> Any:
        return np.array([self.rows[i % len(self.rows)] for i in range(len(frame))])


def adapter(*rows: list[float], sinks: Any = (), **changes: Any) -> ModelAdapter:
    return ModelAdapter(small_release(CONTRACT, Fake(*rows), **changes), sinks, Clock())


def test_a_prediction_has_all_that_was_promised() -> None:
    kept: list[Prediction] = []
    answering = adapter([0.25, 0.75], sinks=[lambda answered: kept.extend(answered[0][0])])
    call = Call(source="form", client="ann", request_id="r-1", references=["A-1"])
    [made] = answering.predict([RECORD], call, compare=True)
    assert made.as_json() == {
        "id": made.id,
        "created_at": "2026-01-31T12:00:00.123Z",
        "release": {"name": "small", "version": 1, "digest": "sha256:none"},
        "option": "model",
        "reference": "A-1",
        "output": {"label": "a", "confidence": 0.75, "probabilities": {"a": 0.75, "b": 0.25}},
        "decision": "auto",
        "reasons": [],
        "warnings": [],
        "comparison": {
            "option": "baseline",
            "output": {"label": "a", "confidence": 0.75, "probabilities": {"a": 0.75, "b": 0.25}},
        },
    }
    assert (made.source, made.client, made.request_id, made.input) == ("form", "ann", "r-1", RECORD)
    assert made.id[14] == "7"
    assert kept == [made]


def test_labels_are_put_in_the_contracts_order_whatever_the_estimators_is() -> None:
    [made] = adapter([0.9, 0.1]).predict([RECORD], Call())
    assert made.output["label"] == "b"
    assert list(made.output["probabilities"]) == ["a", "b"]


def test_low_confidence_and_the_unseen_go_to_a_person() -> None:
    [made] = adapter([0.5, 0.5]).predict([{**RECORD, "n/o": 3.0}], Call())
    assert (made.decision, made.reasons) == ("review", ["low_confidence", "outside_seen"])
    assert made.warnings == [
        {"pointer": "/input/n~1o", "code": "outside_seen_range", "detail": "3.0 is above 0…1 seen in training"}
    ]


def test_disagreement_of_the_options_counts_where_the_policy_asks_for_it() -> None:
    policy = Policy(cost_wrong=1, cost_review=1, threshold=0, review_disagreement=True, rollback=RULE)
    [made] = adapter([0.9, 0.1], policy=policy).predict([RECORD], Call())
    assert made.reasons == ["options_disagree"]
    assert made.comparison is None


def test_the_baseline_can_answer_with_the_model_beside_it() -> None:
    [made] = adapter([0.9, 0.1]).predict([RECORD], Call(), option="baseline", compare=True, explain=True)
    assert (made.option, made.output["label"]) == ("baseline", "a")
    assert made.comparison is not None
    assert (made.comparison["option"], made.comparison["output"]["label"]) == ("model", "b")
    assert made.explanation is not None
    assert made.explanation["method"] == "blanking"


def test_a_dry_run_reaches_no_sink() -> None:
    kept: list[Any] = []
    adapter([0.5, 0.5], sinks=[kept.append]).predict([RECORD], Call(dry_run=True))
    assert kept == []


def test_an_answer_that_no_sink_kept_is_not_given() -> None:
    def failing(answered: Any) -> None:
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        adapter([0.5, 0.5], sinks=[failing]).predict([RECORD], Call())


def test_an_adapter_that_nobody_uses_any_more_is_gone_at_once() -> None:
    used = adapter([0.25, 0.75])
    used.predict([RECORD], Call())
    there = ref(used)
    gc.disable()
    try:
        del used
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "row", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0], [float("inf"), 0.0], [0.2, 0.3, 0.5], [0.5]]
)
def test_an_output_that_breaks_the_contract_is_never_answered(row: list[float]) -> None:
    with pytest.raises(ModelBroken):
        adapter(row).predict([RECORD], Call())


@pytest.mark.parametrize("said", [0.5, [0.5, 0.5], [], [[0.5, 0.5]] * 2])
def test_what_is_not_one_answer_to_each_request_is_never_given(said: Any) -> None:
    fake = Fake()
    fake.predict_proba = lambda frame: said
    with pytest.raises(ModelBroken):
        ModelAdapter(small_release(CONTRACT, fake)).predict([RECORD], Call())


def test_labels_that_the_contract_does_not_name_are_never_answered() -> None:
    fake = Fake([0.5, 0.5])
    fake.classes_ = np.array(["a", "c"])
    with pytest.raises(ModelBroken, match="other labels"):
        ModelAdapter(small_release(CONTRACT, fake)).predict([RECORD], Call())


def test_an_estimator_that_raises_is_an_error_of_ours_without_its_words() -> None:
    class Raising(Fake):
        def predict_proba(self, frame: Any) -> Any:
            raise ZeroDivisionError("secret value 42")

    with pytest.raises(ModelBroken) as broken:
        ModelAdapter(small_release(CONTRACT, Raising())).predict([RECORD], Call())
    assert "secret" not in broken.value.detail


VALUE = Contract(name="r", fields=CONTRACT.fields, outcome=Outcome(name="o", task="regression", minimum=0, maximum=9))


class FakeValues:
    def __init__(self, *intervals: list[float]) -> None:
        self.intervals = np.array(intervals)

    def predict_interval(self, frame: Any) -> Any:
        return self.intervals


def values(*intervals: list[float], **changes: Any) -> ModelAdapter:
    fake = FakeValues(*intervals)
    return ModelAdapter(small_release(VALUE, fake, baseline=fake, **changes))


def test_a_value_comes_with_its_interval_and_goes_to_a_person_where_that_is_too_wide() -> None:
    policy = Policy(cost_wrong=10, cost_review=2, coverage=0.9, widest_interval=2.0, rollback=RULE)
    narrow, wide = values([3, 2, 4], [3, 1, 4], policy=policy).predict([RECORD, RECORD], Call(dry_run=True))
    assert narrow.output == {"value": 3.0, "low": 2.0, "high": 4.0}
    assert (narrow.decision, narrow.reasons) == ("auto", [])
    assert (wide.decision, wide.reasons) == ("review", ["wide_interval"])


@pytest.mark.parametrize(
    "interval",
    [[float("nan"), 0, 1], [1, float("-inf"), 2], [3, 4, 5], [3, 1, 2], [10, 9, 11], [-1, -2, 0], [1, 2]],
    ids=["no number", "infinite", "below its interval", "above it", "above the range", "below it", "another shape"],
)
def test_a_value_that_breaks_the_outcome_is_an_error_of_ours(interval: list[float]) -> None:
    with pytest.raises(ModelBroken):
        values(interval).predict([RECORD], Call(dry_run=True))


def test_a_golden_value_may_move_by_its_last_digits_only() -> None:
    answer = {"value": 3.0, "low": 2.0, "high": 4.0}
    golden = (Golden(RECORD, {"model": answer, "baseline": answer}),)
    values([3 + 1e-7, 2, 4], golden=golden).check_golden()
    with pytest.raises(ReleaseRefused, match="Golden request 1, model: the value is"):
        values([3 + 1e-5, 2, 4], golden=golden).check_golden()


@pytest.mark.parametrize("answer", [{}, None, {"label": "a"}, {"label": "a", "probabilities": {"a": "x"}}])
def test_a_golden_answer_of_another_shape_is_refused(answer: Any) -> None:
    golden = (Golden(RECORD, {"model": answer, "baseline": answer}),)
    with pytest.raises(ReleaseRefused, match="Golden request 1"):
        adapter([0.25, 0.75], golden=golden).check_golden()


def test_a_golden_request_that_the_model_cannot_answer_is_refused() -> None:
    with pytest.raises(ReleaseRefused, match="no probabilities"):
        adapter([0.25, 0.25], golden=(Golden(RECORD, {}),)).check_golden()


def test_http_and_sql_stay_outside_the_adapter() -> None:
    """The domain below the blueprints imports no web framework, the adapter no SQL."""
    import subprocess
    import sys

    program = """if True:
        import sys
        import reviewapp.adapter, reviewapp.triage.build
        print("flask" in sys.modules, "sqlalchemy" in sys.modules)
        import reviewapp.registry, reviewapp.ledger, reviewapp.accounts
        print("flask" in sys.modules)"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False", "False"]


def test_one_row_and_many_give_the_pipelines_own_answer(release: Release, records: list[dict[str, Any]]) -> None:
    answering = ModelAdapter(release)
    expected = release.model.predict_proba(to_frame(release.contract, records))
    order = [list(release.model.classes_).index(label) for label in release.contract.outcome.labels]
    together = answering.predict(records, Call())
    for i, record in enumerate(records):
        [alone] = answering.predict([record], Call())
        for made in (alone, together[i]):
            shares = list(made.output["probabilities"].values())
            assert np.allclose(shares, expected[i][order], rtol=0, atol=1e-9)


def test_null_and_absent_give_the_answer_of_the_missing_value_in_training(release: Release) -> None:
    import pandas as pd

    record = dict(release.golden[0].input)
    frame = pd.DataFrame([{**record, "customer_tier": float("nan")}]).astype({"customer_tier": object})
    expected = max(release.model.predict_proba(frame)[0])
    answering = ModelAdapter(release)
    record.pop("customer_tier")
    for given in (record, {**record, "customer_tier": None}):
        for rows in ([given], [{**record, "customer_tier": "pro"}, given]):
            made = answering.predict(rows, Call())[-1]
            assert made.output["confidence"] == pytest.approx(expected, abs=1e-12)
