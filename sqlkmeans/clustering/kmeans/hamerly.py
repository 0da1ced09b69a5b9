"""Which centroid each row belongs to, while the centroids move.

A row stays with its centroid as long as the second nearest is farther by more than both can have
moved (Hamerly, 2010, "Making k-means even faster"). The rows' margins are kept, so that a pass
looks at those rows only for which this does not hold: at all of them in the first, and at few of
them when the centroids have all but settled. The labels are those of a full pass.

When the centroids make small steps, the rows whose margin some more such steps could use up are
put aside, and passes look at these alone. So to go on until no label changes costs little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqlkmeans.clustering.arrays.chunks import CHUNK, Empty, map_chunks
from sqlkmeans.clustering.arrays.types import Labels, Matrix, RowNumbers, Vector
from sqlkmeans.clustering.kmeans.assignment import Assignment, assign
from sqlkmeans.clustering.kmeans.kernels.kernel import kernel
from sqlkmeans.clustering.kmeans.single_moves import may_pay, move_single_rows, reach

# More than rounding can take from a margin, or from the way that the centroids have gone.
SLACK = 1 + 1e-12
# From so many rows on, those that the next steps concern are put aside: those of so many steps as
# long as the last, if they are at most this share of the rows, and have at most so many values.
MANY_ROWS, STEPS_AHEAD, FEW_SHARE, FEW_VALUES = 20_000, 3, 0.2, 4_000_000
# And of no chunk more than this share.
MOST_SHARE = 0.5


@dataclass(frozen=True)
class _Aside:
    """Rows that may get another label before the centroids have gone as far as ``reach``."""

    numbers: RowNumbers
    rows: Matrix
    weight: Vector | None
    labels: Labels
    margins: Vector
    reach: float


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
        self._aside: _Aside | None = None
        self._ends: Matrix | None = None

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

    def single_moves(self, centroids: Matrix) -> Matrix | None:
        """Move single rows while that lowers the inertia.

        Parameters
        ----------
        centroids : ndarray of float64 of shape (k, n_features)
            At rest: the means of the rows that are nearest to them.

        Returns
        -------
        ndarray of float64 of shape (k, n_features) or None
            The means then; None where nothing moved.
        """
        self._follow(centroids)
        self._put_back()
        if len(centroids) == 1:
            return None
        most = 1.0 if self._weight is None else float(self._weight.max())
        farther = reach(most, self._counts) * self._farthest_can_be(centroids)
        margin = (self._travelled + farther) * SLACK

        def find(start: int, stop: int) -> RowNumbers:
            rows = start + np.flatnonzero(~(self._margins[start:stop] > margin))
            weight = None if self._weight is None else self._weight[rows]
            paying = may_pay(
                self._matrix[rows], weight, self._labels[rows], centroids, self._counts
            )
            return np.asarray(rows[paying])

        numbers = np.concatenate(map_chunks(len(self._labels), find))
        weight = None if self._weight is None else self._weight[numbers]
        labels, sums, counts = self._labels[numbers], self._sums.copy(), self._counts.copy()
        move_single_rows(self._matrix[numbers], weight, labels, sums, counts)
        means: Matrix = sums / counts[:, None]
        if np.array_equal(means, centroids):
            return None
        self._labels[numbers], self._sums, self._counts = labels, sums, counts
        self._margins[numbers] = 0  # they were those of another cluster
        return means

    def assignment(self, centroids: Matrix) -> Assignment:
        """The assignment of :func:`assign` to ``centroids``, as in :meth:`means`.

        To be called once, at the end: it writes the distances over the margins.
        """
        self._follow(centroids)
        self._put_back()
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
        elif not np.array_equal(centroids, self._centroids):
            moves = np.sqrt(((centroids - self._centroids) ** 2).sum(axis=1))
            # As if the own centroid had gone away by that much, and all others come nearer. All of
            # it has slack: a small step after a long way has the rounding of the long way.
            step = 2 * float(moves.max())
            self._travelled = (self._travelled + step) * SLACK
            aside = self._aside
            if aside is not None and self._travelled * SLACK < aside.reach:
                self._label_aside(aside, centroids)
            else:
                self._put_back()
                self._label_some(centroids)
                self._put_aside(self._travelled + STEPS_AHEAD * step)
        self._centroids = centroids

    def _label_all(self, centroids: Matrix) -> None:
        self._aside = None

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

    def _put_aside(self, reach: float) -> None:
        """Put the rows aside whose margin is not above ``reach``, where they are few of many."""
        n_rows, n_features = self._matrix.shape
        if n_rows < MANY_ROWS:
            return

        def find(start: int, stop: int) -> RowNumbers | None:
            near = ~(self._margins[start:stop] > reach)
            few = np.count_nonzero(near) <= MOST_SHARE * len(near)
            return start + np.flatnonzero(near) if few else None

        found = [rows for rows in map_chunks(n_rows, find) if rows is not None]
        if len(found) * CHUNK < n_rows:
            return
        numbers = np.concatenate(found)
        if len(numbers) > min(FEW_SHARE * n_rows, FEW_VALUES / n_features):
            return
        self._aside = _Aside(
            numbers, np.array([column[numbers] for column in self._matrix.T]).T,
            None if self._weight is None else self._weight[numbers],
            self._labels[numbers], self._margins[numbers], reach,
        )  # fmt: skip

    def _farthest_can_be(self, centroids: Matrix) -> float:
        """No row is farther than this from its nearest centroid."""
        if self._ends is None:

            def find(start: int, stop: int) -> Matrix:
                # A column at a time, because NumPy is slow along rows of few values.
                columns = self._matrix[start:stop].T
                return np.array([[c.min(), c.max()] for c in columns], dtype=np.float64)

            ends = np.array(map_chunks(len(self._labels), find))
            self._ends = np.array([ends[..., 0].min(axis=0), ends[..., 1].max(axis=0)])
        corners = np.abs(self._ends[:, None] - centroids).max(axis=0)
        return float(np.sqrt((corners**2).sum(axis=1)).min())

    def _put_back(self) -> None:
        if self._aside is not None:
            self._labels[self._aside.numbers] = self._aside.labels
            self._margins[self._aside.numbers] = self._aside.margins
            self._aside = None

    def _label_aside(self, aside: _Aside, centroids: Matrix) -> None:
        gained = np.zeros(centroids.shape), np.zeros(len(centroids))
        lost = np.zeros(centroids.shape), np.zeros(len(centroids))
        self._loops.move_rows(
            aside.rows, 0, len(aside.rows), aside.weight, centroids, self._travelled * SLACK,
            aside.labels, aside.margins, gained, lost,
        )  # fmt: skip
        self._sums = self._sums + (gained[0] - lost[0])
        self._counts = self._counts + (gained[1] - lost[1])

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
