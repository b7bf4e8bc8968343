"""An estimator's answers with what can be relied on: calibrated probabilities, or a value with an interval.

Both wrap an estimator that is fitted already and learn from rows that it did not see. They are scikit-learn estimators
themselves, so a release's `model.skops` answers alone, in any process, as the service does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

Floats = NDArray[np.float64]
SMALLEST_SHARE = 1e-15  # a probability of 0 has no logarithm
TIES = 0.99  # the share of rows in which the highest score is the label that is said
BIN_ROWS = 40  # calibration rows behind each width of an interval, at least
MOST_BINS = 10


class CalibratedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Probabilities from a fitted classifier of any form: softmax(scores / temperature + bias).

    `labels` are the contract's names of the estimator's classes, in the order of `classes_`, and `classes` the texts of
    those classes. Scores of shape (rows, labels) are log-probabilities, else decision values, else, for one that has
    `predict` alone, how often each label was right where it answered so. One temperature (Guo et al. 2017), and for
    two labels a bias, which together is Platt scaling (Platt 1999). A label that the calibration rows lack needs no
    special case.
    """

    def __init__(self, estimator: Any, labels: Sequence[str], classes: Sequence[str]) -> None:
        self.estimator = estimator
        self.labels = labels
        self.classes = classes

    def fit(self, frame: pd.DataFrame, labels: Sequence[str]) -> Self:
        """Learn temperature and bias from labelled rows that the estimator was not fitted on."""
        number = {label: i for i, label in enumerate(self.labels)}
        actual = np.array([number[label] for label in labels], dtype=np.int64)
        size = len(self.labels)
        self.shares_when_answered_: Floats | None = None
        self.temperature_, self.bias_ = 1.0, np.zeros(size)
        scores = self._scores_of_its_own(frame)
        if scores is None or not self._are_of_labels(scores, frame):
            counts = np.eye(size) + 1 / size  # one row that was right, one spread evenly
            np.add.at(counts, (self._answered(frame), actual), 1.0)
            self.shares_when_answered_ = counts / counts.sum(axis=1, keepdims=True)
            return self
        two = size == 2
        # Rows without a mistake prove no certainty: n of them leave one in n + 2 to be wrong (Platt's targets).
        wrong = 1 / (len(actual) + 2)
        targets = np.full(scores.shape, wrong / (size - 1))
        targets[np.arange(len(actual)), actual] = 1 - wrong

        def loss(parameters: Floats) -> float:
            bias = np.array([0.0, parameters[1]]) if two else 0.0
            return -float((targets * log_softmax(scores / np.exp(parameters[0]) + bias, axis=1)).sum())

        found = minimize(loss, np.zeros(2 if two else 1), method="L-BFGS-B", bounds=[(-5, 5), (-20, 20)][: 1 + two])
        self.temperature_ = float(np.exp(found.x[0]))
        if two:
            self.bias_ = np.array([0.0, found.x[1]])
        return self

    @property
    def classes_(self) -> NDArray[np.object_]:
        return np.asarray(self.labels, dtype=object)

    def predict_proba(self, frame: pd.DataFrame) -> Floats:
        """Return probabilities of shape (rows, labels), in the order of `classes_`."""
        if self.shares_when_answered_ is not None:
            return np.asarray(self.shares_when_answered_[self._answered(frame)])
        return self.calibrated(np.asarray(self._scores_of_its_own(frame)))

    def calibrated(self, scores: Floats) -> Floats:
        """Return the probabilities that scores of shape (rows, labels) stand for."""
        return softmax(scores / self.temperature_ + self.bias_)

    def predict(self, frame: pd.DataFrame) -> NDArray[np.object_]:
        return np.asarray(self.classes_[self.predict_proba(frame).argmax(axis=1)])

    def _scores_of_its_own(self, frame: pd.DataFrame) -> Floats | None:
        if hasattr(self.estimator, "predict_proba"):
            return scores_of_shares(np.asarray(self.estimator.predict_proba(frame), dtype=np.float64))
        if hasattr(self.estimator, "decision_function"):
            return scores_of_decisions(np.asarray(self.estimator.decision_function(frame), dtype=np.float64))
        return None

    def _are_of_labels(self, scores: Floats, frame: pd.DataFrame) -> bool:
        """Whether there is one score a label, and the highest is what `predict` says: those of pairs are not so."""
        if scores.shape[1] != len(self.labels):
            return False
        if hasattr(self.estimator, "predict_proba"):  # a threshold of its own may say otherwise
            return True
        return bool((scores.argmax(axis=1) == self._answered(frame)).mean() > TIES)

    def _answered(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        place = {text: i for i, text in enumerate(self.classes)}
        said = np.ravel(self.estimator.predict(frame))
        return np.array([place[str(label)] for label in said], dtype=np.int64)


def softmax(scores: Floats) -> Floats:
    """Return probabilities from scores, both of shape (rows, labels); for few rows SciPy's own takes far longer."""
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def scores_of_shares(shares: Floats) -> Floats:
    """Return the logarithms of probabilities of shape (rows, labels)."""
    return np.log(np.clip(shares, SMALLEST_SHARE, None))


def scores_of_decisions(values: Floats) -> Floats:
    """Return decision values with one column a label; those of two labels come as (rows,), for the second one."""
    return np.column_stack([-values / 2, values / 2]) if values.ndim == 1 else values


class IntervalRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A value with an interval that holds the truth with a stated probability, from any fitted regressor.

    Split conformal prediction (Vovk et al. 2005; Lei et al. 2018), by bins of the predicted value (Mondrian; Boström
    et al. 2020): wide where errors are large. In each bin the margin is the ceil((n + 1) coverage)-th smallest error.
    What lies beyond `minimum` or `maximum`, the range of the target, is brought to it.
    """

    def __init__(
        self, estimator: Any, coverage: float = 0.9, minimum: float | None = None, maximum: float | None = None
    ) -> None:
        self.estimator = estimator
        self.coverage = coverage
        self.minimum = minimum
        self.maximum = maximum

    def fit(self, frame: pd.DataFrame, values: Sequence[float]) -> Self:
        """Learn the margins from rows that the estimator was not fitted on."""
        said = self.predict(frame)
        errors = np.abs(np.asarray(values, dtype=np.float64) - said)
        least = max(BIN_ROWS, math.ceil(1 / (1 - self.coverage)))
        bins = max(1, min(MOST_BINS, len(said) // least))
        self.edges_ = np.unique(np.quantile(said, np.arange(1, bins) / bins)) if bins > 1 else np.empty(0)
        number = np.searchsorted(self.edges_, said, side="left")
        self.margins_ = np.array([margin(errors[number == i], self.coverage) for i in range(len(self.edges_) + 1)])
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        said = np.asarray(self.estimator.predict(frame), dtype=np.float64).reshape(-1)
        return self._within(said)

    def predict_interval(self, frame: pd.DataFrame) -> Floats:
        """Return value, low and high: shape (rows, 3)."""
        return self.intervals(np.asarray(self.estimator.predict(frame), dtype=np.float64))

    def intervals(self, said: Floats) -> Floats:
        """Return what the estimator said as value, low and high: shape (rows, 3)."""
        said = self._within(said.reshape(-1))
        half = self.margins_[np.searchsorted(self.edges_, said, side="left")]
        return self._within(np.column_stack([said, said - half, said + half]))

    def _within(self, figures: Floats) -> Floats:
        if self.minimum is None and self.maximum is None:
            return figures
        return np.clip(figures, self.minimum, self.maximum)


def margin(errors: Floats, coverage: float) -> float:
    """Return the error that a new one stays within with the given probability (split conformal); the largest at most.

    Fewer rows than 1 / (1 - coverage) cannot show that much: then it is the largest error seen.
    """
    rank = min(math.ceil((len(errors) + 1) * coverage), len(errors))
    return float(np.sort(errors)[rank - 1]) if len(errors) else 0.0
