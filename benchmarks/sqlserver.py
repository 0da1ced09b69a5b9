"""Reading, writing and the whole job on a SQL Server, beside what people would write themselves.

    SQLKMEANS_TEST_URL=mssql+mssqlpython://… python benchmarks/sqlserver.py
        [--rows 200000 1000000] [--repeats 5] [--pandas-repeats 3]
        [--only read write job again] [--leave-out "to_sql, mssqlpython"]
        [--results benchmarks/results/sqlserver.md]

The database of that URL is filled and emptied; its name has to have ``test`` in it. On the same
table of customers (bigint key, 4 features) each contender of a group does one thing; they take
turns, and the medians are compared.

read
    The rows in key order into a matrix of float64: sqlkmeans with each driver, and
    ``pandas.read_sql`` with each driver.
write
    A label for every customer, key, segment and distance, into a table with a primary key:
    sqlkmeans staging with each driver, ``DataFrame.to_sql`` with pyodbc as it is, with
    ``fast_executemany``, and with mssql-python.
job
    ``sqlkmeans.run`` with each driver; and read_sql, StandardScaler, KMeans(n_init=10) and to_sql.
again
    A first run, and a second where 1 % of the customers changed, with each driver: what they send
    and write, and what staging and publishing take.

Server, drivers, machine, load, date and command stand in the report's first lines.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from sqlalchemy.engine import URL, make_url

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database import sqlserver as sqlserver_module
from sqlkmeans.database.sqlserver_connection import Connector, product_version
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines import open_engine

FEATURES = ["income", "age", "orders", "tenure"]
K = 5
DRIVERS = ("mssqlpython", "pyodbc")
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
        if not str(banner).startswith("Microsoft"):
            return "one that speaks SQL Server's protocol and T-SQL but is not SQL Server"
        return f"Microsoft SQL Server, {edition} {version}"


def read(server: Server, rows: int) -> dict[str, Contender]:
    """Rows in key order into float64."""

    def own(driver: str) -> object:
        with server.open(driver) as database:
            database.count("dbo.customer")
            started = time.perf_counter()
            with database.open_source(segmentation(), FEATURES) as source:
                open_engine("local").read(source, ["customer_id"], lambda done: None)
            return time.perf_counter() - started

    def pandas(driver: str) -> object:
        query = f"SELECT customer_id, {', '.join(FEATURES)} FROM dbo.customer ORDER BY customer_id"
        engine = server.engine(driver)
        with engine.connect() as connection:  # connecting is not counted, as it is not above
            connection.rollback()
            started = time.perf_counter()
            frame = pd.read_sql(query, connection)
            matrix = frame[FEATURES].to_numpy(np.float64)
            seconds = time.perf_counter() - started
        engine.dispose()
        assert len(matrix) == rows
        return seconds

    return {f"sqlkmeans, {driver}": lambda d=driver: own(d) for driver in DRIVERS} | {
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
            run_id = database.start_run(segmentation(), {"kind": "fit", "engine": "local"})
            started = time.perf_counter()
            database.stage(segmentation(), run_id, keys, clusters, distances)
            seconds = time.perf_counter() - started
            database.fail_run(run_id, "a benchmark")
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


CHANGE = "UPDATE dbo.customer SET income = income {0} 400000, age = age {0} 60 "
ONE_PERCENT = "WHERE customer_id % 100 = 0"


def again(server: Server, driver: str) -> list[tuple[str, int, int, float]]:
    """A first run and one after 1 % changed: name, rows sent, rows written, seconds to publish.

    The seconds are all between labels and a published table: the comparison with the published
    labels, staging, and the transaction.
    """
    forget(server)
    sent: list[int] = []
    real = sqlserver_module.write_rows

    def counting(session: Any, table: str, columns: Any, labels: pa.Table) -> None:
        sent.append(labels.num_rows)
        real(session, table, columns, labels)

    sqlserver_module.write_rows = counting
    try:
        with server.open(driver) as database:
            first = pipeline.run(segmentation(), database)
            # As far as the farthest group, so that these customers move.
            server.execute(CHANGE.format("+") + ONE_PERCENT)
            second = pipeline.assign(segmentation(), database)
    finally:
        sqlserver_module.write_rows = real
    server.execute(CHANGE.format("-") + ONE_PERCENT)
    return [
        (f"{name}, {driver}", rows, result.written, result.seconds["publish"])
        for name, rows, result in zip(("first run", "second run"), sent, (first, second))
    ]


def again_table(server: Server, rows: int) -> list[str]:
    """One table of the report: first and second run with each driver."""
    lines = [
        f"### A second run after 1 % changed, {rows:,} rows", "",
        "| | rows sent | rows written | seconds from labels to a published table |",
        "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    ratios = []
    for driver in DRIVERS:
        first, second = again(server, driver)
        for name, sent, written, seconds in (first, second):
            lines.append(f"| {name} | {sent:,} | {written:,} | {seconds:.2f} |")
        ratios.append(
            f"{driver} sends {first[1] / max(second[1], 1):,.0f} times fewer rows and takes "
            f"{first[3] / second[3]:.1f} times less time"
        )
    return [*lines, "", f"The second run: {'; '.join(ratios)}.", ""]


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

            def wanted(contenders: dict[str, Contender]) -> dict[str, Contender]:
                left_out = options.leave_out
                return {n: c for n, c in contenders.items() if not any(t in n for t in left_out)}

            if "read" in options.only:
                medians = compare(wanted(read(server, rows)), *counts)
                lines += table("Reading", medians, rows)
            if "write" in options.only:
                medians = compare(wanted(write(server, rows)), *counts)
                lines += table("Writing", medians, rows)
            if "job" in options.only:
                medians = compare(wanted(job(server)), rows, min(3, options.repeats), 3)
                lines += table("The whole job", medians, rows)
            if "again" in options.only:
                lines += again_table(server, rows)
            lines[LOAD_LINE] = f"{lines[LOAD_LINE].split('; ')[0]}; now, at the end: {_load()}."
    print(options.results.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
