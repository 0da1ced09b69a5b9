"""The rows come to this process three times: as float32 for the fit, then exact, as they pass: for
the means, and to be labelled and described."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from sqlkmeans.background import one_thread
from sqlkmeans.clustering.arrays.threads import as_they_come, one_library_thread
from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector
from sqlkmeans.clustering.choosing.choose_k import require_share
from sqlkmeans.clustering.describing.bins import FeatureBins
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.found import Found
from sqlkmeans.clustering.describing.one_pass import (
    DescribedBatch,
    FittedRows,
    OnePass,
    prepare_batch,
)
from sqlkmeans.clustering.describing.outliers import count_outliers, outlier_distances
from sqlkmeans.clustering.describing.profile_columns import ProfileColumn, describe_columns
from sqlkmeans.clustering.describing.typical import typical_rows
from sqlkmeans.clustering.kmeans.assignment import Assignment
from sqlkmeans.clustering.kmeans.kernels import kernel
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.preparation.float32_rows import (
    Float32Rows,
    NeedsFloat64,
    can_be_float32,
)
from sqlkmeans.clustering.preparation.preparation import Preparation
from sqlkmeans.database.base import Batch, Embedded, Sources, limited_memory
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Labelled, Plan, columns_to_describe
from sqlkmeans.engines.key_texts import typical_customers
from sqlkmeans.engines.local.keys import KeyCollector
from sqlkmeans.engines.local.labels import ArrayLabels
from sqlkmeans.engines.local.rows import LABEL_BYTES, DescribedRows, numbers_of, rows_ahead
from sqlkmeans.engines.local.storage import Batches, PassingBatches, Storage
from sqlkmeans.errors import DataError, NoRows
from sqlkmeans.memory import release_unused
from sqlkmeans.outcome import Fit
from sqlkmeans.progress import Advance

T = TypeVar("T")
#: Readings at most until the centroids are the exact means of the rows that are nearest to them;
#: one is enough unless a customer is all but halfway between two segments.
READINGS = 5
#: Bytes of features, as float64, that are kept: to read so few again saves nobody anything.
LITTLE = 64 * 2**20
#: Rows whose exact values the first reading keeps, evenly spaced.
SAMPLE_ROWS = 50_000


def suits(database: Sources, segmentation: Segmentation, n_rows: int) -> bool:
    """Whether a fit of these rows can be tried so; what they hold may still be against it."""
    return (
        segmentation.engine == "local"
        and segmentation.k != "auto"
        and segmentation.sample_weight is None
        and not segmentation.trim
        and n_rows > segmentation.sample_rows
        and is_worth_it(n_rows, len(segmentation.columns))
        and can_be_float32(segmentation.to_features(), segmentation.scaling, segmentation.missing)
        and isinstance(database, Embedded)
        and database.gives_again(segmentation.source)
    )


def is_worth_it(n_rows: int, n_features: int) -> bool:
    """Whether the memory that it saves is worth the time: a million rows of four features took half
    as long again, for 44 MB less of 296."""
    return n_rows * n_features * 8 > LITTLE


@dataclass(frozen=True, eq=False)
class FirstReading:
    """Rows as float32.

    Labels, distances and descriptions will be those that the exact values have, as
    :class:`~sqlkmeans.engines.local.engine.LocalRows` computes them from one matrix of float64,
    for half the memory or less. Rows have to come in key order, with nothing to be filled in or
    left out.

    Attributes
    ----------
    database : Sources
    plan : Plan
    rows : Float32Rows
        Used up by a fit.
    sample : ndarray of float64 of shape (at most 50,000, n_features)
        Exact values of some of them.
    """

    database: Sources
    plan: Plan
    rows: Float32Rows
    sample: Matrix

    def fit(self, earlier: Sequence[FeatureBins], passed: Advance) -> SecondReading:
        """Cluster the rows; the earlier bins are those of the run to compare with."""
        segmentation = self.plan.segmentation
        assert isinstance(segmentation.k, int)
        matrix, preparation = self.rows.finish(self.plan.today.isoformat())
        found = fit_kmeans(
            matrix, segmentation.k, n_init=segmentation.n_init, seed=segmentation.seed,
            sample_rows=segmentation.sample_rows, passed=passed,
        )  # fmt: skip
        labels, sizes = found.assignment.labels, found.assignment.sizes(segmentation.k)
        require_share(sizes, segmentation.min_share)
        sample, _ = preparation.prepare(self.sample)
        fitted = FittedRows(matrix, labels, sample, preparation, found.centroids, sizes)
        one_pass = OnePass(fitted, segmentation.seed, earlier)
        findings = feature_findings(matrix, preparation) + kernel.advice(matrix.size)
        fit = Fit(preparation, found.centroids, found.n_iter, findings)
        # Where the exact ones will be: memory that has been used needs not be cleared.
        distances = found.assignment.squared_distances
        return SecondReading(self.database, self.plan, fit, one_pass, labels, distances)


def read_float32(
    database: Sources, plan: Plan, limits: ExitStack, advance: Advance
) -> FirstReading | None:
    """Read the rows for the first time; None where they have to be read as float64.

    Progress is then taken back. ``limits`` gets what keeps the database from the rows' memory.
    """
    with database.open_source(plan.segmentation, plan.columns) as source:
        kernel.load_ahead(source.row_count, len(plan.columns), "float32")
        storage = Storage(plan.segmentation.memory_limit)
        storage.expect(source.row_count * _bytes_a_row(len(plan.columns)))
        if storage.spilled:
            return None
        with ExitStack() as own:
            if plan.segmentation.memory_limit is not None:
                own.enter_context(limited_memory(database, storage.database_share))
            with one_thread() as reader:
                batches = rows_ahead(source.batches, reader)
                reading = _read(database, plan, batches, source.row_count, advance)
            if reading is not None:
                limits.push(own.pop_all())
    return reading


def _read(
    database: Sources, plan: Plan, batches: Iterator[Batch], n_rows: int, advance: Advance
) -> FirstReading | None:
    segmentation = plan.segmentation
    keys = KeyCollector(segmentation.key, PassingBatches())
    rows = Float32Rows(segmentation.to_features(), segmentation.scaling, n_rows)
    step, sample = max(1, n_rows // SAMPLE_ROWS), []
    try:
        for batch in batches:
            keys.add(batch.keys)
            if not keys.sound:
                break
            columns = _columns(batch, len(plan.columns))
            start = rows.count
            rows.add(columns)
            sample.append([column[-start % step :: step].copy() for column in columns])
            advance(batch.keys.num_rows)
        if keys.sound and not rows.count:
            raise NoRows("the source has no rows; nothing was changed")
        sound = keys.sound
        if sound:
            rows.check()
    except NeedsFloat64:
        sound = False
    if not sound:
        advance(-rows.count)
        return None
    exact = np.array([np.concatenate(part)[:SAMPLE_ROWS] for part in zip(*sample)]).T
    return FirstReading(database, plan, rows, exact)


@dataclass(frozen=True, eq=False)
class SecondReading:
    """The rows once more: labelled and described as they pass.

    Attributes
    ----------
    database : Sources
    plan : Plan
    fit : Fit
        Of the rows as float32.
    one_pass : OnePass
        Describes them.
    labels : ndarray of int32 of shape (n_rows,)
    distances : ndarray of float64 of shape (n_rows,)
        Both overwritten.
    """

    database: Sources
    plan: Plan
    fit: Fit
    one_pass: OnePass
    labels: Labels
    distances: Vector

    def label(self) -> tuple[Fit, Labelled]:
        """Label all rows, exactly; centroids are then the exact means, and the limits of outliers
        those of exact distances."""
        release_unused()
        centroids = self._exact_means()
        segmentation = self.plan.segmentation
        collected = KeyCollector(segmentation.key, Batches())
        loops = kernel.kernel(len(self.labels), len(self.plan.columns))

        def look(rows: slice, matrix: Matrix) -> DescribedBatch:
            labels, distances = self.labels[rows], self.distances[rows]
            loops.label_rows(matrix, 0, len(matrix), centroids, labels, distances)
            np.sqrt(distances, out=distances)
            return self.one_pass.look(matrix, labels, distances)

        def look_again(look: Callable[[Matrix, Labels], T]) -> Iterable[T]:
            again = self._pass(lambda rows, matrix: look(matrix, self.labels[rows]), ())
            return [found for _, _, found in again]

        seen, profile = [], columns_to_describe(self.database, self.plan)
        described = DescribedRows(profile, len(self.labels), self._storage(len(profile)))
        with closing(self._pass(look, profile)) as looked:
            for of_some, batch, seen_of_some in looked:
                collected.add(batch.keys)
                if not collected.sound:
                    raise self._changed()
                described.add(of_some, batch)
                seen.append(seen_of_some)
        collected.finish(sort=False)
        columns = described.finish(len(self.labels))
        found = self.one_pass.finish(seen, look_again)
        del seen
        release_unused()
        keys, labels, distances = collected.keys, self.labels, self.distances
        fit, k = replace(self.fit, centroids=centroids), len(centroids)
        if segmentation.outlier is not None:
            limits = outlier_distances(labels, distances, k, segmentation.outlier)
            fit = replace(fit, outlier_distances=limits)
            found = replace(found, outliers=count_outliers(labels, distances, limits).tolist())

        def describe() -> Found:
            nearest = typical_rows(Assignment(labels, distances), k)
            typical = [typical_customers(keys, rows, distances[rows]) for rows in nearest]
            told = () if columns is None else describe_columns(columns, labels, len(centroids))
            return replace(found, typical=typical, columns=told)

        return fit, Labelled(ArrayLabels(keys, labels, lambda: distances), describe)

    def _storage(self, n_columns: int) -> Storage:
        """Where so many columns are kept beside the rows."""
        storage = Storage(self.plan.segmentation.memory_limit)
        if n_columns:
            a_row = 8 * n_columns + _bytes_a_row(len(self.plan.columns))
            storage.expect(len(self.labels) * a_row)
        return storage

    def _exact_means(self) -> Matrix:
        """The means of the exact values of the rows that are nearest to them.

        Those of the values as float32 are off by their rounding, which can add up where many
        customers have the same value.
        """
        centroids = self.fit.centroids
        loops = kernel.kernel(len(self.labels), len(self.plan.columns))

        def look(rows: slice, matrix: Matrix) -> _Means:
            of_some = _Means(centroids)
            labels, margins = self.labels[rows], self.distances[rows]
            loops.add_rows(
                matrix, 0, len(matrix), None, centroids, labels, margins, of_some.sums,
                of_some.counts,
            )  # fmt: skip
            of_some.margin = float(margins.min(initial=np.inf))
            return of_some

        for _ in range(READINGS):
            means = _Means(centroids)
            with closing(self._pass(look, ())) as looked:
                for _, _, of_some in looked:
                    means.add(of_some)
            centroids = means.found
            if means.decide:
                break
        return centroids

    def _pass(
        self, look: Callable[[slice, Matrix], T], profile: Sequence[ProfileColumn]
    ) -> Generator[tuple[slice, Batch, T], None, None]:
        """Read all rows once more, with further columns: which they are, the batch, and what
        ``look`` returns when it is called with which they are and their prepared values."""
        preparation: Preparation = self.fit.preparation
        columns = [*self.plan.columns, *(column.name for column in profile)]
        types = {column.name: column.read_as for column in profile}

        def work(part: tuple[slice, Batch]) -> tuple[slice, Batch, T]:
            rows, batch = part
            matrix = prepare_batch(preparation, _columns(batch, len(self.plan.columns)))
            if matrix is None:  # a value that the first reading had let pass
                raise self._changed()
            return rows, batch, look(rows, matrix)

        with (
            self.database.open_source(self.plan.segmentation, columns, types=types) as source,
            one_thread() as reader,
            one_library_thread(),
        ):
            yield from as_they_come(work, self._numbered(rows_ahead(source.batches, reader)))

    def _numbered(self, batches: Iterable[Batch]) -> Iterator[tuple[slice, Batch]]:
        """The batches, each with which rows it has."""
        end = 0
        for batch in batches:
            rows = slice(end, end + batch.keys.num_rows)
            end = rows.stop
            if end > len(self.labels):
                raise self._changed()
            yield rows, batch
        if end != len(self.labels):
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(
            f"source {self.plan.segmentation.source}: changed while it was read; "
            "nothing was published, run it again"
        )


class _Means:
    """The means of the rows nearest to each of some centroids."""

    def __init__(self, centroids: Matrix) -> None:
        self.centroids = centroids
        self.sums, self.counts = np.zeros(centroids.shape), np.zeros(len(centroids))
        #: How much farther a row's second nearest centroid is than its nearest, at least.
        self.margin = np.inf

    def add(self, others: _Means) -> None:
        """Those of other rows."""
        self.sums += others.sums
        self.counts += others.counts
        self.margin = min(self.margin, others.margin)

    @property
    def found(self) -> Matrix:
        """Of shape (k, n_features); a centroid that no row is nearest to stays where it is."""
        counts = self.counts[:, None]
        return np.where(counts > 0, self.sums / np.maximum(counts, 1), self.centroids)

    @property
    def decide(self) -> bool:
        """Whether every row is nearest to the mean in place of the centroid it is nearest to."""
        moved = float(np.sqrt(((self.found - self.centroids) ** 2).sum(axis=1).max()))
        return self.margin > 2 * moved or moved == 0


def _columns(batch: Batch, n_features: int) -> list[Vector]:
    return [numbers_of(column) for column in batch.features.columns[:n_features]]


def _bytes_a_row(n_features: int) -> int:
    """What a row takes at most: as narrow values with a label and a margin, or labelled."""
    return max(4 * n_features + 12, LABEL_BYTES + 16)
