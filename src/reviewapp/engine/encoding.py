"""Fitted transformers as plain functions on columns of values: what a request becomes before a model's head sees it.

scikit-learn's own way takes a DataFrame apart, checks it and puts it together again at each step, which costs
milliseconds for a single row. Here each step is compiled once into a function on one of three forms: `Cells` (values as
they were asked), `Dense` (numbers), `Sparse` (few numbers of many columns, as words are). STEPS is the table of what is
known; what is not is called itself, with an array, and raises NotCompiled where it has no `transform` or takes none.
Nothing here is trusted for being written: parity.py compares the answers with those of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from ..field import Value
from ..transformers import DayParts, Topics, Words
from .encoders import counts, days, directions, one_hot, ordinal, tfidf, topics, weights, words
from .forms import (
    Cells,
    Dense,
    Features,
    Form,
    NotCompiled,
    Sparse,
    Step,
    as_sparse,
    columns_of,
    dense,
    is_nan,
    matrix,
    named_columns,
    nameless,
    one_block,
)


def step_of(fitted: Any) -> Step:
    """Return a fitted transformer as a function; raise NotCompiled where it cannot be one."""
    if fitted is None or (isinstance(fitted, str) and fitted == "passthrough"):
        return _unchanged
    make = STEPS.get(type(fitted))
    if make is not None:
        return make(fitted)
    if isinstance(fitted, SelectorMixin) and _is_scikit_learn(fitted):
        return _selector(fitted)
    if hasattr(fitted, "transform"):
        return _by_itself(fitted)
    raise NotCompiled(f"{type(fitted).__name__} is not known to the compiled engine")


def _is_scikit_learn(fitted: Any) -> bool:
    return type(fitted).__module__.startswith("sklearn.")


def _unchanged(form: Form) -> Form:
    return form


# ---- many steps -------------------------------------------------------------------------------------------------


def _pipeline(fitted: Pipeline) -> Step:
    steps = [step_of(step) for _, step in fitted.steps]

    def run(form: Form) -> Form:
        for step in steps:
            form = step(form)
        return form

    return run


def _column_transformer(fitted: ColumnTransformer) -> Step:
    if fitted.transformer_weights:
        raise NotCompiled("ColumnTransformer with weights is not known to the compiled engine")
    known = getattr(fitted, "feature_names_in_", None)
    branches: list[tuple[Step, Any]] = []
    end = 0
    for name, step, chosen in fitted.transformers_:
        place = fitted.output_indices_[name]
        if place.start == place.stop:
            continue
        if place.start != end:
            raise NotCompiled("the branches of ColumnTransformer come out in another order")
        end = place.stop
        names = named_columns(chosen, known)
        if names is None:
            names = np.arange(fitted.n_features_in_)[chosen].tolist()
        branches.append((step_of(step), names))
    is_sparse = bool(fitted.sparse_output_)

    def run(form: Form) -> Features:
        return Features([_block(step(_chosen(form, names))) for step, names in branches], is_sparse)

    return run


def _chosen(form: Form, names: Sequence[Any]) -> Form:
    return Cells(form.records, names) if isinstance(form, Cells) else dense(form)[:, names]


def _union(fitted: FeatureUnion) -> Step:
    if fitted.transformer_weights:
        raise NotCompiled("FeatureUnion with weights is not known to the compiled engine")
    steps = [step_of(step) for _, step in fitted.transformer_list if not (isinstance(step, str) and step == "drop")]

    def run(form: Form) -> Features:
        blocks = [_block(step(form)) for step in steps]
        return Features(blocks, any(isinstance(block, Sparse) for block in blocks))

    return run


def _block(form: Form) -> Dense | Sparse:
    form = one_block(form)
    return form if isinstance(form, Sparse) else dense(form)


# ---- numbers ----------------------------------------------------------------------------------------------------


def _scaler(fitted: StandardScaler) -> Step:
    mean = fitted.mean_ if fitted.with_mean else None
    scale = fitted.scale_ if fitted.with_std else None
    scales = [] if scale is None else scale.tolist()

    def run(form: Form) -> Form:
        form = one_block(form)
        if isinstance(form, Sparse):
            if scale is None:
                return form
            values = [value / scales[column] for value, column in zip(form.values, form.columns, strict=True)]
            return Sparse(form.starts, form.columns, values, form.width)
        numbers = dense(form)
        numbers = numbers if mean is None else numbers - mean
        return numbers if scale is None else numbers / scale

    return run


def _imputer(fitted: SimpleImputer) -> Step:
    if not (fitted.missing_values is pd.NA or is_nan(fitted.missing_values)):
        raise NotCompiled("SimpleImputer for another sign than a missing value is not known to the compiled engine")
    filling = list(fitted.statistics_)
    kept = [i for i, value in enumerate(filling) if fitted.keep_empty_features or not is_nan(value)]
    told = [] if fitted.indicator_ is None else fitted.indicator_.features_
    if any(isinstance(value, str) for value in filling):
        if len(told) or len(kept) < len(filling):
            raise NotCompiled("SimpleImputer that adds or drops columns of texts is not known to the compiled engine")
        return lambda form: _filled(form, filling)
    numbers = np.array([0.0 if is_nan(value) else value for value in filling], dtype=np.float64)

    def run(form: Form) -> Dense:
        given = dense(form)
        missing = np.isnan(given)
        filled = np.where(missing, numbers, given)
        filled = filled if len(kept) == len(filling) else filled[:, kept]
        return filled if not len(told) else np.hstack([filled, missing[:, told]])

    return run


def _filled(form: Form, filling: Sequence[Value]) -> Cells:
    columns = [
        [value if known is None else known for known in column]
        for value, column in zip(filling, columns_of(form), strict=True)
    ]
    names = [str(i) for i in range(len(columns))]
    return Cells([dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)], names)


def _selector(fitted: Any) -> Step:
    chosen = fitted.get_support(indices=True)
    place = {column: i for i, column in enumerate(chosen.tolist())}

    def run(form: Form) -> Form:
        form = one_block(form)
        if not isinstance(form, Sparse):
            return dense(form)[:, chosen]
        starts: list[int] = [0]
        columns: list[int] = []
        values: list[float] = []
        for start, end in pairwise(form.starts):
            for column, value in zip(form.columns[start:end], form.values[start:end], strict=True):
                if column in place:
                    columns.append(place[column])
                    values.append(value)
            starts.append(len(columns))
        return Sparse(starts, columns, values, len(chosen))

    return run


def _by_itself(fitted: Any) -> Step:
    """Any other step that takes numbers gets them as an array, which spares it the DataFrame."""
    bare = nameless(fitted)

    def run(form: Form) -> Form:
        try:
            made = bare.transform(matrix(form))
            return as_sparse(made) if sparse.issparse(made) else np.asarray(made, dtype=np.float64)
        except Exception as error:
            if _is_scikit_learn(fitted):
                raise
            # somebody's own may need the DataFrame, or its names
            raise NotCompiled(f"{type(fitted).__name__} does not take its columns as an array") from error

    return run


def _function(fitted: FunctionTransformer) -> Step:
    return _unchanged if fitted.func is None else _by_itself(fitted)


STEPS: dict[type[BaseEstimator], Callable[[Any], Step]] = {
    Pipeline: _pipeline,
    ColumnTransformer: _column_transformer,
    FeatureUnion: _union,
    FunctionTransformer: _function,
    StandardScaler: _scaler,
    SimpleImputer: _imputer,
    OneHotEncoder: one_hot,
    OrdinalEncoder: ordinal,
    CountVectorizer: counts,
    TfidfVectorizer: tfidf,
    TfidfTransformer: weights,
    TruncatedSVD: directions,
    Words: words,
    Topics: topics,
    DayParts: days,
}  # beside these: selectors (SelectKBest …), and every other step that takes numbers, called itself
