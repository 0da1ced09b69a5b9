"""Labels that other processes write, each a part of them, into a heap beside the staging table.

A part may be written again: its process died, or another was quicker. So whoever writes makes up a
number, puts it beside each row, and tells it in the end; rows whose number nobody told do not
count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from sqlkmeans.database.sqlserver import writing

Batches = Iterable[pa.RecordBatch]
#: The column with the number; no key has such a name.
ATTEMPT = "sqlkmeans attempt"


def parts_name(run_id: int) -> str:
    """The quoted name of the heap."""
    return f"[sqlkmeans].[staging_{int(run_id)}_parts]"


def writing_parts(run_id: int) -> str:
    """Holds the lock of the heap, until the session ends: who would drop it leaves it then."""
    return (
        "DECLARE @result int; EXECUTE @result = sys.sp_getapplock "
        f"@Resource = N'sqlkmeans parts {int(run_id)}', @LockMode = N'Shared', "
        "@LockOwner = N'Session', @DbPrincipal = N'sqlkmeans_operator'; "
        "IF @result < 0 THROW 50004, N'the lock of the parts was refused', 1;"
    )


def part_writer(
    connection: str, timeout: int, run_id: int, schema: pa.Schema
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """What another process calls with its batches; it gives one row: its number, and its rows.

    It travels by value, because a function inside another cannot be imported: where it runs there
    has to be mssql-python and PyArrow, and nothing of this package. The connection string, with its
    password, travels with it.

    Parameters
    ----------
    connection : str
    timeout : int
        Seconds for connecting.
    run_id : int
    schema : pyarrow.Schema
        The heap's columns but the last.
    """
    table, writing_it = parts_name(run_id), writing_parts(run_id)
    batch_rows, seconds = writing.BULK_ROWS, writing.BULK_SECONDS
    names = [*schema.names, ATTEMPT]

    def write(batches: Batches) -> Iterator[pa.RecordBatch]:
        import os

        import mssql_python
        import pyarrow as pa

        attempt = int.from_bytes(os.urandom(8), "big") >> 1
        rows = 0

        def numbered(batch: pa.RecordBatch) -> pa.RecordBatch:
            nonlocal rows
            rows += batch.num_rows
            columns = [values.cast(kind) for values, kind in zip(batch.columns, schema.types)]
            number = pa.repeat(pa.scalar(attempt, pa.int64()), batch.num_rows)
            return pa.record_batch([*columns, number], names)

        # Closed, a session has to end, with its lock.
        mssql_python.pooling(enabled=False)
        session = mssql_python.connect(connection, autocommit=True, timeout=timeout)
        try:
            cursor = session.cursor()
            cursor.execute(writing_it)
            cursor.bulkcopy_arrow(
                table, map(numbered, batches), column_mappings=names, batch_size=batch_rows,
                timeout=seconds, table_lock=True, keep_nulls=True,
            )  # fmt: skip
        finally:
            session.close()
        yield pa.record_batch({"attempt": pa.array([attempt]), "rows": pa.array([rows])})

    return write
