"""Work on a source inside SQL Server, in a session of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.database.sqlserver.dialect import LEVEL_TYPE, SQLServerDialect, bracket
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.types import SqlColumn
from sqlkmeans.database.workspace import Workspace

# SERVERPROPERTY('EngineEdition').
_AZURE_SQL_DATABASE, _MANAGED_INSTANCE = 5, 8
#: The first version with LEAST.
_WITH_LEAST = 16
#: Fails where temporary tables take no such index: editions before 2016 SP1, small service tiers of
#: Azure SQL Database, servers whose tempdb keeps its metadata in memory.
_TRY_COLUMNSTORE = (
    "CREATE TABLE #sqlkmeans_tried (n int NULL); "
    "CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_tried_columns ON #sqlkmeans_tried "
    "WITH (MAXDOP = 1);"
)


class SQLServerWorkspace(Workspace):
    """Temporary tables of one session, which end with it."""

    def __init__(
        self,
        session: Session,
        source: str,
        columns: Mapping[str, SqlColumn],
        dialect: SQLServerDialect,
    ) -> None:
        self._session = session
        self._columns = columns
        self.source = source
        self.dialect = dialect

    def key(self, name: str) -> tuple[str, str]:
        return f"source.{bracket(name)}", self._columns[name].type

    def value(self, name: str, kind: str) -> tuple[str, str]:
        column, value = self._columns[name].to_column(), f"source.{bracket(name)}"
        if kind == "category":
            return self.dialect.category(column, value), f"{LEVEL_TYPE} COLLATE DATABASE_DEFAULT"
        if kind == "date":
            return self.dialect.day(column, value), "date"
        return self.dialect.number(column, value), self.dialect.float_type

    def execute(self, statement: str) -> None:
        self._session.rows(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._session.rows(query)

    def matrix(self, query: str) -> npt.NDArray[np.float64]:
        rows = self._session.rows(query)
        return np.array([tuple(row) for row in rows], dtype=np.float64)


def open_dialect(session: Session, errors: tuple[type[Exception], ...]) -> SQLServerDialect:
    """What the server at the other end has; ``errors`` are those of the session's driver."""
    row = session.rows(
        "SELECT CAST(SERVERPROPERTY('EngineEdition') AS int), "
        "CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128));"
    )[0]
    edition, version = int(row[0]), int(str(row[1]).split(".")[0])
    try:
        session.rows(_TRY_COLUMNSTORE)
        columnstore = True
    except errors:
        columnstore = False
    session.rows("DROP TABLE IF EXISTS #sqlkmeans_tried;")
    return SQLServerDialect(
        least=edition in (_AZURE_SQL_DATABASE, _MANAGED_INSTANCE) or version >= _WITH_LEAST,
        columnstore=columnstore,
    )
