"""The rows come to this process, and are clustered here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sqlkmeans.clustering import kernel
from sqlkmeans.clustering.assignment import Assignment, assign
from sqlkmeans.clustering.choose_k import KChoice, choose_k, require_share
from sqlkmeans.clustering.drift import (
    FeatureBins,
    bin_features,
    count_in,
    skipped_missing,
    with_skipped,
)
from sqlkmeans.clustering.findings import feature_findings
from sqlkmeans.clustering.fitting import fit_preparation
from sqlkmeans.clustering.kmeans import fit_kmeans
from sqlkmeans.clustering.preparation import Feature, Preparation
from sqlkmeans.clustering.problems import weight_problems
from sqlkmeans.clustering.profile import SegmentProfile, profile_segments
from sqlkmeans.clustering.rules import find_rules
from sqlkmeans.clustering.scores import Scores, score
from sqlkmeans.clustering.typical import typical_rows
from sqlkmeans.database.interface import Batch, Database, Source
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Explanation, Fit, TypicalCustomer
from sqlkmeans.engines.keys import KeyCollector, key_texts
from sqlkmeans.errors import DataError
from sqlkmeans.progress import Advance

Matrix = npt.NDArray[np.float64]


class LocalEngine(Engine):
    """One preallocated matrix of float64, filled from Arrow batches and prepared where it lies.

    Not of float32, which would be half as large: labels and distances are what
    ``SegmentModel.predict`` and the scoring SQL compute from the columns' own values, for rows
    that are all but halfway between two centroids too.
    """

    _keys: pa.Table
    _matrix: Matrix
    _texts: dict[str, list[str]]
    _weights: npt.NDArray[np.float64] | None
    _missing: list[npt.NDArray[np.bool_] | None]
    _skipped_missing: dict[str, int]
    _preparation: Preparation
    _centroids: Matrix
    _assignment: Assignment

    def open(
        self,
        database: Database,
        segmentation: Segmentation,
        columns: Sequence[str],
        advance: Advance,
    ) -> None:
        with database.open_source(segmentation, columns) as source:
            self.read(source, segmentation.key, advance)

    def read(self, source: Source, keys: Sequence[str], advance: Advance) -> None:
        """Take the rows of an open source."""
        collected = KeyCollector(keys)
        matrix = np.empty((source.row_count, 0))
        weights: list[npt.NDArray[np.float64]] = []
        codes: dict[str, dict[str, int]] = {}
        end = 0
        for batch in source.batches:
            rows = slice(end, end + batch.keys.num_rows)
            if not end:
                matrix = np.empty((source.row_count, batch.features.num_columns))
            matrix = _room(matrix, rows.stop)
            _fill(matrix[rows], batch, codes)
            if batch.sample_weight is not None:
                weights.append(_numbers(batch.sample_weight))
            collected.add(batch.keys)
            end = rows.stop
            advance(batch.keys.num_rows)
        if not end:
            raise DataError("the source has no rows; nothing was changed")
        self._matrix = matrix[:end]
        self._texts = {column: list(known) for column, known in codes.items()}
        self._weights = np.concatenate(weights) if weights else None
        order = collected.finish(sort=not source.in_key_order)
        self._keys = collected.keys
        if order is not None:
            for position in range(self._matrix.shape[1]):
                self._matrix[:, position] = self._matrix[order, position]
            if self._weights is not None:
                self._weights = self._weights[order]

    def fit(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> Fit:
        self._fit_preparation(segmentation, features, reference_date)
        if segmentation.k == "auto":
            choice = self._choose(segmentation)
            fit = choice.fit(self._matrix, self._weights)
        else:
            choice = None
            fit = fit_kmeans(
                self._matrix,
                segmentation.k,
                sample_weight=self._weights,
                n_init=segmentation.n_init,
                seed=segmentation.seed,
                sample_rows=segmentation.sample_rows,
            )
            require_share(fit.assignment.sizes(segmentation.k), segmentation.min_share)
        self._take(fit.centroids, fit.assignment)
        findings = feature_findings(self._matrix, self._preparation)
        findings += kernel.advice(self._matrix.size) + (choice.warnings() if choice else [])
        return Fit(self._preparation, fit.centroids, fit.n_iter, findings, choice)

    def choose_k(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> KChoice:
        self._fit_preparation(segmentation, features, reference_date)
        return self._choose(segmentation)

    def _choose(self, segmentation: Segmentation) -> KChoice:
        return choose_k(
            self._matrix,
            segmentation.k_min,
            segmentation.k_max,
            sample_weight=self._weights,
            min_share=segmentation.min_share,
            n_init=segmentation.n_init,
            seed=segmentation.seed,
        )

    def _fit_preparation(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> None:
        preparation = fit_preparation(
            self._matrix,
            features,
            scaling=segmentation.scaling,
            missing=segmentation.missing,
            texts=self._texts,
            sample_weight=self._weights,
            reference_date=reference_date.isoformat(),
        )
        self._prepare(preparation)

    def label(self, preparation: Preparation, centroids: Matrix) -> None:
        if self._weights is not None and (problems := weight_problems(self._weights)):
            raise DataError(problems)
        self._prepare(preparation)
        self._take(centroids, assign(self._matrix, centroids, self._weights))

    def _take(self, centroids: Matrix, assignment: Assignment) -> None:
        self._centroids, self._assignment = centroids, assignment
        self.inertia = assignment.inertia
        self.mean_distance = assignment.mean_distance
        self.weight = float(self.rows if self._weights is None else self._weights.sum())

    def _prepare(self, preparation: Preparation) -> None:
        absent = [_where_missing(self._matrix[:, j]) for j in range(self._matrix.shape[1])]
        self._matrix, kept = preparation.prepare(self._matrix, self._texts)
        self.rows, self.skipped = int(kept.sum()), int((~kept).sum())
        if not self.rows:
            raise DataError('missing = "skip" leaves no row; nothing was changed')
        self._skipped_missing = skipped_missing(absent, kept, preparation)
        if self.skipped:
            self._keys = self._keys.filter(pa.array(kept))
            absent = [None if mask is None else mask[kept] for mask in absent]
            self._weights = None if self._weights is None else self._weights[kept]
        self._missing = preparation.of_columns(absent)
        self._preparation = preparation

    def scores(self, seed: int) -> Scores:
        return score(self._matrix, self._centroids, self._assignment, seed=seed)

    def profiles(self) -> list[SegmentProfile]:
        return profile_segments(
            self._matrix, self._missing, self._preparation, self._assignment, len(self._centroids)
        )

    def explain(self, seed: int) -> Explanation:
        k = len(self._centroids)
        distances = self._assignment.squared_distances
        return Explanation(
            find_rules(self._matrix, self._preparation, self._assignment.labels, k, seed=seed),
            [
                [
                    TypicalCustomer(text, float(np.sqrt(distances[row])))
                    for text, row in zip(key_texts(self._keys, rows), rows)
                ]
                for rows in typical_rows(self._assignment, k)
            ],
        )

    def bins(self, earlier: Sequence[FeatureBins] | None = None) -> list[FeatureBins]:
        of_rows = (self._matrix, self._missing, self._preparation)
        found = bin_features(*of_rows) if earlier is None else count_in(earlier, *of_rows)
        return with_skipped(found, self._skipped_missing)

    def points(self) -> Matrix:
        """The labelled rows in the scaled space, of shape (rows, n_features)."""
        return self._matrix

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        labels, squared = self._assignment.labels, self._assignment.squared_distances
        # The rows are not needed any more, and publishing wants memory of its own.
        del self._matrix, self._missing, self._assignment, self._weights
        database.stage(segmentation, run_id, self._keys, labels, np.sqrt(squared, out=squared))
        del self._keys


def _room(matrix: Matrix, rows: int) -> Matrix:
    """More rows came than were counted: only where the database cannot hold one moment still."""
    if rows <= len(matrix):
        return matrix
    return np.concatenate([matrix, np.empty((max(rows - len(matrix), 65536), matrix.shape[1]))])


def _fill(rows: Matrix, batch: Batch, codes: dict[str, dict[str, int]]) -> None:
    for position, (name, column) in enumerate(
        zip(batch.features.schema.names, batch.features.columns)
    ):
        if pa.types.is_floating(column.type):
            rows[:, position] = _numbers(column)
        else:
            rows[:, position] = _codes(column, codes.setdefault(name, {}))


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    values = column if column.null_count == 0 else pc.fill_null(column, np.nan)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _codes(column: pa.Array, known: dict[str, int]) -> npt.NDArray[np.float64]:
    """A code for each text, the same in all batches; NaN where there is none."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    of_batch = np.array(
        [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()],
        dtype=np.float64,
    )
    indices = _numbers(encoded.indices.cast(pa.float64()))
    absent = np.isnan(indices)
    if not absent.any():
        return of_batch[indices.astype(np.int64)]
    result = np.full(len(indices), np.nan)
    result[~absent] = of_batch[indices[~absent].astype(np.int64)]
    return result


def _where_missing(column: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
    absent = np.isnan(column)
    return absent if absent.any() else None
