"""Reading a large table over several connections: the ranges, their order, one moment for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from sqlkmeans import pipeline
from sqlkmeans.database import open_database
from sqlkmeans.database.base import Batch
from sqlkmeans.database.sqlserver import ranges as sqlserver_ranges
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.database import SQLServerDatabase
from sqlkmeans.database.sqlserver.errors import ServerError
from sqlkmeans.database.sqlserver.ranges import (
    CommonSnapshot,
    KeyRange,
    begin_together,
    count_query,
    cut,
    ends_query,
    extent_query,
    first_read,
    in_order,
    lock_query,
    size_query,
)
from sqlkmeans.database.sqlserver.reading import read_query
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.types import SqlColumn
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError
from support import sqlserver_server
from support.backends import SQLServerBackend
from support.tsql_files import GRAMMARS, check

LEAST, MOST = -(2**63), 2**63 - 1
ID = SqlColumn("a]b", "bigint", 8, 19, 0, None)
NUMBERS = st.integers(LEAST, MOST) | st.sampled_from([LEAST, LEAST + 1, -1, 0, 1, MOST - 1, MOST])


# Ranges


@given(st.tuples(NUMBERS, NUMBERS).map(sorted), st.integers(1, 300))
def test_ranges_have_every_number_once_in_order_and_are_equally_wide(
    ends: list[int], count: int
) -> None:
    low, high = ends
    ranges = cut(low, high, count)
    assert (ranges[0].low, ranges[-1].high) == (low, high)
    assert all(before.high + 1 == after.low for before, after in pairwise(ranges))
    widths = [part.high - part.low + 1 for part in ranges]
    assert min(widths) >= 1
    assert max(widths) - min(widths) <= 1
    assert len(ranges) == min(count, high - low + 1)


@given(st.tuples(NUMBERS, NUMBERS).map(sorted), st.integers(1, 300))
def test_the_first_range_alone_has_the_rows_without_a_key(ends: list[int], count: int) -> None:
    first, *others = cut(*ends, count)
    assert first.with_nulls
    assert not any(part.with_nulls for part in others)


def test_a_condition_compares_in_the_type_of_the_column() -> None:
    between = "source.[a]]b] BETWEEN CAST(? AS bigint) AND CAST(? AS bigint)"
    assert KeyRange(1, 2).condition(ID) == between
    assert KeyRange(1, 2, True).condition(ID) == f"(source.[a]]b] IS NULL OR {between})"


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_statements_are_sql(grammar: str) -> None:
    feature = (SqlColumn("x", "float", 8, 53, 0, None), "number")
    statements = [size_query(), lock_query("a.b"), first_read("a.b"), extent_query("a.b", ID)]
    statements += [count_query("a.b"), ends_query("a.b", ID)]
    statements += [
        read_query("dbo.customer", [ID], [feature], condition=part.condition(ID))
        for part in cut(1, 9, 2)
    ]
    script = "\nGO\n".join(statements).replace("?", "@p")
    assert not check(script, grammar)
    assert "FROM [a].[b] AS source WITH (TABLOCK, HOLDLOCK)" in script


# In order, of many threads


class Reader:
    """Fake sessions: a range is a list of numbers, and reading it gives them one by one."""

    def __init__(self, pause: Callable[[int], None] = lambda number: None) -> None:
        self.pause = pause
        self.threads: set[str] = set()
        self.open = 0
        self.given = 0
        self._lock = threading.Lock()

    def read(self, session: int, part: list[int]) -> Generator[int, None, None]:
        with self._lock:
            self.open += 1
        try:
            for number in part:
                self.pause(number)
                with self._lock:
                    self.threads.add(threading.current_thread().name)
                    self.given += 1
                yield number
        finally:
            with self._lock:
                self.open -= 1


@contextmanager
def nothing_left_running() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.integers(1, 5))
def test_what_is_read_comes_in_the_order_of_the_ranges(sizes: list[int], sessions: int) -> None:
    numbers = iter(range(sum(sizes)))
    ranges = [[next(numbers) for _ in range(size)] for size in sizes]
    reader = Reader()
    with nothing_left_running():
        found = list(in_order(reader.read, range(sessions), ranges))
    assert found == list(range(sum(sizes)))
    assert reader.open == 0


def test_all_sessions_read_at_the_same_time() -> None:
    # Whoever reads waits for three others, so this ends only if four read together.
    together = threading.Barrier(4)

    def wait(number: int) -> None:
        together.wait(timeout=60)

    reader = Reader(wait)
    assert list(in_order(reader.read, range(4), [[n] for n in range(8)])) == list(range(8))
    assert len(reader.threads) == 4


def test_a_slow_first_range_is_waited_for_and_the_others_read_only_so_far_ahead() -> None:
    go_on = threading.Event()
    reader = Reader(lambda number: None if number else assert_set(go_on))
    ranges = [[n, *[-1] * 20] for n in range(100)]
    with nothing_left_running(), closing(in_order(reader.read, range(3), ranges)) as found:
        taken: list[int] = []
        taker = threading.Thread(target=lambda: taken.extend(n for n in found if n >= 0))
        taker.start()
        settled(lambda: reader.given)
        # Two readers have handed over what may wait, and each holds one more.
        assert reader.given == 2 * (sqlserver_ranges.BATCHES_A_RANGE + 1)
        go_on.set()
        taker.join(60)
        assert taken == list(range(100))


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


def settled(value: Callable[[], int]) -> None:
    """Wait until a number no longer changes."""
    before = -1
    while (now := value()) != before or not now:
        before = now
        time.sleep(0.2)


def test_short_ranges_are_read_two_a_session_ahead_and_no_more() -> None:
    go_on = threading.Event()
    reader = Reader(lambda number: None if number else assert_set(go_on))
    with closing(in_order(reader.read, range(3), [[n] for n in range(100)])) as found:
        taker = threading.Thread(target=lambda: next(found))
        taker.start()
        settled(lambda: reader.given)
        assert reader.given == sqlserver_ranges.RANGES_A_CONNECTION * 3 - 1
        go_on.set()
        taker.join(60)


@pytest.mark.parametrize("bad", [0, 5, 39])
def test_an_error_in_one_range_is_raised_and_nothing_goes_on(bad: int) -> None:
    def fail(number: int) -> None:
        if number == bad:
            raise DataError("the disk is gone")

    reader = Reader(fail)
    with nothing_left_running(), pytest.raises(DataError, match=r"^the disk is gone$"):
        list(in_order(reader.read, range(4), [[n] * 9 for n in range(40)]))
    assert reader.open == 0


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_whoever_stops_early_leaves_nothing_running(taken: int) -> None:
    reader = Reader()
    with nothing_left_running():
        found = in_order(reader.read, range(4), [list(range(50))] * 40)
        for _ in range(taken):
            next(found)
        found.close()
    assert reader.open == 0
    assert reader.given < 40 * 50


def test_an_interrupt_while_waiting_ends_all_threads() -> None:
    waiting = threading.Event()

    def slow(number: int) -> None:
        waiting.set()
        time.sleep(0.3)

    class Interrupted(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread() is threading.main_thread():
                assert waiting.wait(60)
                raise KeyboardInterrupt
            return super().wait(timeout)

    reader = Reader(slow)
    with pytest.MonkeyPatch.context() as patch, nothing_left_running():
        patch.setattr(sqlserver_ranges, "threading", SimpleNamespace(Condition=Interrupted))
        with pytest.raises(KeyboardInterrupt):
            list(in_order(reader.read, range(3), [[n] for n in range(40)]))
    assert reader.open == 0


# One moment for all


class Server:
    """A connector whose sessions write down what they are told, and may refuse some of it."""

    errors = (ServerError,)

    def __init__(
        self, connections: int = 3, size: int | None = 5_000_000, refuse: str = "nothing"
    ) -> None:
        self.read_connections = connections
        self.size = size
        self.refuse = refuse
        self.told: list[tuple[int, str]] = []
        self.opened: list[FakeSession] = []

    def read(self, doing: str, query: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        return [(self.size,)]

    def open(self) -> FakeSession:
        if self.refuse == f"session {len(self.opened)}":
            raise DatabaseError("no more sessions")
        self.opened.append(FakeSession(self, len(self.opened)))
        return self.opened[-1]

    open_to_read = open


class FakeSession:
    def __init__(self, server: Server, number: int) -> None:
        self.server, self.number, self.closed = server, number, False
        self.native = self
        self.autocommit = True

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        self.server.told.append((self.number, statement))
        if self.server.refuse in statement:
            raise ServerError(1222, "Lock request time out period exceeded.")
        return [(1_000_000, 1, 2_000_000)] if "COUNT_BIG" in statement else [(1,)]

    def rollback(self) -> None:
        self.server.told.append((self.number, "ROLLBACK"))

    def close(self) -> None:
        self.closed = True


def begin(server: Server, source: str = "dbo.customer", key: SqlColumn = ID) -> Any:
    return begin_together(server, source, key)  # type: ignore[arg-type]


def test_every_snapshot_is_taken_under_one_lock_and_rows_are_counted_after_it() -> None:
    server = Server()
    together = begin(server)
    steps = [
        *((n, "SET TRANSACTION ISOLATION LEVEL SNAPSHOT") for n in range(3)),
        (3, lock_query("dbo.customer")),
        *((n, first_read("dbo.customer")) for n in range(3)),
        (3, "ROLLBACK"),
        (0, extent_query("dbo.customer", ID)),
    ]
    assert server.told == steps
    assert [session.closed for session in server.opened] == [False, False, False, True]
    assert not any(session.autocommit for session in server.opened)
    assert together.row_count == 1_000_000
    assert len(together.ranges) == 8
    together.close()
    assert all(session.closed for session in server.opened)


@pytest.mark.parametrize(
    "refuse",
    ["session 0", "session 2", "session 3", "ISOLATION", "TABLOCK", "-1", "COUNT_BIG"],
)
def test_where_it_cannot_begin_one_connection_reads_and_no_session_is_left(refuse: str) -> None:
    server = Server(refuse=refuse)
    assert begin(server) is None
    assert all(session.closed for session in server.opened)


@pytest.mark.parametrize(
    ("server", "source", "base"),
    [
        (Server(connections=1), "dbo.customer", "bigint"),
        (Server(size=999_999), "dbo.customer", "bigint"),
        (Server(size=None), "dbo.customer", "bigint"),
        (Server(), "other.dbo.customer", "bigint"),
        (Server(), "SELECT * FROM dbo.customer", "bigint"),
        (Server(), "dbo.customer", "decimal"),
        (Server(), "dbo.customer", "nvarchar"),
    ],
)
def test_other_sources_are_read_by_one_connection(server: Server, source: str, base: str) -> None:
    assert begin(server, source, SqlColumn("id", base, 8, 19, 0, None)) is None
    assert not server.opened


def test_a_table_of_all_whole_numbers_types_is_read_by_several() -> None:
    for base in ("tinyint", "smallint", "int", "bigint"):
        assert begin(Server(), key=SqlColumn("id", base, 8, 19, 0, None)) is not None


def keys_of(numbers: list[int]) -> Batch:
    return Batch(pa.record_batch({"id": pa.array(numbers, pa.int64())}), pa.record_batch({}))


@pytest.mark.parametrize("counted", [9, 11])
def test_rows_that_are_not_as_many_as_were_counted_are_refused(counted: int) -> None:
    def read(session: Any, condition: str, ends: Any) -> Generator[Batch, None, None]:
        yield keys_of(list(range(ends[0], ends[1] + 1)))

    sessions: Any = [FakeSession(Server(), n) for n in range(2)]
    good = CommonSnapshot(sessions, ID, 10, cut(1, 10, 4))
    found = [n for batch in good.batches(read) for n in batch.keys.column(0).to_pylist()]
    assert found == list(range(1, 11))
    with nothing_left_running(), pytest.raises(DatabaseError, match=rf"{counted} rows.* 10 were"):
        list(CommonSnapshot(sessions, ID, counted, cut(1, 10, 4)).batches(read))


# On a server


@pytest.fixture
def shop(server: SQLServerBackend, monkeypatch: pytest.MonkeyPatch) -> SQLServerBackend:
    """Where small tables count as large; ranges are of a few rows."""
    allowed = server.rows(
        "SELECT snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()"
    )
    if allowed != [(1,)]:
        server.close()
        pytest.skip("this database does not allow snapshot isolation")
    monkeypatch.setattr(sqlserver_ranges, "LEAST_ROWS", 0)
    monkeypatch.setattr(sqlserver_ranges, "ROWS_A_RANGE", 50)
    server.execute("CREATE TABLE dbo.sqlkmeans_try (id int NOT NULL PRIMARY KEY CLUSTERED)")
    kinds = "SELECT type FROM sys.indexes WHERE object_id = OBJECT_ID('dbo.sqlkmeans_try')"
    if (1,) not in server.rows(kinds):
        # This server calls every index the other kind.
        monkeypatch.setattr(sqlserver_ranges, "CLUSTERED", 2)
    server.execute("DROP TABLE dbo.sqlkmeans_try")
    return server


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[CommonSnapshot | None]:
    """What reading began with, at each reading."""
    import sqlkmeans.database.sqlserver.database as module

    found: list[CommonSnapshot | None] = []

    def noting(*arguments: Any) -> CommonSnapshot | None:
        found.append(begin_together(*arguments))
        return found[-1]

    monkeypatch.setattr(module, "begin_together", noting)
    return found


def open_with(server: SQLServerBackend, connections: int) -> Any:
    url = server.url.update_query_dict({"read_connections": str(connections)})
    database = open_database(url.render_as_string(hide_password=False))
    if not database.schema_version():
        database.install()
    return database


@pytest.mark.sqlserver
@pytest.mark.parametrize("first_id", [1, -60, 2**63 - 1200])
def test_segments_are_the_same_over_one_connection_and_over_four(
    first_id: int, shop: SQLServerBackend, customers: Segmentation, make_customers: Any,
    begun: list[CommonSnapshot | None],
) -> None:  # fmt: skip
    rows = make_customers([600, 400, 200], first_id=0)
    ids = pa.array([first_id + n for n in range(1200)], pa.int64())
    shop.make_table("dbo.customer", rows.set_column(0, "customer_id", ids), "customer_id")
    published = []
    for connections in (1, 4):
        with open_with(shop, connections) as database:
            other = f"dbo.labels_of_{connections}"
            of = Segmentation.create(**{
                **customers.model_dump(), "name": f"by_{connections}", "target": other
            })  # fmt: skip
            result = pipeline.run(of, database)
            published.append((
                shop.rows(f"SELECT customer_id, segment_id, distance FROM {other} "
                          "ORDER BY customer_id"),
                result.inertia, result.rows,
            ))  # fmt: skip
    assert published[0] == published[1]
    assert len(published[0][0]) == 1200
    one, four = begun
    assert one is None
    assert four is not None
    assert (len(four.sessions), len(four.ranges), four.row_count) == (4, 24, 1200)


@pytest.mark.sqlserver
def test_a_key_of_two_columns_that_lie_unevenly_is_read_in_order(
    shop: SQLServerBackend, begun: list[CommonSnapshot | None]
) -> None:
    shop.execute(
        "CREATE TABLE dbo.customer (a int NOT NULL, b nvarchar(20) NOT NULL, x float, "
        "PRIMARY KEY (a, b))"
    )
    for a in (-(2**31), 5, 6, 2**31 - 1):
        for b in ("z", "y", "x"):
            shop.execute(f"INSERT INTO dbo.customer VALUES ({a}, N'{b}', {a % 7})")
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key=["a", "b"], features=["x"], k=2,
        target="dbo.customer_segment",
    )  # fmt: skip
    read = []
    for connections in (1, 3):
        with open_with(shop, connections) as database:
            with database.open_source(segmentation, ["x"]) as source:
                assert source.row_count == 12
                batches = list(source.batches)
        table = pa.Table.from_batches([batch.keys for batch in batches])
        read.append(list(zip(*table.to_pydict().values())))
    assert read[0] == read[1]
    assert len(read[0]) == 12
    assert begun[1] is not None


@pytest.mark.sqlserver
def test_rows_without_a_key_are_found_and_refused(
    shop: SQLServerBackend, customers: Segmentation, begun: list[CommonSnapshot | None]
) -> None:
    shop.execute("CREATE TABLE dbo.customer (customer_id bigint, income float, age float)")
    shop.execute("CREATE CLUSTERED INDEX by_id ON dbo.customer (customer_id)")
    for key in ("NULL", "NULL", "7", "8", "9"):
        shop.execute(f"INSERT INTO dbo.customer VALUES ({key}, 1, 2)")
    with open_with(shop, 2) as database:
        with pytest.raises(DataError, match="2 NULL"):
            pipeline.run(customers, database)
        shop.execute("DELETE FROM dbo.customer WHERE customer_id IS NOT NULL")
        with pytest.raises(DataError, match="2 NULL"):
            pipeline.run(customers, database)
        shop.execute("DELETE FROM dbo.customer")
        with pytest.raises(DataError, match="no rows"):
            pipeline.run(customers, database)
    assert all(together is not None for together in begun)


@pytest.mark.sqlserver
def test_all_connections_see_the_moment_before_later_changes(
    shop: SQLServerBackend, customers: Segmentation, make_customers: Any,
    begun: list[CommonSnapshot | None],
) -> None:  # fmt: skip
    shop.make_table("dbo.customer", make_customers(), "customer_id")
    with open_with(shop, 3) as database:
        with database.open_source(customers, ["income"]) as source:
            shop.execute("DELETE FROM dbo.customer WHERE customer_id % 2 = 0")
            shop.execute("UPDATE dbo.customer SET income = -1")
            batches = list(source.batches)
    income = np.concatenate([batch.features.column(0).to_numpy() for batch in batches])
    assert len(income) == 120
    assert income.min() > 0
    assert begun[0] is not None


@pytest.mark.sqlserver
def test_views_other_keys_and_heaps_are_read_by_one_connection(
    shop: SQLServerBackend, customers: Segmentation, make_customers: Any,
    begun: list[CommonSnapshot | None],
) -> None:  # fmt: skip
    shop.make_table("dbo.customer", make_customers(), "customer_id")
    shop.make_table("dbo.heap", make_customers(), None)
    shop.execute("CREATE VIEW dbo.a_view AS SELECT customer_id, income, age FROM dbo.customer")
    sources = ["dbo.a_view", "dbo.heap", "SELECT * FROM dbo.customer", "dbo.customer"]
    with open_with(shop, 2) as database:
        for source in sources:
            of = Segmentation.create(**{**customers.model_dump(), "source": source})
            with database.open_source(of, ["income"]) as opened:
                assert sum(batch.keys.num_rows for batch in opened.batches) == 120
    assert [together is None for together in begun] == [True, True, True, False]


@pytest.mark.sqlserver
def test_a_value_that_cannot_be_read_in_one_range_is_told_and_all_sessions_end(
    shop: SQLServerBackend, make_customers: Any, begun: list[CommonSnapshot | None]
) -> None:
    shop.execute(
        "CREATE TABLE dbo.customer (customer_id bigint NOT NULL PRIMARY KEY, x nvarchar(9))"
    )
    shop.execute("INSERT INTO dbo.customer VALUES (1, N'1'), (2, N'2'), (3, N'many'), (4, N'4')")
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", features=["x"], k=2,
        target="dbo.customer_segment",
    )  # fmt: skip
    told = []
    for connections in (1, 4):
        with open_with(shop, connections) as database, nothing_left_running():
            with pytest.raises(DataError, match="source: reading stopped") as caught:
                with database.open_source(segmentation, ["x"]) as source:
                    list(source.batches)
            told.append(str(caught.value))
    assert told[0] == told[1]
    assert begun[1] is not None
    for session in begun[1].sessions:
        assert is_closed(session)


@pytest.mark.sqlserver
def test_whoever_leaves_the_source_early_leaves_no_session(
    shop: SQLServerBackend, customers: Segmentation, make_customers: Any,
    begun: list[CommonSnapshot | None],
) -> None:  # fmt: skip
    shop.make_table("dbo.customer", make_customers([600, 400, 200]), "customer_id")
    with open_with(shop, 3) as database, nothing_left_running():
        with database.open_source(customers, ["income"]) as source:
            next(source.batches)
    assert begun[0] is not None
    assert all(is_closed(session) for session in begun[0].sessions)


def is_closed(session: Session) -> bool:
    try:
        session.rows("SELECT 1")
    except Exception:
        return True
    return False


@pytest.mark.sqlserver
def test_a_writer_who_has_not_committed_is_not_waited_for(
    shop: SQLServerBackend, customers: Segmentation, make_customers: Any,
    begun: list[CommonSnapshot | None],
) -> None:  # fmt: skip
    shop.make_table("dbo.customer", make_customers(), "customer_id")
    writer = sqlserver_server.connect(shop.url)
    writer.autocommit = False
    writer.cursor().execute("UPDATE dbo.customer SET income = -1")
    try:
        with open_with(shop, 3) as database:
            with database.open_source(customers, ["income"]) as source:
                batches = list(source.batches)
    finally:
        writer.rollback()
        writer.close()
    assert min(batch.features.column(0).to_numpy().min() for batch in batches) > 0
    # A server that takes no locks for hints has nothing to wait for.
    assert begun[0] is None or not _has_table_locks(shop)


def _has_table_locks(server: SQLServerBackend) -> bool:
    """Whether a hint for a lock on the table makes a reader wait for a writer."""
    server.execute("CREATE TABLE dbo.sqlkmeans_try (a int)")
    writer = sqlserver_server.connect(server.url)
    writer.autocommit = False
    writer.cursor().execute("INSERT INTO dbo.sqlkmeans_try VALUES (1)")
    try:
        server.rows(lock_query("dbo.sqlkmeans_try"))
    except server.error:
        return True
    finally:
        writer.rollback()
        writer.close()
        server.execute("SET LOCK_TIMEOUT -1")
        server.execute("DROP TABLE dbo.sqlkmeans_try")
    return False


def test_the_option_reaches_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connector, "read", lambda *arguments: [(1,)])
    url = make_url("mssql+mssqlpython://sa:x@db.example.com/shop?read_connections=3")
    assert SQLServerDatabase(url)._connector.read_connections == 3
