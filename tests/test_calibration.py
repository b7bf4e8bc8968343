"""Calibration makes what an estimator says true, from any kind of estimator, also where a label is missing."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_classification
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.svm import SVC

from reviewapp.calibration import CalibratedClassifier, IntervalRegressor, margin


def rows(n: int, labels: int = 2, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    x, y = make_classification(n, 8, n_informative=5, n_classes=labels, flip_y=0.2, random_state=seed)
    return pd.DataFrame(x, columns=list("abcdefgh")), np.array([f"L{i}" for i in y])


def calibrated(estimator: object, x: pd.DataFrame, y: np.ndarray) -> CalibratedClassifier:
    names = [str(one) for one in estimator.classes_]
    return CalibratedClassifier(estimator, names, names).fit(x, y)


class Overconfident(LogisticRegression):
    def predict_proba(self, x: pd.DataFrame) -> np.ndarray:
        sharp = super().predict_proba(x) ** 6
        return sharp / sharp.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("labels", [2, 3])
def test_one_that_says_too_much_says_what_is_so_afterwards(labels: int) -> None:
    x, y = rows(4000, labels)
    estimator = Overconfident(max_iter=1000).fit(x[:1500], y[:1500])
    after = calibrated(estimator, x[1500:2500], y[1500:2500])

    def gap(shares: np.ndarray) -> float:
        right = estimator.classes_[shares.argmax(axis=1)] == y[2500:]
        return abs(float(shares.max(axis=1).mean() - right.mean()))

    assert gap(estimator.predict_proba(x[2500:])) > 0.1
    assert gap(after.predict_proba(x[2500:])) < 0.05
    assert after.temperature_ > 3


@pytest.mark.parametrize("estimator", [SVC(), RidgeClassifier()], ids=["decision values", "signed distances"])
@pytest.mark.parametrize("labels", [2, 4])
def test_decision_values_become_probabilities(estimator: object, labels: int) -> None:
    x, y = rows(900, labels)
    fitted = estimator.fit(x[:500], y[:500])
    shares = calibrated(fitted, x[500:], y[500:]).predict_proba(x)
    assert shares.shape == (900, labels)
    assert np.allclose(shares.sum(axis=1), 1)
    assert (shares.argmax(axis=1) == [list(fitted.classes_).index(one) for one in fitted.predict(x)]).mean() > 0.9


class SaysALabel:
    classes_ = np.array(["a", "b"])

    def predict(self, x: pd.DataFrame) -> list[str]:
        return ["a" if value > 0 else "b" for value in x["v"]]


def test_one_that_only_says_a_label_is_as_sure_as_it_was_right() -> None:
    x = pd.DataFrame({"v": [1.0] * 80 + [-1.0] * 20})
    y = ["a"] * 60 + ["b"] * 20 + ["b"] * 20
    shares = calibrated(SaysALabel(), x, np.array(y)).predict_proba(pd.DataFrame({"v": [1.0, -1.0]}))
    assert shares[0, 0] == pytest.approx(0.75, abs=0.01)
    assert 0.9 < shares[1, 1] < 1


def test_a_label_that_the_calibration_rows_lack_is_no_error() -> None:
    x, y = rows(900, 3)
    estimator = LogisticRegression(max_iter=1000).fit(x[:500], y[:500])
    kept = y[500:] != "L2"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = calibrated(estimator, x[500:][kept], y[500:][kept])
    assert list(after.classes_) == ["L0", "L1", "L2"]
    assert (after.predict_proba(x)[:, 2] > 0).all()


def test_rows_without_a_mistake_prove_no_certainty() -> None:
    x = pd.DataFrame({"v": np.linspace(-1, 1, 60)})
    y = np.where(x["v"] > 0, "a", "b")
    shares = calibrated(LogisticRegression().fit(x, y), x, y).predict_proba(x)
    assert 0.99 < shares.max() < 0.99999
    assert 0.85 < shares.max(axis=1).mean() < 61 / 62


def test_the_same_row_gets_the_same_answer_alone_and_among_others() -> None:
    x, y = rows(600, 3)
    after = calibrated(LogisticRegression(max_iter=1000).fit(x, y), x, y)
    together = after.predict_proba(x)
    assert np.allclose([after.predict_proba(x[i : i + 1])[0] for i in range(50)], together[:50], rtol=0, atol=1e-12)


# ---- intervals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_intervals_hold_the_truth_as_often_as_stated(coverage: float) -> None:
    rng = np.random.default_rng(1)
    x = pd.DataFrame({"v": rng.uniform(0, 10, 12_000)})
    y = 3 * x["v"] + x["v"] * rng.normal(size=12_000)
    model = IntervalRegressor(LinearRegression().fit(x[:2000], y[:2000]), coverage).fit(x[2000:6000], y[2000:6000])
    value, low, high = model.predict_interval(x[6000:]).T
    truth = y[6000:].to_numpy()
    inside = (low <= truth) & (truth <= high)
    assert abs(inside.mean() - coverage) < 0.03
    small, large = value < 6, value > 24  # where errors are small, and where they are large
    assert (high - low)[large].mean() > 3 * (high - low)[small].mean()
    assert abs(inside[small].mean() - coverage) < 0.1
    assert abs(inside[large].mean() - coverage) < 0.1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.floats(0.5, 0.99))
@settings(max_examples=60)
def test_a_margin_covers_at_least_the_stated_share_of_what_it_was_learned_from(errors: list, coverage: float) -> None:
    found = margin(np.array(errors), coverage)
    assert sum(error <= found for error in errors) >= coverage * len(errors) - 1e-9
    assert found in errors


def test_few_rows_make_one_width_and_none_makes_none() -> None:
    x, y = pd.DataFrame({"v": [0.0, 1.0, 2.0]}), [0.0, 1.0, 5.0]
    model = IntervalRegressor(LinearRegression().fit(x[:2], y[:2])).fit(x, y)
    assert len(model.margins_) == 1
    assert model.predict_interval(x)[:, 2].tolist() == pytest.approx([3, 4, 5])
    assert margin(np.array([]), 0.9) == 0
