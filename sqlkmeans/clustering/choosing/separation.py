"""Do the rows thin out between two segments, or does the border cut a crowd?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.kmeans.assignment import squared_distances

#: Half the width of the strip along a border; 1 is the way from the border to a centroid.
STRIP = 0.15
# Strips begin so far apart, and reach a little beyond the centroids.
_CENTRES = np.arange(STRIP, 1.1, STRIP / 4) + STRIP
#: A border fuller than this says no more.
FULL = 2.0


@dataclass(frozen=True)
class Separation:
    """How empty the fullest border between two segments is.

    Attributes
    ----------
    value : float
        1 where every border is empty, 0 or less where one is as full as the segments beside it.
    error : float
        By how much less it is if one standard error is allowed for chance on either side: few
        rows prove nothing.
    """

    value: float
    error: float


def separation(
    points: Matrix, labels: npt.NDArray[np.int32], centroids: Matrix, weights: Vector
) -> Separation:
    """Look at the border between every two segments.

    The rows of two segments are put in order along the line through the two centroids. In the
    middle of it lies the border: between two crowds the rows are fewest there, and where the
    border cuts one crowd, they are not. So every two segments are asked whether they are one
    (as projected tests of unimodality do: Hartigan & Hartigan, 1985, "The dip test of
    unimodality"; Chamalis & Likas, 2018, "The projected dip-means clustering algorithm").

    Parameters
    ----------
    points : ndarray of shape (n_rows, n_features)
    labels : ndarray of int of shape (n_rows,)
        The nearest centroid of each row.
    centroids : ndarray of shape (k, n_features)
    weights : ndarray of shape (n_rows,)
        How many rows each row stands for.

    Returns
    -------
    Separation
        1 less the rows in the strip along the border, over those in the fullest such strip of the
        emptier side; of all pairs the least.
    """
    squared = squared_distances(points, centroids)
    fullest, at_most = 0.0, 0.0
    for a, b in combinations(range(len(centroids)), 2):
        pair = (labels == a) | (labels == b)
        apart = ((centroids[a] - centroids[b]) ** 2).sum()
        # -1 at the one centroid, 0 at the border, 1 at the other.
        along = (squared[pair, a] - squared[pair, b]) / apart
        middle, beside = _strips(along, weights[pair] / weights[pair].mean())
        fullest = max(fullest, _ratio(middle, beside))
        at_most = max(at_most, _ratio(middle + (middle + 1) ** 0.5, beside - beside**0.5))
    return Separation(1.0 - fullest, at_most - fullest)


def _strips(along: Vector, weights: Vector) -> tuple[float, float]:
    """Rows in the strip along the border, and in the fullest of the side that has fewer."""
    order = np.argsort(along, kind="stable")
    along, summed = along[order], np.concatenate([[0.0], np.cumsum(weights[order])])

    def inside(centres: npt.ArrayLike) -> npt.NDArray[np.float64]:
        low, high = (np.searchsorted(along, np.add(centres, side)) for side in (-STRIP, STRIP))
        return np.asarray(summed[high] - summed[low])

    return float(inside(0.0)), min(float(inside(_CENTRES).max()), float(inside(-_CENTRES).max()))


def _ratio(middle: float, beside: float) -> float:
    return min(middle / beside, FULL) if beside > 0 else FULL
