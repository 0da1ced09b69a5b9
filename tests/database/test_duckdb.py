"""What only DuckDB can do, or could get wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.background import one_thread
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.duckdb import memory as duckdb_settings
from sqlkmeans.database.duckdb import schema as duckdb_schema
from sqlkmeans.database.duckdb.label_tables import LabelTables
from sqlkmeans.database.duckdb.labels import DuckDBLabels
from sqlkmeans.database.duckdb.store import DuckDBStore
from sqlkmeans.database.tables import TABLES
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.local import engine
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError, LockedError, SqlKMeansError
from sqlkmeans.explanation import explain
from sqlkmeans.pipeline import assign, rollback, run
from support.engines import ENGINES
from support.shops import native


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file with six customers in two groups."""
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(
            "CREATE TABLE customer AS SELECT i AS id, i % 2 * 50 + i AS x FROM range(6) AS t(i)"
        )
    return path


@pytest.fixture
def database(path: Path) -> Database:
    return open_database(f"duckdb:///{path}")


def segmentation(**values: object) -> Segmentation:
    given = {"name": "customers", "source": "customer", "key": "id", "features": ["x"], "k": 2,
             "target": "segment", "n_init": 1}  # fmt: skip
    return Segmentation.create(**{**given, **values})


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(path) as connection:
        return connection.execute(sql).fetchall()


def test_a_run_inside_the_server_took_as_long_as_its_row_says(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_inside(database: Database, given: Segmentation, kind: str) -> int:
        done = {"fit": run, "assign": assign}[kind](segmentation(), database)
        native(database).execute(
            "UPDATE sqlkmeans.run SET seconds_read = 1.5, seconds_fit = 2.5, "
            "seconds_assign = NULL, seconds_publish = 0.25 WHERE run_id = ?",
            [done.run_id],
        )
        return done.run_id

    for name in ("run_inside", "run_script", "self_test"):
        monkeypatch.setattr(type(database), name, run_inside, raising=False)
    with database:
        for job in (run, assign):
            seconds = job(segmentation(engine="tsql"), database).seconds
            assert seconds.pop("total") > 0
            assert seconds == {"read": 1.5, "fit": 2.5, "assign": 0, "publish": 0.25}


@pytest.mark.parametrize("name", ['it\'s "x"', "'", '"', "[a]", "a\tb", "new\nline", "`", "--"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_key_may_have_any_mark_in_its_name(path: Path, name: str, engine: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    rows(path, f"ALTER TABLE customer RENAME id TO {quoted}; SELECT 1")
    given = segmentation(key=name, engine=engine)
    with open_database(path) as database:
        assert run(given, database).arrived == 6
        native(database).execute(f"DELETE FROM customer WHERE {quoted} = 3")
        assert assign(given, database).departed == 1
        assert explain("customers", database, ["4"]).published_segment_id is not None
        assert rollback("customers", database).changed == 1


def test_names_without_a_schema_are_those_of_main(path: Path, database: Database) -> None:
    with database:
        assert run(segmentation(), database).rows == 6
    assert len(rows(path, "FROM main.segment")) == 6


@pytest.mark.parametrize("engine", ENGINES)
def test_a_target_of_another_catalog_is_refused_before_rows_are_read(
    database: Database, engine: str
) -> None:
    with database:
        with pytest.raises(DataError, match=r"has no catalog lake; allowed: schema\.table"):
            run(segmentation(target="lake.sales.segment", engine=engine), database)
        assert not database.catalog.runs()


@pytest.mark.parametrize("name", ["self", "name", "database"])
def test_a_name_that_a_variable_of_python_has_is_a_tables(
    name: str, path: Path, database: Database
) -> None:
    with database:
        with pytest.raises(DataError, match=f"source {name}: no such table or view"):
            run(segmentation(source=name), database)
        assert run(segmentation(target=name), database).changed == 6
    assert len(rows(path, f"FROM main.{name}")) == 6


def test_a_view_is_described_though_its_table_is_not_there_any_more(
    path: Path, database: Database
) -> None:
    with database:
        run(segmentation(), database)
    described = [("id", "BIGINT"), ("segment_id", "INTEGER"), ("distance", "DOUBLE"),
                 ("is_outlier", "BOOLEAN"), ("run_id", "BIGINT"), ("assigned_at", "TIMESTAMP"),
                 ("segment_name", "VARCHAR")]  # fmt: skip
    for left_over in (False, True):
        if left_over:
            rows(path, "DROP TABLE segment")
        with open_database(f"duckdb:///{path}") as again:
            columns = again.describe_table("Segment_Named") or []
            assert [(column.name, column.type) for column in columns] == described
            assert (again.describe_table("segment") is None) == left_over
            assert again.describe_table("self") is None


@pytest.mark.parametrize(
    "source",
    [
        "SELECT $$ ' $$ AS t, id, x FROM customer; DROP TABLE customer --'",
        "SELECT $$ ' $$ AS t, id, x FROM customer) AS s; DROP TABLE customer --'",
        "SELECT $a$ ' $a$ AS t, id, x FROM customer; DROP TABLE customer; SELECT '",
        "SELECT id, x FROM customer WHERE x = [1; DROP TABLE customer; ]",
        "SELECT e'\\'' AS t, id, x FROM customer; DROP TABLE customer --'",
    ],
)
def test_strings_of_duckdb_that_t_sql_does_not_know_hide_no_second_statement(
    source: str, path: Path, database: Database
) -> None:
    with database, pytest.raises(SqlKMeansError) as raised:
        run(segmentation(source=source), database)
    assert raised.value.exit_code in (2, 3)
    assert rows(path, "SELECT COUNT(*) FROM customer") == [(6,)]


def test_a_key_of_38_digits_is_carried_exactly(path: Path, database: Database) -> None:
    big = 10**37
    source = f"SELECT CAST(id AS hugeint) + {big} AS id, x FROM customer"
    with database:
        run(segmentation(source=source), database)
        assert run(segmentation(source=source), database).changed == 0
    found = rows(path, "SELECT id FROM segment ORDER BY id")
    assert found == [(big + i,) for i in range(6)]


def test_a_moment_to_the_microsecond_is_a_key(path: Path, database: Database) -> None:
    source = (
        "SELECT TIMESTAMP '2020-01-01 00:00:00.000001' + INTERVAL (id) MICROSECOND AS id, x "
        "FROM customer"
    )
    with database:
        run(segmentation(source=source), database)
    assert rows(path, "SELECT COUNT(DISTINCT id), MIN(microsecond(id)) FROM segment") == [(6, 1)]


@pytest.mark.parametrize(
    ("expression", "type_name"),
    [
        ("CAST(x AS varchar)", "VARCHAR"),
        ("[x]", r"INTEGER\[\]|BIGINT\[\]"),
        ("INTERVAL (x) DAY", "INTERVAL"),
        ("TIME '10:00'", "TIME"),
        ("CAST('a' AS enum('a', 'b'))", "ENUM"),
        ("{'a': x}", "STRUCT"),
    ],
)
def test_a_feature_that_is_no_number_is_refused_by_its_type(
    expression: str, type_name: str, database: Database
) -> None:
    source = f"SELECT id, {expression} AS x FROM customer"
    with database, pytest.raises(DataError, match=f"feature x: its type is ({type_name})"):
        run(segmentation(source=source), database)


def test_nan_counts_as_missing(database: Database) -> None:
    source = "SELECT id, CASE WHEN id = 0 THEN CAST('nan' AS double) ELSE x END AS x FROM customer"
    with database:
        with pytest.raises(DataError, match='x: 1 row is NULL and missing = "error"'):
            run(segmentation(source=source), database)
        assert run(segmentation(source=source, missing="skip"), database).skipped == 1


def test_a_dropped_target_is_made_again_with_the_same_ids(path: Path, database: Database) -> None:
    with database:
        run(segmentation(), database)
    before = rows(path, "SELECT id, segment_id FROM segment ORDER BY id")
    rows(path, "DROP TABLE segment")
    with open_database(f"duckdb:///{path}") as again:
        assert run(segmentation(), again).arrived == 6
    assert rows(path, "SELECT id, segment_id FROM segment ORDER BY id") == before
    assert rows(path, "SELECT COUNT(*) FROM segment_history WHERE valid_to IS NULL") == [(6,)]
    assert len(rows(path, "FROM segment_named")) == 6


def tables_of_labels(path: Path) -> list[tuple[object, ...]]:
    return rows(
        path,
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_schema <> 'sqlkmeans' AND table_name <> 'customer' ORDER BY ALL",
    )


@pytest.mark.parametrize("target", ["segment", "report.segment"])
def test_a_first_load_has_its_primary_key_and_leaves_nothing_beside_it(
    target: str, path: Path, database: Database
) -> None:
    with database:
        run(segmentation(target=target), database)
    assert tables_of_labels(path) == [("segment",), ("segment_history",), ("segment_named",)]
    assert rows(
        path,
        "SELECT table_name, constraint_column_names FROM duckdb_constraints() "
        "WHERE constraint_type = 'PRIMARY KEY' AND schema_name <> 'sqlkmeans'",
    ) == [("segment", ["id"])]
    joined = (
        f"FROM {target} AS label JOIN {target}_history AS history "
        "ON history.id = label.id AND history.segment_id = label.segment_id "
        "AND history.distance = label.distance AND history.run_id = label.run_id "
        "AND history.valid_from = label.assigned_at AND history.valid_to IS NULL"
    )
    assert rows(path, f"SELECT COUNT(*) {joined}") == [(6,)]
    assert rows(path, f"SELECT COUNT(*) FROM {target}_history") == [(6,)]


def test_a_first_load_that_fails_leaves_no_table(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object) -> None:
        raise DatabaseError("the disk is full")

    with database:
        with monkeypatch.context() as patch:
            patch.setattr(DuckDBStore, "publish", failed)
            with pytest.raises(DatabaseError, match="the disk is full"):
                run(segmentation(), database)
        assert [row["status"] for row in database.catalog.runs()] == ["failed"]
    assert tables_of_labels(path) == []
    with open_database(f"duckdb:///{path}") as again:
        assert run(segmentation(), again).arrived == 6


def test_a_table_that_a_killed_first_load_left_is_replaced(path: Path, database: Database) -> None:
    for suffix in ("", "_history"):
        rows(path, f'CREATE TABLE "sqlkmeans loading segment{suffix}" (something_else integer)')
    with database:
        assert run(segmentation(), database).arrived == 6
    assert tables_of_labels(path) == [("segment",), ("segment_history",), ("segment_named",)]


def test_a_first_load_is_written_while_rows_are_described_and_not_seen_before(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[object, ...]]] = []

    def describe(*arguments: object, **options: object) -> object:
        load = database.labels._staged.load  # type: ignore[attr-defined]
        assert load.written.result(timeout=60) == 6
        with native(database).cursor() as reader:
            named = "SELECT table_name FROM duckdb_tables() WHERE contains(table_name, 'segment')"
            seen.append(reader.execute(f"{named} AND schema_name = 'main' ORDER BY ALL").fetchall())
        return real(*arguments, **options)

    real = engine.find
    monkeypatch.setattr(engine, "find", describe)
    with database:
        done = run(segmentation(), database)
        moment = database.catalog.run(done.run_id)
    assert seen == [[("sqlkmeans loading segment",), ("sqlkmeans loading segment_history",)]]
    assert tables_of_labels(path) == [("segment",), ("segment_history",), ("segment_named",)]
    assert moment is not None
    published = (moment["published_at"], done.run_id)
    assert set(rows(path, "SELECT assigned_at, run_id FROM segment")) == {published}
    assert set(rows(path, "SELECT valid_from, run_id FROM segment_history")) == {published}


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("what is described is wrong")])
def test_a_first_load_is_dropped_when_what_is_done_meanwhile_fails(
    error: BaseException, path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe(*_: object, **__: object) -> object:
        raise error

    with database:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "find", describe)
            with pytest.raises((KeyboardInterrupt, DataError)):
                run(segmentation(), database)
        assert [row["status"] for row in database.catalog.runs()] == ["failed"]
        left = database.catalog.select(
            "SELECT table_name FROM duckdb_tables() WHERE contains(table_name, 'segment') "
            "AND schema_name = 'main'"
        )
        assert left == []
        assert run(segmentation(), database).arrived == 6


def test_a_first_load_that_fails_fails_the_run(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object) -> int:
        raise DatabaseError("the disk is full")

    with database:
        with monkeypatch.context() as patch:
            patch.setattr(LabelTables, "write_aside", failed)
            with pytest.raises(DatabaseError, match="the disk is full"):
                run(segmentation(), database)
        assert [row["status"] for row in database.catalog.runs()] == ["failed"]
        assert run(segmentation(), database).arrived == 6
    assert tables_of_labels(path) == [("segment",), ("segment_history",), ("segment_named",)]


@pytest.mark.parametrize("where", ["id = 3", "id >= 0"])
def test_rows_deleted_from_the_target_by_hand_come_back_with_one_open_row_of_history(
    where: str, path: Path, database: Database
) -> None:
    with database:
        run(segmentation(), database)
    rows(path, f"DELETE FROM segment WHERE {where}")
    with open_database(f"duckdb:///{path}") as again:
        run(segmentation(), again)
    assert len(rows(path, "FROM segment")) == 6
    assert rows(path, "SELECT id FROM segment_history WHERE valid_to IS NULL ORDER BY id") == [
        (i,) for i in range(6)
    ]


def test_a_database_that_is_not_there_is_made_only_when_told(tmp_path: Path) -> None:
    url = f"duckdb:///{tmp_path / 'none.duckdb'}"
    with pytest.raises(DatabaseError, match="there is no such database file"):
        open_database(url)
    assert not (tmp_path / "none.duckdb").exists()
    with open_database(url, create=True) as made:
        assert made.schema_version() == 0
        assert made.describe_table("dbo.nothing") is None


def test_a_database_in_memory_is_its_own() -> None:
    with open_database("duckdb://") as one, open_database("duckdb:///:memory:") as two:
        one.install()
        assert (one.schema_version() > 0, two.schema_version()) == (True, 0)
        with one.store.lock("customers"), two.store.lock("customers"):
            assert one.install() == two.install()


def test_a_database_may_be_named_by_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_database("shop.duckdb", create=True) as database:
        database.install()
        assert (database.safe_url, database.stays) == ("duckdb:///shop.duckdb", True)
    with open_database(tmp_path / "shop.duckdb") as database:
        assert database.schema_version() > 0
    with open_database(":memory:") as database:
        assert not database.stays


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("duckdb://shop.duckdb", "duckdb:///shop.duckdb, with three"),
        ("duckdb://data/shop.duckdb", "duckdb:///data/shop.duckdb, with three"),
        ("duckdb://C:/data/shop.duckdb", "duckdb:///C:/data/shop.duckdb, with three"),
        ("duckdb://:memory:", "duckdb:///:memory:, with three"),
        ("duckdb://anna:S3cret@shop.duckdb", "duckdb:///shop.duckdb, with three"),
        ("duckdb://anna:S3cret/shop.duckdb", "duckdb:///file.duckdb, with three"),
        ("duckdb:///customers.csv", 'source = "customers.csv"'),
        ("duckdb://customers.csv", 'source = "customers.csv"'),
        ("duckdb:////home/anna/c.csv.gz", 'source = "/home/anna/c.csv.gz"'),
        ("duckdb:///data/c.PARQUET", 'source = "data/c.PARQUET"'),
    ],
)
def test_a_slip_in_the_url_of_a_file_is_refused_with_the_right_spelling(
    url: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DefinitionError) as refused:
        open_database(url, create=True)
    assert refused.value.problems[0].endswith(meant)
    assert "S3cret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_database_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError):
        open_database(f"duckdb:///{tmp_path / 'no' / 'such' / 'x.duckdb'}", create=True)


def test_a_file_that_another_process_has_is_locked(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); "
         "sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(LockedError, match="another process has this database open"):
            open_database(f"duckdb:///{path}")
    finally:
        holder.communicate()


def test_read_only_reads_and_does_not_write(path: Path, database: Database) -> None:
    with database:
        run(segmentation(), database)
    with open_database(f"duckdb:///{path}", read_only=True) as reader:
        assert len(reader.catalog.runs()) == 1
        assert [finding for finding in reader.doctor() if finding.ok is False] == []
        with pytest.raises(Exception, match=r"(?i)read-only"):
            run(segmentation(), reader)


def test_a_closed_database_can_be_closed_again(database: Database) -> None:
    database.close()
    database.close()
    with pytest.raises(Exception, match=r"(?i)closed"):
        database.count("customer")


def test_the_tables_that_migrations_make_are_those_that_are_read(
    path: Path, database: Database
) -> None:
    with database:
        database.install()
    found = rows(
        path,
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'sqlkmeans' ORDER BY table_name, ordinal_position",
    )
    made: dict[str, list[str]] = {}
    for table, column in found:
        made.setdefault(str(table), []).append(str(column))
    assert made == {table.name: list(table.columns) for table in TABLES.values()}


@pytest.mark.parametrize("url", ["", "duckdb", "sqlite:///x.db", "oracle://x", "mssql+nothing://x"])
def test_a_url_of_another_form_is_refused_with_the_forms_allowed(url: str) -> None:
    with pytest.raises(DefinitionError, match="allowed: "):
        open_database(url)


def test_the_safe_url_hides_the_password(tmp_path: Path) -> None:
    with open_database("duckdb://user:S3cret@/:memory:", create=True) as database:
        assert "S3cret" not in database.safe_url


def test_a_run_whose_history_is_not_whole_any_more_cannot_come_back(
    path: Path, database: Database
) -> None:
    with database:
        first = run(segmentation(), database)
    rows(path, "UPDATE customer SET x = x + 50 WHERE id = 1")
    with open_database(f"duckdb:///{path}") as again:
        run(segmentation(k=3), again)
    before = rows(path, "FROM segment ORDER BY id")
    rows(path, "DELETE FROM segment_history WHERE id = 0")
    with open_database(f"duckdb:///{path}") as again:
        with pytest.raises(DataError, match="the history still holds 5 of them"):
            rollback("customers", again, first.run_id)
    rows(path, "DROP TABLE segment_history")
    with open_database(f"duckdb:///{path}") as again:
        with pytest.raises(DataError, match="the history is not there"):
            rollback("customers", again, first.run_id)
    assert rows(path, "FROM segment ORDER BY id") == before


def test_a_history_that_cannot_be_purged_is_a_warning_of_the_published_run(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise duckdb.IOException("IO Error: the disk is full")

    monkeypatch.setattr(LabelTables, "expire_history", full)
    with database:
        done = run(segmentation(history_days=30), database)
    assert (
        done.warnings[-1] == "history_days: the history was not purged: IO Error: the disk is full"
    )


def test_an_interrupt_after_the_commit_does_not_make_a_published_run_a_failed_one(
    path: Path, database: Database
) -> None:
    with database:
        done = run(segmentation(), database)
        database.store.fail(done.run_id, "interrupted")
    assert rows(path, "SELECT status, error FROM sqlkmeans.run") == [("published", None)]


def test_a_key_may_have_any_name_that_is_not_published(path: Path, database: Database) -> None:
    source = "SELECT id AS old_segment_id, x FROM customer"
    with database:
        run(segmentation(source=source, key="old_segment_id"), database)
    rows(path, "UPDATE customer SET x = 100 - x")
    with open_database(f"duckdb:///{path}") as again:
        run(segmentation(source=source, key="old_segment_id", k=3), again)
    assert len(rows(path, "FROM segment")) == 6


def test_uninstall_drops_what_stands_beside_an_earlier_target_too(
    path: Path, database: Database
) -> None:
    with database:
        run(segmentation(), database)
        run(segmentation(target="other"), database)
        database.uninstall(execute=True)
    left = {row[0] for row in rows(path, "SELECT table_name FROM information_schema.tables")}
    assert left == {"customer", "segment", "other"}


def test_assign_refuses_a_definition_that_prepares_otherwise_than_the_model(
    path: Path, database: Database
) -> None:
    with database:
        run(segmentation(), database)
        with pytest.raises(DefinitionError, match="scaling is 'minmax' and the stored model has"):
            assign(segmentation(scaling="minmax"), database)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TIMESTAMP", "TIMESTAMP '2024-01-01 10:00:00.123456' + INTERVAL (i) DAY"),
        ("TIMESTAMP_NS", "TIMESTAMP_NS '2024-01-01 10:00:00.123456789' + INTERVAL (i) DAY"),
        ("TIMESTAMPTZ", "TIMESTAMPTZ '2024-01-01 10:00:00.5+02' + INTERVAL (i) DAY"),
        ("BLOB", "encode('k''' || chr(233) || i)"),
        ("HUGEINT", "(i::HUGEINT + 1) * 100000000000000000000"),
        ("DECIMAL(20, 3)", "i * 0.125"),
    ],
)
def test_the_key_of_a_typical_customer_finds_the_customer_again(
    kind: str, value: str, duckdb_url: str
) -> None:
    with duckdb.connect(duckdb_url.removeprefix("duckdb:///")) as connection:
        connection.execute("CREATE SCHEMA dbo")
        connection.execute(
            f"CREATE TABLE dbo.customer AS SELECT CAST({value} AS {kind}) AS id, "
            "CAST(i % 2 * 100 + i AS double) AS x FROM range(12) AS r (i)"
        )
    with open_database(duckdb_url) as database:
        run(segmentation(source="dbo.customer", target="dbo.segment"), database)
        typical = database.catalog.result("typical_customer", 1)
        assert len(typical) == 6
        for row in typical:
            found = explain("customers", database, json.loads(row["customer"]))
            assert found.published_segment_id == row["segment_id"]
            assert found.segment.distance == pytest.approx(row["distance"])


def test_an_earlier_schema_is_upgraded_and_keeps_its_rows(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database:
        assert database.install() == 1
        native(database).execute(
            "INSERT INTO sqlkmeans.model_feature "
            "(run_id, position, feature, type, transform, weight, center, scale) "
            "VALUES (7, 1, 'x', 'number', 'log1p', 2, 3, 4)"
        )
        later = (
            "ALTER TABLE sqlkmeans.model_feature ADD COLUMN unit varchar; "
            "UPDATE sqlkmeans.model_feature SET unit = feature",
            "ALTER TABLE sqlkmeans.run ADD COLUMN mood varchar",
        )
        monkeypatch.setattr(duckdb_schema, "MIGRATIONS", later[:1])
        assert database.install() == 2
        monkeypatch.setattr(duckdb_schema, "MIGRATIONS", later)
        assert [database.install(), database.install()] == [3, 3]
        (row,) = database.catalog.result("model_feature", 7)
        assert (row["feature"], row["transform"], row["scale"]) == ("x", "log1p", 4)
        assert run(segmentation(), database).changed == 6
    assert rows(path, "SELECT unit FROM sqlkmeans.model_feature WHERE run_id = 7") == [("x",)]
    assert rows(path, "SELECT version FROM sqlkmeans.schema_version ORDER BY ALL") == [
        (1,), (2,), (3,),
    ]  # fmt: skip


def test_change_tracking_is_refused_with_the_other_problems(database: Database) -> None:
    tracked = segmentation(changed_by="SYS_CHANGE_VERSION", sample_weight="visits")
    with database, pytest.raises(DataError) as caught:
        run(tracked, database)
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "sample_weight visits: no such column in customer (it has id, x)",
        "changed_by SYS_CHANGE_VERSION: Change Tracking is only on SQL Server",
    ]


def test_databases_in_memory_keep_out_of_each_others_way_when_they_spill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened = [open_database("duckdb:///:memory:", create=True) for _ in range(2)]
    total = "SELECT SUM(value) FROM shop"
    for number, database in enumerate(opened):
        # 24 MB that do not compress: more than is left to a database that releases memory.
        query = f"SELECT hash(range + {number} * 3_000_000) AS value FROM range(3_000_000)"
        native(database).execute(f"CREATE TABLE shop AS {query}")
    before = [database.catalog.select(total) for database in opened]
    for database in opened:
        database.release_memory()
    assert [database.catalog.select(total) for database in opened] == before
    assert list(tmp_path.iterdir()) == []
    # Who ends first takes its folder away: "Could not remove file … duckdb_temp_storage …" was what
    # became of the other's.
    first, second = opened
    for database in opened:
        database.release_memory()
    first.close()
    assert second.catalog.select(total) == before[1]
    second.close()


def test_readers_of_one_file_keep_out_of_each_others_way_when_they_spill(path: Path) -> None:
    def spills(database: Database) -> str:
        ((folder,),) = database.catalog.select("SELECT current_setting('temp_directory')")
        return str(folder)

    url = f"duckdb:///{path}"
    with open_database(url, create=True) as database:
        database.install()
    with open_database(url, read_only=True) as one:
        folder = spills(one)
        assert folder != f"{path}.tmp"
        native(one).execute(
            "CREATE TEMP TABLE large AS SELECT hash(range) AS x FROM range(3_000_000)"
        )
        one.release_memory()
        assert Path(folder).exists()
        with open_database(url, read_only=True) as two:
            assert spills(two) == folder
    assert not Path(folder).exists()


def test_what_is_done_at_once_shares_the_most_that_any_of_it_needs() -> None:
    def now() -> tuple[str, int]:
        asked = "SELECT current_setting('memory_limit'), current_setting('threads')"
        memory, threads = native.execute(asked).fetchall()[0]
        return memory, int(threads)

    with duckdb.connect() as native:
        default = now()
        all_threads = default[1]
        limits = duckdb_settings.Limits(native)
        reading = limits.only(duckdb_settings.Share(64 * 2**20, 1))
        writing = limits.only(duckdb_settings.Share(256 * 2**20, 2))
        with limits.at_most(2**30):
            assert now() == ("1.0 GiB", min(8, all_threads))
            reading.__enter__()
            assert now() == ("64.0 MiB", 1)
            writing.__enter__()
            assert now() == ("256.0 MiB", min(2, all_threads))
            # They need not end in the order in which they began.
            reading.__exit__(None, None, None)
            assert now() == ("256.0 MiB", min(2, all_threads))
            with limits.at_most(128 * 2**20):
                assert now() == ("128.0 MiB", 1)
            writing.__exit__(None, None, None)
            limits.release()
            assert now() == ("1.0 GiB", min(8, all_threads))
        assert now() == default


def test_what_is_done_now_says_nothing_of_the_index_that_fits_afterwards() -> None:
    keys = 2**30 // duckdb_settings.INDEX_BYTES
    with duckdb.connect(config={"memory_limit": "1GiB"}) as native:
        limits = duckdb_settings.Limits(native)
        with limits.only(duckdb_settings.writing(20)):
            assert limits.hold_index(keys)
            assert not limits.hold_index(keys + 1)
        with limits.at_most(2**29):
            assert not limits.hold_index(keys)
            assert limits.hold_index(keys // 2)


def test_a_first_load_says_that_its_index_does_not_fit_only_where_it_does_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Six keys fit into what a run may take, and not into what writing gets.
    monkeypatch.setattr(duckdb_settings, "writing", lambda *of: duckdb_settings.Share(2**24, 1))
    monkeypatch.setattr(duckdb_settings, "INDEX_BYTES", 2**22)
    written = threading.Event()
    real = LabelTables.write_aside

    def write_aside(self: LabelTables, *arguments: Any) -> int:
        rows = real(self, *arguments)
        written.wait(timeout=60)  # so that it is being done while the run says what it found
        return rows

    def notes_and_go(self: Any, *arguments: Any) -> list[str]:
        found: list[str] = notes(self, *arguments)
        written.set()
        return found

    notes = DuckDBLabels.notes
    monkeypatch.setattr(LabelTables, "write_aside", write_aside)
    monkeypatch.setattr(DuckDBLabels, "notes", notes_and_go)
    with database:
        result = run(segmentation(), database)
        keys = database.catalog.select(
            "SELECT COUNT(*) FROM duckdb_constraints() WHERE table_name = 'segment' "
            "AND schema_name = 'main' AND constraint_type = 'PRIMARY KEY'"
        )
    assert keys == [(1,)]
    assert not [warning for warning in result.warnings if "primary key" in warning]


def test_labels_that_do_not_fit_into_what_writing_gets_are_written_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = LabelTables.write_aside, []

    def write_aside(self: LabelTables, *arguments: Any) -> int:
        tries.append(1)
        rows = real(self, *arguments)
        if len(tries) == 1:
            raise duckdb.OutOfMemoryException("as if")
        return rows

    monkeypatch.setattr(LabelTables, "write_aside", write_aside)
    with database:
        result = run(segmentation(), database)
        assert database.count("segment") == result.rows
    assert len(tries) == 2


def test_labels_are_let_go_of_before_the_index_is_made(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged, held = [], []
    stage, index = DuckDBLabels.stage, LabelTables.index_aside

    def stage_and_watch(self: Any, *arguments: Any) -> None:
        staged.append(weakref.ref(arguments[4]))  # the distances
        stage(self, *arguments)

    def index_and_look(self: LabelTables, rows: int) -> None:
        held.append(staged[0]() is not None)
        index(self, rows)

    monkeypatch.setattr(DuckDBLabels, "stage", stage_and_watch)
    monkeypatch.setattr(LabelTables, "index_aside", index_and_look)
    with database:
        run(segmentation(), database)
    assert held == [False]


def test_rows_and_keys_that_are_wide_get_more_memory() -> None:
    assert duckdb_settings.reading(3).memory == duckdb_settings.LEAST_BYTES
    assert duckdb_settings.reading(200).memory == 200 * duckdb_settings.COLUMN_BYTES
    assert duckdb_settings.writing(12).memory == duckdb_settings.LEAST_BYTES
    groups = duckdb_settings.WRITING_GROUPS * duckdb_settings.GROUP_ROWS
    assert duckdb_settings.writing(500).memory == 500 * groups


def test_a_process_that_has_run_before_runs_again(database: Database) -> None:
    """What DuckDB holds of earlier runs, indexes and changes, is not what reading may take."""
    numbers = np.arange(3_000)
    columns = {f"x{j}": np.random.default_rng(j).normal(size=len(numbers)) for j in range(10)}
    with database:
        for turn in range(4):
            rows = pa.table({"id": numbers, **columns})
            database.create_table(f"customer_{turn}", rows, "id")
            given = segmentation(
                name=f"c{turn}", source=f"customer_{turn}", target=f"segment_{turn}",
                features=["x0", "x1"],
            )  # fmt: skip
            run(given, database)
            native(database).execute(f"UPDATE customer_{turn} SET x0 = x0 + 1 WHERE id % 17 = 3")
            native(database).execute(f"DELETE FROM customer_{turn} WHERE id % 101 = 5")
            assign(given, database)
            assert run(given, database).rows == 2_970


def test_a_limit_that_has_ended_is_not_in_force_any_more() -> None:
    # It needs 24 MB, and has nowhere to spill.
    large = "CREATE OR REPLACE TEMP TABLE large AS SELECT random() FROM range(3_000_000)"
    with duckdb.connect(config={"temp_directory": ""}) as native:
        limits = duckdb_settings.Limits(native)
        with limits.at_most(duckdb_settings.LEAST_BYTES):
            with pytest.raises(duckdb.OutOfMemoryException):
                native.execute(large)
            reading = limits.only(duckdb_settings.reading(4))
            with reading, pytest.raises(duckdb.OutOfMemoryException):
                native.execute(large)
        native.execute(large)
        native.execute("DROP TABLE large")
        limits.release()
        native.execute(large)


@pytest.mark.parametrize("kept", [True, False])
def test_rows_are_inserted_in_any_order_and_read_in_theirs(kept: bool) -> None:
    asked = "SELECT current_setting('preserve_insertion_order')"
    with duckdb.connect(config={"preserve_insertion_order": kept}) as native:
        native.execute("CREATE TABLE number (n bigint, day timestamp)")
        literals = "INSERT INTO number SELECT range, TIMESTAMP '2026-01-02' FROM range(300000)"
        assert duckdb_settings.insert_in_any_order(native, literals) == 300_000
        counted = native.execute("SELECT COUNT(DISTINCT n), SUM(n), MIN(day) FROM number")
        assert counted.fetchall() == [(300_000, 300_000 * 299_999 // 2, datetime(2026, 1, 2))]
        assert native.execute(asked).fetchall() == [(kept,)]
        # Nothing is left that would be in the way of the next one.
        assert duckdb_settings.insert_in_any_order(native, literals) == 300_000


@pytest.mark.parametrize(
    ("value", "error"),
    [("no_such_column", duckdb.BinderException), ("'x'", duckdb.ConversionException),
     ("CASE WHEN range < 9000 THEN range END", duckdb.ConstraintException)],
)  # fmt: skip
def test_an_insert_in_any_order_that_fails_leaves_nothing_behind(
    value: str, error: type[Exception]
) -> None:
    with duckdb.connect() as native:
        native.execute("CREATE TABLE number (n bigint NOT NULL)")
        statement = "INSERT INTO number SELECT {} FROM range(10000)"
        native.execute("BEGIN TRANSACTION")
        with pytest.raises(error):
            duckdb_settings.insert_in_any_order(native, statement.format(value))
        with native.cursor() as other:
            asked = other.execute("SELECT current_setting('preserve_insertion_order')")
            assert asked.fetchall() == [(True,)]
        native.execute("ROLLBACK")
        assert duckdb_settings.insert_in_any_order(native, statement.format("range")) == 10_000


def test_no_insert_in_any_order_is_planned_while_a_reading_in_order_begins() -> None:
    with duckdb.connect() as native, native.cursor() as other, one_thread() as thread:
        native.execute("CREATE TABLE number (n bigint)")
        statement = "INSERT INTO number SELECT * FROM range(10)"
        with duckdb_settings.in_order():
            inserted = thread.submit(duckdb_settings.insert_in_any_order, other, statement)
            with pytest.raises(FutureTimeout):
                inserted.result(timeout=0.2)
        assert inserted.result(timeout=60) == 10
