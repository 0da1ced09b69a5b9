"""K-Means: scikit-learn's up to ``sample_rows``, above it restarts on a sample and exact passes.

Above ``sample_rows`` the restarts run on a small random sample, a larger one tells which of them
is best, and Lloyd's passes over all rows carry that one to the end. Restarts exist to find the
right basin, for which a sample is enough; the passes that follow are exact, so the result is a
K-Means solution of all rows (Bradley & Fayyad, 1998, "Refining initial points for K-Means
clustering").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Assignment, Matrix, Vector, assign
from sqlkmeans.clustering.lloyd import lloyd, potential, seed_centroids
from sqlkmeans.clustering.threads import one_library_thread
from sqlkmeans.errors import DataError

Rows = npt.NDArray[np.int64]

SAMPLE_ROWS = 100_000
# Rows of the small sample, for each cluster and at least: enough to tell basins apart.
START_ROWS_PER_CLUSTER, START_ROWS = 1_000, 20_000
MAX_ITER = 300
TOLERANCE = 1e-4
# Passes over all rows are few and settle the result, so they go on for longer than a restart.
PASS_TOLERANCE_SHARE = 0.1


@dataclass(frozen=True)
class KMeansFit:
    """A fitted K-Means.

    Attributes
    ----------
    centroids : ndarray of float64 of shape (k, n_features)
        Largest cluster first; ties in the order of their coordinates.
    assignment : Assignment
        Every row's nearest centroid, as indices into ``centroids``.
    n_iter : int
        Lloyd iterations of the best start, the passes over all rows included.
    """

    centroids: Matrix
    assignment: Assignment
    n_iter: int


def fit_kmeans(
    matrix: Matrix,
    k: int,
    *,
    sample_weight: Vector | None = None,
    n_init: int = 10,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    max_iter: int = MAX_ITER,
    tol: float = TOLERANCE,
) -> KMeansFit:
    """Cluster prepared rows.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows, in an order that does not depend on chance (the key's).
    k : int
        Number of clusters.
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        How much each row counts, finite and 0 or more; by default each counts 1. A row of
        weight 0 is labelled and moves no centroid.
    n_init : int, default=10
        Number of k-means++ starts; the one with the lowest inertia wins.
    seed : int, default=0
    sample_rows : int, default=100_000
        Up to this many rows the fit is scikit-learn's own.
    max_iter : int, default=300
    tol : float, default=1e-4
        A start ends when its centroids move by less than this share of the features' mean
        variance (scikit-learn's ``tol``); the passes over all rows end at a tenth of it.

    Returns
    -------
    KMeansFit
        The same for the same rows in the same order, whatever the number of threads.

    Raises
    ------
    DataError
        If the rows that have a weight have fewer than ``k`` distinct values.
    """
    distinct = _distinct_rows(matrix, k, sample_weight)
    if len(matrix) <= sample_rows:
        centroids, n_iter = _scikit_learn(matrix, sample_weight, k, n_init, seed, max_iter, tol)
    else:
        with one_library_thread():
            centroids, n_iter = _sample_then_all(
                matrix, sample_weight, distinct, n_init, seed, sample_rows, max_iter, tol
            )
    assignment = assign(matrix, centroids, sample_weight)
    return _largest_first(KMeansFit(centroids, assignment, n_iter))


def _scikit_learn(
    matrix: Matrix, sample_weight: Vector | None, k: int, n_init: int, seed: int, max_iter: int,
    tol: float,
) -> tuple[Matrix, int]:  # fmt: skip
    from sklearn.cluster import KMeans

    if sample_weight is not None:
        # scikit-learn may start from a row of weight 0, and such a cluster could stay empty.
        counts = sample_weight > 0
        matrix, sample_weight = matrix[counts], sample_weight[counts]
    model = KMeans(k, n_init=n_init, random_state=seed, max_iter=max_iter, tol=tol)
    with one_library_thread():
        model.fit(matrix, sample_weight=sample_weight)
    return model.cluster_centers_, int(model.n_iter_)


def _sample_then_all(
    matrix: Matrix, sample_weight: Vector | None, distinct: Rows, n_init: int, seed: int,
    sample_rows: int, max_iter: int, tol: float,
) -> tuple[Matrix, int]:  # fmt: skip
    k = len(distinct)
    for_sample, *for_starts = np.random.SeedSequence(seed).spawn(1 + n_init)
    rng = np.random.default_rng(for_sample)
    if sample_weight is None:
        drawn = rng.choice(len(matrix), sample_rows - k, replace=False)
    else:
        counting = np.flatnonzero(sample_weight > 0)
        drawn = rng.choice(counting, min(sample_rows - k, len(counting)), replace=False)
    # Rows that repeat often could crowd out the rare ones: k rows that differ are always in.
    rows = np.concatenate([distinct, drawn])
    sample, weight = matrix[rows], None if sample_weight is None else sample_weight[rows]
    threshold = tol * float(sample.var(axis=0).mean())
    start_rows = slice(max(START_ROWS, START_ROWS_PER_CLUSTER * k))
    small, small_weight = sample[start_rows], None if weight is None else weight[start_rows]

    def start(sequence: np.random.SeedSequence) -> tuple[Matrix, int]:
        seeds = seed_centroids(small, k, np.random.default_rng(sequence), small_weight)
        return lloyd(small, seeds, small_weight, max_iter=max_iter, threshold=threshold)

    starts = [start(sequence) for sequence in for_starts]
    inertias = [potential(sample, centroids, weight) for centroids, _ in starts]
    centroids, n_iter = starts[int(np.argmin(inertias))]
    centroids, passes = lloyd(sample, centroids, weight, max_iter=max_iter, threshold=threshold)
    rest = PASS_TOLERANCE_SHARE * threshold
    centroids, all_passes = lloyd(
        matrix, centroids, sample_weight, max_iter=max_iter, threshold=rest
    )
    return centroids, n_iter + passes + all_passes


def _largest_first(fit: KMeansFit) -> KMeansFit:
    k = len(fit.centroids)
    sizes = fit.assignment.sizes(k)
    order = sorted(range(k), key=lambda j: (-sizes[j], tuple(fit.centroids[j])))
    rank = np.empty(k, dtype=np.int32)
    rank[order] = np.arange(k, dtype=np.int32)
    assignment = replace(fit.assignment, labels=rank[fit.assignment.labels])
    return KMeansFit(np.ascontiguousarray(fit.centroids[order]), assignment, fit.n_iter)


def _distinct_rows(matrix: Matrix, k: int, sample_weight: Vector | None) -> Rows:
    """Numbers of the first k rows that differ and count; reads no further than needed.

    Raises
    ------
    DataError
        If there are fewer.
    """
    found: dict[bytes, int] = {}
    for start in range(0, len(matrix), 4096):
        block = slice(start, start + 4096)
        # + 0.0 turns -0.0 into 0.0, which is equal but has other bytes.
        for number, row in enumerate(matrix[block] + 0.0, start):
            if sample_weight is None or sample_weight[number] > 0:
                found.setdefault(row.tobytes(), number)
        if len(found) >= k:
            return np.array(list(found.values())[:k])
    raise DataError(
        f"k = {k} needs at least {k} customers that differ in their features, and there are "
        f"{len(found)} among {len(matrix):,} rows; lower k or add features"
    )
