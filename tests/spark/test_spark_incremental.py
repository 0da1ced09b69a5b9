"""`assign` with ``changed_by``, where Spark reads the source and the labels are in a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.spark import changes
from sqlkmeans.database.spark.changes import as_published, newest, unknown_since
from sqlkmeans.database.spark.types import column
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.result import RunResult
from support.backends import SQLServerBackend
from support.shops import MakeCustomers, native

Row = dict[str, Any]
NOON = datetime(2024, 5, 1, 12)
EARLIER, LATER = datetime(2024, 1, 1), datetime(2024, 5, 2)
FAR = {"income": 160_000.0, "age": 62.0}  # the third group's middle


@pytest.fixture
def database() -> Iterator[Database]:
    """An empty DuckDB in memory."""
    with open_database("duckdb:///:memory:", create=True) as opened:
        yield opened


@pytest.fixture
def rows(make_customers: MakeCustomers) -> list[Row]:
    """120 customers, 1 to 120, known by two columns; one was stamped at noon, the others before."""
    rows = make_customers().to_pylist()
    for n, row in enumerate(rows, start=1):
        row["since"] = datetime(2020, 1, 1, 0, 0, 0, n)
        row["updated_at"] = NOON - timedelta(days=120 - n)
        row["version"] = n
    return rows


def definition(source: str, **changes: Any) -> Segmentation:
    values: dict[str, Any] = {
        "name": "lake", "source": source, "key": ["customer_id", "since"], "k": 3, "n_init": 3,
        "features": ["income", "age"], "target": "dbo.labels", "engine": "spark",
        "changed_by": "updated_at", **changes,
    }  # fmt: skip
    return Segmentation.create(**values)


def labels(database: Database) -> dict[int, int]:
    """Customers and their segments."""
    found = native(database).execute("SELECT customer_id, segment_id FROM dbo.labels").fetchall()
    return dict(found)


def read(result: RunResult) -> int:
    """How many rows a run looked at."""
    (told,) = [warning for warning in result.warnings if "rows were read: those that" in warning]
    return int(told.split()[0])


@pytest.mark.spark
def test_only_rows_that_changed_came_or_left_are_looked_at(
    rows: list[Row], database: Database, spark_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(rows: Sequence[Row]) -> None:
        table = pa.Table.from_pylist(list(rows))
        spark_session.createDataFrame(table).createOrReplaceTempView("lake_customer")

    show(rows)
    stamped = definition("lake_customer")
    pipeline.run(stamped, database)
    before = labels(database)
    third = before[120]

    rows[0] |= {**FAR, "updated_at": LATER}
    rows[1] |= FAR  # Nobody stamped this one, so nobody reads it.
    rows[3] |= {**FAR, "updated_at": None}
    gone, new = rows.pop(2), {**rows[5], **FAR, "customer_id": 500, "updated_at": EARLIER}
    show([*rows, new])
    result = pipeline.assign(stamped, database)
    assert (result.arrived, result.moved, result.departed) == (1, 2, 1)
    expected = {**before, 1: third, 4: third, 500: third}
    del expected[gone["customer_id"]]
    assert labels(database) == expected
    # And the one of noon, from which the hour before the newest is counted.
    assert (read(result), result.rows) == (4, 120)
    squares = native(database).execute("SELECT SUM(distance * distance) FROM dbo.labels").fetchone()
    assert result.inertia == pytest.approx(squares[0])  # type: ignore[index]

    # The newest has gone, and the one without a stamp has one again: nobody is above the mark.
    rows[2]["updated_at"] = EARLIER
    show([*rows[1:], new])
    monkeypatch.setattr(changes, "PART_KEYS", 50)
    result = pipeline.assign(stamped, database)
    assert (read(result), result.departed, result.changed) == (0, 1, 1)

    everything = pipeline.assign(definition("lake_customer", changed_by=None), database)
    assert (everything.rows, everything.moved, everything.changed) == (119, 1, 1)
    names = [name for _, name, _ in spark_session.sql("SHOW TABLES").collect()]
    assert names == ["lake_customer"]
    assert spark_session.sparkContext._jsc.getPersistentRDDs().size() == 0
    spark_session.catalog.dropTempView("lake_customer")


@pytest.mark.spark
@pytest.mark.sqlserver
def test_labels_in_sql_server_follow_what_changed_too(
    rows: list[Row], tmp_path: Path, spark_session: Any
) -> None:
    def show(rows: Sequence[Row]) -> None:
        table = pa.Table.from_pylist(list(rows))
        spark_session.createDataFrame(table).createOrReplaceTempView("lake_customer")

    server = SQLServerBackend("mssqlpython", tmp_path)
    query, stamped = "SELECT customer_id, segment_id FROM dbo.labels", definition("lake_customer")
    with server.open() as database:
        show(rows)
        pipeline.run(stamped, database)
        expected = dict(server.rows(query))
        rows[0] |= {**FAR, "updated_at": LATER}
        gone, new = rows.pop(2), {**rows[5], **FAR, "customer_id": 500, "updated_at": EARLIER}
        show([*rows, new])
        result = pipeline.assign(stamped, database)
    assert (result.arrived, result.moved, result.departed, read(result)) == (1, 1, 1, 3)
    expected |= {1: expected[120], 500: expected[120]}
    del expected[gone["customer_id"]]
    assert dict(server.rows(query)) == expected
    server.close()
    spark_session.catalog.dropTempView("lake_customer")


@pytest.mark.spark
def test_rows_of_the_database_travel_to_spark_only_if_they_changed(
    rows: list[Row], database: Database
) -> None:
    database.create_table("dbo.customer", pa.Table.from_pylist(rows), "customer_id")
    counted = definition("dbo.customer", changed_by="version")
    pipeline.run(counted, database)
    native(database).execute(
        "UPDATE dbo.customer SET income = 160000, age = 62, version = 121 WHERE customer_id = 1"
    )
    native(database).execute("DELETE FROM dbo.customer WHERE customer_id = 3")
    result = pipeline.assign(counted, database)
    assert (result.moved, result.departed, read(result)) == (1, 1, 2)
    # What few customers have in common is not told, so they cannot be looked at alone.
    hidden = definition("dbo.customer", changed_by="version", sample_rows=0)
    told = pipeline.assign(hidden, database).warnings
    assert [w for w in told if w.startswith("all rows were read: sample_rows = 0")]
    local = definition("dbo.customer", changed_by="version", engine="local")
    told = pipeline.assign(local, database).warnings
    assert [w for w in told if w.startswith("all rows were read: run 3 did not record")]
    pipeline.assign(local, database)
    told = pipeline.assign(counted, database).warnings
    assert [w for w in told if w.startswith("all rows were read: run 5 had another engine")]


def test_keys_that_changed_came_or_left_are_told_apart() -> None:
    published = pa.table({"id": [1, 2, 3, 4], "country": ["no", "no", "se", "se"]})
    seen = pa.table({"id": [3, 2, 1, None, 1], "country": ["se", "no", "se", "no", "no"]})
    changed = pa.chunked_array([[False, True], [False, False, False]])
    looked_at, departed = changes.compare(seen, changed, published)
    # A key that is NULL is nobody's, and is told of where it is read.
    assert sorted(looked_at.to_pylist()) == [1, 2, 3]
    assert departed.to_pylist() == [3]


def test_keys_are_compared_as_they_were_published() -> None:
    whole, parts = pa.chunked_array([[Decimal("1.00")]]), pa.chunked_array([[Decimal("1.50")]])
    assert as_published("id", whole, pa.int64()).to_pylist() == [1]
    with pytest.raises(DataError, match=r"key id: it is decimal.* published as int64: .*; name an"):
        as_published("id", parts, pa.int64())
    for kinds in ((pa.timestamp("us"), pa.date32()), (pa.date32(), pa.timestamp("us"))):
        with pytest.raises(DataError, match=r"key since: .*: a day is no moment; name"):
            as_published("since", pa.chunked_array([], kinds[0]), kinds[1])


def test_a_mark_says_nothing_of_a_column_of_another_type() -> None:
    mark = "2024-05-01 11:00:00 timestamp"
    assert unknown_since(column("at", "timestamp"), mark) is None
    for kind in ("timestamp_ntz", "bigint"):
        assert f"changed_by at is {kind}, " in str(unknown_since(column("at", kind), mark))


@pytest.mark.parametrize("name", ["timestamp", "timestamp_ntz", "int", "bigint"])
def test_a_column_that_grows_tells_what_changed(name: str) -> None:
    assert "MAX(`c`)" in newest(column("c", name))


@pytest.mark.parametrize("name", ["date", "double", "string", "decimal(20,0)"])
def test_a_column_that_cannot_tell_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"changed_by c: its type is .*; allowed: timestamp, "):
        newest(column("c", name))
