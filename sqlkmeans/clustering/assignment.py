"""The nearest centroid of every row: one function for fitting, scoring and predicting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering import kernel_numpy
from sqlkmeans.clustering.kernel import kernel
from sqlkmeans.clustering.kernel_numpy import squared_differences
from sqlkmeans.clustering.threads import in_threads, one_library_thread

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
T = TypeVar("T")

# Rows at a time: few enough that all threads have work, many enough that starting one is nothing.
CHUNK = 65536


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
    return squared_differences(columns, centroids).T


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
    loops = kernel(matrix.size)

    def label(start: int, stop: int) -> None:
        loops.label_rows(matrix, start, stop, centroids, labels, nearest)

    by_blas = loops is kernel_numpy and len(matrix) > CHUNK
    with one_library_thread() if by_blas else nullcontext():
        map_chunks(len(matrix), label)
    return Assignment(labels, nearest, sample_weight)


def map_chunks(n_rows: int, function: Callable[[int, int], T], chunk: int = CHUNK) -> list[T]:
    """Call ``function(start, stop)`` for each chunk of rows, on all cores; results in row order.

    The chunks do not depend on the number of threads, so neither does anything that is summed
    over the results.
    """
    starts = range(0, n_rows, chunk)
    return in_threads(lambda start: function(start, min(start + chunk, n_rows)), starts)
