"""Columns that tell the answer almost alone: usually something that is only known once the answer is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ..contract import Contract
from ..field import Field, Record

ROWS = 3000  # so many are looked at
FOLDS = 3
EXPLAINED = 0.9  # of what the most frequent answer (or the mean) gets wrong


def suspected_leaks(
    contract: Contract, records: Sequence[Record], answers: Sequence[Any], seed: int
) -> dict[str, float]:
    """Return the fields that explain more than EXPLAINED of the answers on folds not fitted on, with the share.

    Texts are left out: that a text tells the answer alone is what one hopes for; so is a table of one field.
    """
    if len(contract.fields) < 2:
        return {}
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(records))[:ROWS].tolist()
    actual = np.asarray([answers[i] for i in chosen])
    found = {}
    for one in contract.fields:
        if one.kind == "text":
            continue
        values = [records[i][one.name] for i in chosen]
        explained = _explained(one, values, actual, bool(contract.outcome.labels), seed)
        if explained >= EXPLAINED:
            found[one.name] = explained
    return found


def _explained(one: Field, values: list[Any], actual: NDArray[Any], labels: bool, seed: int) -> float:
    """Return 1 - (what is still wrong) / (what is wrong without the field), on rows not fitted on."""
    wrong = base = 0.0
    figures = _figures(one, values)
    for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(actual):
        if labels:
            tree = DecisionTreeClassifier(max_leaf_nodes=200, min_samples_leaf=3, random_state=seed)
            said = tree.fit(figures[train], actual[train]).predict(figures[test])
            usual = Counter(actual[train].tolist()).most_common(1)[0][0]
            wrong += float((said != actual[test]).sum())
            base += float((actual[test] != usual).sum())
        else:
            regression = DecisionTreeRegressor(max_leaf_nodes=200, min_samples_leaf=3, random_state=seed)
            values_said = regression.fit(figures[train], actual[train]).predict(figures[test])
            wrong += float(((values_said - actual[test]) ** 2).sum())
            base += float(((actual[train].mean() - actual[test]) ** 2).sum())
    return 1 - wrong / base if base else 0.0


def _figures(one: Field, values: list[Any]) -> NDArray[np.float64]:
    """Return one column of numbers; categories are numbered by how often they occur."""
    if one.kind in ("number", "integer", "boolean"):
        column = [np.nan if value is None else float(value) for value in values]
    elif one.kind == "date":
        column = [np.nan if value is None else one.parse_date(value).timestamp() for value in values]
    else:
        number = {value: i for i, (value, _) in enumerate(sorted(Counter(map(str, values)).items()))}
        column = [float(number[str(value)]) for value in values]
    return np.array(column, dtype=np.float64)[:, None]
