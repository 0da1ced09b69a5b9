"""The rows come to this process again and again: narrow for the fit, then exact, as they pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import date
from typing import TypeVar

import numpy as np
import pyarrow as pa

from sqlkmeans.background import one_thread
from sqlkmeans.clustering.arrays.threads import as_they_come, one_library_thread
from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector
from sqlkmeans.clustering.choosing.choose_k import KChoice, require_share
from sqlkmeans.clustering.describing.bins import FeatureBins
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.one_pass import (
    Fitted,
    PassingRows,
    Seen,
    Told,
    prepare_passing,
)
from sqlkmeans.clustering.describing.profile import SegmentProfile
from sqlkmeans.clustering.describing.scores import Scores
from sqlkmeans.clustering.describing.typical import typical_rows
from sqlkmeans.clustering.kmeans.assignment import Assignment
from sqlkmeans.clustering.kmeans.kernels import kernel
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.preparation.float32_rows import NarrowRows, NotNarrow, can_be_narrow
from sqlkmeans.clustering.preparation.preparation import Feature, Preparation
from sqlkmeans.database.base import Batch, Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Explanation, Fit, NoRows, Unsuited
from sqlkmeans.engines.local.keys import KeyCollector, typical_customers
from sqlkmeans.engines.local.rows import LABEL_BYTES, numbers_of, rows_ahead
from sqlkmeans.engines.local.storage import Batches, PassingBatches, Storage
from sqlkmeans.errors import DataError
from sqlkmeans.memory import release_unused
from sqlkmeans.progress import Advance

T = TypeVar("T")
#: Bytes of features, as float64, that are kept: to read so few again saves nobody anything.
LITTLE = 16 * 2**20
#: Rows whose exact values the first reading keeps, evenly spaced.
SAMPLE_ROWS = 50_000


def suits(database: Database, segmentation: Segmentation, n_rows: int) -> bool:
    """Whether a fit of these rows can be tried so; what they hold may still be against it."""
    return (
        segmentation.engine == "local"
        and segmentation.k != "auto"
        and segmentation.sample_weight is None
        and n_rows > segmentation.sample_rows
        and is_worth_it(n_rows, len(segmentation.columns))
        and can_be_narrow(segmentation.to_features(), segmentation.scaling, segmentation.missing)
        and database.gives_again(segmentation.source)
    )


def is_worth_it(n_rows: int, n_features: int) -> bool:
    """Whether the memory that it saves is worth the time: reading again takes a twentieth more of a
    short run, and none of a long one, because memory that is touched first takes time as well."""
    return n_rows * n_features * 8 > LITTLE


class RereadingEngine(Engine):
    """A matrix of float32 that a fit works on, then batches that are labelled and described as
    they come.

    Labels, distances and descriptions are those that the exact values have, as
    :class:`~sqlkmeans.engines.local.engine.LocalEngine` computes them from one matrix of float64,
    for half the memory or less. It fits only; rows have to come in key order, with nothing to be
    filled in or left out.
    """

    _database: Database
    _segmentation: Segmentation
    _columns: Sequence[str]
    _narrow: NarrowRows
    _sample: Matrix
    _fitted: Fitted
    _preparation: Preparation
    _centroids: Matrix
    _keys: pa.Table
    _labels: Labels
    _distances: Vector
    _told: Told

    skipped = 0

    def __init__(self) -> None:
        self._limits = ExitStack()

    # The first reading

    def open(
        self,
        database: Database,
        segmentation: Segmentation,
        columns: Sequence[str],
        advance: Advance,
    ) -> None:
        self._database, self._segmentation, self._columns = database, segmentation, columns
        with database.open_source(segmentation, columns) as source:
            kernel.load_ahead(source.row_count, len(columns), "float32")
            with one_thread() as reader:
                self._take(rows_ahead(source.batches, reader), source.row_count, advance)

    def _take(self, batches: Iterator[Batch], n_rows: int, advance: Advance) -> None:
        features = self._segmentation.to_features()
        storage = Storage(self._segmentation.memory_limit)
        storage.expect(n_rows * _bytes_a_row(len(features)))
        if storage.spilled:
            raise Unsuited
        if self._segmentation.memory_limit is not None:
            share = storage.database_share
            self._limits.enter_context(self._database.limited_memory(share))
        keys = KeyCollector(self._segmentation.key, PassingBatches())
        narrow = NarrowRows(features, self._segmentation.scaling, n_rows)
        step, sample = max(1, n_rows // SAMPLE_ROWS), []
        try:
            for batch in batches:
                keys.add(batch.keys)
                if not keys.sound:
                    raise Unsuited
                columns = _columns(batch)
                start = narrow.count
                narrow.add(columns)
                sample.append([column[-start % step :: step].copy() for column in columns])
                advance(batch.keys.num_rows)
            if not narrow.count:
                raise NoRows("the source has no rows; nothing was changed")
            narrow.check()
        except (Unsuited, NotNarrow):
            advance(-narrow.count)
            raise Unsuited from None
        self._narrow = narrow
        self._sample = np.array([np.concatenate(part)[:SAMPLE_ROWS] for part in zip(*sample)]).T
        self.rows, self.weight = narrow.count, float(narrow.count)

    def fit(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> Fit:
        assert isinstance(segmentation.k, int)
        matrix, preparation = self._narrow.finish(reference_date.isoformat())
        del self._narrow
        fit = fit_kmeans(
            matrix, segmentation.k, n_init=segmentation.n_init, seed=segmentation.seed,
            sample_rows=segmentation.sample_rows, passed=self.passed,
        )  # fmt: skip
        sizes = fit.assignment.sizes(segmentation.k)
        require_share(sizes, segmentation.min_share)
        sample, _ = preparation.prepare(self._sample)
        self._fitted = Fitted(
            matrix, fit.assignment.labels, sample, preparation, fit.centroids, sizes
        )
        self._preparation, self._centroids = preparation, fit.centroids
        # Where the exact ones will be: memory that has been used needs not be cleared.
        self._labels, self._distances = fit.assignment.labels, fit.assignment.squared_distances
        findings = feature_findings(matrix, preparation) + kernel.advice(matrix.size)
        return Fit(preparation, fit.centroids, fit.n_iter, findings)

    # The second

    def look_at_rows(self, earlier: Sequence[FeatureBins]) -> None:
        passing = PassingRows(self._fitted, self._segmentation.seed, earlier)
        del self._fitted, self._sample
        release_unused()
        collected = KeyCollector(self._segmentation.key, Batches())
        loops = kernel.kernel(self.rows, len(self._columns))

        def look(rows: slice, matrix: Matrix) -> Seen:
            labels, distances = self._labels[rows], self._distances[rows]
            loops.label_rows(matrix, 0, len(matrix), self._centroids, labels, distances)
            np.sqrt(distances, out=distances)
            return passing.look(matrix, labels, distances)

        def look_again(look: Callable[[Matrix, Labels], T]) -> Iterable[T]:
            again = self._pass(lambda rows, matrix: look(matrix, self._labels[rows]))
            return [found for _, found in again]

        seen = []
        with closing(self._pass(look)) as looked:
            for keys, seen_of_some in looked:
                collected.add(keys)
                if not collected.sound:
                    raise self._changed()
                seen.append(seen_of_some)
        collected.finish(sort=False)
        self._keys = collected.keys
        self._told = passing.finish(seen, look_again)
        self.inertia, self.mean_distance = self._told.inertia, self._told.mean_distance
        del seen
        release_unused()

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        database.stage(segmentation, run_id, self._keys, self._labels, self._distances)

    def _pass(
        self, look: Callable[[slice, Matrix], T]
    ) -> Generator[tuple[pa.RecordBatch, T], None, None]:
        """Read all rows once more: keys, and what ``look`` returns when it is called with which
        rows they are and their prepared values."""

        def work(part: tuple[slice, Batch]) -> tuple[pa.RecordBatch, T]:
            rows, batch = part
            matrix = prepare_passing(self._preparation, _columns(batch))
            if matrix is None:  # a value that the first reading had let pass
                raise self._changed()
            return batch.keys, look(rows, matrix)

        with (
            self._database.open_source(self._segmentation, self._columns) as source,
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
            if end > self.rows:
                raise self._changed()
            yield rows, batch
        if end != self.rows:
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(
            f"source {self._segmentation.source}: changed while it was read; "
            "nothing was published, run it again"
        )

    # What has been found

    def scores(self, seed: int) -> Scores:
        return self._told.scores

    def profiles(self) -> list[SegmentProfile]:
        return self._told.profiles

    def bins(self, earlier: Sequence[FeatureBins] | None = None) -> list[FeatureBins]:
        return self._told.bins if earlier is None else self._told.compared_bins

    def explain(self, seed: int) -> Explanation:
        nearest = typical_rows(Assignment(self._labels, self._distances), len(self._centroids))
        typical = [typical_customers(self._keys, rows, self._distances[rows]) for rows in nearest]
        return Explanation(self._told.rules, typical)

    def let_go(self) -> None:
        for name in ("_narrow", "_sample", "_fitted", "_keys", "_labels", "_distances"):
            self.__dict__.pop(name, None)

    def close(self) -> None:
        self._limits.close()
        self.let_go()

    # What it is not for

    def choose_k(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> KChoice:
        raise NotImplementedError("it takes rows for a fit of one k")

    def label(self, preparation: Preparation, centroids: Matrix) -> None:
        raise NotImplementedError("it takes rows for a fit")


def _columns(batch: Batch) -> list[Vector]:
    return [numbers_of(column) for column in batch.features.columns]


def _bytes_a_row(n_features: int) -> int:
    """What a row takes at most: as narrow values with a label and a margin, or labelled."""
    return max(4 * n_features + 12, LABEL_BYTES + 16)
