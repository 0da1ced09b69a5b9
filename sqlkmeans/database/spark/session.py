"""A Spark session: the one that is there, or one that the definition names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError, SqlKMeansError
from sqlkmeans.sqltext import parse_name

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: What statements mean, and how they are compiled; the session has its own again afterwards.
SETTINGS = {
    # NULL for what cannot be computed, as on the other databases.
    "spark.sql.ansi.enabled": "false",
    # A longer method is not compiled by the JVM, and a pass over 20 columns took seven times as
    # long.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # A date is the day in UTC.
    "spark.sql.session.timeZone": "UTC",
    # Texts of a source's rows stand in statements.
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.variable.substitute": "false",
    # A value that a column of labels cannot have is an error, and no other value.
    "spark.sql.storeAssignmentPolicy": "ANSI",
    # Tables of labels are made with types by their names.
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
}
#: A session that is made here writes nothing of its own to the terminal, but for errors.
QUIET = {"spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
#: They write what an error says a second time, as JSON.
LOGGERS = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")
#: What says where Spark is, for a program that spark-submit or a platform has started.
STARTED_BY = ("PYSPARK_GATEWAY_PORT", "SPARK_REMOTE", "DATABRICKS_RUNTIME_VERSION")
#: What stands before the stack of an error of Python.
PYTHON = "Traceback (most recent call last):"
#: What is no fault of a source's.
LOST = "ExecutorLostFailure"
#: What a thread says that waited for another.
WAITED = "Exception thrown in awaitResult:"
_OLDEST = 4


def open_session(master: str | None, given: Any = None, *, hive: bool = False) -> SparkSession:
    """The session to work in; one that is made here stays until the process ends.

    Parameters
    ----------
    master : str or None
        As the definition has it.
    given : pyspark.sql.SparkSession, optional
        The caller's own.
    hive : bool, default=False
        Whether one that is made here keeps tables of Spark's own catalog in Hive's metastore:
        without, they end with the process.

    Raises
    ------
    DefinitionError
        If there is no session and nothing says where Spark is, pyspark is not there, or it is too
        old.
    DatabaseError
        If Spark cannot be started or reached.
    """
    spark = _pyspark()
    if given is not None:
        return given
    active: SparkSession | None = spark.SparkSession.getActiveSession()
    if active is not None:
        _require_master(active, master)
        return active
    if master is None and not any(name in os.environ for name in STARTED_BY):
        raise DefinitionError(
            'engine = "spark" and there is no Spark session; allowed: run(…, spark=session), '
            '[spark] master = "local[*]" (or spark://…, sc://…) in the definition, or a program '
            "that spark-submit starts"
        )
    remote = (master or os.environ.get("SPARK_REMOTE", "")).startswith("sc://")
    if not remote:
        _require_java()
    builder = spark.SparkSession.builder.appName("sqlkmeans")
    for name, value in () if remote else QUIET.items():
        builder = builder.config(name, value)
    if master is not None:
        builder = builder.remote(master) if remote else builder.master(master)
    if hive and not remote:
        builder = builder.enableHiveSupport()
    with told(f"Spark at {master or 'the place that the environment names'}"), _unwarned():
        try:
            from pyspark.logger import PySparkLogger

            session: SparkSession = builder.getOrCreate()
            for name in LOGGERS:
                PySparkLogger.getLogger(name).disabled = True
        except ImportError as error:
            raise DefinitionError(
                f"Spark Connect needs more packages ({error}): "
                'python -m pip install "pyspark[connect]"'
            ) from None
    return session


def session_of(segmentation: Segmentation) -> SparkSession:
    """The same for a definition."""
    target = parse_name(segmentation.target)
    hive = segmentation.lake_target and target[0].lower() == "spark_catalog"
    return open_session(segmentation.spark.master, hive=hive)


def _pyspark() -> Any:
    try:
        import pyspark
        from pyspark import sql
    except ModuleNotFoundError:
        raise DefinitionError(
            'engine = "spark" needs pyspark: python -m pip install "sqlkmeans[spark]"'
        ) from None
    version = str(pyspark.__version__)
    if int(version.split(".")[0]) < _OLDEST:
        raise DefinitionError(f"pyspark {version} is installed; allowed: {_OLDEST} or newer")
    return sql


def _require_java() -> None:
    """Otherwise the launcher writes to the terminal and says nothing of what to do."""
    home = os.environ.get("JAVA_HOME")
    program = os.path.join(home, "bin", "java") if home else "java"
    if shutil.which(program) is None:
        where = f"{program} is not there (JAVA_HOME)" if home else "there is no java on the path"
        raise DatabaseError(f"Spark needs Java 17 or newer, and {where}")


def _require_master(session: Any, master: str | None) -> None:
    context = getattr(session, "_sc", None)
    if master is None or context is None or context.master == master:
        return
    if master.startswith("local[") and context.master.startswith("local["):
        return  # It differs in threads alone.
    raise DefinitionError(
        f'[spark] master = "{master}" given, and a session at {context.master} is there, of which '
        "a process has one; leave master out, or stop that session"
    )


@contextmanager
def told(what: str, *, of_source: bool = False) -> Iterator[None]:
    """Errors of Spark in words.

    Parameters
    ----------
    what : str
        What was being done.
    of_source : bool, default=False
        Whether the source is the likely reason.

    Raises
    ------
    DataError
        Where the source is the reason.
    DatabaseError
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except SqlKMeansError:
        raise
    except (PySparkException, Py4JError, ConnectionError) as error:
        if _interrupted(error):
            raise KeyboardInterrupt from None
        text = str(error)
        if "cancel" in text.lower():
            raise DatabaseError(f"{what}: the Spark job was cancelled") from None
        if "heckpoint directory has not been set" in text:
            raise DefinitionError(
                '[spark] keep = "checkpoint" given and the session has no folder for it; allowed: '
                "spark.checkpoint.dir, on storage that all executors reach"
            ) from None
        if "heckpoint block" in text:
            raise DatabaseError(
                f"{what}: executors died and with them rows of the source, which would be of "
                "another moment if they were read again; run again, or with [spark] keep = "
                '"checkpoint"'
            ) from None
        if "stopped SparkContext" in text or "SparkContext was shut down" in text:
            raise DatabaseError(f"{what}: the Spark session was stopped") from None
        if "OutOfMemoryError" in text:
            raise DatabaseError(
                f"{what}: Spark ran out of memory; give its executors more "
                "(spark.executor.memory, or with a local master spark.driver.memory)"
            ) from None
        kind = DataError if of_source and LOST not in text else DatabaseError
        raise kind(f"{what}: {first_line(text)}") from None


def _interrupted(error: BaseException | None) -> bool:
    """Whether an error is what Spark said when it was asked to end after Ctrl-C."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def first_line(text: str) -> str:
    """What an error of the JVM says, without the stack and the plan behind it."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if PYTHON in text:
        # What a task's Python raised stands behind its own stack, whose lines are indented.
        behind = text.partition(PYTHON)[2].splitlines()[1:]
        return next((line for line in behind if line[:1].strip()), lines[0])
    line = lines[0] if lines else "Spark stopped without a word"
    # py4j begins with its own call, and the reason stands behind the class of the exception.
    if line.startswith("An error occurred while calling") and len(lines) > 1:
        line = lines[1].removeprefix(": ")
    # Nor does a thread say anything that waited for another; what that one met stands below.
    if line.endswith(WAITED):
        met = (one.removeprefix("Caused by: ") for one in lines if one.startswith("Caused by: "))
        line = next((one for one in met if not one.endswith(WAITED)), line)
    line = line.removeprefix("org.apache.spark.SparkException: ")
    return line.split(" SQLSTATE:")[0]


@contextmanager
def changed(session: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Let a session have other settings as long as this is open."""
    with _unwarned():
        before = {name: session.conf.get(name, None) for name in values}
        for name, value in values.items():
            session.conf.set(name, value)
    try:
        yield
    finally:
        with told_nothing(), _unwarned():
            for name, old in before.items():
                if old is None:
                    session.conf.unset(name)
                else:
                    session.conf.set(name, old)


@contextmanager
def _unwarned() -> Iterator[None]:
    """Spark Connect warns of pandas that is newer than it, and of settings that it takes."""
    with catch_warnings():
        filterwarnings("ignore", module=r"pyspark\.")
        yield


@contextmanager
def told_nothing() -> Iterator[None]:
    """Tidy up in a session that may have been stopped: what went wrong before is what is told."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    with suppress(PySparkException, Py4JError, ConnectionError):
        yield
