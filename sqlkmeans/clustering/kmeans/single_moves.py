"""Moves of single rows from one cluster to another, each of which lowers the inertia.

A row takes its centroid along: the cluster that it leaves gets tighter by more than its distance
says, and the one that it joins grows by less. So where no row is nearer to another centroid there
can still be rows whose move pays (Hartigan & Wong, 1979; Telgarsky & Vattani, 2010, "Hartigan's
method: k-means clustering without Voronoi"). Where none is left, every row is with its nearest
centroid too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Labels, Matrix, RowNumbers, Vector
from sqlkmeans.clustering.kmeans.kernels.numpy_kernel import squared_differences

# A move has to lower the inertia of its two clusters by more than rounding can: by this share of
# what the row adds to the one that it leaves.
GAIN = 1e-10
# Rows are looked at again while others move if they would move if they added so much more.
NEARLY = 1.01
# A row that has all of its cluster's weight but for this share is that cluster, and stays.
ALL = 1e-9
# Distances that are looked at in one go.
BLOCK = 2_000_000


def reach(weight: float, counts: Vector) -> float:
    """How much farther than its own centroid, as a share of that distance, another may be for the
    move of a row of so much weight, or less, to pay; at most.

    Parameters
    ----------
    weight : float
    counts : ndarray of shape (k,)
        The weight of each cluster; k is 2 or more.
    """
    least = counts.min()
    left = max(least - weight, ALL * least)
    return float(np.sqrt(least / left * (1 + weight / least)) - 1)


def may_pay(
    rows: Matrix, weights: Vector | None, labels: Labels, centroids: Matrix, counts: Vector
) -> npt.NDArray[np.bool_]:
    """Which rows' moves lower the inertia, or would all but do so.

    Parameters are those of :func:`move_single_rows`, with the centroids in place of the sums.
    """
    paying, weights = np.zeros(len(rows), dtype=bool), _weights(rows, weights)
    size = max(1, BLOCK // len(centroids))
    for start in range(0, len(rows), size):
        some = slice(start, start + size)
        columns = np.ascontiguousarray(rows[some].T, dtype=np.float64)
        distances = squared_differences(columns, centroids)
        _, saved = _best_moves(distances, weights[some], labels[some], counts, NEARLY)
        paying[some] = saved > 0
    return paying


def move_single_rows(
    rows: Matrix, weights: Vector | None, labels: Labels, sums: Matrix, counts: Vector
) -> int:
    """Move the row whose move lowers the inertia most, and so on while any does.

    Parameters
    ----------
    rows : ndarray of float64 of shape (n_rows, n_features)
        Those that may move.
    weights : ndarray of shape (n_rows,) or None
    labels : ndarray of int32 of shape (n_rows,)
        Overwritten.
    sums : ndarray of shape (k, n_features)
        Of all rows of each cluster, by their weights; overwritten.
    counts : ndarray of shape (k,)
        The weight of each cluster, none of them 0; overwritten.

    Returns
    -------
    int
        How many moves there were.
    """
    if not len(rows):
        return 0
    columns, weights = np.ascontiguousarray(rows.T, dtype=np.float64), _weights(rows, weights)
    distances = squared_differences(columns, sums / counts[:, None])
    moves = 0
    # Each lowers the inertia, so they end; the bound is for rounding, far from the origin.
    while moves < 10 * len(rows) + 100:
        targets, saved = _best_moves(distances, weights, labels, counts, 1 - GAIN)
        row = int(saved.argmax())
        if not saved[row] > 0:
            break
        both = np.array([labels[row], targets[row]])
        amount = np.array([-weights[row], weights[row]])
        sums[both] += amount[:, None] * columns[:, row]
        counts[both] += amount
        labels[row] = targets[row]
        distances[both] = squared_differences(columns, sums[both] / counts[both, None])
        moves += 1
    return moves


def _weights(rows: Matrix, weights: Vector | None) -> Vector:
    return np.ones(len(rows)) if weights is None else weights


def _best_moves(
    distances: Matrix, weights: Vector, labels: Labels, counts: Vector, share: float
) -> tuple[RowNumbers, Vector]:
    """Where each row would best go, and what of a share of its part of the inertia that saves."""
    everyone = np.arange(len(labels))
    costs = distances * (counts[:, None] * weights / (counts[:, None] + weights))
    own = counts[labels]
    left = own - weights
    stays = left <= ALL * own
    gains = distances[labels, everyone] * own * weights / np.where(stays, 1.0, left)
    costs[labels, everyone] = np.inf
    targets: RowNumbers = costs.argmin(axis=0)
    saved = share * np.where(stays, 0.0, gains) - costs[targets, everyone]
    return targets, saved
