"""What moved an answer: exact where the model is linear, else the change when one field is blanked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import OneToOneFeatureMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge, RidgeCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from .calibration import CalibratedClassifier, IntervalRegressor
from .contract import Contract
from .engine.encoders import levels
from .engine.forms import Sparse, as_sparse, named_columns
from .field import Record

_LINEAR = (LogisticRegression, LinearRegression, Ridge, RidgeCV, Lasso, ElasticNet)
SHOWN_TERMS = 12  # terms of a text field that an explanation names; the rest is summed up


@dataclass(frozen=True)
class LinearParts:
    """A ColumnTransformer followed by a logistic or linear regression, taken apart.

    `coefficients` has shape (labels, features), `intercepts` (labels,), one row for a value; `owner[j]` is the field
    that feature j comes from, `terms[j]` its word where the field is a text.
    """

    transformer: ColumnTransformer
    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    owner: tuple[str, ...]
    terms: tuple[str | None, ...]

    @classmethod
    def of(cls, model: Any) -> LinearParts | None:
        """Return the parts of a fitted pipeline of this form, or None where it has another.

        A calibration divides all scores by one temperature and adds a bias, so what is linear stays linear.
        """
        temperature = 1.0
        bias: NDArray[np.float64] = np.zeros(1)
        if isinstance(model, CalibratedClassifier) and model.shares_when_answered_ is None:
            temperature, bias, model = model.temperature_, model.bias_, model.estimator
        elif isinstance(model, IntervalRegressor):
            model = model.estimator
        if not (isinstance(model, Pipeline) and len(model) == 2):
            return None
        transformer, head = model[0], model[-1]
        if not (isinstance(transformer, ColumnTransformer) and isinstance(head, _LINEAR)):
            return None
        owner: list[str] = []
        terms: list[str | None] = []
        for name, step, columns in transformer.transformers_:
            place = transformer.output_indices_[name]
            if place.start == place.stop:
                continue
            named = named_columns(columns, getattr(transformer, "feature_names_in_", None))
            owners = None if named is None else _owners(step, named, place.stop - place.start)
            if owners is None or place.start != len(owner):
                return None
            owner += owners
            last = step[-1] if isinstance(step, Pipeline) else step
            words = hasattr(last, "vocabulary_")
            terms += list(last.get_feature_names_out()) if words else [None] * len(owners)
        coefficients, intercepts = np.atleast_2d(head.coef_), np.atleast_1d(head.intercept_)
        if isinstance(head, LogisticRegression) and len(coefficients) == 1:
            # two labels share one row: log-odds of the second against the first
            coefficients = np.vstack([-coefficients / 2, coefficients / 2])
            intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
        return cls(transformer, coefficients / temperature, intercepts / temperature + bias, tuple(owner), tuple(terms))

    def features(self, frame: pd.DataFrame) -> Sparse:
        """Return what scikit-learn's transformer makes of a frame; of mixed columns, it is an array of objects."""
        made = self.transformer.transform(frame)
        return as_sparse(made if sparse.issparse(made) else np.asarray(made, dtype=np.float64))

    def explain_value(self, names: Sequence[str], features: Sparse) -> dict[str, Any]:
        """Return what each field, of those with these names, adds to the value of one row, in the value's own unit.

        Exact: the intercept and the contributions of all fields add up to the value.
        """
        fields = self._contributions(names, features, self.coefficients[0])
        return {"method": "linear", "scale": "value", "intercept": float(self.intercepts[0]), "fields": fields}

    def explain(
        self, names: Sequence[str], features: Sparse, labels: Sequence[str], label: str, against: str
    ) -> dict[str, Any]:
        """Return what speaks for `label` rather than `against` in one row, in log-odds (natural log).

        Exact: the intercept and the contributions of all fields add up to log(p(label) / p(against)).
        """
        for_, other = labels.index(label), labels.index(against)
        return {
            "method": "linear",
            "scale": "log-odds",
            "label": label,
            "against": against,
            "intercept": float(self.intercepts[for_] - self.intercepts[other]),
            "fields": self._contributions(names, features, self.coefficients[for_] - self.coefficients[other]),
        }

    def _contributions(
        self, names: Sequence[str], features: Sparse, coefficients: NDArray[np.float64]
    ) -> list[dict[str, Any]]:
        parts = np.array(features.values) * coefficients[features.columns]
        by_field: dict[str, float] = dict.fromkeys(names, 0.0)
        by_term: dict[str, list[tuple[str, float]]] = {}
        for index, part in zip(features.columns, parts.tolist(), strict=True):
            by_field[self.owner[index]] += part
            term = self.terms[index]
            if term is not None:
                by_term.setdefault(self.owner[index], []).append((term, part))
        fields: list[dict[str, Any]] = []
        for name, total in sorted(by_field.items(), key=lambda item: -abs(item[1])):
            shown: dict[str, Any] = {"field": name, "contribution": total}
            if name in by_term:
                ranked = sorted(by_term[name], key=lambda item: (-abs(item[1]), item[0]))
                shown["terms"] = [{"term": t, "contribution": c} for t, c in ranked[:SHOWN_TERMS]]
                shown["other_terms"] = sum(c for _, c in ranked[SHOWN_TERMS:])
            fields.append(shown)
        return fields


def _owners(step: Any, columns: list[str], width: int) -> list[str] | None:
    """Return the column that each output of a fitted transformer comes from, or None where that is not known."""
    if len(set(columns)) == 1:
        return [columns[0]] * width
    if isinstance(step, Pipeline):
        found: list[str] | None = columns
        for _, part in step.steps:
            found = None if found is None else _owners(part, found, _width(part, len(found)))
        return found if found is not None and len(found) == width else None
    if isinstance(step, OneHotEncoder):
        widths = levels(step)
        return [c for c, n in zip(columns, widths, strict=True) for _ in range(n)] if sum(widths) == width else None
    if isinstance(step, SimpleImputer):
        signs = [] if step.indicator_ is None else [columns[i] for i in step.indicator_.features_]
        return [*columns, *signs] if width == len(columns) + len(signs) else None
    one_to_one = isinstance(step, OneToOneFeatureMixin) or (isinstance(step, FunctionTransformer) and step.func is None)
    return columns if one_to_one and width == len(columns) else None


def _width(step: Any, columns: int) -> int:
    """Return how many columns a fitted step of a pipeline gives; as many as it takes where it cannot say."""
    if isinstance(step, SimpleImputer):
        return columns + (0 if step.indicator_ is None else len(step.indicator_.features_))
    return columns


def explain_by_blanking(
    contract: Contract,
    record: Record,
    label: str | None,
    figures: Callable[[Sequence[Record]], Sequence[float]],
) -> dict[str, Any]:
    """Return how the probability of `label`, or the value where there is none, changes when one field is blanked.

    For models of any form. Blank is null where the field allows it, empty text for a text, else the example that the
    contract gives; a field that already is blank, or has no blank, is left out. `figures` answers many records at once.
    """
    blanked = []
    for field in contract.fields:
        blank = None if field.nullable else "" if field.kind == "text" else field.example
        if (field.nullable or blank is not None) and record.get(field.name) != blank:
            blanked.append((field.name, {**record, field.name: blank}))
    answers = figures([record, *(row for _, row in blanked)])
    fields: list[dict[str, Any]] = [
        {"field": name, "contribution": answers[0] - without}
        for (name, _), without in zip(blanked, answers[1:], strict=True)
    ]
    fields.sort(key=lambda shown: -abs(shown["contribution"]))
    of = {"scale": "value"} if label is None else {"scale": "probability", "label": label}
    return {"method": "blanking", **of, "fields": fields}
