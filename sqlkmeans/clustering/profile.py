"""What each segment looks like in the columns' own units, beside everyone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Assignment, Matrix
from sqlkmeans.clustering.numbers import tidy
from sqlkmeans.clustering.preparation import Preparation
from sqlkmeans.clustering.threads import cores

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
    missing: Sequence[npt.NDArray[np.bool_] | None],
    preparation: Preparation,
    assignment: Assignment,
    k: int,
) -> list[SegmentProfile]:
    """Profile everyone (index 0) and each cluster (index 1 to k).

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows; own units are computed back a column at a time.
    missing : sequence of (ndarray of bool of shape (n_rows,) or None)
        For each feature, where its value was missing; None where none was.
    preparation : Preparation
    assignment : Assignment
    k : int
    """
    labels = assignment.labels
    sizes = assignment.sizes(k)
    within = np.bincount(labels, weights=assignment.squared_distances, minlength=k)
    # Rows of a segment side by side; a stable sort of 16-bit integers is a radix sort.
    order = np.argsort(labels.astype(np.uint16), kind="stable").astype(np.uint32)
    ends = np.cumsum(sizes)
    parts = [slice(end - size, end) for size, end in zip(sizes, ends)]

    def profile(position: int) -> list[FeatureProfile]:
        prepared = preparation.features[position]
        values = prepared.invert(matrix[order, position])
        mask = missing[position]
        absent = None if mask is None else mask[order]
        everyone = _feature_profile(values, absent, None)
        found = [everyone] + [
            _feature_profile(values[rows], None if absent is None else absent[rows], everyone)
            for rows in parts
        ]
        level = None
        if prepared.type == "category":
            level = (prepared.column, "other" if prepared.level is None else prepared.level)
        return [replace(profile, type=prepared.type, level=level) for profile in found]

    columns = preparation.names
    with ThreadPoolExecutor(cores()) as pool:
        by_feature = dict(zip(columns, pool.map(profile, range(len(columns)))))
    counts, sums = [len(labels), *sizes.tolist()], [float(within.sum()), *within.tolist()]
    return [
        SegmentProfile(
            count, count / max(1, len(labels)), ss, {c: by_feature[c][index] for c in columns}
        )
        for index, (count, ss) in enumerate(zip(counts, sums))
    ]


def _feature_profile(
    values: npt.NDArray[np.float64],
    absent: npt.NDArray[np.bool_] | None,
    everyone: FeatureProfile | None,
) -> FeatureProfile:
    missing = 0 if absent is None else int(absent.sum())
    known = values if absent is None else values[~absent]
    if not len(known):
        return FeatureProfile(None, None, None, None, None, missing, 0.0)
    mean, deviation = float(known.mean()), float(known.std())
    importance = 0.0
    if everyone is not None and everyone.mean is not None and everyone.deviation:
        importance = (mean - everyone.mean) / everyone.deviation
    return FeatureProfile(
        tidy(mean), tidy(deviation), tidy(known.min()), tidy(np.median(known)), tidy(known.max()),
        missing, tidy(importance),
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
