"""Does a partition come back when other customers are drawn?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.choosing.quick_fit import distinct, quick_centroids
from sqlkmeans.clustering.kmeans.assignment import assign

#: At most so many rows are drawn from, in two halves, so many times.
ROWS, DRAWS = 2_000, 5


def stability(sample: Matrix, k: int, seed: int) -> float | None:
    """How alike the partitions are that two halves of the rows give (after Ben-Hur, Elisseeff &
    Guyon, 2002, "A stability based method for discovering structure in clustered data").

    Each half is clustered by itself, all rows are labelled with either, and the two labellings
    are compared.

    Parameters
    ----------
    sample : ndarray of shape (n_rows, n_features)
    k : int
    seed : int

    Returns
    -------
    float or None
        Mean adjusted Rand index (Hubert & Arabie, 1985) over five draws: 1 the same, 0 what
        chance gives. None if a half has fewer than k rows that differ.
    """
    found = []
    for draw in range(DRAWS):
        order = np.random.default_rng([seed, k, draw]).permutation(len(sample))
        middle = len(order) // 2
        halves = [sample[np.sort(order[half])] for half in (slice(middle), slice(middle, None))]
        if any(distinct(half, k) < k for half in halves):
            return None
        a, b = (assign(sample, quick_centroids(half, k, draw)).labels for half in halves)
        found.append(adjusted_rand_index(a, b, k))
    return float(np.mean(found))


def adjusted_rand_index(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32], k: int) -> float:
    """How alike two labellings are (Hubert & Arabie, 1985); labels 0 to k - 1.

    scikit-learn's ``adjusted_rand_score``, without the second that it takes to load it.
    """
    table = crossed(a, b, k)
    together = _pairs(table).sum()
    in_a, in_b = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    expected = in_a * in_b / _pairs(np.array(len(a)))
    most = (in_a + in_b) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def crossed(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.int64]:
    """How many rows have each pair of labels, of shape (k, k); labels 0 to k - 1."""
    return np.bincount(a.astype(np.int64) * k + b, minlength=k * k).reshape(k, k)


def _pairs(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return counts * (counts - 1) / 2
