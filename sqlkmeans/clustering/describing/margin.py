"""Why one customer is in a segment and not in the next nearest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Vector

#: Margins from which an answer is sure, and fairly sure; below, it is borderline.
SURE, FAIRLY_SURE = 0.5, 0.2


@dataclass(frozen=True)
class Margin:
    """A point between its two nearest centroids.

    Attributes
    ----------
    own, runner_up : int
        Indices of the nearest centroid and of the next.
    distance, runner_up_distance : float
        In the scaled space.
    contributions : ndarray of float64 of shape (n_features,)
        What each feature adds to the difference of the squared distances, runner-up minus own;
        negative where a feature speaks for the runner-up.
    """

    own: int
    runner_up: int
    distance: float
    runner_up_distance: float
    contributions: Vector

    @property
    def margin(self) -> float:
        """1 - distance / runner_up_distance: 1 at the own centroid, 0 half-way to the other.

        A point's simplified silhouette (Hruschka, de Castro & Campello, 2004).
        """
        if self.runner_up_distance == 0:
            return 0.0
        return 1 - self.distance / self.runner_up_distance

    @property
    def certainty(self) -> str:
        """The margin in words: ``sure``, ``fairly sure`` or ``borderline``."""
        if self.margin >= SURE:
            return "sure"
        return "fairly sure" if self.margin >= FAIRLY_SURE else "borderline"


def margin_of(point: Vector, centroids: npt.NDArray[np.float64]) -> Margin:
    """Compare a point's two nearest centroids.

    Parameters
    ----------
    point : ndarray of shape (n_features,)
        Prepared.
    centroids : ndarray of shape (k, n_features)
        At least two.
    """
    squares = (point - centroids) ** 2
    totals = squares.sum(axis=1)
    own, runner_up = np.argsort(totals, kind="stable")[:2].tolist()
    return Margin(
        own,
        runner_up,
        float(np.sqrt(totals[own])),
        float(np.sqrt(totals[runner_up])),
        squares[runner_up] - squares[own],
    )
