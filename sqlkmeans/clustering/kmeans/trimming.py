"""K-Means that leaves out the rows farthest from their centroid.

The passes are those of k-means-- (Chawla & Gionis, 2013, "k-means--: a unified approach to
clustering and outlier detection"): label all rows, leave out the share of them that is farthest,
take the means of the rest. Its starts decide what it finds, because a far row that becomes a
centroid is near itself and stays. So each start is drawn as by k-means++, from the rows that are
not among the farthest so far (after Bhaskara, Vadgama & Xu, 2019, "Greedy sampling for approximate
clustering in the presence of outliers").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, fsum, inf, log

import numpy as np

from sqlkmeans.clustering.arrays.chunks import Empty, map_chunks
from sqlkmeans.clustering.arrays.sampling import rows_that_count
from sqlkmeans.clustering.arrays.threads import one_library_thread
from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector
from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.kmeans.kernels.numpy_kernel import squared_differences
from sqlkmeans.clustering.kmeans.kmeans import (
    SAMPLE_ROWS,
    KMeansFit,
    fit_kmeans,
    largest_first,
    too_few_distinct,
)
from sqlkmeans.clustering.kmeans.lloyd import MAX_PASSES, Passed, uncounted
from sqlkmeans.clustering.preparation.quantiles import Bracket, Cut, Wanted, order_statistics

#: Rows that starts run on: for each cluster, and at least.
START_ROWS_PER_CLUSTER, START_ROWS = 1_000, 20_000
#: Distances that tell where the farthest begin.
_SAMPLE = 10_000


def fit_trimmed(
    matrix: Matrix,
    k: int,
    *,
    trim: float,
    sample_weight: Vector | None = None,
    n_init: int = 10,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    empty: Empty = np.empty,
    passed: Passed = uncounted,
) -> KMeansFit:
    """Cluster prepared rows, without the share of them that is farthest from any centroid.

    Parameters
    ----------
    trim : float
        Below 0.5. So large a share of the rows that have a weight, rounded down, moves no
        centroid; of rows equally far, all or none are left out. Where it is no row at all, the
        fit is that of :func:`fit_kmeans`.

    Other parameters are those of :func:`fit_kmeans`.

    Returns
    -------
    KMeansFit
        All rows are labelled. The centroids are the means of the rows that were not left out.

    Raises
    ------
    DataError
        If fewer than ``k`` distinct rows are left.
    """
    if not _left_out(trim, len(matrix), sample_weight):
        return fit_kmeans(
            matrix, k, sample_weight=sample_weight, n_init=n_init, seed=seed,
            sample_rows=sample_rows, empty=empty, passed=passed,
        )  # fmt: skip
    rows = _Trimmed(matrix, sample_weight, trim, empty)
    with one_library_thread():
        rng = np.random.default_rng(seed)
        few = rows.drawn(max(START_ROWS, START_ROWS_PER_CLUSTER * k), rng)
        starts = [few.settle(few.seeded(k, rng)) for _ in range(n_init)]
        best = min(starts, key=lambda found: found.inertia)
        found = best if few is rows else rows.settle(best.centroids, passed)
    n_iter = found.n_iter if found is best else best.n_iter + found.n_iter
    assignment = assign(matrix, found.centroids, sample_weight, empty)
    return largest_first(KMeansFit(found.centroids, assignment, n_iter))


def kept_within(
    squared_distances: Vector, trim: float, sample_weight: Vector | None = None
) -> float:
    """The squared distance beyond which :func:`fit_trimmed` leaves rows out; infinite where it
    leaves none out.

    Parameters
    ----------
    squared_distances : ndarray of float64 of shape (n_rows,)
        Of each row to its nearest centroid.
    trim : float
    sample_weight : ndarray of float64 of shape (n_rows,), optional
    """
    n_rows = len(squared_distances)
    left_out = _left_out(trim, n_rows, sample_weight)
    if not left_out:
        return inf

    def counting(start: int, stop: int, step: int = 1) -> Vector:
        some = squared_distances[start:stop:step]
        return some if sample_weight is None else some[sample_weight[start:stop:step] > 0]

    sample = np.sort(counting(0, n_rows, max(1, n_rows // _SAMPLE)))
    count = n_rows if sample_weight is None else int(np.count_nonzero(sample_weight))
    wanted = Wanted((count - left_out - 1,), count, sample)

    def cut_all(asked: Sequence[tuple[int, Bracket]]) -> list[list[Cut]]:
        ((_, bracket),) = asked
        return [map_chunks(n_rows, lambda *ends: bracket.cut(counting(*ends)))]

    return order_statistics([wanted], cut_all)[0][0]


def _left_out(trim: float, n_rows: int, sample_weight: Vector | None) -> int:
    """How many rows."""
    if not trim:
        return 0
    return floor(trim * (n_rows if sample_weight is None else np.count_nonzero(sample_weight)))


@dataclass(frozen=True)
class _Settled:
    """Where passes ended; the inertia is that of the rows that are not left out."""

    centroids: Matrix
    inertia: float
    n_iter: int


@dataclass(frozen=True, eq=False)
class _Trimmed:
    """Rows of which the farthest do not count."""

    matrix: Matrix
    weight: Vector | None
    trim: float
    empty: Empty = np.empty

    def drawn(self, at_most: int, rng: np.random.Generator) -> _Trimmed:
        """Some of the rows that have a weight; all rows where there are no more."""
        if len(self.matrix) <= at_most:
            return self
        chosen = np.sort(rows_that_count(len(self.matrix), self.weight, at_most, rng)[0])
        weight = None if self.weight is None else self.weight[chosen]
        # Column by column: the rows may lie in a file.
        points = np.array([column[chosen] for column in self.matrix.T]).T
        return _Trimmed(points, weight, self.trim)

    def seeded(self, k: int, rng: np.random.Generator) -> Matrix:
        """A row for each centroid, drawn by its distance to those before and its weight; rows
        that are among the farthest now are not drawn."""
        weight = np.ones(len(self.matrix)) if self.weight is None else self.weight
        columns = np.ascontiguousarray(self.matrix.T, dtype=np.float64)
        closest = np.ones(len(self.matrix))
        chosen: list[Vector] = []
        for turn in range(k):
            chances = weight * closest
            if turn:
                chances[closest > self._farthest(closest)] = 0
            cumulated = np.cumsum(chances)
            if not cumulated[-1] > 0:
                raise too_few_distinct(k, turn, len(self.matrix))
            trials = 2 + int(log(k)) if turn else 1
            places = np.searchsorted(cumulated, rng.random(trials) * cumulated[-1], side="right")
            ways = squared_differences(columns, self.matrix[places])
            if turn:
                np.minimum(ways, closest, out=ways)
            best = int(np.argmin([self._inertia(way) for way in ways]))
            closest = ways[best]
            chosen.append(self.matrix[places[best]])
        return np.array(chosen, dtype=np.float64)

    def settle(self, centroids: Matrix, passed: Passed = uncounted) -> _Settled:
        """Passes until the centroids rest; one that loses all its rows moves to the farthest row
        that is not left out."""
        passes, squared = 0, np.empty(0)
        # Each pass writes over the labels and distances of the one before.
        same_arrays = cache(self.empty)
        while passes < MAX_PASSES:
            assignment = assign(self.matrix, centroids, empty=same_arrays)
            labels, squared = assignment.labels, assignment.squared_distances
            limit = self._farthest(squared)
            sums, counts = self._sums(labels, squared, limit, len(centroids))
            moved = sums / np.maximum(counts, np.finfo(float).tiny)[:, None]
            for cluster in np.flatnonzero(counts == 0):
                moved[cluster] = self.matrix[self._last_within(squared, limit)]
            passes += 1
            passed(1)
            if np.array_equal(moved, centroids):
                break
            centroids = moved
        return _Settled(centroids, self._inertia(squared), passes)

    def _farthest(self, squared: Vector) -> float:
        return kept_within(squared, self.trim, self.weight)

    def _last_within(self, squared: Vector, limit: float) -> int:
        """The row that counts and is farthest; the first of several."""

        def look(start: int, stop: int) -> tuple[float, int]:
            far = np.where(squared[start:stop] <= limit, squared[start:stop], -1.0)
            if self.weight is not None:
                far[self.weight[start:stop] == 0] = -1
            return float(far.max()), -(start + int(far.argmax()))

        return -max(map_chunks(len(squared), look))[1]

    def _sums(self, labels: Labels, squared: Vector, limit: float, k: int) -> tuple[Matrix, Vector]:
        """Of the rows that count, the sum of their weights and of each feature, by cluster."""

        def add(start: int, stop: int) -> Matrix:
            weight = (squared[start:stop] <= limit).astype(np.float64)
            if self.weight is not None:
                weight *= self.weight[start:stop]
            columns = (weight * column[start:stop] for column in self.matrix.T)
            of_chunk = labels[start:stop]
            return np.array(
                [np.bincount(of_chunk, weights=v, minlength=k) for v in (weight, *columns)]
            )

        counts, *sums = np.sum(map_chunks(len(labels), add), axis=0)
        return np.array(sums).T, counts

    def _inertia(self, squared: Vector) -> float:
        """Of the rows that count."""
        limit = self._farthest(squared)

        def add(start: int, stop: int) -> float:
            of_chunk = squared[start:stop]
            near = np.where(of_chunk <= limit, of_chunk, 0.0)
            return float((near if self.weight is None else near * self.weight[start:stop]).sum())

        return fsum(map_chunks(len(squared), add))
