"""Executors in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from sqlkmeans import pipeline
from sqlkmeans.database import open_database
from sqlkmeans.definition import Segmentation
from support import killed_executor
from support.shops import labels_of, make_shop

pytestmark = [
    # A process has one master.
    pytest.mark.spark(session=False),
    pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for it in /proc"),
]


@pytest.mark.timeout(900)
def test_executors_that_are_killed_change_no_label(tmp_path: Path) -> None:
    rows = make_shop()
    folder = tmp_path / "customers.parquet"
    folder.mkdir()
    for part in range(4):
        parquet.write_table(rows.slice(part * 750, 750), folder / f"{part}.parquet")
    tests = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, killed_executor.__file__, str(tmp_path)],
        check=True, env={**os.environ, "PYTHONPATH": str(tests), "PYSPARK_PYTHON": sys.executable},
    )  # fmt: skip
    # Lost for good: the first run ends in words, and publishes nothing.
    lost = (tmp_path / "lost").read_text(encoding="utf-8")
    assert re.fullmatch(r"training in Spark: .*executor.* None", lost, re.IGNORECASE), lost
    # Lost once, in the second pass: the second run goes on.
    assert (tmp_path / "killed").exists()
    with open_database(tmp_path / "labels.duckdb") as database:
        database.create_table("dbo.shop", rows, "customer_id")
        segmentation = Segmentation.create(
            name="local", source="dbo.shop", target="dbo.local", **killed_executor.DEFINITION
        )
        pipeline.run(segmentation, database)
        expected, found = labels_of(database, "dbo.local"), labels_of(database, "dbo.spark")
    assert found["customer_id"].equals(expected["customer_id"])
    assert found["segment_id"].equals(expected["segment_id"])
