"""Which rows of a source changed, on SQL Server, and what is published of those that did not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from sqlkmeans.database.sqlserver.dialect import bracket
from sqlkmeans.database.sqlserver.types import SqlColumn, beside, relation, text
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError

# A row can be stamped, and committed only later, so changes are looked for from an hour before the
# newest stamp on.
_TIMES = frozenset({"datetime", "datetime2", "smalldatetime", "datetimeoffset"})
_NUMBERS = frozenset({"bigint", "int"})


class Changes(ABC):
    """How the changes of a segmentation's source are known."""

    @abstractmethod
    def high_water_query(self) -> str:
        """A query for the high-water mark as text.

        Raises
        ------
        DataError
            If the source says nothing of the order of changes.
        """

    @abstractmethod
    def rows_since(self, mark: str) -> str:
        """A SELECT of rows that changed since a mark, or are not known not to, or have no label."""

    def unknown_since(self, mark: str) -> str | None:
        """Why not all changes since a mark are known any more; None where they are."""
        return None


class ColumnChanges(Changes):
    """By a column that grows whenever a row changes."""

    def __init__(self, segmentation: Segmentation, column: SqlColumn) -> None:
        self._segmentation = segmentation
        self._column = column
        self._name = f"source.{bracket(column.name)}"

    def high_water_query(self) -> str:
        column = self._column
        if _is_rowversion(column):
            # Above every committed row and not above any that is still to be committed, which the
            # highest value of the column is not.
            return "SELECT CONVERT(varchar(40), CAST(MIN_ACTIVE_ROWVERSION() AS binary(8)), 1);"
        if column.base in _TIMES:
            newest = f"CONVERT(varchar(40), DATEADD(hour, -1, MAX({self._name})), 121)"
        elif column.base in _NUMBERS:
            newest = f"CONVERT(varchar(40), MAX({self._name}))"
        else:
            raise DataError(
                f"changed_by {column.name}: its type is {column.type}; allowed: rowversion, "
                "datetime2, datetime, datetimeoffset, and integers that grow with every change"
            )
        return f"SELECT {newest} FROM {relation(self._segmentation.source)};"

    def rows_since(self, mark: str) -> str:
        since = f"CAST({text(mark)} AS bigint)"
        if _is_rowversion(self._column):
            since = f"CONVERT(binary(8), {text(mark)}, 1)"
        elif self._column.base in _TIMES:
            since = f"CONVERT({self._column.type}, {text(mark)}, 121)"
        return changed_or_unlabelled(
            self._segmentation, f"{self._name} >= {since} OR {self._name} IS NULL"
        )


def _is_rowversion(column: SqlColumn) -> bool:
    # A view may have cast it.
    return column.base in ("timestamp", "rowversion") or (
        column.base == "binary" and column.max_length == 8
    )


def changed_or_unlabelled(segmentation: Segmentation, changed: str, joined: str = "") -> str:
    """A SELECT of the source's rows for which a condition holds, or which have no label."""
    same = _same(segmentation, "label", "source")
    return (
        f"SELECT source.* FROM {relation(segmentation.source)}{joined} WHERE {changed} OR NOT "
        f"EXISTS (SELECT 1 FROM {beside(segmentation.target, '')} AS label WHERE {same})"
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


def clusters_query(
    segmentation: Segmentation,
    staging: str,
    segment_ids: Sequence[int],
    outlier_distances: Mapping[int, float],
) -> str:
    """A query for cluster, customers, sum of squared distances and outliers once changes are
    published."""
    pairs = ", ".join(
        f"({int(segment_id)}, {cluster})" for cluster, segment_id in enumerate(segment_ids)
    )
    cases = " ".join(
        f"WHEN {cluster} THEN {outlier_distances[segment_id]:.16e}"
        for cluster, segment_id in enumerate(segment_ids)
        if segment_id in outlier_distances
    )
    beyond = (
        f"SUM(CASE WHEN held.distance > CASE held.cluster {cases} END THEN 1 ELSE 0 END)"
        if cases
        else "0"
    )
    return (
        f"SELECT held.cluster, COUNT_BIG(*), SUM(held.distance * held.distance), {beyond} FROM ("
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
