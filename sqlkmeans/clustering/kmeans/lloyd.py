"""Lloyd's algorithm and its k-means++ starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np

from sqlkmeans.clustering.arrays.chunks import Empty
from sqlkmeans.clustering.arrays.types import Matrix, RowNumbers, Vector
from sqlkmeans.clustering.kmeans.assignment import Assignment
from sqlkmeans.clustering.kmeans.hamerly import HamerlyLabels
from sqlkmeans.clustering.kmeans.kernels.numpy_kernel import squared_differences

#: Passes of :func:`settle` at most.
MAX_PASSES = 3_000
#: Hears of passes over all rows.
Passed = Callable[[int], object]


def uncounted(passes: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Clusters:
    """Where Lloyd's passes ended.

    Attributes
    ----------
    centroids : ndarray of shape (k, n_features)
    n_iter : int
        Passes.
    """

    centroids: Matrix
    n_iter: int
    _members: HamerlyLabels

    def assignment(self) -> Assignment:
        """Every row's nearest centroid, as :func:`assign` finds it; to be called once."""
        return self._members.assignment(self.centroids)


def lloyd(
    matrix: Matrix,
    centroids: Matrix,
    sample_weight: Vector | None = None,
    *,
    max_iter: int,
    threshold: float,
    empty: Empty = np.empty,
    passed: Passed = uncounted,
) -> Clusters:
    """Passes over all rows until the centroids rest (Lloyd, 1982).

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
    centroids : ndarray of shape (k, n_features)
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        How much each row counts, 0 or more; by default 1.
    max_iter : int
    threshold : float
        Ends when the sum of the squared moves of all centroids is at most this.
    empty : callable, default=numpy.empty
        Makes arrays as long as the rows.
    passed : callable, optional
        Called with 1 after each pass.

    Returns
    -------
    Clusters
    """
    members = HamerlyLabels(matrix, sample_weight, empty)
    passes = 0
    while passes < max_iter:
        moved = members.means(centroids)
        shift = float(((moved - centroids) ** 2).sum())
        centroids = moved
        passes += 1
        passed(1)
        if shift <= threshold:
            break
    return Clusters(centroids, passes, members)


def settle(
    matrix: Matrix,
    centroids: Matrix,
    sample_weight: Vector | None = None,
    *,
    max_iter: int,
    empty: Empty = np.empty,
    passed: Passed = uncounted,
) -> Clusters:
    """Passes until no label changes, and moves of single rows, until neither lowers the inertia.

    Each centroid is then the mean of the rows that are nearest to it. Parameters are those of
    :func:`lloyd`; ``max_iter`` bounds the passes of all rounds.

    Returns
    -------
    Clusters
    """
    members = HamerlyLabels(matrix, sample_weight, empty)
    passes = 0
    while True:
        rested = False
        while passes < max_iter and not rested:
            moved = members.means(centroids)
            rested = np.array_equal(moved, centroids)
            centroids = moved
            passes += 1
            passed(1)
        better = members.single_moves(centroids) if rested else None
        if better is None:
            return Clusters(centroids, passes, members)
        centroids = better


def seed_centroids(
    matrix: Matrix,
    k: int,
    rng: np.random.Generator,
    sample_weight: Vector | None = None,
    given: Matrix | None = None,
    more_trials: int = 1,
) -> Matrix:
    """Greedy k-means++ (Arthur & Vassilvitskii, 2007): the best of a few candidates each time.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
    k : int
        At most the number of distinct rows that have a weight.
    rng : numpy.random.Generator
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        A row is drawn in proportion to it, and never where it is 0; by default 1.
    given : ndarray of shape (at most k, n_features), optional
        Centroids to add to.
    more_trials : int, default=1
        How many times as many candidates as scikit-learn has, which are 2 + log(k).

    Returns
    -------
    ndarray of shape (k, n_features)
        The given ones, then rows of the matrix.
    """

    def draw(chances: Vector, size: int) -> RowNumbers:
        cumulated = np.cumsum(chances)
        drawn: RowNumbers = np.searchsorted(
            cumulated, rng.random(size) * cumulated[-1], side="right"
        )
        return drawn

    def choose(centroid: Vector) -> None:
        chosen.append(centroid)
        # By differences: a row that equals a centroid must not be drawn again.
        np.minimum(closest, squared_differences(columns, centroid[None, :])[0], out=closest)

    weight = np.ones(len(matrix)) if sample_weight is None else sample_weight
    columns = np.ascontiguousarray(matrix.T, dtype=np.float64)
    chosen: list[Vector] = []
    closest = np.full(len(matrix), np.inf)
    for centroid in matrix[draw(weight, 1)] if given is None else given:
        choose(centroid)
    # Products of what is far from the origin would drown the distances.
    relative = columns - columns.mean(axis=1, keepdims=True)
    norms = np.einsum("ij,ij->j", relative, relative)
    trials = more_trials * (2 + int(log(k)))
    distances = np.empty((trials, len(matrix)))
    while len(chosen) < k:
        candidates = draw(closest * weight, trials)
        # Rounding can lead one past the end.
        np.minimum(candidates, len(matrix) - 1, out=candidates)
        np.matmul(-2 * relative[:, candidates].T, relative, out=distances)
        distances += norms
        distances += norms[candidates, None]
        np.minimum(distances, closest, out=distances)
        choose(matrix[candidates[int((distances @ weight).argmin())]])
    return np.array(chosen)
