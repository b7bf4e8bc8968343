"""The pipelines that are tried where none is given: one linear, one of boosted trees, made for the contract's kinds.

Both impute inside, so that null at serving time is what a missing cell was in training. Which of them is taken is
decided by cross-validation on the training part, by a proper score: log loss, or the mean absolute error of a value.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from ..contract import Contract
from ..errors import UsageError
from ..field import Field
from ..transformers import DayParts, Topics, Words

MANY_CLASSES = 20  # above, boosted trees take minutes: one tree a class and round
EARLY_STOPPING_ROWS = 50  # for each label
LEVELS = 250  # different values of a category that a boosted tree tells apart (it has 255 bins)
TOPICS = 60  # numbers that boosted trees see of a text
MOST_WORDS = 30_000  # words and pairs of words of a text that are told apart
FOLDS = 5
LINEAR, BOOSTING = "linear", "boosted trees"


def candidates(contract: Contract, rows: int, seed: int) -> dict[str, Pipeline]:
    """Return unfitted pipelines by name; only the linear one where there are many classes. `rows` are learned from."""
    labels = len(contract.outcome.labels)
    found = {LINEAR: _linear(contract)}
    if labels <= MANY_CLASSES:
        found[BOOSTING] = _boosting(contract, rows, seed)
    return found


def _linear(contract: Contract) -> Pipeline:
    levels = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2)
    steps = [
        ("numbers", _filled(), _named(contract, "number", "integer")),
        ("flags", SimpleImputer(strategy="most_frequent"), _named(contract, "boolean", nullable=True)),
        ("whole_flags", "passthrough", _named(contract, "boolean", nullable=False)),
        ("categories", levels, _named(contract, "category")),
        *[(f"text{i}", Words(MOST_WORDS), one.name) for i, one in _fields(contract, "text")],
        *[(f"date{i}", Pipeline([("days", DayParts(one.date_format)), *_filled().steps]), one.name)
          for i, one in _fields(contract, "date")],
    ]  # fmt: skip
    if contract.outcome.task == "classification":
        head = LogisticRegression(C=10.0 if _fields(contract, "text") else 1.0, max_iter=2000)
    else:
        head = RidgeCV(alphas=np.logspace(-3, 3, 13))
    return Pipeline([("features", ColumnTransformer([step for step in steps if step[2] != []])), ("model", head)])


def _boosting(contract: Contract, rows: int, seed: int) -> Pipeline:
    levels = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=LEVELS
    )
    categories = _named(contract, "category")
    steps = [
        ("categories", levels, categories),
        ("numbers", "passthrough", _named(contract, "number", "integer", "boolean")),
        *[(f"text{i}", Pipeline([("words", Words(MOST_WORDS)), ("topics", Topics(TOPICS, seed))]), one.name)
          for i, one in _fields(contract, "text")],
        *[(f"date{i}", DayParts(one.date_format), one.name) for i, one in _fields(contract, "date")],
    ]  # fmt: skip
    features = ColumnTransformer([step for step in steps if step[2] != []], sparse_threshold=0)
    task, labels = contract.outcome.task, len(contract.outcome.labels)
    # It stops when a tenth of the rows, kept apart, is answered no better: where there are rows enough for that.
    enough = rows >= EARLY_STOPPING_ROWS * max(1, labels)
    stopping = {"max_iter": 1000, "n_iter_no_change": 20} if enough else {"max_leaf_nodes": 15}
    head = (HistGradientBoostingClassifier if task == "classification" else HistGradientBoostingRegressor)(
        learning_rate=0.06, l2_regularization=1.0, random_state=seed, early_stopping=enough, **stopping,
        categorical_features=list(range(len(categories))) or None,
    )  # fmt: skip
    return Pipeline([("features", features), ("model", head)])


def _filled() -> Pipeline:
    """Numbers with the median for what is missing, a sign that it was, and one scale."""
    return Pipeline([
        ("fill", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
        ("scale", StandardScaler()),
    ])  # fmt: skip


def _named(contract: Contract, *kinds: str, nullable: bool | None = None) -> list[str]:
    return [one.name for one in contract.fields if one.kind in kinds and nullable in (None, one.nullable)]


def _fields(contract: Contract, kind: str) -> list[tuple[int, Field]]:
    return [(i, one) for i, one in enumerate(contract.fields) if one.kind == kind]


def choose(
    found: dict[str, Pipeline], frame: pd.DataFrame, answers: Sequence[Any], seed: int, progress: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    """Return the name of the candidate that answers best on folds it was not fitted on, and the figures of each.

    `answers` are texts (labels) or floats (values). A figure is the mean over folds, with the deviation between them.
    """
    values = isinstance(answers[0], float)
    by = "mean_absolute_error" if values else "log_loss"
    actual = np.asarray(answers)
    if values:
        folds = KFold(FOLDS, shuffle=True, random_state=seed)
    else:
        smallest = min(Counter(answers).values())
        folds = StratifiedKFold(max(2, min(FOLDS, smallest)), shuffle=True, random_state=seed)
    scores: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    for name, pipeline in found.items():
        of_folds = []
        try:
            for train, test in folds.split(frame, actual):
                progress(f"try {name}")
                fitted = fit(clone(pipeline), frame.iloc[train], actual[train])
                of_folds.append((_value_scores if values else _label_scores)(fitted, frame.iloc[test], actual[test]))
        except ValueError as error:  # how scikit-learn says that a table is not for this estimator
            failed[name] = str(error).splitlines()[0]
            continue
        scores[name] = {
            key: figure
            for measure in of_folds[0]
            for key, figure in (
                (measure, float(np.mean([one[measure] for one in of_folds]))),
                (f"{measure}_deviation", float(np.std([one[measure] for one in of_folds]))),
            )
        }
    if not scores:
        told = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise UsageError(f"No candidate can be fitted to this table ({told}); give a --pipeline of your own.")
    chosen = min(scores, key=lambda name: scores[name][by])
    return chosen, {"by": by, "folds": folds.get_n_splits(), "candidates": scores, "failed": failed, "chosen": chosen}


def fit(pipeline: Pipeline, frame: pd.DataFrame, answers: Any) -> Pipeline:
    """Fit a candidate; a fit that stops before the last digit is still good, and the figures say how good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pipeline.fit(frame, answers)


def _label_scores(fitted: Pipeline, frame: pd.DataFrame, actual: Any) -> dict[str, float]:
    shares = fitted.predict_proba(frame)
    answered = fitted.classes_[shares.argmax(axis=1)]
    right = shares[np.arange(len(actual)), np.searchsorted(fitted.classes_, actual)]
    return {
        "log_loss": -float(np.log(np.clip(right, 1e-15, None)).mean()),
        "accuracy": float(accuracy_score(actual, answered)),
        "macro_f1": float(f1_score(actual, answered, average="macro", zero_division=0.0)),
    }


def _value_scores(fitted: Pipeline, frame: pd.DataFrame, actual: Any) -> dict[str, float]:
    said = fitted.predict(frame)
    return {"mean_absolute_error": float(mean_absolute_error(actual, said)), "r2": float(r2_score(actual, said))}
