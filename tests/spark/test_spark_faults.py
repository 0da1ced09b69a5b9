"""What is told where Spark is not there, stops, or does not find what is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.spark.session import STARTED_BY, open_session, told
from sqlkmeans.definition import Segmentation, parse_definition
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError, LockedError
from support import stopped_run
from support.shops import labels_of, make_shop, native
from support.spark import OPTIONS


def definition(source: str = "dbo.shop", **changes: Any) -> Segmentation:
    values: dict[str, Any] = {
        "name": "shop", "source": source, "key": "customer_id", "features": ["income", "orders"],
        "k": 3, "target": "dbo.labels", "engine": "spark", **changes,
    }  # fmt: skip
    return Segmentation.create(**values)


@pytest.fixture
def database() -> Iterator[Database]:
    """A shop in a DuckDB in memory."""
    with open_database("duckdb:///:memory:", create=True) as opened:
        opened.create_table("dbo.shop", make_shop(300), "customer_id")
        yield opened


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nobody has started Spark, nor says where it is."""
    sql = pytest.importorskip("pyspark.sql")
    monkeypatch.setattr(sql.SparkSession, "getActiveSession", lambda: None)
    for name in STARTED_BY:
        monkeypatch.delenv(name, raising=False)


def test_without_pyspark_the_extra_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(DefinitionError, match=r'pip install "sqlkmeans\[spark\]"'):
        pipeline.run(definition(), database)


def test_without_a_session_the_ways_to_one_are_named(database: Database, no_session: None) -> None:
    with pytest.raises(DefinitionError, match=r"no Spark session; allowed: run\(…, spark=session"):
        pipeline.run(definition(), database)


def test_without_java_that_is_said(no_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(DatabaseError, match="needs Java 17 or newer, and there is no java on"):
        open_session("local[2]")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(DatabaseError, match="/nowhere/bin/java is not there"):
        open_session("local[2]")


@pytest.mark.parametrize("master", ["lokal", "local[x]", "http://host", "sc://host/;token=secret"])
def test_a_wrong_master_is_refused_where_the_definition_is_read(master: str) -> None:
    with pytest.raises(DefinitionError, match=r"segmentation\.shop\.spark\.master: ") as raised:
        definition(spark={"master": master})
    assert "allowed: " in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_file_says_once_where_spark_is() -> None:
    values = definition().model_dump(exclude={"name", "spark"}, exclude_defaults=True)
    values |= {"source": "dbo.shop", "features": ["income"], "k": 3}
    own = {**values, "target": "dbo.other", "spark": {"keep": "checkpoint"}}
    found = parse_definition(
        {"spark": {"master": "local[*]"}, "segmentation": {"a": values, "b": own}}
    ).segmentations
    assert [(one.spark.master, one.spark.keep) for one in found.values()] == [
        ("local[*]", "cache"), (None, "checkpoint"),
    ]  # fmt: skip
    with pytest.raises(DefinitionError, match=r"spark\.mastr: unknown key, did you mean master"):
        parse_definition({"spark": {"mastr": "yarn"}, "segmentation": {"a": values}})


def test_what_a_task_met_is_told_in_words() -> None:
    errors = pytest.importorskip("pyspark.errors")
    memory = (
        "An error occurred while calling o1.sql.\n: Exception thrown in awaitResult:\n\tat a.B"
        "\nCaused by: java.lang.OutOfMemoryError: Java heap space"
    )
    task = (
        "\n  An exception was thrown from the Python worker.\nTraceback (most recent call last):"
        '\n  File "worker.py", line 1\n    write()\nRuntimeError: the server is full\n\nJVM stack'
    )
    lost = (
        "Job aborted due to stage failure: Task 0 in stage 3.0 failed 4 times, most recent "
        "failure: ExecutorLostFailure (executor 1 exited)\nDriver stacktrace:"
    )
    waited = (
        "org.apache.spark.SparkException: Exception thrown in awaitResult: \n\tat a.B.c(B.x:1)\n"
        f"Caused by: org.apache.spark.SparkException: {lost}\n\tat a.B.d(B.x:2)\n"
    )
    for text, words in (
        (memory, r"labels: Spark ran out of memory; give its executors more \(spark\.executor"),
        (task, "labels: RuntimeError: the server is full$"),
        (lost, r"labels: Job aborted .* ExecutorLostFailure \(executor 1 exited\)$"),
        (waited, r"labels: Job aborted .* ExecutorLostFailure \(executor 1 exited\)$"),
    ):
        with pytest.raises(DatabaseError, match=words), told("labels"):
            raise errors.PySparkException(text)
    for text, kind in ((task, DataError), (waited, DatabaseError)):
        with pytest.raises(kind), told("source lake.customer", of_source=True):
            raise errors.PySparkException(text)


@pytest.mark.spark
def test_a_table_that_nobody_has_is_named_with_what_there_is(database: Database) -> None:
    with pytest.raises(
        DataError, match=r"source dbo\.shp: no such table or view, did you mean "
    ) as raised:
        pipeline.run(definition("dbo.shp"), database)
    assert raised.value.exit_code == 3
    with pytest.raises(DataError, match=r"source parquet\.`/nowhere/at/all`: .*PATH_NOT_FOUND"):
        pipeline.run(definition("parquet.`/nowhere/at/all`"), database)
    assert database.describe_table("dbo.labels") is None


@pytest.mark.spark
def test_a_column_that_cannot_be_read_is_named_with_its_type(
    database: Database, spark_session: Any, tmp_path: Path
) -> None:
    rows = pa.table({"id": [[1], [2]], "income": ["1", "2"], "orders": [b"1", b"2"]})
    parquet.write_table(rows, tmp_path / "odd.parquet")
    file = f"parquet.`{(tmp_path / 'odd.parquet').as_posix()}`"
    with pytest.raises(DataError) as raised:
        pipeline.run(definition(file, key="id"), database)
    assert [problem.split(";")[0] for problem in raised.value.problems] == [
        "feature income: its type is string", "feature orders: its type is binary",
        "key id: its type is array<bigint>, which cannot be a key",
    ]  # fmt: skip
    # One that Spark has no type for.
    at = pa.array([1, 2], pa.time64("ns"))
    parquet.write_table(pa.table({"id": [1, 2], "income": at}), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match=r"source .*odd\.parquet`: .*TIME") as raised:
        pipeline.run(definition(file, key="id"), database)
    assert raised.value.exit_code == 3


@pytest.mark.spark
def test_another_master_than_the_session_s_is_refused(database: Database) -> None:
    with pytest.raises(
        DefinitionError, match='master = "spark://a:7077" given, and a session at'
    ) as raised:
        pipeline.run(definition(spark={"master": "spark://a:7077"}), database)
    assert raised.value.exit_code == 2


@pytest.mark.spark
def test_a_second_run_at_once_is_refused(database: Database) -> None:
    with (
        database.store.lock("shop"),
        pytest.raises(LockedError, match="is being run already") as raised,
    ):
        pipeline.run(definition(), database)
    assert raised.value.exit_code == 5
    assert database.describe_table("dbo.labels") is None


@pytest.mark.spark
def test_a_cancelled_job_publishes_nothing(database: Database, spark_session: Any) -> None:
    ended = Event()

    def cancel() -> None:
        while not ended.wait(0.02):
            spark_session.sparkContext.cancelAllJobs()

    thread = Thread(target=cancel)
    thread.start()
    try:
        with pytest.raises(DatabaseError, match="the Spark job was cancelled") as raised:
            pipeline.run(definition(), database)
        assert raised.value.exit_code == 4
    finally:
        ended.set()
        thread.join()
    assert database.describe_table("dbo.labels") is None
    assert pipeline.run(definition(), database).changed == 300


INTERRUPT, KILL = 2, stopped_run.KILL  # Windows has no names for them.
on_posix = pytest.mark.skipif(os.name == "nt", reason="sends signals")


class Shop:
    """A DuckDB file with labels of a shop whose customers have changed since, and a definition."""

    def __init__(self, folder: Path) -> None:
        self._kept, self.file = folder / "kept.duckdb", folder / "shop.duckdb"
        self.definition = folder / "shop.toml"
        self.definition.write_text(
            '[database]\nurl = "shop.duckdb"\n[spark]\nmaster = "local[2,4]"\n'
            '[segmentation.shop]\nengine = "spark"\nsource = "dbo.shop"\nkey = "customer_id"\n'
            'features = ["income", "orders"]\nk = 3\ntarget = "dbo.labels"\n'
        )
        with open_database(self._kept, create=True) as database:
            database.create_table("dbo.shop", make_shop(300), "customer_id")
            # As Spark labels them, and sooner.
            pipeline.run(definition(engine="local"), database)
            database.create_table("dbo.shop", make_shop(300, seed=1), "customer_id", replace=True)
        self.old = self.labels(self._kept)
        self.reset()

    def reset(self) -> None:
        """As it was before any run was stopped."""
        self.file.unlink(missing_ok=True)
        shutil.copy(self._kept, self.file)

    def labels(self, file: Path | None = None) -> pa.Table:
        """What is published, once it is seen to agree with the history."""
        with open_database(file or self.file) as database:
            found = labels_of(database, "dbo.labels")
            open_rows = native(database).execute(
                "SELECT customer_id, segment_id, distance, is_outlier FROM dbo.labels_history "
                "WHERE valid_to IS NULL ORDER BY customer_id"
            )
            labels = found.select(["customer_id", "segment_id"])
            assert open_rows.to_arrow_table().select(labels.column_names).equals(labels)
        return labels

    def stop(self, moment: str, number: int) -> subprocess.CompletedProcess[str]:
        """Run it in a process that gets a signal at a moment."""
        tests = Path(__file__).parents[1]
        return subprocess.run(
            [sys.executable, stopped_run.__file__, moment, str(number), str(self.definition)],
            capture_output=True, text=True, start_new_session=True, check=False, timeout=180,
            env={**os.environ, "PYTHONPATH": str(tests), "PYSPARK_PYTHON": sys.executable,
                 "PYSPARK_SUBMIT_ARGS": " ".join([*OPTIONS, "pyspark-shell"])},
        )  # fmt: skip

    def run(self) -> pa.Table:
        """Labels of a run that nobody stops."""
        with open_database(self.file) as database:
            left = native(database).execute("SELECT status FROM sqlkmeans.run ORDER BY run_id DESC")
            assert left.fetchone() != ("published",)
            pipeline.run(definition(), database)
        return self.labels()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """What processes that are stopped work on."""
    return Shop(tmp_path_factory.mktemp("stopped"))


@on_posix
@pytest.mark.spark
def test_a_run_that_is_interrupted_says_so_and_publishes_nothing(shop: Shop) -> None:
    ended = shop.stop("training", INTERRUPT)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Error: interrupted; nothing was published" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert shop.labels().equals(shop.old)
    with open_database(shop.file) as database:
        newest = database.catalog.runs("shop", 1)[0]
    assert (newest["status"], newest["error"]) == ("failed", "interrupted")


@on_posix
@pytest.mark.spark
def test_a_run_that_is_killed_while_it_publishes_leaves_the_old_labels(shop: Shop) -> None:
    assert shop.stop("publishing", KILL).returncode == -KILL
    assert shop.labels().equals(shop.old)
    assert not shop.run().equals(shop.old)


@on_posix
@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.timeout(900)
def test_a_run_that_is_interrupted_at_any_moment_leaves_the_old_or_the_new_labels(
    shop: Shop,
) -> None:
    shop.reset()
    shop.stop("training", KILL)
    new = shop.run()
    for moment in stopped_run.MOMENTS:
        shop.reset()
        shop.stop(moment, INTERRUPT)
        left = shop.labels()
        assert left.equals(new if moment == "published" else shop.old), moment
        if moment != "published":
            assert shop.run().equals(new), moment
