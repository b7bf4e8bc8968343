"""What the pipelines that reviewapp fits need and scikit-learn has not: texts of any sort, and dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from . import dates

_UNIX = pd.Timestamp(0)
_DAY_SECONDS = 86_400
READ = 20_000  # characters of a text; pairs of words make longer ones slow, and tell little more


class Words(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """One column of texts: TF-IDF of words and pairs of words that occur twice; what is missing is empty text.

    Where that leaves most texts without any word (few rows, or writing without blanks), single words count, and then
    characters and pairs of them. Of a text the first READ characters are looked at.
    """

    WAYS = ({"min_df": 2, "ngram_range": (1, 2)}, {"ngram_range": (1, 2)}, {"analyzer": "char", "ngram_range": (1, 2)})

    def __init__(self, most: int = 30_000) -> None:
        self.most = most

    def fit(self, texts: Any, y: Any = None) -> Self:
        """Learn the vocabulary, of `most` terms at most; of texts that are all empty there is none."""
        self.n_features_in_ = 1
        self.vectorizer_: TfidfVectorizer | None = None
        known = as_texts(texts)
        for way in self.WAYS:
            vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=self.most, **way)
            try:
                found = vectorizer.fit_transform(known)
            except ValueError:  # how a vectorizer says that no term is left
                continue
            self.vectorizer_ = vectorizer
            if (np.diff(found.indptr) > 0).mean() >= 0.5:
                break
        return self

    def transform(self, texts: Any) -> sparse.csr_matrix:
        """Return a matrix of shape (rows, terms) for a column of shape (rows,)."""
        known = as_texts(texts)
        return sparse.csr_matrix((len(known), 0)) if self.vectorizer_ is None else self.vectorizer_.transform(known)

    @property
    def vocabulary_(self) -> dict[str, int]:
        return {} if self.vectorizer_ is None else self.vectorizer_.vocabulary_

    def get_feature_names_out(self, names: Sequence[str] | None = None) -> NDArray[np.object_]:
        return np.empty(0, object) if self.vectorizer_ is None else self.vectorizer_.get_feature_names_out()


def as_texts(texts: Any) -> list[str]:
    """Return what is read of each text; of anything else, nothing."""
    return [text[:READ] if isinstance(text, str) else "" for text in texts]


class Topics(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """The main directions of a sparse matrix, as many as it has where that is fewer (truncated SVD)."""

    def __init__(self, most: int = 60, random_state: int = 0) -> None:
        self.most = most
        self.random_state = random_state

    def fit(self, matrix: Any, y: Any = None) -> Self:
        self.n_features_in_ = matrix.shape[1]
        size = min(self.most, *matrix.shape)
        few = matrix.shape[1] < 2  # nothing to take directions of
        self.svd_ = None if few else TruncatedSVD(size, random_state=self.random_state).fit(matrix)
        return self

    def transform(self, matrix: Any) -> NDArray[np.float64]:
        """Return an array of shape (rows, directions)."""
        return np.asarray(matrix.toarray() if self.svd_ is None else self.svd_.transform(matrix))

    def get_feature_names_out(self, names: Sequence[str] | None = None) -> NDArray[np.object_]:
        size = self.n_features_in_ if self.svd_ is None else self.svd_.n_components
        return np.asarray([f"topic {i}" for i in range(size)], dtype=object)


class DayParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """One column of dates as text: days since 1970, month 1-12, weekday 0-6; missing is not-a-number."""

    PARTS = ("day", "month", "weekday")

    def __init__(self, date_format: str = dates.ISO_DATE) -> None:
        self.date_format = date_format

    def fit(self, texts: Any, y: Any = None) -> Self:
        self.n_features_in_ = 1
        return self

    def transform(self, texts: Any) -> NDArray[np.float64]:
        """Return an array of shape (rows, 3) for a column of shape (rows,)."""
        return np.array([self._parts(text) for text in texts], dtype=np.float64).reshape(-1, len(self.PARTS))

    def _parts(self, text: object) -> tuple[float, float, float]:
        if not isinstance(text, str):
            return np.nan, np.nan, np.nan
        moment = dates.parse(text, self.date_format)
        days = (moment - _UNIX.to_pydatetime()).total_seconds() / _DAY_SECONDS
        return days, moment.month, moment.weekday()

    def get_feature_names_out(self, names: Sequence[str] | None = None) -> NDArray[np.object_]:
        name = "date" if names is None else names[0]
        return np.asarray([f"{name} ({part})" for part in self.PARTS], dtype=object)
