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
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from .contract import Contract, Record

SHOWN_TERMS = 12  # terms of a text field that an explanation names; the rest is summed up


@dataclass(frozen=True)
class LinearParts:
    """A ColumnTransformer followed by a logistic regression, taken apart.

    `coefficients` has shape (labels, features), `intercepts` (labels,); `owner[j]` is the field that feature j comes
    from, `terms[j]` its word where the field is a text.
    """

    transformer: ColumnTransformer
    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    owner: tuple[str, ...]
    terms: tuple[str | None, ...]

    @classmethod
    def of(cls, model: Any) -> LinearParts | None:
        """Return the parts of a fitted pipeline of this form, or None where it has another."""
        if not (isinstance(model, Pipeline) and len(model) == 2):
            return None
        transformer, head = model[0], model[-1]
        if not (isinstance(transformer, ColumnTransformer) and isinstance(head, LogisticRegression)):
            return None
        owner: list[str] = []
        terms: list[str | None] = []
        for name, step, columns in transformer.transformers_:
            place = transformer.output_indices_[name]
            if place.start == place.stop:
                continue
            owners = _owners(step, [columns] if isinstance(columns, str) else list(columns), place.stop - place.start)
            if owners is None or place.start != len(owner):
                return None
            owner += owners
            words = hasattr(step, "vocabulary_")
            terms += list(step.get_feature_names_out()) if words else [None] * len(owners)
        coefficients, intercepts = head.coef_, head.intercept_
        if len(coefficients) == 1:  # two labels share one row: log-odds of the second against the first
            coefficients = np.vstack([-coefficients / 2, coefficients / 2])
            intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
        return cls(transformer, coefficients, intercepts, tuple(owner), tuple(terms))

    def explain(self, frame: pd.DataFrame, labels: Sequence[str], label: str, against: str) -> dict[str, Any]:
        """Return what speaks for `label` rather than `against` in a frame of one row, in log-odds (natural log).

        Exact: the intercept and the contributions of all fields add up to log(p(label) / p(against)).
        """
        for_, other = labels.index(label), labels.index(against)
        features = sparse.csr_array(self.transformer.transform(frame))
        parts = features.data * (self.coefficients[for_] - self.coefficients[other])[features.indices]
        by_field: dict[str, float] = dict.fromkeys(frame.columns, 0.0)
        by_term: dict[str, list[tuple[str, float]]] = {}
        for index, part in zip(features.indices.tolist(), parts.tolist(), strict=True):
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
        return {
            "method": "linear",
            "scale": "log-odds",
            "label": label,
            "against": against,
            "intercept": float(self.intercepts[for_] - self.intercepts[other]),
            "fields": fields,
        }


def _owners(step: Any, columns: list[str], width: int) -> list[str] | None:
    """Return the column that each output of a fitted transformer comes from, or None where that is not known."""
    if len(columns) == 1:
        return columns * width
    if isinstance(step, OneHotEncoder):
        widths = [len(names) for names in _groups(step, columns)]
        return [c for c, n in zip(columns, widths, strict=True) for _ in range(n)] if sum(widths) == width else None
    one_to_one = isinstance(step, OneToOneFeatureMixin) or (isinstance(step, FunctionTransformer) and step.func is None)
    return columns if one_to_one and width == len(columns) else None


def _groups(encoder: OneHotEncoder, columns: list[str]) -> list[list[str]]:
    dropped = encoder.drop_idx_
    return [
        [str(v) for i, v in enumerate(values) if dropped is None or dropped[c] != i]
        for c, values in enumerate(encoder.categories_)
    ][: len(columns)]


def explain_by_blanking(
    contract: Contract,
    record: Record,
    label: str,
    probabilities: Callable[[Sequence[Record]], Sequence[dict[str, float]]],
) -> dict[str, Any]:
    """Return how the probability of `label` changes when one field is blanked, for models of any form.

    Blank is null where the field allows it, empty text for a text, else the example that the contract gives; a field
    that already is blank, or has no blank, is left out.
    """
    blanked = []
    for field in contract.fields:
        blank = None if field.nullable else "" if field.kind == "text" else field.example
        if (field.nullable or blank is not None) and record.get(field.name) != blank:
            blanked.append((field.name, {**record, field.name: blank}))
    answers = [answer[label] for answer in probabilities([record, *(row for _, row in blanked)])]
    fields: list[dict[str, Any]] = [
        {"field": name, "contribution": answers[0] - without}
        for (name, _), without in zip(blanked, answers[1:], strict=True)
    ]
    fields.sort(key=lambda shown: -abs(shown["contribution"]))
    return {"method": "blanking", "scale": "probability", "label": label, "fields": fields}
