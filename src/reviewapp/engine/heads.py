"""Fitted models as plain functions: linear ones as a sum of terms, trees as flat arrays, calibrations on top of them.

Any other estimator behind a compiled encoder is called itself, with an array in place of a DataFrame. Nothing here is
trusted for being written: parity.py compares the answers with those of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDClassifier,
)
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ..calibration import CalibratedClassifier, IntervalRegressor, scores_of_decisions, scores_of_shares, softmax
from .encoding import step_of
from .forms import Dense, Form, NotCompiled, Sums, matrix, nameless
from .trees import bagged, boosted

Head = Callable[[Form], Dense]
FEW_ROWS = 64  # from so many on, scikit-learn's own loop over the trees is faster than ours


def head_of(fitted: Any) -> Head:
    """Return a fitted estimator as a function: probabilities (rows, labels), or values (rows,), or with their interval.

    Raises NotCompiled where a part of it is not known.
    """
    make = HEADS.get(type(fitted))
    if make is not None:
        return make(fitted)
    if type(fitted).__module__.startswith("sklearn."):
        return _by_itself(fitted)
    raise NotCompiled(f"{type(fitted).__name__} is not known to the compiled engine")


def is_of_trees(fitted: Any) -> bool:
    """Whether the compiled form is faster for few rows only."""
    inner = getattr(fitted, "estimator", None)
    if isinstance(fitted, Pipeline):
        return is_of_trees(fitted[-1])
    return type(fitted) in _TREES or (inner is not None and is_of_trees(inner))


def _pipeline(fitted: Pipeline) -> Head:
    return _behind_steps(fitted, head_of(fitted[-1]))


def _behind_steps(fitted: Pipeline, head: Head) -> Head:
    """Return a head behind the steps of a pipeline but its last."""
    steps = [step_of(step) for _, step in fitted.steps[:-1]]

    def run(form: Form) -> Dense:
        for step in steps:
            form = step(form)
        return head(form)

    return run


def _by_itself(fitted: Any) -> Head:
    bare = nameless(fitted)
    ask = bare.predict_proba if hasattr(bare, "predict_proba") else bare.predict
    return lambda form: np.asarray(ask(matrix(form)), dtype=np.float64)


# ---- linear -----------------------------------------------------------------------------------------------------


def _logistic(fitted: LogisticRegression) -> Head:
    scores = Sums(fitted.coef_.T, fitted.intercept_).of
    if len(fitted.classes_) > 2:
        return lambda form: softmax(scores(form))

    def run(form: Form) -> Dense:
        second = expit(scores(form)[:, 0])
        return np.column_stack([1 - second, second])

    return run


def _naive_bayes(fitted: MultinomialNB) -> Head:
    scores = Sums(fitted.feature_log_prob_.T, fitted.class_log_prior_).of
    return lambda form: softmax(scores(form))


def _regression(fitted: Any) -> Head:
    scores = Sums(np.atleast_2d(fitted.coef_).T, np.atleast_1d(fitted.intercept_)).of
    return lambda form: scores(form).reshape(-1)


# ---- trees ------------------------------------------------------------------------------------------------------


def _boosting(fitted: Any) -> Head:
    raw, loss = boosted(fitted), fitted._loss
    if isinstance(fitted, HistGradientBoostingClassifier):
        return lambda form: np.asarray(loss.predict_proba(raw(form)))
    return lambda form: np.asarray(loss.link.inverse(raw(form).ravel()))


def _forest_of_values(fitted: Any) -> Head:
    values = bagged(fitted)
    return lambda form: values(form).reshape(-1)


# ---- calibrations -----------------------------------------------------------------------------------------------


def _calibrated(fitted: CalibratedClassifier) -> Head:
    if fitted.shares_when_answered_ is not None:
        raise NotCompiled("an estimator of which only the label is known is not known to the compiled engine")
    if hasattr(fitted.estimator, "predict_proba"):
        shares = head_of(fitted.estimator)
        return lambda form: fitted.calibrated(scores_of_shares(shares(form)))
    decisions = decisions_of(fitted.estimator)
    return lambda form: fitted.calibrated(scores_of_decisions(decisions(form)))


def _intervals(fitted: IntervalRegressor) -> Head:
    values = head_of(fitted.estimator)
    return lambda form: fitted.intervals(values(form))


def _cross_calibrated(fitted: CalibratedClassifierCV) -> Head:
    """The mean over folds; each calibrates what an estimator of its own says."""
    parts = [_fold(one) for one in fitted.calibrated_classifiers_]

    def run(form: Form) -> Dense:
        total: Any = 0.0
        for part in parts:
            total = total + part(form)
        return np.asarray(total / len(parts))

    return run


def _fold(one: Any) -> Head:
    """One fold: its calibrators, one a label, or a temperature, are called themselves."""
    decides = hasattr(one.estimator, "decision_function")
    said = decisions_of(one.estimator) if decides else head_of(one.estimator)
    size, calibrators = len(one.classes), one.calibrators
    places = np.searchsorted(one.classes, one.estimator.classes_)

    def run(form: Form) -> Dense:
        scores = said(form)
        if one.method == "temperature":
            return np.asarray(calibrators[0].predict(scores))
        if size == 2:
            second = calibrators[0].predict(scores if decides else scores[:, 1])
            return np.column_stack([1 - second, second])
        shares = np.zeros((len(scores), size))
        for place, column, calibrator in zip(places, scores.T, calibrators, strict=True):
            shares[:, place] = calibrator.predict(column)
        sums = shares.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(shares, sums, out=np.full_like(shares, 1 / size), where=sums != 0))

    return run


def decisions_of(fitted: Any) -> Head:
    """Return the decision function of a fitted classifier: shape (rows,) for two labels, else (rows, labels)."""
    if isinstance(fitted, Pipeline):
        return _behind_steps(fitted, decisions_of(fitted[-1]))
    if type(fitted) in DECISIONS:
        scores = Sums(fitted.coef_.T, fitted.intercept_).of
        return lambda form: _one_column(scores(form))
    if type(fitted) in _BOOSTED:
        raw = boosted(fitted)
        return lambda form: _one_column(raw(form))
    if not type(fitted).__module__.startswith("sklearn."):
        raise NotCompiled(f"{type(fitted).__name__} is not known to the compiled engine")
    bare = nameless(fitted)
    return lambda form: np.asarray(bare.decision_function(matrix(form)), dtype=np.float64)


def _one_column(scores: Dense) -> Dense:
    return scores[:, 0] if scores.shape[1] == 1 else scores


DECISIONS = {LogisticRegression, LinearSVC, RidgeClassifier, SGDClassifier}
_LINEAR = (LinearRegression, Ridge, RidgeCV, Lasso, ElasticNet)
_BAGS = (RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier)
_BAGS_OF_VALUES = (RandomForestRegressor, ExtraTreesRegressor, DecisionTreeRegressor)
_BOOSTED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_TREES = {*_BAGS, *_BAGS_OF_VALUES, *_BOOSTED}

HEADS: dict[type, Callable[[Any], Head]] = {
    Pipeline: _pipeline,
    LogisticRegression: _logistic,
    MultinomialNB: _naive_bayes,
    **dict.fromkeys(_LINEAR, _regression),
    **dict.fromkeys(_BAGS, bagged),
    **dict.fromkeys(_BAGS_OF_VALUES, _forest_of_values),
    **dict.fromkeys(_BOOSTED, _boosting),
    CalibratedClassifier: _calibrated,
    IntervalRegressor: _intervals,
    CalibratedClassifierCV: _cross_calibrated,
}  # beside these: every other estimator of scikit-learn, called itself with an array
