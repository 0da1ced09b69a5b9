"""Reading from DuckDB: what a source looks like, and how its columns are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from sqlkmeans.database.duckdb.dialect import DIALECT
from sqlkmeans.database.duckdb.statements import first_line
from sqlkmeans.database.source import Batch, Column, split_batch
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.sqltext import Name, named_files, parse_name, parse_source, quote, quote_name

#: What a source may read beside the database.
FILES_ALLOWED = (
    "allowed: a .csv or .parquet file whose path stands as a table in the source of the definition "
    "file that is given (docs/connect.md)"
)

_NUMBERS = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
    "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE",
}  # fmt: skip
_INEXACT = {"FLOAT", "DOUBLE"}
_WHOLE_NUMBERS = _NUMBERS - _INEXACT
_DATES = {
    "DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
_OTHER_KEYS = {"UUID", "BLOB", "BOOLEAN"}


def describe(native: duckdb.DuckDBPyConnection, source: str) -> list[Column]:
    """The columns of a table, view or SELECT."""
    try:
        rows = native.execute(f"DESCRIBE SELECT * FROM {relation(source)}").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise DataError(f"source {source}: {_with_advice(error)}") from None
    except duckdb.PermissionException as error:
        missing = [file for file in named_files(source) if not Path(file).exists()]
        if missing:
            raise DataError([f"source: there is no file {file}" for file in missing]) from None
        raise DataError(f"source {source}: {first_line(error)}; {FILES_ALLOWED}") from None
    except duckdb.Error as error:
        raise DataError(f"source {source}: DuckDB cannot run it: {first_line(error)}") from None
    return [_column(str(row[0]), str(row[1])) for row in rows]


def describe_table(native: duckdb.DuckDBPyConnection, name: str) -> list[Column] | None:
    """The columns of a table; None where there is no such table."""
    place = _schema_and_table(parse_name(name))
    there = native.execute(
        "SELECT 1 FROM duckdb_tables() "
        "WHERE lower(schema_name) = lower($1) AND lower(table_name) = lower($2) "
        "UNION ALL SELECT 1 FROM duckdb_views() "
        "WHERE lower(schema_name) = lower($1) AND lower(view_name) = lower($2)",
        place,
    ).fetchone()
    if there is None:
        return None
    try:
        rows = native.execute(f"DESCRIBE {quote_name(place)}").fetchall()
    except duckdb.Error:
        # A view whose table is not there any more. This takes longer: the catalogue of all
        # columns has those of a hundred views of DuckDB's own.
        rows = native.execute(
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE lower(schema_name) = lower(?) AND lower(table_name) = lower(?) "
            "ORDER BY column_index",
            place,
        ).fetchall()
    return [_column(str(row[0]), str(row[1])) for row in rows] or None


def is_table(native: duckdb.DuckDBPyConnection, source: str) -> bool:
    """Whether a source is a table, which is read as it lies."""
    name = parse_source(source).name
    return name is not None and bool(
        native.execute(
            "SELECT 1 FROM duckdb_tables() "
            "WHERE lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
            _schema_and_table(name),
        ).fetchall()
    )


def feature_values(
    native: duckdb.DuckDBPyConnection,
    segmentation: Segmentation,
    features: Sequence[str],
    types: Mapping[str, str] | None = None,
) -> list[str]:
    """How a query reads each feature, as :class:`Batch` says; ``types`` has those of others."""
    columns = {column.name: column for column in describe(native, segmentation.source)}
    types = {**segmentation.feature_types, **(types or {})}
    return [
        f"{DIALECT.feature(columns[name], types.get(name, 'number'), quote(name))} AS {quote(name)}"
        for name in features
    ]


def batches(reader: pa.RecordBatchReader, n_keys: int, n_features: int) -> Iterator[Batch]:
    """What a query of keys, features and a weight gives."""
    try:
        for batch in reader:
            yield split_batch(batch, n_keys, n_features)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise DataError(f"source: reading stopped: {first_line(error)}") from None


def relation(source: str) -> str:
    """What stands after FROM: a name, or a SELECT in parentheses."""
    parsed = parse_source(source)
    if parsed.name is not None:
        return quote_name(parsed.name)
    query = str(parsed.query)
    statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise DataError("source: allowed: a table, a view, or one SELECT")
    # The line break ends a comment that the query may end with.
    return f"({query}\n) AS source"


def same_customer(
    columns: Sequence[Column], segmentation: Segmentation, customer: Sequence[str]
) -> str:
    """The condition that finds a customer by the key's values as text, one parameter each."""
    types = {column.name: column.type for column in columns}
    conditions = []
    for key, value in zip(segmentation.key, customer):
        kind = types[key]
        # DuckDB would round 41.7 to the customer 42.
        if kind in _WHOLE_NUMBERS and not value.strip().lstrip("+-").isdecimal():
            raise DataError(f"key {key}: {value!r} given; allowed: a whole number")
        text = "unhex(substr(?, 3))" if kind == "BLOB" else f"CAST(? AS {kind})"
        conditions.append(f"{quote(key)} = {text}")
    return " AND ".join(conditions)


def _schema_and_table(parts: Name) -> tuple[str, str]:
    return (parts[-2] if len(parts) > 1 else "main", parts[-1])


def _column(name: str, type_name: str) -> Column:
    base = type_name.split("(")[0]
    if base in _NUMBERS or base == "DECIMAL":
        kind = "number"
    elif base == "BOOLEAN":
        kind = "boolean"
    elif base == "VARCHAR" or base.startswith("ENUM"):
        kind = "text"
    else:
        kind = "date" if base in _DATES else "other"
    exact = (base in _NUMBERS and base not in _INEXACT) or base == "DECIMAL"
    category = kind in ("text", "boolean") or base == "UUID" or (base in _NUMBERS - _INEXACT)
    can_be_key = exact or base == "VARCHAR" or base in _DATES | _OTHER_KEYS
    return Column(name, type_name, kind, can_be_key, category)


def _with_advice(error: BaseException) -> str:
    """The first line of an error of DuckDB's, and which names it thinks were meant."""
    first, *others = str(error).strip().split("\n")
    advice = [line for line in others if line.startswith(("Did you mean", "Candidate bindings"))]
    return "; ".join([first.rstrip("!"), *advice[:1]])
