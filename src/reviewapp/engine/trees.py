"""Trees as flat arrays: all trees of an ensemble go down one level at a time, for few rows at once.

scikit-learn walks each tree in a call of its own, which is right for many rows and dear for one. Here a node is a place
in one array, and a leaf leads to itself, so that `depth` steps lead every tree of every row to its leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoding import step_of
from .forms import Dense, Form, NotCompiled, Step, dense, nameless

Whole = NDArray[np.intp]


@dataclass(frozen=True)
class Forest:
    """`next` holds for each node where to go if the answer is no, and if it is yes; `values` has shape (nodes, k).

    A node asks whether a feature is at most `limit`, or, where `allowed` is given, whether its category is one of those
    in the node's row of bits; `missing` is the answer for not-a-number, `unknown` for a category that no fit saw.
    """

    roots: Whole
    feature: Whole
    limit: Dense
    missing: NDArray[np.bool_]
    next: Whole
    depth: int
    values: Dense
    bits: Whole  # of each node: its row in `allowed`, or -1
    allowed: NDArray[np.bool_]  # shape (nodes that ask for categories, categories)
    known: NDArray[np.bool_]  # shape (features, categories)

    def leaves(self, rows: Dense) -> Dense:
        """Return the values of the leaves that rows fall into: shape (rows, trees, k)."""
        one = len(rows) == 1
        line = np.arange(len(rows))[:, np.newaxis]
        node = self.roots if one else np.tile(self.roots, (len(rows), 1))
        holes = bool(np.isnan(rows).any())
        for _ in range(self.depth):
            asked = self.feature[node]
            value: Dense = rows[0][asked] if one else rows[line, asked]
            yes = value <= self.limit[node]
            if len(self.allowed):
                yes = self._by_category(node, asked, value, yes)
            elif holes:
                yes |= np.isnan(value) & self.missing[node]
            node = self.next[2 * node + yes]
        found = self.values[node]
        return found[np.newaxis] if one else found

    def _by_category(self, node: Whole, asked: Whole, value: Dense, yes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        bits = self.bits[node]
        of_category = bits >= 0
        fits = (value >= 0) & (value < self.allowed.shape[1])  # not-a-number does not
        code = np.where(fits, value, 0).astype(np.intp)
        chosen = fits & self.allowed[bits, code]
        lost = np.where(of_category, ~(fits & self.known[asked, code]) & ~chosen, np.isnan(value))
        return np.where(lost, self.missing[node], np.where(of_category, chosen, yes))


def _flat(trees: Sequence[dict[str, NDArray[Any]]], values: Dense, **more: Any) -> Forest:
    """Return trees, each with its own numbering, as one; leaves have no left."""
    ends = np.cumsum([0] + [len(tree["left"]) for tree in trees])
    left, right = (
        np.concatenate([tree[side].astype(np.intp) + start for tree, start in zip(trees, ends[:-1], strict=True)])
        for side in ("left", "right")
    )
    leaf, feature, limit, missing = (
        np.concatenate([tree[name] for tree in trees]) for name in ("leaf", "feature", "limit", "missing")
    )
    here = np.arange(len(left))
    left, right = np.where(leaf, here, left), np.where(leaf, here, right)
    return Forest(
        roots=ends[:-1].astype(np.intp),
        feature=np.where(leaf, 0, feature).astype(np.intp),
        limit=limit.astype(np.float64),
        missing=missing.astype(bool),
        next=np.column_stack([right, left]).ravel(),
        depth=max(int(tree["depth"]) for tree in trees),
        values=values,
        **{"bits": np.full(len(left), -1), "allowed": np.zeros((0, 0), bool), "known": np.zeros((0, 0), bool)} | more,
    )


def bagged(fitted: Any) -> Callable[[Form], Dense]:
    """Return a forest, or a single tree, as a function: shares of labels, or values of shape (rows, 1)."""
    members = list(getattr(fitted, "estimators_", [fitted]))
    if fitted.n_outputs_ != 1:
        raise NotCompiled("trees with more than one output are not known to the compiled engine")
    trees = [
        {
            "left": tree.children_left, "right": tree.children_right, "leaf": tree.children_left < 0,
            "feature": tree.feature, "limit": tree.threshold, "missing": tree.missing_go_to_left.astype(bool),
            "depth": tree.max_depth,
        }
        for tree in (one.tree_ for one in members)
    ]  # fmt: skip
    values = np.concatenate([one.tree_.value[:, 0, :] for one in members])
    forest, count = _flat(trees, values), len(members)

    def run(form: Form) -> Dense:
        rows = dense(form).astype(np.float32).astype(np.float64)  # a tree was fitted on float32, and asks in it
        return np.asarray(forest.leaves(rows).sum(axis=1) / count)

    return run


def boosted(fitted: Any) -> Callable[[Form], Dense]:
    """Return histogram gradient boosting as a function: its raw scores, shape (rows, trees an iteration)."""
    before: Step | None = None
    if fitted._preprocessor is not None:
        before = step_of(nameless(fitted._preprocessor))
    predictors = [predictor for iteration in fitted._predictors for predictor in iteration]
    trees: list[dict[str, Any]] = []
    bits: list[Whole] = []
    allowed: list[NDArray[np.bool_]] = []
    for predictor in predictors:
        nodes = predictor.nodes
        trees.append({
            "left": nodes["left"], "right": nodes["right"], "leaf": nodes["is_leaf"].astype(bool),
            "feature": nodes["feature_idx"], "limit": nodes["num_threshold"],
            "missing": nodes["missing_go_to_left"].astype(bool), "depth": nodes["depth"].max(),
        })  # fmt: skip
        of_category = nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)
        bits.append(np.where(of_category, nodes["bitset_idx"].astype(np.intp) + sum(len(one) for one in allowed), -1))
        allowed.append(_unpacked(predictor.raw_left_cat_bitsets))
    known_bits, index = fitted._bin_mapper.make_known_categories_bitsets()
    known = np.zeros((len(index), 256), dtype=bool)
    categorical = fitted._bin_mapper.is_categorical_.astype(bool)
    known[categorical] = _unpacked(known_bits)[np.asarray(index)[categorical]]
    values = np.concatenate([predictor.nodes["value"] for predictor in predictors])[:, np.newaxis]
    forest = _flat(trees, values, bits=np.concatenate(bits), allowed=np.concatenate(allowed), known=known)
    each, first = fitted.n_trees_per_iteration_, fitted._baseline_prediction

    def run(form: Form) -> Dense:
        rows = dense(form if before is None else before(dense(form)))
        leaves = forest.leaves(rows).reshape(len(rows), -1, each)
        return np.asarray(first + leaves.sum(axis=1))

    return run


def _unpacked(bitsets: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return bit sets of shape (sets, 8) as booleans of shape (sets, 256)."""
    if not len(bitsets):
        return np.zeros((0, 256), dtype=bool)
    return ((bitsets[:, :, np.newaxis] >> np.arange(32, dtype=np.uint32)) & 1).astype(bool).reshape(len(bitsets), 256)
