"""Lloyd's algorithm and its k-means++ starts, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Matrix, Vector, assign, squared_distances

Rows = npt.NDArray[np.int64]


def lloyd(
    matrix: Matrix,
    centroids: Matrix,
    sample_weight: Vector | None = None,
    *,
    max_iter: int,
    threshold: float,
) -> tuple[Matrix, int]:
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

    Returns
    -------
    centroids : ndarray of shape (k, n_features)
    passes : int
    """
    # The same in all passes, so that centroids at rest come out to the last bit; the median, so
    # that one very far away does not cost the others their digits.
    origin = np.sort(centroids, axis=0)[(len(centroids) - 1) // 2]
    passes = 0
    while passes < max_iter:
        moved = _pass(matrix, centroids, sample_weight, origin)
        shift = float(((moved - centroids) ** 2).sum())
        centroids = moved
        passes += 1
        if shift <= threshold:
            break
    return centroids, passes


def _pass(
    matrix: Matrix, centroids: Matrix, sample_weight: Vector | None, origin: Vector
) -> Matrix:
    """The mean of the rows nearest to each centroid; an empty cluster moves to a far row."""
    k, n_features = centroids.shape
    counts, sums = np.zeros(k), np.zeros((k, n_features))
    for where, rows, distances in _blocks(matrix, centroids, origin):
        member = np.asarray(distances == distances.min(axis=0), dtype=np.float64)
        if member.sum() > len(rows):  # a tie: the first of the nearest has the row
            member = np.zeros_like(member)
            member[distances.argmin(axis=0), np.arange(len(rows))] = 1
        if sample_weight is not None:
            member *= sample_weight[where]
        counts += member.sum(axis=1)
        sums += member @ rows
    empty = np.flatnonzero(counts == 0)
    counts[empty] = 1
    moved: Matrix = origin + sums / counts[:, None]
    if len(empty):
        nearest = assign(matrix, centroids).squared_distances
        if sample_weight is not None:
            nearest *= sample_weight > 0
        moved[empty] = matrix[np.argpartition(-nearest, len(empty) - 1)[: len(empty)]]
    return moved


def _blocks(
    matrix: Matrix, centroids: Matrix, origin: Vector
) -> Iterator[tuple[slice, Matrix, Matrix]]:
    """Where, rows relative to an origin, and ``|c|^2 - 2xc``, of shape (k, n_rows), block by block.

    That is the squared distance but for the row's own norm. As a matrix product it is several
    times faster than differences, and exact enough relative to an origin among the centroids,
    where it only has to say which centroid is nearer.
    """
    shifted = centroids - origin
    norms = (shifted**2).sum(axis=1)[:, None]
    step = _block_rows(len(centroids))
    for start in range(0, len(matrix), step):
        where = slice(start, start + step)
        rows = matrix[where] - origin
        distances = shifted @ rows.T
        distances *= -2
        distances += norms
        yield where, rows, distances


def potential(matrix: Matrix, centroids: Matrix, sample_weight: Vector | None = None) -> float:
    """Inertia, but for a constant that depends on the rows alone: enough to compare starts."""
    origin = matrix.mean(axis=0)
    total = 0.0
    for where, _, distances in _blocks(matrix, centroids, origin):
        nearest = distances.min(axis=0)
        total += float((nearest if sample_weight is None else nearest * sample_weight[where]).sum())
    return total


def _block_rows(k: int) -> int:
    """Rows whose distances to k centroids fit into the processor's cache."""
    return max(512, min(16384, 81920 // k))


def seed_centroids(
    matrix: Matrix, k: int, rng: np.random.Generator, sample_weight: Vector | None = None
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

    Returns
    -------
    ndarray of shape (k, n_features)
        Rows of the matrix.
    """

    def draw(chances: Vector, size: int) -> Rows:
        cumulated = np.cumsum(chances)
        drawn: Rows = np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right")
        return drawn

    def weighted(distances: Matrix) -> Matrix:
        return distances if sample_weight is None else distances * sample_weight[:, None]

    if sample_weight is None:
        chosen = [int(rng.integers(len(matrix)))]
    else:
        chosen = draw(sample_weight, 1).tolist()
    trials = 2 + int(log(k))
    closest = squared_distances(matrix, matrix[chosen])
    for _ in range(1, k):
        candidates = draw(weighted(closest)[:, 0], trials)
        # Rounding can lead one past the end.
        np.minimum(candidates, len(matrix) - 1, out=candidates)
        distances = np.minimum(closest, squared_distances(matrix, matrix[candidates]))
        best = int(weighted(distances).sum(axis=0).argmin())
        chosen.append(int(candidates[best]))
        closest = distances[:, best : best + 1]
    return matrix[chosen]
