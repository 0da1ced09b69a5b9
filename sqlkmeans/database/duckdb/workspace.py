"""Work on a source inside DuckDB, on the one connection there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from sqlkmeans.database.base import Workspace
from sqlkmeans.database.dialect import DuckDBDialect
from sqlkmeans.errors import DatabaseError, DataError
from sqlkmeans.sqltext import quote


class DuckDBWorkspace(Workspace):
    """Temporary tables of the connection."""

    dialect = DuckDBDialect()

    def __init__(
        self, native: duckdb.DuckDBPyConnection, source: str, types: Mapping[str, str]
    ) -> None:
        self._native = native
        self._types = types
        self.source = source

    def key(self, name: str) -> tuple[str, str]:
        return quote(name), self._types[name]

    def value(self, name: str, kind: str) -> tuple[str, str]:
        column, own = quote(name), self._types[name]
        if kind == "category":
            # A boolean as on SQL Server, whose bit is 1 or 0 as text too.
            value = f"CAST({column} AS integer)" if own == "BOOLEAN" else column
            return f"CAST({value} AS varchar)", "varchar"
        if kind == "date":
            # The day in UTC, whatever the session's zone.
            if own == "TIMESTAMP WITH TIME ZONE":
                column = f"({column} AT TIME ZONE 'UTC')"
            return f"CAST({column} AS date)", "date"
        number = f"CAST({column} AS double)"
        return f"CASE WHEN NOT isnan({number}) THEN {number} END", "double"

    def execute(self, statement: str) -> None:
        try:
            self._native.execute(statement)
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            raise DataError(f"source: {_first_line(error)}") from None
        except duckdb.Error as error:
            raise DatabaseError(f"training in the database: {_first_line(error)}") from None

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        self.execute(query)
        found: list[tuple[Any, ...]] = self._native.fetchall()
        return found

    def matrix(self, query: str) -> npt.NDArray[np.float64]:
        self.execute(query)
        # Masked where a column has NULL.
        columns = [
            np.ma.asarray(column, np.float64) for column in self._native.fetchnumpy().values()
        ]
        return np.column_stack([column.filled(np.nan) for column in columns])

    def drop_temporary(self) -> None:
        """Drop what the run made; the connection lives on."""
        made = self._native.execute(
            "SELECT table_name FROM duckdb_tables() WHERE temporary "
            "AND starts_with(table_name, 'sqlkmeans_')"
        ).fetchall()
        for (name,) in made:
            self._native.execute(f"DROP TABLE IF EXISTS temp.{quote(str(name))}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
