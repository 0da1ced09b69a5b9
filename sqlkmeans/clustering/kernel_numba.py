"""The loops over all rows, compiled by numba; see :mod:`sqlkmeans.clustering.kernel`.

A tile of rows, whose columns stay in the processor's first cache, has the distances of several
rows computed at once. Compiled for each number of features when first
needed (a second or two) and kept on disk; the number of centroids is known at run time only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float64]
Features = tuple[int, ...]
Function = TypeVar("Function", bound=Callable[..., Any])

TILE = 128
EPS = float(np.finfo(np.float64).eps)


def _compiled(function: Function) -> Function:
    """Compile when first called; without fast-math, which would add in another order."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: Function = numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to keep it: a read-only install without a home directory
        compiled = numba.njit(function, **options)
    return compiled


def label_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    centroids: Matrix,
    labels: Labels,
    squared_distances: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kernel.Kernel`."""
    columns, first, direct = _columns(matrix, start, stop)
    _label_rows(
        columns, first, direct, centroids, labels, squared_distances, _features(matrix)
    )  # fmt: skip


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
    """See :class:`sqlkmeans.clustering.kernel.Kernel`."""
    columns, first, direct = _columns(matrix, start, stop)
    weight = None if sample_weight is None else sample_weight[start:stop]
    _add_rows(
        columns, first, direct, weight, centroids, labels[start:stop], margins[start:stop], sums,
        counts, _features(matrix),
    )  # fmt: skip


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
    """See :class:`sqlkmeans.clustering.kernel.Kernel`."""
    columns, first, _ = _columns(matrix, start, stop)
    weight = None if sample_weight is None else sample_weight[start:stop]
    _move_rows(
        columns, first, weight, centroids, travelled, labels[start:stop], margins[start:stop],
        *gained, *lost, _features(matrix),
    )  # fmt: skip


def measure_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    centroids: Matrix,
    labels: Labels,
    squared_distances: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kernel.Kernel`."""
    columns, first, _ = _columns(matrix, start, stop)
    _measure_rows(
        columns, first, centroids, labels[start:stop], squared_distances[start:stop],
        _features(matrix),
    )  # fmt: skip


def _columns(matrix: Matrix, start: int, stop: int) -> tuple[Matrix, int, bool]:
    """Columns that hold the rows, each in one piece; where in them the first row is; and whether
    they need no tile: float32 is turned into float64 there once, and not for each centroid.

    Indices are unsigned where it counts: for those that could be negative, numba looks whether they
    are, and the compiler then computes one row at a time.
    """
    columns, first = matrix.T, start
    if not columns.flags.c_contiguous:
        columns, first = np.ascontiguousarray(matrix[start:stop].T), 0
    return columns, first, columns.dtype == np.float64


def _features(matrix: Matrix) -> Features:
    """A tuple, because its length is a part of its type: the compiler unrolls loops over it."""
    return (0,) * int(matrix.shape[1])


@_compiled
def _fill(tile: Matrix, columns: Matrix, first: int, n_rows: int, features: Features) -> None:
    for f in range(len(features)):
        for i in range(n_rows):
            tile[f, i] = columns[f, np.uintp(first + i)]


@_compiled
def _nearest(
    columns: Matrix, first: int, n_rows: int, centroids: Matrix, labels: Labels, closest: Vector,
    features: Features,
) -> None:  # fmt: skip
    labels[:n_rows] = 0
    closest[:n_rows] = np.inf
    for j in range(len(centroids)):
        for i in range(n_rows):
            total = 0.0
            for f in range(len(features)):
                difference = columns[f, np.uintp(first + i)] - centroids[j, f]
                total += difference * difference
            if total < closest[i]:
                closest[i] = total
                labels[i] = j


@_compiled
def _label_rows(
    columns: Matrix, first: int, direct: bool, centroids: Matrix, labels: Labels,
    closest: Vector, features: Features,
) -> None:  # fmt: skip
    tile = np.empty((len(features), TILE))
    for start in range(0, len(labels), TILE):
        stop = min(start + TILE, len(labels))
        n_rows = stop - start
        if direct:
            _nearest(
                columns, first + start, n_rows, centroids, labels[start:stop],
                closest[start:stop], features,
            )  # fmt: skip
        else:
            _fill(tile, columns, first + start, n_rows, features)
            _nearest(
                tile, 0, n_rows, centroids, labels[start:stop], closest[start:stop], features
            )  # fmt: skip


@_compiled
def _margins(
    columns: Matrix, first: int, n_rows: int, centroids: Matrix, labels: Labels, closest: Vector,
    second: Vector, features: Features,
) -> None:  # fmt: skip
    """As _nearest, and in ``second`` how much farther the second nearest is, at least."""
    labels[:n_rows] = 0
    closest[:n_rows] = np.inf
    second[:n_rows] = np.inf
    for j in range(len(centroids)):
        for i in range(n_rows):
            total = 0.0
            for f in range(len(features)):
                difference = columns[f, np.uintp(first + i)] - centroids[j, f]
                total += difference * difference
            second[i] = min(second[i], max(total, closest[i]))
            if total < closest[i]:
                closest[i] = total
                labels[i] = j
    error = 8 * (len(features) + 4) * EPS
    for i in range(n_rows):
        margin = np.sqrt(second[i]) * (1 - error) - np.sqrt(closest[i]) * (1 + error)
        second[i] = margin if np.isfinite(margin) else 0.0


@_compiled
def _add(
    columns: Matrix, row: int, weight: float, j: int, sums: Matrix, counts: Vector,
    features: Features,
) -> None:  # fmt: skip
    counts[j] += weight
    for f in range(len(features)):
        sums[j, f] += weight * columns[f, np.uintp(row)]


@_compiled
def _add_rows(
    columns: Matrix, first: int, direct: bool, sample_weight: Vector | None, centroids: Matrix,
    labels: Labels, margins: Vector, sums: Matrix, counts: Vector, features: Features,
) -> None:  # fmt: skip
    tile = np.empty((len(features), TILE))
    closest = np.empty(TILE)
    for start in range(0, len(labels), TILE):
        stop = min(start + TILE, len(labels))
        n_rows = stop - start
        if direct:
            _margins(
                columns, first + start, n_rows, centroids, labels[start:stop], closest,
                margins[start:stop], features,
            )  # fmt: skip
        else:
            _fill(tile, columns, first + start, n_rows, features)
            _margins(
                tile, 0, n_rows, centroids, labels[start:stop], closest, margins[start:stop],
                features,
            )  # fmt: skip
        for i in range(n_rows):
            weight = 1.0 if sample_weight is None else sample_weight[start + i]
            _add(columns, first + start + i, weight, labels[start + i], sums, counts, features)


@_compiled
def _move_rows(
    columns: Matrix, first: int, sample_weight: Vector | None, centroids: Matrix,
    travelled: float, labels: Labels, margins: Vector, gained: Matrix, gained_counts: Vector,
    lost: Matrix, lost_counts: Vector, features: Features,
) -> None:  # fmt: skip
    tile = np.empty((len(features), TILE))
    rows = np.empty(TILE, np.int64)
    found = np.empty(TILE, np.int32)
    closest = np.empty(TILE)
    second = np.empty(TILE)
    n_rows = 0
    for row in range(len(labels)):
        # Not "<=": what is not a number tells nothing either.
        if not margins[row] > travelled:
            rows[n_rows] = row
            for f in range(len(features)):
                tile[f, n_rows] = columns[f, np.uintp(first + row)]
            n_rows += 1
        if n_rows == TILE or (row == len(labels) - 1 and n_rows):
            _margins(tile, 0, n_rows, centroids, found, closest, second, features)
            for i in range(n_rows):
                margins[rows[i]] = second[i] + travelled
                before = labels[rows[i]]
                if found[i] != before:
                    labels[rows[i]] = found[i]
                    weight = 1.0 if sample_weight is None else sample_weight[rows[i]]
                    _add(tile, i, weight, found[i], gained, gained_counts, features)
                    _add(tile, i, weight, before, lost, lost_counts, features)
            n_rows = 0


@_compiled
def _measure_rows(
    columns: Matrix, first: int, centroids: Matrix, labels: Labels, total: Vector,
    features: Features,
) -> None:  # fmt: skip
    for row in range(len(labels)):
        distance = 0.0
        for f in range(len(features)):
            difference = columns[f, np.uintp(first + row)] - centroids[labels[row], f]
            distance += difference * difference
        total[row] = distance
