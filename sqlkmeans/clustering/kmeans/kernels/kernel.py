"""The loops over all rows, and who runs them: NumPy, or numba's code where it is worth it.

Both compare the same numbers, squared differences added in feature order, give a tie to the
first centroid, and add up the rows of a chunk in their order. So they agree to the last bit, and
which of them runs changes nothing but the time.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from threading import Thread
from types import ModuleType
from typing import Protocol

from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector
from sqlkmeans.clustering.kmeans.kernels import machine_code, numpy_kernel

# Values (rows x features) from which on compiled loops win back the time that they take to load;
# and where they have to be compiled each time, because they can be kept nowhere.
WORTH_LOADING, WORTH_COMPILING = 2_000_000, 20_000_000
# From so many values on, a run without numba recommends it.
WORTH_INSTALLING = 20_000_000
INSTALL = 'pip install "sqlkmeans[fast]"'

#: Numbers of features whose compiled loops are in use.
_taken: set[int] = set()

#: For tests: True takes the compiled loops always, False never.
forced: bool | None = None


class Kernel(Protocol):
    """What both modules offer, for the rows from ``start`` to ``stop`` of a matrix.

    The matrix is of float64 or float32; labels, sums and distances are those that arithmetic in
    float64 gives.
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


def kernel(n_rows: int, n_features: int) -> Kernel:
    """The loops to use for so many rows. Once they are the compiled ones for so many features, they
    always are: those are loaded."""
    worth_it = forced or n_features in _taken or _is_worth_it(n_rows * n_features)
    loops = _compiled() if worth_it and forced is not False else None
    if loops is None:
        return numpy_kernel
    if forced is None:
        _taken.add(n_features)
    return loops


def load_ahead(n_rows: int, n_features: int, dtype: str = "float64") -> Thread | None:
    """Begin to load, or to compile, what so many rows will want; in a thread.

    To compile takes a second or two, which pass in part while the rows are still coming.
    """
    if forced is not None or not find_spec("numba") or not _is_worth_it(n_rows * n_features):
        return None
    thread = Thread(target=_get_ready, args=(n_features, dtype), name="sqlkmeans numba")
    thread.start()
    return thread


def _is_worth_it(values: int) -> bool:
    if values < WORTH_LOADING:
        return False
    return values >= WORTH_COMPILING or machine_code.can_be_kept()


def advice(values: int) -> list[str]:
    """What to tell after a fit of so many values: nothing, or that numba would do it sooner."""
    if values < WORTH_INSTALLING or find_spec("numba"):
        return []
    return [f"the fit of {values:,} values ran in NumPy; {INSTALL} makes it several times faster"]


def describe() -> str:
    """Who runs the loops here, for `doctor`."""
    if find_spec("numba"):
        least = WORTH_LOADING if machine_code.can_be_kept() else WORTH_COMPILING
        return f"numba, from {least:,} values (rows x features) on; below, NumPy"
    return f"NumPy; worth having from {WORTH_INSTALLING:,} values (rows x features) on: {INSTALL}"


def _get_ready(n_features: int, dtype: str) -> None:
    # What fails here fails again where it is needed, and is reported there.
    with suppress(Exception):
        if loops := _compiled():
            loops.get_ready(n_features, dtype)


@cache
def _compiled() -> ModuleType | None:
    """Compiled loops, if one can be had here; others can then."""
    if not find_spec("numba"):
        return None
    from sqlkmeans.clustering.kmeans.kernels import compiled_kernel

    try:
        compiled_kernel.try_it()
    except Exception:  # a version of numba that is not for this NumPy, or makes other code
        return None
    return compiled_kernel
