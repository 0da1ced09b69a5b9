"""Profiles and scores of labelled rows from aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.describing.numbers import tidy
from sqlkmeans.clustering.describing.outliers import SLACK
from sqlkmeans.clustering.describing.profile import FeatureProfile, SegmentProfile
from sqlkmeans.clustering.describing.scores import calinski_harabasz_of, davies_bouldin_of
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.engines.pushdown.quantiles import quantiles
from sqlkmeans.engines.pushdown.rows import KeptRows, too_small
from sqlkmeans.engines.pushdown.sql import profile
from sqlkmeans.engines.pushdown.sql.training import LABELLED

#: A share of a number that is the rounding of a sum, and nothing measured.
ROUNDING = 1e-12
#: Features that one query describes. Their five numbers are 56 bytes of a group's row while SQL
#: Server adds them up, and where a row has more than 8,060 it sorts all rows first (error 8618).
TOGETHER = 100


@dataclass(frozen=True)
class Sizes:
    """Of each cluster.

    Attributes
    ----------
    rows : ndarray of int64 of shape (k,)
    within_ss : ndarray of float64 of shape (k,)
        Sums of squared distances.
    distances : ndarray of float64 of shape (k,)
        Sums of distances.
    inertia : float
        The sum of squared distances by their weights.
    weight : float
        The sum of the weights.
    """

    rows: npt.NDArray[np.int64]
    within_ss: npt.NDArray[np.float64]
    distances: npt.NDArray[np.float64]
    inertia: float
    weight: float


def read_sizes(rows: KeptRows, k: int) -> Sizes:
    """Count the labelled rows; a cluster that may not be told of has none."""
    counts = np.zeros(k, dtype=np.int64)
    sums = np.zeros((4, k))
    for customers, cluster, *facts in rows.ask(profile.size_query(rows.layout)):
        counts[cluster] = customers
        sums[:, cluster] = facts
    within, distances, weighted, weights = sums
    return Sizes(counts, within, distances, float(weighted.sum()), float(weights.sum()))


def read_limits(rows: KeptRows, k: int, share: float) -> Vector:
    """Beyond which distance a customer is an outlier, of each cluster; as
    :func:`.outlier_distances` finds it where single customers may be looked at."""
    limits = np.full(k, np.inf)
    for _, cluster, distance in rows.ask(profile.limit_query(rows.layout, share)):
        limits[cluster] = distance * SLACK
    return limits


def read_outliers(rows: KeptRows, limits: Vector) -> list[int | None]:
    """How many customers of each cluster are beyond its limit; None for fewer than may be told."""
    found: dict[int, int] = {}
    for _, cluster, number in rows.ask(profile.outlier_query(rows.layout, limits.tolist())):
        found[int(cluster)] = int(number)
    return [None if (n := found.get(j, 0)) < 0 else n for j in range(len(limits))]


@dataclass(frozen=True)
class PartitionScores:
    """How good a partition is, of all rows, which count alike.

    Attributes
    ----------
    k : int
    inertia : float
        By their weights.
    simplified_silhouette : float
        With distances to centroids instead of rows (Hruschka, de Castro & Campello, 2004).
    davies_bouldin, calinski_harabasz : float or None
    smallest_share : float
        Of the rows, in the smallest segment.
    """

    k: int
    inertia: float
    simplified_silhouette: float
    davies_bouldin: float | None
    calinski_harabasz: float | None
    smallest_share: float


def score_partition(
    rows: KeptRows, features: Sequence[PreparedFeature], centroids: Matrix, total: float
) -> PartitionScores:
    """Score a partition of rows that have no labels yet, by one query.

    Parameters
    ----------
    rows : KeptRows
    features : sequence of PreparedFeature
    centroids : ndarray of shape (k, n_features)
    total : float
        The rows' :func:`total_ss`.

    Raises
    ------
    TooSmall
        If a segment is empty, or has too few customers for anything about it to leave.
    """
    k = len(centroids)
    facts = np.zeros((5, k))
    query = profile.silhouette_query(rows.layout, features, centroids)
    for customers, cluster, *found in rows.ask(query):
        facts[:, cluster] = customers, *found
    counts, within, distances, weighted, silhouettes = facts
    if not counts.all():
        raise too_small(rows, k)
    sizes = Sizes(counts.astype(np.int64), within, distances, float(weighted.sum()), rows.count)
    return PartitionScores(
        k, sizes.inertia, float((silhouettes * counts).sum() / counts.sum()),
        davies_bouldin(centroids, sizes), calinski_harabasz(total, sizes),
        float(counts.min() / counts.sum()),
    )  # fmt: skip


def total_ss(rows: KeptRows, features: Sequence[PreparedFeature], table: str = LABELLED) -> float:
    """Sum of squared distances of the rows to their mean; rows count alike."""
    query = profile.spread_query(rows.layout, features, table)
    facts = rows.one(query)
    spreads = [float(square) - float(mean) ** 2 for mean, square in zip(facts[::2], facts[1::2])]
    return rows.count * sum(spreads)


def davies_bouldin(centroids: Matrix, sizes: Sizes) -> float | None:
    """Davies & Bouldin (1979) from mean distances."""
    return davies_bouldin_of(centroids, sizes.distances / sizes.rows)


def calinski_harabasz(total: float, sizes: Sizes) -> float | None:
    """Calinski & Harabasz (1974) from sums of squares."""
    return calinski_harabasz_of(
        total, float(sizes.within_ss.sum()), int(sizes.rows.sum()), len(sizes.rows)
    )


def read_profiles(
    rows: KeptRows, features: Sequence[PreparedFeature], sizes: Sizes
) -> list[SegmentProfile]:
    """Everyone, then each cluster, in the order of ``sizes``."""
    layout, k = rows.layout, len(sizes.rows)
    origin = [float(m or 0.0) for m in rows.one(profile.mean_query(layout, features))]
    found: dict[int, list[Any]] = {}
    for by_cluster in (False, True):
        for start in range(0, len(features), TOGETHER):
            part = slice(start, start + TOGETHER)
            query = profile.profile_query(layout, features, origin, part, by_cluster=by_cluster)
            for _, cluster, *facts in rows.ask(query):
                found.setdefault(int(cluster) + 1 if by_cluster else 0, []).extend(facts)
    counts = [int(sizes.rows.sum()), *sizes.rows.tolist()]
    within = [float(sizes.within_ss.sum()), *sizes.within_ss.tolist()]
    profiles: list[dict[str, FeatureProfile]] = [{} for _ in range(k + 1)]
    all_medians = _medians(rows, features)
    for position, feature in enumerate(features):
        medians = all_medians[position]
        everyone: FeatureProfile | None = None
        for index, count in enumerate(counts):
            facts = found.get(index, [])[5 * position : 5 * position + 5]
            described = _profile(
                feature, count, facts, origin[position], medians.get(index), everyone
            )
            everyone = everyone or described
            profiles[index][feature.name] = described
    return [
        SegmentProfile(count, count / max(1, counts[0]), ss, of_features)
        for count, ss, of_features in zip(counts, within, profiles)
    ]


def _medians(rows: KeptRows, features: Sequence[PreparedFeature]) -> list[dict[int, float]]:
    """Of each feature, those of everyone (0) and each cluster (from 1)."""
    asked = [(feature, 0.5) for feature in profile.known(features)]
    of_everyone = quantiles(rows, asked, table=LABELLED)
    by_cluster = quantiles(rows, asked, table=LABELLED, by_cluster=True)
    return [
        everyone | {cluster + 1: median for cluster, median in each.items()}
        for everyone, each in zip(of_everyone, by_cluster)
    ]


def _profile(
    feature: PreparedFeature,
    count: int,
    facts: Sequence[Any],
    origin: float,
    median: float | None,
    everyone: FeatureProfile | None,
) -> FeatureProfile:
    """``facts`` are known values, least, greatest, mean and mean square relative to the origin."""
    level = None
    if feature.type == "category":
        level = (feature.column, "other" if feature.level is None else feature.level)
    if not facts or facts[3] is None:
        missing = count - int(facts[0]) if facts else count
        return FeatureProfile(None, None, None, None, None, missing, 0.0, feature.type, level)
    known, low, high, mean, square = facts
    variance = float(square) - float(mean) ** 2
    deviation = sqrt(variance) if variance > ROUNDING * float(square) else 0.0
    mean = _without_rounding(origin + float(mean), origin)
    importance = 0.0
    if everyone is not None and everyone.mean is not None and everyone.deviation:
        importance = (mean - everyone.mean) / everyone.deviation
    return FeatureProfile(
        tidy(mean), tidy(deviation), _tidy(low), _tidy(median), _tidy(high),
        count - int(known), tidy(importance), feature.type, level,
    )  # fmt: skip


def _without_rounding(value: float, origin: float) -> float:
    """What is left of 0 after an origin was taken away and added."""
    return 0.0 if abs(value) <= ROUNDING * abs(origin) else value


def _tidy(value: float | None) -> float | None:
    return None if value is None else tidy(value)
