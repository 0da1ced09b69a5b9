"""How good a partition is: silhouette, Davies-Bouldin, Calinski-Harabasz."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Assignment, Matrix
from sqlkmeans.clustering.chunks import map_chunks
from sqlkmeans.clustering.sampling import stratified_rows
from sqlkmeans.clustering.threads import one_library_thread

SILHOUETTE_ROWS = 2_000


@dataclass(frozen=True)
class Scores:
    """Scores of a partition; None where a score is not defined (k = 1, or every row alone).

    Attributes
    ----------
    silhouette : float or None
        Mean silhouette coefficient (Rousseeuw, 1987), -1 to 1, higher is better. Above
        2,000 rows, estimated on a sample drawn from every segment and weighted by its share.
    davies_bouldin : float or None
        Davies & Bouldin (1979), 0 or more, lower is better; over all rows.
    calinski_harabasz : float or None
        Calinski & Harabasz (1974), higher is better; over all rows.
    segment_silhouettes : tuple of float of length k, or empty
        The mean of each cluster's rows.
    """

    silhouette: float | None
    davies_bouldin: float | None
    calinski_harabasz: float | None
    segment_silhouettes: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, float | None]:
        """The scores of the partition as a whole, as the run's row keeps them."""
        return {
            "silhouette": self.silhouette,
            "davies_bouldin": self.davies_bouldin,
            "calinski_harabasz": self.calinski_harabasz,
        }


def score(matrix: Matrix, centroids: Matrix, assignment: Assignment, *, seed: int = 0) -> Scores:
    """Score a partition.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows.
    centroids : ndarray of shape (k, n_features)
    assignment : Assignment
        Of the rows to the centroids.
    seed : int, default=0
        Draws the silhouette's sample.
    """
    n_rows, k = len(matrix), len(centroids)
    sizes = assignment.sizes(k)
    if k < 2 or n_rows <= k or not sizes.all():
        return Scores(None, None, None)
    with one_library_thread():
        by_segment = _silhouettes(matrix, assignment.labels, sizes, seed)
    return Scores(
        silhouette=float((by_segment * sizes).sum() / sizes.sum()),
        davies_bouldin=_davies_bouldin(centroids, assignment, sizes),
        calinski_harabasz=_calinski_harabasz(matrix, assignment, k),
        segment_silhouettes=tuple(by_segment.tolist()),
    )


def _davies_bouldin(
    centroids: Matrix, assignment: Assignment, sizes: npt.NDArray[np.int64]
) -> float | None:
    labels, squared = assignment.labels, assignment.squared_distances

    def add(start: int, stop: int) -> Matrix:
        distances = np.sqrt(squared[start:stop])
        of_chunk = np.bincount(labels[start:stop], weights=distances, minlength=len(sizes))
        return np.asarray(of_chunk, dtype=np.float64)

    return davies_bouldin_of(centroids, np.sum(map_chunks(len(labels), add), axis=0) / sizes)


def davies_bouldin_of(centroids: Matrix, spread: npt.NDArray[np.float64]) -> float | None:
    """The score from each cluster's mean distance to its centroid."""
    apart = np.sqrt(((centroids[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    if not apart.all():
        return None
    return float(((spread[:, None] + spread[None, :]) / apart).max(axis=1).mean())


def _calinski_harabasz(matrix: Matrix, assignment: Assignment, k: int) -> float | None:
    n_rows = len(matrix)
    mean = np.sum(map_chunks(n_rows, lambda *ends: matrix[slice(*ends)].sum(axis=0)), axis=0)
    mean /= n_rows

    def add(start: int, stop: int) -> float:
        difference = matrix[start:stop] - mean
        return float(np.einsum("ij,ij->", difference, difference))

    total = fsum(map_chunks(n_rows, add))
    # Rows count alike here, whatever they weigh in the inertia.
    within = float(assignment.squared_distances.sum())
    return calinski_harabasz_of(total, within, n_rows, k)


def calinski_harabasz_of(total: float, within: float, n_rows: int, k: int) -> float | None:
    """The score from sums of squared distances: to everyone's mean, and to the centroids."""
    if within == 0:
        return None
    return float((total - within) / (k - 1) / (within / (n_rows - k)))


def _silhouettes(
    matrix: Matrix, labels: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64], seed: int
) -> npt.NDArray[np.float64]:
    """The mean silhouette coefficient of each segment."""
    rows = stratified_rows(labels, sizes, SILHOUETTE_ROWS, seed)
    drawn = labels[rows]
    values = silhouette_coefficients(matrix[rows], drawn, len(sizes))
    return np.bincount(drawn, weights=values, minlength=len(sizes)) / np.bincount(drawn)


def silhouette_coefficients(
    points: Matrix, labels: npt.NDArray[np.int32], k: int
) -> npt.NDArray[np.float64]:
    """The silhouette coefficient of each row (Rousseeuw, 1987); 0 for a row that is alone.

    scikit-learn's ``silhouette_samples``, without the second that it takes to load it.

    Parameters
    ----------
    points : ndarray of shape (n_rows, n_features)
    labels : ndarray of int of shape (n_rows,)
        0 to k - 1, each at least once.
    k : int
    """
    member = np.zeros((len(points), k))
    member[np.arange(len(points)), labels] = 1
    sizes = member.sum(axis=0)
    points = points - points.mean(axis=0)  # far from the origin, the squares would drown them
    norms = (points**2).sum(axis=1)
    result = np.empty(len(points))
    for start in range(0, len(points), 128):
        rows = slice(start, start + 128)
        squared = norms[rows, None] - 2 * (points[rows] @ points.T) + norms[None, :]
        distances = np.sqrt(np.maximum(squared, 0))
        own = np.arange(len(distances)), labels[rows]
        distances[own[0], start + own[0]] = 0
        sums = distances @ member
        within = sums[own] / np.maximum(sizes[labels[rows]] - 1, 1)
        other = sums / sizes
        other[own] = np.inf
        nearest = other.min(axis=1)
        larger = np.maximum(within, nearest)
        alone = (sizes[labels[rows]] == 1) | (larger == 0)
        result[rows] = np.where(alone, 0.0, (nearest - within) / np.where(alone, 1, larger))
    return result
