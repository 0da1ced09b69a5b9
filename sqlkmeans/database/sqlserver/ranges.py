"""Reading a large table of SQL Server over several connections, each a range of keys at a time.

All of them see the table as it was at one moment, though SQL Server gives no two sessions the same
snapshot. A snapshot is fixed by the first data that its transaction reads, not by BEGIN. So one
session more takes a shared lock on the whole table, which it gets only while nobody has changed
the table without having committed; under that lock each of the others reads a row, and then it is
given up. Nobody could commit a change of the table between the first snapshot and the last: for
this table they are the same.

The lock is asked for briefly, for whoever wants to write waits behind it. Where it cannot be had,
or anything else fails before the first row is read, one connection reads instead.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

from sqlkmeans.background import let_finish
from sqlkmeans.database.base import Batch
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.dialect import bracket
from sqlkmeans.database.sqlserver.reading import BATCH_ROWS
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.types import SqlColumn, bracket_name, relation
from sqlkmeans.errors import DatabaseError
from sqlkmeans.sqltext import parse_source

#: Fewer rows are read by one connection before several are open.
LEAST_ROWS = 1_000_000
#: Rows of a range where the keys lie evenly: two batches.
ROWS_A_RANGE = 2 * BATCH_ROWS
#: Batches of a range that wait to be taken. Where the keys lie evenly all of a range fits in; where
#: they do not, a range of many rows waits for its turn.
BATCHES_A_RANGE = 4
#: Ranges a connection that are read or wait. With the above at most 8 batches a connection are in
#: memory, half of that where the keys lie evenly: of 10 columns of 8 bytes 42 MB and 21 MB.
RANGES_A_CONNECTION = 2
#: How long to wait for the lock, and under it, in milliseconds.
LOCK_TIMEOUT = 1000
#: The type of a clustered index in sys.indexes. Where the key does not lead one, each range would
#: be looked for in the whole table.
CLUSTERED = 1

#: The least and the greatest number of the types that ranges are made of.
_LIMITS = {
    "tinyint": (0, 2**8 - 1),
    "smallint": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}

S = TypeVar("S")
R = TypeVar("R")
B = TypeVar("B")
Read = Callable[[Session, str, Sequence[int]], Generator[Batch, None, None]]


@dataclass(frozen=True)
class KeyRange:
    """Some rows of a table: those whose first key column is within two numbers, both included.

    Attributes
    ----------
    low, high : int
    with_nulls : bool
        Whether also those without a key, which sort first: whoever reads them refuses them.
    """

    low: int
    high: int
    with_nulls: bool = False

    def condition(self, key: SqlColumn) -> str:
        """What stands after WHERE; its parameters are ``low`` and ``high``."""
        name = f"source.{bracket(key.name)}"
        # In the column's own type, else the column might be converted and not be looked up.
        between = f"{name} BETWEEN CAST(? AS {key.base}) AND CAST(? AS {key.base})"
        return f"({name} IS NULL OR {between})" if self.with_nulls else between


def cut(low: int, high: int, count: int) -> list[KeyRange]:
    """Ranges of equal widths, at most ``count``, in order, which have each number just once."""
    span = high - low + 1
    count = max(1, min(count, span))
    starts = [low + span * place // count for place in range(count + 1)]
    return [KeyRange(start, end - 1, with_nulls=start == low) for start, end in pairwise(starts)]


def open_ended(ranges: Sequence[KeyRange], key: SqlColumn) -> list[KeyRange]:
    """The same, but the first and the last have also what the column could have beyond them."""
    least, most = _LIMITS[key.base]
    wider = [replace(ranges[0], low=least), *ranges[1:]]
    return [*wider[:-1], replace(wider[-1], high=most)]


@dataclass
class CommonSnapshot:
    """Sessions that see the same rows of a table, and the ranges to read them in.

    Attributes
    ----------
    sessions : list of Session
    key : SqlColumn
        The first key column.
    row_count : int
    ranges : list of KeyRange
        Of its numbers.
    """

    sessions: list[Session]
    key: SqlColumn
    row_count: int
    ranges: list[KeyRange]

    def batches(self, read: Read) -> Generator[Batch, None, None]:
        """All rows in key order.

        Parameters
        ----------
        read : callable
            Takes a session, a condition and its parameters, and gives the rows for which it holds
            in key order; called in threads.

        Raises
        ------
        DatabaseError
            If there are not as many as were counted.
        """

        def read_range(session: Session, part: KeyRange) -> Generator[Batch, None, None]:
            return read(session, part.condition(self.key), (part.low, part.high))

        found = 0
        with closing(in_order(read_range, self.sessions, self.ranges)) as batches:
            for batch in batches:
                found += batch.keys.num_rows
                yield batch
        if found != self.row_count:
            raise DatabaseError(
                f"source: {self.row_count:,} rows were counted and {found:,} were read over "
                f"{len(self.sessions)} connections; nothing was published; leave read_connections "
                "out of the URL"
            )

    def close(self) -> None:
        """End the sessions."""
        for session in self.sessions:
            session.close()


def begin_together(connector: Connector, source: str, key: SqlColumn) -> CommonSnapshot | None:
    """Several sessions that see one moment of a source; None where one had better read it.

    Parameters
    ----------
    connector : Connector
        Its ``read_connections`` says how many. The database allows snapshot isolation.
    source : str
    key : SqlColumn
        The first key column.
    """
    if connector.read_connections == 1 or size_if_large(connector, source, key) is None:
        return None
    failures: tuple[type[Exception], ...] = (DatabaseError, *connector.errors)
    sessions: list[Session] = []
    with ExitStack() as stack:
        try:
            # Before the lock, for connecting takes time.
            for _ in range(connector.read_connections):
                session = connector.open_to_read()
                stack.callback(session.close)
                session.rows("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
                session.native.autocommit = False
                sessions.append(session)
            with _shared_lock(connector, source):
                for session in sessions:
                    session.rows(first_read(source))
            rows, low, high = sessions[0].rows(extent_query(source, key))[0]
        except failures:
            # If it is more than the lock, one connection meets it too, and tells.
            return None
        stack.pop_all()
    count = max(len(sessions), -(-int(rows) // ROWS_A_RANGE))
    # Without any key there are only rows without one.
    return CommonSnapshot(sessions, key, int(rows), cut(int(low or 0), int(high or 0), count))


def size_if_large(connector: Connector, source: str, key: SqlColumn) -> int | None:
    """About how many rows a source has; None where they are few, or it is no table of this
    database that lies in the order of the key."""
    name = parse_source(source).name
    if key.base not in _LIMITS or name is None or len(name) > 2:
        return None
    rows = connector.read(
        f"looking for the size of {source}", size_query(), [bracket_name(name), key.name]
    )
    size: int | None = rows[0][0] if rows else None
    return None if size is None or size < LEAST_ROWS else int(size)


def size_query() -> str:
    """About how many rows a table has; NULL where it is none, or its key leads no such index."""
    return (
        "SELECT SUM(p.rows) FROM sys.partitions AS p "
        "INNER JOIN sys.indexes AS i ON i.object_id = p.object_id AND i.index_id = p.index_id "
        "INNER JOIN sys.index_columns AS ic ON ic.object_id = i.object_id "
        "AND ic.index_id = i.index_id AND ic.key_ordinal = 1 "
        "INNER JOIN sys.columns AS c ON c.object_id = ic.object_id "
        "AND c.column_id = ic.column_id "
        f"WHERE p.object_id = OBJECT_ID(?, N'U') AND i.type = {CLUSTERED} AND c.name = ?;"
    )


@contextmanager
def _shared_lock(connector: Connector, source: str) -> Iterator[None]:
    """Nobody has changed the table without having committed, and nobody changes it meanwhile."""
    session = connector.open()
    try:
        session.native.autocommit = False
        session.rows(lock_query(source))
        yield
    finally:
        with suppress(*connector.errors):
            session.native.rollback()
        session.close()


def lock_query(source: str) -> str:
    """What takes a shared lock on a table until the end of the transaction, or fails soon."""
    # Not TOP (0): it would be answered without the table, and so without the lock.
    return (
        f"SET LOCK_TIMEOUT {LOCK_TIMEOUT}; "
        f"SELECT TOP (1) 1 FROM {relation(source)} WITH (TABLOCK, HOLDLOCK);"
    )


def first_read(source: str) -> str:
    """What fixes the snapshot of a transaction."""
    # A change of the table's definition that waits for the lock makes this wait too, and that
    # would be for ever.
    return (
        f"SET LOCK_TIMEOUT {LOCK_TIMEOUT}; SELECT TOP (1) 1 FROM {relation(source)}; "
        "SET LOCK_TIMEOUT -1;"
    )


def count_query(source: str) -> str:
    """How many rows there are."""
    return f"SELECT COUNT_BIG(*) FROM {relation(source)};"


def ends_query(source: str, key: SqlColumn) -> str:
    """Their least and greatest key, which an index on it knows without reading them."""
    name = f"source.{bracket(key.name)}"
    return f"SELECT MIN({name}), MAX({name}) FROM {relation(source)};"


def extent_query(source: str, key: SqlColumn) -> str:
    """How many rows there are, and their least and greatest key."""
    name = f"source.{bracket(key.name)}"
    return f"SELECT COUNT_BIG(*), MIN({name}), MAX({name}) FROM {relation(source)};"


def in_order(
    read: Callable[[S, R], Generator[B, None, None]], sessions: Sequence[S], ranges: Sequence[R]
) -> Generator[B, None, None]:
    """What is read of all ranges, in their order; each session has a thread and reads some.

    What goes wrong in a thread is raised here. Whoever closes this waits until each session has
    ended what it is doing: all are free then.
    """
    readers = _Readers(read, ranges, RANGES_A_CONNECTION * len(sessions))
    executor = ThreadPoolExecutor(max_workers=len(sessions))
    try:
        for session in sessions:
            executor.submit(readers.work, session)
        yield from readers.take()
    finally:
        readers.stop()
        let_finish(executor)


class _Readers(Generic[S, R, B]):
    """Threads that read ranges, and one that takes what they have read.

    The range whose turn it is has always been begun, and what is read of it is taken: so nobody
    waits for ever.
    """

    def __init__(
        self, read: Callable[[S, R], Generator[B, None, None]], ranges: Sequence[R], ahead: int
    ) -> None:
        self._read = read
        self._ranges = ranges
        self._ahead = ahead
        self._changed = threading.Condition()
        self._waiting: list[deque[B]] = [deque() for _ in ranges]
        self._complete = [False] * len(ranges)
        self._begun = 0
        self._turn = 0
        self._stopped = False
        self._error: BaseException | None = None

    def work(self, session: S) -> None:
        """Read ranges until there are no more; in a thread."""
        try:
            while (place := self._begin()) is not None:
                with closing(self._read(session, self._ranges[place])) as batches:
                    for batch in batches:
                        self._hand_over(place, batch)
                        if self._stopped:
                            return
                with self._changed:
                    self._complete[place] = True
                    self._changed.notify_all()
        except BaseException as error:  # whatever it is, who takes has to know
            self.stop(error)

    def _begin(self) -> int | None:
        """The next range that nobody reads, as soon as it is near enough."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped
                    or self._begun == len(self._ranges)
                    or self._begun < self._turn + self._ahead
                )
            )
            if self._stopped or self._begun == len(self._ranges):
                return None
            self._begun += 1
            return self._begun - 1

    def _hand_over(self, place: int, batch: B) -> None:
        with self._changed:
            waiting = self._waiting[place]
            self._changed.wait_for(lambda: self._stopped or len(waiting) < BATCHES_A_RANGE)
            waiting.append(batch)
            self._changed.notify_all()

    def take(self) -> Iterator[B]:
        """What the threads have read, range after range."""
        for place in range(len(self._ranges)):
            with self._changed:
                self._turn = place
                self._changed.notify_all()
            while (batch := self._next(place)) is not None:
                yield batch

    def _next(self, place: int) -> B | None:
        with self._changed:
            waiting = self._waiting[place]
            self._changed.wait_for(
                lambda: waiting or self._complete[place] or self._error is not None
            )
            if self._error is not None:
                try:
                    raise self._error
                finally:
                    # Its traceback will lead to all that the taker has, and from there back here.
                    self._error = None
            if not waiting:
                return None
            self._changed.notify_all()
            return waiting.popleft()

    def stop(self, error: BaseException | None = None) -> None:
        """Let the threads end after what they are doing now."""
        with self._changed:
            self._stopped = True
            self._error = self._error or error
            self._changed.notify_all()
