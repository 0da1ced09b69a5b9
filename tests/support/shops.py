"""Customers with every kind of feature, and what an engine said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database

#: The fixture `make_customers`: customers around centres, as rows.
MakeCustomers = Callable[..., pa.Table]


def make_shop(rows: int = 3_000, seed: int = 0) -> pa.Table:
    """Customers in no order, with groups that hardly overlap; keys and values tell who is who."""
    rng = np.random.default_rng(seed)
    group = rng.choice(4, size=rows, p=[0.4, 0.3, 0.2, 0.1])
    noise = rng.normal(size=(rows, 3))
    income = np.array([30_000.0, 60_000, 90_000, 140_000])[group] + 4_000 * noise[:, 0]
    orders = np.expm1(np.array([0.5, 1.5, 2.5, 3.5])[group] + 0.3 * np.abs(noise[:, 1]))
    age = np.array([25.0, 60, 40, 50])[group] + 3 * noise[:, 2]
    cities = np.array(["Oslo", "oslo", "Oslo ", "Bergen", "O'Hara"])
    return pa.table(
        {
            "customer_id": rng.permutation(rows) + 7_000_000_001,
            "income": income,
            "orders": orders,
            "age": pa.array(age, mask=rng.random(rows) < 0.05),
            "city": pa.array(
                cities[(group + (rng.random(rows) < 0.2)) % 5], mask=rng.random(rows) < 0.03
            ),
            "joined": pa.array(
                [date(2015, 1, 1) + timedelta(days=int(d)) for d in 300 * group + 40 * noise[:, 0]]
            ),
            "importance": rng.integers(0, 4, size=rows).astype(np.float64),
        }
    )


def native(database: Database) -> duckdb.DuckDBPyConnection:
    """The package's own connection to DuckDB: nothing else reaches a database in memory."""
    connection: duckdb.DuckDBPyConnection = database._native  # type: ignore[attr-defined]
    return connection


def labels_of(database: Database, target: str, key: str = "customer_id") -> pa.Table:
    """Keys, segments, distances and who is an outlier, in key order."""
    table: pa.Table = (
        native(database)
        .execute(f"SELECT {key}, segment_id, distance, is_outlier FROM {target} ORDER BY {key}")
        .to_arrow_table()
    )
    return table


def assert_near_rows(found: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    """The same rows, but for the rounding of numbers."""
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        assert set(one) == set(other)
        for name, value in other.items():
            near = pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            assert one[name] == near, (name, one, other)
