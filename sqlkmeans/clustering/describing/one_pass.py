"""Describes labelled rows that are seen once, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.background import one_thread
from sqlkmeans.clustering.arrays.types import Labels, Matrix, Vector
from sqlkmeans.clustering.describing.bins import BinCounts, FeatureBins
from sqlkmeans.clustering.describing.found import Found
from sqlkmeans.clustering.describing.profile import profiles_of
from sqlkmeans.clustering.describing.rules import RuleCounts, find_conditions
from sqlkmeans.clustering.describing.scores import (
    NO_SCORES,
    can_be_scored,
    scores_of,
    segment_silhouettes,
)
from sqlkmeans.clustering.describing.summaries import GroupedValues, Looked, PassingSummaries
from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.preparation.float32_rows import Float32Matrix
from sqlkmeans.clustering.preparation.preparation import Preparation
from sqlkmeans.clustering.preparation.transforms import forward

Sizes = npt.NDArray[np.int64]
#: Deviations from the mean that are near.
NEAR = 10
#: What is called with some prepared rows and their labels.
Look = Callable[[Matrix, Labels], Any]


@dataclass(frozen=True)
class FittedRows:
    """Rows as a fit has seen them, and what it made of them.

    Attributes
    ----------
    matrix : ndarray of float32 of shape (n_rows, n_features)
    labels : ndarray of int32 of shape (n_rows,)
        All but a few are those of the rows' exact values.
    sample : ndarray of float64 of shape (at most 50,000, n_features)
        Exact values of some of the rows, prepared.
    preparation : Preparation
    centroids : ndarray of float64 of shape (k, n_features)
    sizes : ndarray of int64 of shape (k,)
        Rows a label.
    """

    matrix: Float32Matrix
    labels: Labels
    sample: Matrix
    preparation: Preparation
    centroids: Matrix
    sizes: Sizes


@dataclass(frozen=True)
class DescribedBatch:
    """What some of the rows told; sums are added, in the order of the rows."""

    summaries: Looked
    bins: npt.NDArray[np.int64]
    compared: npt.NDArray[np.int64]
    rules: npt.NDArray[np.int64]
    #: Rows, distances and squared distances a cluster; of shape (3, k).
    clusters: Matrix
    #: Sums of the features and of their squares, about 0 or the sample's means; of shape
    #: (n_features,).
    sums: Vector
    squares: Vector


def prepare_batch(preparation: Preparation, raw: Sequence[Vector]) -> Matrix | None:
    """Prepare columns of numbers and dates in which no value is missing, as
    :meth:`Preparation.prepare` does.

    Parameters
    ----------
    preparation : Preparation
        Without categories, fills and limits.
    raw : sequence of ndarray of float64 of shape (n_rows,)
        One a feature. Not changed.

    Returns
    -------
    ndarray of float64 of shape (n_rows, n_features) or None
        Each column in one piece; None where a value is missing, infinite, or outside a
        transform's domain.
    """
    prepared = np.empty((len(raw), len(raw[0])))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for row, feature, values in zip(prepared, preparation.features, raw):
            own = forward(feature.transform, feature.from_raw(values))
            np.subtract(own, feature.center, out=row)
            row /= feature.divisor
        usable = bool(np.isfinite(prepared.sum()))
    return prepared.T if usable else None


class OnePass:
    """Looks at rows as they pass. What has to be known before is taken from the fit's own.

    Parameters
    ----------
    fitted : FittedRows
        Not kept.
    seed : int
        Draws samples.
    earlier : sequence of FeatureBins, default=()
        Bins of an earlier run, in which the rows are counted as well.
    """

    def __init__(self, fitted: FittedRows, seed: int, earlier: Sequence[FeatureBins] = ()) -> None:
        self._preparation, self._centroids = fitted.preparation, fitted.centroids
        k, labels = len(fitted.centroids), fitted.labels
        of_sample = GroupedValues(
            fitted.sample, [None] * len(fitted.preparation.features), fitted.preparation,
            assign(fitted.sample, fitted.centroids).labels, k,
        )  # fmt: skip
        self._summaries = PassingSummaries(of_sample, fitted.sizes)
        self._missing: list[None] = [None] * len(fitted.preparation.features)
        self._bins = BinCounts.cut(fitted.matrix, self._missing, fitted.preparation)
        self._compared = BinCounts.like(earlier, fitted.preparation)
        self._about = fitted.sample.mean(axis=0)
        # Sums of squares keep their digits about a value that is there, or not far away.
        if (np.abs(self._about) < NEAR * fitted.sample.std(axis=0)).all():
            self._about[:] = 0

        def silhouettes() -> Vector | None:
            if not can_be_scored(fitted.sizes):
                return None
            return segment_silhouettes(fitted.matrix, labels, fitted.sizes, seed=seed)

        # Each draws its sample and works on that alone.
        with one_thread() as thread:
            scored = thread.submit(silhouettes)
            found = find_conditions(fitted.matrix, fitted.preparation, labels, k, seed=seed)
            self._silhouettes = scored.result()
        self._rules = RuleCounts(found, fitted.preparation)

    def look(self, rows: Matrix, labels: Labels, distances: Vector) -> DescribedBatch:
        """Look at some rows.

        Parameters
        ----------
        rows : ndarray of float64 of shape (n_rows, n_features)
            Prepared; each column in one piece.
        labels : ndarray of int32 of shape (n_rows,)
        distances : ndarray of float64 of shape (n_rows,)
            To their centroids.
        """
        columns, k = rows.T, len(self._centroids)
        weights = (None, distances, distances * distances)
        apart = columns - self._about[:, None] if self._about.any() else columns
        return DescribedBatch(
            self._summaries.look(rows, labels),
            self._bins.look(columns, self._missing),
            self._compared.look(columns, self._missing),
            self._rules.look(dict(enumerate(columns)), labels),
            np.array([np.bincount(labels, weights=weight, minlength=k) for weight in weights]),
            apart.sum(axis=1),
            np.einsum("ij,ij->i", apart, apart),
        )

    def finish(
        self, seen: Sequence[DescribedBatch], look_again: Callable[[Look], Iterable[Any]]
    ) -> Found:
        """Put together what all rows told.

        Parameters
        ----------
        seen : sequence of DescribedBatch
            In the order of the rows.
        look_again : callable
            Lets all rows pass once more, calls a function with rows and labels, and returns its
            results: where a sample misled.
        """
        counts, distances, within = np.sum([part.clusters for part in seen], axis=0)
        sizes, rows = counts.astype(np.int64), int(counts.sum())
        summaries = self._summaries.finish([part.summaries for part in seen], sizes, look_again)
        inertia = float(within.sum())
        scores = NO_SCORES
        if self._silhouettes is not None and can_be_scored(sizes):
            sums = np.sum([part.sums for part in seen], axis=0)
            squares = np.sum([part.squares for part in seen], axis=0)
            total = float((squares - sums * sums / rows).sum())
            scores = scores_of(
                self._silhouettes, self._centroids, sizes, distances, inertia, total
            )  # fmt: skip
        return Found(
            rows=rows,
            skipped=0,
            inertia=inertia,
            weight=float(rows),
            mean_distance=float(distances.sum()) / rows,
            profiles=profiles_of(summaries, self._preparation, sizes, within),
            scores=scores,
            rules=self._rules.rules(np.sum([part.rules for part in seen], axis=0), sizes),
            bins=self._bins.bins(np.sum([part.bins for part in seen], axis=0)),
            compared_bins=self._compared.bins(np.sum([part.compared for part in seen], axis=0)),
        )
