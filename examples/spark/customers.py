"""Customers of a lake, segmented by what a cluster's executors compute.

    spark-submit --master yarn --deploy-mode client customers.py lake.customer customers.duckdb

The session is the one that spark-submit starts; runs, models and labels are in the DuckDB file.
"""

from __future__ import annotations

import sys
from typing import Any

from sqlkmeans import Segmentation, open_database, run


def segment_customers(source: str, labels: str, spark: Any = None) -> None:
    """Cluster a table that Spark reads, and print the segments."""
    customers = Segmentation.create(
        name="customers", source=source, key="customer_id", features=["income", "age"], k=5,
        missing="mean", target="dbo.customer_segment", engine="spark",
    )  # fmt: skip
    with open_database(labels, create=True) as database:
        found = run(customers, database, spark=spark)
    for segment in found.segments:
        print(f"{segment.segment_id}  {segment.name}  {segment.size:,} customers")


if __name__ == "__main__":
    segment_customers(*sys.argv[1:3])
