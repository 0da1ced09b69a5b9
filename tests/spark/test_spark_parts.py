"""Labels that executors write, each a part: exactly once, whatever becomes of them on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import open_database
from sqlkmeans.database.duckdb.labels import DuckDBLabels
from sqlkmeans.database.spark import workspace
from sqlkmeans.database.sqlserver import writing
from sqlkmeans.database.sqlserver.labels import SQLServerLabels
from sqlkmeans.database.sqlserver.parts import parts_name
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import SqlKMeansError
from support.backends import SQLServerBackend
from support.shops import labels_of, make_shop

pytestmark = pytest.mark.spark

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
    assert not [name for name in server.tables("sqlkmeans") if name.startswith("staging")]
    server.close()


@pytest.mark.sqlserver
def test_customers_of_a_lake_get_their_labels_on_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark_session: Any
) -> None:
    server = SQLServerBackend("mssqlpython", tmp_path)
    shop = make_shop(ROWS)
    server.make_table("dbo.shop", shop, "customer_id")
    cities = pa.array([f"{city} {n}" for n, city in enumerate(shop["city"].to_pylist())])
    keyed = shop.append_column("code", cities)
    spark_session.createDataFrame(keyed).createOrReplaceTempView("lake_shop")
    with server.open() as database:
        pipeline.run(definition("local"), database)
        lake = definition("spark", source="lake_shop")
        assert pipeline.run(lake, database).changed == ROWS
        monkeypatch.setattr(workspace, "PART_ROWS", ROWS)
        assert pipeline.run(lake, database).changed == 0
        assert pipeline.assign(lake, database).changed == 0
        different = server.rows(
            "SELECT COUNT(*), SUM(CASE WHEN l.segment_id = s.segment_id THEN 1 ELSE 0 END) "
            "FROM dbo.local AS l INNER JOIN dbo.spark AS s ON s.customer_id = l.customer_id"
        )
        text = definition("spark", source="lake_shop", key="code", target="dbo.other", name="text")
        assert [pipeline.run(text, database).changed for _ in range(2)] == [ROWS, 0]
        odd = definition(
            "spark", name="odd", target="dbo.odd", key="income", features=["age", "orders"],
            source="SELECT CAST(income AS decimal(12,4)) AS income, age, orders FROM lake_shop",
        )  # fmt: skip
        with pytest.raises(SqlKMeansError, match="income is of a type that cannot be a key"):
            pipeline.run(odd, database)
    spark_session.catalog.dropTempView("lake_shop")
    assert different == [(ROWS, ROWS)]
    server.close()
