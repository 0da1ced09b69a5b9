"""The loops over all rows, compiled by numba; see :mod:`sqlkmeans.clustering.kernel`.

A tile of rows is turned into columns that stay in the processor's first cache; there the
distances of several rows are computed at once. Compiled for each number of features when first
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
    _label_rows(
        matrix, start, stop, centroids, labels, squared_distances, _features(matrix)
    )  # fmt: skip


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
    _add_rows(
        matrix, start, stop, sample_weight, centroids, sums, counts, _features(matrix)
    )  # fmt: skip


def _features(matrix: Matrix) -> Features:
    """A tuple, because its length is a part of its type: the compiler unrolls loops over it."""
    return (0,) * int(matrix.shape[1])


@_compiled
def _fill(tile: Matrix, matrix: Matrix, start: int, n_rows: int, features: Features) -> None:
    for f in range(len(features)):
        for i in range(n_rows):
            tile[f, i] = matrix[start + i, f]


@_compiled
def _nearest(
    tile: Matrix, n_rows: int, centroids: Matrix, labels: Labels, closest: Vector,
    features: Features,
) -> None:  # fmt: skip
    labels[:n_rows] = 0
    closest[:n_rows] = np.inf
    for j in range(len(centroids)):
        for i in range(n_rows):
            total = 0.0
            for f in range(len(features)):
                difference = tile[f, i] - centroids[j, f]
                total += difference * difference
            if total < closest[i]:
                closest[i] = total
                labels[i] = j


@_compiled
def _label_rows(
    matrix: Matrix, start: int, stop: int, centroids: Matrix, labels: Labels, closest: Vector,
    features: Features,
) -> None:  # fmt: skip
    tile = np.empty((len(features), TILE))
    for first in range(start, stop, TILE):
        last = min(first + TILE, stop)
        _fill(tile, matrix, first, last - first, features)
        _nearest(
            tile, last - first, centroids, labels[first:last], closest[first:last], features
        )  # fmt: skip


@_compiled
def _add_rows(
    matrix: Matrix, start: int, stop: int, sample_weight: Vector | None, centroids: Matrix,
    sums: Matrix, counts: Vector, features: Features,
) -> None:  # fmt: skip
    tile = np.empty((len(features), TILE))
    labels = np.empty(TILE, np.int32)
    closest = np.empty(TILE)
    for first in range(start, stop, TILE):
        n_rows = min(TILE, stop - first)
        _fill(tile, matrix, first, n_rows, features)
        _nearest(tile, n_rows, centroids, labels, closest, features)
        for i in range(n_rows):
            j = labels[i]
            if sample_weight is None:
                counts[j] += 1.0
                for f in range(len(features)):
                    sums[j, f] += tile[f, i]
            else:
                weight = sample_weight[first + i]
                counts[j] += weight
                for f in range(len(features)):
                    sums[j, f] += weight * tile[f, i]
