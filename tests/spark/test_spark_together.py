"""A table of the database that executors read themselves: whole, of one moment, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.source import NOT_BEGUN, TogetherReader
from sqlkmeans.database.spark import carrying
from sqlkmeans.database.spark.carrying import rows_of_database
from sqlkmeans.database.spark.workspace import CarriedRows
from sqlkmeans.database.sqlserver import ranges as sqlserver_ranges
from sqlkmeans.database.sqlserver.database import SQLServerDatabase
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.engine import PushdownRows
from sqlkmeans.errors import DatabaseError, DataError
from support.backends import SQLServerBackend
from support.shops import make_shop

pytestmark = pytest.mark.spark

Read = Callable[[int, int, Callable[[str], Sequence[str]]], Iterator[pa.RecordBatch]]
ROWS = 600


def definition(engine: str, **changes: Any) -> Segmentation:
    values = {"features": ["income", "age"], "missing": "mean", "n_init": 3, **changes}
    return Segmentation.create(
        name=engine, source="dbo.shop", key="customer_id", k=4, target=f"dbo.{engine}",
        engine=engine, **values,
    )  # fmt: skip


#: Columns of all kinds that travel.
WIDE: dict[str, Any] = {
    "features": ["age", {"column": "city", "type": "category"}], "profile": ["orders"],
    "sample_weight": "importance",
}  # fmt: skip


def dying(read: Read, folder: str) -> Read:
    """The same, but at first a task dies after some of its rows, then another after all of them."""

    def attempt(
        place: int, places: int, share: Callable[[str], Sequence[str]]
    ) -> Iterator[pa.RecordBatch]:
        import os

        def die_once() -> None:
            if not os.path.exists(f"{folder}/died {place}"):
                os.close(os.open(f"{folder}/died {place}", os.O_CREAT))
                os._exit(9)

        for batch in read(place, places, share):
            yield batch.slice(0, 10)
            if place == 0:
                die_once()
            yield batch.slice(10)
        if place == 1:
            die_once()

    return attempt


def from_file(file: str, counted: int = ROWS) -> Read:
    """Rows that lie in a file, in place of those of a server."""

    def read(
        place: int, places: int, share: Callable[[str], Sequence[str]]
    ) -> Iterator[pa.RecordBatch]:
        import os

        import pyarrow as pa

        assert share(str(place)) == [str(other) for other in range(places)]
        rows = pa.ipc.open_file(file).read_all()
        for name, number in (("moment", int(share(os.urandom(2).hex())[0], 16)), ("of", counted)):
            rows = rows.append_column(name, pa.repeat(number, rows.num_rows))
        yield from rows.to_batches(50)[place::places]

    return read


def refusing(text: str) -> Read:
    """One task raises, and the others wait for it."""

    def read(
        place: int, places: int, share: Callable[[str], Sequence[str]]
    ) -> Iterator[pa.RecordBatch]:
        if place == 1:
            raise RuntimeError(text)
        share("")
        yield from ()

    return read


@pytest.fixture
def database() -> Iterator[Database]:
    """A shop in a DuckDB in memory."""
    with open_database("duckdb:///:memory:", create=True) as opened:
        opened.create_table("dbo.shop", make_shop(ROWS), "customer_id")
        yield opened


def reads_together(database: Database, read: Read, rows: pa.Table) -> None:
    """Let DuckDB be a database that executors reach."""

    def together_reader(
        segmentation: Segmentation, features: Sequence[str], types: Mapping[str, str]
    ) -> TogetherReader:
        key, *columns = rows.schema.types[: 1 + len(features)]
        return TogetherReader(read, [key], columns, segmentation.sample_weight is not None)

    # Of this one alone: a class that has it is remembered to have it.
    database.together_reader = together_reader  # type: ignore[attr-defined]


def given(database: Database, spark_session: Any, **changes: Any) -> CarriedRows:
    described = {column.name: column for column in database.describe("dbo.shop")}
    return rows_of_database(spark_session, database, definition("spark", **changes), described)


def written(folder: Path, *columns: str) -> tuple[str, pa.Table]:
    """The shop's rows in a file."""
    rows = make_shop(ROWS).select(["customer_id", *columns])
    with pa.ipc.new_file(str(folder / "rows"), rows.schema) as file:
        file.write_table(rows)
    return str(folder / "rows"), rows


def test_where_executors_cannot_begin_the_rows_go_by_way_of_this_process(
    database: Database, spark_session: Any
) -> None:
    rows = make_shop(1).select(["customer_id", "income", "age"])
    reads_together(database, refusing(f"{NOT_BEGUN}: TimeoutError: no such server"), rows)
    workspace = given(database, spark_session)
    assert workspace.rows(f"SELECT COUNT(*) FROM {workspace.source}") == [(ROWS,)]
    (told,) = PushdownRows(None, SimpleNamespace(workspace=workspace), ROWS).notes()  # type: ignore[arg-type]
    assert told.startswith("source dbo.shop: Spark's executors could not read it, so its rows went")
    assert told.endswith("no such server")
    workspace.close()


def test_what_cannot_be_read_is_told_in_words(database: Database, spark_session: Any) -> None:
    rows = make_shop(1).select(["customer_id", "income", "age"])
    reads_together(database, refusing("Error converting data type nvarchar to float."), rows)
    with pytest.raises(DataError, match=r"^source dbo\.shop: reading stopped: .*nvarchar to float"):
        given(database, spark_session)


def kept_by(session: Any) -> set[int]:
    """The numbers of what a session keeps; what other tests left in it may go meanwhile."""
    return set(session.sparkContext._jsc.getPersistentRDDs())


def test_rows_of_several_moments_are_refused(
    database: Database, spark_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(place: int, places: int, share: Any) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        numbers = {name: pa.array([place]) for name in ("customer_id", "income", "age", "moment")}
        yield pa.record_batch({**numbers, "of": pa.array([2])})

    monkeypatch.setattr(carrying, "ATTEMPTS", 1)
    reads_together(database, read, make_shop(1).select(["customer_id", "income", "age"]))
    before = kept_by(spark_session)
    with pytest.raises(DatabaseError, match="rows came of several moments"):
        given(database, spark_session)
    assert not kept_by(spark_session) - before


def test_rows_that_are_not_as_many_as_were_counted_are_refused(
    database: Database, tmp_path: Path, spark_session: Any
) -> None:
    file, rows = written(tmp_path, "income", "age")
    reads_together(database, from_file(file, counted=601), rows)
    with pytest.raises(DatabaseError, match="601 rows were counted and 600 came"):
        given(database, spark_session)


def test_what_was_read_is_kept_until_the_run_ends(
    database: Database, tmp_path: Path, spark_session: Any
) -> None:
    file, rows = written(tmp_path, "income", "age")
    reads_together(database, from_file(file), rows)
    before = kept_by(spark_session)
    workspace = given(database, spark_session)
    assert len(kept_by(spark_session) - before) == 1
    workspace.close()
    assert not kept_by(spark_session) - before


@pytest.fixture
def checkpoints(spark_session: Any, tmp_path: Path) -> Iterator[None]:
    """A folder for them, which other tests want not to be there."""
    context = spark_session.sparkContext._jsc
    context.setCheckpointDir(str(tmp_path / "checkpoints"))
    yield
    context.setCheckpointDir(None)


@pytest.mark.usefixtures("checkpoints")
@pytest.mark.parametrize("keep", ["cache", "checkpoint"])
def test_rows_come_once_though_tasks_die_and_are_not_read_again_at_another_moment(
    keep: str, database: Database, tmp_path: Path, spark_session: Any,
) -> None:  # fmt: skip
    file, rows = written(tmp_path, "age", "city", "orders", "importance")
    reads_together(database, dying(from_file(file), str(tmp_path)), rows)
    context = spark_session.sparkContext
    before = set(context._jsc.getPersistentRDDs())
    workspace = given(database, spark_session, spark={"keep": keep}, **WIDE)
    query = f"SELECT k1, x1, x2, x3, w FROM {workspace.source} ORDER BY k1"
    assert workspace.rows(query) == sorted(zip(*rows.to_pydict().values()))
    assert sorted(path.name for path in tmp_path.glob("died*")) == ["died 0", "died 1"]
    Path(file).unlink()
    kept = context._jsc.getPersistentRDDs()
    for number in set(kept) - before:
        kept[number].unpersist(True)
    if keep == "checkpoint":
        assert len(workspace.rows(query)) == ROWS
    else:
        with pytest.raises(DatabaseError, match="would be of another moment"):
            workspace.rows(query)
    workspace.close()


# On a server


@pytest.mark.sqlserver
@pytest.mark.parametrize("driver", ["mssqlpython", "pyodbc"])
def test_executors_read_a_table_of_a_server_whole_though_two_tasks_die(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SQLServerBackend(driver, tmp_path)
    # For pyodbc alone; and it has no executors.
    server.url = server.url.difference_update_query(["APP"])
    server.make_table("dbo.shop", make_shop(ROWS), "customer_id")
    if (1,) not in server.rows(
        "SELECT snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()"
    ):
        server.close()
        pytest.skip("this database does not allow snapshot isolation")
    monkeypatch.setattr(sqlserver_ranges, "LEAST_ROWS", 0)
    monkeypatch.setattr(sqlserver_ranges, "ROWS_A_RANGE", 50)
    kinds = "SELECT type FROM sys.indexes WHERE object_id = OBJECT_ID('dbo.shop')"
    if (1,) not in server.rows(kinds):
        # This server calls every index the other kind.
        monkeypatch.setattr(sqlserver_ranges, "CLUSTERED", 2)
    together_reader = SQLServerDatabase.together_reader

    def dying_reader(*arguments: Any) -> TogetherReader:
        found = together_reader(*arguments)
        assert found is not None
        return replace(found, read=dying(found.read, str(tmp_path)))

    monkeypatch.setattr(SQLServerDatabase, "together_reader", dying_reader)
    with server.open() as database:
        pipeline.run(definition("local"), database)
        result = pipeline.run(definition("spark"), database)
        assert (result.rows, result.changed, result.warnings) == (ROWS, ROWS, [])
        different = server.rows(
            "SELECT COUNT(*), SUM(CASE WHEN l.segment_id = s.segment_id THEN 1 ELSE 0 END) "
            "FROM dbo.local AS l INNER JOIN dbo.spark AS s ON s.customer_id = l.customer_id"
        )
    assert sorted(path.name for path in tmp_path.glob("died*")) == ["died 0", "died 1"]
    assert different == [(ROWS, ROWS)]
    server.close()
