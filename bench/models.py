"""The pipelines that are served beside the default one, unfitted, and the class of our own that one of them holds."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

NUMBERS, CATEGORIES = 12, 4
TREES = 100


def numbers(count: int) -> list[str]:
    return [f"n{i}" for i in range(1, count + 1)]


def categories(count: int) -> list[str]:
    return [f"c{i}" for i in range(1, count + 1)]


class Ratios(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Beside the columns their shares of the row's total size: what no transformer of scikit-learn does."""

    def fit(self, matrix: Any, y: Any = None) -> Self:
        self.n_features_in_ = np.asarray(matrix).shape[1]
        return self

    def transform(self, matrix: Any) -> NDArray[np.float64]:
        """Return an array of shape (rows, 2 × columns)."""
        values = np.asarray(matrix, dtype=np.float64)
        return np.hstack([values, values / (1e-9 + np.abs(values).sum(axis=1, keepdims=True))])


def _features(number: Any, category: Any, count: int = NUMBERS, levels: int = CATEGORIES) -> ColumnTransformer:
    return ColumnTransformer([("numbers", number, numbers(count)), ("categories", category, categories(levels))])


def _levels() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore")


def _linear(count: int, levels: int) -> Pipeline:
    number = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return make_pipeline(_features(number, _levels(), count, levels), LogisticRegression(C=0.1, max_iter=1000))


def linear_10() -> Pipeline:
    return _linear(8, 2)


def linear_600() -> Pipeline:
    return _linear(480, 120)


def boosting() -> Pipeline:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    trees = HistGradientBoostingClassifier(max_iter=TREES, learning_rate=0.1, early_stopping=False)
    return make_pipeline(_features("passthrough", codes), trees)


def _forest() -> RandomForestClassifier:
    return RandomForestClassifier(TREES, min_samples_leaf=5)


def forest() -> Pipeline:
    return make_pipeline(_features(SimpleImputer(strategy="median"), _levels()), _forest())


def stack() -> Pipeline:
    two = [("forest", _forest()), ("linear", LogisticRegression(max_iter=1000))]
    number = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return make_pipeline(_features(number, _levels()), StackingClassifier(two, LogisticRegression(), cv=3))


def own() -> Pipeline:
    number = make_pipeline(SimpleImputer(strategy="median"), Ratios(), StandardScaler())
    return make_pipeline(_features(number, _levels()), LogisticRegression(max_iter=1000))
