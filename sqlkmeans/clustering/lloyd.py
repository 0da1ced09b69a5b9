"""Lloyd's algorithm and its k-means++ starts."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Matrix, Vector, assign, squared_distances
from sqlkmeans.clustering.chunks import map_chunks
from sqlkmeans.clustering.kernel import kernel

Rows = npt.NDArray[np.int64]
#: Hears of passes over all rows.
Passed = Callable[[int], object]


def uncounted(passes: int) -> None:
    """Nobody wants to know."""


def lloyd(
    matrix: Matrix,
    centroids: Matrix,
    sample_weight: Vector | None = None,
    *,
    max_iter: int,
    threshold: float,
    passed: Passed = uncounted,
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
    passed : callable, optional
        Called with 1 after each pass.

    Returns
    -------
    centroids : ndarray of shape (k, n_features)
    passes : int
    """
    passes = 0
    while passes < max_iter:
        moved = _pass(matrix, centroids, sample_weight)
        shift = float(((moved - centroids) ** 2).sum())
        centroids = moved
        passes += 1
        passed(1)
        if shift <= threshold:
            break
    return centroids, passes


def _pass(matrix: Matrix, centroids: Matrix, sample_weight: Vector | None) -> Matrix:
    """The mean of the rows nearest to each centroid; an empty cluster moves to a far row."""
    add_rows = kernel(matrix.size).add_rows

    def add(start: int, stop: int) -> tuple[Matrix, Vector]:
        sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids))
        add_rows(matrix, start, stop, sample_weight, centroids, sums, counts)
        return sums, counts

    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids))
    for chunk_sums, chunk_counts in map_chunks(len(matrix), add):
        sums += chunk_sums
        counts += chunk_counts
    empty = np.flatnonzero(counts == 0)
    counts[empty] = 1
    moved: Matrix = sums / counts[:, None]
    if len(empty):
        moved[empty] = matrix[_farthest(matrix, centroids, sample_weight, len(empty))]
    return moved


def _farthest(matrix: Matrix, centroids: Matrix, sample_weight: Vector | None, count: int) -> Rows:
    """Row numbers of the rows that count and are farthest from their centroid."""

    def find(start: int, stop: int) -> tuple[Rows, Vector]:
        distances = assign(matrix[start:stop], centroids).squared_distances
        if sample_weight is not None:
            distances *= sample_weight[start:stop] > 0
        rows = np.argsort(-distances, kind="stable")[:count]
        return start + rows, distances[rows]

    rows, distances = (np.concatenate(part) for part in zip(*map_chunks(len(matrix), find)))
    return np.asarray(rows[np.argsort(-distances, kind="stable")[:count]])


def seed_centroids(
    matrix: Matrix,
    k: int,
    rng: np.random.Generator,
    sample_weight: Vector | None = None,
    given: Matrix | None = None,
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

    Returns
    -------
    ndarray of shape (k, n_features)
        The given ones, then rows of the matrix.
    """

    def draw(chances: Vector, size: int) -> Rows:
        cumulated = np.cumsum(chances)
        drawn: Rows = np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right")
        return drawn

    def weighted(distances: Matrix) -> Matrix:
        return distances if sample_weight is None else distances * sample_weight[:, None]

    if given is None:
        chance = np.ones(len(matrix)) if sample_weight is None else sample_weight
        given = matrix[draw(chance, 1)]
    chosen = list(given)
    trials = 2 + int(log(k))
    closest = assign(matrix, given).squared_distances[:, None]
    while len(chosen) < k:
        candidates = draw(weighted(closest)[:, 0], trials)
        # Rounding can lead one past the end.
        np.minimum(candidates, len(matrix) - 1, out=candidates)
        distances = np.minimum(closest, squared_distances(matrix, matrix[candidates]))
        best = int(weighted(distances).sum(axis=0).argmin())
        chosen.append(matrix[candidates[best]])
        closest = distances[:, best : best + 1]
    return np.array(chosen)
