"""The shallow tree against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from sqlkmeans.clustering.describing.tree import BINS, Grid, best_node, grow


def _sample(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [rng.normal(size=n_rows), rng.exponential(size=n_rows), rng.integers(0, 2, n_rows)]
    )
    members = (values[:, 0] > 0.3) & (values[:, 1] < 1.2) | (rng.random(n_rows) < 0.1)
    return values, members


def _impurity(rows: float, members: float) -> float:
    """The Gini impurity of a leaf, by its weight."""
    return 2 * members * (rows - members) / rows


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("heaviest", [1, 3])
def test_the_tree_is_as_pure_as_that_of_scikit_learn(seed: int, heaviest: int) -> None:
    values, members = _sample(240, seed)
    # Whole numbers: else scikit-learn splits pure nodes again, by what rounding leaves.
    weights = np.random.default_rng(seed).integers(1, heaviest + 1, 240).astype(float)
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    tree.fit(values, members, sample_weight=weights)
    leaf = tree.apply(values)
    expected = [
        _impurity(weights[leaf == i].sum(), weights[(leaf == i) & members].sum())
        for i in np.unique(leaf)
    ]
    nodes = grow(Grid(values), members, weights, 3)
    inner = {node.path[:-1] for node in nodes if node.path}
    found = [_impurity(node.rows, node.members) for node in nodes if node.path not in inner]
    assert len(found) == len(expected)
    assert sum(found) == pytest.approx(sum(expected))


def test_the_thresholds_are_midpoints_as_in_scikit_learn() -> None:
    values, members = _sample(200, 9)
    tree = DecisionTreeClassifier(max_depth=1, random_state=0).fit(values, members)
    [low, high] = grow(Grid(values), members, np.ones(200), 1)[1:]
    assert low.path[0].position == high.path[0].position == tree.tree_.feature[0]
    assert low.path[0].threshold == pytest.approx(tree.tree_.threshold[0])
    assert (low.path[0].above, high.path[0].above) == (False, True)


def test_a_column_of_many_values_is_cut_at_quantiles_and_loses_little() -> None:
    values, members = _sample(20_000, 3)
    grid = Grid(values)
    assert [len(thresholds) < BINS for thresholds in grid.thresholds] == [True] * 3
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(values, members)
    nodes = grow(grid, members, np.ones(20_000), 3)
    inner = {node.path[:-1] for node in nodes if node.path}
    right = sum(max(n.members, n.rows - n.members) for n in nodes if n.path not in inner)
    assert right / 20_000 == pytest.approx(tree.score(values, members), abs=0.005)


def test_the_best_node_has_the_best_f1_of_all() -> None:
    values, members = _sample(240, 1)
    nodes = grow(Grid(values), members, np.ones(240), 3)
    best = best_node(nodes, tolerance=0.0)
    scores = [2 * n.members / (n.rows + members.sum()) for n in nodes[1:]]
    assert best is not None
    assert 2 * best.members / (best.rows + members.sum()) == max(scores)


def test_where_nothing_parts_the_rows_there_is_no_node() -> None:
    grid = Grid(np.zeros((10, 2)))
    nodes = grow(grid, np.arange(10) < 5, np.ones(10), 3)
    assert [node.path for node in nodes] == [()]
    assert best_node(nodes) is None
