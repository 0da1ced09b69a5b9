"""The rows come to this process two times: as float32 for the fit, then exact, as they pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

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
from sqlkmeans.engines.base import Labelled, NoRows, Plan
from sqlkmeans.engines.key_texts import typical_customers
from sqlkmeans.engines.local.keys import KeyCollector
from sqlkmeans.engines.local.labels import ArrayLabels
from sqlkmeans.engines.local.rows import LABEL_BYTES, numbers_of, rows_ahead
from sqlkmeans.engines.local.storage import Batches, PassingBatches, Storage
from sqlkmeans.errors import DataError
from sqlkmeans.memory import release_unused
from sqlkmeans.outcome import Fit
from sqlkmeans.progress import Advance

T = TypeVar("T")
#: Bytes of features, as float64, that are kept: to read so few again saves nobody anything.
LITTLE = 16 * 2**20
#: Rows whose exact values the first reading keeps, evenly spaced.
SAMPLE_ROWS = 50_000


def suits(database: Sources, segmentation: Segmentation, n_rows: int) -> bool:
    """Whether a fit of these rows can be tried so; what they hold may still be against it."""
    return (
        segmentation.engine == "local"
        and segmentation.k != "auto"
        and segmentation.sample_weight is None
        and n_rows > segmentation.sample_rows
        and is_worth_it(n_rows, len(segmentation.columns))
        and can_be_float32(segmentation.to_features(), segmentation.scaling, segmentation.missing)
        and isinstance(database, Embedded)
        and database.gives_again(segmentation.source)
    )


def is_worth_it(n_rows: int, n_features: int) -> bool:
    """Whether the memory that it saves is worth the time: reading again takes a twentieth more of a
    short run, and none of a long one, because memory that is touched first takes time as well."""
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
            columns = _columns(batch)
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

    def label(self) -> Labelled:
        """Label all rows, exactly."""
        segmentation, centroids = self.plan.segmentation, self.fit.centroids
        release_unused()
        collected = KeyCollector(segmentation.key, Batches())
        loops = kernel.kernel(len(self.labels), len(self.plan.columns))

        def look(rows: slice, matrix: Matrix) -> DescribedBatch:
            labels, distances = self.labels[rows], self.distances[rows]
            loops.label_rows(matrix, 0, len(matrix), centroids, labels, distances)
            np.sqrt(distances, out=distances)
            return self.one_pass.look(matrix, labels, distances)

        def look_again(look: Callable[[Matrix, Labels], T]) -> Iterable[T]:
            again = self._pass(lambda rows, matrix: look(matrix, self.labels[rows]))
            return [found for _, found in again]

        seen = []
        with closing(self._pass(look)) as looked:
            for keys, seen_of_some in looked:
                collected.add(keys)
                if not collected.sound:
                    raise self._changed()
                seen.append(seen_of_some)
        collected.finish(sort=False)
        found = self.one_pass.finish(seen, look_again)
        del seen
        release_unused()
        keys, labels, distances = collected.keys, self.labels, self.distances

        def describe() -> Found:
            nearest = typical_rows(Assignment(labels, distances), len(centroids))
            typical = [typical_customers(keys, rows, distances[rows]) for rows in nearest]
            return replace(found, typical=typical)

        return Labelled(ArrayLabels(keys, labels, lambda: distances), describe)

    def _pass(
        self, look: Callable[[slice, Matrix], T]
    ) -> Generator[tuple[pa.RecordBatch, T], None, None]:
        """Read all rows once more: keys, and what ``look`` returns when it is called with which
        rows they are and their prepared values."""
        preparation: Preparation = self.fit.preparation

        def work(part: tuple[slice, Batch]) -> tuple[pa.RecordBatch, T]:
            rows, batch = part
            matrix = prepare_batch(preparation, _columns(batch))
            if matrix is None:  # a value that the first reading had let pass
                raise self._changed()
            return batch.keys, look(rows, matrix)

        with (
            self.database.open_source(self.plan.segmentation, self.plan.columns) as source,
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


def _columns(batch: Batch) -> list[Vector]:
    return [numbers_of(column) for column in batch.features.columns]


def _bytes_a_row(n_features: int) -> int:
    """What a row takes at most: as narrow values with a label and a margin, or labelled."""
    return max(4 * n_features + 12, LABEL_BYTES + 16)
