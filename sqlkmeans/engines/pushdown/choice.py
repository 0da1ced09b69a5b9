"""Choosing k where the rows are: structure by a sample, scores of all rows as aggregates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.choosing.choose_k import KChoice, choose_k
from sqlkmeans.clustering.choosing.k_scores import KScore, Recommendation
from sqlkmeans.clustering.choosing.quick_fit import distinct
from sqlkmeans.clustering.choosing.recommend import Beside, recommend, recommend_untested
from sqlkmeans.clustering.kmeans.kmeans import fit_many
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.fit import FEW_POINTS, Points, carry_on, starting_points
from sqlkmeans.engines.pushdown.profile import PartitionScores, score_partition, total_ss
from sqlkmeans.engines.pushdown.rows import KeptRows, TooSmall
from sqlkmeans.engines.pushdown.sql.training import ROWS


def choose_pushdown(
    rows: KeptRows, features: Sequence[PreparedFeature], segmentation: Segmentation
) -> tuple[KChoice, Matrix | None]:
    """Score ``k_min`` to ``k_max`` segments of all rows and recommend one.

    Each k starts on the sample and is carried to the end by passes over all rows. What tells
    whether there is structure is of the sample; where no row may be read, it is None.

    Returns
    -------
    KChoice
    ndarray of shape (n_sample, n_features) or None
        The rows that were read; None where none may be.

    Raises
    ------
    DataError
        If fewer than ``k_min`` rows differ, or every k makes a segment that is too small for
        anything about it to leave.
    """
    points = starting_points(rows, features, segmentation, segmentation.k_min)
    of_points = _of_sample(points, features, segmentation) if points.are_rows else None
    starts = _starts(points, segmentation) if of_points is None else _carried(of_points)
    total = total_ss(rows, features, ROWS)
    scores: list[KScore] = []
    centroids: dict[int, Matrix] = {}
    n_iter: dict[int, int] = {}
    refused: dict[int, TooSmall] = {}
    for found, start, iterations in starts:
        try:
            carried, passes = carry_on(rows, features, points, start)
            of_all = score_partition(rows, features, carried, total)
        except TooSmall as error:
            refused[found.k] = error
            continue
        centroids[found.k], n_iter[found.k] = carried, iterations + passes
        scores.append(replace(found, **_of_all_features(of_all, of_points)))
    if not scores:
        raise refused[min(refused)]
    gap_of_one, beside = None, Beside()
    if of_points:
        gap_of_one, beside = of_points.gap_of_one, of_points.beside
        recommendation = recommend(scores, gap_of_one, segmentation.min_share, beside)
    else:
        recommendation = recommend_untested(scores, segmentation.min_share)
    recommendation = _naming(recommendation, sorted(refused), rows.layout.at_least)
    choice = KChoice(recommendation, tuple(scores), gap_of_one, centroids, n_iter, beside)
    return choice, points.sample


def _of_all_features(of_all: PartitionScores, of_points: KChoice | None) -> dict[str, Any]:
    """Scores of all rows that take the place of the sample's.

    Where columns of few values were left out, those that judge stay the sample's.
    """
    found = vars(of_all)
    if of_points is None or not of_points.beside.left_out:
        return found
    return {name: found[name] for name in ("inertia", "smallest_share")}


def _of_sample(
    points: Points, features: Sequence[PreparedFeature], segmentation: Segmentation
) -> KChoice:
    return choose_k(
        points.values,
        segmentation.k_min,
        segmentation.k_max,
        sample_weight=points.weights,
        n_init=segmentation.n_init,
        seed=segmentation.seed,
        columns=[feature.column for feature in features],
    )


def _carried(choice: KChoice) -> Iterator[tuple[KScore, Matrix, int]]:
    for score in choice.scores:
        yield score, choice.centroids[score.k], choice.n_iter[score.k]


def _starts(points: Points, segmentation: Segmentation) -> Iterator[tuple[KScore, Matrix, int]]:
    """Scores that are still to be found, centroids, and iterations of each k."""
    most = max(segmentation.k_min, distinct(points.values, segmentation.k_max))
    fits = fit_many(
        points.values, range(segmentation.k_min, most + 1), sample_weight=points.weights,
        n_init=segmentation.n_init, seed=segmentation.seed, sample_rows=FEW_POINTS,
    )  # fmt: skip
    for k, fit in fits:
        unknown = KScore(k, np.nan, None, np.nan, None, None, None, None, None, None, None, 0.0)
        yield unknown, fit.centroids, fit.n_iter


def _naming(recommendation: Recommendation, refused: list[int], at_least: int) -> Recommendation:
    """The same, with the numbers of segments that were passed over."""
    if not refused:
        return recommendation
    listed = ", ".join(str(k) for k in refused)
    why = (
        f"min_group = {at_least} refuses {listed}"
        if at_least > 1
        else f"with {listed} a segment stays empty"
    )
    return replace(recommendation, reason=f"{recommendation.reason}. {why}")
