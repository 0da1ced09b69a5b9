"""What each segment looks like in the columns' own units, beside everyone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import label_counts
from sqlkmeans.clustering.arrays.types import Mask, Matrix
from sqlkmeans.clustering.describing.numbers import tidy
from sqlkmeans.clustering.describing.summaries import GroupedValues, Summary, summarise
from sqlkmeans.clustering.kmeans.assignment import Assignment
from sqlkmeans.clustering.preparation.preparation import Preparation

#: Row 0 of every profile: all clustered customers.
EVERYONE = 0


@dataclass(frozen=True)
class FeatureProfile:
    """One feature in one segment, in its own units, over its known values.

    Attributes
    ----------
    mean, deviation, min, median, max : float or None
        None where every value is missing; ``deviation`` is the population's.
    missing : int
        Customers whose value was missing and was filled in.
    importance : float
        Difference of the segment's mean from everyone's in everyone's deviations, with its
        sign; 0 for everyone.
    type : {"number", "category", "date"}
        A date's values are ages in days; of a category, ``mean`` is the share that has the level.
    level : (str, str) or None
        Column and level of a category.
    """

    mean: float | None
    deviation: float | None
    min: float | None
    median: float | None
    max: float | None
    missing: int
    importance: float
    type: str = "number"
    level: tuple[str, str] | None = None


@dataclass(frozen=True)
class SegmentProfile:
    """One segment, or everyone.

    Attributes
    ----------
    size : int
    share : float
        0 to 1.
    within_ss : float
        Sum of squared distances to the centroid, in the scaled space.
    features : dict of str to FeatureProfile
        In feature order, by the feature's name: a column, or a column and a level.
    """

    size: int
    share: float
    within_ss: float
    features: dict[str, FeatureProfile]


def profile_segments(
    matrix: Matrix,
    missing: Sequence[Mask | None],
    preparation: Preparation,
    assignment: Assignment,
    k: int,
) -> list[SegmentProfile]:
    """Profile everyone (index 0) and each cluster (index 1 to k).

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows; own units are computed back a chunk at a time.
    missing : sequence of (ndarray of bool of shape (n_rows,) or None)
        For each feature, where its value was missing; None where none was.
    preparation : Preparation
    assignment : Assignment
    k : int
    """
    labels = assignment.labels
    within = label_counts(labels, k, assignment.squared_distances)
    found = summarise(GroupedValues(matrix, missing, preparation, labels, k))
    return profiles_of(found, preparation, assignment.sizes(k), within)


def profiles_of(
    found: Sequence[Sequence[Summary]],
    preparation: Preparation,
    sizes: npt.NDArray[np.int64],
    within: npt.NDArray[np.float64],
) -> list[SegmentProfile]:
    """The same from each feature's summaries and each cluster's size and sum of squares."""
    by_feature: dict[str, list[FeatureProfile]] = {}
    for prepared, summaries in zip(preparation.features, found):
        level = None
        if prepared.type == "category":
            level = (prepared.column, "other" if prepared.level is None else prepared.level)
        by_feature[prepared.name] = [
            _feature_profile(summary, summaries[EVERYONE], prepared.type, level)
            for summary in summaries
        ]
    rows = int(sizes.sum())
    counts, sums = [rows, *sizes.tolist()], [float(within.sum()), *within.tolist()]
    return [
        SegmentProfile(
            count, count / max(1, rows), ss,
            {name: profiles[index] for name, profiles in by_feature.items()},
        )
        for index, (count, ss) in enumerate(zip(counts, sums))
    ]  # fmt: skip


def _feature_profile(
    summary: Summary, everyone: Summary, kind: str, level: tuple[str, str] | None
) -> FeatureProfile:
    if not summary.count:
        return FeatureProfile(None, None, None, None, None, summary.missing, 0.0, kind, level)
    importance = 0.0
    if summary is not everyone and everyone.deviation:
        importance = (summary.mean - everyone.mean) / everyone.deviation
    return FeatureProfile(
        tidy(summary.mean), tidy(summary.deviation), tidy(summary.min), tidy(summary.median),
        tidy(summary.max), summary.missing, tidy(importance), kind, level,
    )  # fmt: skip


def profile_to_rows(segment_id: int, profile: SegmentProfile) -> list[dict[str, Any]]:
    """One row a feature, as the table ``segment_feature`` keeps them."""
    rows = [
        {"segment_id": segment_id, "position": position, "feature": name, **asdict(feature)}
        for position, (name, feature) in enumerate(profile.features.items(), start=1)
    ]
    for row in rows:
        del row["type"], row["level"]
    return rows
