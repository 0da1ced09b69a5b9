"""What each segment looks like in the columns' own units, beside everyone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Assignment, Matrix
from sqlkmeans.clustering.preparation import Preparation

#: Row 0 of every profile: all clustered customers.
EVERYONE = 0


@dataclass(frozen=True)
class FeatureProfile:
    """One feature in one segment, in the column's own units, over its known values.

    Attributes
    ----------
    mean, deviation, min, median, max : float or None
        None where every value is missing; ``deviation`` is the population's.
    missing : int
        Customers whose value was missing and was filled in.
    importance : float
        Difference of the segment's mean from everyone's in everyone's deviations, with its
        sign; 0 for everyone.
    """

    mean: float | None
    deviation: float | None
    min: float | None
    median: float | None
    max: float | None
    missing: int
    importance: float


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
        In feature order.
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
    features: list[dict[str, FeatureProfile]] = [{} for _ in range(k + 1)]
    members = [labels == cluster for cluster in range(k)]
    for position, prepared in enumerate(preparation.features):
        values = prepared.invert(np.ascontiguousarray(matrix[:, position]))
        absent = missing[position]
        everyone = _feature_profile(values, absent, None)
        features[0][prepared.column] = everyone
        for cluster, rows in enumerate(members):
            part = None if absent is None else absent[rows]
            features[cluster + 1][prepared.column] = _feature_profile(values[rows], part, everyone)
    sums = [float(within.sum()), *within.tolist()]
    counts = [len(labels), *sizes.tolist()]
    return [
        SegmentProfile(count, count / max(1, len(labels)), ss, columns)
        for count, ss, columns in zip(counts, sums, features)
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


def tidy(value: float) -> float:
    """Twelve significant digits: scaling there and back must not turn 18 into 17.9999999999999."""
    return float(f"{value:.12g}")


def profile_to_rows(
    segment_id: int, profile: SegmentProfile
) -> list[dict[str, Any]]:
    """One row a feature, as the table ``segment_feature`` keeps them."""
    return [
        {"segment_id": segment_id, "position": position, "feature": name, **asdict(feature)}
        for position, (name, feature) in enumerate(profile.features.items(), start=1)
    ]
