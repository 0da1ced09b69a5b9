"""Labels that executors write, each a part: exactly once, whatever becomes of them on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import open_database
from sqlkmeans.database.duckdb.labels import DuckDBLabels
from sqlkmeans.database.spark import workspace
from sqlkmeans.database.sqlserver import labels as sqlserver_labels
from sqlkmeans.database.sqlserver import writing
from sqlkmeans.database.sqlserver.labels import SQLServerLabels
from sqlkmeans.database.sqlserver.parts import parts_name, writing_parts
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, SqlKMeansError
from sqlkmeans.explanation import explain
from sqlkmeans.report.page import write_report
from support.backends import SQLServerBackend
from support.shops import labels_of, make_shop

# On a busy machine a few runs of Spark take minutes.
pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

Batches = Iterable[pa.RecordBatch]
Write = Callable[[Batches], Iterator[pa.RecordBatch]]
ROWS = 1_200


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few labels are many, and few are committed together."""
    monkeypatch.setattr(workspace, "PART_ROWS", 100)
    monkeypatch.setattr(writing, "BULK_ROWS", 100)


def definition(engine: str, **changes: Any) -> Segmentation:
    values: dict[str, Any] = {
        "name": engine, "source": "dbo.shop", "key": "customer_id", "features": ["income", "age"],
        "k": 4, "missing": "mean", "n_init": 3, "target": f"dbo.{engine}", **changes,
    }  # fmt: skip
    return Segmentation.create(engine=engine, **values)


def dying(write: Write) -> Write:
    """The same, but the first task dies after half of its part, the second after all of it."""

    def attempt(batches: Batches) -> Iterator[pa.RecordBatch]:
        import os

        from pyspark import TaskContext

        task = TaskContext.get()
        assert task is not None

        def half() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                yield batch.slice(0, batch.num_rows // 2)
                raise RuntimeError("killed after half")

        if task.attemptNumber() or task.partitionId() > 1:
            yield from write(batches)
        elif task.partitionId() == 0:
            yield from write(half())
        else:
            list(write(batches))
            os._exit(9)

    return attempt


def staging(server: SQLServerBackend) -> list[str]:
    """Staging tables, and heaps beside them."""
    return [name for name in server.tables("sqlkmeans") if name.startswith("staging")]


def into_files(folder: str) -> Write:
    """A file an attempt, which stands there whole or not."""

    def write(batches: Batches) -> Iterator[pa.RecordBatch]:
        import os

        import pyarrow as pa

        attempt, rows = int.from_bytes(os.urandom(4), "big"), 0
        for number, batch in enumerate(batches):
            rows += batch.num_rows
            with pa.ipc.new_file(f"{folder}/{attempt} {number}", batch.schema) as file:
                file.write_batch(batch)
        yield pa.record_batch({"attempt": pa.array([attempt]), "rows": pa.array([rows])})

    return write


def test_what_tasks_left_that_died_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived: list[int] = []

    def part_writer(labels: DuckDBLabels, segmentation: Segmentation, run_id: int) -> Write:
        return dying(into_files(str(tmp_path)))

    def accept_parts(
        labels: DuckDBLabels, segmentation: Segmentation, run_id: int,
        attempts: Sequence[int], rows: int,
    ) -> None:  # fmt: skip
        files = {file: pa.ipc.open_file(file).read_all() for file in tmp_path.iterdir()}
        arrived.append(sum(part.num_rows for part in files.values()))
        found = [part for file, part in files.items() if int(file.name.split()[0]) in attempts]
        taken = pa.concat_tables(found)
        clusters = taken["cluster"].to_numpy().astype("int32")
        keys = taken.select(["customer_id"])
        labels.stage(segmentation, run_id, keys, clusters, taken["distance"].to_numpy())

    monkeypatch.setattr(DuckDBLabels, "part_writer", part_writer)
    monkeypatch.setattr(DuckDBLabels, "accept_parts", accept_parts)
    with open_database("duckdb:///:memory:", create=True) as database:
        database.create_table("dbo.shop", make_shop(ROWS), "customer_id")
        pipeline.run(definition("local"), database)
        assert pipeline.run(definition("spark"), database).changed == ROWS
        assert arrived == [ROWS // 4 + ROWS // 2 + ROWS]
        expected, found = labels_of(database, "dbo.local"), labels_of(database, "dbo.spark")
    assert found["customer_id"].equals(expected["customer_id"])
    assert found["segment_id"].equals(expected["segment_id"])


@pytest.mark.sqlserver
@pytest.mark.parametrize("driver", ["mssqlpython", "pyodbc"])
def test_a_server_takes_labels_from_executors_exactly_once(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SQLServerBackend(driver, tmp_path)
    server.make_table("dbo.shop", make_shop(ROWS), "customer_id")
    arrived: list[int] = []
    part_writer, accept_parts = SQLServerLabels.part_writer, SQLServerLabels.accept_parts

    def dying_writer(labels: SQLServerLabels, segmentation: Segmentation, run_id: int) -> Any:
        write = part_writer(labels, segmentation, run_id)
        assert write is not None
        return dying(write)

    def count_and_accept(
        labels: SQLServerLabels, segmentation: Segmentation, run_id: int,
        attempts: Sequence[int], rows: int,
    ) -> None:  # fmt: skip
        arrived.append(server.rows(f"SELECT COUNT(*) FROM {parts_name(run_id)}")[0][0])
        accept_parts(labels, segmentation, run_id, attempts, rows)

    monkeypatch.setattr(SQLServerLabels, "part_writer", dying_writer)
    monkeypatch.setattr(SQLServerLabels, "accept_parts", count_and_accept)
    with server.open() as database:
        pipeline.run(definition("local"), database)
        assert pipeline.run(definition("spark"), database).changed == ROWS
        assert arrived[0] >= ROWS // 2 + ROWS
        assert pipeline.run(definition("spark"), database).changed == 0
        different = server.rows(
            "SELECT COUNT(*), SUM(CASE WHEN l.segment_id = s.segment_id THEN 1 ELSE 0 END) "
            "FROM dbo.local AS l INNER JOIN dbo.spark AS s ON s.customer_id = l.customer_id"
        )
    assert different == [(ROWS, ROWS)]
    assert not staging(server)
    server.close()


@pytest.fixture
def lake(spark_session: Any) -> Iterator[pa.Table]:
    """Customers whom Spark alone has, with keys of every type."""
    shop = make_shop(ROWS)
    ids = shop["customer_id"].to_pylist()
    rows = shop.append_column("code", pa.array([f"Å {n % 7} {n}" for n in ids]))
    rows = rows.append_column("part", pa.array([f"p{n % 2}" for n in ids]))
    rows = rows.append_column("seen", pa.array([datetime(2026, 1, 1, 0, 0, 0, n % 9) for n in ids]))
    rows = rows.append_column("raw", pa.array([n.to_bytes(5, "big") for n in ids]))
    spark_session.createDataFrame(rows).createOrReplaceTempView("lake_shop")
    yield rows
    spark_session.catalog.dropTempView("lake_shop")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SQLServerBackend]:
    """A server that knows nothing of the lake."""
    opened = SQLServerBackend("mssqlpython", tmp_path)
    yield opened
    opened.close()


@pytest.mark.sqlserver
def test_customers_of_a_lake_get_their_labels_on_a_server(
    lake: pa.Table, server: SQLServerBackend, monkeypatch: pytest.MonkeyPatch, spark_session: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    server.make_table("dbo.shop", make_shop(ROWS), "customer_id")
    segmentation = definition("spark", source="lake_shop")
    with server.open() as database:
        pipeline.run(definition("local"), database)
        assert pipeline.run(segmentation, database).changed == ROWS
        different = server.rows(
            "SELECT COUNT(*), SUM(CASE WHEN l.segment_id = s.segment_id THEN 1 ELSE 0 END) "
            "FROM dbo.local AS l INNER JOIN dbo.spark AS s ON s.customer_id = l.customer_id"
        )
        assert different == [(ROWS, ROWS)]
        # By way of this process, of which the database sees what changed alone.
        monkeypatch.setattr(workspace, "PART_ROWS", ROWS)
        assert pipeline.run(segmentation, database).written == 0
        assert pipeline.assign(segmentation, database).written == 0
        few = definition("spark", source="SELECT * FROM lake_shop WHERE age > 0")
        gone = lake["age"].null_count
        assert pipeline.assign(few, database).departed == gone
        assert pipeline.rollback("spark", database).arrived == gone
        customer = lake["customer_id"][0].as_py()
        assert explain("spark", database, customer, spark=spark_session).segment
        write_report("spark", database, tmp_path / "page.html", samples=False)
    for function in ("assign", "explain"):
        told = server.rows(f"SELECT segment_id FROM sqlkmeans.{function}_spark(60000, 40);")
        assert told[0][0] in {segment_id for (segment_id,) in server.rows(
            "SELECT DISTINCT segment_id FROM dbo.spark_named;")}  # fmt: skip
    for call in ("run_segmentation @engine = N'tsql',", "assign_segments"):
        with pytest.raises(server.error, match=r"if Spark has it, the client runs it"):
            server.execute(f"EXECUTE sqlkmeans.{call} @segmentation = N'spark';")
    assert not staging(server)


@pytest.mark.sqlserver
@pytest.mark.parametrize(
    "key",
    [["code", "part", "joined"], ["raw", "seen"]],
    ids=lambda key: " ".join(key),
)
def test_keys_of_a_lake_are_those_of_the_labels_again(
    key: list[str], lake: pa.Table, server: SQLServerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation = definition("spark", source="lake_shop", key=key, k=2)
    with server.open() as database:
        first = pipeline.run(segmentation, database)
        monkeypatch.setattr(workspace, "PART_ROWS", ROWS)
        second = pipeline.run(segmentation, database)
    assert (first.changed, second.written) == (ROWS, 0)


@pytest.mark.sqlserver
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("CAST(customer_id AS decimal(12, 0))", r"key: id is decimal\(12, 0\); allowed where"),
        ("CONCAT(REPEAT('🚲', 200), customer_id)", r"id: 410 long; the segment table takes 400"),
        ("CONCAT(IF(customer_id % 2 = 0, 'a', 'A'), customer_id DIV 2)", "the same one as its c"),
    ],
    ids=["decimal", "long", "two cases of a letter"],
)
def test_a_key_of_a_lake_that_no_table_takes_is_refused(
    key: str, said: str, lake: pa.Table, server: SQLServerBackend
) -> None:
    source = f"SELECT {key} AS id, income, orders FROM lake_shop"
    segmentation = definition(
        "spark", source=source, key="id", features=["income", "orders"], k=2, n_init=1
    )
    with server.open() as database:
        with pytest.raises(SqlKMeansError, match=said):
            pipeline.run(segmentation, database)
    assert "spark" not in server.tables("dbo")


@pytest.mark.sqlserver
def test_labels_are_not_taken_while_a_task_holds_their_heap(
    lake: pa.Table, server: SQLServerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_parts = SQLServerLabels.accept_parts

    def held(
        labels: SQLServerLabels, segmentation: Segmentation, run_id: int,
        attempts: Sequence[int], rows: int,
    ) -> None:  # fmt: skip
        server.execute(writing_parts(run_id))
        server.execute(f"BEGIN TRANSACTION; TRUNCATE TABLE {parts_name(run_id)};")
        accept_parts(labels, segmentation, run_id, attempts, rows)

    monkeypatch.setattr(SQLServerLabels, "accept_parts", held)
    monkeypatch.setattr(sqlserver_labels, "PARTS_SECONDS", 1)
    segmentation = definition("spark", source="lake_shop", n_init=1)
    with server.open() as database:
        with pytest.raises(DatabaseError, match=r"parts\]: a task that Spark gave up still"):
            pipeline.run(segmentation, database)
        # It is left while its writer lives.
        assert len(staging(server)) == 1
        server.execute("ROLLBACK TRANSACTION;")
        server.execute("EXECUTE sys.sp_releaseapplock @Resource = N'sqlkmeans parts "
                       f"{staging(server)[0].split('_')[1]}', @LockOwner = N'Session', "
                       "@DbPrincipal = N'sqlkmeans_operator';")  # fmt: skip
        monkeypatch.setattr(SQLServerLabels, "accept_parts", accept_parts)
        assert pipeline.run(segmentation, database).changed == ROWS
    assert not staging(server)
