"""Change Tracking: SQL Server's own record of which rows of a table changed, and in which order."""

from __future__ import annotations

from sqlkmeans.database.base import CHANGE_TRACKING
from sqlkmeans.database.sqlserver.changes import Changes, changed_or_unlabelled
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.dialect import bracket
from sqlkmeans.database.sqlserver.types import bracket_name, text
from sqlkmeans.definition import Segmentation
from sqlkmeans.sqltext import Name, parse_source

#: CHANGETABLE takes a literal or a variable as its version, and a literal no larger than this.
_LARGEST_LITERAL = 2**31 - 1
_DOING = f"changed_by {CHANGE_TRACKING}"


def tracking_problems(connector: Connector, source: str) -> list[str]:
    """Why the changes of a source are not tracked, and what to do; empty where they are."""
    name = parse_source(source).name
    if name is None:
        return [_not_a_table("a SELECT")]
    state = connector.read(_DOING, _state_query(name))[0]
    here, is_table, database_is_tracked, table_is_tracked = state
    if not here:
        return [
            f"{_DOING}: the source is in database {name[0]}; allowed: a table in the database of "
            "the URL, whose versions a run records"
        ]
    if not is_table:
        return [_not_a_table(source)]
    if table_is_tracked:
        return []
    on = [f"ALTER TABLE {_table(name)} ENABLE CHANGE_TRACKING"]
    if not database_is_tracked:
        on.insert(
            0,
            "ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON "
            "(CHANGE_RETENTION = 7 DAYS, AUTO_CLEANUP = ON)",
        )
    return [
        f"{_DOING}: Change Tracking is off for {source}; turn it on ({'; '.join(on)}; the login "
        "needs VIEW CHANGE TRACKING on the table, and the retention has to be longer than the time "
        "between two runs), or name a column of the source"
    ]


class TrackedChanges(Changes):
    """By Change Tracking of the source, which :func:`tracking_problems` has found to be on."""

    def __init__(self, segmentation: Segmentation, connector: Connector) -> None:
        name = parse_source(segmentation.source).name
        assert name is not None
        self._segmentation = segmentation
        self._connector = connector
        self._table = _table(name)

    def high_water_query(self) -> str:
        return "SELECT CHANGE_TRACKING_CURRENT_VERSION();"

    def rows_since(self, mark: str) -> str:
        keys = self._connector.read(_DOING, _primary_key_query(self._table))
        same = " AND ".join(f"change.{bracket(key)} = source.{bracket(key)}" for (key,) in keys)
        # Rows that were deleted are among the changes too, and find no row of the source.
        changes = f"CHANGETABLE(CHANGES {self._table}, {min(int(mark), _LARGEST_LITERAL)})"
        return changed_or_unlabelled(
            self._segmentation,
            f"change.SYS_CHANGE_VERSION > CAST({text(mark)} AS bigint)",
            f" LEFT JOIN {changes} AS change ON {same}",
        )

    def unknown_since(self, mark: str) -> str | None:
        if not mark.isdigit():
            # Of a column that had this name and is gone.
            return f"the run before saw {mark}, which is no version of Change Tracking"
        oldest, newest = self._connector.read(_DOING, _versions_query(self._table))[0]
        tracking = f"Change Tracking of {self._segmentation.source}"
        if oldest is None:
            return (
                f"{tracking} is not for this login to see "
                f"(GRANT VIEW CHANGE TRACKING ON {self._table} TO …)"
            )
        if int(mark) < oldest:
            return f"{tracking} goes back to version {oldest} only, and the run before saw {mark}"
        if int(mark) > newest:
            return f"{tracking} is at version {newest} only, and the run before saw {mark}"
        return None


def _not_a_table(given: str) -> str:
    return (
        f"{_DOING}: Change Tracking is of tables, and the source is {given}, no table; allowed: a "
        "table of this database as the source, or a column of the source as changed_by"
    )


def _table(name: Name) -> str:
    # The database is the current one, however many parts the name has.
    return bracket_name(name[-2:])


def _object_id(table: str) -> str:
    return f"OBJECT_ID({text(table)}, N'U')"


def _state_query(name: Name) -> str:
    """A query for: in this database, a table, tracked by the database, by the table."""
    database = f"DB_ID({text(name[0])})" if len(name) == 3 else "DB_ID()"
    table = _object_id(_table(name))
    return (
        f"SELECT CASE WHEN {database} = DB_ID() THEN 1 ELSE 0 END, "
        f"CASE WHEN {table} IS NULL THEN 0 ELSE 1 END, "
        "CASE WHEN CHANGE_TRACKING_CURRENT_VERSION() IS NULL THEN 0 ELSE 1 END, "
        f"(SELECT COUNT(*) FROM sys.change_tracking_tables AS t WHERE t.object_id = {table});"
    )


def _versions_query(table: str) -> str:
    """A query for the oldest version that still tells all changes since, NULL for who may not see
    them, and the newest version."""
    allowed = f"HAS_PERMS_BY_NAME({text(table)}, N'OBJECT', N'VIEW CHANGE TRACKING')"
    return (
        f"SELECT CASE WHEN {allowed} = 1 THEN "
        f"CHANGE_TRACKING_MIN_VALID_VERSION({_object_id(table)}) END, "
        "CHANGE_TRACKING_CURRENT_VERSION();"
    )


def _primary_key_query(table: str) -> str:
    return (
        "SELECT c.name FROM sys.indexes AS i "
        "INNER JOIN sys.index_columns AS k "
        "ON k.object_id = i.object_id AND k.index_id = i.index_id "
        "INNER JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id "
        f"WHERE i.object_id = {_object_id(table)} AND i.is_primary_key = 1 AND k.key_ordinal > 0 "
        "ORDER BY k.key_ordinal;"
    )
