"""Lloyd's algorithm and its k-means++ starts, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import numpy as np

from sqlkmeans.clustering.assignment import Matrix, Vector, assign, squared_distances


def lloyd(
    matrix: Matrix,
    centroids: Matrix,
    *,
    max_iter: int,
    threshold: float,
) -> tuple[Matrix, int]:
    """Passes over all rows until the centroids rest (Lloyd, 1982).

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
    centroids : ndarray of shape (k, n_features)
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
        moved = _pass(matrix, centroids, origin)
        shift = float(((moved - centroids) ** 2).sum())
        centroids = moved
        passes += 1
        if shift <= threshold:
            break
    return centroids, passes


def _pass(matrix: Matrix, centroids: Matrix, origin: Vector) -> Matrix:
    """The mean of the rows nearest to each centroid; an empty cluster moves to a far row."""
    k, n_features = centroids.shape
    counts, sums = np.zeros(k), np.zeros((k, n_features))
    for rows, distances in _blocks(matrix, centroids, origin):
        member = np.asarray(distances == distances.min(axis=0), dtype=np.float64)
        block_counts = member.sum(axis=1)
        if block_counts.sum() > len(rows):  # a tie: the first of the nearest has the row
            member = np.zeros_like(member)
            member[distances.argmin(axis=0), np.arange(len(rows))] = 1
            block_counts = member.sum(axis=1)
        counts += block_counts
        sums += member @ rows
    moved: Matrix = origin + sums / np.maximum(counts, 1)[:, None]
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        nearest = assign(matrix, centroids).squared_distances
        moved[empty] = matrix[np.argpartition(-nearest, len(empty) - 1)[: len(empty)]]
    return moved


def _blocks(matrix: Matrix, centroids: Matrix, origin: Vector) -> Iterator[tuple[Matrix, Matrix]]:
    """Rows relative to an origin, and ``|c|^2 - 2xc``, of shape (k, n_rows), block by block.

    That is the squared distance but for the row's own norm. As a matrix product it is several
    times faster than differences, and exact enough relative to an origin among the centroids,
    where it only has to say which centroid is nearer.
    """
    shifted = centroids - origin
    norms = (shifted**2).sum(axis=1)[:, None]
    step = _block_rows(len(centroids))
    for start in range(0, len(matrix), step):
        rows = matrix[start : start + step] - origin
        distances = shifted @ rows.T
        distances *= -2
        distances += norms
        yield rows, distances


def potential(matrix: Matrix, centroids: Matrix) -> float:
    """Inertia, but for a constant that depends on the rows alone: enough to compare starts."""
    origin = matrix.mean(axis=0)
    return sum(float(d.min(axis=0).sum()) for _, d in _blocks(matrix, centroids, origin))


def _block_rows(k: int) -> int:
    """Rows whose distances to k centroids fit into the processor's cache."""
    return max(512, min(16384, 81920 // k))


def seed_centroids(matrix: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """Greedy k-means++ (Arthur & Vassilvitskii, 2007): the best of a few candidates each time.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
    k : int
        At most the number of distinct rows.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (k, n_features)
        Rows of the matrix.
    """
    trials = 2 + int(log(k))
    chosen = [int(rng.integers(len(matrix)))]
    closest = squared_distances(matrix, matrix[chosen])[:, 0]
    for _ in range(1, k):
        cumulated = np.cumsum(closest)
        candidates = np.searchsorted(cumulated, rng.random(trials) * cumulated[-1], side="right")
        np.minimum(candidates, len(matrix) - 1, out=candidates)
        distances = np.minimum(closest[:, None], squared_distances(matrix, matrix[candidates]))
        best = int(distances.sum(axis=0).argmin())
        chosen.append(int(candidates[best]))
        closest = distances[:, best]
    return matrix[chosen]
