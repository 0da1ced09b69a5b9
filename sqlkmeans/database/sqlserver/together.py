"""A large table that other processes read at once, each some ranges of its keys, of one moment.

It begins as with several sessions of this process (:mod:`.ranges`). But here nobody has all the
sessions: the processes tell each other how far they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from sqlkmeans.database.source import NOT_BEGUN, Share, TogetherReader
from sqlkmeans.database.sqlserver import ranges
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.reading import BATCH_ROWS, read_query
from sqlkmeans.database.sqlserver.types import SqlColumn, feature_arrow

#: So many seconds the lock is held at most: writers wait as long.
LOCK_SECONDS = 10.0
#: Older ones end each statement after the seconds that are for connecting.
OLDEST = (1, 14)
#: A query and its parameters.
Part = tuple[str, tuple[int, int]]


def together_reader(
    connector: Connector,
    source: str,
    keys: Sequence[SqlColumn],
    features: Sequence[tuple[SqlColumn, str]],
    weight: SqlColumn | None = None,
) -> TogetherReader | None:
    """What several processes read a source with; None where one had better read it.

    Parameters
    ----------
    connector : Connector
        Of a database that allows snapshot isolation.
    source : str
    keys : sequence of SqlColumn
    features : sequence of (SqlColumn, str)
        Each with its type.
    weight : SqlColumn, optional
    """
    key = keys[0]
    rows = ranges.size_if_large(connector, source, key)
    place = None if rows is None else connector.read_elsewhere()
    if rows is None or place is None:
        return None
    low, high = connector.read(f"source {source}", ranges.ends_query(source, key))[0]
    # Rows may come and go until they begin. So the ends of all ranges are those of the type.
    cut = ranges.cut(int(low or 0), int(high or 0), -(-rows // ranges.ROWS_A_RANGE))
    parts = ranges.open_ended(cut, key)
    texts = {
        condition: read_query(source, keys, features, weight, condition=condition)
        for condition in {part.condition(key) for part in parts}
    }
    return TogetherReader(
        part_reader(
            *place, ranges.lock_query(source), ranges.first_read(source),
            ranges.count_query(source),
            [(texts[part.condition(key)], (part.low, part.high)) for part in parts],
        ),
        [column.arrow for column in keys],
        [feature_arrow(kind) for _, kind in features],
        weight is not None,
    )  # fmt: skip


def part_reader(
    connection: str, timeout: int, lock: str, first: str, count: str, parts: Sequence[Part]
) -> Callable[[int, int, Share], Iterator[pa.RecordBatch]]:
    """What each process calls.

    It travels by value, because a function inside another cannot be imported: where it runs there
    has to be mssql-python and PyArrow, and nothing of this package. The connection string, with its
    password, travels with it.

    Parameters
    ----------
    connection : str
    timeout : int
        Seconds for connecting.
    lock : str
        Takes a lock until the end of a transaction: nobody commits a change of the table meanwhile.
    first : str
        Fixes the snapshot of a transaction.
    count : str
        How many rows all parts have.
    parts : sequence of (str, tuple)
        Queries with parameters. A process has those at its place and at each later one that is as
        far away as there are processes: where most rows are in some parts, many have some of them.
    """
    batch_rows, not_begun = BATCH_ROWS, NOT_BEGUN
    lock_seconds, oldest = LOCK_SECONDS, OLDEST

    def read(place: int, places: int, share: Share) -> Iterator[pa.RecordBatch]:
        import os
        import threading
        from contextlib import contextmanager, nullcontext, suppress

        import pyarrow as pa

        moment = int.from_bytes(os.urandom(8), "big") >> 1
        opened: list[Any] = []

        def connect(before: str | None = None) -> Any:
            import mssql_python

            version = mssql_python.__version__
            if tuple(map(int, version.split(".")[:2])) < oldest:
                wanted = ".".join(map(str, oldest))
                raise RuntimeError(f"mssql-python {version} given; allowed: {wanted} or newer")
            # Closed, a session has to end, with its lock and its snapshot.
            mssql_python.pooling(enabled=False)
            session = mssql_python.connect(connection, autocommit=True, timeout=timeout)
            opened.append(session)
            if before is not None:
                ask(session, before)
            session.autocommit = False
            return session

        def ask(session: Any, statements: str) -> list[Any]:
            cursor = session.cursor()
            try:
                cursor.execute(statements)
                found: list[Any] = []
                while True:
                    if cursor.description:
                        found = cursor.fetchall()
                    # An error of a later statement shows only when its result is asked for.
                    if not cursor.nextset():
                        return found
            finally:
                cursor.close()

        @contextmanager
        def locked(session: Any) -> Iterator[None]:
            """Under the lock, which is given up too if another process answers no more."""
            ask(session, lock)
            late = threading.Event()

            def give_up() -> None:
                late.set()
                session.close()

            guard = threading.Timer(lock_seconds, give_up)
            guard.daemon = True
            guard.start()
            try:
                yield
            finally:
                guard.cancel()
                guard.join()
            if late.is_set():
                raise TimeoutError(
                    f"not all had begun when the lock had been held for {lock_seconds:g} seconds"
                )
            session.rollback()
            session.close()

        def begin() -> Any:
            session = connect("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
            locking = connect() if place == 0 else None
            share("connected")  # Before the lock, for connecting takes time.
            with nullcontext() if locking is None else locked(locking):
                share("locked")
                ask(session, first)
                share("begun")
            return session

        def batches(session: Any) -> Iterator[pa.RecordBatch]:
            for query, parameters in parts[place::places]:
                cursor = session.cursor()
                cursor.execute(query, parameters)
                reader = cursor.arrow_reader(batch_size=batch_rows)
                yield from reader
                cursor.close()

        try:
            try:
                session = begin()
            except Exception as error:
                raise RuntimeError(f"{not_begun}: {type(error).__name__}: {error}") from None
            told = f"{moment} {ask(session, count)[0][0]}" if place == 0 else ""
            numbers = [pa.scalar(int(text), pa.int64()) for text in share(told)[0].split()]
            for batch in batches(session):
                columns = [*batch.columns, *(pa.repeat(n, batch.num_rows) for n in numbers)]
                yield pa.record_batch(columns, [str(n) for n in range(len(columns))])
        finally:
            for each in opened:
                with suppress(Exception):
                    each.close()

    return read
