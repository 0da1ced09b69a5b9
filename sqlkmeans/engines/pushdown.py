"""The rows stay in the database, which is asked for sums: one query a Lloyd pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import assign
from sqlkmeans.clustering.findings import feature_findings
from sqlkmeans.clustering.preparation import Feature, Preparation
from sqlkmeans.clustering.profile import SegmentProfile
from sqlkmeans.clustering.scores import Scores, score
from sqlkmeans.database.interface import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Fit
from sqlkmeans.engines.pushdown_fit import fit_pushdown
from sqlkmeans.engines.pushdown_preparation import check_preparation, fit_preparation
from sqlkmeans.engines.pushdown_profile import (
    Sizes,
    calinski_harabasz,
    davies_bouldin,
    read_profiles,
    read_sizes,
    total_ss,
)
from sqlkmeans.engines.pushdown_rows import Rows, too_small
from sqlkmeans.errors import DefinitionError
from sqlkmeans.progress import Advance
from sqlkmeans.tsql import training

Matrix = npt.NDArray[np.float64]


class PushdownEngine(Engine):
    """Temporary tables in the database; here only the sample, the sums and the model."""

    _rows: Rows
    _preparation: Preparation
    _centroids: Matrix
    _sample: Matrix | None = None
    _sizes: Sizes

    def __init__(self) -> None:
        self._open = ExitStack()

    def open(
        self,
        database: Database,
        segmentation: Segmentation,
        columns: Sequence[str],
        advance: Advance,
    ) -> None:
        workspace = self._open.enter_context(database.open_workspace(segmentation))
        self._rows = Rows(workspace, segmentation, columns)
        self._all_rows = self._rows.count
        advance(self._all_rows)

    def close(self) -> None:
        self._open.close()

    def fit(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> Fit:
        if segmentation.k == "auto":
            raise DefinitionError(
                'k = "auto" with engine = "pushdown"; allowed: a number (docs/definition.md)'
            )
        preparation = fit_preparation(
            self._rows,
            features,
            scaling=segmentation.scaling,
            missing=segmentation.missing,
            reference_date=reference_date.isoformat(),
        )
        found = fit_pushdown(self._rows, preparation.features, segmentation, segmentation.k)
        self._sample = found.sample
        self._label(preparation, found.centroids)
        if not self._sizes.rows.all():
            raise too_small(self._rows, segmentation.k)
        self._largest_first()
        findings = [] if found.sample is None else feature_findings(found.sample, preparation)
        return Fit(preparation, self._centroids, found.n_iter, findings)

    def label(self, preparation: Preparation, centroids: Matrix) -> None:
        check_preparation(self._rows, preparation)
        self._label(preparation, centroids)
        if self._sizes.rows.sum() != self._rows.count:
            raise too_small(self._rows, len(centroids))

    def _label(self, preparation: Preparation, centroids: Matrix) -> None:
        rows = self._rows
        rows.execute(training.label_rows(rows.layout, preparation.features, centroids))
        rows.execute([training.drop(rows.layout, training.ROWS)])
        self._preparation, self._centroids = preparation, centroids
        self._order = list(range(len(centroids)))
        self._sizes = read_sizes(rows, len(centroids))
        self.rows, self.skipped = rows.count, self._all_rows - rows.count
        self.inertia, self.weight = self._sizes.inertia, self._sizes.weight
        self.mean_distance = float(self._sizes.distances.sum() / max(1, self._sizes.rows.sum()))

    def _largest_first(self) -> None:
        sizes, centroids = self._sizes, self._centroids
        self._order = sorted(
            self._order, key=lambda j: (-sizes.rows[j], tuple(centroids[j].tolist()))
        )
        self._centroids = np.ascontiguousarray(centroids[self._order])

    def scores(self, seed: int) -> Scores:
        """Davies-Bouldin and Calinski-Harabasz of all rows; silhouettes of the sample."""
        k = len(self._centroids)
        if k < 2 or self.rows <= k or not self._sizes.rows.all():
            return Scores(None, None, None)
        in_table_order = self._centroids[np.argsort(self._order)]
        total = total_ss(self._rows, self._preparation.features)
        of_sample = Scores(None, None, None)
        if self._sample is not None:
            labelled = assign(self._sample, self._centroids)
            of_sample = score(self._sample, self._centroids, labelled, seed=seed)
        return Scores(
            of_sample.silhouette,
            davies_bouldin(in_table_order, self._sizes),
            calinski_harabasz(total, self._sizes),
            of_sample.segment_silhouettes,
        )

    def profiles(self) -> list[SegmentProfile]:
        everyone, *found = read_profiles(self._rows, self._preparation.features, self._sizes)
        return [everyone, *(found[j] for j in self._order)]

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        rows = self._rows
        numbers = np.argsort(self._order).tolist()
        query = training.staged_query(rows.layout, segmentation.key, numbers)
        database.stage_query(segmentation, run_id, rows.workspace, query, rows.count)
