"""Where K-Means starts, as SQL: a random sample of the rows, or means of small groups of them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.engines.pushdown.sql.training import ROWS, Layout, names_of, prepared_rows

#: Which of the two tables of cells holds the newest.
CELLS = ("cells_0", "cells_1")


def sample_query(
    layout: Layout,
    features: Sequence[PreparedFeature],
    rows: int,
    share: float,
    seed: int,
    table: str = ROWS,
) -> str:
    """A random sample of prepared rows (and weights) in key order.

    Which rows are drawn depends on their keys and the seed, not on where they lie.

    Parameters
    ----------
    layout : Layout
    features : sequence of PreparedFeature
    rows : int
        At most so many.
    share : float
        Of the rows that are looked at; a little more than wanted, so that few have to be sorted.
    seed : int
    table : str, default="rows"
        Of the labelled table, also rows that do not count in the fit, and no weights.
    """
    columns = [*(layout.weights if table == ROWS else []), *names_of(features)]
    keys = ", ".join(layout.keys)
    drawn = _drawn(layout, features, rows, share, seed, [*layout.keys, *columns], table)
    return f"SELECT {', '.join(columns)}\nFROM ({drawn}) AS r\nORDER BY {keys}"


def _drawn(
    layout: Layout,
    features: Sequence[PreparedFeature],
    rows: int,
    share: float,
    seed: int,
    columns: Sequence[str],
    table: str = ROWS,
) -> str:
    carry = [*layout.keys, *layout.weights]
    prepared = prepared_rows(layout, features, carry, table=table, fitted=table == ROWS)
    listed = ", ".join([*layout.keys, *layout.weights, *names_of(features)])
    random = layout.dialect.random(list(zip(layout.keys, layout.key_types)), seed)
    where = f"\nWHERE u < {float(share)!r}" if share < 1 else ""
    return layout.dialect.first(
        rows,
        ", ".join(columns),
        f"FROM (SELECT {listed}, {random} AS u\nFROM ({prepared}) AS z) AS u{where}\n"
        f"ORDER BY u, {', '.join(layout.keys)}",
    )


def some_distinct_query(layout: Layout, features: Sequence[PreparedFeature], rows: int) -> str:
    """Some prepared rows that differ."""
    z = ", ".join(names_of(features))
    inner = prepared_rows(layout, features)
    return layout.dialect.first(rows, z, f"FROM ({inner}) AS z GROUP BY {z}\nORDER BY {z}")


def first_cell(
    layout: Layout, features: Sequence[PreparedFeature], rows: int, share: float, seed: int
) -> list[str]:
    """Draw a sample into a temporary table, as one cell. It never leaves the database."""
    columns = [*layout.keys, *layout.weights, *names_of(features)]
    drawn = _drawn(layout, features, rows, share, seed, columns)
    query = f"SELECT 0 AS cell, {', '.join(columns)}\nFROM ({drawn}) AS d"
    return [*_create_cells(layout, features, CELLS[0]), layout.dialect.insert(CELLS[0], query)]


def split_cells(layout: Layout, features: Sequence[PreparedFeature], level: int) -> list[str]:
    """Halve every cell at the median of the feature that varies most in it.

    The cells of a k-d tree (Bentley, 1975) with as many rows in each, but for one, as in any
    other of its level.
    """
    old, new = CELLS[level % 2], CELLS[(level + 1) % 2]
    z = names_of(features)
    spreads = [f"AVG({name} * {name}) - AVG({name}) * AVG({name}) AS v{name}" for name in z]
    widest = _first_greatest(layout, [f"v{name}" for name in z])
    spread = (
        f"SELECT cell, {', '.join(spreads)}\nFROM {layout.dialect.temporary(old)} GROUP BY cell"
    )
    cases = " ".join(f"WHEN {p} THEN c.{name}" for p, name in enumerate(z, start=1))
    columns = [*layout.keys, *layout.weights, *z]
    carried = ", ".join(f"c.{name}" for name in columns)
    valued = (
        f"SELECT c.cell, {carried}, CASE w.widest {cases} END AS split\n"
        f"FROM {layout.dialect.temporary(old)} AS c\n"
        f"INNER JOIN (SELECT s.cell, {widest} AS widest FROM ({spread}) AS s) AS w\n"
        "ON w.cell = c.cell"
    )
    order = ", ".join(["split", *layout.keys])
    query = (
        f"SELECT 2 * cell + NTILE(2) OVER (PARTITION BY cell ORDER BY {order}) - 1 AS cell, "
        f"{', '.join(columns)}\nFROM ({valued}) AS v"
    )
    return [*_create_cells(layout, features, new), layout.dialect.insert(new, query)]


def cell_query(layout: Layout, features: Sequence[PreparedFeature], level: int) -> str:
    """Customers, the sum of their weights, and the mean of each prepared feature; by cell."""
    means = ", ".join(layout.mean(z) for z in names_of(features))
    weight = f"SUM({layout.weights[0]})" if layout.weighted else layout.dialect.count
    return (
        f"SELECT {layout.dialect.count} AS customers, {weight}, {means}\n"
        f"FROM {layout.dialect.temporary(CELLS[level % 2])}\nGROUP BY cell{layout.weighed_having}"
        "\nORDER BY cell"
    )


def cell_columns(layout: Layout, features: Sequence[PreparedFeature]) -> list[tuple[str, str]]:
    """The columns of rows that are drawn, and their types; those of rows that are sorted to be
    drawn are as wide."""
    number = layout.dialect.float_type
    return [
        ("cell", "bigint NOT NULL"),
        *((k, f"{kind} NULL") for k, kind in zip(layout.keys, layout.key_types)),
        *((z, f"{number} NOT NULL") for z in [*layout.weights, *names_of(features)]),
    ]


def _create_cells(layout: Layout, features: Sequence[PreparedFeature], name: str) -> list[str]:
    return layout.dialect.create_temporary(name, cell_columns(layout, features))


def _first_greatest(layout: Layout, names: Sequence[str]) -> str:
    """The position of the first of the greatest values of a row ``s``."""
    # Each is made of three aggregates, LEAST stands in every WHEN, and all of it is looked up in a
    # CASE of as many features.
    if layout.dialect.fits_least(len(names) ** 2 * (3 * len(names) + 4)):
        listed = ", ".join(f"-s.{name}" for name in names)
        cases = " ".join(f"WHEN -s.{name} THEN {p}" for p, name in enumerate(names, start=1))
        return f"CASE LEAST({listed}) {cases} END"
    rows = ", ".join(f"({p}, s.{name})" for p, name in enumerate(names, start=1))
    greatest = layout.dialect.first(
        1,
        "v.place",
        f"FROM (VALUES {rows}) AS v (place, spread)\nORDER BY v.spread DESC, v.place",
    )
    return f"({greatest})"
