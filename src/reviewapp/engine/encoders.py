"""Categories and words: the transformers that look a value up, as functions that look it up in a dictionary."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from ..field import Value
from ..transformers import DayParts, Topics, Words, as_texts
from .forms import Cells, Dense, Form, NotCompiled, Sparse, Step, Sums, columns_of, dense, is_nan, one_block

UNHEARD = "\0 no table holds this \0"


# ---- categories -------------------------------------------------------------------------------------------------


def one_hot(fitted: OneHotEncoder) -> Step:
    widths = levels(fitted)
    tables = []
    starts = accumulate(widths[:-1], initial=0)
    for start, (known, unknown) in zip(starts, _by_value(fitted, widths), strict=True):
        places = {value: start + int(row.argmax()) if row.any() else None for value, row in known.items()}
        other = start + int(unknown.argmax()) if unknown is not None and unknown.any() else None
        tables.append((places, other, unknown is None))
    whole = sum(widths)
    as_sparse = bool(fitted.sparse_output)

    def run(form: Form) -> Form:
        found: list[list[int | None]] = []
        for (places, other, strict), column in zip(tables, columns_of(form), strict=True):
            found.append([places[v] if strict else places.get(v, other) for v in column])
        rows = [[place for place in row if place is not None] for row in zip(*found, strict=True)]
        where = [place for row in rows for place in row]
        made = Sparse([0, *accumulate(map(len, rows))], where, [1.0] * len(where), whole)
        return made if as_sparse else made.matrix().toarray()

    return run


def ordinal(fitted: OrdinalEncoder) -> Step:
    tables = [
        ({value: float(row[0]) for value, row in known.items()}, None if unknown is None else float(unknown[0]))
        for known, unknown in _by_value(fitted, [1] * len(fitted.categories_))
    ]

    def run(form: Form) -> Dense:
        codes = [
            [known[v] if other is None else known.get(v, other) for v in column]
            for (known, other), column in zip(tables, columns_of(form), strict=True)
        ]
        return np.array(codes, dtype=np.float64).T

    return run


def _by_value(fitted: Any, widths: Sequence[int]) -> list[tuple[dict[Value, Dense], Dense | None]]:
    """Return, for each column, what the encoder itself makes of every value, and of one that it does not know.

    Each output depends on one column's value alone, so asking once for each value is enough. None stands for a missing
    value; no answer to an unknown one means that the encoder refuses it.
    """
    unknown_too = fitted.handle_unknown != "error"
    asked: list[tuple[int, Any]] = []
    strange: list[Any] = []
    for i, values in enumerate(fitted.categories_):
        strange.append(UNHEARD if _are_texts(values) else _beyond(values))
        asked += [(i, value) for value in [*values, *((np.nan, strange[i]) if unknown_too else ())]]
    said = _asked(fitted, asked)
    tables: list[dict[Value, Dense]] = [{} for _ in widths]
    ends = list(accumulate(widths))
    for (i, value), row in zip(asked, said, strict=True):
        tables[i][_plain(value)] = row[ends[i] - widths[i] : ends[i]]
    return [(table, table.pop(one, None)) for table, one in zip(tables, strange, strict=True)]


def _are_texts(values: Any) -> bool:
    return any(isinstance(value, str) for value in values)


def _beyond(values: Any) -> float:
    return float(np.nanmax(np.array([*values, 0], dtype=np.float64))) + 1.5


def _asked(fitted: Any, asked: Sequence[tuple[int, Any]]) -> Dense:
    """Return the encoder's answers to rows that have a usual value in all columns but one."""
    columns = {}
    for i, values in enumerate(fitted.categories_):
        cells = [value if at == i else values[0] for at, value in asked]
        columns[i] = pd.Series(cells, dtype=object) if _are_texts(values) else pd.Series(cells)
    frame = pd.DataFrame(columns)
    names = getattr(fitted, "feature_names_in_", None)
    if names is not None:
        frame.columns = names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = fitted.transform(frame if names is not None else frame.to_numpy())
    return np.asarray(said.toarray() if sparse.issparse(said) else said, dtype=np.float64)


def _plain(value: Any) -> Value:
    if value is None or is_nan(value):
        return None
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain


def levels(encoder: OneHotEncoder) -> list[int]:
    """Return how many outputs each column has: one a level, rare levels together, without the dropped one."""
    rare = getattr(encoder, "infrequent_categories_", None) or [None] * len(encoder.categories_)
    dropped = [None] * len(rare) if encoder.drop_idx_ is None else encoder.drop_idx_
    return [
        len(levels) - (0 if few is None else len(few) - 1) - (without is not None)
        for levels, few, without in zip(encoder.categories_, rare, dropped, strict=True)
    ]


# ---- words ------------------------------------------------------------------------------------------------------


def counts(fitted: CountVectorizer) -> Step:
    """The analyzer is the vectorizer's own: what a word is, is never written twice."""
    analyze, place, once = fitted.build_analyzer(), fitted.vocabulary_.get, fitted.binary
    width = len(fitted.vocabulary_)

    def run(form: Form) -> Sparse:
        [texts] = columns_of(form) if isinstance(form, Cells) else [form]
        starts: list[int] = [0]
        places: list[int] = []
        values: list[float] = []
        for text in texts:
            found = [known for known in map(place, analyze(text)) if known is not None]
            counts: dict[int, int] = dict.fromkeys(found, 1)
            if len(counts) < len(found) and not once:
                counts = Counter(found)
            places += counts
            values += counts.values()
            starts.append(len(places))
        return Sparse(starts, places, values, width)

    return run


def weights(fitted: TfidfTransformer) -> Step:
    idf = fitted.idf_.tolist() if fitted.use_idf else None
    sublinear, length = fitted.sublinear_tf, None if fitted.norm is None else _LENGTHS[fitted.norm]

    def run(form: Form) -> Sparse:
        form = one_block(form)
        if not isinstance(form, Sparse):
            raise NotCompiled("TfidfTransformer of numbers is not known to the compiled engine")
        values = form.values
        if sublinear:
            values = [1.0 if value == 1 else math.log(value) + 1.0 for value in values]
        if idf is not None:
            values = [value * idf[column] for value, column in zip(values, form.columns, strict=True)]
        if length is not None:
            values = [part for start, end in pairwise(form.starts) for part in _of_length_1(values[start:end], length)]
        return Sparse(form.starts, form.columns, values, form.width)

    return run


def _of_length_1(values: list[float], length: Callable[[list[float]], float]) -> list[float]:
    whole = length(values) if values else 1.0
    return [value / whole for value in values]


_LENGTHS: dict[str, Callable[[list[float]], float]] = {
    "l2": lambda values: math.hypot(*values),
    "l1": lambda values: sum(map(abs, values)),
    "max": lambda values: max(map(abs, values)),
}


def tfidf(fitted: TfidfVectorizer) -> Step:
    count, weigh = counts(fitted), weights(fitted._tfidf)  # what the vectorizer itself is made of
    return lambda form: weigh(count(form))


def words(fitted: Words) -> Step:
    if fitted.vectorizer_ is None:
        return lambda form: Sparse([0] * (len(form.records) + 1), [], [], 0)
    inner = tfidf(fitted.vectorizer_)
    return lambda form: inner(as_texts(form.columns()[0]))


def topics(fitted: Topics) -> Step:
    return dense if fitted.svd_ is None else directions(fitted.svd_)


def directions(fitted: TruncatedSVD) -> Step:
    sums = Sums(fitted.components_.T, np.zeros(len(fitted.components_)))
    return lambda form: sums.of(one_block(form))


def days(fitted: DayParts) -> Step:
    return lambda form: fitted.transform(form.columns()[0])
