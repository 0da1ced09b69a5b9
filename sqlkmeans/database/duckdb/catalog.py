"""Reads of schema ``sqlkmeans`` on DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.duckdb.connection import DuckDBConnection


class DuckDBCatalog(Catalog):
    """Reads on the one connection, in whatever transaction it is in."""

    def __init__(self, connection: DuckDBConnection) -> None:
        self._connection = connection

    def select(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.native.execute(
            query, list(parameters)
        ).fetchall()
        return rows
