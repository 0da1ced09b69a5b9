"""Which columns can show structure: one of few values parts any rows, whether they group or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing.quick_fit import distinct

#: A column with no more different values has few, unless hardly any row shares one.
FEW, ROWS_A_VALUE = 10, 3


@dataclass(frozen=True)
class Columns:
    """What structure is judged by.

    Attributes
    ----------
    judged : ndarray of bool of shape (n_features,)
        Columns of many values; all where every column has few.
    few_valued : bool
        Whether those that are judged have few values.
    left_out : tuple of str
        The others, each column once.
    """

    judged: npt.NDArray[np.bool_]
    few_valued: bool
    left_out: tuple[str, ...]

    def of(self, rows: Matrix) -> Matrix:
        """The columns of the rows that are judged; the rows themselves where all are."""
        return rows if self.judged.all() else np.ascontiguousarray(rows[:, self.judged])


def judged_columns(
    sample: Matrix, names: Sequence[str], k_max: int, sample_weight: Vector | None = None
) -> Columns:
    """Leave the columns of few values out where others have many.

    Hennig & Liao (2013, "How to find an appropriate clustering for mixed-type variables with
    application to socio-economic stratification") show why: the gaps between the levels of a
    column are there by its nature, and any distance takes them for gaps between clusters.

    Parameters
    ----------
    sample : ndarray of shape (n_rows, n_features)
    names : sequence of str
        The source column of each feature; the levels of a category share one.
    k_max : int
        Nothing is left out where fewer rows than that differ without it.
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        Rows of weight 0 do not count there.
    """
    many = np.array([not _has_few(values) for values in sample.T])
    if not many.any():
        return Columns(~many, True, ())
    if distinct(sample[:, many], k_max, sample_weight) < k_max:
        return Columns(np.ones_like(many), False, ())
    return Columns(many, False, tuple(dict.fromkeys(np.array(names, dtype=object)[~many])))


def permuted(sample: Matrix, names: Sequence[str], rng: np.random.Generator) -> Matrix:
    """The same columns, each in an order of its own: as many rows of each level, and no two
    columns that go together. The levels of a category stay together."""
    mixed = np.empty_like(sample)
    for name in dict.fromkeys(names):
        own = [position for position, other in enumerate(names) if other == name]
        mixed[:, own] = sample[rng.permutation(len(sample))][:, own]
    return mixed


def spread(rows: Matrix, seed: int) -> Matrix:
    """Rows whose equal values lie evenly between the values beside them.

    So that whole numbers (ages, orders, days) do not look like stripes with nothing between. A
    column in which no value comes twice stays as it is.
    """
    rng = np.random.default_rng(seed)
    return np.column_stack([_spread(values, rng) for values in rows.T])


def _spread(values: Vector, rng: np.random.Generator) -> Vector:
    levels, place = np.unique(values, return_inverse=True)
    if len(levels) == len(values) or len(levels) == 1:
        return values
    half = np.diff(levels) / 2
    low = levels - np.concatenate([half[:1], half])
    high = levels + np.concatenate([half, half[-1:]])
    return np.asarray(rng.uniform(low[place], high[place]))


def _has_few(values: npt.NDArray[np.float64]) -> bool:
    n_values = len(np.unique(values))
    return n_values <= FEW and n_values * ROWS_A_VALUE <= len(values)
