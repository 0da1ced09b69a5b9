"""The loops over all rows, for numba to compile; see :mod:`~sqlkmeans.clustering.kmeans.kernels`.

A tile of rows, whose columns stay in the processor's first cache, has the distances of several
rows computed at once. The number of features is a constant of the compiled code, which unrolls
loops over them; the number of centroids is known at run time only.

All arrays are pointers. So nothing here allocates memory, looks whether an index is negative, or
can raise: the compiled code needs nothing of numba, and is kept and loaded without it
(:mod:`sqlkmeans.clustering.kmeans.kernels.machine_code`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types

from sqlkmeans.clustering.kmeans.kernels.arguments import ARGUMENTS, TILE
from sqlkmeans.clustering.kmeans.kernels.machine_code import target_machine

# Without fast-math, which would add in another order.
_OPTIONS = {"error_model": "numpy"}
_KINDS = {
    "i": types.int64, "f": types.float64, "N": types.CPointer(types.float64),
    "L": types.CPointer(types.int32), "R": types.CPointer(types.int64),
}  # fmt: skip


def compile_loop(name: str, n_features: int, dtype: str) -> tuple[str, bytes]:
    """Machine code of one loop.

    Parameters
    ----------
    name : str
        A key of ``LOOPS``.
    n_features : int
    dtype : {"float64", "float32"}
        Of the matrix.

    Returns
    -------
    symbol : str
        The function's name in the object file. Before its own arguments it takes two pointers to
        memory that it may write to, as numba's calling convention has it.
    code : bytes
        An object file for this processor.

    Raises
    ------
    RuntimeError
        If this version of numba makes functions of another kind.
    """
    columns = types.CPointer(getattr(types, dtype))
    kinds = _KINDS | {"C": columns}
    signature = [columns, *(kinds[kind] for kind in ARGUMENTS[name] if kind != " ")]
    compiled = numba.cfunc(types.void(*signature), **_OPTIONS)(
        LOOPS[name](n_features, dtype == "float64")
    )
    module = llvm.parse_assembly(compiled.inspect_llvm())
    symbol = compiled.native_name.removeprefix("cfunc.")
    arguments = [argument.name for argument in module.get_function(symbol).arguments]
    if arguments[:2] != ["retptr", "excinfo"] or len(arguments) != 2 + len(signature):
        raise RuntimeError(f"numba {numba.__version__} makes functions of another kind")
    # What calls it from C would tell its errors, of which there are none, by way of numba: so that
    # is left out.
    module.get_function(compiled.native_name).linkage = "available_externally"
    return symbol, target_machine().emit_object(module)


def _inner(function: Callable[..., None]) -> Any:
    return numba.njit(function, **_OPTIONS)


def _filling(n_features: int) -> Any:
    @_inner
    def fill(columns, stride, first, n_rows, tile):
        for f in range(n_features):
            for i in range(n_rows):
                tile[f * TILE + i] = columns[f * stride + first + i]

    return fill


def _nearest(n_features: int) -> Any:
    @_inner
    def nearest(values, stride, first, n_rows, centroids, k, labels, closest, at):
        for i in range(n_rows):
            labels[at + i] = 0
            closest[at + i] = np.inf
        for j in range(k):
            for i in range(n_rows):
                total = 0.0
                for f in range(n_features):
                    difference = values[f * stride + first + i] - centroids[j * n_features + f]
                    total += difference * difference
                if total < closest[at + i]:
                    closest[at + i] = total
                    labels[at + i] = j

    return nearest


def _margins(n_features: int, number: Any) -> Any:
    error = 8 * (n_features + 4) * float(np.finfo(number).eps)
    none, endless = number(0.0), number(np.inf)

    @_inner
    def margins(
        values, stride, first, n_rows, centroids, k, rounded, labels, second, at, near, far
    ):  # fmt: skip
        """As nearest, but in ``number``; and in ``second`` how much farther the second nearest is,
        at least: 0 where it is not certain that it is farther at all."""
        for i in range(n_rows):
            labels[at + i] = 0
            near[i], far[i] = endless, endless
        for j in range(k):
            for i in range(n_rows):
                total = none
                for f in range(n_features):
                    value = values[f * stride + first + i]
                    difference = value - number(centroids[j * n_features + f])
                    total += difference * difference
                far[i] = min(far[i], max(total, near[i]))
                if total < near[i]:
                    near[i] = total
                    labels[at + i] = j
        for i in range(n_rows):
            margin = np.sqrt(far[i]) * (1 - error) - np.sqrt(near[i]) * (1 + error) - rounded
            second[at + i] = margin if np.isfinite(margin) and margin > 0 else 0.0

    return margins


def _rounding(n_features: int, number: Any) -> Any:
    tiniest = 2 * n_features * float(np.sqrt(np.finfo(number).tiny))

    @_inner
    def rounding(centroids, k):
        """How much two distances can change where the centroids are rounded to ``number``, and
        squares that are too small for it are lost."""
        longest = 0.0
        for j in range(k):
            length = 0.0
            for f in range(n_features):
                value = centroids[j * n_features + f]
                length += (value - number(value)) ** 2
            longest = max(longest, length)
        return 2 * np.sqrt(longest) + tiniest

    return rounding


def _adding(n_features: int) -> Any:
    @_inner
    def add(values, stride, row, weight, j, sums, counts):
        counts[j] += weight
        for f in range(n_features):
            sums[j * n_features + f] += weight * values[f * stride + row]

    return add


def _label_rows(n_features: int, direct: bool) -> Callable[..., None]:
    fill, nearest = _filling(n_features), _nearest(n_features)

    def of_columns(columns, stride, first, n_rows, centroids, k, labels, closest, tile):
        for start in range(0, n_rows, TILE):
            n = min(TILE, n_rows - start)
            nearest(columns, stride, first + start, n, centroids, k, labels, closest, start)

    def of_tiles(columns, stride, first, n_rows, centroids, k, labels, closest, tile):
        for start in range(0, n_rows, TILE):
            n = min(TILE, n_rows - start)
            fill(columns, stride, first + start, n, tile)
            nearest(tile, TILE, 0, n, centroids, k, labels, closest, start)

    # float32 is turned into float64 in a tile once, and not for each centroid.
    return of_columns if direct else of_tiles


def _add_rows(n_features: int, direct: bool) -> Callable[..., None]:
    number = np.float64 if direct else np.float32
    margins, rounding = _margins(n_features, number), _rounding(n_features, number)
    exact, add = _margins(n_features, np.float64), _adding(n_features)

    def add_rows(
        columns, stride, first, n_rows, weights, weighted, centroids, k, labels, second, sums,
        counts, near, far, tile, exact_near, exact_far,
    ):  # fmt: skip
        rounded = rounding(centroids, k)
        for start in range(0, n_rows, TILE):
            n = min(TILE, n_rows - start)
            margins(
                columns, stride, first + start, n, centroids, k, rounded, labels, second, start,
                near, far,
            )  # fmt: skip
            for row in range(start, start + n):
                # Where float32 cannot tell which centroid is nearest, float64 does.
                if not direct and second[row] == 0.0 and k > 1:
                    for f in range(n_features):
                        tile[f] = columns[f * stride + first + row]
                    exact(
                        tile, 1, 0, 1, centroids, k, 0.0, labels, second, row, exact_near,
                        exact_far,
                    )  # fmt: skip
                weight = weights[row] if weighted else 1.0
                add(columns, stride, first + row, weight, labels[row], sums, counts)

    return add_rows


def _move_rows(n_features: int, direct: bool) -> Callable[..., None]:
    margins, add = _margins(n_features, np.float64), _adding(n_features)

    def move_rows(
        columns, stride, first, n_rows, weights, weighted, centroids, k, travelled, labels,
        second, gained, gained_counts, lost, lost_counts, tile, near, far, again, found, rows,
    ):  # fmt: skip
        n = 0
        for row in range(n_rows):
            # Not "<=": what is not a number tells nothing either.
            if not second[row] > travelled:
                rows[n] = row
                for f in range(n_features):
                    tile[f * TILE + n] = columns[f * stride + first + row]
                n += 1
            if n == TILE or (row == n_rows - 1 and n > 0):
                margins(tile, TILE, 0, n, centroids, k, 0.0, found, again, 0, near, far)
                for i in range(n):
                    moved = rows[i]
                    second[moved] = again[i] + travelled
                    before = labels[moved]
                    if found[i] != before:
                        labels[moved] = found[i]
                        weight = weights[moved] if weighted else 1.0
                        add(tile, TILE, i, weight, found[i], gained, gained_counts)
                        add(tile, TILE, i, weight, before, lost, lost_counts)
                n = 0

    return move_rows


def _measure_rows(n_features: int, direct: bool) -> Callable[..., None]:
    def measure_rows(columns, stride, first, n_rows, centroids, k, labels, closest):
        for row in range(n_rows):
            distance = 0.0
            for f in range(n_features):
                difference = (
                    columns[f * stride + first + row] - centroids[labels[row] * n_features + f]
                )
                distance += difference * difference
            closest[row] = distance

    return measure_rows


#: What makes each of them.
LOOPS = {
    "label_rows": _label_rows, "add_rows": _add_rows, "move_rows": _move_rows,
    "measure_rows": _measure_rows,
}  # fmt: skip
