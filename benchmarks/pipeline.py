"""The whole job on DuckDB, as whole processes, beside what people would write themselves.

    python benchmarks/pipeline.py [--rows 1000000] [--features 4] [--repeats 5]
        [--leave-out expert] [--results pipeline.md]

Three programs segment the same table of customers into 5 segments:

sqlkmeans
    ``sqlkmeans run``: reads in key order, clusters, scores, profiles, keeps ids, publishes the
    segment table with its primary key, its history and the model.
pandas
    What a user would write: pandas.read_sql, StandardScaler, KMeans(n_init=10), to_sql.
expert
    What an expert would write: DuckDB's own data frame out, the same fit, CREATE TABLE AS back.

Each is a process of its own; the three take turns. Memory is the peak of the process, and that
minus the peak of the same program on 1,000 rows: what the rows cost, without the interpreter and
its libraries. Inertia is computed afterwards for all three alike, from the labels in the database,
in float64.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

FEATURES = ["income", "age", "orders", "tenure", "visits", "basket", "returns", "discount"]
K = 5
CONTENDERS = ("sqlkmeans", "pandas", "expert")
#: What they do; a file of its own, so that they load nothing that is needed only here.
PROGRAMS = Path(__file__).with_name("pipeline_programs.py")
#: The small table takes the large one's way, which does not load scikit-learn and may load compiled
#: loops: the libraries loaded in both must be the same for the difference to be the rows.
SMALL_ROWS, SMALL_SAMPLE = 1000, 500


def make(path: Path, rows: int, n_features: int) -> None:
    """Customers as they are: overlapping groups of unequal size, amounts with long tails."""
    import duckdb
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(0)
    group = rng.choice(K, size=rows, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    noise = rng.normal(size=(rows, len(FEATURES)))
    income = np.exp(np.array([10.3, 10.6, 11.0, 10.8, 11.6])[group] + 0.4 * noise[:, 0])
    age = np.array([28.0, 45, 60, 35, 52])[group] + 8 * noise[:, 1]
    orders = np.floor(np.exp(np.array([0.5, 1.5, 1.0, 2.5, 3.0])[group] + 0.7 * noise[:, 2]))
    tenure = np.array([1.0, 6, 12, 3, 9])[group] + 2 * np.abs(noise[:, 3])
    values = [income, age, orders, tenure]
    if n_features > len(values):
        noise = rng.normal(size=(rows, 4))
        values.append(np.floor(np.exp(np.array([1.0, 2.0, 1.5, 3.0, 3.5])[group] + noise[:, 0])))
        values.append(np.exp(np.array([3.0, 3.5, 4.0, 3.2, 4.5])[group] + 0.5 * noise[:, 1]))
        values.append(np.floor(np.abs(np.array([0, 1, 2, 0, 3])[group] + noise[:, 2])))
        values.append(np.array([0.05, 0.1, 0.02, 0.2, 0.1])[group] + 0.03 * noise[:, 3])
    features = FEATURES[:n_features]
    customers = pa.table(
        {"customer_id": np.arange(1, rows + 1)} | dict(zip(features, values, strict=False))
    )
    connection = duckdb.connect(str(path))
    connection.execute("CREATE SCHEMA dbo")
    connection.register("customers", customers)
    connection.execute("CREATE TABLE dbo.customer AS FROM customers")
    connection.close()
    path.with_suffix(".toml").write_text(
        f'[database]\nurl = "duckdb:///{path.as_posix()}"\n\n[segmentation.customers]\n'
        f'source = "dbo.customer"\nkey = "customer_id"\nfeatures = {json.dumps(features)}\n'
        f'k = {K}\ntarget = "dbo.customer_segment"\n'
        + (f"sample_rows = {SMALL_SAMPLE}\n" if rows == SMALL_ROWS else "")
    )


def inertia(path: Path) -> float:
    """Within-segment sum of squares of the standardised features, by the labels in the table."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        # A query that takes a while draws its progress into the standard output.
        connection.execute("SET enable_progress_bar = false")
        _, *features = connection.sql("FROM dbo.customer").columns
        terms = " + ".join(
            f"VAR_POP({f}) * COUNT(*) / ANY_VALUE(d_{f}) / ANY_VALUE(d_{f})" for f in features
        )
        deviations = ", ".join(f"STDDEV_POP({f}) AS d_{f}" for f in features)
        row = connection.execute(
            f"SELECT SUM(ss) FROM (SELECT {terms} AS ss FROM dbo.customer "
            "JOIN dbo.customer_segment USING (customer_id) "
            f"CROSS JOIN (SELECT {deviations} FROM dbo.customer) GROUP BY segment_id)"
        ).fetchone()
    return float(row[0])


def in_a_process(function: str, *arguments: str) -> str:
    """Call a function of this file in a process of its own and return what it returned.

    A child's peak memory counts its parent's from before it became another program, so the
    process that measures has to stay small.
    """
    call = f"import pipeline, pathlib; print(pipeline.{function}({', '.join(arguments)}))"
    return subprocess.check_output(
        [sys.executable, "-c", call], cwd=Path(__file__).parent, text=True
    ).strip()


def path_text(path: Path) -> str:
    return f"pathlib.Path({str(path)!r})"


def measure(name: str, source: Path, scratch: Path, values: int = 0) -> dict[str, float]:
    """Run one contender on a fresh copy of the database, as a process of its own.

    With ``values``, as it would run on a table of so many.
    """
    path = scratch / source.name
    for old in scratch.iterdir():
        old.unlink()
    shutil.copy(source, path)
    path.with_suffix(".toml").write_text(
        source.with_suffix(".toml").read_text().replace(source.as_posix(), path.as_posix())
    )
    if hasattr(os, "sync"):
        os.sync()  # writing the copy to the disk is not the program's
    # What pip installs is compiled to bytecode. A checkout is by its first run, if Python may.
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS), name, str(path), *([str(values)] if values else [])],
        stdout=subprocess.DEVNULL, cwd=scratch, env=environment,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"{name} failed")
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024 / 1e6,
        "inertia": float(in_a_process("inertia", path_text(path))),
    }


def table(rows: int, n_features: int, repeats: int, contenders: Sequence[str]) -> str:
    """Measure the contenders in turns and write a table."""
    with tempfile.TemporaryDirectory() as folder:
        home, scratch = Path(folder), Path(folder) / "scratch"
        scratch.mkdir()
        large, small = home / "large.duckdb", home / "small.duckdb"
        in_a_process("make", path_text(large), str(rows), str(n_features))
        in_a_process("make", path_text(small), str(SMALL_ROWS), str(n_features))
        values = rows * n_features
        # What numba compiles in the first runs is there for all later ones.
        measure("sqlkmeans", large, scratch)
        measure("sqlkmeans", small, scratch, values)
        idle = {name: measure(name, small, scratch, values)["peak"] for name in contenders}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for turn in range(repeats):
            for name in contenders:
                runs[name].append(measure(name, large, scratch))
                print(
                    f"{turn + 1}/{repeats} {name}: {runs[name][-1]['wall']:.2f} s", file=sys.stderr
                )

    def median(name: str, what: str) -> float:
        return statistics.median(run[what] for run in runs[name])

    matrix, narrow = rows * n_features * 8 / 1e6, rows * (n_features * 4 + 8) / 1e6
    best = min(median(name, "inertia") for name in contenders)
    lines = [
        "# The whole job on DuckDB",
        "",
        f"{rows:,} customers x {n_features} features, k = {K}; medians of {repeats} interleaved "
        f"runs of whole processes; {describe_machine()}.",
        "",
        f"Command: `python benchmarks/pipeline.py {shlex.join(sys.argv[1:])}`. "
        "What is compared stands at the top of that file.",
        "",
        "| program | wall s | times sqlkmeans | CPU s | peak MB | of it for the rows MB | "
        "times the float64 matrix | times 4-byte values and keys | inertia over the best |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in contenders:
        rows_mb = median(name, "peak") - idle[name]
        lines.append(
            f"| {name} | {median(name, 'wall'):.2f} | "
            f"{median(name, 'wall') / median('sqlkmeans', 'wall'):.1f} | "
            f"{median(name, 'cpu'):.2f} | "
            f"{median(name, 'peak'):.0f} | {rows_mb:.0f} | {rows_mb / matrix:.1f} | "
            f"{rows_mb / narrow:.1f} | "
            f"{median(name, 'inertia') / best - 1:.1e} |"
        )
    return "\n".join(lines) + "\n"


def describe_machine() -> str:
    """Python, libraries and cores."""
    from importlib.metadata import version

    names = ["duckdb", "scikit-learn", "numpy", "pandas"]
    if find_spec("numba"):
        names.append("numba")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()}, {python}, {libraries}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, choices=(4, 8), default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--leave-out", choices=CONTENDERS[1:], help="one that takes too long")
    parser.add_argument("--results", default="pipeline.md", help="the table's file in results/")
    arguments = parser.parse_args()
    contenders = [name for name in CONTENDERS if name != arguments.leave_out]
    text = table(arguments.rows, arguments.features, arguments.repeats, contenders)
    results = Path(__file__).parent / "results" / arguments.results
    results.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
