"""The two directions in which points lie farthest apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix, Vector


@dataclass(frozen=True, eq=False)
class Components:
    """The first two principal components of some points.

    Attributes
    ----------
    middle : ndarray of float64 of shape (n_features,)
    directions : ndarray of float64 of shape (2, n_features)
        0 for a component that there is none of.
    shares : ndarray of float64 of shape (2,)
        Of the variance.
    """

    middle: Vector
    directions: Matrix
    shares: Vector

    def places(self, points: Matrix) -> Matrix:
        """Where points lie along the two, of shape (n_points, 2)."""
        return np.asarray((points - self.middle) @ self.directions.T)


def principal_components(points: Matrix) -> Components:
    """The components of points of shape (n_points, n_features), one at least."""
    middle = points.mean(axis=0)
    _, spread, directions = np.linalg.svd(points - middle, full_matrices=False)
    directions = np.vstack([directions[:2], np.zeros((2, points.shape[1]))])[:2]
    # A component has no sign of its own: its largest part points up.
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.where(directions[[0, 1], largest] < 0, -1, 1)[:, None]
    shares = np.append(spread**2, [0.0, 0.0])[:2] / max(float((spread**2).sum()), 1e-300)
    return Components(middle, directions, shares)
