"""How good a partition is: silhouette, Davies-Bouldin, Calinski-Harabasz."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import map_chunks
from sqlkmeans.clustering.arrays.sampling import stratified_rows
from sqlkmeans.clustering.arrays.threads import one_library_thread
from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.kmeans.assignment import Assignment

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
    sizes = assignment.sizes(len(centroids))
    if not can_be_scored(sizes):
        return NO_SCORES
    silhouettes = segment_silhouettes(matrix, assignment.labels, sizes, seed=seed)
    # Rows count alike here, whatever they weigh in the inertia.
    within = float(assignment.squared_distances.sum())
    spread = _distances(assignment, len(centroids))
    return scores_of(silhouettes, centroids, sizes, spread, within, _total(matrix))


#: Of a partition that none is defined for.
NO_SCORES = Scores(None, None, None)


def can_be_scored(sizes: npt.NDArray[np.int64]) -> bool:
    """Whether the scores are defined for clusters of these sizes."""
    return len(sizes) > 1 and int(sizes.sum()) > len(sizes) and bool(sizes.all())


def scores_of(
    silhouettes: Vector,
    centroids: Matrix,
    sizes: npt.NDArray[np.int64],
    distances: Vector,
    within: float,
    total: float,
) -> Scores:
    """The scores from sums over the rows.

    Parameters
    ----------
    silhouettes : ndarray of shape (k,)
        Each cluster's mean.
    centroids : ndarray of shape (k, n_features)
    sizes : ndarray of int64 of shape (k,)
    distances : ndarray of shape (k,)
        Sum of the distances to each centroid.
    within, total : float
        Sums of the squared distances to the centroids, and to the mean of all rows.
    """
    rows, k = int(sizes.sum()), len(sizes)
    return Scores(
        silhouette=float((silhouettes * sizes).sum() / rows),
        davies_bouldin=davies_bouldin_of(centroids, distances / sizes),
        calinski_harabasz=calinski_harabasz_of(total, within, rows, k),
        segment_silhouettes=tuple(silhouettes.tolist()),
    )


def _distances(assignment: Assignment, k: int) -> Vector:
    """Sum of the distances to each centroid."""
    labels, squared = assignment.labels, assignment.squared_distances

    def add(start: int, stop: int) -> Vector:
        distances = np.sqrt(squared[start:stop])
        of_chunk = np.bincount(labels[start:stop], weights=distances, minlength=k)
        return np.asarray(of_chunk, dtype=np.float64)

    return np.asarray(np.sum(map_chunks(len(labels), add), axis=0))


def davies_bouldin_of(centroids: Matrix, spread: npt.NDArray[np.float64]) -> float | None:
    """The score from each cluster's mean distance to its centroid."""
    apart = np.sqrt(((centroids[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    if not apart.all():
        return None
    return float(((spread[:, None] + spread[None, :]) / apart).max(axis=1).mean())


def _total(matrix: Matrix) -> float:
    """Sum of squared distances of all rows to their mean."""
    n_rows = len(matrix)
    mean = np.sum(map_chunks(n_rows, lambda *ends: matrix[slice(*ends)].sum(axis=0)), axis=0)
    mean /= n_rows

    def add(start: int, stop: int) -> float:
        difference = matrix[start:stop] - mean
        return float(np.einsum("ij,ij->", difference, difference))

    return fsum(map_chunks(n_rows, add))


def calinski_harabasz_of(total: float, within: float, n_rows: int, k: int) -> float | None:
    """The score from sums of squared distances: to everyone's mean, and to the centroids."""
    if within == 0:
        return None
    return float((total - within) / (k - 1) / (within / (n_rows - k)))


def segment_silhouettes(
    matrix: Matrix, labels: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64], *, seed: int
) -> npt.NDArray[np.float64]:
    """The mean silhouette coefficient of each segment, of shape (k,).

    Parameters
    ----------
    matrix : ndarray of float64 or float32 of shape (n_rows, n_features)
    labels : ndarray of int32 of shape (n_rows,)
    sizes : ndarray of int64 of shape (k,)
        Rows a label.
    seed : int
        Draws the sample.
    """
    rows = stratified_rows(labels, sizes, SILHOUETTE_ROWS, seed)
    drawn = labels[rows]
    points = matrix[rows].astype(np.float64, copy=False)
    with one_library_thread():
        values = silhouette_coefficients(points, drawn, len(sizes))
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
