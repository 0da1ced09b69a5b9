"""Which rows hang together, whatever shape they make: what K-Means may not be able to find."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing.judged_columns import spread
from sqlkmeans.clustering.kmeans.assignment import squared_distances

#: Of fewer rows nothing is said.
FEWEST_ROWS = 100
#: How crowded it is around a row is told by its distance to so many-th neighbour.
NEIGHBOURS = 5
#: A crowd has at least such a share of the rows.
SHARE = 0.05
#: Between two crowds rows lie so many times thinner than in the middle of either. Around one
#: crowd of noise the thinnest place that parts so many rows is up to 2.6 times thinner.
VALLEY = 3.0


def crowds(sample: Matrix, seed: int) -> npt.NDArray[np.int32]:
    """Label the crowds that a valley of density parts from each other.

    Single linkage of rows by their mutual reachability, as HDBSCAN's (Campello, Moulavi & Sander,
    2013, "Density-based clustering based on hierarchical density estimates"): two rows are as far
    apart as they are, or as either is from its fifth neighbour where that is more. Two parts that
    meet are crowds of their own if both are large, and meet at a distance at which the density is
    less than a third of what it typically is in either.

    Parameters
    ----------
    sample : ndarray of shape (n_rows, n_features)
    seed : int

    Returns
    -------
    ndarray of int32 of shape (n_rows,)
        0, 1 … in no order; -1 for a row between the crowds. All 0 where there is one crowd, or
        too few rows to tell.
    """
    n_rows = len(sample)
    everyone = np.zeros(n_rows, dtype=np.int32)
    if n_rows < FEWEST_ROWS:
        return everyone
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    points = spread(sample, seed)
    distances = np.sqrt(squared_distances(points, points))
    core = np.partition(distances, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    np.maximum(distances, core, out=distances)
    np.maximum(distances, core[:, None], out=distances)
    merges = linkage(squareform(distances, checks=False), "single")
    found = _parted(core, merges, _least_ratio(sample))
    if not found:
        return everyone
    labels = np.full(n_rows, -1, dtype=np.int32)
    for label, rows in enumerate(found):
        labels[rows] = label
    return labels


def _least_ratio(sample: Matrix) -> float:
    """The ratio of distances at which the density has fallen by ``VALLEY``.

    By the dimensions that the rows fill rather than their columns: the participation ratio of the
    variances along the principal axes.
    """
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(sample, rowvar=False)))
    dimensions = variances.sum() ** 2 / (variances**2).sum()
    return float(VALLEY ** (1 / dimensions))


def _parted(core: Vector, merges: Matrix, ratio: float) -> list[list[int]]:
    """The rows of each crowd; none where everyone is one. Merges are those of SciPy's linkage."""
    least = max(SHARE * len(core), NEIGHBOURS + 1)
    rows = [[row] for row in range(len(core))]
    # Of a part in which crowds were told apart, those.
    inside: dict[int, list[list[int]]] = {}
    for one, other, length, _ in merges:
        a, b = sorted((int(one), int(other)), key=lambda number: -len(rows[number]))
        of_a, of_b = inside.pop(a, []), inside.pop(b, [])
        if len(rows[b]) >= least:
            typical = max(float(np.median(core[rows[number]])) for number in (a, b))
            # Where most rows are equal, nothing tells how crowded it is.
            valley = typical > 0 and length > ratio * typical
            if valley or (of_a and of_b):
                of_a = [*(of_a or [rows[a]]), *(of_b or [rows[b]])]
                of_b = []
        if of_a or of_b:
            inside[len(rows)] = of_a or of_b
        rows.append(rows[a] + rows[b])
    return next(iter(inside.values()), [])
