"""The rows come to this process, and are clustered here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date

import numpy as np

from sqlkmeans.clustering.arrays.types import Mask, Matrix
from sqlkmeans.clustering.choosing.choose_k import KChoice, choose_k, require_share
from sqlkmeans.clustering.describing.bins import (
    FeatureBins,
    bin_features,
    count_in,
    skipped_missing,
    with_skipped,
)
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.profile import SegmentProfile, profile_segments
from sqlkmeans.clustering.describing.rules import find_rules
from sqlkmeans.clustering.describing.scores import Scores, score
from sqlkmeans.clustering.describing.typical import typical_rows
from sqlkmeans.clustering.kmeans.assignment import Assignment, assign
from sqlkmeans.clustering.kmeans.kernels import kernel
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import Feature, Preparation
from sqlkmeans.clustering.preparation.problems import weight_problems
from sqlkmeans.database.base import Database, Source
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Explanation, Fit
from sqlkmeans.engines.local.keys import typical_customers
from sqlkmeans.engines.local.rows import OutOfOrder, Rows, missing_masks, read_rows
from sqlkmeans.engines.local.storage import Storage, kept_rows
from sqlkmeans.errors import DataError
from sqlkmeans.progress import Advance


class LocalEngine(Engine):
    """One preallocated matrix of float64, filled from Arrow batches and prepared where it lies.

    Where it would be more than ``memory_limit`` allows, the matrix and all else that has the
    rows' length is in mapped files; see :mod:`sqlkmeans.engines.local.storage`.

    Not of float32, which would be half as large: labels and distances are what
    ``SegmentModel.predict`` and the scoring SQL compute from the columns' own values, for rows
    that are all but halfway between two centroids too. Where they can be read again,
    :class:`~sqlkmeans.engines.local.two_readings.RereadingEngine` does with float32.
    """

    _rows: Rows
    _missing: list[Mask | None]
    _skipped_missing: dict[str, int]
    _preparation: Preparation
    _centroids: Matrix
    _assignment: Assignment

    def __init__(self) -> None:
        self._open = ExitStack()
        self._storage = Storage()
        self._limited = False

    def open(
        self,
        database: Database,
        segmentation: Segmentation,
        columns: Sequence[str],
        advance: Advance,
    ) -> None:
        self._storage = Storage(segmentation.memory_limit)
        if segmentation.memory_limit is not None:
            self._limit(database)
        if not self._read_source(database, segmentation, columns, advance, in_order=False):
            self._limit(database)
            self._read_source(database, segmentation, columns, advance, in_order=True)
        if self._storage.spilled:
            self._limit(database)
            database.release_memory()

    def _read_source(
        self,
        database: Database,
        segmentation: Segmentation,
        columns: Sequence[str],
        advance: Advance,
        *,
        in_order: bool,
    ) -> bool:
        """Take the rows, unless the database has to sort them."""
        with database.open_source(segmentation, columns, in_order=in_order) as source:
            kernel.load_ahead(source.row_count, len(columns))
            try:
                self.read(source, segmentation.key, advance)
            except OutOfOrder:
                return False
        return True

    def _limit(self, database: Database) -> None:
        """Keep the database from taking what is meant for the rows, from now on."""
        if not self._limited:
            self._limited = True
            self._open.enter_context(database.limited_memory(self._storage.database_share))

    def read(self, source: Source, keys: Sequence[str], advance: Advance) -> None:
        """Take the rows of an open source."""
        self._rows = read_rows(source, keys, self._storage, advance)

    @property
    def notes(self) -> list[str]:
        return self._storage.notes()

    def close(self) -> None:
        self._open.close()
        self.let_go()

    def check(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> None:
        self._fit_preparation(segmentation, features, reference_date)

    def fit(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> Fit:
        self._fit_preparation(segmentation, features, reference_date)
        if segmentation.k == "auto":
            choice = self._choose(segmentation)
            fit = choice.fit(self._rows.matrix, self._rows.weights, empty=self._storage.empty)
        else:
            choice = None
            fit = fit_kmeans(
                self._rows.matrix,
                segmentation.k,
                sample_weight=self._rows.weights,
                n_init=segmentation.n_init,
                seed=segmentation.seed,
                sample_rows=segmentation.sample_rows,
                empty=self._storage.empty,
                passed=self.passed,
            )
            require_share(fit.assignment.sizes(segmentation.k), segmentation.min_share)
        self._take(fit.centroids, fit.assignment)
        findings = feature_findings(self._rows.matrix, self._preparation)
        findings += kernel.advice(self._rows.matrix.size) + (choice.warnings() if choice else [])
        return Fit(self._preparation, fit.centroids, fit.n_iter, findings, choice)

    def choose_k(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> KChoice:
        self._fit_preparation(segmentation, features, reference_date)
        return self._choose(segmentation)

    def _choose(self, segmentation: Segmentation) -> KChoice:
        return choose_k(
            self._rows.matrix,
            segmentation.k_min,
            segmentation.k_max,
            sample_weight=self._rows.weights,
            min_share=segmentation.min_share,
            n_init=segmentation.n_init,
            seed=segmentation.seed,
            empty=self._storage.empty,
            passed=self.passed,
        )

    def _fit_preparation(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> None:
        preparation = fit_preparation(
            self._rows.matrix,
            features,
            scaling=segmentation.scaling,
            missing=segmentation.missing,
            texts=self._rows.texts,
            sample_weight=self._rows.weights,
            reference_date=reference_date.isoformat(),
        )
        self._prepare(preparation)

    def label(self, preparation: Preparation, centroids: Matrix) -> None:
        if self._rows.weights is not None and (problems := weight_problems(self._rows.weights)):
            raise DataError(problems)
        self._prepare(preparation)
        rows, empty = self._rows, self._storage.empty
        self._take(centroids, assign(rows.matrix, centroids, rows.weights, empty))

    def _take(self, centroids: Matrix, assignment: Assignment) -> None:
        self._centroids, self._assignment = centroids, assignment
        self.inertia = assignment.inertia
        weights = self._rows.weights
        self.mean_distance = assignment.mean_distance
        self.weight = float(self.rows if weights is None else weights.sum())

    def _prepare(self, preparation: Preparation) -> None:
        rows, empty = self._rows, self._storage.empty
        absent = missing_masks(rows.matrix, empty)
        rows.matrix, kept = preparation.prepare(rows.matrix, rows.texts, empty)
        self.rows, self.skipped = len(rows.matrix), len(kept) - len(rows.matrix)
        if not self.rows:
            raise DataError('missing = "skip" leaves no row; nothing was changed')
        self._skipped_missing = skipped_missing(absent, kept, preparation)
        if self.skipped:
            rows.keep(kept, self.rows, empty, self._storage.batches())
            absent = [m if m is None else kept_rows(m, kept, self.rows, empty) for m in absent]
        self._missing = preparation.of_columns(absent)
        self._preparation = preparation

    def scores(self, seed: int) -> Scores:
        return score(self._rows.matrix, self._centroids, self._assignment, seed=seed)

    def profiles(self) -> list[SegmentProfile]:
        return profile_segments(
            self._rows.matrix,
            self._missing,
            self._preparation,
            self._assignment,
            len(self._centroids),
        )

    def explain(self, seed: int) -> Explanation:
        k = len(self._centroids)
        distances = self._assignment.squared_distances
        return Explanation(
            find_rules(self._rows.matrix, self._preparation, self._assignment.labels, k, seed=seed),
            [
                typical_customers(self._rows.keys, rows, np.sqrt(distances[rows]))
                for rows in typical_rows(self._assignment, k)
            ],
        )

    def bins(self, earlier: Sequence[FeatureBins] | None = None) -> list[FeatureBins]:
        of_rows = (self._rows.matrix, self._missing, self._preparation)
        found = bin_features(*of_rows) if earlier is None else count_in(earlier, *of_rows)
        return with_skipped(found, self._skipped_missing)

    def points(self) -> Matrix:
        """The labelled rows in the scaled space, of shape (rows, n_features)."""
        return self._rows.matrix

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        labels, empty = self._assignment.labels, self._storage.empty
        distances = self._assignment.distances(empty)
        database.stage(segmentation, run_id, self._rows.keys, labels, distances, empty)

    def let_go(self) -> None:
        # Arrays may be files, which go with them.
        for name in ("_rows", "_missing", "_assignment"):
            self.__dict__.pop(name, None)
