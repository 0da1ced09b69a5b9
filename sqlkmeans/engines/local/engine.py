"""The rows come to this process, and are clustered here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing.choose_k import KChoice, choose_k, require_share
from sqlkmeans.clustering.describing.bins import FeatureBins
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.found import Found, PreparedRows, find
from sqlkmeans.clustering.describing.outliers import outlier_distances
from sqlkmeans.clustering.describing.typical import typical_rows
from sqlkmeans.clustering.kmeans.assignment import Assignment, assign
from sqlkmeans.clustering.kmeans.kernels import kernel
from sqlkmeans.clustering.kmeans.kmeans import KMeansFit
from sqlkmeans.clustering.kmeans.trimming import fit_trimmed, kept_within
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.problems import weight_problems
from sqlkmeans.database.base import Embedded, Sources, limited_memory
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Labelled, Plan, Rows, columns_to_describe
from sqlkmeans.engines.key_texts import typical_customers
from sqlkmeans.engines.local.labels import ArrayLabels
from sqlkmeans.engines.local.rereading import read_float32, suits
from sqlkmeans.engines.local.rows import RawRows, prepare, read_rows
from sqlkmeans.engines.local.storage import Storage
from sqlkmeans.errors import DataError
from sqlkmeans.model import SegmentModel
from sqlkmeans.outcome import Fit
from sqlkmeans.progress import Advance


class LocalEngine(Engine):
    """NumPy and scikit-learn in this process."""

    @contextmanager
    def open(self, sources: Sources, plan: Plan) -> Iterator[Rows]:
        with ExitStack() as limits:
            yield LocalRows(sources, plan, limits)


class LocalRows(Rows):
    """One preallocated matrix of float64, filled from Arrow batches and prepared where it lies.

    Where it would be more than ``memory_limit`` allows, the matrix and all else that has the
    rows' length is in mapped files; see :mod:`sqlkmeans.engines.local.storage`.

    Not of float32, which would be half as large: labels and distances are what
    ``SegmentModel.predict`` and the scoring SQL compute from the columns' own values, for rows
    that are all but halfway between two centroids too. Where they can be read again,
    :mod:`~sqlkmeans.engines.local.rereading` does with float32.

    Nothing of the rows' length is kept here: what labels them has it, and lets go of it.
    """

    def __init__(self, sources: Sources, plan: Plan, limits: ExitStack) -> None:
        self._database, self._plan, self._limits = sources, plan, limits
        self._storage = Storage(plan.segmentation.memory_limit)
        self._limited = False

    def notes(self) -> list[str]:
        return self._storage.notes()

    def fit(self, earlier: Sequence[FeatureBins] = ()) -> tuple[Fit, Labelled]:
        progress, n_rows = self._plan.progress, self._database.count(self._segmentation.source)
        if suits(self._database, self._segmentation, n_rows):
            with progress.step("read", total=n_rows) as advance:
                reading = read_float32(self._database, self._plan, self._limits, advance)
            if reading is not None:
                with progress.step("fit") as passed:
                    again = reading.fit(earlier, passed)
                del reading
                with progress.step("assign"):
                    return again.label()
        raw = self._read(n_rows)
        with progress.step("fit") as passed:
            keys, rows = self._prepared_to_fit(raw)
            del raw
            fit, choice = self._fit(rows, passed)
        findings = feature_findings(rows.matrix, rows.preparation)
        findings += kernel.advice(rows.matrix.size) + (choice.warnings() if choice else [])
        limits = None
        if self._segmentation.outlier is not None:
            labels, squared = fit.assignment.labels, fit.assignment.squared_distances
            limits = outlier_distances(
                labels, squared, len(fit.centroids), self._segmentation.outlier, squared=True,
                at_most=kept_within(squared, self._segmentation.trim, rows.weights),
            )  # fmt: skip
        found = Fit(rows.preparation, fit.centroids, fit.n_iter, findings, choice, limits)
        labelled = self._labelled(
            keys, rows, fit.centroids, fit.assignment, earlier, limits, cut=True
        )
        return found, labelled

    def label(self, model: SegmentModel, earlier: Sequence[FeatureBins] = ()) -> Labelled:
        raw = self._read()
        with self._plan.progress.step("assign"):
            if raw.weights is not None and (problems := weight_problems(raw.weights)):
                raise DataError(problems)
            keys, rows = prepare(raw, model.preparation, self._storage)
            del raw
            assignment = assign(rows.matrix, model.centroids, rows.weights, self._storage.empty)
            limits = None if model.outlier_distances is None else np.array(model.outlier_distances)
            return self._labelled(
                keys, rows, model.centroids, assignment, earlier, limits, cut=False
            )

    def choose_k(self) -> tuple[KChoice, int, int]:
        raw = self._read()
        with self._plan.progress.step("fit") as passed:
            _, rows = self._prepared_to_fit(raw)
            del raw
            return self._choose(rows, passed), len(rows.matrix), rows.skipped

    def check(self) -> None:
        self._prepared_to_fit(self._read())

    @property
    def _segmentation(self) -> Segmentation:
        return self._plan.segmentation

    def _fit(self, rows: PreparedRows, passed: Advance) -> tuple[KMeansFit, KChoice | None]:
        k, empty = self._segmentation.k, self._storage.empty
        choice = self._choose(rows, passed) if k == "auto" else None
        if choice and not self._segmentation.trim:
            return choice.fit(rows.matrix, rows.weights, empty=empty), choice
        if choice:
            k = choice.best_k()
        assert isinstance(k, int)
        fit = fit_trimmed(
            rows.matrix,
            k,
            trim=self._segmentation.trim,
            sample_weight=rows.weights,
            n_init=self._segmentation.n_init,
            seed=self._segmentation.seed,
            sample_rows=self._segmentation.sample_rows,
            empty=empty,
            passed=passed,
        )
        require_share(fit.assignment.sizes(k), self._segmentation.min_share)
        return fit, choice

    def _choose(self, rows: PreparedRows, passed: Advance) -> KChoice:
        return choose_k(
            rows.matrix,
            self._segmentation.k_min,
            self._segmentation.k_max,
            sample_weight=rows.weights,
            min_share=self._segmentation.min_share,
            n_init=self._segmentation.n_init,
            seed=self._segmentation.seed,
            empty=self._storage.empty,
            passed=passed,
            columns=[feature.column for feature in rows.preparation.features],
        )

    def _labelled(
        self,
        keys: pa.Table,
        rows: PreparedRows,
        centroids: Matrix,
        assignment: Assignment,
        earlier: Sequence[FeatureBins],
        limits: Vector | None,
        *,
        cut: bool,
    ) -> Labelled:
        empty, seed = self._storage.empty, self._segmentation.seed

        def describe() -> Found:
            found = find(
                rows, centroids, assignment, seed=seed, earlier=earlier, cut=cut, limits=limits
            )
            distances = assignment.squared_distances
            typical = [
                typical_customers(keys, numbers, np.sqrt(distances[numbers]))
                for numbers in typical_rows(assignment, len(centroids))
            ]
            return replace(found, typical=typical)

        labels = ArrayLabels(keys, assignment.labels, lambda: assignment.distances(empty), empty)
        return Labelled(labels, describe)

    # Reading

    def _prepared_to_fit(self, raw: RawRows) -> tuple[pa.Table, PreparedRows]:
        preparation = fit_preparation(
            raw.matrix,
            self._segmentation.to_features(),
            scaling=self._segmentation.scaling,
            missing=self._segmentation.missing,
            texts=raw.texts,
            sample_weight=raw.weights,
            reference_date=self._plan.today.isoformat(),
        )
        return prepare(raw, preparation, self._storage)

    def _read(self, n_rows: int | None = None) -> RawRows:
        if n_rows is None:
            n_rows = self._database.count(self._segmentation.source)
        with self._plan.progress.step("read", total=n_rows) as advance:
            if self._segmentation.memory_limit is not None:
                self._limit()
            raw = self._read_source(advance, in_order=False)
            if raw is None:
                self._limit()
                raw = self._read_source(advance, in_order=True)
            assert raw is not None
            if self._storage.spilled:
                self._limit()
                if isinstance(self._database, Embedded):
                    self._database.release_memory()
        return raw

    def _read_source(self, advance: Advance, *, in_order: bool) -> RawRows | None:
        """Take the rows, unless the database has to sort them."""
        columns, profile = self._plan.columns, columns_to_describe(self._database, self._plan)
        with self._database.open_source(
            self._segmentation,
            [*columns, *(column.name for column in profile)],
            in_order=in_order,
            types={column.name: column.read_as for column in profile},
        ) as source:
            kernel.load_ahead(source.row_count, len(columns))
            return read_rows(source, self._segmentation.key, self._storage, advance, profile)

    def _limit(self) -> None:
        """Keep the database from taking what is meant for the rows, from now on."""
        if not self._limited:
            self._limited = True
            share = self._storage.database_share
            self._limits.enter_context(limited_memory(self._database, share))
