"""Whether what a loaded estimator points to is there: compiled code follows the numbers in it without a look.

A node of a tree whose child is another tree's memory ends the process; one whose child is above it, never ends. Looked
at are decision trees, those of histogram gradient boosting, the trees of neighbours, and sparse matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.neighbors import BallTree, KDTree
from sklearn.tree._tree import Tree

from .errors import ReleaseRefused


def check(estimator: Any, name: str) -> None:
    """Raise ReleaseRefused where a part of an estimator points to what is not there; `name` is its file's."""
    for part in _parts(estimator):
        if isinstance(part, Tree):
            wrong = _wrong_tree(part)
        elif isinstance(part, TreePredictor):
            wrong = _wrong_predictor(part)
        elif isinstance(part, BallTree | KDTree):
            wrong = _wrong_neighbours(part)
        elif sparse.issparse(part):
            wrong = _wrong_matrix(part)
        else:
            wrong = _wrong_owner(part)
        if wrong:
            raise ReleaseRefused(f"{name} holds a {type(part).__name__} that {wrong}.")


def _parts(whole: Any) -> Iterator[Any]:
    """Yield the estimator and all that it holds, each once."""
    seen: set[int] = set()
    waiting = [whole]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | type(None)):
            continue
        seen.add(id(part))
        if isinstance(part, np.ndarray):
            waiting += part.ravel().tolist() if part.dtype == object else []
        elif isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            waiting += part
        else:
            yield part
            waiting += getattr(part, "__dict__", {}).values()


def _wrong_tree(tree: Any) -> str | None:
    if tree.node_count < 1:  # never more than there are: scikit-learn sees to that
        return "has no node"
    if not 0 <= tree.max_depth < tree.node_count:
        return f"is {tree.max_depth:,} deep with {tree.node_count:,} nodes"
    inner = tree.children_left != -1
    leaves = tree.children_right[~inner]
    return (
        _wrong_children(inner, tree.children_left, tree.children_right)
        or (None if (leaves == -1).all() else "has a node with one child")
        or _outside("asks for column", tree.feature[inner], tree.n_features)
    )


def _wrong_predictor(tree: Any) -> str | None:
    nodes, sets = tree.nodes, min(len(tree.raw_left_cat_bitsets), len(tree.binned_left_cat_bitsets))
    if not len(nodes):
        return "has no node"
    inner = nodes["is_leaf"] == 0
    by_category = inner & (nodes["is_categorical"] != 0)
    return _wrong_children(inner, nodes["left"], nodes["right"]) or _outside(
        "asks for the categories", nodes["bitset_idx"][by_category], sets
    )


def _wrong_children(inner: Any, left: Any, right: Any) -> str | None:
    """A child comes after its parent in every tree that scikit-learn grows, so that each way down ends."""
    here = np.flatnonzero(inner)
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        if (child <= here).any():
            return "leads back up"
        if (child >= len(inner)).any():
            return "leads out of itself"
    return None


def _wrong_neighbours(tree: Any) -> str | None:
    data, order, nodes, *_ = tree.__getstate__()
    start, end, count = nodes["idx_start"], nodes["idx_end"], len(data)
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    return (
        _outside("names the row", order, count)
        or (None if len(order) == count else "does not name each row")
        or _outside("begins a node at row", start, count + 1)
        or _outside("ends a node at row", end, count + 1)
        or _outside("leads to node", 2 * inner + 2, len(nodes))
    )


def _wrong_matrix(matrix: Any) -> str | None:
    checked = getattr(matrix, "check_format", None)
    try:
        if checked is not None:
            checked(full_check=True)
    except ValueError as error:
        return f"is damaged ({error})"
    return None


def _wrong_owner(part: Any) -> str | None:
    """Return how an estimator and its trees disagree on the columns: it looks at its input, and its trees do not."""
    columns = getattr(part, "n_features_in_", None)
    if isinstance(part, BaseHistGradientBoosting):
        nodes = [tree.nodes for trees in getattr(part, "_predictors", ()) for tree in trees]
        asked = [one["feature_idx"][one["is_leaf"] == 0] for one in nodes]
        return _outside("asks for column", np.concatenate([*asked, []]), columns or 0)
    members = getattr(part, "estimators_", None)
    if isinstance(getattr(part, "tree_", None), Tree):
        return _other_columns([part.tree_.n_features], columns)
    if members is not None and not hasattr(part, "estimators_features_"):
        trees = (getattr(one, "tree_", None) for one in np.ravel(np.asarray(members, dtype=object)))
        return _other_columns((one.n_features for one in trees if isinstance(one, Tree)), columns)
    return None


def _other_columns(found: Iterable[int], columns: int | None) -> str | None:
    other = [one for one in found if one != columns]
    return f"has {columns} columns, and a tree of it {other[0]}" if other else None


def _outside(what: str, places: ArrayLike, count: int) -> str | None:
    found = np.asarray(places)
    out = found[(found < 0) | (found >= count)]
    return f"{what} {out[0]:.0f} of {count}" if len(out) else None
