"""The rows come to this process, and scikit-learn clusters them here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

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
        batches: list[pa.RecordBatch] = []
        checks = _KeyChecks(keys)
        matrix = np.empty((source.row_count, 0))
        end = 0
        for batch in source.batches:
            if not batches:
                matrix = np.empty((source.row_count, batch.features.num_columns))
            matrix = _room(matrix, end + batch.keys.num_rows)
            _fill(matrix[end : end + batch.keys.num_rows], batch)
            checks.see(batch.keys)
            batches.append(batch.keys)
            end += batch.keys.num_rows
            advance(batch.keys.num_rows)
        if not end:
            raise DataError("the source has no rows; nothing was changed")
        checks.finish()
        self._keys = pa.Table.from_batches(batches)
        self._matrix = matrix[:end]

    def fit(self, segmentation: Segmentation, features: Sequence[Feature]) -> Fit:
        preparation = fit_preparation(
            self._matrix, features, scaling=segmentation.scaling, missing=segmentation.missing
        )
        self._prepare(preparation)
        fit = fit_kmeans(
            self._matrix, segmentation.k, n_init=segmentation.n_init, seed=segmentation.seed
        )
        self._centroids, self._assignment = fit.centroids, fit.assignment
        return Fit(preparation, fit.centroids, fit.n_iter)

    def label(self, preparation: Preparation, centroids: Matrix) -> None:
        self._prepare(preparation)
        self._centroids = centroids
        self._assignment = assign(self._matrix, centroids)

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

    @property
    def inertia(self) -> float:
        return self._assignment.inertia

    def scores(self, seed: int) -> Scores:
        return score(self._matrix, self._centroids, self._assignment, seed=seed)

    def profiles(self) -> list[SegmentProfile]:
        return self._profiles

    @cached_property
    def _profiles(self) -> list[SegmentProfile]:
        return profile_segments(
            self._matrix, self._missing, self._preparation, self._assignment, len(self._centroids)
        )

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        distances = np.sqrt(self._assignment.squared_distances)
        database.stage(segmentation, run_id, self._keys, self._assignment.labels, distances)


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


class _KeyChecks:
    """Finds NULL and repeated keys in rows that come in key order."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._name = ", ".join(keys)
        self._nulls = 0
        self._repeats = 0
        self._example: object = None
        self._last: pa.RecordBatch | None = None

    def see(self, keys: pa.RecordBatch) -> None:
        self._nulls += sum(column.null_count for column in keys.columns)
        if self._last is not None and keys.num_rows:
            self._count(
                pa.Table.from_batches([self._last, keys.slice(0, 1)]).combine_chunks().to_batches()[0]
            )
        self._count(keys)
        if keys.num_rows:
            self._last = keys.slice(keys.num_rows - 1, 1)

    def _count(self, keys: pa.RecordBatch) -> None:
        same = None
        for column in keys.columns:
            equal = pc.equal(column.slice(1), column.slice(0, max(0, len(column) - 1)))
            same = equal if same is None else pc.and_(same, equal)
        repeats = pc.sum(same).as_py() or 0
        if repeats and not self._repeats:
            row = keys.slice(pc.index(same, True).as_py(), 1).to_pylist()[0]
            self._example = ", ".join(str(value) for value in row.values())
        self._repeats += repeats

    def finish(self) -> None:
        problems = []
        if self._nulls:
            problems.append(f"key {self._name}: {self._nulls:,} NULL; a key identifies a customer")
        if self._repeats:
            problems.append(
                f"key {self._name}: not unique; {self._repeats:,} rows repeat the key of another "
                f"(for example {self._example}); aggregate in the source, or add a key column"
            )
        if problems:
            raise DataError(problems)
