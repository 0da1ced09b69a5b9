"""The rows stay in the database, which is asked for sums: one query a Lloyd pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing.choose_k import KChoice, require_share
from sqlkmeans.clustering.describing.bins import FeatureBins, with_skipped
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.found import Found, TypicalCustomer
from sqlkmeans.clustering.describing.profile import SegmentProfile
from sqlkmeans.clustering.describing.profile_columns import ColumnProfiles
from sqlkmeans.clustering.describing.rules import Rule
from sqlkmeans.clustering.describing.scores import NO_SCORES, Scores, score
from sqlkmeans.clustering.preparation.preparation import Preparation
from sqlkmeans.database.base import Database, Sources, Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Labelled, Plan, Rows, columns_to_describe
from sqlkmeans.engines.pushdown.bins import count_bins, cut_bins
from sqlkmeans.engines.pushdown.choice import choose_pushdown
from sqlkmeans.engines.pushdown.columns import read_columns
from sqlkmeans.engines.pushdown.explanation import count_rules, read_typical
from sqlkmeans.engines.pushdown.fit import fit_pushdown
from sqlkmeans.engines.pushdown.preparation import check_preparation, fit_preparation
from sqlkmeans.engines.pushdown.profile import (
    Sizes,
    calinski_harabasz,
    davies_bouldin,
    read_limits,
    read_outliers,
    read_profiles,
    read_sizes,
    total_ss,
)
from sqlkmeans.engines.pushdown.rows import KeptRows, too_small
from sqlkmeans.engines.pushdown.sample import LabelledSample, draw_labelled
from sqlkmeans.engines.pushdown.sql import training
from sqlkmeans.model import SegmentModel
from sqlkmeans.outcome import Fit


class PushdownEngine(Engine):
    """Temporary tables in the database; here only the sample, the sums and the model."""

    @contextmanager
    def open(self, sources: Sources, plan: Plan) -> Iterator[Rows]:
        with sources.open_workspace(plan.segmentation) as workspace:
            profile = columns_to_describe(sources, plan)
            kept = KeptRows(workspace, plan.segmentation, plan.columns, profile)
            total = sources.count(plan.segmentation.source)
            with plan.progress.step("read", total=total) as advance:
                kept.take()
                advance(kept.count)
            yield PushdownRows(plan, kept, kept.count)


@dataclass(frozen=True)
class QueryLabels:
    """Labels that a query of the workspace gives.

    Attributes
    ----------
    workspace : Workspace
    query : str
    rows : int
    """

    workspace: Workspace
    query: str
    rows: int

    def __len__(self) -> int:
        return self.rows

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        self.workspace.stage(database.labels, segmentation, run_id, self.query, self.rows)


@dataclass(frozen=True)
class PushdownRows(Rows):
    """A temporary table of the rows.

    Attributes
    ----------
    plan : Plan
    kept : KeptRows
    all_rows : int
        How many the source has.
    """

    plan: Plan
    kept: KeptRows
    all_rows: int

    def fit(self, earlier: Sequence[FeatureBins] = ()) -> tuple[Fit, Labelled]:
        segmentation = self.plan.segmentation
        with self.plan.progress.step("fit") as self.kept.passed:
            preparation = self._fit_preparation()
            choice = None
            if segmentation.k == "auto":
                choice, sample = choose_pushdown(self.kept, preparation.features, segmentation)
                k = choice.best_k()
                centroids, n_iter = choice.centroids[k], choice.n_iter[k]
            else:
                k = segmentation.k
                found = fit_pushdown(self.kept, preparation.features, segmentation, k)
                centroids, n_iter, sample = found.centroids, found.n_iter, found.sample
            labelled = LabelledTable.of(self, preparation, centroids, largest_first=True)
            if not labelled.sizes.rows.all():
                raise too_small(self.kept, k)
            require_share(labelled.sizes.rows, segmentation.min_share)
        findings = [] if sample is None else feature_findings(sample, preparation)
        findings += choice.warnings() if choice else []
        if segmentation.outlier is not None:
            limits = read_limits(self.kept, k, segmentation.outlier)[labelled.order]
            labelled = replace(labelled, limits=limits)
        fit = Fit(preparation, labelled.centroids, n_iter, findings, choice, labelled.limits)
        return fit, labelled.described(earlier, cut=True)

    def label(self, model: SegmentModel, earlier: Sequence[FeatureBins] = ()) -> Labelled:
        with self.plan.progress.step("assign"):
            check_preparation(self.kept, model.preparation)
            self.kept.keep_prepared(model.preparation.features)
            labelled = LabelledTable.of(self, model.preparation, model.centroids)
            told_of = labelled.sizes.rows.sum()
            if self.kept.layout.at_least > 1 and told_of != self.kept.count:
                raise too_small(self.kept, len(model.centroids))
        if model.outlier_distances is not None:
            labelled = replace(labelled, limits=np.array(model.outlier_distances))
        return labelled.described(earlier, cut=False)

    def choose_k(self) -> tuple[KChoice, int, int]:
        with self.plan.progress.step("fit") as self.kept.passed:
            preparation = self._fit_preparation()
            choice, _ = choose_pushdown(self.kept, preparation.features, self.plan.segmentation)
        return choice, self.kept.count, self.skipped

    def check(self) -> None:
        self._fit_preparation()

    def notes(self) -> list[str]:
        workspace = self.kept.workspace
        told = workspace.changed_since(self.all_rows)
        return [*workspace.notes, *([] if told is None else [told])]

    @property
    def skipped(self) -> int:
        """Rows that were left out because a feature is missing."""
        return self.all_rows - self.kept.count

    def _fit_preparation(self) -> Preparation:
        preparation = fit_preparation(
            self.kept,
            self.plan.segmentation.to_features(),
            scaling=self.plan.segmentation.scaling,
            missing=self.plan.segmentation.missing,
            reference_date=self.plan.today.isoformat(),
        )
        self.kept.keep_prepared(preparation.features)
        return preparation


@dataclass(frozen=True)
class LabelledTable:
    """The rows with their labels, and what is asked about them.

    Attributes
    ----------
    of_rows : PushdownRows
    preparation : Preparation
    centroids : ndarray of float64 of shape (k, n_features)
    order : list of int
        The number in the table of each cluster.
    sizes : Sizes
        By the table's numbers.
    limits : ndarray of float64 of shape (k,) or None
        Beyond which distance a customer is an outlier, in the order of the clusters.
    """

    of_rows: PushdownRows
    preparation: Preparation
    centroids: Matrix
    order: list[int]
    sizes: Sizes
    limits: Vector | None = None

    @classmethod
    def of(
        cls,
        of_rows: PushdownRows,
        preparation: Preparation,
        centroids: Matrix,
        *,
        largest_first: bool = False,
    ) -> LabelledTable:
        """Label the rows."""
        rows = of_rows.kept
        rows.execute(training.label_rows(rows.layout, preparation.features, centroids))
        rows.execute([training.drop(rows.layout, training.ROWS)])
        sizes = read_sizes(rows, len(centroids))
        order = list(range(len(centroids)))
        if largest_first:
            order.sort(key=lambda j: (-sizes.rows[j], tuple(centroids[j].tolist())))
        return cls(of_rows, preparation, np.ascontiguousarray(centroids[order]), order, sizes)

    def described(self, earlier: Sequence[FeatureBins], *, cut: bool) -> Labelled:
        """Labels, and what the rows tell, with bins as :func:`.find` has them."""
        rows = self._rows
        numbers = np.argsort(self.order).tolist()
        query = training.staged_query(rows.layout, self._segmentation.key, numbers)
        labels = QueryLabels(rows.workspace, query, rows.count)
        return Labelled(labels, lambda: self._found(earlier, cut=cut))

    @property
    def _rows(self) -> KeptRows:
        return self.of_rows.kept

    @property
    def _segmentation(self) -> Segmentation:
        return self.of_rows.plan.segmentation

    def _found(self, earlier: Sequence[FeatureBins], *, cut: bool) -> Found:
        compared = count_bins(self._rows, self.preparation, earlier) if earlier else []
        own = cut_bins(self._rows, self.preparation, self._sample) if cut or not compared else []
        left_out = self._rows.skipped_missing
        compared, own = with_skipped(compared, left_out), with_skipped(own, left_out)
        rules, typical = self._explanation()
        return Found(
            rows=self._rows.count,
            skipped=self.of_rows.skipped,
            inertia=self.sizes.inertia,
            weight=self.sizes.weight,
            mean_distance=float(self.sizes.distances.sum() / max(1, self.sizes.rows.sum())),
            profiles=self._profiles(),
            scores=self._scores(),
            bins=own or compared,
            compared_bins=compared,
            rules=rules,
            typical=typical,
            columns=self._columns(),
            outliers=self._outliers(),
        )

    def _columns(self) -> ColumnProfiles:
        found = read_columns(self._rows, self.sizes)
        return [found[0], *(found[j + 1] for j in self.order)] if found else []

    def _outliers(self) -> list[int | None]:
        if self.limits is None:
            return []
        found = read_outliers(self._rows, self.limits[np.argsort(self.order)])
        return [found[j] for j in self.order]

    def _profiles(self) -> list[SegmentProfile]:
        everyone, *found = read_profiles(self._rows, self.preparation.features, self.sizes)
        return [everyone, *(found[j] for j in self.order)]

    def _scores(self) -> Scores:
        """Davies-Bouldin and Calinski-Harabasz of all rows; silhouettes of the sample."""
        k = len(self.centroids)
        if k < 2 or self._rows.count <= k or not self.sizes.rows.all():
            return NO_SCORES
        in_table_order = self.centroids[np.argsort(self.order)]
        total = total_ss(self._rows, self.preparation.features)
        of_sample = NO_SCORES
        if (sample := self._sample) is not None:
            seed = self._segmentation.seed
            of_sample = score(sample.matrix, self.centroids, sample.assignment, seed=seed)
        return Scores(
            of_sample.silhouette,
            davies_bouldin(in_table_order, self.sizes),
            calinski_harabasz(total, self.sizes),
            of_sample.segment_silhouettes,
        )

    def _explanation(self) -> tuple[list[Rule | None], list[list[TypicalCustomer]]]:
        """Rules that the sample suggests, counted on all rows; and the nearest of all rows."""
        sample = self._sample
        if sample is None:
            return [], []
        seed = self._segmentation.seed
        rules = count_rules(self._rows, sample, self.order, self.sizes.rows, seed)
        return rules, read_typical(self._rows, self.order)

    @cached_property
    def _sample(self) -> LabelledSample | None:
        """Some of the rows; None where none may leave."""
        if not self._segmentation.sample_rows:
            return None
        return draw_labelled(self._rows, self.preparation, self.centroids, self._segmentation)
