"""What compiled code would follow out of memory, or for ever, is refused when an estimator is read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree

from reviewapp import estimators, structures
from reviewapp.errors import ReleaseRefused

RNG = np.random.default_rng(7)
X = np.column_stack([RNG.random((300, 3)), RNG.integers(0, 9, 300)])
Y = (X[:, 0] + X[:, 1] > 1).astype(int)


def fitted(estimator: Any) -> Any:
    return estimator.fit(X, Y)


def refused(estimator: Any) -> str:
    """Return why an estimator is refused that comes out of a file."""
    with pytest.raises(ReleaseRefused) as found:
        estimators.load(estimators.dump(estimator), "model.skops")
    return found.value.detail


@pytest.mark.parametrize(
    "estimator",
    [
        AdaBoostClassifier(n_estimators=3),
        BaggingClassifier(max_features=2),
        DecisionTreeClassifier(max_leaf_nodes=5, ccp_alpha=0.01),
        ExtraTreesRegressor(5, max_leaf_nodes=9),
        GradientBoostingClassifier(n_estimators=3),
        HistGradientBoostingClassifier(max_iter=5, categorical_features=[3]),
        IsolationForest(n_estimators=3),
        KNeighborsClassifier(algorithm="kd_tree"),
        KNeighborsClassifier(algorithm="ball_tree", leaf_size=5),
        make_pipeline(StandardScaler(), RandomForestClassifier(5)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_scikit_learn_grows_is_accepted(estimator: Any) -> None:
    structures.check(fitted(estimator), "model.skops")
    structures.check(estimator.fit(X, np.zeros(300)) if isinstance(estimator, DecisionTreeClassifier) else None, "")


# ---- decision trees ---------------------------------------------------------------------------------------------


def with_tree(change: Callable[[dict[str, Any]], object], columns: int = 4) -> Any:
    """Return a forest whose second tree has a changed state."""
    forest = fitted(RandomForestClassifier(3, max_depth=4, random_state=1))
    old = forest.estimators_[1].tree_
    state = old.__getstate__()
    state["nodes"] = state["nodes"].copy()
    change(state)
    new = Tree(columns, np.asarray(old.n_classes), old.n_outputs)
    new.__setstate__(state)
    forest.estimators_[1].tree_ = new
    return forest


def node(name: str, value: int, place: int = 0) -> Callable[[dict[str, Any]], object]:
    return lambda state: state["nodes"][name].__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (node("left_child", 1_000_000), "leads out of itself"),
        (node("right_child", 1_000_000), "leads out of itself"),
        (node("right_child", -7), "leads back up"),
        (node("left_child", 0), "leads back up"),
        (node("left_child", 1, 1), "leads back up"),
        (node("left_child", -1), "has a node with one child"),
        (node("feature", 4), "asks for column 4 of 4"),
        (node("feature", -1), "asks for column -1 of 4"),
        (lambda state: state.update(max_depth=1 << 40), "is 1,099,511,627,776 deep"),
        (lambda state: state.update(max_depth=-1), "is -1 deep"),
    ],
)
def test_a_tree_that_leads_elsewhere_is_refused(change: Callable[[dict[str, Any]], object], says: str) -> None:
    said = refused(with_tree(change))
    assert says in said
    assert said.startswith("model.skops holds a Tree that ")


@pytest.mark.parametrize("nodes", [0, -1])
def test_a_tree_without_nodes_is_refused(nodes: int) -> None:
    forest = with_tree(lambda state: state.update(node_count=nodes))
    with pytest.raises(ReleaseRefused, match="holds a Tree that has no node"):
        structures.check(forest, "model.skops")


def test_a_tree_that_counts_more_nodes_than_it_has_has_those_it_has() -> None:
    forest = with_tree(lambda state: state.update(node_count=10_000_000))
    assert forest.estimators_[1].tree_.node_count < 100
    structures.check(forest, "model.skops")


def test_a_tree_that_asks_for_more_columns_than_its_estimator_looks_at_is_refused() -> None:
    forest = with_tree(node("feature", 8), columns=9)
    assert "has 4 columns, and a tree of it 9" in refused(forest)
    forest.estimators_[1].n_features_in_ = 9
    assert refused(forest) == "model.skops holds a RandomForestClassifier that has 4 columns, and a tree of it 9."


# ---- the other ones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("left", 1 << 30, "leads out of itself"),
        ("right", 0, "leads back up"),
        ("bitset_idx", 1 << 30, "asks for the categories"),
        ("feature_idx", 4, "asks for column 4 of 4"),
    ],
)
def test_a_boosted_tree_that_leads_elsewhere_is_refused(name: str, value: int, says: str) -> None:
    model = fitted(HistGradientBoostingClassifier(max_iter=2, categorical_features=[3]))
    nodes = model._predictors[0][0].nodes
    nodes["is_categorical"][0] = 1
    nodes[name][0] = value
    assert says in refused(model)


def test_a_boosted_tree_without_nodes_is_refused() -> None:
    model = fitted(HistGradientBoostingClassifier(max_iter=2))
    model._predictors[0][0].nodes = model._predictors[0][0].nodes[:0]
    assert "holds a TreePredictor that has no node" in refused(model)


@pytest.mark.parametrize(
    ("place", "change", "says"),
    [
        (1, lambda order: order.__setitem__(0, 300), "names the row 300 of 300"),
        (1, lambda order: order[:-1], "does not name each row"),
        (2, lambda nodes: nodes["idx_start"].__setitem__(1, -1), "begins a node at row -1"),
        (2, lambda nodes: nodes["idx_end"].__setitem__(1, 301), "ends a node at row 301"),
        (2, lambda nodes: nodes["is_leaf"].__setitem__(-1, 0), "leads to node"),
    ],
)
def test_neighbours_that_are_not_there_are_refused(place: int, change: Callable[[Any], Any], says: str) -> None:
    model = fitted(KNeighborsClassifier(algorithm="kd_tree"))
    state = [part.copy() if isinstance(part, np.ndarray) else part for part in model._tree.__getstate__()]
    changed = change(state[place])
    state[place] = state[place] if changed is None else changed
    model._tree.__setstate__(tuple(state))
    assert says in refused(model)


def test_a_sparse_matrix_that_points_outside_of_itself_is_refused() -> None:
    model = KNeighborsClassifier(algorithm="brute").fit(sparse.csr_matrix(X), Y)
    model._fit_X.indices[0] = 99
    assert "holds a csr_matrix that is damaged" in refused(model)
    structures.check([sparse.coo_matrix(X), sparse.csr_matrix(X)], "model.skops")
