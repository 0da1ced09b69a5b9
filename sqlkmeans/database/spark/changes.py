"""Which rows of a source that Spark reads changed, and who is not in it any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa

from sqlkmeans.database.source import ChangedRows, Column
from sqlkmeans.database.spark.dialect import SparkDialect, backquote
from sqlkmeans.database.spark.session import changed, told, told_nothing
from sqlkmeans.database.spark.types import as_before, for_spark
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: A row can be stamped, and committed only later, so changes are looked for from so long before
#: the newest stamp on.
OVERLAP = "INTERVAL 1 HOUR"

_TIMES = {"timestamp", "timestamp_ntz"}
_NUMBERS = {"int", "bigint"}


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


def differences(
    key: Sequence[Column], changed_by: Column, since: str, rows: str, published: str
) -> str:
    """A query for the keys that have to be looked at: ``k1, k2, …``, and whether they are in
    the source: ``stays``.

    The keys alone are shuffled, once, and all that is told of them is of one moment.

    Parameters
    ----------
    key : sequence of Column
    changed_by : Column
    since : str
        The mark of the run before.
    rows : str
        The source, as it stands after FROM.
    published : str
        A view of the published keys, ``k1, k2, …``.
    """
    mark = f"CAST({SparkDialect().literal(since)} AS {changed_by.type})"
    places = [f"k{n}" for n, _ in enumerate(key, start=1)]
    theirs = ", ".join(f"{backquote(one.name)} AS {place}" for one, place in zip(key, places))
    ours = ", ".join(f"CAST({place} AS {one.type})" for one, place in zip(key, places))
    listed = ", ".join(places)
    # A stamp that is NULL, or a mark that is none of this type, tells nothing.
    is_old = f"COALESCE({backquote(changed_by.name)} < {mark}, FALSE)"
    return (
        f"SELECT {listed}, MAX(here) = 1 AS stays FROM (\n"
        f"SELECT {theirs}, CASE WHEN {is_old} THEN 0 ELSE 1 END AS changed, 1 AS here, 0 AS known\n"
        f"FROM {rows}\nUNION ALL\n"
        f"SELECT {ours}, 0, 0, 1 FROM {published}) AS k\n"
        f"GROUP BY {listed} HAVING MAX(changed) = 1 OR MAX(here) <> MAX(known)"
    )


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
        self._prefix = f"sqlkmeans_{uuid4().hex[:8]}"
        self._kept: list[DataFrame] = []
        self._views: list[str] = []

    def high_water(self, column: Column, rows: str) -> str | None:
        """The mark of a source as it is now; None where the column has no value."""
        with told("looking for changes", of_source=True):
            found = self._session.sql(f"SELECT {newest(column)} AS mark FROM {rows}").collect()
        return None if found[0][0] is None else str(found[0][0])

    def find(
        self, segmentation: Segmentation, columns: Mapping[str, Column], since: str, rows: str,
        published: pa.Table,
    ) -> ChangedRows:  # fmt: skip
        """Compare the keys of a source with the published ones, which travel to Spark.

        Parameters
        ----------
        segmentation : Segmentation
        columns : mapping of str to Column
            Of the source.
        since : str
        rows : str
            The source, as it stands after FROM.
        published : pyarrow.Table
            The keys that have a label.
        """
        places = [f"k{n}" for n, _ in enumerate(segmentation.key, start=1)]
        key = [columns[name] for name in segmentation.key]
        with told("comparing the keys with the published ones", of_source=True):
            with changed(self._session, {"spark.sql.timestampType": "TIMESTAMP_NTZ"}):
                given = self._session.createDataFrame(for_spark(published.columns, places))
            known = self._view("published", given)
            by = columns[str(segmentation.changed_by)]
            query = differences(key, by, since, rows, known)
            found = self._view("differences", self._keep_rows(self._session.sql(query)))
            gone = self._session.sql(f"SELECT {', '.join(places)} FROM {found} WHERE NOT stays")
            departed = gone.toArrow()
            # With <=> a key that is NULL is found too, and told of as in any run.
            same = " AND ".join(
                f"s.{backquote(one.name)} <=> d.{place}" for one, place in zip(key, places)
            )
            names = dict.fromkeys([*segmentation.key, *segmentation.columns])
            changes = self._session.sql(
                f"SELECT {', '.join(f's.{backquote(name)}' for name in names)} "
                f"FROM (SELECT * FROM {rows}) AS s "
                f"LEFT SEMI JOIN (SELECT * FROM {found} WHERE stays) AS d ON {same}"
            )
            source = self._view("changed", self._keep_rows(changes))
        types = published.schema.types
        return ChangedRows(
            source,
            pa.table(
                [as_before(values, kind) for values, kind in zip(departed.columns, types)],
                names=published.column_names,
            ),
        )

    def _keep_rows(self, rows: DataFrame) -> DataFrame:
        """What is read of the source again is of another moment."""
        if self._keep == "checkpoint":
            return rows.checkpoint()
        self._kept.append(rows.persist())
        rows.count()
        return rows

    def _view(self, name: str, rows: DataFrame) -> str:
        view = f"{self._prefix}_{name}"
        rows.createOrReplaceTempView(view)
        self._views.append(view)
        return view

    def close(self) -> None:
        """Let go of what was kept; the session lives on."""
        with told_nothing():
            for rows in self._kept:
                rows.unpersist()
            for view in self._views:
                self._session.catalog.dropTempView(view)
