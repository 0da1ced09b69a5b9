"""What is said of a labelled table beside its profiles, as SQL: bins, rules, typical customers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf

from sqlkmeans.clustering.describing.rules import Interval
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.engines.pushdown.sql.profile import known
from sqlkmeans.engines.pushdown.sql.training import LABELLED, Layout, names_of, own_rows
from sqlkmeans.tsql.expressions import number


def range_count_query(layout: Layout, feature: PreparedFeature, edges: Sequence[float]) -> str:
    """Customers, missing values, then the customers of each bin; NULL for fewer than may leave.

    ``edges`` are ascending, in own units; each belongs to the bin that it ends.
    """
    low = ["o1 IS NOT NULL", *(f"o1 > {number(edge)}" for edge in edges)]
    high = [*(f" AND o1 <= {number(edge)}" for edge in edges), ""]
    conditions = ["o1 IS NULL", *(above + upto for above, upto in zip(low, high))]
    return _counts(
        layout, conditions, own_rows(layout, known([feature]), (), LABELLED, fitted=False)
    )


def level_count_query(layout: Layout, features: Sequence[PreparedFeature]) -> str:
    """Customers, missing values, customers of none of the levels, then those of each level; NULL
    for fewer than may leave. ``features`` are those of one category."""
    names = names_of(features, "o")
    none = " + ".join(names)
    conditions = ["o1 IS NULL", f"{none} < 0.5e0", *(f"{name} > 0.5e0" for name in names)]
    return _counts(
        layout, conditions, own_rows(layout, known(features), (), LABELLED, fitted=False)
    )


def _counts(layout: Layout, conditions: Sequence[str], rows: str) -> str:
    counts = [f"SUM(CASE WHEN {condition} THEN 1 ELSE 0 END)" for condition in conditions]
    if layout.at_least > 1:
        counts = [f"CASE WHEN {c} >= {int(layout.at_least)} THEN {c} END" for c in counts]
    return (
        f"SELECT {layout.dialect.count} AS customers, {', '.join(counts)}\n"
        f"FROM ({rows}) AS o{layout.having}"
    )


def group_query(layout: Layout, feature: PreparedFeature, groups: int) -> str:
    """Customers, number and mean of groups of equal size of the known values, ascending."""
    inner = own_rows(layout, known([feature]), (), LABELLED, fitted=False)
    return (
        f"SELECT {layout.dialect.count} AS customers, tile, AVG(o1)\n"
        f"FROM (SELECT o1, NTILE({int(groups)}) OVER (ORDER BY o1) AS tile\n"
        f"FROM ({inner}) AS o WHERE o1 IS NOT NULL) AS t\nGROUP BY tile{layout.having}\n"
        "ORDER BY tile"
    )


def rule_query(
    layout: Layout,
    features: Sequence[PreparedFeature],
    rules: Mapping[int, Mapping[int, Interval]],
) -> str:
    """Customers; then for each cluster that has a rule, how many meet it, and how many of them are
    in the cluster.

    ``rules`` has the intervals of a cluster, by the position of the feature.
    """
    facts = []
    for cluster, intervals in rules.items():
        bounds = [
            f"o{position + 1} {sign} {number(bound)}"
            for position, interval in intervals.items()
            for sign, bound in ((">", interval.low), ("<=", interval.high))
            if not isinf(bound)
        ]
        for condition in (bounds, [f"cluster = {int(cluster)}", *bounds]):
            facts.append(f"SUM(CASE WHEN {' AND '.join(condition)} THEN 1 ELSE 0 END)")
    inner = own_rows(layout, features, ["cluster"], LABELLED, fitted=False)
    return (
        f"SELECT {layout.dialect.count} AS customers, {', '.join(facts)}\n"
        f"FROM ({inner}) AS o{layout.having}"
    )


def typical_query(layout: Layout, customers: int) -> str:
    """Key, cluster and distance of the rows nearest their centroid, so many a cluster.

    Of rows equally near, those with the lowest keys. Single customers: never where a bound is set.
    """
    keys = ", ".join(layout.keys)
    placed = (
        f"SELECT {keys}, cluster, squared, "
        f"ROW_NUMBER() OVER (PARTITION BY cluster ORDER BY squared, {keys}) AS place\n"
        f"FROM {layout.labelled}"
    )
    return (
        f"SELECT {keys}, cluster, SQRT(squared) AS distance\n"
        f"FROM ({placed}) AS p\nWHERE place <= {int(customers)}\nORDER BY cluster, place"
    )
