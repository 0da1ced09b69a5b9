"""A database, and a function that runs an engine in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.tables import RESULT_TABLES
from sqlkmeans.definition import Segmentation
from support.shops import labels_of, make_shop

RunEngine = Callable[..., dict[str, Any]]


@pytest.fixture
def database() -> Iterator[Database]:
    """An empty DuckDB in memory."""
    with open_database("duckdb:///:memory:", create=True) as opened:
        yield opened


@pytest.fixture
def run_engine(database: Database) -> RunEngine:
    """A function that segments ``dbo.shop`` with an engine and gives the result and its rows."""
    if database.describe_table("dbo.shop") is None:
        database.create_table("dbo.shop", make_shop(), "customer_id")

    def run(engine: str, **definition: Any) -> dict[str, Any]:
        name = f"shop_{engine}"
        values: dict[str, Any] = {
            "name": name, "source": "dbo.shop", "key": "customer_id",
            "features": ["income", "age"], "k": 4, "target": f"dbo.{name}", "missing": "mean",
            "n_init": 3, "engine": engine, **definition,
        }  # fmt: skip
        result = pipeline.run(Segmentation.create(**values), database).to_json()
        for table in RESULT_TABLES:
            result[table] = database.catalog.result(table, result["run_id"])
        result["labels"] = labels_of(database, f"dbo.{name}")
        return result

    return run
