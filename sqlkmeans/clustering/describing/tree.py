"""A shallow decision tree that tells one segment from the rest.

The splits are those of CART (Breiman et al., 1984) with the Gini impurity, as in scikit-learn's
``DecisionTreeClassifier``, whose import alone takes longer than the rules of a million rows.
Where a column has more than 256 values, the thresholds tried are its quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Mask, Matrix, Vector

#: Values of a column that are told apart.
BINS = 256


@dataclass(frozen=True)
class Split:
    """One condition on the way to a node: ``column <= threshold``, or ``>`` where ``above``."""

    position: int
    threshold: float
    above: bool


@dataclass(frozen=True)
class Node:
    """A node of the tree, and who is in it.

    Attributes
    ----------
    path : tuple of Split
        From the root; empty for the root itself.
    rows : float
        Weight of the rows that come here.
    members : float
        Of them, those of the segment.
    """

    path: tuple[Split, ...]
    rows: float
    members: float


class Grid:
    """Columns cut into bins, once for the trees of all segments.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_features)
    """

    def __init__(self, values: Matrix) -> None:
        self.thresholds = [_thresholds(column) for column in values.T]
        codes = [
            np.searchsorted(thresholds, column) + position * BINS
            for position, (thresholds, column) in enumerate(zip(self.thresholds, values.T))
        ]
        self.codes = np.column_stack(codes)

    def totals(self, rows: npt.NDArray[np.int64], weights: Vector) -> Matrix:
        """Weight of the rows at or below each threshold, of shape (n_features, BINS)."""
        n_features = self.codes.shape[1]
        counted = np.bincount(
            self.codes[rows].ravel(),
            weights=np.repeat(weights[rows], n_features),
            minlength=n_features * BINS,
        )
        return np.cumsum(counted.reshape(n_features, BINS), axis=1)

    def between(
        self, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], position: int
    ) -> float:
        """The middle of the gap between two sets of rows that one column parts."""
        first = int(self.codes[low, position].max()) - position * BINS
        last = int(self.codes[high, position].min()) - position * BINS - 1
        thresholds = self.thresholds[position]
        return float((thresholds[first] + thresholds[last]) / 2)


def grow(grid: Grid, members: Mask, weights: Vector, max_depth: int) -> list[Node]:
    """All nodes of the tree that tells ``members`` from the rest, the root first.

    Parameters
    ----------
    grid : Grid
    members : ndarray of bool of shape (n_rows,)
    weights : ndarray of shape (n_rows,)
        What each row counts.
    max_depth : int
    """
    inside = np.where(members, weights, 0.0)
    rows = np.arange(len(members))
    root = Node((), float(weights.sum()), float(inside.sum()))
    nodes, level = [root], [(root, rows)]
    for _ in range(max_depth):
        children: list[tuple[Node, npt.NDArray[np.int64]]] = []
        for node, rows in level:
            found = _best_split(grid, rows, weights, inside)
            if found is None:
                continue
            position, cut = found
            low = grid.codes[rows, position] <= position * BINS + cut
            threshold = grid.between(rows[low], rows[~low], position)
            for above, part in ((False, rows[low]), (True, rows[~low])):
                path = (*node.path, Split(position, threshold, above))
                child = Node(path, float(weights[part].sum()), float(inside[part].sum()))
                children.append((child, part))
        nodes += [node for node, _ in children]
        level = children
    return nodes


def _best_split(
    grid: Grid, rows: npt.NDArray[np.int64], weights: Vector, inside: Vector
) -> tuple[int, int] | None:
    """The column and the threshold's number that leave the least impurity; None where pure."""
    low, low_in = grid.totals(rows, weights), grid.totals(rows, inside)
    all_rows, all_in = low[0, -1], low_in[0, -1]
    if not 0 < all_in < all_rows * (1 - 1e-12):
        return None
    high, high_in = all_rows - low, all_in - low_in
    possible = (low > all_rows * 1e-12) & (high > all_rows * 1e-12)
    if not possible.any():
        return None
    # The impurity of a side is 2 p (1 - p) by its weight; its part that a split changes:
    purity = np.full(low.shape, -np.inf)
    for side, part in ((low, low_in), (high, high_in)):
        safe = np.where(possible, side, 1.0)
        term = (part**2 + (side - part) ** 2) / safe
        purity = np.where(possible, np.where(np.isinf(purity), 0, purity) + term, -np.inf)
    best = int(purity.argmax())
    before = (all_in**2 + (all_rows - all_in) ** 2) / all_rows
    if purity.flat[best] <= before * (1 + 1e-12):
        return None
    return best // BINS, best % BINS


def _thresholds(column: Vector) -> Vector:
    """Midpoints between neighbouring values; of many values, at the column's quantiles."""
    ordered = np.sort(column)
    values = _distinct(ordered)
    if len(values) <= BINS:
        return np.asarray((values[:-1] + values[1:]) / 2)
    at = np.linspace(0, len(ordered) - 1, BINS + 1)[1:-1].astype(np.int64)
    below = _distinct(np.searchsorted(values, ordered[at]))
    below = below[below < len(values) - 1]
    return np.asarray((values[below] + values[below + 1]) / 2)


def _distinct(ordered: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Each value once. NumPy's function sorts them again, and loads masked arrays first."""
    return np.asarray(ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])])


def best_node(nodes: Sequence[Node], tolerance: float = 0.005) -> Node | None:
    """The node with the best F1, or a shorter way that is nearly as good; None for the root."""
    members = nodes[0].members
    scored = [(2 * node.members / (node.rows + members), node) for node in nodes[1:]]
    if not scored:
        return None
    best = max(score for score, _ in scored)
    good = [(len(node.path), -score, n) for n, (score, node) in enumerate(scored)
            if score >= best - tolerance]  # fmt: skip
    return scored[min(good)[2]][1]
