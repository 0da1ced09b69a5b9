"""A folder with ``shop.duckdb``, as a command line leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement; its rows where it has any."""
    with duckdb.connect(folder / "shop.duckdb") as connection:
        return connection.execute(sql).fetchall()


def labels(folder: Path) -> list[tuple[Any, ...]]:
    """Customers and their segments, in order."""
    return query(folder, "SELECT customer_id, segment_id FROM dbo.customer_segment ORDER BY ALL")
