"""Quantiles of the rows, one a query or all of them in two."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sql import brackets, statistics
from sqlkmeans.engines.pushdown.sql.brackets import Asked, Brackets
from sqlkmeans.engines.pushdown.sql.training import ROWS


def quantiles(
    rows: KeptRows,
    asked: Sequence[Asked],
    *,
    transformed: bool = False,
    table: str = ROWS,
    by_cluster: bool = False,
) -> list[dict[int, float]]:
    """Quantiles of features' known values; rows count alike.

    Parameters
    ----------
    rows : KeptRows
    asked : sequence of (PreparedFeature, float)
        A feature and a share from 0 to 1.
    transformed : bool, default=False
        Of the prepared values rather than those in own units.
    table : str, default="rows"
    by_cluster : bool, default=False
        For each cluster of the labelled table.

    Returns
    -------
    list of dict of int to float
        Of each that was asked for, its quantile by cluster (0 without); none where no value is
        known.
    """
    layout = rows.layout
    if layout.dialect.sorts_brackets and layout.at_least == 1:
        return _bracketed(rows, asked, transformed, table, by_cluster)
    found = []
    for feature, share in asked:
        levels = [f for f, _ in asked if f.column == feature.column and f.level is not None]
        query = statistics.quantile_query(
            layout, feature, share, levels=() if feature.level is not None else levels,
            transformed=transformed, table=table, by_cluster=by_cluster,
        )  # fmt: skip
        found.append({int(cluster): float(value) for _, cluster, value in rows.ask(query)})
    return found


def _bracketed(
    rows: KeptRows, asked: Sequence[Asked], transformed: bool, table: str, by_cluster: bool
) -> list[dict[int, float]]:
    layout = rows.layout
    values, names = brackets.values_query(
        layout, asked, transformed=transformed, table=table, by_cluster=by_cluster
    )
    query = brackets.bracket_query(layout, values, names, asked, rows.fitted, by_cluster=by_cluster)
    found: dict[int, Brackets] = {}
    for _, cluster, *ends in rows.ask(query):
        pairs = zip(ends[::2], ends[1::2])
        found[int(cluster)] = [None if low is None else (low, high) for low, high in pairs]
    query = brackets.inside_query(layout, values, names, asked, found, by_cluster=by_cluster)
    result: list[dict[int, float]] = [{} for _ in asked]
    for _, cluster, *facts in rows.ask(query):
        for position, bracket in enumerate(found[int(cluster)]):
            if bracket is not None:
                place, upto, *inside = facts[4 * position : 4 * position + 4]
                result[position][int(cluster)] = _quantile(float(place), upto, inside, bracket)
    return result


def _quantile(
    place: float, upto: int, inside: Sequence[float | None], bracket: tuple[float, float]
) -> float:
    """Between the values at the two places around it, as numpy.percentile has it."""
    low, high = (
        bracket[0] if at < upto else bracket[1] if value is None else value
        for at, value in zip((floor(place), ceil(place)), inside)
    )
    return low + (high - low) * (place - floor(place))
