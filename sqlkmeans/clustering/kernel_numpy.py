"""The loops over all rows in NumPy; see :mod:`sqlkmeans.clustering.kernel`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float64]


def label_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    centroids: Matrix,
    labels: Labels,
    squared_distances: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kernel.Kernel`."""
    columns = _columns(matrix, start, stop)
    found = _nearest(columns, centroids)
    labels[start:stop] = found
    total = squared_distances[start:stop]
    total[:] = 0
    for column, values in zip(columns, centroids.T):
        difference = column - values[found]
        difference *= difference
        total += difference


def add_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    sample_weight: Vector | None,
    centroids: Matrix,
    sums: Matrix,
    counts: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kernel.Kernel`."""
    columns, k = _columns(matrix, start, stop), len(centroids)
    found = _nearest(columns, centroids)
    weight = None if sample_weight is None else sample_weight[start:stop]
    counts += np.bincount(found, weights=weight, minlength=k)
    for position, column in enumerate(columns):
        values = column if weight is None else weight * column
        sums[:, position] += np.bincount(found, weights=values, minlength=k)


def _columns(matrix: Matrix, start: int, stop: int) -> Matrix:
    return np.ascontiguousarray(matrix[start:stop].T, dtype=np.float64)


def _nearest(columns: Matrix, centroids: Matrix) -> Indices:
    """The nearest centroid of each row by squared differences, the first of equals."""
    found = np.empty(columns.shape[1], dtype=np.int64)
    # In all blocks the same; the median, so that one centroid very far away does not cost the
    # others their digits.
    origin = np.sort(centroids, axis=0)[(len(centroids) - 1) // 2]
    step = _block_rows(len(centroids))
    for start in range(0, len(found), step):
        rows = slice(start, start + step)
        found[rows] = _nearest_in_block(columns[:, rows], centroids, origin)
    return found


def _nearest_in_block(columns: Matrix, centroids: Matrix, origin: Vector) -> Indices:
    """As a matrix product, and by differences only where its rounding could matter.

    ``|c|^2 - 2xc`` is the squared distance but for the row's own norm, and several times faster
    than differences. Where a second centroid is within the error that it can have (Higham, 2002,
    "Accuracy and stability of numerical algorithms", section 3.1), differences decide.
    """
    relative = columns - origin[:, None]
    shifted = centroids - origin
    distances = (-2 * shifted) @ relative
    distances += (shifted**2).sum(axis=1)[:, None]
    error = 64 * (len(columns) + 4) * np.finfo(np.float64).eps
    smallest = distances.min(axis=0)
    # A centroid that can be the nearest is about as far from the origin as the row, at most.
    slack = np.einsum("ij,ij->j", relative, relative)
    slack += np.abs(smallest)
    slack *= error
    smallest += slack
    smallest += np.finfo(np.float64).tiny
    near = distances <= smallest
    numbered = near * np.arange(len(near), dtype=np.int32)[:, None]
    found: Indices = numbered.sum(axis=0, dtype=np.int32).astype(np.int64)
    doubtful = np.flatnonzero(near.sum(axis=0, dtype=np.int32) != 1)
    if len(doubtful):
        found[doubtful] = squared_differences(columns[:, doubtful], centroids).argmin(axis=0)
    return found


def squared_differences(columns: Matrix, centroids: Matrix) -> Matrix:
    """Squared distances of shape (k, n_rows), the squares added in feature order."""
    result = np.empty((len(centroids), columns.shape[1]))
    difference = np.empty(columns.shape[1])
    for total, centroid in zip(result, centroids):
        total[:] = 0
        for column, value in zip(columns, centroid):
            np.subtract(column, value, out=difference)
            np.multiply(difference, difference, out=difference)
            total += difference
    return result


def _block_rows(k: int) -> int:
    """Rows whose distances to k centroids fit into the processor's cache."""
    return max(512, min(16384, 81920 // k))
