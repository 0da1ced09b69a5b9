"""Writing to SQL Server in bulk. The table is there, committed and empty; nobody reads it yet."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import chain
from typing import Any

import pyarrow as pa

from sqlkmeans.database.sqlserver.copying import Copier
from sqlkmeans.database.sqlserver.dialect import bracket
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.types import SqlColumn
from sqlkmeans.errors import DatabaseError

#: Rows of a bulk copy that are committed together: the log can be reused in between, and a
#: columnstore takes 102,400 at once.
BULK_ROWS = 102_400
#: Seconds that one bulk copy may take; the driver's own limit is 30.
BULK_SECONDS = 6 * 3600
#: Rows of one parameter array; each is one message to the server.
ARRAY_ROWS = 10_000
#: Rows that one execution of the statement takes: the server plans and answers each execution. More
#: of them cost pyodbc more than they save, because it asks the server for every parameter's type.
ROWS_TOGETHER = {"mssqlpython": 10, "pyodbc": 5}
#: Up to this many rows an array of parameters is there before a bulk copy has its connection.
FEW_ROWS = 5_000


def write_rows(
    session: Session, copier: Copier, table: str, columns: Sequence[SqlColumn], rows: pa.Table
) -> None:
    """Write rows into a table, which may have some, and count them on the server.

    mssql-python writes wherever it may log in: many rows by a bulk copy, few as an array of
    parameters. Both go on connections of their own; so the table must be committed. Where it may
    not, and for keys that travel as text, the session itself sends arrays.

    Parameters
    ----------
    session : Session
    copier : Copier
        Opens the sessions for bulk copies.
    table : str
        Its quoted name.
    columns : sequence of SqlColumn
        Of the table, in its order, which is that of ``rows``.
    rows : pyarrow.Table

    Raises
    ------
    DatabaseError
        If another number of rows arrived than was sent.
    """
    as_text = any(column.as_text for column in columns)
    before = _count(session, table)
    if as_text or not _written_beside(session, copier, table, columns, rows):
        _send_arrays(session, table, columns, rows)
    arrived = _count(session, table) - before
    if arrived != rows.num_rows:
        raise DatabaseError(
            f"{rows.num_rows:,} rows were sent to {table} and {arrived:,} arrived; "
            "nothing was published"
        )


def _count(session: Session, table: str) -> int:
    return int(session.rows(f"SELECT COUNT_BIG(*) FROM {table}")[0][0])


def _written_beside(
    session: Session, copier: Copier, table: str, columns: Sequence[SqlColumn], rows: pa.Table
) -> bool:
    """Whether a session of mssql-python wrote the rows. A copy that failed at once wrote none."""
    with copier.open(session) as copying:
        if copying is None:
            return False
        if rows.num_rows <= FEW_ROWS:
            # pyodbc would ask the server for the types of the parameters first.
            _send_arrays(copying, table, columns, rows)
            return True
        try:
            _copy(copying, table, columns, rows)
        except BaseException as error:
            # The copy's Rust core opens one more connection, and raises errors of any kind; where
            # it panics, one that is no Exception.
            if not (isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"):
                raise
            if _count(session, table):
                raise
            copier.refuse(error)
            return False
    return True


def _copy(session: Session, table: str, columns: Sequence[SqlColumn], rows: pa.Table) -> None:
    cursor = session.native.cursor()
    try:
        # By name, so that it does not matter in which order the server lists the columns.
        cursor.bulkcopy_arrow(
            table, rows, column_mappings=[column.name for column in columns],
            batch_size=BULK_ROWS, timeout=BULK_SECONDS, table_lock=True, keep_nulls=True,
        )  # fmt: skip
    finally:
        cursor.close()


def _send_arrays(
    session: Session, table: str, columns: Sequence[SqlColumn], rows: pa.Table
) -> None:
    together = ROWS_TOGETHER[session.driver]
    # Else every row would be a transaction of its own. After an error, the session's end undoes.
    session.native.autocommit = False
    for start in range(0, rows.num_rows, ARRAY_ROWS):
        part = list(zip(*(c.to_pylist() for c in rows.slice(start, ARRAY_ROWS).columns)))
        whole = len(part) - len(part) % together
        _send_array(session, table, columns, part[:whole], together)
        _send_array(session, table, columns, part[whole:], 1)
        session.native.commit()
    session.native.autocommit = True


def _send_array(
    session: Session,
    table: str,
    columns: Sequence[SqlColumn],
    rows: list[tuple[Any, ...]],
    together: int,
) -> None:
    if not rows:
        return
    names = ", ".join(bracket(column.name) for column in columns)
    row = "(" + ", ".join(column.write_expression for column in columns) + ")"
    statement = f"INSERT INTO {table} ({names}) VALUES {', '.join([row] * together)}"
    parameters = [
        tuple(chain.from_iterable(rows[start : start + together]))
        for start in range(0, len(rows), together)
    ]
    cursor = session.native.cursor()
    try:
        if session.driver == "pyodbc":
            cursor.fast_executemany = True
        # Left to itself, mssql-python takes the type of a column of texts from the longest one,
        # and letters that this one's code page lacks become question marks; pyodbc asks a server
        # that need not know.
        cursor.setinputsizes([_binding(session.driver, column) for column in columns] * together)
        cursor.executemany(statement, parameters)
    finally:
        cursor.close()


def _binding(driver: str, column: SqlColumn) -> tuple[int, int, int]:
    constants = import_module({"pyodbc": "pyodbc", "mssqlpython": "mssql_python"}[driver])
    name, size, digits = column.binding
    return int(getattr(constants, name)), size, digits
