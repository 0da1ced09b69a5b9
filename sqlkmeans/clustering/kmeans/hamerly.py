"""Which centroid each row belongs to, while the centroids move.

A row stays with its centroid as long as the second nearest is farther by more than both can have
moved (Hamerly, 2010, "Making k-means even faster"). The rows' margins are kept, so that a pass
looks at those rows only for which this does not hold: at all of them in the first, and at few of
them when the centroids have all but settled. The labels are those of a full pass.
"""

from __future__ import annotations

import numpy as np

from sqlkmeans.clustering.arrays.chunks import Empty, map_chunks
from sqlkmeans.clustering.arrays.types import Matrix, RowNumbers, Vector
from sqlkmeans.clustering.kmeans.assignment import Assignment, assign
from sqlkmeans.clustering.kmeans.kernels.kernel import kernel

# More than rounding can take from a margin, or from the way that the centroids have gone.
SLACK = 1 + 1e-12


class HamerlyLabels:
    """The rows of a matrix and the centroids that they belong to.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        How much each row counts, 0 or more; by default 1.
    empty : callable, default=numpy.empty
        Makes arrays as long as the rows.
    """

    _sums: Matrix
    _counts: Vector
    _most: Vector
    _travelled: float

    def __init__(
        self, matrix: Matrix, sample_weight: Vector | None = None, empty: Empty = np.empty
    ) -> None:
        self._matrix, self._weight = matrix, sample_weight
        self._loops = kernel(*matrix.shape)
        self._labels = empty((len(matrix),), np.int32)
        self._margins = empty((len(matrix),), np.float64)
        self._centroids: Matrix | None = None

    def means(self, centroids: Matrix) -> Matrix:
        """The mean of the rows nearest to each centroid; an empty cluster moves to a far row.

        Parameters
        ----------
        centroids : ndarray of float64 of shape (k, n_features)
            The same k in every call.

        Returns
        -------
        ndarray of float64 of shape (k, n_features)
        """
        self._follow(centroids)
        # What remains of much has the rounding of much, and 0 has to be 0.
        if (self._counts < self._most / 2).any():
            self._label_all(centroids)
        self._most = np.maximum(self._most, self._counts)
        lost = np.flatnonzero(self._counts == 0)
        means: Matrix = self._sums / np.where(self._counts == 0, 1, self._counts)[:, None]
        if len(lost):
            means[lost] = self._matrix[self._farthest(centroids, len(lost))]
        return means

    def assignment(self, centroids: Matrix) -> Assignment:
        """The assignment of :func:`assign` to ``centroids``, as in :meth:`means`.

        To be called once, at the end: it writes the distances over the margins.
        """
        self._follow(centroids)
        # Nobody needs the margins any more.
        labels, distances = self._labels, self._margins

        def measure(start: int, stop: int) -> None:
            self._loops.measure_rows(self._matrix, start, stop, centroids, labels, distances)

        map_chunks(len(labels), measure)
        return Assignment(labels, distances, self._weight)

    def _follow(self, centroids: Matrix) -> None:
        """Label the rows by these centroids, and keep sums and counts up to date."""
        if self._centroids is None:
            self._label_all(centroids)
        else:
            moves = np.sqrt(((centroids - self._centroids) ** 2).sum(axis=1))
            # As if the own centroid had gone away by that much, and all others come nearer. All of
            # it has slack: a small step after a long way has the rounding of the long way.
            self._travelled = (self._travelled + 2 * float(moves.max())) * SLACK
            self._label_some(centroids)
        self._centroids = centroids

    def _label_all(self, centroids: Matrix) -> None:
        def add(start: int, stop: int) -> tuple[Matrix, Vector]:
            sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids))
            self._loops.add_rows(
                self._matrix, start, stop, self._weight, centroids, self._labels, self._margins,
                sums, counts,
            )  # fmt: skip
            return sums, counts

        self._travelled = 0.0
        self._sums, self._counts = np.zeros(centroids.shape), np.zeros(len(centroids))
        for sums, counts in map_chunks(len(self._matrix), add):
            self._sums += sums
            self._counts += counts
        self._most = self._counts

    def _label_some(self, centroids: Matrix) -> None:
        def move(start: int, stop: int) -> tuple[Matrix, Vector]:
            gained = np.zeros(centroids.shape), np.zeros(len(centroids))
            lost = np.zeros(centroids.shape), np.zeros(len(centroids))
            self._loops.move_rows(
                self._matrix, start, stop, self._weight, centroids, self._travelled * SLACK,
                self._labels, self._margins, gained, lost,
            )  # fmt: skip
            return gained[0] - lost[0], gained[1] - lost[1]

        for sums, counts in map_chunks(len(self._matrix), move):
            self._sums = self._sums + sums
            self._counts = self._counts + counts

    def _farthest(self, centroids: Matrix, count: int) -> RowNumbers:
        """Row numbers of the rows that count and are farthest from their centroid."""

        def find(start: int, stop: int) -> tuple[RowNumbers, Vector]:
            distances = assign(self._matrix[start:stop], centroids).squared_distances
            if self._weight is not None:
                distances *= self._weight[start:stop] > 0
            rows = np.argsort(-distances, kind="stable")[:count]
            return start + rows, distances[rows]

        found = map_chunks(len(self._matrix), find)
        rows, distances = (np.concatenate(part) for part in zip(*found))
        return np.asarray(rows[np.argsort(-distances, kind="stable")[:count]])
