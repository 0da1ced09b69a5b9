"""Types of Spark and of Arrow: what can be done with a column, and how it travels."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sqlkmeans.database.source import Column
from sqlkmeans.errors import DataError

_WHOLE = {"tinyint", "smallint", "int", "bigint"}
_DATES = {"date", "timestamp", "timestamp_ntz"}
_TEXTS = {"string", "char", "varchar"}


def column(name: str, type_name: str) -> Column:
    """A column of a table, by Spark's own name of its type: ``decimal(12,2)``."""
    base = type_name.split("(")[0].split(" ")[0]
    if base in _WHOLE or base in {"float", "double", "decimal"}:
        kind = "number"
    elif base in _TEXTS:
        kind = "text"
    elif base == "boolean":
        kind = "boolean"
    else:
        kind = "date" if base in _DATES else "other"
    exact = _WHOLE | _TEXTS | _DATES | {"decimal", "boolean", "binary"}
    return Column(
        name, type_name, kind, base in exact, base in _WHOLE or kind in ("text", "boolean")
    )


def for_spark(columns: Sequence[pa.ChunkedArray], names: Sequence[str]) -> pa.Table:
    """Columns as Spark takes them, which has no unsigned numbers, UUIDs and nanoseconds.

    Raises
    ------
    DataError
        If a value would not be the same.
    """
    try:
        return pa.table([_for_spark(one) for one in columns], names=list(names))
    except pa.ArrowException as error:
        raise DataError(f"source: a key cannot travel to Spark: {error}") from None


def _for_spark(values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):  # as UUIDs are
        return pa.chunked_array([[None if v is None else str(v) for v in values.to_pylist()]])
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
        return values.cast(pa.string())
    if pa.types.is_large_binary(kind):
        return values.cast(pa.binary())
    if pa.types.is_unsigned_integer(kind):
        return values.cast(pa.decimal128(20) if kind.bit_width == 64 else pa.int64())
    if pa.types.is_timestamp(kind) and kind.unit != "us":
        return values.cast(pa.timestamp("us", kind.tz))
    return values


def as_before(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A key column in the type it had before it went to Spark, where Arrow can cast to it."""
    if values.type == kind or isinstance(kind, pa.BaseExtensionType):
        return values
    return values.cast(kind)


def widened(kind: pa.DataType) -> pa.DataType:
    """The type in which a key of Spark's comes to a database."""
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    # A moment in UTC.
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else kind
