"""The rows come to this process, and scikit-learn clusters them here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sqlkmeans.clustering.assignment import Assignment, assign
from sqlkmeans.clustering.kmeans import fit_kmeans
from sqlkmeans.clustering.preparation import Feature, Preparation, fit_preparation
from sqlkmeans.clustering.profile import SegmentProfile, profile_segments
from sqlkmeans.clustering.scores import Scores, score
from sqlkmeans.database.interface import Batch, Database, Source
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Fit
from sqlkmeans.engines.keys import KeyCollector
from sqlkmeans.errors import DataError
from sqlkmeans.progress import Advance

Matrix = npt.NDArray[np.float64]


class LocalEngine(Engine):
    """One preallocated matrix of float64, filled from Arrow batches and prepared where it lies."""

    _keys: pa.Table
    _matrix: Matrix
    _missing: list[npt.NDArray[np.bool_] | None]
    _preparation: Preparation
    _centroids: Matrix
    _assignment: Assignment

    def read(self, source: Source, keys: Sequence[str], advance: Advance) -> None:
        collected = KeyCollector(keys)
        matrix = np.empty((source.row_count, 0))
        end = 0
        for batch in source.batches:
            if not end:
                matrix = np.empty((source.row_count, batch.features.num_columns))
            matrix = _room(matrix, end + batch.keys.num_rows)
            _fill(matrix[end : end + batch.keys.num_rows], batch)
            collected.add(batch.keys)
            end += batch.keys.num_rows
            advance(batch.keys.num_rows)
        if not end:
            raise DataError("the source has no rows; nothing was changed")
        self._matrix = matrix[:end]
        order = collected.finish(sort=not source.in_key_order)
        self._keys = collected.keys
        if order is not None:
            for position in range(self._matrix.shape[1]):
                self._matrix[:, position] = self._matrix[order, position]

    def fit(self, segmentation: Segmentation, features: Sequence[Feature]) -> Fit:
        preparation = fit_preparation(
            self._matrix, features, scaling=segmentation.scaling, missing=segmentation.missing
        )
        self._prepare(preparation)
        assert segmentation.k != "auto"
        fit = fit_kmeans(
            self._matrix, segmentation.k, n_init=segmentation.n_init, seed=segmentation.seed
        )
        self._take(fit.centroids, fit.assignment)
        return Fit(preparation, fit.centroids, fit.n_iter)

    def label(self, preparation: Preparation, centroids: Matrix) -> None:
        self._prepare(preparation)
        self._take(centroids, assign(self._matrix, centroids))

    def _take(self, centroids: Matrix, assignment: Assignment) -> None:
        self._centroids, self._assignment = centroids, assignment
        self.inertia = assignment.inertia

    def _prepare(self, preparation: Preparation) -> None:
        absent = [_where_missing(self._matrix[:, j]) for j in range(self._matrix.shape[1])]
        kept = preparation.transform_in_place(self._matrix)
        self.rows, self.skipped = int(kept.sum()), int((~kept).sum())
        if not self.rows:
            raise DataError('missing = "skip" leaves no row; nothing was changed')
        if self.skipped:
            self._matrix = self._matrix[: self.rows]
            self._keys = self._keys.filter(pa.array(kept))
            absent = [None if mask is None else mask[kept] for mask in absent]
        self._missing = absent
        self._preparation = preparation

    def scores(self, seed: int) -> Scores:
        return score(self._matrix, self._centroids, self._assignment, seed=seed)

    def profiles(self) -> list[SegmentProfile]:
        return profile_segments(
            self._matrix, self._missing, self._preparation, self._assignment, len(self._centroids)
        )

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        labels, squared = self._assignment.labels, self._assignment.squared_distances
        # The rows are not needed any more, and publishing wants memory of its own.
        del self._matrix, self._missing, self._assignment
        database.stage(segmentation, run_id, self._keys, labels, np.sqrt(squared, out=squared))
        del self._keys


def _room(matrix: Matrix, rows: int) -> Matrix:
    """More rows came than were counted: only where the database cannot hold one moment still."""
    if rows <= len(matrix):
        return matrix
    return np.concatenate([matrix, np.empty((max(rows - len(matrix), 65536), matrix.shape[1]))])


def _fill(rows: Matrix, batch: Batch) -> None:
    for position, column in enumerate(batch.features.columns):
        values = column if column.null_count == 0 else pc.fill_null(column, np.nan)
        rows[:, position] = values.to_numpy(zero_copy_only=False)


def _where_missing(column: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
    absent = np.isnan(column)
    return absent if absent.any() else None
