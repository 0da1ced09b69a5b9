"""SQL about labels that every dialect of it reads alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: By segment id, beyond which distance a customer is an outlier.
OutlierDistances = Mapping[int, float]


def clusters_of(column: str, segment_ids: Sequence[int]) -> str:
    """The cluster of each segment id."""
    cases = " ".join(
        f"WHEN {int(segment_id)} THEN {cluster}" for cluster, segment_id in enumerate(segment_ids)
    )
    return f"CASE {column} {cases} END"


def segments_of(column: str, segment_ids: Sequence[int]) -> str:
    """The segment id of each cluster."""
    cases = " ".join(
        f"WHEN {cluster} THEN {int(segment_id)}" for cluster, segment_id in enumerate(segment_ids)
    )
    return f"CASE {column} {cases} END"


def beyond(
    column: str,
    segment_ids: Sequence[int] | None,
    limits: OutlierDistances,
    distance: str = "distance",
) -> str:
    """Whether a distance is beyond the limit of a segment, known by its id or, where
    ``segment_ids`` are given, by its cluster."""
    if not limits:
        return "false"
    numbers = segment_ids if segment_ids is not None else list(limits)
    cases = " ".join(
        f"WHEN {cluster if segment_ids is not None else segment_id} THEN {limits[segment_id]:.16e}"
        for cluster, segment_id in enumerate(numbers)
    )
    return f"COALESCE({distance} > CASE {column} {cases} END, false)"
