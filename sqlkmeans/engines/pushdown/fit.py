"""K-Means where the rows are: starts on a sample or on small groups, then passes as aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.kmeans.kmeans import (
    MAX_ITER,
    fit_kmeans,
    too_few_distinct,
)
from sqlkmeans.clustering.kmeans.single_moves import move_single_rows
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.rows import KeptRows, too_small
from sqlkmeans.engines.pushdown.sql import starts, statistics, training
from sqlkmeans.errors import DataError

#: Points that tell which start is best, for each cluster and at least.
FEW_POINTS_PER_CLUSTER, FEW_POINTS = 1_000, 20_000
#: Rows that are grouped into cells where none may leave the database, and the most cells.
CELL_ROWS, MOST_CELLS = 100_000, 2_048
#: With weights, the share of those rows whose cells have to be told of.
CELLS_TOLD = 0.9
#: Passes end when the centroids move by less than this, in the features' mean deviation: less than
#: one customer who changes segment moves them, and more than the rounding of the database's sums.
REST = 1e-11
#: Rows that are looked at in one go for moves of single ones.
MOST_MOVING = 1_000


@dataclass(frozen=True)
class PushdownFit:
    """Centroids of all rows, in no order yet.

    Attributes
    ----------
    centroids : ndarray of shape (k, n_features)
    n_iter : int
    sample : ndarray of shape (n_sample, n_features) or None
        The rows that were read; None where none may be.
    """

    centroids: Matrix
    n_iter: int
    sample: Matrix | None


def fit_pushdown(
    rows: KeptRows, features: Sequence[PreparedFeature], segmentation: Segmentation, k: int
) -> PushdownFit:
    """Find the best of ``n_init`` starts on few points, and carry it to the end on all rows.

    Where the sample has every row, it is at its end already.

    Raises
    ------
    DataError
        If fewer than k customers differ, or a segment stays smaller than the smallest group.
    """
    points = starting_points(rows, features, segmentation, k)
    few = max(FEW_POINTS, FEW_POINTS_PER_CLUSTER * k)
    fit = fit_kmeans(
        points.values, k, sample_weight=points.weights, n_init=segmentation.n_init,
        seed=segmentation.seed, sample_rows=segmentation.sample_rows if points.everyone else few,
    )  # fmt: skip
    centroids, passes = carry_on(rows, features, points, fit.centroids)
    return PushdownFit(centroids, fit.n_iter + passes, points.sample)


@dataclass(frozen=True)
class Points:
    """What starts run on.

    Attributes
    ----------
    values : ndarray of shape (n_points, n_features)
        Rows, or means of small groups of them.
    weights : ndarray of shape (n_points,) or None
    are_rows : bool
    everyone : bool
        Whether they are all rows that count in the fit.
    """

    values: Matrix
    weights: npt.NDArray[np.float64] | None
    are_rows: bool
    everyone: bool

    @property
    def sample(self) -> Matrix | None:
        """The rows that were read; None where none may be."""
        return self.values if self.are_rows else None


def starting_points(
    rows: KeptRows, features: Sequence[PreparedFeature], segmentation: Segmentation, k: int
) -> Points:
    """A sample of the rows, or where none may leave the means of small groups of them.

    Raises
    ------
    DataError
        If fewer than k of them differ.
    """
    if segmentation.sample_rows:
        values, weights = _sample(rows, features, segmentation, k)
        return Points(values, weights, are_rows=True, everyone=len(values) == rows.fitted)
    return Points(*_cells(rows, features, segmentation, k), are_rows=False, everyone=False)


def carry_on(
    rows: KeptRows, features: Sequence[PreparedFeature], points: Points, centroids: Matrix
) -> tuple[Matrix, int]:
    """Carry centroids of some points to the end on all rows, in so many passes."""
    if points.everyone:
        return centroids, 0
    threshold = REST**2 * float(points.values.var(axis=0).mean())
    passes = 0
    while True:
        centroids, weights, more = lloyd(rows, features, centroids, threshold)
        passes += more
        better = None
        if points.are_rows and passes < MAX_ITER:
            better = single_moves(rows, features, centroids, weights)
        if better is None:
            return centroids, passes
        centroids = better


def single_moves(
    rows: KeptRows, features: Sequence[PreparedFeature], centroids: Matrix, weights: Vector
) -> Matrix | None:
    """Move single rows while that lowers the inertia; the means then, or None where none moved.

    Only rows that are all but half-way between two clusters of many come here.
    """
    if len(centroids) == 1:
        return None
    query = training.moving_query(rows.layout, features, centroids, weights, MOST_MOVING)
    found = rows.workspace.matrix(query)
    if not len(found):
        return None
    sums, counts = centroids * weights[:, None], weights.copy()
    moving = np.ascontiguousarray(found[:, 2:])
    if not move_single_rows(moving, found[:, 0], found[:, 1].astype(np.int32), sums, counts):
        return None
    means: Matrix = sums / counts[:, None]
    return means


def lloyd(
    rows: KeptRows, features: Sequence[PreparedFeature], centroids: Matrix, threshold: float
) -> tuple[Matrix, Vector, int]:
    """Passes over all rows until the centroids rest; as `clustering.lloyd.lloyd`.

    Each is then the mean of the rows that are nearest to it. Their weights come second, and the
    number of passes.

    A centroid that no row is nearest to (or too few are for anything about them to leave) moves
    to the mean of the farthest rows: of one, or of the smallest group.
    """
    layout = rows.layout
    # The same in all passes, so that centroids at rest come out to the last bit.
    origin = np.sort(centroids, axis=0)[(len(centroids) - 1) // 2]
    weights = np.zeros(len(centroids))
    passes = moves = 0
    while passes < MAX_ITER:
        moved = np.full_like(centroids, np.nan)
        for _, cluster, weight, *means in _pass(rows, features, centroids, origin):
            weights[cluster] = weight
            moved[cluster] = origin + np.array(means, dtype=np.float64)
        for cluster in np.flatnonzero(np.isnan(moved[:, 0])):
            moves += 1
            if moves > len(centroids):
                raise too_small(rows, len(centroids))
            # Each of several has to find another place.
            now = np.where(np.isnan(moved), centroids, moved)
            query = training.far_query(layout, features, now, layout.at_least)
            moved[cluster] = rows.one(query)
        shift = float(((moved - centroids) ** 2).sum())
        centroids = moved
        passes += 1
        rows.passed(1)
        if shift <= threshold:
            break
    return centroids, weights, passes


def _pass(
    rows: KeptRows, features: Sequence[PreparedFeature], centroids: Matrix, origin: Matrix
) -> list[tuple[Any, ...]]:
    """Customers, cluster, its weight, and the mean of each feature relative to an origin."""
    layout = rows.layout
    if layout.at_least == 1:
        prepared = training.prepared_rows(layout, features, layout.weights, origin.tolist())
        found = rows.workspace.nearest_means(prepared, centroids - origin, weighted=layout.weighted)
        if found is not None:
            return found
    return rows.ask(training.pass_statement(layout, features, centroids, origin))


def share_of(wanted: int, there: int) -> float:
    """Of the rows to look at, so that hardly ever fewer than wanted are found."""
    return 1.0 if there <= wanted else min(1.0, (wanted + 6 * sqrt(wanted) + 10) / there)


def _sample(
    rows: KeptRows, features: Sequence[PreparedFeature], segmentation: Segmentation, k: int
) -> tuple[Matrix, npt.NDArray[np.float64] | None]:
    wanted = segmentation.sample_rows
    share = share_of(wanted, rows.fitted)
    drawn = rows.workspace.matrix(
        starts.sample_query(rows.layout, features, wanted, share, segmentation.seed)
    )
    if len(drawn) < rows.fitted and len(np.unique(drawn, axis=0)) < k:
        drawn = _with_rare(rows, features, drawn, k)
    if not rows.layout.weighted:
        return drawn, None
    return np.ascontiguousarray(drawn[:, 1:]), np.ascontiguousarray(drawn[:, 0])


def _with_rare(
    rows: KeptRows, features: Sequence[PreparedFeature], drawn: Matrix, k: int
) -> Matrix:
    """Rows that repeat often have crowded out the rare ones: k that differ are always in."""
    query = starts.some_distinct_query(rows.layout, features, k)
    rare = rows.workspace.matrix(query)
    if len(rare) < k:
        raise too_few_distinct(k, len(rare), rows.count)
    if rows.layout.weighted:
        rare = np.column_stack([np.ones(len(rare)), rare])
    return np.concatenate([rare, drawn[: max(0, len(drawn) - k)]])


def _cells(
    rows: KeptRows, features: Sequence[PreparedFeature], segmentation: Segmentation, k: int
) -> tuple[Matrix, npt.NDArray[np.float64]]:
    """Means of small groups of like rows, and their weights; no row leaves the database.

    Raises
    ------
    DataError
        If there are fewer than k such groups that differ.
    """
    layout = rows.layout
    n_rows = min(rows.fitted, CELL_ROWS)
    levels = 0
    while 2 ** (levels + 1) <= MOST_CELLS and n_rows // 2 ** (levels + 1) >= layout.at_least:
        levels += 1
    share = share_of(CELL_ROWS, rows.fitted)
    rows.execute(starts.first_cell(layout, features, CELL_ROWS, share, segmentation.seed))
    found = rows.ask(starts.cell_query(layout, features, 0)) if layout.weighted else []
    for level in range(levels):
        rows.execute(starts.split_cells(layout, features, level))
        if layout.weighted:
            # Where few customers have most of a cell's weight, nothing of it is told.
            smaller = rows.ask(starts.cell_query(layout, features, level + 1))
            if sum(row[0] for row in smaller) < CELLS_TOLD * n_rows:
                break
            found = smaller
    if not layout.weighted:
        found = rows.ask(starts.cell_query(layout, features, levels))
    rows.execute([training.drop(layout, name) for name in starts.CELLS])
    facts = np.array([row[1:] for row in found], dtype=np.float64)
    weights, means = np.ascontiguousarray(facts[:, 0]), np.ascontiguousarray(facts[:, 1:])
    if len(means) < k or len(np.unique(means, axis=0)) < k:
        differ = int(rows.one(statistics.distinct_query(layout, features))[0])
        if differ < k:
            raise too_few_distinct(k, differ, rows.count)
        raise DataError(
            f"k = {k} needs at least {k} groups of min_group = {layout.at_least} customers that "
            f"differ, and {rows.count:,} rows have {len(np.unique(means, axis=0))}; lower k or "
            "min_group, or give sample_rows"
        )
    return means, weights
