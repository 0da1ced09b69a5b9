"""The nearest centroid of every row: one function for fitting, scoring and predicting."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import fsum

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import CHUNK, Empty, label_counts, map_chunks
from sqlkmeans.clustering.arrays.threads import one_library_thread
from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector
from sqlkmeans.clustering.kmeans.kernels import numpy_kernel
from sqlkmeans.clustering.kmeans.kernels.kernel import kernel
from sqlkmeans.clustering.kmeans.kernels.numpy_kernel import squared_differences


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
        weights = self.sample_weight

        def add(start: int, stop: int) -> float:
            return float((self.squared_distances[start:stop] * weights[start:stop]).sum())

        return fsum(map_chunks(len(weights), add))

    @property
    def mean_distance(self) -> float:
        """Of all rows, whatever their weights."""

        def add(start: int, stop: int) -> float:
            return float(np.sqrt(self.squared_distances[start:stop]).sum())

        return fsum(map_chunks(len(self.labels), add)) / max(1, len(self.labels))

    def distances(self, empty: Empty = np.empty) -> Vector:
        """Each row's distance to its centroid, in an array that ``empty`` makes."""
        distances = empty((len(self.labels),), np.float64)

        def take_root(start: int, stop: int) -> None:
            np.sqrt(self.squared_distances[start:stop], out=distances[start:stop])

        map_chunks(len(distances), take_root)
        return distances

    def sizes(self, k: int) -> npt.NDArray[np.int64]:
        """Rows a centroid, of shape (k,), whatever their weights."""
        return label_counts(self.labels, k)


def squared_distances(points: npt.ArrayLike, centroids: Matrix) -> Matrix:
    """All squared distances, of shape (n_rows, k).

    Differences are squared one feature at a time and added in feature order, as the scoring
    SQL does: the expanded form ``|x|^2 - 2xc + |c|^2`` is faster but loses digits far from
    the origin.
    """
    columns = np.ascontiguousarray(np.asarray(points, dtype=np.float64).T)
    return squared_differences(columns, centroids).T


def assign(
    matrix: Matrix,
    centroids: Matrix,
    sample_weight: Vector | None = None,
    empty: Empty = np.empty,
) -> Assignment:
    """Label every row with its nearest centroid.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows.
    centroids : ndarray of shape (k, n_features)
        In the same scaled space.
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        Kept for the inertia; labels do not depend on it.
    empty : callable, default=numpy.empty
        Makes the arrays of the result.
    """
    labels = empty((len(matrix),), np.int32)
    nearest = empty((len(matrix),), np.float64)
    loops = kernel(*matrix.shape)

    def label(start: int, stop: int) -> None:
        loops.label_rows(matrix, start, stop, centroids, labels[start:stop], nearest[start:stop])

    by_blas = loops is numpy_kernel and len(matrix) > CHUNK
    with one_library_thread() if by_blas else nullcontext():
        map_chunks(len(matrix), label)
    return Assignment(labels, nearest, sample_weight)


def settle_ties(
    matrix: Matrix, centroids: Matrix, assignment: Assignment, segment_ids: Sequence[int]
) -> None:
    """Label the rows again, where they are: a tie goes to the lowest segment id.

    The scoring SQL and a stored model, whose centroids are in that order, do the same.

    Parameters
    ----------
    matrix, centroids
        What the rows have been labelled by, as in :func:`assign`.
    assignment : Assignment
        Overwritten.
    segment_ids : sequence of int of length k
        Of the centroids, in their order.
    """
    order = np.argsort(segment_ids).astype(np.int32)
    by_id, loops = np.ascontiguousarray(centroids[order]), kernel(*matrix.shape)
    labels, nearest = assignment.labels, assignment.squared_distances

    def label(start: int, stop: int) -> None:
        loops.label_rows(matrix, start, stop, by_id, labels[start:stop], nearest[start:stop])
        labels[start:stop] = order[labels[start:stop]]

    map_chunks(len(matrix), label)


def inertia_of(matrix: Matrix, centroids: Matrix, sample_weight: Vector | None = None) -> float:
    """The inertia of :func:`assign`, without keeping a label or a distance of any row.

    Parameters and result are those of ``assign(...).inertia``, up to rounding.
    """

    loops = kernel(*matrix.shape)

    def add(start: int, stop: int) -> float:
        labels, nearest = np.empty(stop - start, np.int32), np.empty(stop - start)
        loops.label_rows(matrix, start, stop, centroids, labels, nearest)
        return float(
            (nearest if sample_weight is None else nearest * sample_weight[start:stop]).sum()
        )

    return fsum(map_chunks(len(matrix), add))
