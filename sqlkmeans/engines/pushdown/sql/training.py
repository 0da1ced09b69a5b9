"""Training as SQL: every statement of K-Means where the rows are.

A run copies key and raw features of its source once into a temporary table of the session, so
that all that follows is of one moment, and asks that table for aggregates. One Lloyd pass is one
query: k rows come back, each with the number of its customers and a mean a feature. Every
expression is linear in k x d.

The same texts are for SQL Server, where ``CROSS APPLY … TOP (1)`` finds the nearest centroid
unless LEAST may (:meth:`Dialect.fits_least`), and for DuckDB. Once the preparation is
learnt, SQL Server keeps prepared values beside the raw ones (:func:`keep_prepared`).

In the temporary tables keys are ``k1, k2, …`` and raw columns ``x1, x2, …``; prepared features
are ``z1, z2, …``. Every query whose rows leave the database has the number of customers that a
row is about as its first column, ``customers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.kmeans.single_moves import ALL, NEARLY
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database.dialect import Dialect
from sqlkmeans.engines.pushdown.sql.nearest import Constant, listed, nearest_rows
from sqlkmeans.tsql.expressions import (
    number,
    own_expression,
    scaled_expression,
    transformed_expression,
)

#: Rows before and after they have labels.
ROWS, LABELLED = "rows", "labelled"
#: The table that takes the place of ``ROWS`` where prepared values are kept.
_PREPARED = "prepared"


@dataclass(frozen=True)
class Layout:
    """The columns of the temporary tables.

    Attributes
    ----------
    dialect : Dialect
    key_types : tuple of str
        The types of the key columns.
    columns : tuple of str
        The source's feature columns, each once.
    column_types : tuple of str
        Their types in the temporary tables.
    weighted : bool, default=False
        Whether there is a column ``w``: how much a row counts in the fit.
    at_least : int
        No row about fewer customers leaves; 1 sets no bound.
    kept : tuple of PreparedFeature
        The features whose prepared values are columns of the rows, ``z1, z2, …``.
    described : tuple of (str, str)
        The source's columns that are only described, ``about1, about2, …``, and their types in the
        temporary tables.
    """

    dialect: Dialect
    key_types: tuple[str, ...]
    columns: tuple[str, ...]
    column_types: tuple[str, ...]
    weighted: bool = False
    at_least: int = 1
    kept: tuple[PreparedFeature, ...] = ()
    described: tuple[tuple[str, str], ...] = ()

    @property
    def keys(self) -> list[str]:
        return [f"k{p}" for p in range(1, len(self.key_types) + 1)]

    @property
    def values(self) -> list[str]:
        return [f"x{p}" for p in range(1, len(self.columns) + 1)]

    @property
    def weights(self) -> list[str]:
        """The column of weights, if there is one."""
        return ["w"] if self.weighted else []

    @property
    def typed(self) -> list[tuple[str, str]]:
        """All columns and their types."""
        return [
            *((name, f"{kind} NULL") for name, kind in zip(self.keys, self.key_types)),
            *((name, f"{kind} NULL") for name, kind in zip(self.values, self.column_types)),
            *((name, f"{self.dialect.float_type} NULL") for name in self.weights),
            *((f"about{p}", f"{kind} NULL") for p, (_, kind) in enumerate(self.described, start=1)),
        ]

    @property
    def labelled_typed(self) -> list[tuple[str, str]]:
        """The same once rows have labels."""
        return [
            *self.typed,
            ("cluster", "integer NOT NULL"),
            ("squared", f"{self.dialect.float_type} NOT NULL"),
        ]

    def mean(self, value: str) -> str:
        """The aggregate of a value's mean."""
        return f"SUM(w * ({value})) / SUM(w)" if self.weighted else f"AVG({value})"

    def value(self, column: str) -> str:
        """The raw column that holds a source column."""
        if column in self.columns:
            return self.values[self.columns.index(column)]
        return f"about{[name for name, _ in self.described].index(column) + 1}"

    def table(self, name: str) -> str:
        """The name of a temporary table."""
        return self.dialect.temporary(_PREPARED if name == ROWS and self.kept else name)

    @property
    def rows(self) -> str:
        return self.table(ROWS)

    @property
    def labelled(self) -> str:
        return self.table(LABELLED)

    def value_terms(self, features: Sequence[PreparedFeature], table: str = ROWS) -> float:
        """At most so many identifiers and constants make a prepared value, names written out."""
        return 2 if self.keeps(features, table) else inf

    def keeps(self, features: Sequence[PreparedFeature], table: str) -> bool:
        """Whether a table has the prepared values of these features."""
        return table == ROWS and bool(self.kept) and tuple(features) == self.kept

    @property
    def having(self) -> str:
        """Ends a query that groups."""
        return f"\nHAVING {self.dialect.count} >= {int(self.at_least)}"

    @property
    def weighed_having(self) -> str:
        """Ends a query that groups and tells of weighted sums: in a group, no few customers may
        weigh so much that its mean is theirs. What counts is Kish's effective number of rows.
        """
        if not self.weighted or self.at_least == 1:
            return self.having
        # The squares of greater weights than that are infinite, and so are their sums.
        effective = f"SUM(w) * SUM(w) >= {int(self.at_least)} * SUM(w * w)"
        return f"{self.having} AND {effective} AND MAX(w) < 1e150"

    def counted(self, condition: str) -> str:
        """The number of rows that meet a condition; -1 for fewer than may leave, but for none."""
        count = f"SUM(CASE WHEN {condition} THEN 1 ELSE 0 END)"
        if self.at_least == 1:
            return count
        return f"CASE WHEN {count} BETWEEN 1 AND {int(self.at_least) - 1} THEN -1 ELSE {count} END"


def take_rows(layout: Layout, source: str, expressions: Sequence[str]) -> list[str]:
    """Copy keys and raw features of a source.

    Parameters
    ----------
    layout : Layout
    source : str
        What stands after FROM.
    expressions : sequence of str
        Over the source's columns: keys, values, weight and what is only described, of the types
        that the layout names.
    """
    selected = [f"{text} AS {name}" for text, (name, _) in zip(expressions, layout.typed)]
    insert = layout.dialect.insert(ROWS, f"SELECT {', '.join(selected)}\nFROM {source}")
    return [*layout.dialect.create_temporary(ROWS, layout.typed), insert]


def drop(layout: Layout, name: str) -> str:
    """Drop a temporary table, if it is there."""
    return f"DROP TABLE IF EXISTS {layout.table(name)}"


def keep_prepared(layout: Layout, features: Sequence[PreparedFeature]) -> tuple[Layout, list[str]]:
    """The layout with prepared values beside the raw ones, and the statements that make it so.

    Nothing changes where the dialect does not keep them, or no table can have both.
    """
    carry = [name for name, _ in layout.typed]
    z = [(name, f"{layout.dialect.float_type} NULL") for name in names_of(features)]
    columns = [*layout.typed, *z]
    if not layout.dialect.keeps_prepared or layout.dialect.too_wide(columns):
        return layout, []
    return replace(layout, kept=tuple(features)), [
        *layout.dialect.create_temporary(_PREPARED, columns),
        layout.dialect.insert(_PREPARED, prepared_rows(layout, features, carry, fitted=False)),
        drop(layout, ROWS),
    ]


def own_rows(
    layout: Layout,
    features: Sequence[PreparedFeature],
    carry: Sequence[str] = (),
    table: str = ROWS,
    *,
    fitted: bool = True,
) -> str:
    """The query of values in own units, filled and pulled in: ``carry``, then ``o1, o2, …``.

    ``fitted`` leaves out the rows that do not count in the fit.
    """
    own = [
        own_expression(
            feature, layout.value(feature.column), layout.dialect,
            levels=_levels(features, feature),
        )
        for feature in features
    ]  # fmt: skip
    named = [f"{text} AS {name}" for text, name in zip(own, names_of(features, "o"))]
    return f"SELECT {listed(carry, named)} FROM {_from(layout, table, fitted)}"


def _from(layout: Layout, table: str, fitted: bool) -> str:
    return layout.table(table) + ("\nWHERE w > 0e0" if fitted and layout.weighted else "")


def _levels(features: Sequence[PreparedFeature], of: PreparedFeature) -> list[str]:
    return [f.level for f in features if f.column == of.column and f.level is not None]


def prepared_rows(
    layout: Layout,
    features: Sequence[PreparedFeature],
    carry: Sequence[str] = (),
    origin: Sequence[float] | None = None,
    table: str = ROWS,
    *,
    fitted: bool = True,
) -> str:
    """The query of prepared rows: ``carry``, then ``z1, z2, …``.

    Parameters
    ----------
    layout : Layout
    features : sequence of PreparedFeature
    carry : sequence of str
        Columns of the table to pass on.
    origin : sequence of float, optional
        Subtracted from the prepared values, so that far from zero the digits are not lost.
    table : str, default="rows"
    fitted : bool, default=True
        Leave out the rows that do not count in the fit.
    """
    if layout.keeps(features, table):
        kept = names_of(features)
        if origin is not None:
            kept = [f"{z} - ({number(s)}) AS {z}" for z, s in zip(kept, origin)]
        return f"SELECT {listed(carry, kept)} FROM {_from(layout, table, fitted)}"
    shift = origin if origin is not None else [0.0] * len(features)
    own, transformed = names_of(features, "o"), names_of(features, "t")
    transforms = [
        f"{transformed_expression(f, o, layout.dialect)} AS {t}"
        for f, o, t in zip(features, own, transformed)
    ]
    scaled = [
        f"{scaled_expression(replace(f, center=f.center + f.divisor * s), t)} AS {z}"
        for f, s, t, z in zip(features, shift, transformed, names_of(features))
    ]
    return (
        f"SELECT {listed(carry, scaled)}\n"
        f"FROM (SELECT {listed(carry, transforms)}\n"
        f"FROM ({own_rows(layout, features, carry, table, fitted=fitted)}) AS o) AS t"
    )


def pass_statement(
    layout: Layout, features: Sequence[PreparedFeature], centroids: Matrix, origin: Matrix
) -> str:
    """:func:`pass_query`, as a text that is compiled once for all passes where the database keeps
    plans by their text."""
    values: list[float] = []

    def parameter(value: float) -> str:
        values.append(value)
        return f"@p{len(values)}"

    query = pass_query(layout, features, centroids, origin, parameter)
    statement = layout.dialect.parameterised(query, values)
    return statement or pass_query(layout, features, centroids, origin)


def pass_query(
    layout: Layout,
    features: Sequence[PreparedFeature],
    centroids: Matrix,
    origin: Matrix,
    constant: Constant = number,
) -> str:
    """One Lloyd pass: customers, cluster, its weight, and the mean of each feature relative to an
    origin."""
    names = names_of(features)
    inner = prepared_rows(layout, features, layout.weights, origin=origin.tolist())
    carry = [*layout.weights, *names]
    nearest = nearest_rows(
        layout.dialect, inner, centroids - origin, carry, exact=False,
        value_terms=layout.value_terms(features), constant=constant,
    )  # fmt: skip
    weight = "SUM(w)" if layout.weighted else layout.dialect.count
    means = ", ".join(layout.mean(z) for z in names)
    return (
        f"SELECT {layout.dialect.count} AS customers, cluster, {weight} AS weight, {means}\n"
        f"FROM ({nearest}) AS n\nGROUP BY cluster{layout.weighed_having}"
    )


def moving_query(
    layout: Layout, features: Sequence[PreparedFeature], centroids: Matrix, weights: Vector,
    rows: int,
) -> str:  # fmt: skip
    """Weight, cluster and prepared features of the rows that would lower the inertia most by going
    to a second cluster, or would all but do so; as
    :func:`sqlkmeans.clustering.kmeans.single_moves.may_pay`.

    Parameters
    ----------
    weights : ndarray of shape (k,)
        Of the clusters.
    rows : int
        So many at most.
    """
    weight = layout.weights[0] if layout.weighted else "1e0"
    names = names_of(features)
    carry = [*layout.keys, *layout.weights, *names]
    nearest = nearest_rows(
        layout.dialect, prepared_rows(layout, features, [*layout.keys, *layout.weights]), centroids,
        carry, value_terms=layout.value_terms(features), runner_up=True,
        shares=[f"{number(of)} / ({number(of)} + {weight})" for of in weights.tolist()],
    )  # fmt: skip
    # A row that has all of its cluster's weight is that cluster, and stays.
    shares = " ".join(
        f"WHEN cluster = {i} AND {weight} < {number((1 - ALL) * of)} "
        f"THEN {number(of)} / ({number(of)} - {weight})"
        for i, of in enumerate(weights.tolist())
    )
    gains = f"SELECT {listed(carry, ['cluster', 'runner_up'])}, squared * CASE {shares} END AS gain"
    order = ", ".join([f"{weight} * (runner_up - gain)", *layout.keys])
    return layout.dialect.first(
        rows,
        ", ".join([f"{weight} AS w", "cluster", *names]),
        f"FROM ({gains}\nFROM ({nearest}) AS n) AS g\n"
        f"WHERE runner_up < {number(NEARLY)} * gain\nORDER BY {order}",
    )


def far_query(
    layout: Layout, features: Sequence[PreparedFeature], centroids: Matrix, rows: int
) -> str:
    """Customers, and the mean of the rows that are farthest from their centroid."""
    names = names_of(features)
    inner = prepared_rows(layout, features, layout.keys)
    nearest = nearest_rows(
        layout.dialect, inner, centroids, [*layout.keys, *names],
        value_terms=layout.value_terms(features),
    )  # fmt: skip
    order = ", ".join(["squared DESC", *layout.keys])
    farthest = layout.dialect.first(
        rows, ", ".join(names), f"FROM ({nearest}) AS n\nORDER BY {order}"
    )
    means = ", ".join(f"AVG({z})" for z in names)
    return (
        f"SELECT {layout.dialect.count} AS customers, {means}\nFROM ({farthest}) AS f"
        f"{layout.having}"
    )


def label_rows(layout: Layout, features: Sequence[PreparedFeature], centroids: Matrix) -> list[str]:
    """Make the labelled table: keys, raw columns, cluster, squared distance."""
    carry = [name for name, _ in layout.typed]
    inner = prepared_rows(layout, features, carry, fitted=False)
    nearest = nearest_rows(
        layout.dialect, inner, centroids, carry, value_terms=layout.value_terms(features)
    )
    selected = ", ".join([*carry, "cluster", "squared"])
    return [
        *layout.dialect.create_temporary(LABELLED, layout.labelled_typed),
        layout.dialect.insert(LABELLED, f"SELECT {selected}\nFROM ({nearest}) AS n"),
    ]


def staged_query(layout: Layout, keys: Sequence[str], clusters: Sequence[int]) -> str:
    """The labels as publishing takes them: the key's own names, cluster, distance.

    ``clusters`` gives the number to publish for each cluster.
    """
    named = ", ".join(f"{k} AS {layout.dialect.quote(n)}" for k, n in zip(layout.keys, keys))
    cases = " ".join(f"WHEN {cluster} THEN {new}" for cluster, new in enumerate(clusters))
    return (
        f"SELECT {named}, CASE cluster {cases} END AS cluster, SQRT(squared) AS distance\n"
        f"FROM {layout.labelled}"
    )


def names_of(features: Sequence[PreparedFeature], letter: str = "z") -> list[str]:
    """``z1, z2, …``"""
    return [f"{letter}{p}" for p in range(1, len(features) + 1)]
