"""How labelled rows spread over each column, counted in the database.

With ``sample_rows = 0`` no bin of fewer than ``min_group`` customers leaves: small ones are
merged when a column is cut, and count as empty in the bins of an earlier run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sqlkmeans.clustering.describing.bins import (
    BINS,
    FeatureBins,
    level_bins,
    range_bins,
    short_edges,
)
from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sample import LabelledSample
from sqlkmeans.engines.pushdown.sql import description

#: An edge is written with as few digits as leave it so near, as a part of the narrowest bin.
EDGE_ROUNDING = 0.1


def cut_bins(
    rows: KeptRows, preparation: Preparation, sample: LabelledSample | None
) -> list[FeatureBins]:
    """Cut each column into about ten bins of equal size, by the sample or by means of groups."""
    found = []
    for first, features in _columns(preparation):
        if features[0].type == "category":
            found.append(_count_levels(rows, features, None))
            continue
        if sample is not None:
            edges = short_edges(sample.known(first), features[0])
        else:
            edges = _edges_of_groups(rows, features[0])
        found.append(_count_ranges(rows, features[0], edges, merge=True))
    return found


def count_bins(
    rows: KeptRows, preparation: Preparation, earlier: Sequence[FeatureBins]
) -> list[FeatureBins]:
    """Count the rows in the bins of an earlier run, for the columns that both have."""
    by_column = {bins.feature: bins for bins in earlier}
    found = []
    for _, features in _columns(preparation):
        bins = by_column.get(features[0].column)
        if bins is None or bins.of_category != (features[0].type == "category"):
            continue
        if bins.of_category:
            found.append(_count_levels(rows, features, bins))
        else:
            found.append(_count_ranges(rows, features[0], bins.edges, merge=False))
    return found


def _columns(preparation: Preparation) -> list[tuple[int, list[PreparedFeature]]]:
    """The features of each column without their fills, and the position of the first."""
    found: dict[str, tuple[int, list[PreparedFeature]]] = {}
    for position, feature in enumerate(preparation.features):
        _, features = found.setdefault(feature.column, (position, []))
        features.append(replace(feature, fill=None))
    return list(found.values())


def _count_ranges(
    rows: KeptRows, feature: PreparedFeature, edges: Sequence[float], *, merge: bool
) -> FeatureBins:
    edges = list(edges)
    while True:
        query = description.range_count_query(rows.layout, feature, edges)
        absent, *counts = rows.one(query)
        hidden = [number for number, count in enumerate(counts) if count is None]
        if not merge or not hidden or not edges:
            break
        del edges[min(hidden[0], len(edges) - 1)]
    return range_bins(feature, edges, _number(absent), [_number(count) for count in counts])


def _count_levels(
    rows: KeptRows, features: Sequence[PreparedFeature], earlier: FeatureBins | None
) -> FeatureBins:
    query = description.level_count_query(rows.layout, features)
    absent, rest, *counts = [_number(count) for count in rows.one(query)]
    return level_bins(features, absent, counts, rest + sum(counts), earlier)


def _number(count: float | None) -> int:
    return int(count or 0)


def _edges_of_groups(rows: KeptRows, feature: PreparedFeature) -> list[float]:
    """Between the means of ordered groups of equal size; ascending, below the highest mean."""
    _, known = rows.one(description.range_count_query(rows.layout, feature, []))
    # Two groups a bin: an edge lies between those at its sides.
    bins = min(BINS, _number(known) // (2 * rows.layout.at_least))
    if bins < 2:
        return []
    found = rows.ask(description.group_query(rows.layout, feature, 2 * bins))
    means = [float(mean) for _, _, mean in found]
    edges = sorted({(low + high) / 2 for low, high in zip(means[1::2], means[2::2])})
    return _rounded([edge for edge in edges if edge < means[-1]])


def _rounded(edges: list[float]) -> list[float]:
    """The same with few digits."""
    allowed = EDGE_ROUNDING * min(
        (high - low for low, high in pairwise(edges)), default=abs(sum(edges))
    )
    for digits in range(1, 17):
        rounded = [float(f"{edge:.{digits}g}") for edge in edges]
        if all(abs(a - b) <= allowed for a, b in zip(rounded, edges)):
            return rounded
    return edges
