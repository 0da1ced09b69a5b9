"""A session over Spark Connect: plans travel, and nothing of the process is there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from sqlkmeans import pipeline
from sqlkmeans.database import open_database
from sqlkmeans.definition import Segmentation
from support.shops import labels_of, make_shop
from support.spark import OPTIONS

# A process has one kind of session.
pytestmark = pytest.mark.spark(session=False)

SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"


@pytest.fixture
def master(tmp_path: Path) -> Iterator[str]:
    """A Spark Connect server of this machine."""
    pytest.importorskip("grpc", reason='Spark Connect needs "pyspark[connect]"')
    pyspark = pytest.importorskip("pyspark")
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "server.log").open("w") as log, subprocess.Popen(
        [submit, "--class", SERVER, "--master", "local[2]", *OPTIONS,
         "--conf", "spark.connect.grpc.binding.address=127.0.0.1",
         "--conf", f"spark.connect.grpc.binding.port={port}", "spark-internal"],
        cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    ) as server:  # fmt: skip
        try:
            _wait_for(port, server, tmp_path / "server.log")
            yield f"sc://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end, log.read_text(encoding="utf-8")
            time.sleep(0.2)


def test_a_run_over_spark_connect_finds_what_local_finds(tmp_path: Path, master: str) -> None:
    rows = make_shop()
    parquet.write_table(rows, tmp_path / "customers.parquet")
    definition = (
        '[database]\nurl = "labels.duckdb"\n'
        f'[spark]\nmaster = "{master}"\n'
        '[segmentation.connect]\nengine = "spark"\n'
        f"source = '{tmp_path / 'customers.parquet'}'\n"
        'key = "customer_id"\nfeatures = ["income", "age"]\nk = 4\nn_init = 1\nmissing = "mean"\n'
        'target = "dbo.segment"\n'
    )
    (tmp_path / "sqlkmeans.toml").write_text(definition, encoding="utf-8")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sqlkmeans", *arguments],
            cwd=tmp_path, check=False, capture_output=True, text=True,
        )  # fmt: skip

    assert command("install", "--url", "labels.duckdb").returncode == 0
    done = command("run")
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\w+Warning", done.stderr)
    with open_database(tmp_path / "labels.duckdb") as database:
        database.create_table("dbo.shop", rows, "customer_id")
        pipeline.run(
            Segmentation.create(
                name="local",
                source="dbo.shop",
                target="dbo.local",
                key="customer_id",
                features=["income", "age"],
                k=4,
                n_init=1,
                missing="mean",
            ),
            database,
        )
        expected, found = labels_of(database, "dbo.local"), labels_of(database, "dbo.segment")
    assert found["customer_id"].equals(expected["customer_id"])
    assert found["segment_id"].equals(expected["segment_id"])
