"""The loops over all rows as machine code; see :mod:`sqlkmeans.clustering.kmeans.kernels.kernel`.

Each is compiled for a number of features and a type when it is first needed (about a second), and
kept on disk.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector
from sqlkmeans.clustering.kmeans.kernels import machine_code
from sqlkmeans.clustering.kmeans.kernels.arguments import ARGUMENTS, TILE

#: The types of arguments: a whole number, a number, and arrays of numbers, labels and rows. What is
#: "C" is an array of the columns' type.
_KINDS: dict[str, Any] = {
    "i": ctypes.c_int64, "f": ctypes.c_double,
    "N": np.dtype(np.float64), "L": np.dtype(np.int32), "R": np.dtype(np.int64),
}  # fmt: skip

_loading = Lock()


def label_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    centroids: Matrix,
    labels: Labels,
    squared_distances: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    columns = _Columns(matrix, start, stop)
    columns.call(
        "label_rows", *columns.centroids(centroids), columns.all_of(labels),
        columns.all_of(squared_distances), columns.tile(),
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
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    columns = _Columns(matrix, start, stop)
    columns.call(
        "add_rows", *columns.weights(sample_weight), *columns.centroids(centroids),
        columns.part_of(labels), columns.part_of(margins), sums, counts,
        np.empty(TILE, matrix.dtype), np.empty(TILE, matrix.dtype), columns.tile(),
        np.empty(TILE), np.empty(TILE),
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
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    columns = _Columns(matrix, start, stop)
    columns.call(
        "move_rows", *columns.weights(sample_weight), *columns.centroids(centroids),
        float(travelled), columns.part_of(labels), columns.part_of(margins), *gained, *lost,
        columns.tile(), np.empty(TILE), np.empty(TILE), np.empty(TILE),
        np.empty(TILE, np.int32), np.empty(TILE, np.int64),
    )  # fmt: skip


def measure_rows(
    matrix: Matrix,
    start: int,
    stop: int,
    centroids: Matrix,
    labels: Labels,
    squared_distances: Vector,
) -> None:
    """See :class:`sqlkmeans.clustering.kmeans.kernels.kernel.Kernel`."""
    columns = _Columns(matrix, start, stop)
    columns.call(
        "measure_rows", *columns.centroids(centroids), columns.part_of(labels),
        columns.part_of(squared_distances),
    )  # fmt: skip


def try_it() -> None:
    """Compile or load the smallest loop. What it raises may be anything that numba raises."""
    matrix, labels, squared_distances = np.ones((2, 1)), np.zeros(2, np.int32), np.empty(2)
    measure_rows(matrix, 0, 2, np.full((1, 1), 3.0), labels, squared_distances)
    if squared_distances.tolist() != [4.0, 4.0]:
        raise RuntimeError("compiled loops compute something else")


def get_ready(n_features: int, dtype: str) -> None:
    """Load the loop that a fit of such a matrix calls first."""
    _loop("add_rows", n_features, dtype)


class _Columns:
    """Some rows of a matrix, by its columns: each in one piece, all as far apart."""

    def __init__(self, matrix: Matrix, start: int, stop: int) -> None:
        columns, self._first = matrix.T, start
        size = columns.itemsize
        if columns.strides[1] != size or columns.strides[0] % size or columns.strides[0] < 0:
            columns, self._first = np.ascontiguousarray(matrix[start:stop].T), 0
        self._columns = columns
        self._start, self._stop = start, stop

    def call(self, name: str, *arguments: Any) -> None:
        """Call a loop with these rows; arrays are passed as pointers."""
        columns = self._columns
        loop = _loop(name, len(columns), columns.dtype.name)
        unused = ctypes.c_int64()  # numba's functions write what they return, which is nothing
        place = (columns.strides[0] // columns.itemsize, self._first, self._stop - self._start)
        loop(
            ctypes.addressof(unused), ctypes.addressof(unused), columns.ctypes.data,
            *map(_passed, _kinds(name, columns.dtype), (*place, *arguments)),
        )  # fmt: skip

    def weights(self, sample_weight: Vector | None) -> tuple[Vector | None, int]:
        """The weights of the rows, and whether there are any."""
        if sample_weight is None:
            return None, 0
        return np.ascontiguousarray(self.part_of(sample_weight), np.float64), 1

    def part_of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What an array that has all rows has of these."""
        return self.all_of(values[self._start : self._stop])

    def all_of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array that has these rows. Compiled code would write beyond its end."""
        if len(values) != self._stop - self._start:
            raise ValueError(f"{self._stop - self._start} rows, and {len(values)} values of them")
        return values

    def centroids(self, centroids: Matrix) -> tuple[Matrix, int]:
        """Centroids, and how many they are."""
        if centroids.shape[1] != len(self._columns):
            raise ValueError(f"{len(self._columns)} features, and centroids of {centroids.shape}")
        return np.ascontiguousarray(centroids, np.float64), len(centroids)

    def tile(self) -> Matrix:
        """Room for the values of a tile."""
        return np.empty((len(self._columns), TILE))


def _kinds(name: str, dtype: Any) -> list[Any]:
    kinds = _KINDS | {"C": np.dtype(dtype)}
    return [kinds[kind] for kind in ARGUMENTS[name] if kind != " "]


def _passed(kind: Any, argument: Any) -> Any:
    """An argument as ctypes takes it; compiled code believes what it is given."""
    if not isinstance(kind, np.dtype) or argument is None:
        return argument
    if argument.dtype != kind or not argument.flags.c_contiguous:
        raise TypeError(f"{argument.dtype} given; allowed: {kind}, in one piece")
    return argument.ctypes.data


def _loop(name: str, n_features: int, dtype: str) -> Callable[..., int]:
    with _loading:  # threads want it at the same moment, and it is compiled once
        return _loaded(name, n_features, dtype)


@cache
def _loaded(name: str, n_features: int, dtype: str) -> Callable[..., int]:
    def compile_it() -> tuple[str, bytes]:
        from sqlkmeans.clustering.kmeans.kernels.loops import compile_loop

        return compile_loop(name, n_features, dtype)

    address = machine_code.load(f"{name}-{n_features}-{dtype}", compile_it)
    pointer = ctypes.c_void_p
    kinds = [pointer if isinstance(kind, np.dtype) else kind for kind in _kinds(name, dtype)]
    # Called so, it lets go of the interpreter.
    return ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, pointer, *kinds)(address)
