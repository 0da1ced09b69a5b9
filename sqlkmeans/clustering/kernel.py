"""The loops over all rows, and who runs them: NumPy, or numba where it is worth it.

Both compare the same numbers, squared differences added in feature order, give a tie to the
first centroid, and add up the rows of a chunk in their order. So they agree to the last bit, and
which of them runs changes nothing but the time.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from threading import Thread
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering import kernel_numpy

Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float64]

# Values (rows x features) above which the half second that numba takes to load is won back.
WORTH_LOADING = 6_000_000
# From so many values on, a run without numba recommends it.
WORTH_INSTALLING = 20_000_000
INSTALL = 'pip install "sqlkmeans[fast]"'

#: For tests: True takes the compiled loops always, False never.
forced: bool | None = None


class Kernel(Protocol):
    """What both modules offer, for the rows from ``start`` to ``stop`` of a matrix.

    The matrix is of float64 or float32; all arithmetic is in float64.
    """

    def label_rows(
        self, matrix: Matrix, start: int, stop: int, centroids: Matrix, labels: Labels,
        squared_distances: Vector,
    ) -> None:  # fmt: skip
        """Write the nearest centroid of each row, and the squared distance to it.

        ``labels`` and ``squared_distances`` have these rows only.
        """

    def add_rows(
        self, matrix: Matrix, start: int, stop: int, sample_weight: Vector | None,
        centroids: Matrix, labels: Labels, margins: Vector, sums: Matrix, counts: Vector,
    ) -> None:  # fmt: skip
        """Write the nearest centroid of each row, and how much farther the second nearest is, at
        least (in distance; 0 where that is not known); add each row to the sum and the count of
        its centroid, which start at 0.

        ``matrix``, ``sample_weight``, ``labels`` and ``margins`` have all rows; ``centroids`` and
        ``sums`` are of shape (k, n_features), ``counts`` is of shape (k,).
        """

    def move_rows(
        self, matrix: Matrix, start: int, stop: int, sample_weight: Vector | None,
        centroids: Matrix, travelled: float, labels: Labels, margins: Vector,
        gained: tuple[Matrix, Vector], lost: tuple[Matrix, Vector],
    ) -> None:  # fmt: skip
        """Label the rows again whose margin is not above ``travelled``, and make it how much
        farther the second nearest is, plus ``travelled``; add each row that moves to the sums and
        counts of the centroid that gains it and of the one that loses it, which start at 0.

        ``travelled`` is a distance; ``gained`` and ``lost`` are (sums, counts) as of `add_rows`.
        """

    def measure_rows(
        self, matrix: Matrix, start: int, stop: int, centroids: Matrix, labels: Labels,
        squared_distances: Vector,
    ) -> None:  # fmt: skip
        """Write the squared distance of each row to the centroid that its label says."""


def kernel(values: int) -> Kernel:
    """The loops to use for so many values; once numba is loaded, always its."""
    if forced is False or (forced is None and values < WORTH_LOADING and not _loaded()):
        return kernel_numpy
    return _compiled() or kernel_numpy


def load_ahead(n_rows: int, n_features: int, *, weighted: bool) -> Thread | None:
    """Begin to load numba, in a thread, where so many rows will want it.

    It takes half a second, which passes while the rows are still coming.
    """
    if forced is not None or n_rows * n_features < WORTH_LOADING or not find_spec("numba"):
        return None
    thread = Thread(target=_warm, args=(n_features, weighted), name="sqlkmeans numba")
    thread.start()
    return thread


def advice(values: int) -> list[str]:
    """What to tell after a fit of so many values: nothing, or that numba would do it sooner."""
    if values < WORTH_INSTALLING or find_spec("numba"):
        return []
    return [f"the fit of {values:,} values ran in NumPy; {INSTALL} makes it several times faster"]


def describe() -> str:
    """Who runs the loops here, for `doctor`."""
    if find_spec("numba"):
        return f"numba, from {WORTH_LOADING:,} values (rows x features) on; below, NumPy"
    return f"NumPy; worth having from {WORTH_INSTALLING:,} values (rows x features) on: {INSTALL}"


def _loaded() -> bool:
    return "sqlkmeans.clustering.kernel_numba" in sys.modules


def _warm(n_features: int, weighted: bool) -> None:
    """Call the compiled loop that a fit calls first; numba gets ready at its first call."""
    # What fails here fails again where it is needed, and is reported there.
    with suppress(Exception):
        if loops := _compiled():
            # Two rows, because numba tells apart columns in one piece from rows in one piece.
            loops.add_rows(
                np.zeros((n_features, 2)).T, 0, 2, np.ones(2) if weighted else None,
                np.zeros((2, n_features)), np.zeros(2, np.int32), np.zeros(2),
                np.zeros((2, n_features)), np.zeros(2),
            )  # fmt: skip


@cache
def _compiled() -> ModuleType | None:
    try:
        from sqlkmeans.clustering import kernel_numba
    except ImportError:  # not installed, or not for this NumPy
        return None
    return kernel_numba
