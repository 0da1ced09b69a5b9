"""Which rows of a source changed, on SQL Server, and what is published of those that did not."""

from __future__ import annotations

from collections.abc import Sequence

from sqlkmeans.database.sqlserver_types import SqlColumn, beside, bracket, relation, text
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError

# A row can be stamped, and committed only later, so changes are looked for from an hour before the
# newest stamp on.
_TIMES = frozenset({"datetime", "datetime2", "smalldatetime", "datetimeoffset"})
_NUMBERS = frozenset({"bigint", "int"})


def _is_rowversion(column: SqlColumn) -> bool:
    # A view may have cast it.
    return column.base in ("timestamp", "rowversion") or (
        column.base == "binary" and column.max_length == 8
    )


def high_water_query(column: SqlColumn, source: str) -> str:
    """A query for the high-water mark as text.

    MIN_ACTIVE_ROWVERSION() is above every committed row and not above any that is still to be
    committed, which the highest value of the column is not.

    Raises
    ------
    DataError
        If the type says nothing of the order of changes.
    """
    if _is_rowversion(column):
        return "SELECT CONVERT(varchar(40), CAST(MIN_ACTIVE_ROWVERSION() AS binary(8)), 1);"
    name = f"source.{bracket(column.name)}"
    if column.base in _TIMES:
        newest = f"CONVERT(varchar(40), DATEADD(hour, -1, MAX({name})), 121)"
    elif column.base in _NUMBERS:
        newest = f"CONVERT(varchar(40), MAX({name}))"
    else:
        raise DataError(
            f"changed_by {column.name}: its type is {column.type}; allowed: rowversion, datetime2, "
            "datetime, datetimeoffset, and integers that grow with every change"
        )
    return f"SELECT {newest} FROM {relation(source)};"


def changed_rows(segmentation: Segmentation, column: SqlColumn, since: str) -> str:
    """A SELECT of rows that are not older than a mark, or not known to be, or have no label."""
    name = f"source.{bracket(column.name)}"
    mark = f"CAST({text(since)} AS bigint)"
    if _is_rowversion(column):
        mark = f"CONVERT(binary(8), {text(since)}, 1)"
    elif column.base in _TIMES:
        mark = f"CONVERT({column.type}, {text(since)}, 121)"
    same = _same(segmentation, "label", "source")
    return (
        f"SELECT source.* FROM {relation(segmentation.source)} "
        f"WHERE {name} >= {mark} OR {name} IS NULL OR NOT EXISTS "
        f"(SELECT 1 FROM {beside(segmentation.target, '')} AS label WHERE {same})"
    )


def stage_departed(segmentation: Segmentation, staging: str) -> str:
    """A statement that stages customers as departed who are not in the source any more."""
    keys = ", ".join(bracket(key) for key in segmentation.key)
    theirs = ", ".join(f"label.{bracket(key)}" for key in segmentation.key)
    return (
        f"INSERT INTO {staging} ({keys}, cluster, distance, departed) SELECT {theirs}, 0, 0, 1 "
        f"FROM {beside(segmentation.target, '')} AS label WHERE NOT EXISTS "
        f"(SELECT 1 FROM {relation(segmentation.source)} "
        f"WHERE {_same(segmentation, 'label', 'source')});"
    )


def clusters_query(segmentation: Segmentation, staging: str, segment_ids: Sequence[int]) -> str:
    """A query for cluster, customers and sum of squared distances once changes are published."""
    pairs = ", ".join(
        f"({int(segment_id)}, {cluster})" for cluster, segment_id in enumerate(segment_ids)
    )
    return (
        "SELECT held.cluster, COUNT_BIG(*), SUM(held.distance * held.distance) FROM ("
        f"SELECT staged.cluster, staged.distance FROM {staging} AS staged "
        "WHERE staged.departed = 0 UNION ALL "
        f"SELECT id.cluster, label.distance FROM {beside(segmentation.target, '')} AS label "
        f"INNER JOIN (VALUES {pairs}) AS id (segment_id, cluster) "
        "ON id.segment_id = label.segment_id WHERE NOT EXISTS "
        f"(SELECT 1 FROM {staging} AS staged WHERE {_same(segmentation, 'label', 'staged')})"
        ") AS held GROUP BY held.cluster;"
    )


def _same(segmentation: Segmentation, left: str, right: str) -> str:
    return " AND ".join(
        f"{left}.{bracket(key)} = {right}.{bracket(key)}" for key in segmentation.key
    )
