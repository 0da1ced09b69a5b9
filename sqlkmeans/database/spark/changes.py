"""Which rows of a source that Spark reads changed, and who is not in it any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from sqlkmeans.database.source import ChangedRows, Column
from sqlkmeans.database.spark.dialect import SparkDialect, backquote
from sqlkmeans.database.spark.session import changed, told
from sqlkmeans.database.spark.types import as_before, for_spark
from sqlkmeans.database.spark.views import Views
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.memory import free_memory

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: A row can be stamped, and committed only later, so changes are looked for from so long before
#: the newest stamp on.
OVERLAP = "INTERVAL 1 HOUR"

#: Keys that come to this process at a time, about so many: Spark gives no more at once than
#: ``spark.driver.maxResultSize``, 1 GB.
PART_KEYS = 10_000_000
#: So many go to every executor, so that the rows stay where they are.
FEW_KEYS = 1_000_000

#: What comparing takes of memory at least; as a rule half of what is free.
LEAST_BYTES = 2**28

_TIMES = {"timestamp", "timestamp_ntz"}
_NUMBERS = {"int", "bigint"}


def keys_of(session: SparkSession, query: str, keys: Sequence[str], rows: int) -> pa.Table:
    """Rows of a query, here. Where they come in parts, each key is in one of them, so that these
    may be of different moments.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    query : str
        It has no WHERE.
    keys : sequence of str
    rows : int
        How many there are, about.
    """
    parts = max(1, -(-rows // PART_KEYS))
    if parts == 1:
        return session.sql(query).toArrow()
    listed = ", ".join(map(backquote, keys))
    found = (
        session.sql(f"{query} WHERE PMOD(XXHASH64({listed}), {parts}) = {part}").toArrow()
        for part in range(parts)
    )
    return pa.concat_tables(found)


def unknown_since(column: Column, since: str) -> str | None:
    """Why a mark says nothing of a column; None where it does.

    Moments with a zone and without one are other moments, though they look the same.
    """
    if since.rpartition(" ")[2] == column.type:
        return None
    return f"changed_by {column.name} is {column.type}, and the mark of the run before is {since}"


def as_published(name: str, values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A key column of the source in the type of the published one.

    Raises
    ------
    DataError
        If that has other values.
    """
    try:
        if pa.types.is_date(values.type) != pa.types.is_date(kind):
            raise pa.ArrowInvalid("a day is no moment")
        return as_before(values, kind)
    except pa.ArrowException as error:
        raise DataError(
            f"key {name}: it is {values.type} and was published as {kind}: {error}; name another "
            "target"
        ) from None


def newest(column: Column) -> str:
    """The high-water mark of a column as an aggregate.

    Raises
    ------
    DataError
        If the type says nothing of the order of changes.
    """
    name = backquote(column.name)
    if column.type in _TIMES:
        return f"CAST(MAX({name}) - {OVERLAP} AS string)"
    if column.type in _NUMBERS:
        return f"CAST(MAX({name}) AS string)"
    raise DataError(
        f"changed_by {column.name}: its type is {column.type}; allowed: timestamp, timestamp_ntz, "
        "and integers (int, bigint) that grow with every change"
    )


def compare(
    seen: pa.Table, is_changed: pa.ChunkedArray, published: pa.Table
) -> tuple[pa.Array, pa.Array]:
    """Where the keys stand that have to be looked at, and the published ones that departed.

    Parameters
    ----------
    seen : pyarrow.Table
        The source's keys, of the types of the published ones.
    is_changed : pyarrow.ChunkedArray of bool
        Whether their rows may have changed.
    published : pyarrow.Table
        The keys that have a label.

    Returns
    -------
    pyarrow.Array, pyarrow.Array
        Of ``seen``, and of ``published``.
    """
    places = _places(published.columns)
    same = " AND ".join(f"s.{place} = p.{place}" for place in places)
    with (
        TemporaryDirectory(prefix="sqlkmeans_keys_", ignore_cleanup_errors=True) as folder,
        duckdb.connect(
            ":memory:",
            config={
                "temp_directory": folder,
                "memory_limit": f"{max(LEAST_BYTES, free_memory() // 2)}B",
            },
        ) as connection,
    ):
        for name, keys in (("seen", seen), ("published", published)):
            listed = pa.table([*keys.columns, np.arange(len(keys))], names=[*places, "row"])
            if name == "seen":
                listed = listed.append_column("is_changed", is_changed)
            connection.register(name, listed)
        looked_at = connection.execute(
            "SELECT row FROM seen AS s WHERE is_changed "
            f"OR NOT EXISTS (SELECT 1 FROM published AS p WHERE {same})"
        ).to_arrow_table()
        departed = connection.execute(
            "SELECT row FROM published AS p "
            f"WHERE NOT EXISTS (SELECT 1 FROM seen AS s WHERE {same})"
        ).to_arrow_table()
    return looked_at["row"], departed["row"]


def _places(keys: Sequence[object]) -> list[str]:
    return [f"k{n}" for n in range(1, len(keys) + 1)]


class SourceChanges:
    """The changes that one run looks at; they are kept until it ends.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    keep : {"cache", "checkpoint"}
        As the rows of a run are kept.
    """

    def __init__(self, session: SparkSession, keep: str) -> None:
        self._session = session
        self._keep = keep
        self._rows = 0
        self._views = Views()

    def high_water(self, column: Column, rows: str) -> str | None:
        """The mark of a source as it is now, with the column's type behind it; None where the
        column has no value."""
        query = f"SELECT {newest(column)} AS mark, COUNT(*) AS counted FROM {rows}"
        with told("looking for changes", of_source=True):
            ((mark, self._rows),) = self._session.sql(query).collect()
        return None if mark is None else f"{mark} {column.type}"

    def find(
        self, segmentation: Segmentation, columns: Mapping[str, Column], since: str, rows: str,
        published: pa.Table,
    ) -> ChangedRows:  # fmt: skip
        """Compare the keys of a source with the published ones: here, because a shuffle of both
        takes longer than either takes to travel.

        Parameters
        ----------
        segmentation : Segmentation
        columns : mapping of str to Column
            Of the source.
        since : str
            As :meth:`high_water` gave it.
        rows : str
            The source, as it stands after FROM.
        published : pyarrow.Table
            The keys that have a label.
        """
        by = columns[str(segmentation.changed_by)]
        with told("comparing the keys with the published ones", of_source=True):
            about = max(published.num_rows, self._rows)
            *keys, is_changed = self._seen(segmentation.key, by, since, rows, about).columns
            typed = zip(segmentation.key, keys, published.schema.types)
            same = pa.table([as_published(*one) for one in typed], published.column_names)
            looked_at, departed = compare(same, is_changed, published)
            wanted = for_spark([one.take(looked_at) for one in keys], _places(keys))
            source = self._changed(segmentation, wanted, rows)
        return ChangedRows(source, published.take(departed))

    def _seen(
        self, names: Sequence[str], by: Column, since: str, rows: str, about: int
    ) -> pa.Table:
        """The source's keys, and behind them whether their rows may have changed."""
        listed = ", ".join(map(backquote, names))
        mark = f"CAST({SparkDialect().literal(since.rpartition(' ')[0])} AS {by.type})"
        # A stamp that is NULL, or a mark that is none of this type, tells nothing.
        query = (
            f"SELECT {listed}, NOT COALESCE({backquote(by.name)} < {mark}, FALSE) AS `is changed` "
            f"FROM {rows}"
        )
        return keys_of(self._session, query, names, about)

    def _changed(self, segmentation: Segmentation, keys: pa.Table, rows: str) -> str:
        """A view of the rows with these keys."""
        with changed(self._session, {"spark.sql.timestampType": "TIMESTAMP_NTZ"}):
            given = self._session.createDataFrame(keys)
        wanted = self._views.name(given)
        # With <=> a key that is NULL is found too, and told of as in any run.
        same = " AND ".join(
            f"s.{backquote(name)} <=> w.{place}"
            for name, place in zip(segmentation.key, keys.column_names)
        )
        names = dict.fromkeys([*segmentation.key, *segmentation.columns])
        hint = "/*+ BROADCAST(w) */ " if keys.num_rows <= FEW_KEYS else ""
        found = self._session.sql(
            f"SELECT {hint}{', '.join(f's.{backquote(name)}' for name in names)} "
            f"FROM (SELECT * FROM {rows}) AS s LEFT SEMI JOIN {wanted} AS w ON {same}"
        )
        # What is read of the source again is of another moment.
        if self._keep == "checkpoint":
            found = found.checkpoint()
        else:
            self._views.keep(found).count()
        return self._views.name(found)

    def close(self) -> None:
        """Let go of what was kept; the session lives on."""
        self._views.close()
