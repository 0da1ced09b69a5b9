"""Work on a source inside SQL Server, in a session of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.database.base import Workspace
from sqlkmeans.database.dialect import SQLServerDialect
from sqlkmeans.database.sqlserver.connection import Session
from sqlkmeans.database.sqlserver.types import MAX_LEVEL_LENGTH, SqlColumn, bracket

# SERVERPROPERTY('EngineEdition').
_AZURE_SQL_DATABASE, _MANAGED_INSTANCE = 5, 8
#: The first version with LEAST.
_WITH_LEAST = 16
#: Fails where temporary tables take no such index: editions before 2016 SP1, small service tiers of
#: Azure SQL Database, servers whose tempdb keeps its metadata in memory.
_TRY_COLUMNSTORE = (
    "CREATE TABLE #sqlkmeans_tried (n int NULL); "
    "CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_tried_columns ON #sqlkmeans_tried;"
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
        column = f"source.{bracket(name)}"
        if kind == "category":
            # One character more than a level may have, so that one too long is noticed.
            kind = f"nvarchar({MAX_LEVEL_LENGTH + 1})"
            return f"CAST({column} AS {kind})", f"{kind} COLLATE DATABASE_DEFAULT"
        if kind == "date":
            return f"CAST({column} AS date)", "date"
        if self._columns[name].base == "bit":
            # Not every server casts a bit to float in one step.
            column = f"CAST({column} AS tinyint)"
        return f"CAST({column} AS float)", "float"

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
