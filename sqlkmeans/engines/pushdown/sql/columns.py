"""What a labelled table says of columns that are only described, as SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.engines.pushdown.sql.profile import known, known_count
from sqlkmeans.engines.pushdown.sql.training import LABELLED, Layout, names_of, own_rows


def share_query(layout: Layout, features: Sequence[PreparedFeature], *, by_cluster: bool) -> str:
    """Customers, cluster (0 without), those that have a value, then those that have each level.

    ``features`` are 1 for who has the level and 0 for who has another. Where a bound is set, the
    count is NULL of a level that fewer customers have, or that all but fewer have.
    """
    names = names_of(features, "o")
    counts = [f"SUM(CASE WHEN {name} > 0.5e0 THEN 1 ELSE 0 END)" for name in names]
    if layout.at_least > 1:
        few = f"BETWEEN 1 AND {int(layout.at_least) - 1}"
        counts = [
            f"CASE WHEN {n} {few} OR COUNT({o}) - {n} {few} THEN NULL ELSE {n} END"
            for n, o in zip(counts, names)
        ]
    carry, group = (["cluster"], "\nGROUP BY cluster") if by_cluster else ([], "")
    inner = own_rows(layout, known(features), carry, LABELLED, fitted=False)
    return (
        f"SELECT {layout.dialect.count} AS customers, {'cluster' if by_cluster else '0 AS cluster'}"
        f", {known_count(layout, names[0])}, {', '.join(counts)}\n"
        f"FROM ({inner}) AS o{group}{layout.having}"
    )
