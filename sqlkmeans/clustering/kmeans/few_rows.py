"""The best segments of few rows, found by many starts of which the best ends have children.

A search begins with k-means++ starts. Then each of its generations takes pairs of the best ends so
far, and some centroids of the one and the others of the other, but for one that is seeded anew:
what two ends have found in different places comes together, and what one of them has wrong is
found again (after Gribel & Vidal, 2019, "HG-means: A scalable hybrid genetic algorithm for minimum
sum-of-squares clustering"). Searches that know nothing of each other follow until several of them
have ended at the best end, or enough was tried.

A pass is made for many starts in one product of matrices, and rows that are equal are one row, with
their weight: so a start of a few hundred rows costs a tenth of one by itself, or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.threads import in_threads
from sqlkmeans.clustering.arrays.types import Matrix, RowNumbers, Vector
from sqlkmeans.clustering.kmeans.assignment import squared_distances
from sqlkmeans.clustering.kmeans.lloyd import MAX_PASSES, settle

#: Of shape (n_starts, k, n_features).
ManyCentroids = npt.NDArray[np.float64]

# Distances that are made in one go: they stay in a processor's cache.
BLOCK = 100_000
# Work of a distance beside its features, and of a start's pass beside its distances, in
# multiplications.
OF_A_DISTANCE, OF_A_PASS = 24, 20_000
# Rows are few while their distances to all centroids are no more than this.
FEW = 500_000
# A start that is this much above the best end, and whose pass lowers its inertia by less than
# this share, goes no further.
HOPELESS, SLOW = 0.02, 1e-3
# The best ends that others are bred from.
PARENTS = 10
# k-means++ starts of a search, and starts of a generation, times ``n_init``. The former take no
# more than this share of the work.
ANEW, CHILDREN, SHARE_ANEW = 4, 2, 0.25
# A search ends after so many generations without a better end.
IDLE = 4
# Ends whose inertia is the same to this share are the same.
SAME_END = 1e-9
# Products round by so much of what is far from the rows' midst. Where that is more than this share
# of the mean squared distance of an end, for one row in ten, they cannot tell ends apart.
EPSILON, DROWNED, MANY = float(np.finfo(float).eps), 1e-6, 0.9
# Starts from the centroids of the k before: most of them are right, and one is to be added.
STARTS_FROM_BEFORE = 5


@dataclass(frozen=True)
class Effort:
    """It is enough when ``again`` searches have found the best end, or there were ``searches``,
    or ``work`` multiplications, and each row was compared with ``centroids``."""

    again: int
    searches: int
    work: float
    centroids: int


#: Of a fit, and of several whose k are compared.
ALONE, COMPARED = Effort(5, 12, 2.4e10, 8000), Effort(2, 3, 1.5e9, 1000)


def work_of_a_pass(rows: Matrix, k: int) -> int:
    """Of one start, in multiplications."""
    return len(rows) * k * (len(rows.T) + OF_A_DISTANCE) + OF_A_PASS


@dataclass(frozen=True)
class End:
    """Where a start has come to, and in how many passes."""

    inertia: float
    centroids: Matrix
    n_iter: int
    settled: bool = False


class FewRows:
    """Rows that differ, ``rows``, with their weights, about a point in their midst, ``origin``.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    sample_weight : ndarray of shape (n_rows,), optional
    """

    def __init__(self, rows: Matrix, sample_weight: Vector | None = None) -> None:
        # + 0.0 turns -0.0 into 0.0.
        differing, numbers = np.unique(
            np.asarray(rows, dtype=float) + 0.0, axis=0, return_inverse=True
        )
        self._weight = np.bincount(numbers.ravel(), sample_weight, len(differing)).astype(float)
        # Products of what is far from the origin would drown the distances; a mean follows
        # whoever is extremely far away.
        self.origin = np.median(differing, axis=0)
        self.rows = np.ascontiguousarray(differing - self.origin)
        self._columns = np.ascontiguousarray(self.rows.T)
        self._weighted = self.rows * self._weight[:, None]
        self._norms = np.einsum("ij,ij->i", self.rows, self.rows)

    def ends(
        self, given: ManyCentroids, k: int, best: float, rng: np.random.Generator
    ) -> list[End]:
        """Where many starts end: rows are drawn for the centroids that are not given, and Lloyd's
        passes follow. ``best`` is the least inertia so far."""

        def of(some: slice) -> list[End]:
            return self._passes(self._seeds(given[some], k, drawn[some]), best)

        drawn = rng.random((len(given), k, 2 + int(log(k))))
        at_once = max(1, BLOCK // (k * len(self.rows)))
        parts = [slice(first, first + at_once) for first in range(0, len(given), at_once)]
        return [end for ends in in_threads(of, parts) for end in ends]

    def settled(self, end: End) -> End:
        """Where moves of single rows carry an end."""
        found = settle(self.rows, end.centroids, self._weight, max_iter=MAX_PASSES)
        inertia = found.assignment().inertia
        return End(inertia, found.centroids, end.n_iter + found.n_iter, settled=True)

    def are_told_apart(self, end: End) -> bool:
        """Whether what rounding does to distances is little beside those of an end."""
        error = EPSILON * float(np.quantile(self._norms, MANY)) * float(self._weight.sum())
        return len(end.centroids) == len(self.rows) or error <= DROWNED * end.inertia

    def _seeds(self, given: ManyCentroids, k: int, drawn: ManyCentroids) -> ManyCentroids:
        """Greedy k-means++ for many starts, as :func:`seed_centroids` has it for one.

        ``drawn`` is of shape (n_starts, k, candidates), uniform in 0 to 1.
        """
        starts, known, features = given.shape
        seeds = np.empty((starts, k, features))
        seeds[:, :known] = given
        everyone = np.arange(starts)
        if not known:
            everywhere = np.broadcast_to(self._weight, (starts, len(self.rows)))
            seeds[:, 0] = self.rows[self._numbers(everywhere, drawn[:, 0, :1])[:, 0]]
            known = 1
        closest = self._squared(seeds[:, :known].reshape(-1, features))
        closest = closest.reshape(starts, known, -1).min(axis=1)
        # Not what rounding leaves of a row that is a seed: it must not be drawn again.
        closest[closest <= 64 * EPSILON * self._norms] = 0
        for centroid in range(known, k):
            candidates = self._numbers(closest * self._weight, drawn[:, centroid])
            distances = self._squared(self.rows[candidates.ravel()])
            distances = distances.reshape(*candidates.shape, -1)
            np.minimum(distances, closest[:, None], out=distances)
            chosen = (distances @ self._weight).argmin(axis=1)
            closest, rows = distances[everyone, chosen], candidates[everyone, chosen]
            closest[everyone, rows] = 0
            seeds[:, centroid] = self.rows[rows]
        return seeds

    def _numbers(self, chances: Matrix, drawn: Matrix) -> RowNumbers:
        """Numbers of rows in proportion to each start's chances."""
        summed = np.cumsum(chances, axis=1)
        places = [np.searchsorted(s, d * s[-1], side="right") for s, d in zip(summed, drawn)]
        # Rounding can lead one past the end.
        numbers: RowNumbers = np.minimum(np.array(places), len(self.rows) - 1)
        return numbers

    def _passes(self, centroids: ManyCentroids, best: float) -> list[End]:
        inertias = np.full(len(centroids), np.inf)
        passes = np.zeros(len(centroids), dtype=int)
        moving = np.arange(len(centroids))
        for _ in range(MAX_PASSES):
            means, now = self._pass(centroids[moving])
            slow = inertias[moving] - now < SLOW * now
            ended = (means == centroids[moving]).all(axis=(1, 2))
            ended |= slow & (now > (1 + HOPELESS) * best)
            # Rounding can keep them moving for ever.
            ended |= now >= inertias[moving]
            centroids[moving], inertias[moving] = means, now
            passes[moving] += 1
            moving = moving[~ended]
            if not len(moving):
                break
        return [End(float(i), c, int(n)) for i, c, n in zip(inertias, centroids, passes)]

    def _pass(self, centroids: ManyCentroids) -> tuple[ManyCentroids, Vector]:
        """The means of the rows that are nearest to each centroid, and each start's inertia."""
        starts, k, features = centroids.shape
        flat = centroids.reshape(-1, features)
        sums, counts, inertias = np.zeros(flat.shape), np.zeros(len(flat)), np.zeros(starts)
        size = max(1, BLOCK // len(flat))
        for first in range(0, len(self.rows), size):
            some = slice(first, first + size)
            distances = self._squared(flat, some).reshape(starts, k, -1)
            least = distances.min(axis=1)
            # Whoever is as near to two centroids counts for both: the best ends are settled.
            nearest = (distances == least[:, None]).astype(float).reshape(len(flat), -1)
            sums += nearest @ self._weighted[some]
            counts += nearest @ self._weight[some]
            inertias += least @ self._weight[some]
        filled = counts > 0
        means = flat.copy()
        means[filled] = sums[filled] / counts[filled, None]
        return means.reshape(centroids.shape), inertias

    def _squared(self, points: Matrix, some: slice = slice(None)) -> Matrix:
        """Squared distances of each row to each point, of shape (n_points, n_rows)."""
        distances: Matrix = (-2 * points) @ self._columns[:, some]
        distances += np.einsum("ij,ij->i", points, points)[:, None]
        distances += self._norms[some]
        return np.maximum(distances, 0, out=distances)


def best_end(
    rows: FewRows, k: int, before: Matrix | None, n_init: int, effort: Effort,
    seed: int,
) -> End:  # fmt: skip
    """The best end that searches find, its centroids where the rows were.

    Parameters
    ----------
    rows : FewRows
    k : int
        At most as many as there are rows.
    before : ndarray of shape (at most k, n_features) or None
        Centroids found for a smaller k.
    n_init : int
    effort : Effort
    seed : int
    """
    if k in (1, len(rows.rows)):
        only = rows.settled(End(float("inf"), rows.rows[:k], 0))
        return End(only.inertia, only.centroids + rows.origin, only.n_iter)
    seeds = np.random.SeedSequence(seed)
    ends: list[End] = []
    # Wide rows need as many passes as others do.
    most, work = max(effort.work, work_of_a_pass(rows.rows, effort.centroids)), 0.0
    while True:
        search = _Search(rows, k, n_init, most - work, seeds.spawn(1)[0])
        ends.append(search.end(None if before is None else before - rows.origin))
        work += search.work
        best = min(ends, key=_inertia)
        again = sum(end.inertia <= best.inertia * (1 + SAME_END) for end in ends)
        if again >= effort.again or len(ends) >= effort.searches or work >= most:
            return End(best.inertia, best.centroids + rows.origin, best.n_iter)


class _Search:
    """One search, for no more than so much work."""

    def __init__(
        self, rows: FewRows, k: int, n_init: int, most: float, seed: np.random.SeedSequence
    ) -> None:
        self._rows, self._k, self._n_init, self._most = rows, k, n_init, most
        self._rng = np.random.default_rng(seed)
        self._best: list[End] = []
        self.work = 0.0

    def end(self, before: Matrix | None) -> End:
        """The best end of starts anew, and of their children."""
        if before is not None:
            self._start([before] * STARTS_FROM_BEFORE)
        for _ in range(ANEW):
            self._start([np.empty((0, self._rows.origin.size))] * self._n_init)
            if self.work > SHARE_ANEW * self._most:
                break
        better = True
        while better:
            self._breed()
            better = self._settle()
        return self._best[0]

    def _breed(self) -> None:
        idle = 0
        while idle < IDLE and self.work < self._most:
            better = self._start([self._child() for _ in range(CHILDREN * self._n_init)])
            idle = 0 if better else idle + 1

    def _settle(self) -> bool:
        """Whether moves of single rows make an end better than all before."""
        ends: list[End] = []
        for end in self._best:
            if not end.settled and (not ends or self.work < self._most):
                ends.append(self._rows.settled(end))
                self._work(ends[-1].n_iter - end.n_iter)
        return self._keep(ends)

    def _work(self, passes: int) -> None:
        self.work += work_of_a_pass(self._rows.rows, self._k) * passes

    def _child(self) -> Matrix:
        """Centroids of two of the best ends, each or what is nearest to it in the other, without
        one."""
        from scipy.optimize import linear_sum_assignment

        one, other = (self._best[i].centroids for i in self._rng.integers(len(self._best), size=2))
        mine, its = linear_sum_assignment(squared_distances(one, other))
        child = np.where(self._rng.random(self._k)[:, None] < 0.5, one[mine], other[its])
        return np.delete(child, self._rng.integers(self._k), axis=0)

    def _start(self, given: Sequence[Matrix]) -> bool:
        """Whether a start from some centroids ends better than all before."""
        ends = self._rows.ends(np.array(given), self._k, self._least, self._rng)
        self._work(sum(end.n_iter for end in ends))
        return self._keep(ends)

    def _keep(self, ends: Sequence[End]) -> bool:
        """Keep the best that differ, and say whether one is better than all before."""
        least = self._least
        differ: list[End] = []
        for end in sorted([*ends, *self._best], key=_inertia):
            if not differ or end.inertia > differ[-1].inertia * (1 + SAME_END):
                differ.append(end)
        self._best = differ[:PARENTS]
        return self._least < least * (1 - SAME_END)

    @property
    def _least(self) -> float:
        return self._best[0].inertia if self._best else float("inf")


def _inertia(end: End) -> float:
    return end.inertia
