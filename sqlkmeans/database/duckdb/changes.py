"""Which rows of a source changed, on DuckDB."""

from __future__ import annotations

from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.sqltext import quote

#: A row can be stamped, and committed only later, so changes are looked for from so long before
#: the newest stamp on.
OVERLAP = "INTERVAL 1 HOUR"

_NUMBERS = {"INTEGER", "BIGINT", "HUGEINT", "UINTEGER", "UBIGINT", "UHUGEINT"}


def newest(name: str, type_name: str) -> str:
    """The high-water mark of a column as an aggregate.

    Raises
    ------
    DataError
        If the type says nothing of the order of changes.
    """
    if type_name.startswith("TIMESTAMP"):
        return f"MAX({quote(name)}) - {OVERLAP}"
    if type_name in _NUMBERS:
        return f"MAX({quote(name)})"
    raise DataError(
        f"changed_by {name}: its type is {type_name}; allowed: timestamps and integers that grow "
        "with every change"
    )


def changed_rows(segmentation: Segmentation, since: str, relation: str, target: str) -> str:
    """A SELECT of rows that are not older than a mark, or not known to be, or have no label."""
    column = f"source.{quote(str(segmentation.changed_by))}"
    same = " AND ".join(f"label.{quote(key)} = source.{quote(key)}" for key in segmentation.key)
    mark = since.replace("'", "''")
    return (
        f"SELECT source.* FROM (SELECT * FROM {relation}) AS source "
        f"WHERE {column} >= '{mark}' OR {column} IS NULL "
        f"OR NOT EXISTS (SELECT 1 FROM {target} AS label WHERE {same})"
    )
