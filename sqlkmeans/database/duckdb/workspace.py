"""Work on a source inside DuckDB, on the one connection there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from sqlkmeans.database.duckdb.dialect import DIALECT
from sqlkmeans.database.duckdb.statements import first_line
from sqlkmeans.database.source import Column
from sqlkmeans.database.workspace import Workspace
from sqlkmeans.errors import DatabaseError, DataError
from sqlkmeans.sqltext import quote


class DuckDBWorkspace(Workspace):
    """Temporary tables of the connection."""

    dialect = DIALECT

    def __init__(
        self, native: duckdb.DuckDBPyConnection, source: str, columns: Mapping[str, Column]
    ) -> None:
        self._native = native
        self._columns = columns
        self.source = source

    def key(self, name: str) -> tuple[str, str]:
        return quote(name), self._columns[name].type

    def value(self, name: str, kind: str) -> tuple[str, str]:
        column, value = self._columns[name], quote(name)
        if kind == "category":
            return self.dialect.category(column, value), "varchar"
        if kind == "date":
            return self.dialect.day(column, value), "date"
        number = self.dialect.number(column, value)
        return f"CASE WHEN NOT isnan({number}) THEN {number} END", self.dialect.float_type

    def execute(self, statement: str) -> None:
        try:
            self._native.execute(statement)
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            raise DataError(f"source: {first_line(error)}") from None
        except duckdb.Error as error:
            raise DatabaseError(f"training in the database: {first_line(error)}") from None

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
