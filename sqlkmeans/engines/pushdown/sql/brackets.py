"""Many quantiles at once, as SQL, where one aggregate that sorts all values does not scale.

Approximate quantiles on both sides of each make a bracket; then what lies inside is sorted, and
what lies below is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.engines.pushdown.sql.training import (
    ROWS,
    Layout,
    names_of,
    own_rows,
    prepared_rows,
)
from sqlkmeans.tsql.expressions import number

#: A feature, and which of its quantiles.
Asked = tuple[PreparedFeature, float]
#: Of each quantile, for one group of rows: a value below or at it, and one above or at it.
Brackets = Sequence[tuple[float, float] | None]
#: An approximate quantile is off by such a share of the known values at most.
ERROR = 1e-4
#: Where fewer rows than one in so many have a value, the column is refused.
LEAST_KNOWN = 20


def values_query(
    layout: Layout, asked: Sequence[Asked], *, transformed: bool, table: str, by_cluster: bool
) -> tuple[str, list[str]]:
    """The query of the features' values, one column a quantile, and the names of its columns."""
    features = [feature for feature, _ in asked]
    rows, letter = (prepared_rows, "z") if transformed else (own_rows, "o")
    carry = ["cluster"] if by_cluster else []
    return (
        rows(layout, features, carry, table=table, fitted=table == ROWS),
        names_of(features, letter),
    )


def bracket_query(
    layout: Layout,
    values: str,
    names: Sequence[str],
    asked: Sequence[Asked],
    rows: int,
    *,
    by_cluster: bool,
) -> str:
    """Customers, cluster (0 without), and the two ends of each quantile's bracket.

    Of few ``rows`` an approximate quantile is exact, but one of the values, and not between two:
    the bracket is wider by the places that this makes. A median's bracket would do without, which
    is all that is asked for of a cluster, whose rows may be far fewer.
    """
    margin = 2 * ERROR + LEAST_KNOWN / max(rows, LEAST_KNOWN)
    facts = []
    for name, (_, share) in zip(names, asked):
        ends = (max(share - margin, 0.0), min(share + margin, 1.0))
        facts += layout.dialect.approximate_quantiles(name, ends, ERROR)
    return _grouped(layout, values, facts, by_cluster=by_cluster)


def inside_query(
    layout: Layout,
    values: str,
    names: Sequence[str],
    asked: Sequence[Asked],
    brackets: Mapping[int, Brackets],
    *,
    by_cluster: bool,
) -> str:
    """Customers, cluster (0 without), and of each quantile: its place among the known values, from
    0; how many are not above its bracket's low end; and the values at the two places around it, of
    those inside the bracket."""
    facts = []
    for position, (name, (_, share)) in enumerate(zip(names, asked)):
        low, high = (_end(brackets, position, side) for side in (0, 1))
        place = f"(COUNT({name}) - 1) * {number(share)}"
        upto = f"SUM(CASE WHEN {name} <= {low} THEN 1 ELSE 0 END)"
        inside = f"CASE WHEN {name} > {low} AND {name} < {high} THEN {name} END"
        facts += [place, upto]
        for rounded in ("FLOOR", "CEILING"):
            facts.append(layout.dialect.value_at(inside, f"{rounded}({place}) - {upto}"))
    return _grouped(layout, values, facts, by_cluster=by_cluster)


def _end(brackets: Mapping[int, Brackets], position: int, side: int) -> str:
    """An end of a quantile's bracket, by the row's cluster."""
    ends = {cluster: one[position] for cluster, one in brackets.items()}
    if len(ends) == 1:
        end = next(iter(ends.values()))
        return "NULL" if end is None else f"({number(end[side])})"
    cases = [f"WHEN {c} THEN {number(end[side])}" for c, end in ends.items() if end is not None]
    return f"CASE cluster {' '.join(cases)} END" if cases else "NULL"


def _grouped(layout: Layout, values: str, facts: Sequence[str], *, by_cluster: bool) -> str:
    cluster, group = ("cluster", "\nGROUP BY cluster") if by_cluster else ("0 AS cluster", "")
    return (
        f"SELECT {layout.dialect.count} AS customers, {cluster}, {', '.join(facts)}\n"
        f"FROM ({values}) AS v{group}{layout.having}"
    )
