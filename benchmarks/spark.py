"""Spark's engine against MLlib's KMeans and the local engine, from one Parquet folder.

    python benchmarks/spark.py [--rows 1000000 5000000] [--turns 2] [--master "local[*]"]
        [--executors 1 2] [--write]

Eight overlapping groups in eight columns, k = 8. In one process and one session, one after the
other, a first time (Spark compiles what it runs) and, with two turns, a second:

- ``spark``: a whole run, from the Parquet files to labels in DuckDB. "fit" is its own: learning the
  preparation, the starts on a sample, the passes, the labels.
- ``MLlib``: ``KMeans`` with k-means||, on rows that are prepared as ours are and cached before the
  clock starts: for its default 20 iterations, and until it stops at its default tolerance. Only
  ``fit`` is timed.
- ``local``: a whole run of the local engine over the same files.

Inertia is that of all rows, computed here by NumPy from the centroids of each.

The slope is what a million rows more take, between the smallest and the largest size. With
``--executors``, the largest size is run once more on so many executors, each a process of one core
on this machine (``local-cluster``), in sessions of their own, twice each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

RESULTS = Path(__file__).parent / "results" / "spark.md"
K = N_FEATURES = 8
PARTS = 8
NAMES = [f"x{j}" for j in range(N_FEATURES)]


def make(folder: Path, rows: int) -> npt.NDArray[np.float64]:
    """Write the customers; returns their columns."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(K, N_FEATURES)) * 2
    values = centres[rng.integers(K, size=rows)] + rng.normal(size=(rows, N_FEATURES))
    ids = np.arange(rows)
    folder.mkdir()
    for number, part in enumerate(np.array_split(ids, PARTS)):
        columns = {"id": part} | {name: values[part, j] for j, name in enumerate(NAMES)}
        parquet.write_table(pa.table(columns), folder / f"part-{number}.parquet")
    return values


def run(session: Any, folder: Path, engine: str, database: str) -> dict[str, Any]:
    """A whole run of ours."""
    from sqlkmeans import Segmentation, load_model, open_database
    from sqlkmeans import run as run_segmentation

    local = engine == "local"
    files = [str(file) for file in sorted(folder.iterdir())]
    source = str(folder)
    if local:
        source = " UNION ALL ".join(f"SELECT * FROM '{file}'" for file in files)
    segmentation = Segmentation.create(
        name=engine, source=source, key="id", features=NAMES, k=K, target=f"{engine}_segment",
        engine=engine,
    )  # fmt: skip
    with open_database(database, create=True, files=files) as opened:
        started = time.perf_counter()
        given = {} if local else {"spark": session}
        found = run_segmentation(segmentation, opened, **given)
        seconds = time.perf_counter() - started
        centroids = load_model(engine, opened).centroids
    return {
        "fit": found.seconds["fit"], "total": seconds, "centroids": centroids,
        "passes": found.n_iter,
    }  # fmt: skip


def fit_mllib(rows: Any, iterations: int) -> dict[str, Any]:
    """A fit of MLlib's."""
    from pyspark.ml.clustering import KMeans

    estimator = KMeans(k=K, maxIter=iterations, seed=0, featuresCol="z")
    started = time.perf_counter()
    model = estimator.fit(rows)
    seconds = time.perf_counter() - started
    return {
        "fit": seconds, "total": None, "centroids": np.array(model.clusterCenters()),
        "passes": model.summary.numIter,
    }  # fmt: skip


def inertia(values: npt.NDArray[np.float64], centroids: npt.NDArray[np.float64]) -> float:
    """Of all rows, a million at a time."""
    total = 0.0
    for start in range(0, len(values), 1_000_000):
        some = values[start : start + 1_000_000]
        squared = [((some - centroid) ** 2).sum(axis=1) for centroid in centroids]
        total += float(np.minimum.reduce(squared).sum())
    return total


Found = list[tuple[str, dict[str, Any]]]


def compare(session: Any, rows: int, turns: int, work: Path) -> Found:
    """What each made of one size."""
    from pyspark.ml.feature import VectorAssembler

    folder = work / f"customers{rows}.parquet"
    values = make(folder, rows)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    values -= mean
    values /= deviation
    scaled = [
        f"({name} - ({m!r}D)) / {s!r}D AS z{j}"
        for j, (name, m, s) in enumerate(zip(NAMES, mean.tolist(), deviation.tolist()))
    ]
    prepared = VectorAssembler(
        inputCols=[f"z{j}" for j in range(N_FEATURES)], outputCol="z"
    ).transform(session.read.parquet(str(folder)).selectExpr(*scaled)).select("z")  # fmt: skip

    found: Found = []
    for turn in ("first", "second")[:turns]:
        for engine in ("spark", "local"):
            database = str(work / f"{engine}{rows}{turn}.duckdb")
            found.append((f"{engine}, {turn}", run(session, folder, engine, database)))
        kept = prepared.persist()
        kept.count()
        for name, iterations in (("20 iterations", 20), ("to its end", 1_000)):
            found.append((f"MLlib, {name}, {turn}", fit_mllib(kept, iterations)))
        kept.unpersist()
        for name, one in found[-4:]:
            print(f"{rows:,} {name}: fit {one['fit']:.1f} s", file=sys.stderr)
    for _, one in found:
        one["inertia"] = inertia(values, one["centroids"])
    best = min(one["inertia"] for _, one in found)
    for _, one in found:
        one["above"] = one["inertia"] / best - 1
    return found


def lines_of(rows: int, found: Found) -> list[str]:
    """Of the table."""
    return [
        f"| {rows:,} | {name} | {one['fit']:.1f} | "
        f"{'' if one['total'] is None else format(one['total'], '.1f')} | {one['passes']} | "
        f"{one['above']:.1e} |"
        for name, one in found
    ]


def slopes(small: int, few: Found, large: int, many: Found) -> list[str]:
    """Seconds of a fit for a million rows more, in the last turn."""
    millions = (large - small) / 1e6
    lines = ["", f"Seconds that a million rows more take, from {small:,} to {large:,}:", ""]
    for (name, first), (_, last) in list(zip(few, many))[-4:]:
        lines.append(f"- {name}: {(last['fit'] - first['fit']) / millions:.1f}")
    return lines


def on_executors(number: int, folder: Path) -> list[dict[str, Any]]:
    """Two whole runs of ours on executors of their own, in a process of its own."""
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable, __file__, "--of-executors", str(number), str(folder)],
        check=True, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def print_runs(number: int, folder: Path) -> None:
    """In the process that has the executors."""
    session = open_session(f"local-cluster[{number},1,4096]", **{"spark.executor.memory": "4g"})
    runs = []
    for turn in range(2):
        database = str(folder.parent / f"executors{number}{turn}.duckdb")
        one = run(session, folder, "spark", database)
        runs.append({name: one[name] for name in ("fit", "total")})
    session.stop()
    print(json.dumps(runs))


def open_session(master: str, **more: str) -> Any:
    """A session that says nothing but errors."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.memory": "6g", "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR", **more,
    }  # fmt: skip
    builder = SparkSession.builder.master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def load() -> str:
    """How many processes want a core, as the system's average of a minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--turns", type=int, choices=(1, 2), default=2)
    parser.add_argument("--master", default="local[*]")
    parser.add_argument("--executors", type=int, nargs="*", default=[])
    parser.add_argument("--of-executors", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    given = parser.parse_args()
    if given.of_executors:
        print_runs(int(given.of_executors[0]), Path(given.of_executors[1]))
        return

    session = open_session(given.master)
    sizes: list[tuple[int, Found]] = []
    loads = [load()]
    cluster: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        for rows in sorted(given.rows):
            sizes.append((rows, compare(session, rows, given.turns, Path(work))))
            loads.append(load())
        session.stop()
        for number in given.executors:
            folder = Path(work) / f"customers{sizes[-1][0]}.parquet"
            first, second = on_executors(number, folder)
            cluster.append(
                f"| {number} | {first['fit']:.1f} | {first['total']:.1f} | {second['fit']:.1f} | "
                f"{second['total']:.1f} |"
            )
    lines = [line for rows, found in sizes for line in lines_of(rows, found)]
    if len(sizes) > 1:
        lines += slopes(*sizes[0], *sizes[-1])
    if cluster:
        lines += [
            "", f"{sizes[-1][0]:,} rows, `spark`, on executors of one core each:", "",
            "| executors | fit s, first | whole run s, first | fit s, second | "
            "whole run s, second |",
            "| --: | --: | --: | --: | --: |", *cluster,
        ]  # fmt: skip
    libraries = ", ".join(f"{name} {version(name)}" for name in ("pyspark", "numpy", "duckdb"))
    text = "\n".join([
        "# Spark", "",
        f"k = {K}, {N_FEATURES} columns, `{given.master}`; {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}, {libraries}; "
        f"{time.strftime('%Y-%m-%d')}. Load average before, and after each size: "
        f"{', '.join(loads)}; above the number of cores, only ratios count.", "",
        f"Command: `python benchmarks/spark.py {' '.join(sys.argv[1:])}`. What is compared and how "
        "stands at the top of that file.", "",
        "| rows | who | fit s | whole run s | iterations | inertia over the best |",
        "| --: | --- | --: | --: | --: | --: |", *lines, "",
    ])  # fmt: skip
    print(text)
    if given.write:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
