"""The nearest centroid of every row: one function for fitting, scoring and predicting."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.threads import cores

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
T = TypeVar("T")

# Rows at a time: small enough that a block and its distances stay in the processor's cache.
BLOCK = 8192
# Fewer blocks are done sooner by one thread than several are started.
BLOCKS_WORTH_THREADS = 12


@dataclass(frozen=True)
class Assignment:
    """Rows labelled with their nearest centroid.

    Attributes
    ----------
    labels : ndarray of int32 of shape (n_rows,)
        Index of the nearest centroid; the lowest index on a tie.
    squared_distances : ndarray of float64 of shape (n_rows,)
        Squared Euclidean distance to it, in the scaled space.
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        How much each row counts in the inertia; by default 1.
    """

    labels: Labels
    squared_distances: npt.NDArray[np.float64]
    sample_weight: Vector | None = None

    @property
    def inertia(self) -> float:
        """Sum of the squared distances by their weights, accumulated in float64."""
        if self.sample_weight is None:
            return float(self.squared_distances.sum())
        return float((self.squared_distances * self.sample_weight).sum())

    def sizes(self, k: int) -> npt.NDArray[np.int64]:
        """Rows a centroid, of shape (k,), whatever their weights."""
        return np.bincount(self.labels, minlength=k)


def squared_distances(points: npt.ArrayLike, centroids: Matrix) -> Matrix:
    """All squared distances, of shape (n_rows, k).

    Differences are squared one feature at a time and added in feature order, as the scoring
    SQL does: the expanded form ``|x|^2 - 2xc + |c|^2`` is faster but loses digits far from
    the origin.
    """
    columns = np.ascontiguousarray(np.asarray(points, dtype=np.float64).T)
    n_rows = columns.shape[1]
    result = np.empty((len(centroids), n_rows))
    difference = np.empty(n_rows)
    for total, centroid in zip(result, centroids):
        total[:] = 0
        for column, value in zip(columns, centroid):
            np.subtract(column, value, out=difference)
            np.multiply(difference, difference, out=difference)
            total += difference
    return result.T


def assign(matrix: Matrix, centroids: Matrix, sample_weight: Vector | None = None) -> Assignment:
    """Label every row with its nearest centroid.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows.
    centroids : ndarray of shape (k, n_features)
        In the same scaled space.
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        Kept for the inertia; labels do not depend on it.
    """
    labels = np.empty(len(matrix), dtype=np.int32)
    nearest = np.empty(len(matrix))

    def label(rows: slice) -> None:
        distances = squared_distances(matrix[rows], centroids)
        labels[rows] = distances.argmin(axis=1)
        nearest[rows] = distances.min(axis=1)

    map_blocks(len(matrix), label)
    return Assignment(labels, nearest, sample_weight)


def map_blocks(n_rows: int, function: Callable[[slice], T], block: int = BLOCK) -> list[T]:
    """Call ``function`` for each block of rows, on all cores, and return the results in row order.

    The blocks do not depend on the number of threads, so neither does anything that is summed
    over the results.
    """
    blocks = [slice(start, min(start + block, n_rows)) for start in range(0, n_rows, block)]
    if cores() < 2 or len(blocks) < BLOCKS_WORTH_THREADS:
        return [function(rows) for rows in blocks]
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(function, blocks))
