"""What only a live SQL Server can show, in both drivers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import mssql_python
import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy.engine import URL

from sqlkmeans import pipeline
from sqlkmeans.cli.app import run_command
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.sqlserver import database as sqlserver_database
from sqlkmeans.database.sqlserver import labels as sqlserver_labels
from sqlkmeans.database.sqlserver import reading as sqlserver_reading
from sqlkmeans.database.sqlserver import writing as sqlserver_writing
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.copying import Copier
from sqlkmeans.database.sqlserver.errors import ServerError
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.workspace import SQLServerWorkspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError
from support import sqlserver_server
from support.backends import SQLServerBackend

pytestmark = pytest.mark.sqlserver

SEGMENT = "dbo.customer_segment"


def text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def password(url: URL) -> str:
    return url.password or os.environ.get("SQLKMEANS_PASSWORD", "")


@pytest.fixture
def shop(server: SQLServerBackend, make_customers: Any) -> SQLServerBackend:
    """120 customers in three groups of 60, 40 and 20."""
    server.make_table("dbo.customer", make_customers(), "customer_id")
    return server


# Keys


NATIVE_KEYS = {
    "a_big": "bigint", "a_small": "smallint", "a_tiny": "tinyint", "a_bit": "bit",
    "a_guid": "uniqueidentifier", "a_day": "date", "a_moment": "datetime",
    "a_minute": "smalldatetime", "a_micro": "datetime2(6)", "a_binary": "binary(16)",
    "a_bytes": "varbinary(20)", "a_text": "nvarchar(40)", "a_char": "nchar(5)",
    "a_latin": "varchar(40)",
}  # fmt: skip
TEXT_KEYS = {
    "a_fine": "datetime2(7)", "a_zone": "datetimeoffset(7)", "a_time": "time(7)",
    "a_decimal": "decimal(38, 10)", "a_money": "money", "a_change": "smallmoney",
    "a_text": "nvarchar(40)", "a_big": "bigint", "a_day": "date", "a_micro": "datetime2(6)",
    "a_bit": "bit", "a_bytes": "varbinary(20)", "a_guid": "uniqueidentifier", "a_tiny": "tinyint",
    "a_moment": "datetime",
}  # fmt: skip
VALUES = {
    "a_big": "9007199254740993 + {i}", "a_small": "-5 - {i}", "a_tiny": "255 - {i}",
    "a_bit": "{i} % 2",
    "a_guid": "CAST('0E984725-C51C-4BF4-9960-E1C80E27AB' + RIGHT('0' + CAST({i} AS varchar(2)), 2) "
              "AS uniqueidentifier)",
    "a_day": "DATEADD(day, -{i}, CAST('9999-12-31' AS date))",
    "a_moment": "DATEADD(millisecond, {i} * 10, CAST('2020-02-29T12:34:56.003' AS datetime))",
    "a_minute": "DATEADD(minute, {i}, CAST('2020-02-29T12:34:00' AS smalldatetime))",
    "a_micro": "DATEADD(microsecond, {i}, CAST('1802-03-04 00:00:00.000001' AS datetime2(6)))",
    "a_binary": "CAST(0x00112233445566778899AABBCCDDEE00 AS binary(16))",
    "a_bytes": "CAST(0x00FF00 AS varbinary(20))",
    "a_text": "CASE {i} WHEN 0 THEN N'the longest of these texts is plain' "
              "ELSE N'Zoë 漢字 🙂 ''' + CAST({i} AS nvarchar(5)) END",
    "a_char": "N'ab' + CAST({i} AS nvarchar(5))",
    "a_latin": "'caf' + NCHAR(233) + CAST({i} AS varchar(5))",
    "a_fine": "DATEADD(microsecond, {i}, CAST('2020-02-29 12:34:56.1234567' AS datetime2(7)))",
    "a_zone": "CAST('2020-02-29 12:34:56.1234567 +05:30' AS datetimeoffset(7))",
    "a_time": "CAST('12:34:56.1234567' AS time(7))",
    "a_decimal": "CAST('1234567890123456789012345678.0123456789' AS decimal(38, 10)) + {i}",
    "a_money": "CAST('-922337203685477.5807' AS money) + {i}",
    "a_change": "CAST('-12.5807' AS smallmoney) + {i}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("types", "few_rows"),
    [(NATIVE_KEYS, 10_000), (NATIVE_KEYS, 0), (TEXT_KEYS, 10_000)],
    ids=["native", "copied in bulk", "as_text"],
)
def test_keys_of_every_type_are_carried_exactly(
    types: dict[str, str],
    few_rows: int,
    server: SQLServerBackend,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlserver_writing, "FEW_ROWS", few_rows)
    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in types.items())
    server.execute(f"CREATE TABLE dbo.customer ({columns}, x float)")
    # As many as one execution of the statement takes, and some.
    for i in range(13):
        values = ", ".join(VALUES[name].format(i=i) for name in types)
        server.execute(f"INSERT INTO dbo.customer VALUES ({values}, {i % 2 * 50 + i})")
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key=list(types), features=["x"], k=2,
        target=SEGMENT, n_init=2,
    )  # fmt: skip
    assert pipeline.run(segmentation, database).changed == 13
    same = " AND ".join(f"t.{name} = s.{name}" for name in types)
    joined = f"SELECT COUNT(*) FROM dbo.customer AS s INNER JOIN {SEGMENT} AS t ON {same}"
    assert server.rows(joined) == [(13,)]
    if "a_zone" in types:
        zones = server.rows(f"SELECT DISTINCT CONVERT(varchar(40), a_zone, 121) FROM {SEGMENT}")
        assert zones == server.rows(
            "SELECT DISTINCT CONVERT(varchar(40), a_zone, 121) FROM dbo.customer"
        )
    source = {c.name: c.type for c in database.describe("dbo.customer")}
    assert {c.name: c.type for c in database.describe(SEGMENT) if c.name in types} == {
        name: source[name] for name in types
    }


def test_a_key_without_bounds_is_refused_before_anything_is_read(
    server: SQLServerBackend, database: Database, customers: Segmentation
) -> None:
    server.execute("CREATE TABLE dbo.customer (customer_id nvarchar(max), income float, age float)")
    with pytest.raises(DataError, match=r"nvarchar\(max\).*cannot be a key"):
        pipeline.run(customers, database)


def test_keys_that_only_a_collation_finds_equal_are_told(
    server: SQLServerBackend, database: Database, customers: Segmentation
) -> None:
    equal = server.rows("SELECT CASE WHEN N'a' = N'A' THEN 1 ELSE 0 END")
    if equal == [(0,)]:
        pytest.skip("this database tells small letters from capitals")
    server.execute("CREATE TABLE dbo.customer (customer_id nvarchar(20), income float, age float)")
    for key in ("a", "A", "b", "c", "d"):
        server.execute(f"INSERT INTO dbo.customer VALUES (N'{key}', {ord(key)}, {ord(key) % 7})")
    with pytest.raises(DataError, match=r"same one as its collation compares|not unique"):
        pipeline.run(customers, database)
    assert SEGMENT.split(".")[1] not in server.tables("dbo")


@pytest.mark.parametrize("engine", ["local", "pushdown"])
def test_a_published_centroid_is_the_mean_that_the_server_finds(
    engine: str, server: SQLServerBackend, database: Database
) -> None:
    rng = np.random.default_rng(3)
    rows = np.round(rng.lognormal(10, 0.6, size=(500, 2)), 2)
    server.execute(
        "CREATE TABLE dbo.customer (customer_id int PRIMARY KEY, income float, spent float)"
    )
    values = ", ".join(f"({key}, {a!r}, {b!r})" for key, (a, b) in enumerate(rows.tolist()))
    server.execute(f"INSERT INTO dbo.customer VALUES {values}")
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", features=["income", "spent"],
        k=4, target=SEGMENT, n_init=2, engine=engine, sample_rows=200,
    )  # fmt: skip
    pipeline.run(segmentation, database)
    for feature in ("income", "spent"):
        found = server.rows(
            "SELECT c.value, m.mean FROM sqlkmeans.centroid AS c INNER JOIN (SELECT t.segment_id, "
            f"AVG(s.{feature}) AS mean FROM {SEGMENT} AS t INNER JOIN dbo.customer AS s "
            "ON s.customer_id = t.customer_id GROUP BY t.segment_id) AS m "
            f"ON m.segment_id = c.segment_id WHERE c.feature = N'{feature}'"
        )
        assert len(found) == 4
        np.testing.assert_allclose(*np.array(found).T, rtol=0, atol=1e-9 * 15_000)


# Errors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong-Pa55word"}, "check the user and the password"),
        ({"database": "no_such_test_database"}, "name another database"),
        ({"host": "no-such-host.invalid"}, "no host of that name|no answer within"),
        ({"host": "127.0.0.1", "port": 1}, "no answer within"),
    ],
    ids=["password", "database", "host", "port"],
)
def test_a_wrong_address_or_password_is_one_sentence_in_time(
    change: dict[str, Any],
    words: str,
    server: SQLServerBackend,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = change.get("password", password(server.url))
    url = server.url.set(password=secret).set(**change)
    monkeypatch.delenv("SQLKMEANS_PASSWORD", raising=False)
    started = time.monotonic()
    code = run_command(["runs", "--url", text(url.update_query_dict({"connect_timeout": "3"}))])
    assert time.monotonic() - started < 10
    told = capsys.readouterr()
    assert code == 4
    assert told.out == ""
    assert len(told.err.strip().split("\n")) == 1
    assert re.search(words, told.err)
    assert secret not in told.err
    assert "Traceback" not in told.err


def test_a_failure_as_json_has_the_code_and_no_password(
    server: SQLServerBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.url.set(password="wrong-Pa55word")
    assert run_command(["runs", "--json", "--url", text(url)]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == 4
    assert "wrong-Pa55word" not in json.dumps(error)


def test_without_the_schema_a_run_says_how_to_get_it(
    shop: SQLServerBackend, customers: Segmentation
) -> None:
    with shop.open() as opened:
        opened.uninstall(execute=True)
        with pytest.raises(DatabaseError, match="sqlkmeans install"):
            pipeline.run(customers, opened)
        assert any(f.ok is False and "install" in f.detail for f in opened.doctor())
        opened.install()


# Staging and publishing


def test_labels_that_were_lost_on_the_way_are_never_published(
    shop: SQLServerBackend, database: Database, customers: Segmentation
) -> None:
    real = database.labels.stage

    def losing(segmentation: Segmentation, run_id: int, *labels: Any) -> None:
        real(segmentation, run_id, *labels)
        shop.execute(f"DELETE FROM sqlkmeans.staging_{run_id} WHERE customer_id = 7")

    database.labels.stage = losing  # type: ignore[method-assign]
    with pytest.raises(DatabaseError, match="120 labels were sent and 119 arrived"):
        pipeline.run(customers, database)
    assert "customer_segment" not in shop.tables("dbo")
    assert not any(name.startswith("staging") for name in shop.tables("sqlkmeans"))


def test_rows_are_counted_on_the_server_after_every_write(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = sqlserver_labels.write_rows

    def losing(session: Session, copier: Copier, table: str, columns: Any, rows: pa.Table) -> None:
        class Liar:  # a table that claims one row more
            num_rows = rows.num_rows + 1
            columns = rows.columns

            def slice(self, start: int, length: int) -> pa.Table:
                return rows.slice(start, length)

            def __arrow_c_stream__(self, schema: Any = None) -> Any:
                return rows.__arrow_c_stream__(schema)

        real(session, copier, table, columns, Liar())

    monkeypatch.setattr(sqlserver_labels, "write_rows", losing)
    with pytest.raises(DatabaseError, match=r"121 rows were sent .* and 120 arrived"):
        pipeline.run(customers, database)


def failing(*arguments: Any, **options: Any) -> None:
    raise RuntimeError("Connection error: the firewall")


@pytest.fixture
def many_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """120 labels are enough for a bulk copy."""
    monkeypatch.setattr(sqlserver_writing, "FEW_ROWS", 0)


@pytest.mark.usefixtures("many_are_few")
def test_labels_are_copied_in_bulk_whichever_driver_the_url_names(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real, copied = mssql_python.Cursor.bulkcopy_arrow, []

    def copying(cursor: Any, table: str, rows: pa.Table, **options: Any) -> Any:
        copied.append(rows.num_rows)
        return real(cursor, table, rows, **options)

    monkeypatch.setattr(mssql_python.Cursor, "bulkcopy_arrow", copying)
    result = pipeline.run(customers, database)
    assert copied == [120]
    assert len(labels_of(shop)) == 120
    assert not any("arrays" in warning for warning in result.warnings)


@pytest.mark.usefixtures("many_are_few")
def test_where_no_copy_begins_arrays_carry_the_labels_and_the_run_says_so(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(mssql_python.Cursor, "bulkcopy_arrow", failing)
    result = pipeline.run(customers, database)
    (note,) = [warning for warning in result.warnings if "arrays of parameters" in warning]
    assert "the firewall" in note
    assert len(labels_of(shop)) == 120


@pytest.mark.usefixtures("many_are_few")
def test_a_copy_that_broke_off_publishes_nothing(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = mssql_python.Cursor.bulkcopy_arrow

    def breaking_off(cursor: Any, table: str, rows: pa.Table, **options: Any) -> None:
        real(cursor, table, rows.slice(0, 50), **options)
        failing()

    monkeypatch.setattr(mssql_python.Cursor, "bulkcopy_arrow", breaking_off)
    with pytest.raises(DatabaseError, match="the firewall"):
        pipeline.run(customers, database)
    assert "customer_segment" not in shop.tables("dbo")


@pytest.fixture
def plain_pyodbc(shop: SQLServerBackend) -> URL:
    """A URL that mssql-python can do all of; the suite's has an option for pyodbc alone."""
    if shop.url.get_driver_name() != "pyodbc":
        pytest.skip("about pyodbc")
    return shop.url.difference_update_query(["APP"])


@pytest.mark.parametrize(("options", "driver"), [("", "mssqlpython"), ("shop", "pyodbc")])
def test_rows_and_published_labels_are_read_by_the_faster_driver_that_may(
    shop: SQLServerBackend, plain_pyodbc: URL, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch, options: str, driver: str,
) -> None:  # fmt: skip
    drivers, read = [], sqlserver_reading.read_batches

    def reading(session: Session, *arguments: Any) -> Any:
        drivers.append(session.driver)
        return read(session, *arguments)

    monkeypatch.setattr(sqlserver_database, "read_batches", reading)
    monkeypatch.setattr(sqlserver_reading, "read_batches", reading)
    url = plain_pyodbc.update_query_dict({"APP": options} if options else {})
    with open_database(text(url)) as database:
        pipeline.run(customers, database)
        again = pipeline.run(customers, database)
    assert drivers == [driver] * 3  # the source, and in the second run the labels too
    assert again.written == 0
    assert len(labels_of(shop)) == 120


def test_where_mssql_python_may_not_log_in_pyodbc_does_all_by_itself(
    shop: SQLServerBackend, plain_pyodbc: URL, customers: Segmentation
) -> None:
    with open_database(text(plain_pyodbc)) as database:
        connector: Any = database._connector  # type: ignore[attr-defined]
        connector.copier = Copier(
            plain_pyodbc.set(host="203.0.113.1").update_query_dict({"connect_timeout": "1"}),
            Connector,
        )
        result = pipeline.run(customers, database)
    (note,) = [warning for warning in result.warnings if "arrays of parameters" in warning]
    assert "203.0.113.1" in note
    assert password(shop.url) not in note
    assert len(labels_of(shop)) == 120


def test_the_next_run_of_a_process_finds_the_session_that_held_the_lock(
    shop: SQLServerBackend, database: Database, customers: Segmentation
) -> None:
    def session_of_a_run() -> int:
        with database.store.lock("customers"):
            holding: Any = database._sessions.holding  # type: ignore[attr-defined]
            return int(holding.rows("SELECT @@SPID")[0][0])

    pipeline.run(customers, database)
    first = session_of_a_run()
    assert session_of_a_run() == first
    with shop.open() as other, other.store.lock("customers"):
        pass
    with pytest.raises(ZeroDivisionError), database.store.lock("customers"):
        raise ZeroDivisionError
    with shop.open() as other, other.store.lock("customers"):
        pass


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each bulk write has sent."""
    real, counts = sqlserver_labels.write_rows, []

    def counting(
        session: Session, copier: Copier, table: str, columns: Any, rows: pa.Table
    ) -> None:
        counts.append(rows.num_rows)
        real(session, copier, table, columns, rows)

    monkeypatch.setattr(sqlserver_labels, "write_rows", counting)
    return counts


def labels_of(shop: SQLServerBackend) -> list[tuple[Any, ...]]:
    return shop.rows(f"SELECT customer_id, segment_id FROM {SEGMENT} ORDER BY customer_id")


def test_only_changes_travel_once_labels_are_published(
    shop: SQLServerBackend, database: Database, customers: Segmentation, sent: list[int]
) -> None:
    """2 of 120 customers move, 2 leave and 1 comes; then a third of them leaves."""
    pipeline.run(customers, database)
    shop.execute("UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id <= 2")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id IN (3, 120)")
    shop.execute("INSERT INTO dbo.customer VALUES (1000, 40000, 25)")
    result = pipeline.assign(customers, database)
    assert sent == [120, 5]
    assert (result.arrived, result.moved, result.departed) == (1, 2, 2)
    labels = labels_of(shop)
    assert len(labels) == 119
    current = shop.rows(f"SELECT customer_id, segment_id FROM {SEGMENT}_history "
                        "WHERE valid_to IS NULL ORDER BY customer_id")  # fmt: skip
    assert current == labels
    assert pipeline.assign(customers, database).written == 0
    assert sent == [120, 5, 0]
    shop.execute("DELETE FROM dbo.customer WHERE customer_id <= 40")
    assert pipeline.assign(customers, database).departed == 39
    assert sent == [120, 5, 0, 80]


def test_the_same_fit_again_sends_nothing_and_another_one_its_changes(
    shop: SQLServerBackend, database: Database, customers: Segmentation, sent: list[int]
) -> None:
    pipeline.run(customers, database)
    assert pipeline.run(customers, database).written == 0
    assert sent == [120, 0]
    shop.execute("UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id <= 2")
    result = pipeline.run(customers, database)
    assert (result.arrived, result.moved, result.departed) == (0, 2, 0)


def test_a_customer_whose_key_changed_only_in_case_stays_the_same_customer(
    server: SQLServerBackend, database: Database, customers: Segmentation, sent: list[int]
) -> None:
    if server.rows("SELECT CASE WHEN N'a' = N'A' THEN 1 ELSE 0 END") == [(0,)]:
        pytest.skip("this database tells small letters from capitals")
    server.execute("CREATE TABLE dbo.customer (customer_id nvarchar(20) NOT NULL PRIMARY KEY, "
                   "income float, age float)")  # fmt: skip
    for i in range(30):
        server.execute(f"INSERT INTO dbo.customer VALUES (N'key{i}', {i % 3 * 100 + i}, {i % 7})")
    pipeline.run(customers, database)
    server.execute("UPDATE dbo.customer SET customer_id = N'KEY7' WHERE customer_id = N'key7'")
    result = pipeline.assign(customers, database)
    assert sent == [30, 2]
    assert (result.arrived, result.moved, result.departed) == (0, 0, 0)
    assert server.rows(f"SELECT COUNT(*) FROM {SEGMENT}") == [(30,)]


def test_changes_are_not_put_upon_labels_that_somebody_else_changed(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pipeline.run(customers, database)
    shop.execute("UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id <= 2")
    real = sqlserver_labels.write_rows

    def meddling(*arguments: Any) -> None:
        real(*arguments)
        shop.execute(f"DELETE FROM {SEGMENT} WHERE customer_id = 50")

    monkeypatch.setattr(sqlserver_labels, "write_rows", meddling)
    with pytest.raises(DatabaseError, match=r"somebody else .* nothing was published"):
        pipeline.assign(customers, database)
    assert len(labels_of(shop)) == 119
    monkeypatch.setattr(sqlserver_labels, "write_rows", real)
    assert pipeline.assign(customers, database).arrived == 1


def test_a_rowversion_tells_what_changed_and_waits_for_open_transactions(
    shop: SQLServerBackend, database: Database, customers: Segmentation
) -> None:
    try:
        shop.execute("ALTER TABLE dbo.customer ADD version rowversion")
        shop.rows("SELECT MIN_ACTIVE_ROWVERSION()")
    except shop.error as error:
        pytest.skip(f"no rowversion here: {error}")
    versioned = Segmentation.create(**{**customers.model_dump(), "changed_by": "version"})
    far = "UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id = "
    pipeline.run(versioned, database)
    assert database.catalog.runs("customers", 1)[0]["high_water"].startswith("0x")
    shop.execute(f"{far} 1")
    result = pipeline.assign(versioned, database)
    assert result.moved == 1
    assert any("1 of 120 rows were read" in warning for warning in result.warnings)

    # A change that is committed after a run, and after later ones that the run has seen.
    late = sqlserver_server.connect(shop.url)
    late.autocommit = False
    late.cursor().execute(f"{far} 2")
    shop.execute(f"{far} 3")
    seen = database.high_water(versioned)
    late.commit()
    late.close()
    changed = database.changed_rows(versioned, str(seen)).source
    ids = {row[0] for row in shop.rows(f"SELECT c.customer_id FROM ({changed}) AS c")}
    assert {2, 3} <= ids


@pytest.fixture
def trackable(shop: SQLServerBackend) -> SQLServerBackend:
    """A shop whose database tracks changes, and its customers not yet."""
    turn_on = "ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS)"
    try:
        if shop.rows("SELECT CHANGE_TRACKING_CURRENT_VERSION()") == [(None,)]:
            shop.execute(turn_on)
    except shop.error as error:
        pytest.skip(f"no Change Tracking here: {error}")
    return shop


@pytest.fixture
def tracked(trackable: SQLServerBackend, customers: Segmentation) -> Segmentation:
    """Its customers are tracked from now on."""
    trackable.execute("ALTER TABLE dbo.customer ENABLE CHANGE_TRACKING")
    return Segmentation.create(**{**customers.model_dump(), "changed_by": "SYS_CHANGE_VERSION"})


def test_change_tracking_tells_what_changed(
    shop: SQLServerBackend, tracked: Segmentation, database: Database
) -> None:
    far = "UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id = "
    pipeline.run(tracked, database)
    assert database.catalog.runs("customers", 1)[0]["high_water"].isdigit()
    shop.execute(f"{far} 1")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 3")
    shop.execute("INSERT INTO dbo.customer VALUES (500, 160000, 62)")
    shop.execute("UPDATE dbo.customer SET customer_id = 600 WHERE customer_id = 4")
    result = pipeline.assign(tracked, database)
    assert (result.moved, result.arrived, result.departed) == (1, 2, 2)
    assert any("3 of 120 rows were read" in warning for warning in result.warnings)
    result = pipeline.assign(tracked, database)
    assert (result.rows, result.written) == (120, 0)
    assert any("0 of 120 rows were read" in warning for warning in result.warnings)

    # A change that is committed after a mark was taken, and after another that the mark has seen.
    late = sqlserver_server.connect(shop.url)
    late.autocommit = False
    late.cursor().execute(f"{far} 2")
    shop.execute(f"{far} 5")
    seen = database.high_water(tracked)
    late.commit()
    late.close()
    changed = database.changed_rows(tracked, str(seen)).source
    assert shop.rows(f"SELECT c.customer_id FROM ({changed}) AS c") == [(2,)]


def test_changes_that_change_tracking_has_forgotten_need_all_rows(
    shop: SQLServerBackend, tracked: Segmentation, database: Database
) -> None:
    pipeline.run(tracked, database)
    shop.execute("UPDATE dbo.customer SET age = age + 1 WHERE customer_id = 20")
    shop.execute("SELECT * INTO dbo.kept FROM dbo.customer")
    shop.execute("TRUNCATE TABLE dbo.customer")
    shop.execute("INSERT INTO dbo.customer SELECT * FROM dbo.kept WHERE customer_id > 10")
    result = pipeline.assign(tracked, database)
    assert (result.rows, result.departed) == (110, 10)
    assert any("goes back to version" in warning for warning in result.warnings)
    again = pipeline.assign(tracked, database)
    assert any("0 of 110 rows were read" in warning for warning in again.warnings)


def test_change_tracking_knows_rows_by_the_primary_key_of_a_table_of_any_name(
    trackable: SQLServerBackend, customers: Segmentation, database: Database, make_customers: Any
) -> None:
    name = "[My Table]]x é]"
    trackable.make_table(f"dbo.{name}", make_customers(), "customer_id")
    trackable.execute(f"ALTER TABLE dbo.{name} ADD email AS (CONCAT('c', customer_id))")
    trackable.execute(f"ALTER TABLE dbo.{name} ENABLE CHANGE_TRACKING")
    source = f"[{trackable.url.database}].dbo.{name}"
    emails = Segmentation.create(
        **{**customers.model_dump(), "changed_by": "SYS_CHANGE_VERSION", "key": "email",
           "source": source},
    )  # fmt: skip
    pipeline.run(emails, database)
    trackable.execute(f"UPDATE dbo.{name} SET income = 160000, age = 62 WHERE customer_id = 1")
    result = pipeline.assign(emails, database)
    assert result.moved == 1
    assert any("1 of 120 rows were read" in warning for warning in result.warnings)


def test_what_has_no_change_tracking_is_refused_before_anything_is_read(
    trackable: SQLServerBackend, customers: Segmentation, database: Database
) -> None:
    trackable.execute("CREATE VIEW dbo.buyer AS SELECT * FROM dbo.customer")
    asked = {**customers.model_dump(), "changed_by": "SYS_CHANGE_VERSION"}
    with pytest.raises(DataError, match=r"off for dbo.customer; turn it on \(ALTER TABLE"):
        pipeline.run(Segmentation.create(**asked), database)
    with pytest.raises(DataError, match=r"the source is dbo\.buyer, no table"):
        pipeline.run(Segmentation.create(**{**asked, "source": "dbo.buyer"}), database)
    other = {**asked, "source": "master.dbo.spt_monitor", "key": "lastrun"}
    with pytest.raises(DataError, match="the source is in database master"):
        pipeline.run(Segmentation.create(**other), database)


def test_the_victim_of_a_deadlock_publishes_at_the_second_attempt(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real, attempts = Session.call, []

    def victim(self: Session, procedure: str, *args: Any, **kwargs: Any) -> Any:
        if procedure == "publish_run":
            attempts.append(procedure)
            if len(attempts) == 1:
                raise ServerError(1205, "chosen as the deadlock victim")
        return real(self, procedure, *args, **kwargs)

    monkeypatch.setattr(Session, "call", victim)
    assert pipeline.run(customers, database).changed == 120
    assert len(attempts) == 2


def lost_connection(driver: str) -> Exception:
    """What a driver raises where the session is gone."""
    import mssql_python
    import pyodbc

    if driver == "pyodbc":
        return pyodbc.OperationalError("08003", "[08003] gone (0) (SQLExecDirectW)")
    return mssql_python.OperationalError("Connection not open", "gone")


@pytest.mark.parametrize("published", [True, False])
def test_a_connection_lost_while_publishing_is_looked_into(
    published: bool, shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = Session.call

    def lost(self: Session, procedure: str, *args: Any, **kwargs: Any) -> Any:
        if procedure != "publish_run":
            return real(self, procedure, *args, **kwargs)
        if published:
            real(self, procedure, *args, **kwargs)
        raise lost_connection(self.driver)

    monkeypatch.setattr(Session, "call", lost)
    if published:
        assert pipeline.run(customers, database).changed == 120
    else:
        with pytest.raises(
            DatabaseError, match=r"the connection was lost.*; nothing was published$"
        ):
            pipeline.run(customers, database)
    assert ("customer_segment" in shop.tables("dbo")) is published
    assert not [name for name in shop.tables("sqlkmeans") if name.startswith("staging_")]


def test_a_publication_that_the_server_still_does_for_nobody_is_waited_for(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Another session holds the lock and publishes what this one was told nothing of."""
    real = Session.call
    holds = threading.Event()

    def publish(run_id: int, publication: str) -> None:
        server = sqlserver_server.connect(shop.url)
        sqlserver_server.rows(server, "EXECUTE sqlkmeans.lock_segmentation N'customers';")
        holds.set()
        time.sleep(2)
        sqlserver_server.rows(server, "EXECUTE sqlkmeans.publish_run ?, ?;", run_id, publication)
        server.close()

    def lost(self: Session, procedure: str, *args: Any, **kwargs: Any) -> Any:
        if procedure != "publish_run":
            return real(self, procedure, *args, **kwargs)
        real(self, "unlock_segmentation", segmentation="customers")
        threading.Thread(target=publish, kwargs=kwargs).start()
        assert holds.wait(60)
        raise lost_connection(self.driver)

    monkeypatch.setattr(Session, "call", lost)
    result = pipeline.run(customers, database)
    assert result.changed == 120
    assert shop.rows("SELECT status, error FROM sqlkmeans.run") == [("published", None)]
    assert shop.rows("SELECT COUNT(*) FROM sqlkmeans.centroid") == [(6,)]


def test_a_server_that_does_not_say_how_a_publication_ended_is_no_success(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = Session.call

    def lost(self: Session, procedure: str, *args: Any, **kwargs: Any) -> Any:
        if procedure in ("publish_run", "fail_run"):
            raise lost_connection(self.driver)
        return real(self, procedure, *args, **kwargs)

    monkeypatch.setattr(Session, "call", lost)
    with pytest.raises(
        DatabaseError, match=r"whether run \d+ is published, the server did not say"
    ):
        pipeline.run(customers, database)
    monkeypatch.undo()
    assert pipeline.run(customers, database).changed == 120
    assert shop.rows("SELECT status FROM sqlkmeans.run ORDER BY run_id") == [
        ("failed",), ("published",)]  # fmt: skip


KILLED = """
    import os, sys
    from sqlkmeans import pipeline
    from sqlkmeans.database import open_database
    from sqlkmeans.definition import Segmentation

    database = open_database(os.environ["TEST_URL"])
    segmentation = Segmentation.from_json(sys.argv[1])
    database.labels.publish = lambda *_: os._exit(9)
    pipeline.run(segmentation, database)
"""


def test_a_process_killed_before_publishing_holds_up_nobody(
    shop: SQLServerBackend, database: Database, customers: Segmentation
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), customers.to_json()],
        env={**os.environ, "TEST_URL": text(shop.url)},
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert killed.returncode == 9, killed.stderr
    assert [n for n in shop.tables("sqlkmeans") if n.startswith("staging_")]
    assert "customer_segment" not in shop.tables("dbo")
    # The server notices within a moment that the session is gone.
    for _ in range(20):
        try:
            result = pipeline.run(customers, database)
            break
        except Exception:
            time.sleep(0.5)
    assert result.changed == 120
    assert not [n for n in shop.tables("sqlkmeans") if n.startswith("staging_")]
    assert sorted(s for (s,) in shop.rows("SELECT status FROM sqlkmeans.run"))[0] == "failed"


# The demo


def test_the_demo_gives_every_customer_the_segment_it_has_on_duckdb(
    server: SQLServerBackend, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    monkeypatch.chdir(tmp_path)
    with server.open():
        pass
    arguments = ["demo", "--customers", "3000", "--quiet", "--json"]
    assert run_command(arguments) == 0
    assert run_command([*arguments, "--url", text(server.url)]) == 0
    query = f"SELECT customer_id, segment_id, distance FROM {SEGMENT} ORDER BY customer_id"
    embedded = duckdb.connect("sqlkmeans_demo.duckdb", read_only=True).execute(query).fetchall()
    live = server.rows(query)
    assert [row[:2] for row in live] == [row[:2] for row in embedded]
    np.testing.assert_allclose([row[2] for row in live], [row[2] for row in embedded], rtol=1e-9)


# Least privilege


@pytest.fixture
def operator(shop: SQLServerBackend, database: Database) -> Iterator[URL]:
    """The URL of a login that may read dbo.customer and has the operator role, no more."""
    if shop.rows("SELECT OBJECT_ID('sys.parameters')") == [(None,)]:
        pytest.skip("this server has no procedures that run as their owner")
    secret = "Op-3rator-Pa55word"
    try:
        shop.execute(f"CREATE LOGIN sqlkmeans_test_operator WITH PASSWORD = '{secret}'")
        shop.execute("CREATE USER sqlkmeans_test_operator FOR LOGIN sqlkmeans_test_operator")
    except shop.error as error:
        pytest.skip(f"no login can be made here: {error}")
    try:
        shop.execute("ALTER ROLE sqlkmeans_operator ADD MEMBER sqlkmeans_test_operator")
        shop.execute("GRANT SELECT ON dbo.customer TO sqlkmeans_test_operator")
        shop.execute("CREATE TABLE dbo.salary (employee int, amount money)")
        yield shop.url.set(username="sqlkmeans_test_operator", password=secret)
    finally:
        shop.execute("DROP USER sqlkmeans_test_operator")
        shop.execute("DROP LOGIN sqlkmeans_test_operator")


def test_the_operator_role_runs_everything_and_touches_nothing_else(
    operator: URL, shop: SQLServerBackend, customers: Segmentation
) -> None:
    with open_database(text(operator)) as database:
        assert [f for f in database.doctor() if f.ok is False] == []
        assert pipeline.run(customers, database).changed == 120
        shop.execute("DELETE FROM dbo.customer WHERE customer_id <= 10")
        assert pipeline.assign(customers, database).departed == 10
        pipeline.rename("customers", database, 1, "best")
        assert pipeline.rollback("customers", database).arrived == 10
        other = Segmentation.create(**{**customers.model_dump(), "source": "dbo.salary",
                                       "key": "employee", "features": ["amount"],
                                       "name": "spy", "target": "dbo.spied"})  # fmt: skip
        with pytest.raises((DatabaseError, DataError)):
            pipeline.run(other, database)
    connection = sqlserver_server.connect(operator)
    for forbidden in (
        "SELECT * FROM dbo.salary",
        "DROP TABLE dbo.customer",
        f"DROP TABLE {SEGMENT}",
        f"DELETE FROM {SEGMENT}",
        "DELETE FROM sqlkmeans.run",
        "EXECUTE sqlkmeans.as_owner @statement = N'SELECT 1'",
        "CREATE TABLE dbo.mine (a int)",
    ):
        with pytest.raises(shop.error):
            sqlserver_server.rows(connection, forbidden)
    connection.close()


def test_change_tracking_needs_a_permission_of_its_own(
    operator: URL, shop: SQLServerBackend, tracked: Segmentation
) -> None:
    with open_database(text(operator)) as database:
        pipeline.run(tracked, database)
        result = pipeline.assign(tracked, database)
        assert any("GRANT VIEW CHANGE TRACKING" in warning for warning in result.warnings)
        shop.execute("GRANT VIEW CHANGE TRACKING ON dbo.customer TO sqlkmeans_test_operator")
        result = pipeline.assign(tracked, database)
        assert any("0 of 120 rows were read" in warning for warning in result.warnings)


# Case-sensitive databases


def test_a_case_sensitive_database_works_like_any_other(
    server: SQLServerBackend, customers: Segmentation, make_customers: Any
) -> None:
    name = f"{server.url.database}_cs"
    try:
        server.execute(f"IF DB_ID('{name}') IS NULL "
                       f"CREATE DATABASE [{name}] COLLATE Latin1_General_100_BIN2")  # fmt: skip
    except server.error as error:
        pytest.skip(f"no case-sensitive database can be made here: {error}")
    sensitive = SQLServerBackend(server.url.get_driver_name(), None)  # type: ignore[arg-type]
    sensitive.close()
    sensitive.url = server.url.set(database=name)
    sensitive._outside = sqlserver_server.connect(sensitive.url)
    try:
        sqlserver_server.empty(sensitive._outside)
        if not sqlserver_server.keeps_case(sensitive._outside):
            pytest.skip("this server does not keep the case of names")
        sensitive.make_table("dbo.Customer", make_customers(), "customer_id")
        sensitive.make_table("dbo.customer", make_customers([5, 5]), "customer_id")
        with sensitive.open() as database:
            segmentation = Segmentation.create(
                **{**customers.model_dump(), "source": "dbo.Customer", "target": "dbo.Segment"}
            )
            assert pipeline.run(segmentation, database).rows == 120
            assert pipeline.run(segmentation, database).changed == 0
    finally:
        sensitive.close()


# What used to end in a traceback, or too early


@pytest.mark.slow
def test_a_statement_may_take_longer_than_connecting_may(database: Database) -> None:
    """The timeout of a connection is one of connecting: 15 seconds, and this takes 40."""
    connector: Connector = database._connector  # type: ignore[attr-defined]
    session = connector.open()
    try:
        rows = session.guarded(
            "DECLARE @begun datetime2 = SYSUTCDATETIME(); "
            "WHILE DATEDIFF(second, @begun, SYSUTCDATETIME()) < 40 SET @begun = @begun; "
            "SELECT DATEDIFF(second, @begun, SYSUTCDATETIME());"
        )
    finally:
        session.close()
    assert rows[0][0] >= 40


def test_an_error_of_the_server_while_it_trains_ends_in_one_sentence(
    shop: SQLServerBackend, database: Database, customers: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real, asked = SQLServerWorkspace.rows, []

    def broken(self: SQLServerWorkspace, query: str) -> Any:
        asked.append(query)
        return real(self, "SELECT a FROM dbo.nowhere;" if len(asked) == 3 else query)

    monkeypatch.setattr(SQLServerWorkspace, "rows", broken)
    pushed = customers.model_copy(update={"engine": "pushdown"})
    with pytest.raises(DatabaseError, match="training in the database"):
        pipeline.run(pushed, database)
    assert len(asked) >= 3


def test_the_demo_makes_no_table_where_it_cannot_run(
    server: SQLServerBackend, database: Database
) -> None:
    database.uninstall(execute=True)
    try:
        arguments = ["demo", "--url", text(server.url), "--customers", "100", "--quiet"]
        assert run_command(arguments) == 4
        assert "customer" not in server.tables("dbo")
    finally:
        database.install()
