"""The loops over all rows in NumPy; see :mod:`sqlkmeans.clustering.kmeans.kernels.kernel`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector

Indices = npt.NDArray[np.int64]

#: So many distances are few to one step of NumPy's.
TOGETHER = 16_000


def label_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    centroids: Matrix,
    labels: Labels,
    squared_distances: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    columns = _columns(matrix, start, stop)
    found = _nearest(columns, centroids)
    labels[:] = found
    _measure(columns, centroids, found, squared_distances)


def add_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    sample_weight: Vector | None,
    centroids: Matrix,
    labels: Labels,
    margins: Vector,
    sums: Matrix,
    counts: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    columns = _columns(matrix, start, stop)
    found = _nearest(columns, centroids, margins[start:stop])
    labels[start:stop] = found
    weight = None if sample_weight is None else sample_weight[start:stop]
    _add(columns, weight, found, sums, counts)


def move_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    sample_weight: Vector | None,
    centroids: Matrix,
    travelled: float,
    labels: Labels,
    margins: Vector,
    gained: tuple[Matrix, Vector],
    lost: tuple[Matrix, Vector],
) -> None:
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    # Not "<=": what is not a number tells nothing either.
    rows = np.flatnonzero(~(margins[start:stop] > travelled))
    if not len(rows):
        return
    rows += start
    columns = np.ascontiguousarray(matrix.T[:, rows], dtype=np.float64)
    margin = np.empty(len(rows))
    found = _nearest(columns, centroids, margin)
    margin += travelled
    margins[rows] = margin
    before = labels[rows]
    changed = np.flatnonzero(found != before)
    rows, found, before = rows[changed], found[changed], before[changed]
    labels[rows] = found
    columns = columns[:, changed]
    weight = None if sample_weight is None else sample_weight[rows]
    _add(columns, weight, found, *gained)
    _add(columns, weight, before, *lost)


def measure_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    centroids: Matrix,
    labels: Labels,
    squared_distances: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    _measure(
        _columns(matrix, start, stop), centroids, labels[start:stop],
        squared_distances[start:stop],
    )  # fmt: skip


def _measure(columns: Matrix, centroids: Matrix, labels: npt.NDArray[Any], total: Vector) -> None:
    """Squared distances to the rows' own centroids, the squares added in feature order."""
    total[:] = 0
    for column, values in zip(columns, centroids.T):
        difference = column - values[labels]
        difference *= difference
        total += difference


def _add(
    columns: Matrix, weight: Vector | None, labels: npt.NDArray[Any], sums: Matrix, counts: Vector
) -> None:
    """Add rows, one after the other, to the sums and counts of their labels."""
    k = len(counts)
    counts += np.bincount(labels, weights=weight, minlength=k)
    for position, column in enumerate(columns):
        values = column if weight is None else weight * column
        sums[:, position] += np.bincount(labels, weights=values, minlength=k)


def _columns(matrix: Matrix, start: int, stop: int) -> Matrix:
    columns = matrix[start:stop].T
    if columns.dtype == np.float64 and columns.strides[1] == columns.itemsize:
        return columns  # each is in one piece as it is
    return np.ascontiguousarray(columns, dtype=np.float64)


def _nearest(columns: Matrix, centroids: Matrix, margins: Vector | None = None) -> Indices:
    """The nearest centroid of each row by squared differences, the first of equals.

    Where ``margins`` is given, it is filled with how much farther the second nearest is, at least.
    """
    found = np.empty(columns.shape[1], dtype=np.int64)
    # In all blocks the same; the median, so that one centroid very far away does not cost the
    # others their digits.
    origin = np.sort(centroids, axis=0)[(len(centroids) - 1) // 2]
    step = _block_rows(len(centroids))
    for start in range(0, len(found), step):
        rows = slice(start, start + step)
        margin = None if margins is None else margins[rows]
        found[rows] = _nearest_in_block(columns[:, rows], centroids, origin, margin)
    return found


def _nearest_in_block(
    columns: Matrix, centroids: Matrix, origin: Vector, margin: Vector | None
) -> Indices:
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
    norms = np.einsum("ij,ij->j", relative, relative)
    smallest += error * (norms + np.abs(smallest))
    smallest += np.finfo(np.float64).tiny
    near = distances <= smallest
    numbered = near * np.arange(len(near), dtype=np.int32)[:, None]
    found: Indices = numbered.sum(axis=0, dtype=np.int32).astype(np.int64)
    doubtful = np.flatnonzero(near.sum(axis=0, dtype=np.int32) != 1)
    if len(doubtful):
        found[doubtful] = squared_differences(columns[:, doubtful], centroids).argmin(axis=0)
    if margin is not None:
        np.putmask(distances, near, np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            second = distances.min(axis=0)
            second -= error * (norms + np.abs(second))
            np.maximum(second + norms, 0, out=second)
            np.subtract(np.sqrt(second), np.sqrt(smallest + norms), out=margin)
        # A doubtful row's next centroid was taken out, and too large a number tells nothing.
        margin[doubtful] = 0
        np.putmask(margin, ~np.isfinite(margin), 0)
    return found


def squared_differences(columns: Matrix, centroids: Matrix) -> Matrix:
    """Squared distances of shape (k, n_rows), the squares added in feature order."""
    result = np.zeros((len(centroids), columns.shape[1]))
    # Of few rows, those to many centroids at once: a step of NumPy's costs more than they do.
    step = 1 + TOGETHER // max(1, columns.shape[1])
    difference = np.empty_like(result[:step])
    for start in range(0, len(centroids), step):
        some = slice(start, start + step)
        total = result[some]
        squares = difference[: len(total)]
        for column, values in zip(columns, centroids[some].T):
            np.subtract(column, values[:, None], out=squares)
            np.multiply(squares, squares, out=squares)
            total += squares
    return result


def _block_rows(k: int) -> int:
    """Rows at a time: their distances to k centroids stay in the processor's cache, and are enough
    that threads do more than hand the interpreter to each other."""
    return max(512, min(32768, 163840 // k))
