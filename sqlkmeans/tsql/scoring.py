"""A fitted model as SQL: a function that scores one row inside any query.

The text does what :meth:`SegmentModel.predict` does, in the same order: prepare
(:mod:`sqlkmeans.tsql.expressions`), add up squared differences a feature at a time, take the
nearest centroid, the lowest segment id on a tie. Squared distances are compared, so that no root
can round two of them to the same number. A missing value that the model does not fill in makes
every column NULL, where ``predict`` says 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlkmeans._version import __version__
from sqlkmeans.model import SegmentModel
from sqlkmeans.tsql.expressions import (
    TSQL,
    TSQL_LEAST,
    Dialect,
    number,
    own_expression,
    scaled_expression,
    text,
    transformed_expression,
)

#: LEAST takes this many values on SQL Server.
MOST_VALUES_OF_LEAST = 254
#: Of a parameter, by the type of its feature. A text may be longer than any level.
PARAMETER_TYPES = {"number": "float", "category": "nvarchar(4000)", "date": "date"}

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def scoring_script(name: str, model: SegmentModel, *, least: bool = False) -> str:
    """A script that makes the function ``sqlkmeans.assign_<name>``, for any SQL Server database.

    Parameters
    ----------
    name : str
        The segmentation.
    model : SegmentModel
    least : bool, default=False
        Write LEAST, which SQL Server has from 2022 on, instead of a form for all versions.
    """
    function = f"sqlkmeans.{bracket('assign_' + name)}"
    literal = function.replace("'", "''")
    dialect = TSQL_LEAST if least else TSQL
    columns = ", ".join(_shown(column) for column in model.columns)
    return (
        f"-- Segments of {_one_line(name)}, written by sqlkmeans {__version__}. Use it so:\n"
        f"-- SELECT c.*, f.segment_id, f.segment_name FROM <table> AS c\n"
        f"-- CROSS APPLY {_one_line(function)}({columns}) AS f;\n"
        "IF SCHEMA_ID(N'sqlkmeans') IS NULL\n"
        "    EXECUTE (N'CREATE SCHEMA sqlkmeans AUTHORIZATION dbo;');\n"
        "GO\n"
        f"IF OBJECT_ID(N'{literal}', N'IF') IS NOT NULL\n"
        f"    DROP FUNCTION {function};\n"
        "GO\n"
        f"{scoring_function(function, model, dialect)}"
        "GO\n"
    )


def scoring_function(function: str, model: SegmentModel, dialect: Dialect = TSQL) -> str:
    """The CREATE FUNCTION statement alone; ``function`` is its quoted name."""
    names = parameter_names(model.columns)
    types = {f.column: PARAMETER_TYPES[f.type] for f in model.preparation.features}
    parameters = ",\n".join(f"    {n} {types[c]}" for n, c in zip(names, model.columns))
    query = scoring_query(model, names, dialect)
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
    """The query of one row: segment_id, segment_name, distance, runner_up_distance.

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
    distances = [
        " + ".join(
            f"(z.z{p} - ({number(value)})) * (z.z{p} - ({number(value)}))"
            for p, value in zip(positions, centroid)
        )
        for centroid in model.centroids.tolist()
    ]
    ids = model.segment_ids
    nearest = _least([f"d.d{i}" for i in ids], dialect)
    others = _least([f"CASE WHEN b.segment_id <> {i} THEN d.d{i} END" for i in ids], dialect)
    named = " ".join(f"WHEN {i} THEN {text(name, dialect)}" for i, name in zip(ids, model.names))
    winner = " ".join(f"WHEN d.d{i} THEN {i}" for i in ids)
    steps = [
        ("x", [f"{value} AS x{p}" for p, value in zip(positions, own)]),
        ("t", [f"{value} AS t{p}" for p, value in zip(positions, transformed)]),
        ("z", [f"{value} AS z{p}" for p, value in zip(positions, scaled)]),
        ("d", [f"{value} AS d{i}" for i, value in zip(ids, distances)]),
        ("n", [f"{nearest} AS squared_distance"]),
        ("b", [f"CASE n.squared_distance {winner} END AS segment_id"]),
    ]
    first, *rest = (
        f"(\n    SELECT\n        {_listed(columns)}\n) AS {name}" for name, columns in steps
    )
    return (
        "SELECT\n"
        "    b.segment_id,\n"
        f"    CASE b.segment_id {named} END AS segment_name,\n"
        "    SQRT(n.squared_distance) AS distance,\n"
        f"    SQRT({others}) AS runner_up_distance\n"
        f"FROM {first}\n" + "\n".join(f"{dialect.apply} {step}" for step in rest)
    )


def _listed(columns: Sequence[str]) -> str:
    return ",\n        ".join(columns)


def _least(values: Sequence[str], dialect: Dialect) -> str:
    if dialect.least and len(values) <= MOST_VALUES_OF_LEAST:
        return f"LEAST({', '.join(values)})"
    rows = ", ".join(f"({value})" for value in values)
    return f"(SELECT MIN(v.value) FROM (VALUES {rows}) AS v (value))"


def bracket(name: str) -> str:
    """An identifier in brackets."""
    return "[" + name.replace("]", "]]") + "]"


def _shown(column: str) -> str:
    return "c." + (column if _PLAIN.fullmatch(column) else bracket(_one_line(column)))


def _one_line(words: str) -> str:
    """For a comment, which a line break would end."""
    return " ".join(words.split())
