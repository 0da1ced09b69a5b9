"""A program: two runs on two executors. The first kills each executor that works for it; of the
second, one is killed in the second pass.

Spark allows a process one master, so this is no part of the tests' own.

    python killed_executor.py FOLDER

In the folder is ``customers.parquet``, and labels come to ``dbo.spark`` of its ``labels.duckdb``.
What the first run said comes to ``lost``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sqlkmeans import Segmentation, open_database, run
from sqlkmeans.database.spark import passes, workspace
from sqlkmeans.errors import DatabaseError
from support.spark import SETTINGS

Batches = Iterable[pa.RecordBatch]
#: Few rows are in the sample, so that passes are made.
DEFINITION: dict[str, Any] = {
    "key": "customer_id", "features": ["income", "age"], "k": 4, "missing": "mean", "n_init": 3,
    "sample_rows": 500,
}  # fmt: skip


def deadly(
    partial_sums: Callable[..., Callable[[Batches], Iterator[pa.RecordBatch]]], mark: str | None
) -> Callable[..., Callable[[Batches], Iterator[pa.RecordBatch]]]:
    """The same, but a task of the second pass kills the executor it is in, once; without a mark,
    each task of the first does."""
    calls: list[int] = []

    def counted(*given: Any) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
        calls.append(1)
        deadly_pass, sums_of = len(calls) == (2 if mark else 1), partial_sums(*given)

        def task(batches: Batches) -> Iterator[pa.RecordBatch]:
            import os
            import signal

            for batch in sums_of(batches):
                if deadly_pass and not (mark and os.path.exists(mark)):
                    if mark:
                        with open(mark, "w"):
                            pass
                    # The parent of a worker is a daemon, whose parent is the executor.
                    with open(f"/proc/{os.getppid()}/stat") as file:
                        executor = int(file.read().rpartition(")")[2].split()[1])
                    os.kill(executor, signal.SIGKILL)
                yield batch

        return task

    return counted


def main(folder: Path) -> None:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local-cluster[2,1,1024]")
    # Twice is as good as four times, and sooner.
    settings = {**SETTINGS, "spark.executor.memory": "512m", "spark.task.maxFailures": "2"}
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    workspace.WIDE = 1
    segmentation = Segmentation.create(
        name="spark", source=str(folder / "customers.parquet"), target="dbo.spark", engine="spark",
        **DEFINITION,
    )  # fmt: skip
    sums = passes.partial_sums
    with open_database(folder / "labels.duckdb", create=True) as database:
        passes.partial_sums = deadly(sums, None)
        try:
            run(segmentation, database, spark=session)
        except DatabaseError as error:
            published = database.describe_table("dbo.spark")
            (folder / "lost").write_text(f"{error} {published}", encoding="utf-8")
        passes.partial_sums = deadly(sums, str(folder / "killed"))
        run(segmentation, database, spark=session)
    session.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
