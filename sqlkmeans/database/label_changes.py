"""A run's labels beside the published ones, so that only the difference has to travel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Where more than this share of the labels changed, all of them travel: the database then finds
#: the difference faster than it joins so many changes.
MOST_CHANGES = 0.2
# New rows that a batch of published ones may lie behind before they are sought among all.
_SLACK = 8_192
_NO_SEGMENT = 0  # segment ids begin at 1
_CHUNK = 65_536


class LabelChanges:
    """Compares labels with the published ones of the same keys.

    Parameters
    ----------
    keys : pyarrow.Table
        The key columns, each key once; fastest in the order in which the published ones come.
    clusters : ndarray of int32 of shape (n,)
    distances : ndarray of float64 of shape (n,)
    empty : callable, default=numpy.empty
        Makes the arrays of length n that are held beside these.
    """

    def __init__(
        self,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        empty: Callable[[Any, Any], npt.NDArray[Any]] = np.empty,
    ) -> None:
        self._keys = keys
        self._clusters, self._distances = clusters, distances
        self._published = empty((len(clusters),), np.int32)
        self._published.fill(_NO_SEGMENT)
        self._published_distances = empty((len(clusters),), np.float64)
        self._published_distances.fill(0)
        self._published_outliers = empty((len(clusters),), np.bool_)
        self._published_outliers.fill(False)
        self._departed = self._keys.slice(0, 0)
        self._next = 0
        self._elsewhere: list[pa.Table] = []

    def add(
        self,
        keys: pa.RecordBatch,
        segment_ids: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        outliers: npt.NDArray[np.bool_],
    ) -> None:
        """Take the next published labels.

        Raises
        ------
        pyarrow.ArrowInvalid
            If the keys are of another type, and a value has no equal in the new one.
        """
        published = pa.Table.from_batches([keys]).cast(self._keys.schema)
        window = self._keys.slice(self._next, keys.num_rows + _SLACK)
        if window.slice(0, keys.num_rows).equals(published):
            rows = np.arange(self._next, self._next + keys.num_rows)
        else:
            rows = _positions(published, window)
            rows[rows >= 0] += self._next
        found = rows >= 0
        self._take(rows[found], segment_ids[found], distances[found], outliers[found])
        if found.any():
            self._next = int(rows.max()) + 1
        if not found.all():
            rest = published.append_column("segment_id", pa.array(segment_ids))
            rest = rest.append_column("distance", pa.array(distances))
            rest = rest.append_column("is_outlier", pa.array(outliers))
            self._elsewhere.append(rest.filter(pa.array(~found)))

    def finish(self) -> None:
        """Find what did not come where it was expected; the rest has departed."""
        if not self._elsewhere:
            return
        rest = pa.concat_tables(self._elsewhere)
        self._elsewhere = []
        is_free = self._published == _NO_SEGMENT
        free = np.flatnonzero(is_free)
        keys = rest.select(self._keys.column_names)
        rows = _positions(keys, self._keys.filter(pa.array(is_free)))
        found = rows >= 0
        self._take(
            free[rows[found]],
            rest["segment_id"].to_numpy()[found],
            rest["distance"].to_numpy()[found],
            rest["is_outlier"].to_numpy()[found],
        )
        self._departed = keys.filter(pa.array(~found))

    def _take(
        self,
        rows: npt.NDArray[np.int64],
        segment_ids: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        outliers: npt.NDArray[np.bool_],
    ) -> None:
        self._published[rows] = segment_ids
        self._published_distances[rows] = distances
        self._published_outliers[rows] = outliers

    def overlap(self) -> list[tuple[int, int, int]]:
        """Shared customers: (published segment_id, cluster, customers), without zeros."""
        width = int(self._clusters.max(initial=0)) + 1
        shared: Counter[int] = Counter()
        for rows in self._chunks():
            published = self._published[rows]
            known = published != _NO_SEGMENT
            pairs = published[known].astype(np.int64) * width + self._clusters[rows][known]
            found, counts = np.unique(pairs, return_counts=True)
            shared.update(dict(zip(found.tolist(), counts.tolist())))
        return [(pair // width, pair % width, count) for pair, count in sorted(shared.items())]

    def _chunks(self) -> Iterator[slice]:
        """All rows, some at a time: arrays may be files, so nothing as long is made here."""
        rows = len(self._clusters)
        return (slice(start, min(start + _CHUNK, rows)) for start in range(0, rows, _CHUNK))

    def to_stage(
        self,
        segment_ids: Sequence[int],
        tolerance: float,
        outlier_distances: Mapping[int, float],
    ) -> tuple[pa.Table, bool]:
        """The rows of the staging table.

        Parameters
        ----------
        segment_ids : sequence of int
            The segment id of each cluster.
        tolerance : float
            A row whose segment stays counts as changed only when its distance moved by more, it
            became an outlier or ceased to be one, or its published distance would lie on the
            wrong side of the limit.
        outlier_distances : mapping of int to float
            The limits, by segment id; nobody is beyond one that is not there.

        Returns
        -------
        rows : pyarrow.Table
            Key, ``cluster``, ``distance``, and ``departed``, which is true for customers that are
            published and not in the source any more.
        changes_only : bool
            False where so much changed that all labels are among the rows.
        """
        ids = np.asarray(segment_ids, dtype=np.int32)
        limits = np.array([outlier_distances.get(i, np.inf) for i in segment_ids])

        def changed(rows: slice) -> npt.NDArray[np.bool_]:
            moved = self._published[rows] != ids[self._clusters[rows]]
            before, now = self._published_distances[rows], self._distances[rows]
            limit = limits[self._clusters[rows]]
            far, flagged = now > limit, self._published_outliers[rows]
            flipped = (far != flagged) | (far != (before > limit))
            return np.asarray(moved | flipped | (np.abs(before - now) > tolerance))

        n_changes = sum(int(changed(rows).sum()) for rows in self._chunks())
        if n_changes + self._departed.num_rows > MOST_CHANGES * len(self._clusters):
            return all_to_stage(self._keys, self._clusters, self._distances), False
        parts = []
        for rows in self._chunks():
            which = changed(rows)
            keys = self._keys.slice(rows.start, len(which)).filter(pa.array(which))
            parts.append(
                all_to_stage(keys, self._clusters[rows][which], self._distances[rows][which])
            )
        return pa.concat_tables([*parts, departed_to_stage(self._departed)]), True


def all_to_stage(
    keys: pa.Table, clusters: npt.NDArray[np.int32], distances: npt.NDArray[np.float64]
) -> pa.Table:
    """Every label as a row of the staging table."""
    return _staged(keys, clusters, distances, np.zeros(len(clusters), bool))


def departed_to_stage(keys: pa.Table) -> pa.Table:
    """Rows of the staging table for customers who are published and not in the source any more."""
    gone = keys.num_rows
    return _staged(keys, np.zeros(gone, np.int32), np.zeros(gone), np.ones(gone, bool))


def _staged(
    keys: pa.Table,
    clusters: npt.NDArray[np.int32],
    distances: npt.NDArray[np.float64],
    departed: npt.NDArray[np.bool_],
) -> pa.Table:
    for name, values, kind in (
        ("cluster", clusters, pa.int32()),
        ("distance", distances, pa.float64()),
        ("departed", departed, pa.bool_()),
    ):
        keys = keys.append_column(name, pa.array(values, kind))
    return keys


def _positions(sought: pa.Table, among: pa.Table) -> npt.NDArray[np.int64]:
    """The row of ``among``, whose rows are unique, that equals each row sought; -1 where none."""
    codes = _row_codes(pa.concat_tables([among, sought]))
    row_of = np.full(len(codes), -1, dtype=np.int64)
    row_of[codes[: among.num_rows]] = np.arange(among.num_rows)
    return row_of[codes[among.num_rows :]]


def _row_codes(rows: pa.Table) -> npt.NDArray[np.int64]:
    """A number below the number of rows for each row, the same for equal rows only."""
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        values = _value_codes(column.combine_chunks())
        pairs = codes * (int(values.max(initial=0)) + 1) + values
        codes = _value_codes(pa.array(pairs))
    return codes


def _value_codes(values: pa.Array) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = values.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes
