"""Data frames as people hold them, as Arrow tables that a database takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sqlkmeans.clustering.preparation.raw_rows import YES_AND_NO, level_text
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.sqltext import is_data_file, quote

if TYPE_CHECKING:
    import pandas as pd

ALLOWED = "a pandas or polars frame, an Arrow table, or the path of a .csv or .parquet file"


def to_arrow(data: Any) -> pa.Table:
    """The rows of a frame as an Arrow table, missing values as NULL.

    Parameters
    ----------
    data : pandas.DataFrame, polars.DataFrame, pyarrow.Table, or path-like
        A file is read as ``sqlkmeans run`` reads it.

    Raises
    ------
    DefinitionError
        If it is none of these, or two columns have one name; a database does not tell ``Age`` from
        ``age``.
    DataError
        If the file cannot be read.
    """
    if isinstance(data, (str, os.PathLike)):
        table = _from_file(os.fspath(data))
    elif is_pandas(data):
        names = [str(name) for name in data.columns]
        _refuse_repeats(names)
        columns = (data.iloc[:, position] for position in range(len(names)))
        table = pa.table(dict(zip(names, map(_from_series, columns))))
    elif hasattr(data, "collect_schema") and hasattr(data, "collect"):
        table = to_arrow(data.collect())  # a frame of polars that was not computed yet
    elif hasattr(data, "__arrow_c_stream__"):
        table = pa.table(data)
    else:
        raise DefinitionError(f"a {type(data).__name__} given; allowed: {ALLOWED}")
    _refuse_repeats(table.column_names)
    return pa.table({name: _plain(table.column(name)) for name in table.column_names})


def is_pandas(data: Any) -> bool:
    """Whether it is a data frame of pandas, which then is loaded already."""
    return type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "iloc")


def index_of(data: Any, rows: int) -> pd.Index[Any]:
    """The index of a frame; 0, 1, 2 … where it has none."""
    import pandas as pd

    return data.index if is_pandas(data) else pd.RangeIndex(rows)


def whole_as_integers(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """The same with floats of these columns that are all whole as integers.

    pandas makes floats of integers where one is missing; a float is no key and no category.
    """
    for name in names:
        if name in table.column_names and pa.types.is_floating(table.schema.field(name).type):
            try:
                whole = table.column(name).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(table.column_names.index(name), name, whole)
    return table


def _refuse_repeats(names: Iterable[str]) -> None:
    counts = Counter(name.lower() for name in names)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise DefinitionError(
            f"columns {', '.join(repeated)}: twice in the frame, capitals aside; allowed: each once"
        )


def _from_file(path: str) -> pa.Table:
    import duckdb

    if not is_data_file(path):
        raise DefinitionError(f"{path} given; allowed: {ALLOWED}")
    if not os.path.isfile(path):
        raise DefinitionError(f"{path}: there is no such file")
    with duckdb.connect() as connection:
        try:
            # A path in quotes, in which a * or a ? would stand for other files too.
            return connection.sql(f"FROM {quote(path)}").to_arrow_table()
        except duckdb.Error as error:
            first = str(error).strip().split("\n")[0]
            raise DataError(f"{path}: DuckDB cannot read it: {first}") from None


def _from_series(values: Any) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # Values of several kinds, or of one that Arrow does not know: as texts, as a model's
        # `predict` reads a category.
        return pa.array(list(_texts(values)), pa.string())


def _texts(values: Iterable[Any]) -> Iterator[str | None]:
    return (level_text(value) for value in values)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of a type that a database has."""
    kind = column.type
    if pa.types.is_string_view(kind):
        return _plain(column.cast(pa.large_string()))
    if pa.types.is_dictionary(kind):
        return _plain(_decoded(column))
    if isinstance(kind, pa.BaseExtensionType):
        return pa.chunked_array([pa.array(_texts(column.to_pylist()), pa.string())])
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return _yes_and_no(column) if is_text else column


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values that a dictionary's codes stand for."""
    values = column.type.value_type
    # What polars has Arrow cannot take from.
    kind = pa.large_string() if pa.types.is_string_view(values) else values
    chunks = [chunk.dictionary.cast(kind).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(chunks, kind)


def _yes_and_no(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as booleans where they say yes or no, as a file of them is read."""
    levels = column.unique().to_pylist()
    meant = {level: None if level is None else level.strip().lower() for level in levels}
    if len(levels) > len(YES_AND_NO) or not set(meant.values()) - {None} <= set(YES_AND_NO):
        return column
    encoded = column.combine_chunks().dictionary_encode()
    words = [meant[level] for level in encoded.dictionary.to_pylist()]
    values = pa.array([None if word is None else bool(YES_AND_NO[word]) for word in words],
                      pa.bool_())  # fmt: skip
    return pa.chunked_array([values.take(encoded.indices)])
