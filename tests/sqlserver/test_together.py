"""Reading a large table in several processes: what each does and when, without a server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.database.source import NOT_BEGUN
from sqlkmeans.database.sqlserver import ranges, together
from sqlkmeans.database.sqlserver.ranges import (
    count_query,
    cut,
    ends_query,
    first_read,
    lock_query,
    open_ended,
)
from sqlkmeans.database.sqlserver.together import part_reader, together_reader
from sqlkmeans.database.sqlserver.types import SqlColumn

LEAST, MOST = -(2**63), 2**63 - 1
ID = SqlColumn("id", "bigint", 8, 19, 0, None)
ROWS = 1_000
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL SNAPSHOT"
LOCK, FIRST, COUNT = "lock", "first", "count"


@given(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)).map(sorted))
def test_the_outer_ranges_have_all_that_the_type_of_the_key_has(ends: list[int]) -> None:
    low, high = ends
    key = SqlColumn("id", "int", 4, 10, 0, None)
    for count in (1, 2, 7):
        before = cut(low, high, count)
        after = open_ended(before, key)
        assert (after[0].low, after[-1].high) == (-(2**31), 2**31 - 1)
        assert [part.low for part in after[1:]] == [part.low for part in before[1:]]
        assert [part.high for part in after[:-1]] == [part.high for part in before[:-1]]
        assert [part.with_nulls for part in after] == [part.with_nulls for part in before]


class FakeServer:
    """In place of mssql-python: writes down who was told what, and has rows 0, 1, 2, …"""

    def __init__(self, refuse: str = "nothing", counted: int = ROWS) -> None:
        self.refuse, self.counted = refuse, counted
        self.told: list[tuple[str, str]] = []
        self.open = 0
        self.pools = True
        self.__version__ = "1.16.0"

    def pooling(self, *, enabled: bool) -> None:
        self.pools = enabled

    def connect(self, connection: str, *, autocommit: bool, timeout: int) -> FakeSession:
        assert (connection, autocommit, timeout) == ("server and password", True, 15)
        assert not self.pools
        self.open += 1
        return FakeSession(self)


class FakeSession:
    def __init__(self, server: FakeServer) -> None:
        self.server, self.autocommit = server, True

    def cursor(self) -> FakeCursor:
        return FakeCursor(self)

    def rollback(self) -> None:
        self.server.told.append((threading.current_thread().name, "rollback"))

    def close(self) -> None:
        self.server.open -= 1


class FakeCursor:
    def __init__(self, session: FakeSession) -> None:
        self.session, self.ends = session, (0, 0)
        self.description = None

    def execute(self, statement: str, ends: tuple[int, int] = (0, 0)) -> None:
        server = self.session.server
        # What has to be of one moment is asked in a transaction.
        assert self.session.autocommit == (statement == SNAPSHOT)
        server.told.append((threading.current_thread().name, statement))
        if statement == server.refuse:
            raise ValueError("Lock request time out period exceeded.")
        self.statement, self.ends = statement, ends
        self.description = () if statement == SNAPSHOT else ("x",)

    def fetchall(self) -> list[tuple[int]]:
        return [(self.session.server.counted,)]

    def nextset(self) -> bool:
        return False

    def arrow_reader(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        assert self.statement == "part"
        yield pa.record_batch({"id": pa.array(range(*self.ends), pa.int64())})

    def close(self) -> None:
        pass


class Together:
    """Processes that are threads, and what they tell each other."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.texts = [""] * places
        self.barrier = threading.Barrier(places)

    def share(self, place: int) -> Callable[[str], Sequence[str]]:
        def share(text: str) -> list[str]:
            self.texts[place] = text
            self.barrier.wait(60)
            texts = list(self.texts)
            self.barrier.wait(60)
            return texts

        return share

    def read(self, read: Any) -> list[list[dict[str, int]]]:
        """What each has read."""

        def of(place: int) -> list[dict[str, int]]:
            threading.current_thread().name = str(place)
            try:
                batches = read(place, self.places, self.share(place))
                return list(pa.Table.from_batches(batches).to_pylist())
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.places) as pool:
            futures = [pool.submit(of, place) for place in range(self.places)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        real = [error for error in errors if "BrokenBarrier" not in repr(error)]
        if errors:
            raise (real or errors)[0]
        return [future.result() for future in futures]


def reader() -> Any:
    parts = [("part", (start, start + 100)) for start in range(0, ROWS, 100)]
    return part_reader("server and password", 15, LOCK, FIRST, COUNT, parts)


def with_server(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> FakeServer:
    monkeypatch.setitem(sys.modules, "mssql_python", server)
    return server


def test_all_begin_under_one_lock_and_each_row_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = with_server(monkeypatch, FakeServer())
    read = Together(3).read(reader())
    rows = [tuple(row.values()) for rows in read for row in rows]
    assert sorted(number for number, _, _ in rows) == list(range(ROWS))
    (_, first_moment, _), *_ = rows
    assert {(moment, counted) for _, moment, counted in rows} == {(first_moment, ROWS)}
    assert [len(numbers) for numbers in read] == [400, 300, 300]
    steps = [statement for _, statement in server.told]
    assert steps[:3] == [SNAPSHOT] * 3
    assert server.told[3] == ("0", LOCK)
    assert sorted(server.told[4:7]) == [(str(place), FIRST) for place in range(3)]
    # Others may read while the lock is given up.
    assert steps.index("rollback") > 6
    assert sorted(steps[7:]) == sorted([COUNT, *["part"] * 10, "rollback"])


@pytest.mark.parametrize("refuse", [SNAPSHOT, LOCK, FIRST])
def test_where_they_cannot_begin_that_is_said_and_no_session_is_left(
    refuse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = with_server(monkeypatch, FakeServer(refuse))
    with pytest.raises(RuntimeError, match=NOT_BEGUN):
        Together(3).read(reader())
    assert "part" not in {statement for _, statement in server.told}


def test_the_lock_is_given_up_though_one_of_them_never_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(together, "LOCK_SECONDS", 0.1)
    server = with_server(monkeypatch, FakeServer())
    closed = threading.Event()
    monkeypatch.setattr(FakeSession, "close", lambda self: closed.set())

    def share(text: str) -> list[str]:
        # Told when the lock has been given up.
        assert text != "begun" or closed.wait(60)
        return [text]

    with pytest.raises(RuntimeError, match=f"{NOT_BEGUN}: TimeoutError: not all had begun"):
        list(reader()(0, 1, share))
    assert server.told == [("MainThread", step) for step in (SNAPSHOT, LOCK, FIRST)]


def test_with_an_older_mssql_python_they_do_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    server = with_server(monkeypatch, FakeServer())
    server.__version__ = "1.9.0"
    with pytest.raises(RuntimeError, match=rf"{NOT_BEGUN}: .* 1\.9\.0 given; allowed: 1\.14 or"):
        Together(1).read(reader())
    assert server.told == []


def test_without_mssql_python_they_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mssql_python", None)
    with pytest.raises(RuntimeError, match=f"{NOT_BEGUN}: ModuleNotFoundError"):
        Together(1).read(reader())


def test_an_error_while_reading_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_server(monkeypatch, FakeServer("part"))
    with pytest.raises(ValueError, match="Lock request"):
        Together(2).read(reader())


def test_it_travels_to_where_nothing_of_this_package_is() -> None:
    cloudpickle = pytest.importorskip("pyspark.cloudpickle")
    from sqlkmeans.database.spark.carrying import task_of

    schema = pa.schema([("k1", pa.int64())])
    script = (
        "import pickle, sys\n"
        "sys.modules['sqlkmeans'] = None\n"
        "task = pickle.loads(sys.stdin.buffer.read())\n"
        "assert not [name for name in sys.modules if name.startswith('sqlkmeans.')]\n"
        "print(task.__name__)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        input=cloudpickle.dumps(task_of(reader(), 2, schema)), capture_output=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == [b"task"]


# Which sources


class Server:
    """A connector, and what it is asked."""

    def __init__(self, size: int | None = 5_000_000, place: Any = ("server", 15)) -> None:
        self.size, self.place = size, place

    def read(self, doing: str, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        if query == ranges.size_query():
            return [(self.size,)]
        assert query == ends_query("dbo.customer", ID)
        return [(1, 5_000_000)]

    def read_elsewhere(self) -> Any:
        return self.place


def reader_of(server: Server, source: str = "dbo.customer", key: SqlColumn = ID) -> Any:
    income = SqlColumn("income", "decimal", 9, 12, 2, None)
    return together_reader(server, source, [key], [(income, "number")], income)  # type: ignore[arg-type]


def test_the_statements_travel_as_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        "sqlkmeans.database.sqlserver.together.part_reader", lambda *values: given.extend(values)
    )
    found = reader_of(Server())
    assert given[:5] == [
        "server", 15, lock_query("dbo.customer"), first_read("dbo.customer"),
        count_query("dbo.customer"),
    ]  # fmt: skip
    parts = given[5]
    assert len(parts) == -(-5_000_000 // ranges.ROWS_A_RANGE)
    (first, ends), *_, (last, last_ends) = parts
    between = "source.[id] BETWEEN CAST(? AS bigint) AND CAST(? AS bigint)"
    assert f"WHERE (source.[id] IS NULL OR {between}) ORDER BY" in first
    assert f"WHERE {between} ORDER BY" in last
    assert (ends[0], last_ends[1]) == (LEAST, MOST)
    assert (found.keys, found.features, found.weighted) == ([pa.int64()], [pa.float64()], True)


@pytest.mark.parametrize(
    ("server", "source", "base"),
    [
        (Server(size=999_999), "dbo.customer", "bigint"),
        (Server(size=None), "dbo.customer", "bigint"),
        (Server(place=None), "dbo.customer", "bigint"),
        (Server(), "other.dbo.customer", "bigint"),
        (Server(), "SELECT * FROM dbo.customer", "bigint"),
        (Server(), "dbo.customer", "nvarchar"),
    ],
)
def test_other_sources_are_read_by_one_process(server: Server, source: str, base: str) -> None:
    assert reader_of(server, source, SqlColumn("id", base, 8, 19, 0, None)) is None


def test_an_option_that_is_for_pyodbc_keeps_the_reading_there() -> None:
    from sqlkmeans.database.sqlserver.connection import Connector

    def connector(driver: str, reads: bool) -> Any:
        copier = SimpleNamespace(reads=reads, obstacle=None, elsewhere=lambda: ("beside", 15))
        return SimpleNamespace(driver=driver, copier=copier, elsewhere=copier.elsewhere)

    assert Connector.read_elsewhere(connector("mssqlpython", False)) == ("beside", 15)
    assert Connector.read_elsewhere(connector("pyodbc", True)) == ("beside", 15)
    assert Connector.read_elsewhere(connector("pyodbc", False)) is None
