"""The gap statistic: is a partition tighter than that of rows without structure?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.choosing.judged_columns import permuted
from sqlkmeans.clustering.choosing.quick_fit import distinct, quick_centroids
from sqlkmeans.clustering.kmeans.assignment import assign

#: Rows of the sample, and reference sets of as many rows.
ROWS, REFERENCES = 1_000, 10


@dataclass(frozen=True)
class Gap:
    """The gap statistic of one k.

    Attributes
    ----------
    value : float
        Mean log inertia of the reference sets, less that of the rows; higher is better.
    error : float
        The standard error to allow for, ``s_k`` of the paper.
    """

    value: float
    error: float


class GapStatistic:
    """The gap statistic of Tibshirani, Walther & Hastie (2001, "Estimating the number of clusters
    in a data set via the gap statistic"), with their reference (b).

    Reference sets are uniform over the box along the rows' principal axes: as long and as wide as
    the rows, without any structure. Of columns of few values they are the columns themselves,
    each permuted: no box has their levels (so do the null models of Hennig & Lin, 2015, "Flexible
    parametric bootstrap for testing homogeneity against clustering").

    Parameters
    ----------
    sample : ndarray of shape (n_rows, n_features)
    seed : int
    few_valued : sequence of str, optional
        The source column of each feature, where all have few values.
    """

    def __init__(self, sample: Matrix, seed: int, few_valued: Sequence[str] | None = None) -> None:
        self._sample, self._seed = sample, seed
        self._rows_a_segment = 1 if few_valued is None else 2
        generators = [np.random.default_rng([seed, number]) for number in range(REFERENCES)]
        if few_valued is not None:
            self._references = [permuted(sample, few_valued, rng) for rng in generators]
            return
        centred = sample - sample.mean(axis=0)
        axes = np.linalg.svd(centred, full_matrices=False)[2]
        along = centred @ axes.T
        low, high = along.min(axis=0), along.max(axis=0)
        self._references = [rng.uniform(low, high, size=along.shape) for rng in generators]

    def of(self, k: int) -> Gap | None:
        """The gap statistic of k; None where the sample has fewer than k rows that differ.

        Of columns of few values, twice as many: where k is near them, nothing but whether rows
        are equal counts.
        """
        if distinct(self._sample, k * self._rows_a_segment) < k * self._rows_a_segment:
            return None
        within = self._log_inertia(self._sample, k)
        logs = np.array([self._log_inertia(rows, k) for rows in self._references])
        error = float(logs.std()) * (1 + 1 / REFERENCES) ** 0.5
        return Gap(float(logs.mean()) - within, error)

    def _log_inertia(self, rows: Matrix, k: int) -> float:
        centroids = quick_centroids(rows, k, self._seed) if k > 1 else rows.mean(axis=0)[None, :]
        inertia = assign(rows, centroids).inertia
        # Rows that are all in their centroids have no logarithm; the smallest number has.
        return float(np.log(max(inertia, np.finfo(np.float64).tiny)))
