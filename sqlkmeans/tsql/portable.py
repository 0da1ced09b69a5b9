"""A fitted model as one SELECT that scores a table, in the dialects of several databases.

T-SQL has rows of constants and OUTER APPLY (:mod:`sqlkmeans.tsql.scoring`), because SQL Server
limits what an expression may hold. The others have no such limit, and not all have a join like
that: there each step is a SELECT around the one before, and the nearest centroid is found by
comparing. It is written for DuckDB, where it is tested row by row, and translated by sqlglot.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from sqlkmeans._version import __version__
from sqlkmeans.clustering.describing.remedy import Steps
from sqlkmeans.database.duckdb.dialect import DIALECT as DUCKDB
from sqlkmeans.database.sqlserver.dialect import TSQL, bracket
from sqlkmeans.errors import DefinitionError
from sqlkmeans.model import SegmentModel
from sqlkmeans.sqltext import Name, Source, parse_source, quote, quote_name
from sqlkmeans.tsql.explaining import explaining_query
from sqlkmeans.tsql.expressions import (
    number,
    own_expression,
    scaled_expression,
    transformed_expression,
)
from sqlkmeans.tsql.scoring import scoring_query

#: How people call each, and its name.
DIALECTS = {
    "tsql": "T-SQL",
    "duckdb": "DuckDB",
    "postgres": "PostgreSQL",
    "spark": "Spark SQL",
    "bigquery": "BigQuery",
    "snowflake": "Snowflake",
}
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def scoring_select(
    name: str,
    model: SegmentModel,
    dialect: str,
    *,
    source: str,
    key: Sequence[str],
    booleans: Collection[str] = (),
) -> str:
    """One SELECT: the key, ``segment_id``, ``segment_name``, ``distance`` and ``is_outlier`` of
    each row.

    Parameters
    ----------
    name : str
        The segmentation.
    model : SegmentModel
    dialect : {"tsql", "duckdb", "postgres", "spark", "bigquery", "snowflake"}
    source : str
        What the rows are read from: a table by name; on DuckDB also a file or a SELECT.
    key : sequence of str
    booleans : collection of str, default=()
        Columns that are booleans there.

    Raises
    ------
    DefinitionError
        If there is no such dialect, the source is no table, or sqlglot is needed and not there.
    """
    if dialect not in DIALECTS:
        raise DefinitionError(f"dialect {dialect!r} given; allowed: {', '.join(DIALECTS)}")
    heading = (
        f"-- Segments of {' '.join(name.split())} as one SELECT for {DIALECTS[dialect]}, written "
        f"by sqlkmeans {__version__}.\n"
    )
    if dialect == "duckdb":
        return heading + _nested(model, _relation(source), key, _AS_IT_IS, booleans) + ";\n"
    parts = _table(source)
    if dialect == "tsql":
        return heading + _applied(model, parts, key, booleans) + ";\n"
    words = _Words(dialect)
    table = ".".join(map(words.quote, parts))
    return heading + _nested(model, table, key, words, booleans) + ";\n"


def explaining_macro(
    name: str, model: SegmentModel, steps: Mapping[int, Steps], *, booleans: Collection[str] = ()
) -> str:
    """A table macro of DuckDB, ``explain_<name>``: why a row is in its segment, a row a feature.

    Parameters
    ----------
    name : str
        The segmentation.
    model : SegmentModel
    steps : dict of int to Steps
        Which new values make sense, by position.
    booleans : collection of str, default=()
        Columns that are booleans there.
    """
    types = model.preparation.types
    given = [_value(column, kind, _AS_IT_IS, column in booleans) for column, kind in types.items()]
    macro, columns = quote(f"explain_{name}"), ", ".join(map(quote, types))
    return (
        f"-- Why a row is in its segment of {' '.join(name.split())}, and what would move it, for "
        f"DuckDB, written by sqlkmeans {__version__}. Use it so:\n"
        f"-- SELECT * FROM {' '.join(macro.split())}({' '.join(columns.split())})\n"
        f"CREATE OR REPLACE MACRO {macro}({columns}) AS TABLE\n"
        f"{explaining_query(model, given, DUCKDB, steps=steps)};\n"
    )


class _Words:
    """How a database writes names and expressions of DuckDB."""

    def __init__(self, dialect: str) -> None:
        try:
            import sqlglot
        except ModuleNotFoundError:
            raise DefinitionError(
                f'{DIALECTS[dialect]} needs sqlglot: python -m pip install "sqlkmeans[dialects]"; '
                "tsql and duckdb do without"
            ) from None
        self._translate = partial(
            sqlglot.transpile, read="duckdb", write=dialect,
            unsupported_level=sqlglot.ErrorLevel.RAISE,
        )  # fmt: skip
        # Snowflake takes a name without quotes as capitals, and most tables are made so.
        self._capitals = dialect == "snowflake"

    def quote(self, name: str) -> str:
        """A column's or a table's name."""
        return quote(name.upper() if self._capitals and _PLAIN.fullmatch(name) else name)

    def column(self, text: str) -> str:
        """An expression and its name."""
        return self._translate(f"SELECT {text}")[0].removeprefix("SELECT ")

    def table(self, text: str) -> str:
        """A table and its name."""
        return self._translate(f"SELECT 1 FROM {text}")[0].removeprefix("SELECT 1 FROM ")

    def number(self, value: str) -> str:
        """A number of 64 bits; none but DuckDB's own NaN stands for what is missing."""
        return value


class _DuckDBWords(_Words):
    def __init__(self) -> None:
        self._capitals = False

    def column(self, text: str) -> str:
        return text

    def table(self, text: str) -> str:
        return text

    def number(self, value: str) -> str:
        return f"CASE WHEN NOT isnan({value}) THEN {value} END"


_AS_IT_IS = _DuckDBWords()


def _parsed(source: str) -> Source:
    try:
        return parse_source(source)
    except ValueError as error:
        raise DefinitionError(f"table: {error}") from None


def _relation(source: str) -> str:
    """What stands after FROM on DuckDB."""
    parsed = _parsed(source)
    return f"({parsed.query}\n)" if parsed.name is None else quote_name(parsed.name)


def _table(source: str) -> Name:
    name = _parsed(source).name
    if name is None:
        raise DefinitionError(
            f"the rows are read from {source}, which is no table; name the table to score with "
            "--from"
        )
    return name


def _applied(
    model: SegmentModel, table: Name, key: Sequence[str], booleans: Collection[str]
) -> str:
    types = {"number": "float", "category": "nvarchar(4000)", "date": "date"}
    values = []
    for column, kind in model.preparation.types.items():
        value = f"s.{bracket(column)}"
        # Not every server casts a bit to float in one step.
        value = f"CAST({value} AS tinyint)" if column in booleans else value
        values.append(f"CAST({value} AS {types[kind]})")
    query = scoring_query(model, values, TSQL).replace("\n", "\n    ")
    keys = "".join(f"s.{bracket(column)}, " for column in key)
    return (
        f"SELECT {keys}f.segment_id, f.segment_name, f.distance, f.is_outlier\n"
        f"FROM {'.'.join(map(bracket, table))} AS s\nCROSS APPLY\n(\n    {query}\n) AS f"
    )


def _nested(
    model: SegmentModel, table: str, key: Sequence[str], words: _Words, booleans: Collection[str]
) -> str:
    """Each step around the one before: values, own units, transformed, scaled, distances, nearest.

    Inside, the key's columns are k1, k2 …, so that they may be called as a step's columns are.
    """
    features, ids, types = model.preparation.features, model.segment_ids, model.preparation.types
    place = {column: f"v{number}" for number, column in enumerate(types, start=1)}
    at = list(zip(range(1, len(features) + 1), features))
    levels = {column: model.preparation.levels(column) for column in types}
    own = [own_expression(f, place[f.column], DUCKDB, levels=levels[f.column]) for f in features]
    steps: list[list[str]] = [
        [f"{_value(c, kind, words, c in booleans)} AS {place[c]}" for c, kind in types.items()],
        [f"{value} AS x{p}" for p, value in enumerate(own, start=1)],
        [f"{transformed_expression(f, f'x{p}', DUCKDB)} AS t{p}" for p, f in at],
        [f"{scaled_expression(f, f't{p}')} AS z{p}" for p, f in at],
        [f"{_squared(centroid)} AS d{i}" for i, centroid in zip(ids, model.centroids.tolist())],
        [*(f"d{i}" for i in ids), f"{_nearest(ids)} AS segment_id"],
    ]
    keys = [f"k{number}" for number in range(1, len(key) + 1)]
    inner = [f"{words.quote(column)} AS {k}" for k, column in zip(keys, key)]
    query = f"FROM {words.table(f'{table} AS s')}"
    for depth, step in enumerate(steps, start=1):
        query = f"FROM (\n{_select([*inner, *step], words)}\n{query}\n) AS s{depth}"
        inner = keys
    names = " ".join(f"WHEN {i} THEN {DUCKDB.literal(n)}" for i, n in zip(ids, model.names))
    distances = " ".join(f"WHEN {i} THEN d{i}" for i in ids)
    beyond = ""
    if model.limits:
        limits = " ".join(f"WHEN {i} THEN {number(limit)}" for i, limit in model.limits.items())
        far = f"SQRT(CASE segment_id {distances} END) > CASE segment_id {limits} END"
        beyond = f"WHEN {far} THEN TRUE "
    last = [
        *(f"{k} AS {words.quote(column)}" for k, column in zip(keys, key)),
        "segment_id",
        f"CASE segment_id {names} END AS segment_name",
        f"SQRT(CASE segment_id {distances} END) AS distance",
        f"CASE {beyond}WHEN segment_id IS NOT NULL THEN FALSE END AS is_outlier",
    ]
    return f"{_select(last, words)}\n{query}"


def _select(columns: Sequence[str], words: _Words) -> str:
    return "SELECT\n    " + ",\n    ".join(map(words.column, columns))


def _value(name: str, kind: str, words: _Words, boolean: bool) -> str:
    column = words.quote(name)
    if boolean:
        # Few databases cast a boolean to a number, and each has other texts for it.
        yes, no = ("'1'", "'0'") if kind == "category" else ("1e0", "0e0")
        return f"CASE WHEN {column} THEN {yes} WHEN NOT {column} THEN {no} END"
    if kind == "category":
        return f"CAST({column} AS varchar)"
    return (
        f"CAST({column} AS date)" if kind == "date" else words.number(f"CAST({column} AS double)")
    )


def _squared(centroid: Sequence[float]) -> str:
    differences = (
        f"(z{p} - {number(c) if c >= 0 else f'({number(c)})'})"
        for p, c in enumerate(centroid, start=1)
    )
    return " + ".join(f"{difference} * {difference}" for difference in differences)


def _nearest(ids: Sequence[int]) -> str:
    """The id of the least distance, the lowest of several; NULL where a distance is."""
    cases = []
    for place, i in enumerate(ids):
        # Where it is not the least of all, an earlier one was taken.
        others = [f"d{i} <= d{j}" for j in ids[place + 1 :]] or [f"d{i} IS NOT NULL"]
        cases.append(f"WHEN {' AND '.join(others)} THEN {i}")
    return f"CASE {' '.join(cases)} END"
