"""What the preparation is learnt from, as SQL: checks, means, moments, quantiles, levels.

Rows of weight 0 do not count, except where a statement says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlkmeans.clustering.preparation.preparation import OTHER, PreparedFeature
from sqlkmeans.engines.pushdown.sql.training import (
    ROWS,
    Layout,
    names_of,
    own_rows,
    prepared_rows,
)
from sqlkmeans.tsql.expressions import number


def key_query(layout: Layout) -> str:
    """Customers, NULL in key columns, rows that repeat the key of another; -1 for fewer than may
    leave."""
    nulls = " + ".join(f"SUM(CASE WHEN {key} IS NULL THEN 1 ELSE 0 END)" for key in layout.keys)
    listed = ", ".join(layout.keys)
    count = layout.dialect.count
    facts = ["SUM(g.nulls)", f"SUM(g.n) - {count}"]
    if layout.at_least > 1:
        few = f"BETWEEN 1 AND {int(layout.at_least) - 1} THEN -1"
        facts = [f"CASE WHEN {fact} {few} ELSE {fact} END" for fact in facts]
    return (
        f"SELECT SUM(g.n) AS customers, {facts[0]} AS nulls, {facts[1]} AS repeats\n"
        f"FROM (SELECT {count} AS n, {nulls} AS nulls FROM {layout.rows} GROUP BY {listed}) AS g\n"
        f"HAVING SUM(g.n) >= {int(layout.at_least)}"
    )


def check_query(layout: Layout, numbers: Sequence[str]) -> str:
    """Customers, the missing values of each column, and the infinite ones of those that are
    numbers; as :meth:`Layout.counted` counts them.

    With weights, then the NULL, infinite and negative weights, and those above 0.
    """
    infinite = layout.dialect.infinite
    conditions = [f"{value} IS NULL" for value in layout.values]
    conditions += [infinite(layout.value(column)) for column in numbers]
    for w in layout.weights:
        conditions += [f"{w} IS NULL", infinite(w), f"{w} < 0e0", f"{w} > 0e0"]
    return _aggregate(layout, [layout.counted(one) for one in conditions], layout.rows)


def count_query(layout: Layout, *, fitted: bool) -> str:
    """Customers, or those that count in the fit."""
    where = " WHERE w > 0e0" if fitted and layout.weighted else ""
    return _aggregate(layout, [], f"{layout.rows}{where}")


def skip_rows(layout: Layout) -> str:
    """Leave out the rows that have a missing value."""
    missing = " OR ".join(f"{x} IS NULL" for x in layout.values)
    return f"DELETE FROM {layout.rows} WHERE {missing}"


def range_query(layout: Layout, features: Sequence[PreparedFeature], *, fitted: bool = True) -> str:
    """Customers, then of each feature's known values in own units, pulled in to their quantiles:
    mean, least and greatest, how many are -1 or less, and 1 where they could be a key: whole
    numbers, close together and not too few for all to differ.

    Where a bound is set, single customers' values stay where they are: the least and greatest
    come only where they are the same, and so everyone's.
    """
    facts = []
    for name in names_of(features, "o"):
        same = f"CASE WHEN MIN({name}) = MAX({name}) THEN " if layout.at_least > 1 else ""
        facts.append(known_mean(layout, name))
        facts += [f"{same}{end}({name}){' END' if same else ''}" for end in ("MIN", "MAX")]
        facts.append(layout.counted(f"{name} <= -1e0"))
        facts.append(
            f"CASE WHEN MAX({name}) - MIN({name}) < 2 * COUNT({name}) "
            f"AND MAX({name}) - MIN({name}) >= COUNT({name}) - 1 "
            f"AND SUM(CASE WHEN {name} <> FLOOR({name}) THEN 1 ELSE 0 END) = 0 THEN 1 ELSE 0 END"
        )
    rows = f"({own_rows(layout, features, layout.weights, fitted=fitted)}) AS o"
    return _aggregate(layout, facts, rows, layout.weighed_having)


def known_mean(layout: Layout, value: str) -> str:
    """The mean of values that can be missing."""
    if not layout.weighted:
        return f"AVG({value})"
    return f"SUM(w * {value}) / NULLIF(SUM(CASE WHEN {value} IS NOT NULL THEN w END), 0e0)"


def moment_query(layout: Layout, features: Sequence[PreparedFeature], table: str = ROWS) -> str:
    """Customers, then the mean and the mean square of each prepared feature."""
    facts = []
    for z in names_of(features):
        facts += [layout.mean(z), layout.mean(f"{z} * {z}")]
    inner = prepared_rows(layout, features, layout.weights, table=table)
    return _aggregate(layout, facts, f"({inner}) AS z", layout.weighed_having)


def extreme_query(layout: Layout, features: Sequence[PreparedFeature]) -> str:
    """Customers, then the least and the greatest value of each prepared feature."""
    facts = [f"{end}({z})" for z in names_of(features) for end in ("MIN", "MAX")]
    return _aggregate(layout, facts, f"({prepared_rows(layout, features, layout.weights)}) AS z")


def distinct_query(layout: Layout, features: Sequence[PreparedFeature]) -> str:
    """Customers that have all of the features, and how many of them differ in the prepared ones."""
    names = names_of(features)
    count = layout.dialect.count
    known = " AND ".join(f"{z} IS NOT NULL" for z in names)
    groups = (
        f"SELECT {count} AS n FROM ({prepared_rows(layout, features)}) AS z\n"
        f"WHERE {known} GROUP BY {', '.join(names)}"
    )
    return (
        f"SELECT SUM(g.n) AS customers, {count} FROM ({groups}) AS g\n"
        f"HAVING SUM(g.n) >= {int(layout.at_least)}"
    )


def level_query(layout: Layout, column: str, rows: int, longest: int, table: str = ROWS) -> str:
    """The most frequent levels of a category that are no longer than ``longest`` and have not the
    name of the rest: customers, text, and the sum of their weights.

    The text ends with the dialect's ``exact_suffix``.
    """
    x = layout.value(column)
    text, suffix = _exact(layout, x)
    rest = layout.dialect.literal(OTHER + suffix)
    own = f"{layout.dialect.length(text)} <= {int(longest) + len(suffix)} AND {text} <> {rest}"
    weight = f"SUM({layout.weights[0]})" if layout.weighted else layout.dialect.count
    return layout.dialect.first(
        rows,
        f"{layout.dialect.count} AS customers, {text} AS level, {weight} AS total",
        f"FROM {layout.table(table)}\nWHERE {_known(layout, x)} AND {own}\n"
        f"GROUP BY {text}{layout.weighed_having}"
        "\nORDER BY total DESC, level",
    )


def levels_of(
    layout: Layout, found: Sequence[tuple[Any, ...]]
) -> tuple[dict[str, float], dict[str, int]]:
    """What :func:`level_query` found: text to the sum of its weights, and to its customers."""
    suffix = layout.dialect.exact_suffix
    texts = [str(text).removesuffix(suffix) for _, text, _ in found]
    return (
        {text: float(total) for text, (_, _, total) in zip(texts, found)},
        {text: int(customers) for text, (customers, _, _) in zip(texts, found)},
    )


def lacking_query(layout: Layout, column: str) -> str:
    """Customers, and the sum of the weights of those that have no level; 0 for fewer than may
    leave."""
    weight = layout.weights[0] if layout.weighted else "1"
    absent = f"{layout.value(column)} IS NULL"
    missing = f"SUM(CASE WHEN {absent} THEN {weight} ELSE 0 END)"
    if layout.at_least > 1:
        missing = f"CASE WHEN {layout.counted(absent)} < 0 THEN 0 ELSE {missing} END"
    return _aggregate(layout, [missing], layout.rows)


def level_summary_query(layout: Layout, column: str, table: str = ROWS) -> str:
    """Customers with a level, the sum of their weights, and how many levels there are."""
    x = layout.value(column)
    text, _ = _exact(layout, x)
    weight = f"SUM({layout.weights[0]})" if layout.weighted else layout.dialect.count
    groups = (
        f"SELECT {layout.dialect.count} AS n, {weight} AS total\n"
        f"FROM {layout.table(table)} WHERE {_known(layout, x)} GROUP BY {text}"
    )
    count = layout.dialect.count
    return (
        f"SELECT SUM(g.n) AS customers, SUM(g.total), {count}\n"
        f"FROM ({groups}) AS g\nHAVING SUM(g.n) >= {int(layout.at_least)}"
    )


def quantile_query(
    layout: Layout,
    feature: PreparedFeature,
    share: float,
    *,
    levels: Sequence[PreparedFeature] = (),
    transformed: bool = False,
    table: str = ROWS,
    by_cluster: bool = False,
) -> str:
    """Customers, cluster (0 without), and a quantile of a feature's known values.

    A quantile is a single customer's value, or lies between those of two. Where a bound is set,
    it is the mean of so many customers around that place.

    Parameters
    ----------
    layout : Layout
    feature : PreparedFeature
    share : float
        0 to 1.
    levels : sequence of PreparedFeature, optional
        Of a category's "(other)": the others of its column.
    transformed : bool, default=False
        Of the prepared values rather than those in own units.
    table : str, default="rows"
    by_cluster : bool, default=False
        For each cluster of the labelled table.
    """
    carry = ["cluster"] if by_cluster else []
    value = "z1" if transformed else "o1"
    rows = prepared_rows if transformed else own_rows
    inner = rows(layout, [feature, *levels], carry, table=table, fitted=table == ROWS)
    aggregate = layout.dialect.quantile(value, share) if layout.at_least == 1 else None
    group = "\nGROUP BY cluster" if by_cluster else ""
    cluster = "cluster" if by_cluster else "0 AS cluster"
    if aggregate is not None:
        return (
            f"SELECT {layout.dialect.count} AS customers, {cluster}, {aggregate}\n"
            f"FROM ({inner}) AS o\nWHERE {value} IS NOT NULL{group}{layout.having}"
        )
    return _by_place(layout, inner, value, share, by_cluster)


def _by_place(layout: Layout, inner: str, value: str, share: float, by_cluster: bool) -> str:
    part = "PARTITION BY cluster " if by_cluster else ""
    cluster = "cluster" if by_cluster else "0 AS cluster"
    carried = "cluster, " if by_cluster else ""
    count = layout.dialect.count
    placed = (
        f"SELECT {carried}{value} AS v, "
        f"ROW_NUMBER() OVER ({part}ORDER BY {value}) - 1 AS place, "
        f"({count} OVER ({part.strip()}) - 1) * {number(share)} AS middle, "
        f"{count} OVER ({part.strip()}) AS n\nFROM ({inner}) AS o WHERE {value} IS NOT NULL"
    )
    group = "\nGROUP BY cluster" if by_cluster else ""
    if layout.at_least == 1:
        return (
            f"SELECT {count} AS customers, {cluster}, "
            "MIN(v) + (MAX(v) - MIN(v)) * MAX(middle - FLOOR(middle))\n"
            f"FROM ({placed}) AS p\nWHERE place BETWEEN FLOOR(middle) AND CEILING(middle){group}"
        )
    at_least = int(layout.at_least)
    start = f"FLOOR(middle) - {(at_least - 1) // 2}"
    return (
        f"SELECT {count} AS customers, {cluster}, AVG(v)\n"
        f"FROM (SELECT {carried}v, place, CASE WHEN {start} < 0 THEN 0 "
        f"WHEN {start} > n - {at_least} THEN n - {at_least} ELSE {start} END AS start\n"
        f"FROM ({placed}) AS p) AS s\n"
        f"WHERE place >= start AND place < start + {at_least}{group}{layout.having}"
    )


def weighted_quantile_query(layout: Layout, feature: PreparedFeature, share: float) -> str:
    """Customers, 0, and a quantile of prepared values by their weights.

    The mean over a window of the cumulated weight, as in
    :mod:`sqlkmeans.clustering.preparation.statistics`.
    Where a bound is set, the mean of so many customers around the window's middle.
    """
    inner = prepared_rows(layout, [feature], [*layout.keys, *layout.weights])
    order = ", ".join(["z1", *layout.keys])
    count, at = layout.dialect.count, number(share)
    cumulated = (
        f"SELECT z1, w, SUM(w) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS upto, "
        "SUM(w) OVER () AS total, SUM(w * w) OVER () AS squares\n"
        f"FROM ({inner}) AS z WHERE z1 IS NOT NULL"
    )
    # One over Kish's effective number of rows is how wide the window is.
    ends = (
        "SELECT z1, (upto - w) / total AS first, upto / total AS last, "
        "squares / (total * total) AS width\n"
        f"FROM ({cumulated}) AS c"
    )
    windows = (
        f"SELECT z1, first, last, {at} * (1e0 - width) AS low, "
        f"{at} * (1e0 - width) + width AS high\nFROM ({ends}) AS e"
    )
    if layout.at_least > 1:
        middle = "ABS(first + last - low - high)"
        near = layout.dialect.first(
            layout.at_least, "z1", f"FROM ({windows}) AS p\nORDER BY {middle}, z1"
        )
        facts = f"{count} AS customers, 0 AS cluster, AVG(z1)"
        return f"SELECT {facts} FROM ({near}) AS n{layout.having}"
    inside = (
        "SELECT z1, last, low, CASE WHEN last <= low OR first >= high THEN 0e0 ELSE "
        "CASE WHEN last < high THEN last ELSE high END - "
        "CASE WHEN first > low THEN first ELSE low END END AS part\n"
        f"FROM ({windows}) AS p"
    )
    # With so many rows that the window is less than a rounding, the value at its beginning.
    return (
        f"SELECT {count} AS customers, 0 AS cluster, "
        "COALESCE(SUM(z1 * part) / NULLIF(SUM(part), 0e0), "
        f"MIN(CASE WHEN last >= low THEN z1 END))\nFROM ({inside}) AS i"
    )


def _exact(layout: Layout, x: str) -> tuple[str, str]:
    """A level as it has to be written to be compared byte for byte, and what that adds to it."""
    return layout.dialect.exact(x), layout.dialect.exact_suffix


def _known(layout: Layout, x: str) -> str:
    return f"{x} IS NOT NULL" + (" AND w > 0e0" if layout.weighted else "")


def _aggregate(layout: Layout, facts: Sequence[str], rows: str, having: str | None = None) -> str:
    listed = ", ".join([f"{layout.dialect.count} AS customers", *facts])
    return f"SELECT {listed}\nFROM {rows}{having or layout.having}"
