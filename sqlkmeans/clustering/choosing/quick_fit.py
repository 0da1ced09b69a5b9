"""Many small fits, where a score needs them: a few starts on a sample, and no more."""

from __future__ import annotations

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.kmeans.kmeans import MAX_ITER, TOLERANCE
from sqlkmeans.clustering.kmeans.lloyd import lloyd, seed_centroids

#: k-means++ starts.
N_INIT = 2


def quick_centroids(rows: Matrix, k: int, seed: int) -> Matrix:
    """The centroids of the best of two k-means++ starts.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    k : int
        At most the number of rows that differ, see :func:`distinct`.
    seed : int

    Returns
    -------
    ndarray of shape (k, n_features)
    """
    threshold = TOLERANCE * float(rows.var(axis=0).mean())
    found = []
    for start in range(N_INIT):
        seeds = seed_centroids(rows, k, np.random.default_rng([seed, k, start]))
        found.append(lloyd(rows, seeds, max_iter=MAX_ITER, threshold=threshold).centroids)
    return min(found, key=lambda centroids: assign(rows, centroids).inertia)


def distinct(rows: Matrix, at_most: int, sample_weight: Vector | None = None) -> int:
    """How many rows differ; reads no further than needed to see that ``at_most`` do.

    With weights, a row of weight 0 does not count.
    """
    found: set[bytes] = set()
    for number, row in enumerate(rows):
        if sample_weight is not None and not sample_weight[number] > 0:
            continue
        # + 0.0 turns -0.0 into 0.0, which is equal but has other bytes.
        found.add((row + 0.0).tobytes())
        if len(found) == at_most:
            break
    return len(found)
