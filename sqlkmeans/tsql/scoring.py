"""A fitted model as SQL: a function that scores one row inside any query.

The text does what :meth:`SegmentModel.predict` does, in the same order: prepare
(:mod:`sqlkmeans.tsql.expressions`), add up squared differences a feature at a time, take the
nearest centroid, the lowest segment id on a tie. Squared distances are compared, so that no root
can round two of them to the same number. A missing value that the model does not fill in makes
every column NULL, where ``predict`` says 0.

SQL Server writes an expression out wherever its name stands, and takes 65,535 identifiers and
constants in one. So centroids are rows of constants, and the distance to one of them is written
once: the text is as long as there are numbers in the centroids, and no expression grows with k.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlkmeans._version import __version__
from sqlkmeans.database.dialect import Dialect
from sqlkmeans.database.sqlserver.dialect import TSQL, bracket
from sqlkmeans.model import SegmentModel
from sqlkmeans.tsql.expressions import (
    number,
    own_expression,
    scaled_expression,
    transformed_expression,
)

#: Of a parameter, by the type of its feature. A text may be longer than any level.
PARAMETER_TYPES = {"number": "float", "category": "nvarchar(4000)", "date": "date"}

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def scoring_script(name: str, model: SegmentModel) -> str:
    """A script that makes the function ``sqlkmeans.assign_<name>``, for any SQL Server database.

    Parameters
    ----------
    name : str
        The segmentation.
    model : SegmentModel
    """
    function = f"sqlkmeans.{bracket('assign_' + name)}"
    heading = f"-- Segments of {_one_line(name)}, written by sqlkmeans {__version__}. Use it so:\n"
    return (
        f"{heading}{how_to_call(function, 'f.segment_id, f.segment_name', model)}"
        "IF SCHEMA_ID(N'sqlkmeans') IS NULL\n"
        "    EXECUTE (N'CREATE SCHEMA sqlkmeans AUTHORIZATION dbo;');\n"
        "GO\n"
        f"{made_anew(function, scoring_function(function, model))}"
    )


def how_to_call(function: str, columns: str, model: SegmentModel) -> str:
    """Two lines of comment."""
    values = ", ".join(_shown(column) for column in model.columns)
    return (
        f"-- SELECT c.*, {columns} FROM <table> AS c\n"
        f"-- CROSS APPLY {_one_line(function)}({values}) AS f;\n"
    )


def made_anew(function: str, statement: str) -> str:
    """Batches of a script that drop a function where it is, and make it."""
    return (
        f"IF OBJECT_ID({TSQL.literal(function)}, N'IF') IS NOT NULL\n"
        f"    DROP FUNCTION {function};\n"
        "GO\n"
        f"{statement}"
        "GO\n"
    )


def scoring_function(function: str, model: SegmentModel) -> str:
    """The CREATE FUNCTION statement alone; ``function`` is its quoted name."""
    query = scoring_query(model, parameter_names(model.columns), TSQL)
    return function_text(function, model, query)


def function_text(function: str, model: SegmentModel, query: str) -> str:
    """The CREATE FUNCTION statement of a query of the model's parameters."""
    names = parameter_names(model.columns)
    types = {f.column: PARAMETER_TYPES[f.type] for f in model.preparation.features}
    parameters = ",\n".join(f"    {n} {types[c]}" for n, c in zip(names, model.columns))
    return (
        f"CREATE FUNCTION {function}\n(\n{parameters}\n)\nRETURNS TABLE\nAS\nRETURN\n(\n"
        + "\n".join("    " + line for line in query.splitlines())
        + "\n);\n"
    )


def parameter_names(columns: Sequence[str]) -> list[str]:
    """``@column`` for each column; ``@feature_<position>`` where that will not do."""
    names: list[str] = []
    for position, column in enumerate(columns, start=1):
        own = _PLAIN.fullmatch(column) and not column.lower().startswith("feature_")
        name = f"@{column}" if own else f"@feature_{position}"
        if name.lower() in (known.lower() for known in names):
            name = f"@feature_{position}"
        names.append(name)
    return names


def scoring_query(model: SegmentModel, values: Sequence[str], dialect: Dialect) -> str:
    """The query of one row: segment_id, segment_name, distance, runner_up_distance, is_outlier.

    Parameters
    ----------
    model : SegmentModel
    values : sequence of str
        An expression for each of the model's columns, in its order: of type float for a number,
        date for a date, nvarchar (varchar on DuckDB) for a category.
    dialect : Dialect
    """
    features = model.preparation.features
    positions = range(1, len(features) + 1)
    given = dict(zip(model.columns, values))
    own = [
        own_expression(f, given[f.column], dialect, levels=model.preparation.levels(f.column))
        for f in features
    ]
    transformed = [
        transformed_expression(f, f"x.x{p}", dialect) for p, f in zip(positions, features)
    ]
    scaled = [scaled_expression(f, f"t.t{p}") for p, f in zip(positions, features)]
    squared = " + ".join(f"(z.z{p} - c.c{p}) * (z.z{p} - c.c{p})" for p in positions)
    # Named before it is aggregated: an aggregate may not mix columns of its own query with those
    # of the row outside (error 8124).
    distance = f"{dialect.apply} (SELECT {squared} AS squared_distance) AS d"
    steps = [
        ("x", [f"{value} AS x{p}" for p, value in zip(positions, own)]),
        ("t", [f"{value} AS t{p}" for p, value in zip(positions, transformed)]),
        ("z", [f"{value} AS z{p}" for p, value in zip(positions, scaled)]),
    ]
    first, *rest = (
        f"(\n    SELECT\n        {_listed(columns)}\n) AS {name}" for name, columns in steps
    )
    nearest = dialect.first(
        1,
        "c.segment_id, c.segment_name, c.outlier_distance, d.squared_distance",
        f"    FROM {_centroids(model, dialect, ' ' * 4)}\n"
        f"    {distance}\n"
        "    WHERE d.squared_distance IS NOT NULL\n"
        "    ORDER BY d.squared_distance, c.segment_id",
    )
    lines = [
        "SELECT",
        "    n.segment_id,",
        "    n.segment_name,",
        "    SQRT(n.squared_distance) AS distance,",
        "    (",
        "        SELECT SQRT(MIN(d.squared_distance))",
        f"        FROM {_centroids(model, dialect, ' ' * 8)}",
        f"        {distance}",
        "        WHERE c.segment_id <> n.segment_id",
        "    ) AS runner_up_distance,",
        "    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1",
        f"              WHEN n.segment_id IS NOT NULL THEN 0 END AS {dialect.boolean_type})"
        " AS is_outlier",
        f"FROM {first}",
        *(f"{dialect.apply} {step}" for step in rest),
        f"{dialect.outer_apply} (",
        f"    {nearest}",
        f") AS n{dialect.outer_condition}",
    ]
    return "\n".join(lines)


def _listed(columns: Sequence[str]) -> str:
    return ",\n        ".join(columns)


def _centroids(model: SegmentModel, dialect: Dialect, margin: str) -> str:
    """A table of constants: segment_id, segment_name, outlier_distance, c1, c2 …"""

    limits = model.limits

    def limit(i: int) -> str:
        none = f"CAST(NULL AS {dialect.float_type})"
        return number(limits[i]) if limits else none

    rows = [
        ", ".join([str(i), dialect.literal(name), limit(i), *map(number, centroid)])
        for i, name, centroid in zip(model.segment_ids, model.names, model.centroids.tolist())
    ]
    coordinates = ", ".join(f"c{p}" for p in range(1, model.centroids.shape[1] + 1))
    listed = ",\n".join(f"{margin}    ({row})" for row in rows)
    names = f"segment_id, segment_name, outlier_distance, {coordinates}"
    return f"(VALUES\n{listed}\n{margin}) AS c ({names})"


def _shown(column: str) -> str:
    return "c." + (column if _PLAIN.fullmatch(column) else bracket(_one_line(column)))


def _one_line(words: str) -> str:
    """For a comment, which a line break would end."""
    return " ".join(words.split())
