"""The rows stay in the database, which is asked for sums: one query a Lloyd pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from typing import Any

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.choosing.choose_k import KChoice, require_share
from sqlkmeans.clustering.describing.bins import FeatureBins, with_skipped
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.profile import SegmentProfile
from sqlkmeans.clustering.describing.scores import Scores, score
from sqlkmeans.clustering.preparation.preparation import Feature, Preparation
from sqlkmeans.database.base import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Explanation, Fit
from sqlkmeans.engines.pushdown.bins import count_bins, cut_bins
from sqlkmeans.engines.pushdown.choice import choose_pushdown
from sqlkmeans.engines.pushdown.explanation import count_rules, read_typical
from sqlkmeans.engines.pushdown.fit import fit_pushdown
from sqlkmeans.engines.pushdown.preparation import check_preparation, fit_preparation
from sqlkmeans.engines.pushdown.profile import (
    Sizes,
    calinski_harabasz,
    davies_bouldin,
    read_profiles,
    read_sizes,
    total_ss,
)
from sqlkmeans.engines.pushdown.rows import Rows, too_small
from sqlkmeans.engines.pushdown.sample import LabelledSample, draw_labelled
from sqlkmeans.engines.pushdown.sql import training
from sqlkmeans.progress import Advance


class PushdownEngine(Engine):
    """Temporary tables in the database; here only the sample, the sums and the model."""

    _rows: Rows
    _segmentation: Segmentation
    _preparation: Preparation
    _centroids: Matrix
    _sizes: Sizes
    _drawn: LabelledSample | None = None

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
        self._segmentation, self._all_rows = segmentation, self._rows.count
        advance(self._all_rows)

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def close(self) -> None:
        self._open.close()

    def check(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> None:
        self._fit_preparation(segmentation, features, reference_date)

    def fit(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> Fit:
        preparation = self._fit_preparation(segmentation, features, reference_date)
        choice = None
        if segmentation.k == "auto":
            choice, sample = choose_pushdown(self._rows, preparation.features, segmentation)
            k = choice.best_k()
            centroids, n_iter = choice.centroids[k], choice.n_iter[k]
        else:
            k = segmentation.k
            found = fit_pushdown(self._rows, preparation.features, segmentation, k)
            centroids, n_iter, sample = found.centroids, found.n_iter, found.sample
        self._label(preparation, centroids)
        if not self._sizes.rows.all():
            raise too_small(self._rows, k)
        require_share(self._sizes.rows, segmentation.min_share)
        self._largest_first()
        findings = [] if sample is None else feature_findings(sample, preparation)
        findings += choice.warnings() if choice else []
        return Fit(preparation, self._centroids, n_iter, findings, choice)

    def choose_k(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> KChoice:
        preparation = self._fit_preparation(segmentation, features, reference_date)
        self.rows, self.skipped = self._rows.count, self._all_rows - self._rows.count
        return choose_pushdown(self._rows, preparation.features, segmentation)[0]

    def _fit_preparation(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> Preparation:
        self._rows.passed = self.passed
        preparation = fit_preparation(
            self._rows,
            features,
            scaling=segmentation.scaling,
            missing=segmentation.missing,
            reference_date=reference_date.isoformat(),
        )
        self._rows.keep_prepared(preparation.features)
        return preparation

    def label(self, preparation: Preparation, centroids: Matrix) -> None:
        check_preparation(self._rows, preparation)
        self._rows.keep_prepared(preparation.features)
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
        if (sample := self._sample()) is not None:
            of_sample = score(sample.matrix, self._centroids, sample.assignment, seed=seed)
        return Scores(
            of_sample.silhouette,
            davies_bouldin(in_table_order, self._sizes),
            calinski_harabasz(total, self._sizes),
            of_sample.segment_silhouettes,
        )

    def profiles(self) -> list[SegmentProfile]:
        everyone, *found = read_profiles(self._rows, self._preparation.features, self._sizes)
        return [everyone, *(found[j] for j in self._order)]

    def explain(self, seed: int) -> Explanation:
        """Rules that the sample suggests, counted on all rows; and the nearest of all rows."""
        sample = self._sample()
        if sample is None:
            return Explanation()
        return Explanation(
            count_rules(self._rows, sample, self._order, self._sizes.rows, seed),
            read_typical(self._rows, self._order),
        )

    def bins(self, earlier: Sequence[FeatureBins] | None = None) -> list[FeatureBins]:
        if earlier is None:
            found = cut_bins(self._rows, self._preparation, self._sample())
        else:
            found = count_bins(self._rows, self._preparation, earlier)
        return with_skipped(found, self._rows.skipped_missing)

    def _sample(self) -> LabelledSample | None:
        """Drawn once; None where no row may leave."""
        if self._drawn is None and self._segmentation.sample_rows:
            self._drawn = draw_labelled(
                self._rows, self._preparation, self._centroids, self._segmentation
            )
        return self._drawn

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        rows = self._rows
        numbers = np.argsort(self._order).tolist()
        query = training.staged_query(rows.layout, segmentation.key, numbers)
        database.stage_query(segmentation, run_id, rows.workspace, query, rows.count)
