"""The examples of Spark, on this machine and over a view."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.shops import make_shop

EXAMPLES = Path(__file__).parents[2] / "examples" / "spark"
#: Where a platform's notebook keeps its file, and where it works on it.
FILES = {
    "databricks": (
        "/Volumes/main/default/sqlkmeans/customers.duckdb", "/local_disk0/customers.duckdb"
    ),
    "fabric": ("/lakehouse/default/Files/customers.duckdb", "/tmp/customers.duckdb"),
}  # fmt: skip


@pytest.fixture
def view(spark_session: Any) -> Iterator[str]:
    """Customers."""
    spark_session.createDataFrame(make_shop(600)).createOrReplaceTempView("lake_customer")
    yield "lake_customer"
    spark_session.catalog.dropTempView("lake_customer")


def cells(platform: str) -> list[str]:
    """The code of a notebook, without what is not Python."""
    book = json.loads((EXAMPLES / f"{platform}.ipynb").read_text(encoding="utf-8"))
    texts = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    return [text for text in texts if not text.startswith("%")]


def labels(file: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(
            "SELECT COUNT(*), COUNT(DISTINCT segment_id) FROM dbo.customer_segment"
        ).fetchall()


@pytest.mark.spark
def test_the_script_for_spark_submit_labels_every_customer(view: str, tmp_path: Path) -> None:
    found: dict[str, Any] = {"__name__": "customers"}
    exec(compile((EXAMPLES / "customers.py").read_text(encoding="utf-8"), "", "exec"), found)
    found["segment_customers"](view, str(tmp_path / "labels.duckdb"))
    assert labels(tmp_path / "labels.duckdb") == [(600, 5)]


@pytest.mark.spark
@pytest.mark.parametrize("platform", FILES)
def test_a_notebook_s_cells_run(
    platform: str, view: str, spark_session: Any, tmp_path: Path
) -> None:
    *first, last = cells(platform)
    compile(last, platform, "exec")
    space: dict[str, Any] = {"spark": spark_session}
    for text in first:
        for name, file in zip(("kept", "local"), FILES[platform]):
            text = text.replace(f'"{file}"', f'"{(tmp_path / name).as_posix()}.duckdb"')
        exec(compile(text.replace('"sales.customer"', f'"{view}"'), platform, "exec"), space)
    assert labels(tmp_path / "kept.duckdb") == [(600, 5)]
