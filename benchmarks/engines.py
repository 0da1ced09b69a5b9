"""Engines beside each other on DuckDB: the whole job, as whole processes.

    python benchmarks/engines.py [--rows 1000000 10000000] [--features 4 8] [--repeats 3]

``sqlkmeans run`` segments the same table into 5 segments with each engine: ``local`` reads all
rows, ``pushdown`` reads its sample and asks DuckDB for sums, and so does ``pushdown`` with
``sample_rows = 0``, which reads no row.

Time is that of the process. DuckDB is a library in the same process, so the process's peak memory
has both: the client's (NumPy's and Python's objects as tracemalloc counts them, and Arrow's pool)
is measured in a run of its own, and bytes read are those of the values that come out of DuckDB.

    SQLKMEANS_TEST_URL=mssql+mssqlpython://… python benchmarks/engines.py --server
        [--rows 10000 100000 1000000] [--features 4 10] [--repeats 3] [--before URL]

On a SQL Server, ``tsql`` trains beside them, and assigns after 1 % of the customers changed. The
database of that URL is filled, and its name has to have ``test`` in it; ``--before`` names one on
the same server where an earlier commit installed its procedures, which then take their turns. One
session each, warmed up by a run that does not count: a session's first run compiles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

K = 5
ENGINES = {"local": "local", "pushdown": "pushdown", "pushdown, no rows": "pushdown"}
#: Above so many rows it takes many minutes, and is left out unless asked for.
NO_ROWS_UP_TO = 1_000_000


def make(path: Path, rows: int, n_features: int) -> None:
    """Overlapping groups of unequal size, amounts with long tails; a million rows at a time."""
    import duckdb
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(K, n_features)) * 1.8
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA dbo")
        for start in range(0, rows, 1_000_000):
            count = min(1_000_000, rows - start)
            group = rng.choice(K, size=count, p=[0.4, 0.25, 0.2, 0.1, 0.05])
            points = centres[group] + rng.normal(size=(count, n_features))
            points[:, 0] = np.exp(10 + 0.3 * points[:, 0])
            columns = {"customer_id": np.arange(start + 1, start + count + 1)}
            part = pa.table(columns | {f"f{j}": points[:, j] for j in range(n_features)})
            connection.register("part", part)
            into = "INSERT INTO dbo.customer" if start else "CREATE TABLE dbo.customer AS"
            connection.execute(f"{into} FROM part")
            connection.unregister("part")


def run(path: Path, engine: str, n_features: int, measured: bool) -> dict[str, Any]:
    """One run in this process; with ``measured``, what the client held and read."""
    import tracemalloc

    import pyarrow as pa

    from sqlkmeans import pipeline
    from sqlkmeans.database import open_database
    from sqlkmeans.database.duckdb import database as database_module
    from sqlkmeans.database.duckdb.workspace import DuckDBWorkspace
    from sqlkmeans.definition import Segmentation

    read = 0

    def counted(function: Any, size: Any) -> Any:
        def wrapper(*arguments: Any) -> Any:
            nonlocal read
            found = function(*arguments)
            read += size(found)
            return found

        return wrapper

    def counted_batches(*arguments: Any) -> Any:
        nonlocal read
        for batch in batches(*arguments):
            read += batch.keys.nbytes + batch.features.nbytes
            yield batch

    if measured:
        batches = database_module.batches
        database_module.batches = counted_batches
        for name, size in (
            ("rows", lambda rows: 8 * sum(len(row) for row in rows)),
            ("matrix", lambda matrix: matrix.nbytes),
        ):
            setattr(DuckDBWorkspace, name, counted(getattr(DuckDBWorkspace, name), size))
        tracemalloc.start()
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id",
        features=[f"f{j}" for j in range(n_features)], k=K,
        target=f"dbo.segment_{'_'.join(engine.replace(',', '').split())}",
        engine=ENGINES[engine], **({"sample_rows": 0} if engine.endswith("no rows") else {}),
    )  # fmt: skip
    with open_database(f"duckdb:///{path}") as database:
        result = pipeline.run(segmentation, database)
    found: dict[str, Any] = {"inertia": result.inertia, "seconds": result.seconds}
    if measured:
        python = tracemalloc.get_traced_memory()[1]
        found |= {"client": python + (pa.default_memory_pool().max_memory() or 0), "read": read}
    return found


def measure(source: Path, engine: str, n_features: int, *, measured: bool) -> dict[str, Any]:
    """One run as a process of its own, on a fresh copy of the database."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        path = Path(folder) / "shop.duckdb"
        subprocess.run(["cp", str(source), str(path)], check=True)
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, __file__, "--engine", engine, "--database", str(path),
             "--features", str(n_features), *(["--measured"] if measured else [])],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"{engine} failed")
    return {
        **json.loads(output),
        "wall": time.perf_counter() - started,
        "peak": usage.ru_maxrss * 1024,
    }


# On a SQL Server


def rows_of(rows: int, n_features: int) -> Any:
    """The customers of :func:`make`, as Arrow."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(K, n_features)) * 1.8
    group = rng.choice(K, size=rows, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    points = centres[group] + rng.normal(size=(rows, n_features))
    points[:, 0] = np.exp(10 + 0.3 * points[:, 0])
    columns = {"customer_id": np.arange(1, rows + 1)}
    return pa.table(columns | {f"f{j}": points[:, j] for j in range(n_features)})


class OnServer:
    """One database of the server, and what is measured there."""

    def __init__(self, url: str, rows: int, n_features: int) -> None:
        from sqlkmeans.database import open_database

        if "test" not in url.rpartition("/")[2].split("?")[0]:
            raise SystemExit("the database's name has to have test in it")
        self.url, self.features = url, [f"f{j}" for j in range(n_features)]
        self.connection = database_connection(url)
        self.execute("DROP TABLE IF EXISTS dbo.benchmark;")
        with open_database(url) as database:
            # An earlier commit's procedures stay as they are.
            database.create_table("dbo.benchmark", rows_of(rows, n_features), "customer_id")

    def execute(self, statement: str) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(statement)
        found = None
        while True:
            if cursor.description:
                found = cursor.fetchall()
            if not cursor.nextset():
                return found

    def define(self) -> None:
        self.execute(
            "EXECUTE sqlkmeans.define_segmentation @segmentation = N'benchmark_tsql', "
            f"@source = N'dbo.benchmark', @key = N'customer_id', @k = {K}, "
            f"@features = N'{json.dumps(self.features)}', @target = N'dbo.benchmark_tsql';"
        )

    def train(self) -> float:
        self.execute("EXECUTE sqlkmeans.run_segmentation @segmentation = N'benchmark_tsql', "
                     "@engine = N'tsql';")  # fmt: skip
        inertia = self.execute(
            "SELECT TOP (1) inertia FROM sqlkmeans.run WHERE segmentation = N'benchmark_tsql' "
            "AND kind = N'fit' ORDER BY run_id DESC;"
        )
        return float(inertia[0][0])

    def assign(self, more: str = "") -> None:
        self.execute(f"EXECUTE sqlkmeans.assign_segments @segmentation = N'benchmark_tsql'{more};")

    def change(self, turn: int) -> None:
        self.execute("UPDATE dbo.benchmark SET f1 = f1 + 0.001 "
                     f"WHERE customer_id % 100 = {turn % 100};")  # fmt: skip

    def client(self, engine: str) -> float:
        from sqlkmeans import pipeline
        from sqlkmeans.database import open_database
        from sqlkmeans.definition import Segmentation

        segmentation = Segmentation.create(
            name=f"benchmark_{engine}", source="dbo.benchmark", key="customer_id",
            features=self.features, k=K, target=f"dbo.benchmark_{engine}", engine=engine,
        )  # fmt: skip
        with open_database(self.url) as database:
            return float(pipeline.run(segmentation, database).inertia)


def database_connection(url: str) -> Any:
    import mssql_python
    from sqlalchemy.engine import make_url

    parts = make_url(url)
    options = "".join(f";{key}={value}" for key, value in parts.query.items())
    return mssql_python.connect(
        f"Server={parts.host},{parts.port or 1433};Database={parts.database};UID={parts.username};"
        f"PWD={{{parts.password}}}{options}", autocommit=True,
    )  # fmt: skip


def server_table(given: argparse.Namespace, command: str, results: Path) -> str:
    """Measure on the server, and write a table; what is done stands in it when the rest is not."""
    url = os.environ["SQLKMEANS_TEST_URL"]
    cursor = database_connection(url).cursor()
    cursor.execute("SELECT @@VERSION, CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(100));")
    version, number = (str(value) for value in cursor.fetchall()[0])
    version = version.split("\n")[0].strip()
    # Compatible servers begin with the same words, because drivers look for them.
    if not re.match(r"Microsoft SQL (Server 20\d\d|Azure)", version):
        version = ("a server that speaks TDS and T-SQL but is not SQL Server; it reports version "
                   f"{number}")  # fmt: skip
    lines: list[str] = []
    text = ""
    for rows in given.rows:
        for n_features in given.features:
            lines += _server_block(url, given.before, rows, n_features, given.repeats)
            text = "\n".join([
                "# Engines on a server", "",
                f"Training of k = {K} segments, and assigning after 1 % of the customers changed; "
                f"medians of {given.repeats} interleaved turns in warm sessions; load average "
                f"{os.getloadavg()[0]:.1f}; {describe_machine()}; {date.today().isoformat()}.", "",
                f"Server: {version}. Command: `{command}`. What is compared and how stands at the "
                "top of that file.", "",
                "| rows | features | what | s | times tsql | inertia over tsql |",
                "| --: | --: | --- | --: | --: | --: |", *lines, "",
            ])  # fmt: skip
            results.write_text(text, encoding="utf-8")
    return text


def _server_block(
    url: str, before: str | None, rows: int, n_features: int, repeats: int
) -> list[str]:
    now = OnServer(url, rows, n_features)
    then = OnServer(before, rows, n_features) if before else None
    trainings: dict[str, Any] = {"tsql": now.train}
    if then is not None:
        trainings["tsql, the commit before"] = then.train
    trainings |= {
        "pushdown": lambda: now.client("pushdown"),
        "local": lambda: now.client("local"),
    }
    nights: dict[str, tuple[OnServer, Any]] = {
        "assign_segments": (now, now.assign),
        "assign_segments @medians = 0": (now, lambda: now.assign(", @medians = 0")),
    }
    if then is not None:
        nights["assign_segments, the commit before"] = (then, then.assign)
    for database in (now, then):
        if database is not None:
            database.define()
    seconds: dict[str, list[float]] = {name: [] for name in [*trainings, *nights]}
    inertia: dict[str, float] = {}

    def timed(turn: int, name: str, contender: Any) -> None:
        started = time.perf_counter()
        found = contender()
        taken = time.perf_counter() - started
        if turn:
            seconds[name].append(taken)
        if found is not None:
            inertia[name] = found
        print(f"{rows:,} x {n_features}, {turn} {name}: {taken:.2f} s", file=sys.stderr)

    for turn in range(repeats + 1):
        for name, contender in trainings.items():
            timed(turn, name, contender)
    # Night after night with one model, as between two refits.
    for turn in range(repeats + 1):
        for number, (name, (database, contender)) in enumerate(nights.items()):
            database.change(3 * turn + number)
            timed(turn, name, contender)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    lines = []
    for name, median in medians.items():
        base = medians["assign_segments" if name.startswith("assign") else "tsql"]
        over = f"{inertia[name] / inertia['tsql'] - 1:+.1e}" if name in inertia else ""
        lines.append(
            f"| {rows:,} | {n_features} | {name} | {median:.2f} | {median / base:.2f} | {over} |"
        )
    return lines


def table(sizes: list[int], features: list[int], repeats: int, command: str, full: bool) -> str:
    """Measure all engines in turns and write a table."""
    lines = [
        "# Engines",
        "",
        f"`sqlkmeans run` on DuckDB, k = {K}; medians of {repeats} interleaved runs of whole "
        f"processes; {describe_machine()}; {date.today().isoformat()}.",
        "",
        f"Command: `{command}`. What is compared and how stands at the top of that file.",
        "",
        "| rows | features | engine | wall s | times local | read MB | client MB | "
        "process peak MB (with DuckDB) | inertia over local |",
        "| --: | --: | --- | --: | --: | --: | --: | --: | --: |",
    ]
    for rows in sizes:
        for n_features in features:
            lines += _block(rows, n_features, repeats, full)
    return "\n".join(lines) + "\n"


def _block(rows: int, n_features: int, repeats: int, full: bool) -> list[str]:
    engines = [e for e in ENGINES if full or rows <= NO_ROWS_UP_TO or e != "pushdown, no rows"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.duckdb"
        # In a process of its own: a child's peak memory counts its parent's.
        subprocess.run(
            [sys.executable, __file__, "--make", str(source), "--rows", str(rows),
             "--features", str(n_features)], check=True,
        )  # fmt: skip
        held = {e: measure(source, e, n_features, measured=True) for e in engines}
        runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
        for turn in range(repeats):
            for engine in engines:
                runs[engine].append(measure(source, engine, n_features, measured=False))
                found = runs[engine][-1]
                print(
                    f"{rows:,} x {n_features}, {turn + 1}/{repeats} {engine}: "
                    f"{found['wall']:.2f} s {found['seconds']}",
                    file=sys.stderr,
                )

    def median(engine: str, what: str) -> float:
        return statistics.median(found[what] for found in runs[engine])

    return [
        f"| {rows:,} | {n_features} | {engine} | {median(engine, 'wall'):.2f} | "
        f"{median(engine, 'wall') / median('local', 'wall'):.2f} | "
        f"{held[engine]['read'] / 1e6:.2f} | {held[engine]['client'] / 1e6:.0f} | "
        f"{median(engine, 'peak') / 1e6:.0f} | "
        f"{median(engine, 'inertia') / median('local', 'inertia') - 1:+.1e} |"
        for engine in engines
    ]


def describe_machine() -> str:
    """Python, libraries and cores."""
    from importlib.metadata import version

    libraries = ", ".join(f"{n} {version(n)}" for n in ("duckdb", "scikit-learn", "numpy"))
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()}, {python}, {libraries}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--features", type=int, nargs="+")
    parser.add_argument("--server", action="store_true", help="on SQLKMEANS_TEST_URL")
    parser.add_argument("--before", help="a database with an earlier commit's procedures")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="no rows read at every size")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--database", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measured", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = ([10_000, 100_000, 1_000_000], [4, 10]) if given.server else (
        [1_000_000, 10_000_000], [4, 8])  # fmt: skip
    given.rows, given.features = given.rows or sizes[0], given.features or sizes[1]
    if given.make:
        make(given.make, given.rows[0], given.features[0])
    elif given.engine:
        print(json.dumps(run(given.database, given.engine, given.features[0], given.measured)))
    else:
        # Without what a URL holds.
        arguments = ["URL" if "://" in argument else argument for argument in sys.argv[1:]]
        command = " ".join(["python benchmarks/engines.py", *arguments])
        name = "engines_server.md" if given.server else "engines.md"
        results = Path(__file__).parent / "results" / name
        if given.server:
            text = server_table(given, command, results)
        else:
            text = table(given.rows, given.features, given.repeats, command, given.full)
            results.write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
