"""What is told where Spark is not there, stops, or does not find what is named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.spark.session import STARTED_BY, open_session, told
from sqlkmeans.definition import Segmentation, parse_definition
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError, LockedError
from support.shops import make_shop


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
    for text, words in (
        (memory, r"labels: Spark ran out of memory; give its executors more \(spark\.executor"),
        (task, "labels: RuntimeError: the server is full$"),
        (lost, r"labels: Job aborted .* ExecutorLostFailure \(executor 1 exited\)$"),
    ):
        with pytest.raises(DatabaseError, match=words), told("labels"):
            raise errors.PySparkException(text)


@pytest.mark.spark
def test_a_table_that_nobody_has_is_named_with_what_there_is(database: Database) -> None:
    with pytest.raises(DataError, match=r"source dbo\.shp: no such table or view, did you mean "):
        pipeline.run(definition("dbo.shp"), database)
    with pytest.raises(DataError, match=r"source parquet\.`/nowhere/at/all`: .*PATH_NOT_FOUND"):
        pipeline.run(definition("parquet.`/nowhere/at/all`"), database)
    assert database.describe_table("dbo.labels") is None


@pytest.mark.spark
def test_another_master_than_the_session_s_is_refused(database: Database) -> None:
    with pytest.raises(DefinitionError, match='master = "spark://a:7077" given, and a session at'):
        pipeline.run(definition(spark={"master": "spark://a:7077"}), database)


@pytest.mark.spark
def test_a_second_run_at_once_is_refused(database: Database) -> None:
    with database.store.lock("shop"), pytest.raises(LockedError, match="is being run already"):
        pipeline.run(definition(), database)
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
        with pytest.raises(DatabaseError, match="the Spark job was cancelled"):
            pipeline.run(definition(), database)
    finally:
        ended.set()
        thread.join()
    assert database.describe_table("dbo.labels") is None
    assert pipeline.run(definition(), database).changed == 300
