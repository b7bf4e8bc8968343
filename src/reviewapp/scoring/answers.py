"""What an option answers to the right rows of a partition, by column; the same as the adapter says of each row alone.

The figures come from scikit-learn itself, which is faster on many rows; where the compiled engine answers single
requests, the last digits may be others. So a row whose label or decision hangs on these is asked as a single request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..adapter import ModelAdapter
from ..errors import ModelBroken
from ..policy import LAST_DIGITS, Policy
from .columns import Mask, outside_seen
from .tables import Checked

Figures = NDArray[np.float64]
VALUE_NAMES = ("value", "low", "high")


@dataclass
class Answers:
    """The answers to the right rows, in order.

    `figures`: shares of the contract's labels (rows, labels), or value, low and high (rows, 3); `others` are those of
    the other option, where it is asked beside. `labels` are numbers of labels. `reasons` are shared between rows.
    """

    names: tuple[str, ...]  # the labels; none where the answer is a value
    figures: Figures
    others: Figures | None
    reasons: list[list[str]]
    warnings: dict[int, list[dict[str, Any]]]
    ids: Sequence[str] | None = None  # where the answers are recorded, and when they were made
    times: Sequence[str] | None = None

    @property
    def rows(self) -> int:
        return len(self.figures)

    @property
    def predictions(self) -> list[Any]:
        """The label or the value of each row."""
        if not self.names:
            return list(self.figures[:, 0].tolist())
        return [self.names[place] for place in self.figures.argmax(axis=1).tolist()]

    @property
    def shown_figures(self) -> list[list[float]]:
        """The columns of figures beside the prediction: the confidence, or low and high."""
        if self.names:
            return [self.figures.max(axis=1).tolist() if self.rows else []]
        return [self.figures[:, 1].tolist(), self.figures[:, 2].tolist()]

    def outputs(self) -> list[dict[str, Any]]:
        return outputs_of(self.figures, self.names)


def outputs_of(figures: Figures, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return figures as outputs of single answers."""
    rows = figures.tolist()
    if not names:
        return [dict(zip(VALUE_NAMES, row, strict=True)) for row in rows]
    places = figures.argmax(axis=1).tolist()
    return [
        {"label": names[place], "confidence": row[place], "probabilities": dict(zip(names, row, strict=True))}
        for place, row in zip(places, rows, strict=True)
    ]


def answer(checked: Checked, adapter: ModelAdapter, option: str) -> Answers:
    """Answer the right rows of a partition; a row at which the model fails is one of the mistakes then.

    `option` as the adapter takes it; what it would compare for a single request, it compares here.
    """
    policy = adapter.policy if option == adapter.option else adapter.release.policy_of(option)
    figures = _figures(checked, adapter, option)
    others = None
    if adapter.option != "model" or policy.review_disagreement:
        other = "baseline" if option == "model" else "model"
        before = checked.right.copy()
        others = _figures(checked, adapter, other)
        if not (checked.right == before).all():
            figures = figures[checked.right[before]]
    names = adapter.contract.outcome.labels
    values = checked.values()
    outside, warnings = _warnings(checked, adapter, values)
    _ask_alone(checked, adapter, option, policy, figures, values)
    disagree = np.zeros(len(figures), dtype=np.bool_) if others is None else _disagree(figures, others, names)
    reasons = _reasons(policy, figures, names, outside, disagree)
    return Answers(names, figures, others if adapter.option != "model" else None, reasons, warnings)


# ---- figures ----------------------------------------------------------------------------------------------------


def _figures(checked: Checked, adapter: ModelAdapter, option: str) -> Figures:
    """Return the figures of the rows that are right; those at which the option fails are so no more."""
    frame, rows = checked.frame(), np.flatnonzero(checked.right)
    parts: list[Figures] = []
    todo = [(0, len(frame))]
    while todo:  # halves, until the rows are found at which it fails
        begin, end = todo.pop()
        try:
            if end > begin:
                parts.append(adapter.figures(option, frame if end - begin == len(frame) else _rows(frame, begin, end)))
        except ModelBroken as error:
            middle = (begin + end) // 2
            if middle == begin:
                checked.mistakes[int(rows[begin])] = error
                checked.right[rows[begin]] = False
            else:
                todo += [(middle, end), (begin, middle)]
    width = len(adapter.contract.outcome.labels) or len(VALUE_NAMES)
    return np.concatenate(parts) if parts else np.empty((0, width))


def _rows(frame: pd.DataFrame, begin: int, end: int) -> pd.DataFrame:
    return frame.iloc[begin:end].reset_index(drop=True)


def _ask_alone(
    checked: Checked, adapter: ModelAdapter, option: str, policy: Policy, figures: Figures, values: dict[str, Any]
) -> None:
    """Put the figures of single requests where the last digits decide."""
    if not adapter.is_compiled(option) or not len(figures):
        return
    names = adapter.contract.outcome.labels
    if names:
        ranked = np.partition(figures, -2, axis=1)
        close = (ranked[:, -1] - ranked[:, -2] <= LAST_DIGITS) | (
            np.abs(ranked[:, -1] - policy.threshold) <= LAST_DIGITS
        )
    elif policy.widest_interval is None:
        return
    else:
        scale = LAST_DIGITS * np.maximum(1.0, np.abs(figures).max(axis=1))
        close = np.abs(figures[:, 2] - figures[:, 1] - policy.widest_interval) <= scale
    rows = np.flatnonzero(close).tolist()
    if rows:
        for row, output in zip(rows, adapter.outputs(option, checked.records(values, close)), strict=True):
            figures[row] = list(output["probabilities"].values()) if names else [output[name] for name in VALUE_NAMES]


# ---- decisions --------------------------------------------------------------------------------------------------


def _warnings(
    checked: Checked, adapter: ModelAdapter, values: dict[str, Any]
) -> tuple[Mask, dict[int, list[dict[str, Any]]]]:
    """Return which rows lie outside of what was seen, and what is said of each of them."""
    outside = np.zeros(int(checked.right.sum()), dtype=np.bool_)
    for field in adapter.contract.fields:
        found = outside_seen(field, values[field.name])
        if found is not None:
            outside |= found
    rows = np.flatnonzero(outside).tolist()
    if checked.late:  # numbers of more than 53 bits may be among them
        places = np.cumsum(checked.right) - 1
        rows = sorted({*rows, *(int(places[row]) for row in checked.late if checked.right[row])})
    if not rows:
        return outside, {}
    chosen = np.zeros(len(outside), dtype=np.bool_)
    chosen[rows] = True
    warnings = {}
    for row, record in zip(rows, checked.records(values, chosen), strict=True):
        said = adapter.warnings(record)
        outside[row] = bool(said)
        if said:
            warnings[row] = said
    return outside, warnings


def _disagree(figures: Figures, others: Figures, names: Sequence[str]) -> Mask:
    """Return where two options say different things, as prediction.differ says it."""
    if names:
        return np.asarray(figures.argmax(axis=1) != others.argmax(axis=1))
    return np.asarray((figures[:, 1] > others[:, 2]) | (others[:, 1] > figures[:, 2]))


def _reasons(policy: Policy, figures: Figures, names: Sequence[str], outside: Mask, disagree: Mask) -> list[list[str]]:
    """Return the reasons of each row: the policy is asked once for each kind of row that there is."""
    if names:
        kinds = (figures.max(axis=1) < policy.threshold).astype(np.int64) if len(figures) else outside.astype(np.int64)
    elif policy.widest_interval is not None:
        kinds = (figures[:, 2] - figures[:, 1] > policy.widest_interval).astype(np.int64)
    else:
        kinds = np.zeros(len(figures), dtype=np.int64)
    kinds = kinds + 2 * outside + 4 * disagree
    known: list[list[str]] = [[] for _ in range(8)]
    for kind, row in zip(*np.unique(kinds, return_index=True), strict=True):
        [output] = outputs_of(figures[row : row + 1], names)
        known[kind] = policy.reasons(output, outside_seen=bool(outside[row]), disagree=bool(disagree[row]))
    return [known[kind] for kind in kinds.tolist()]
