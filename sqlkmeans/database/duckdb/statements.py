"""Small statements on DuckDB's own connection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from sqlkmeans.database.tables import SCHEMA, Table
from sqlkmeans.sqltext import quote


@contextmanager
def transaction(native: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All that is done inside, or after an error nothing of it."""
    native.execute("BEGIN TRANSACTION")
    try:
        yield
        native.execute("COMMIT")
    except BaseException:
        # A commit that fails has undone all itself.
        with suppress(duckdb.Error):
            native.execute("ROLLBACK")
        raise


def insert(native: duckdb.DuckDBPyConnection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert one row of a table of schema ``sqlkmeans``."""
    columns, marks = ", ".join(map(quote, row)), ", ".join("?" * len(row))
    native.execute(
        f"INSERT INTO {SCHEMA}.{table.name} ({columns}) VALUES ({marks})",
        [_stored(value) for value in row.values()],
    )


def update(
    native: duckdb.DuckDBPyConnection, table: Table, values: Mapping[str, Any],
    **where: Any,
) -> None:  # fmt: skip
    """Set columns of the rows whose columns are as ``where`` says."""
    columns = ", ".join(f"{quote(column)} = ?" for column in values)
    same = " AND ".join(f"{quote(column)} = ?" for column in where)
    native.execute(
        f"UPDATE {SCHEMA}.{table.name} SET {columns} WHERE {same}",
        [*(_stored(value) for value in values.values()), *where.values()],
    )


def _stored(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def first_line(error: BaseException) -> str:
    """What an error says, without where in the statement."""
    return str(error).strip().split("\n")[0]


def literal(text: str) -> str:
    """A text constant without NUL."""
    return "'" + text.replace("'", "''") + "'"
