"""Temporary views of a Spark session, and rows that it keeps for a while.

Over Spark Connect a query's names are looked up whenever it is used, also to let go of what is kept
of it. So names stay until all is let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from sqlkmeans.database.spark.session import told_nothing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Views:
    """Names of rows in a session, and rows that it keeps, until they are let go."""

    def __init__(self) -> None:
        self._prefix = f"sqlkmeans_{uuid4().hex[:8]}"
        self._kept: list[DataFrame] = []
        self._named: dict[str, DataFrame] = {}

    def keep(self, rows: DataFrame) -> DataFrame:
        """Let the session keep rows, once something has computed them."""
        self._kept.append(rows.persist())
        return rows

    def name(self, rows: DataFrame, name: str = "") -> str:
        """A temporary view of rows, by default under a name that no other has."""
        name = name or f"{self._prefix}_{len(self._named)}"
        rows.createOrReplaceTempView(name)
        self._named[name] = rows
        return name

    def close(self) -> None:
        """Let go of all; the session lives on."""
        with told_nothing():
            for rows in self._kept:
                rows.unpersist()
            for name, rows in self._named.items():
                rows.sparkSession.catalog.dropTempView(name)
