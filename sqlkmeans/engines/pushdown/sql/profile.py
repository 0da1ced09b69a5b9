"""What a labelled table looks like, as SQL: sizes, profiles and scores of its segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.engines.pushdown.sql.nearest import nearest_rows
from sqlkmeans.engines.pushdown.sql.training import (
    LABELLED,
    ROWS,
    Layout,
    names_of,
    own_rows,
    prepared_rows,
)
from sqlkmeans.tsql.expressions import number


def size_query(layout: Layout) -> str:
    """Customers, cluster, and sums: squared distances, distances, squared distances by their
    weights, weights."""
    weight = layout.weights[0] if layout.weighted else "1e0"
    return (
        f"SELECT {layout.dialect.count} AS customers, cluster, SUM(squared), SUM(SQRT(squared)), "
        f"SUM(squared * {weight}), SUM({weight})\n"
        f"FROM {layout.labelled}\nGROUP BY cluster{layout.weighed_having}"
    )


def limit_query(layout: Layout, share: float) -> str:
    """Customers, cluster, and the distance in the middle between the nearest of the share of its
    customers that are farthest, and the next one before them; the distance of the farthest where
    the share is no customer.

    Where a bound is set, the mean of so many distances around that place.
    """
    count = layout.dialect.count
    placed = (
        "SELECT cluster, SQRT(squared) AS distance, "
        "ROW_NUMBER() OVER (PARTITION BY cluster ORDER BY squared DESC) AS place, "
        f"{count} OVER (PARTITION BY cluster) AS n, "
        f"FLOOR({number(share)} * {count} OVER (PARTITION BY cluster)) AS beyond\n"
        f"FROM {layout.labelled}"
    )
    inside = "place BETWEEN beyond AND beyond + 1"
    if layout.at_least > 1:
        group = int(layout.at_least)
        first = f"beyond - {group // 2 - 1}"
        start = (
            f"CASE WHEN {first} < 1 THEN 1 WHEN {first} > n - {group - 1} THEN n - {group - 1} "
            f"ELSE {first} END"
        )
        inside = f"place - ({start}) BETWEEN 0 AND {group - 1}"
    return (
        f"SELECT {count} AS customers, cluster, AVG(distance)\nFROM ({placed}) AS p\n"
        f"WHERE {inside}\nGROUP BY cluster{layout.having}"
    )


def outlier_query(layout: Layout, limits: Sequence[float]) -> str:
    """Customers, cluster, and how many are beyond its limit; -1 for fewer than may be told."""
    cases = " ".join(f"WHEN {i} THEN {number(limit)}" for i, limit in enumerate(limits))
    beyond = layout.counted(f"SQRT(squared) > CASE cluster {cases} END")
    return (
        f"SELECT {layout.dialect.count} AS customers, cluster, {beyond}\n"
        f"FROM {layout.labelled}\nGROUP BY cluster{layout.having}"
    )


def spread_query(layout: Layout, features: Sequence[PreparedFeature], table: str = LABELLED) -> str:
    """Customers, then the mean and the mean square of each prepared feature; rows count alike."""
    facts = ", ".join(f"AVG({z}), AVG({z} * {z})" for z in names_of(features))
    inner = prepared_rows(layout, features, table=table, fitted=False)
    return (
        f"SELECT {layout.dialect.count} AS customers, {facts}\nFROM ({inner}) AS z{layout.having}"
    )


def known(features: Sequence[PreparedFeature]) -> list[PreparedFeature]:
    """The same without fills: what is missing stays missing."""
    return [replace(feature, fill=None) for feature in features]


def mean_query(layout: Layout, features: Sequence[PreparedFeature]) -> str:
    """Customers, then the mean of each feature's known values over all labelled rows."""
    means = ", ".join(f"AVG({o})" for o in names_of(features, "o"))
    inner = own_rows(layout, known(features), table=LABELLED, fitted=False)
    count = f"{layout.dialect.count} AS customers"
    return f"SELECT {count}, {means}\nFROM ({inner}) AS o{layout.having}"


def profile_query(
    layout: Layout,
    features: Sequence[PreparedFeature],
    origin: Sequence[float],
    part: slice = slice(None),
    *,
    by_cluster: bool = True,
) -> str:
    """Customers, cluster (0 without), then for each feature of a part of them: known values, least,
    greatest, mean and mean square relative to an origin; in own units.

    Where a bound is set, least and greatest are NULL, and so are all of a feature that fewer
    customers have. Fewer missing values count as none, fewer known ones as none.
    """
    facts = []
    for o, value in list(zip(names_of(features, "o"), origin))[part]:
        from_origin = f"({o} - ({number(value)}))"
        extremes = [f"MIN({o})", f"MAX({o})"] if layout.at_least == 1 else ["NULL", "NULL"]
        means = [f"AVG({from_origin})", f"AVG({from_origin} * {from_origin})"]
        if layout.at_least > 1:
            enough = f"CASE WHEN COUNT({o}) >= {int(layout.at_least)} THEN "
            means = [f"{enough}{text} END" for text in means]
        facts += [known_count(layout, o), *extremes, *means]
    carry = ["cluster"] if by_cluster else []
    inner = own_rows(layout, known(features), carry, LABELLED, fitted=False)
    return (
        f"SELECT {layout.dialect.count} AS customers, {'cluster' if by_cluster else '0 AS cluster'}"
        f", {', '.join(facts)}\n"
        f"FROM ({inner}) AS o{_group(by_cluster)}{layout.having}"
    )


def known_count(layout: Layout, value: str) -> str:
    """How many rows have a value. Where a bound is set, fewer missing values count as none, fewer
    known ones as none."""
    count, at_least = layout.dialect.count, int(layout.at_least)
    if at_least == 1:
        return f"COUNT({value})"
    return (
        f"CASE WHEN COUNT({value}) < {at_least} THEN 0 "
        f"WHEN {count} - COUNT({value}) < {at_least} THEN {count} ELSE COUNT({value}) END"
    )


def silhouette_query(
    layout: Layout, features: Sequence[PreparedFeature], centroids: Matrix, table: str = ROWS
) -> str:
    """Customers, cluster, sums: squared distances, distances, squared distances by their weights;
    and the mean simplified silhouette: ``(b - a) / b`` with the distances to the nearest and
    second nearest centroid."""
    carry = layout.weights
    inner = prepared_rows(layout, features, carry, table=table, fitted=False)
    nearest = nearest_rows(layout.dialect, inner, centroids, carry, runner_up=True)
    weighted = f"SUM(squared * {carry[0]})" if carry else "SUM(squared)"
    silhouette = "CASE WHEN runner_up > 0e0 THEN 1e0 - SQRT(squared / runner_up) ELSE 0e0 END"
    return (
        f"SELECT {layout.dialect.count} AS customers, cluster, SUM(squared), SUM(SQRT(squared)), "
        f"{weighted}, AVG({silhouette})\nFROM ({nearest}) AS n\n"
        f"GROUP BY cluster{layout.weighed_having}"
    )


def _group(by_cluster: bool) -> str:
    return "\nGROUP BY cluster" if by_cluster else ""
