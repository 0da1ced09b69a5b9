"""Reading, writing and the whole job on a SQL Server, beside what people would write themselves.

    SQLKMEANS_TEST_URL=mssql+mssqlpython://… python benchmarks/sqlserver.py
        [--rows 200000 1000000] [--repeats 5] [--pandas-repeats 3] [--long-repeats 3]
        [--only read write job again] [--leave-out "to_sql, mssqlpython"] [--slow-rows 200000]
        [--results benchmarks/results/sqlserver.md]

The database of that URL is filled and emptied; its name has to have ``test`` in it. On the same
table of customers (bigint key, 4 features) each contender of a group does one thing; they take
turns, and the medians are compared.

read
    The rows in key order into a matrix of float64: sqlkmeans with the URL of each driver, and
    with one of pyodbc that has an option for pyodbc alone, so that this one reads itself; and
    ``pandas.read_sql`` with each driver. Both open a connection; sqlkmeans also describes the
    source and counts its rows.
write
    A label for every customer, key, segment and distance, into a table with a primary key:
    sqlkmeans staging with each driver, ``DataFrame.to_sql`` with pyodbc as it is, with
    ``fast_executemany``, and with mssql-python.
job
    ``sqlkmeans.run`` with each driver; and read_sql, StandardScaler, KMeans(n_init=10) and to_sql.
again
    The same customers' labels published again: all changed, 1 % changed, nothing changed. What
    travels and is written; seconds of staging and of the publishing transaction, which write, and
    of the whole, from labels to a published table, the comparison with the published ones
    included.

Server, drivers, machine, load, date and command stand in the report's first lines.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.sqlserver import labels as sqlserver_labels
from sqlkmeans.database.sqlserver.connection import Connector, product_version
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.local.rows import read_rows
from sqlkmeans.engines.local.storage import Storage
from sqlkmeans.publication import Publication

FEATURES = ["income", "age", "orders", "tenure"]
K = 5
DRIVERS = ("mssqlpython", "pyodbc")
BY_ITSELF = "pyodbc by itself"
PUBLISHING = ("sent", "written", "staging", "publishing", "writing", "whole")
#: Contenders that send a row at a time.
SLOW = ("DataFrame.to_sql, pyodbc", "DataFrame.to_sql, mssqlpython")
RESULTS = Path(__file__).parent / "results" / "sqlserver.md"
LOAD_LINE = 3  # of the report

Contender = Callable[[], object]


def make(rows: int) -> pa.Table:
    """Customers in five overlapping groups."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 10, (K, len(FEATURES))) * (20_000, 6, 5, 1)
    points = centers[rng.integers(K, size=rows)]
    points += rng.normal(size=points.shape) * (20_000, 6, 5, 1)
    ids = np.arange(1, rows + 1, dtype=np.int64)
    return pa.table({"customer_id": ids} | {f: points[:, j] for j, f in enumerate(FEATURES)})


def segmentation(target: str = "dbo.customer_segment") -> Segmentation:
    """The definition that every contender carries out."""
    return Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", features=FEATURES, k=K,
        target=target,
    )  # fmt: skip


def transactional(connector: Connector) -> Any:
    """A connection as a driver makes it when nothing else is said."""
    native = connector.open().native
    native.autocommit = False
    return native


class Server:
    """A database to fill, with each driver."""

    def __init__(self, url: URL) -> None:
        if "test" not in str(url.database):
            raise SystemExit("the database's name has to have 'test' in it: it is emptied")
        self.urls = {driver: url.set(drivername=f"mssql+{driver}") for driver in DRIVERS}
        self.urls[BY_ITSELF] = self.urls["pyodbc"].update_query_dict({"APP": "sqlkmeans"})
        self._connectors = {driver: Connector(self.urls[driver]) for driver in DRIVERS}

    def place(self) -> str:
        """Whether server and client share a machine."""
        local = self.urls["pyodbc"].host in ("localhost", "127.0.0.1", "::1")
        return "on the same machine as the client" if local else "on another machine"

    def open(self, driver: str) -> Database:
        """As the package opens it."""
        return open_database(self.urls[driver].render_as_string(hide_password=False))

    def engine(self, driver: str, **options: Any) -> sa.Engine:
        """As people would open it: SQLAlchemy with the same connection string."""
        dialect = f"mssql+{driver}://"
        connector = self._connectors[driver]
        engine = sa.create_engine(dialect, creator=lambda: transactional(connector), **options)
        # The banner that SQLAlchemy reads has other words on compatible servers.
        engine.dialect._get_server_version_info = product_version  # type: ignore[attr-defined]
        return engine

    def execute(self, *statements: str) -> None:
        """Run statements on a session of its own."""
        session = self._connectors["mssqlpython"].open()
        for statement in statements:
            session.rows(statement)
        session.close()

    def version(self) -> str:
        """Edition and version, as the server tells them; compatible servers imitate both."""
        session = self._connectors["mssqlpython"].open()
        banner, edition, version = session.rows(
            "SELECT @@VERSION, CAST(SERVERPROPERTY('Edition') AS nvarchar(128)), "
            "CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128))"
        )[0]
        session.close()
        # Compatible servers begin with the same words, because drivers look for them.
        if not re.match(r"Microsoft SQL (Server 20\d\d|Azure)", str(banner)):
            return "one that speaks SQL Server's protocol and T-SQL but is not SQL Server"
        return f"Microsoft SQL Server, {edition} {version}"


def read(server: Server, rows: int) -> dict[str, Contender]:
    """Rows in key order into float64."""

    def own(driver: str) -> object:
        with server.open(driver) as database:
            database.count("dbo.customer")
            started = time.perf_counter()
            with database.open_source(segmentation(), FEATURES) as source:
                read_rows(source, ["customer_id"], Storage(), lambda done: None)
            return time.perf_counter() - started

    def pandas(driver: str) -> object:
        query = f"SELECT customer_id, {', '.join(FEATURES)} FROM dbo.customer ORDER BY customer_id"
        engine = server.engine(driver, poolclass=NullPool)
        with engine.connect():  # what SQLAlchemy asks a server when it meets it
            pass
        started = time.perf_counter()
        with engine.connect() as connection:
            frame = pd.read_sql(query, connection)
            matrix = frame[FEATURES].to_numpy(np.float64)
        seconds = time.perf_counter() - started
        engine.dispose()
        assert len(matrix) == rows
        return seconds

    return {f"sqlkmeans, {driver}": lambda d=driver: own(d) for driver in server.urls} | {
        f"pandas.read_sql, {driver}": lambda d=driver: pandas(d) for driver in DRIVERS
    }


def write(server: Server, rows: int) -> dict[str, Contender]:
    """Labels into a table with a primary key."""
    keys = pa.table({"customer_id": pa.array(np.arange(1, rows + 1, dtype=np.int64))})
    clusters = (np.arange(rows) % K).astype(np.int32)
    distances = np.arange(rows) / rows
    frame = pd.DataFrame(
        {"customer_id": keys["customer_id"].to_numpy(), "cluster": clusters, "distance": distances}
    )

    def own(driver: str) -> object:
        with server.open(driver) as database:
            run_id = database.store.start(segmentation(), {"kind": "fit", "engine": "local"})
            started = time.perf_counter()
            database.labels.stage(segmentation(), run_id, keys, clusters, distances)
            seconds = time.perf_counter() - started
            database.store.fail(run_id, "a benchmark")
        return seconds

    def pandas(driver: str, **options: Any) -> object:
        server.execute(
            "DROP TABLE IF EXISTS dbo.label",
            "CREATE TABLE dbo.label (customer_id bigint NOT NULL PRIMARY KEY, "
            "cluster int NOT NULL, distance float NOT NULL)",
        )
        engine = server.engine(driver, **options)
        with engine.connect() as connection:  # connecting is not counted, as it is not above
            connection.rollback()
            started = time.perf_counter()
            frame.to_sql("label", connection, schema="dbo", if_exists="append", index=False)
            connection.commit()
            seconds = time.perf_counter() - started
        engine.dispose()
        return seconds

    return {f"sqlkmeans, {driver}": lambda d=driver: own(d) for driver in DRIVERS} | {
        "DataFrame.to_sql, pyodbc": lambda: pandas("pyodbc"),
        "DataFrame.to_sql, pyodbc, fast_executemany": lambda: pandas(
            "pyodbc", fast_executemany=True
        ),
        "DataFrame.to_sql, mssqlpython": lambda: pandas("mssqlpython"),
    }


def job(server: Server) -> dict[str, Contender]:
    """Everything, into an empty target."""

    def own(driver: str) -> object:
        forget(server)
        started = time.perf_counter()
        with server.open(driver) as database:
            pipeline.run(segmentation(), database)
        return time.perf_counter() - started

    def pandas() -> object:
        server.execute("DROP TABLE IF EXISTS dbo.label")
        started = time.perf_counter()
        engine = server.engine("pyodbc", fast_executemany=True)
        frame = pd.read_sql("SELECT * FROM dbo.customer", engine)
        scaled = StandardScaler().fit_transform(frame[FEATURES])
        frame["segment_id"] = KMeans(K, n_init=10, random_state=0).fit_predict(scaled) + 1
        frame[["customer_id", "segment_id"]].to_sql(
            "label", engine, schema="dbo", if_exists="replace", index=False
        )
        engine.dispose()
        return time.perf_counter() - started

    return {f"sqlkmeans run, {driver}": lambda d=driver: own(d) for driver in DRIVERS} | {
        "read_sql, scikit-learn, to_sql (fast_executemany)": pandas
    }


def forget(server: Server) -> None:
    """No segmentation, as before the first run."""
    with server.open("mssqlpython") as database:
        database.uninstall(execute=True)
        database.install()
    server.execute("DROP TABLE IF EXISTS dbo.customer_segment")


@dataclass
class Publishing:
    """What one publication took: rows sent and written, and seconds by step.

    ``staging`` and ``publishing`` write: the rows that travel, and the transaction that makes them
    labels. ``whole`` is all between labels and a published table, and so has the comparison with
    the published labels in it.
    """

    sent: int = 0
    written: int = 0
    staging: float = 0.0
    publishing: float = 0.0
    whole: float = 0.0

    @property
    def writing(self) -> float:
        """Seconds that something was written."""
        return self.staging + self.publishing


@contextmanager
def timed_writing() -> Iterator[Publishing]:
    """Times what writes while a publication goes on."""
    found = Publishing()
    write_rows, call = sqlserver_labels.write_rows, Session.call

    def staging(session: Session, copier: Any, table: str, columns: Any, labels: pa.Table) -> None:
        started = time.perf_counter()
        write_rows(session, copier, table, columns, labels)
        found.staging += time.perf_counter() - started
        found.sent += labels.num_rows

    def publishing(session: Session, procedure: str, *args: Any, **given: Any) -> Any:
        started = time.perf_counter()
        row = call(session, procedure, *args, **given)
        if procedure == "publish_run":
            found.publishing += time.perf_counter() - started
        return row

    sqlserver_labels.write_rows, Session.call = staging, publishing  # type: ignore[method-assign]
    try:
        yield found
    finally:
        sqlserver_labels.write_rows, Session.call = write_rows, call  # type: ignore[method-assign]


def publish(database: Database, clusters: npt.NDArray[np.int32], model_run_id: int) -> Publishing:
    """Publish labels as ``assign`` does, or as a first run where there is no model's run yet."""
    rows, sizes = len(clusters), np.bincount(clusters, minlength=K)
    keys = pa.table({"customer_id": np.arange(1, rows + 1, dtype=np.int64)})
    kind = "assign" if model_run_id else "fit"
    with database.store.lock("customers"):
        run_id = database.store.start(segmentation(), {"kind": kind, "engine": "local"})
        segments = [
            {"segment_id": i, "name": str(i), "name_source": "generated", "description": "",
             "size": int(size), "share": float(size / rows), "within_ss": 0.0}
            for i, size in enumerate([rows, *sizes])
        ]  # fmt: skip
        with timed_writing() as found:
            started = time.perf_counter()
            database.labels.stage(segmentation(), run_id, keys, clusters, np.arange(rows) / rows)
            database.labels.overlap(segmentation(), run_id)
            counts = database.labels.publish(
                segmentation(),
                Publication(
                    run_id=run_id, segment_ids=list(range(1, K + 1)),
                    model_run_id=model_run_id or run_id, run={"rows": rows},
                    tables={"segment": segments}, last_segment_id=K, distance_tolerance=0.0,
                ),
            )  # fmt: skip
            found.whole = time.perf_counter() - started
    found.written = counts.written
    return found


def again(server: Server, rows: int, driver: str, repeats: int) -> dict[str, list[Publishing]]:
    """The same labels published again: all changed, 1 % changed, nothing changed, in turn."""
    forget(server)
    clusters = (np.arange(rows) % K).astype(np.int32)
    one_percent = np.arange(0, rows, 100)
    found: dict[str, list[Publishing]] = {}
    with server.open(driver) as database:
        found["first run"] = [publish(database, clusters, 0)]
        model_run_id = database.catalog.published_runs("customers")[0]["run_id"]
        for _ in range(repeats):
            for name, changed in (
                ("all changed", slice(None)), ("1 % changed", one_percent),
                ("nothing changed", slice(0)),
            ):  # fmt: skip
                clusters[changed] = (clusters[changed] + 1) % K
                found.setdefault(name, []).append(publish(database, clusters, model_run_id))
                print(f"{rows:>9,}  {name}, {driver}: {found[name][-1]}", file=sys.stderr)
    return found


def again_table(server: Server, rows: int, repeats: int) -> list[str]:
    """One table of the report: the same labels published again with each driver."""
    lines = [
        f"### Publishing again, {rows:,} rows", "",
        "| | rows sent | rows written | staging, s | publishing, s | both, s | whole, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    ratios = []
    for driver in DRIVERS:
        found = again(server, rows, driver, repeats)
        writing, whole = {}, {}
        for name, times in found.items():
            of = {f: statistics.median(getattr(t, f) for t in times) for f in PUBLISHING}
            writing[name], whole[name] = of["writing"], of["whole"]
            lines.append(
                f"| {name}, {driver} | {of['sent']:,.0f} | {of['written']:,.0f} | "
                + " | ".join(f"{of[field]:.2f}" for field in PUBLISHING[2:])
                + " |"
            )
        few, none = "1 % changed", "nothing changed"
        ratios.append(
            f"With {driver}, a full rewrite writes "
            f"{writing['all changed'] / writing[few]:.1f} times as long as 1 % does and takes "
            f"{whole['all changed'] / whole[few]:.1f} times as long as a whole; "
            f"{writing[none]:.2f} s of writing and {whole[none]:.2f} s of the whole go where "
            "nothing changed."
        )
    return [*lines, "", *ratios, ""]


def wanted(
    contenders: dict[str, Contender], rows: int, options: argparse.Namespace
) -> dict[str, Contender]:
    """Without those that are left out by name, or too slow for so many rows."""
    left_out = [name for name in contenders if any(part in name for part in options.leave_out)]
    left_out += SLOW if rows > options.slow_rows else ()
    return {name: contender for name, contender in contenders.items() if name not in left_out}


def compare(
    contenders: dict[str, Contender], rows: int, repeats: int, pandas_repeats: int
) -> dict[str, float]:
    """Median seconds of each; they take turns. A contender may return its own seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats):
        for name, contender in contenders.items():
            if not name.startswith("sqlkmeans") and turn >= pandas_repeats:
                continue
            started = time.perf_counter()
            measured = contender()
            taken = measured if isinstance(measured, float) else time.perf_counter() - started
            seconds[name].append(taken)
            print(f"{rows:>9,}  {name:<50} {taken:8.2f} s", file=sys.stderr, flush=True)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(title: str, medians: dict[str, float], rows: int) -> list[str]:
    """One table of the report: each beside the best that is not ours."""
    others = [value for name, value in medians.items() if not name.startswith("sqlkmeans")]
    best, usual = min(others, default=math.nan), max(others, default=math.nan)
    lines = [
        f"### {title}, {rows:,} rows", "",
        "| | seconds | rows a second | times the slowest pandas path | times the fastest |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name, value in medians.items():
        lines.append(
            f"| {name} | {value:.2f} | {rows / value:,.0f} | {usual / value:.1f} | "
            f"{best / value:.1f} |"
        )
    return [*lines, ""]


@contextmanager
def report(command: str, server: Server, results: Path) -> Iterator[list[str]]:
    """Write the lines that are collected, even when a later part fails."""
    lines = [
        "# SQL Server", "",
        f"Medians of runs that took turns, {date.today().isoformat()}.",
        f"Load of the machine at the start: {_load()}", "",
        f"    {command}", "",
        f"Server: {server.version()}, {server.place()}. Client: {platform.system()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; "
        + ", ".join(
            f"{name} {_version(name)}"
            for name in ("mssql-python", "pyodbc", "pandas", "SQLAlchemy", "pyarrow")
        )
        + ".", "",
    ]  # fmt: skip
    try:
        yield lines
    finally:
        results.parent.mkdir(exist_ok=True)
        results.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pandas-repeats", type=int, default=3)
    parser.add_argument("--long-repeats", type=int, default=3, help="of job and again")
    parser.add_argument(
        "--slow-rows", type=int, default=200_000,
        help="the most rows that to_sql without fast_executemany has to write",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", default=["read", "write", "job", "again"])
    parser.add_argument("--leave-out", nargs="+", default=[], help="contenders, by part of name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file to write")
    options = parser.parse_args()
    url = os.environ.get("SQLKMEANS_TEST_URL")
    if not url:
        raise SystemExit("set SQLKMEANS_TEST_URL to the URL of a database that may be emptied")
    server = Server(make_url(url))
    command = "python benchmarks/sqlserver.py " + shlex.join(sys.argv[1:])
    with report(command.strip(), server, options.results) as lines:
        for rows in options.rows:
            server.execute("DROP TABLE IF EXISTS dbo.customer")
            forget(server)
            with server.open("mssqlpython") as database:
                database.create_table("dbo.customer", make(rows), "customer_id")
            counts = (rows, options.repeats, options.pandas_repeats)

            if "read" in options.only:
                medians = compare(wanted(read(server, rows), rows, options), *counts)
                lines += table("Reading", medians, rows)
            if "write" in options.only:
                medians = compare(wanted(write(server, rows), rows, options), *counts)
                lines += table("Writing", medians, rows)
            if "job" in options.only:
                medians = compare(
                    wanted(job(server), rows, options),
                    rows,
                    options.long_repeats,
                    options.pandas_repeats,
                )
                lines += table("The whole job", medians, rows)
            if "again" in options.only:
                lines += again_table(server, rows, options.long_repeats)
            lines[LOAD_LINE] = f"{lines[LOAD_LINE].split('; ')[0]}; now, at the end: {_load()}."
    print(options.results.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
