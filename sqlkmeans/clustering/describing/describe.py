"""What a run says of its segments, as rows and in words; the same in the client and the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from sqlkmeans.clustering.describing.naming import describe_everyone, name_segments
from sqlkmeans.clustering.describing.profile import EVERYONE, SegmentProfile, profile_to_rows
from sqlkmeans.clustering.describing.rules import Rule

Row = dict[str, Any]

#: A label that stays is rewritten when its distance moved by more than this share of the run's
#: root mean square distance.
DISTANCE_TOLERANCE = 0.01


def segment_rows(
    profiles: list[SegmentProfile],
    segment_ids: list[int],
    given: dict[int, str],
    kept: dict[int, str],
    units: Mapping[str, str],
) -> dict[str, list[Row]]:
    """Rows of ``segment`` and ``segment_feature`` for a run, row 0 for everyone.

    Parameters
    ----------
    profiles : list of SegmentProfile
        Everyone, then each cluster in the order of ``segment_ids``.
    segment_ids : list of int
    given : dict of int to str
        Names that people gave.
    kept : dict of int to str
        Names that the segments have already, given or not.
    units : mapping of str to str
        Of features, by column.
    """
    names = name_segments(profiles, [given.get(i) or kept.get(i) for i in segment_ids], units)
    described = [(EVERYONE, *describe_everyone(profiles[0], units), profiles[0])] + [
        (segment_id, name, description, profile)
        for segment_id, (name, description), profile in zip(segment_ids, names, profiles[1:])
    ]
    segments: list[Row] = []
    features: list[Row] = []
    for segment_id, name, description, profile in sorted(described, key=lambda item: item[0]):
        segments.append(
            {
                "segment_id": segment_id,
                "name": name,
                "name_source": "given" if segment_id in given else "generated",
                "description": description,
                "size": profile.size,
                "share": profile.share,
                "within_ss": profile.within_ss,
            }
        )
        features += profile_to_rows(segment_id, profile)
    return {"segment": segments, "segment_feature": features}


def explain_rows(
    segments: Sequence[Row],
    segment_ids: Sequence[int],
    rules: Sequence[Rule | None],
    silhouettes: Sequence[float],
    shifts: Mapping[int, float],
) -> None:
    """Complete rows of ``segment`` with what explains them; None where something is not known.

    Parameters
    ----------
    segments : sequence of dict
        As :func:`segment_rows` makes them.
    segment_ids : sequence of int
        Of the clusters, in the order of ``rules`` and ``silhouettes``, which may be empty.
    rules : sequence of (Rule or None)
    silhouettes : sequence of float
    shifts : mapping of int to float
        How far the centroid moved, by segment id.
    """
    rule_of = dict(zip(segment_ids, rules))
    silhouette_of = dict(zip(segment_ids, silhouettes))
    for row in segments:
        segment_id = row["segment_id"]
        rule = rule_of.get(segment_id)
        row["rule"] = None if rule is None else rule.text
        row["rule_precision"] = None if rule is None else rule.precision
        row["rule_coverage"] = None if rule is None else rule.coverage
        row["silhouette"] = silhouette_of.get(segment_id)
        row["centroid_shift"] = shifts.get(segment_id)


def segment_warnings(
    profiles: Sequence[SegmentProfile], segment_ids: Sequence[int], skipped: int
) -> list[str]:
    """What people should look at, in words."""
    found = []
    if skipped:
        found.append(f"{skipped:,} rows were skipped because a feature is missing")
    for segment_id, profile in zip(segment_ids, profiles[1:]):
        if profile.size == 1:
            found.append(
                f"segment {segment_id} is one customer: look for wrong values, or try "
                'transform = "log1p" or scaling = "robust"'
            )
    return found


def distance_tolerance(inertia: float, weight: float) -> float:
    """How far a distance may be off before its row is rewritten, in the scaled space.

    ``weight`` is the sum of the rows' weights: their number, where each counts 1.
    """
    return DISTANCE_TOLERANCE * sqrt(inertia / weight)
