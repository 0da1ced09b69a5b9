"""Customers for trying things out: natural clusters of income and age."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DefinitionError

SOURCE = "dbo.customer"
COLUMNS = ["customer_id", "income", "age"]

CUSTOMERS = 100_000
CLUSTERS = 5
SEED = 1

INCOME_RANGE, INCOME_DEVIATION = (20_000, 200_000), 10_000
AGE_RANGE, AGE_DEVIATION = (20, 70), 2


def make_customers(
    customers: int = CUSTOMERS, clusters: int = CLUSTERS, seed: int = SEED
) -> pa.Table:
    """Draw customers around cluster centres.

    Each centre is uniform in 20,000 to 200,000 of income and 20 to 70 years of age; each
    customer belongs to a random cluster and is normal around its centre, with deviations of
    10,000 and 2.

    Parameters
    ----------
    customers : int, default=100_000
    clusters : int, default=5
    seed : int, default=1

    Returns
    -------
    pyarrow.Table
        ``customer_id`` int64 from 1, ``income`` to the cent, ``age`` to a hundredth of a year.
    """
    rng = np.random.default_rng(seed)
    centers = np.column_stack(
        [rng.uniform(*INCOME_RANGE, clusters), rng.uniform(*AGE_RANGE, clusters)]
    )
    cluster = rng.integers(clusters, size=customers)
    spread = rng.normal(size=(customers, 2)) * (INCOME_DEVIATION, AGE_DEVIATION)
    points = (centers[cluster] + spread).round(2)
    ids = np.arange(1, customers + 1, dtype=np.int64)
    return pa.table({"customer_id": ids, "income": points[:, 0], "age": points[:, 1]})


def demo_segmentation(clusters: int = CLUSTERS, engine: str = "local") -> Segmentation:
    """The segmentation that the demo runs; Spark runs in this process."""
    return Segmentation.create(
        name="customers",
        source=SOURCE,
        key="customer_id",
        features=["income", "age"],
        k=clusters,
        target="dbo.customer_segment",
        engine=engine,
        spark={"master": "local[*]"} if engine == "spark" else {},
    )


def definition_text(url: str, clusters: int) -> str:
    """The demo's definition file."""
    return f"""\
# The demo's definition: `sqlkmeans run demo.toml` runs it again.

[database]
url = "{url}"

[segmentation.customers]
source = "{SOURCE}"
key = "customer_id"
features = ["income", "age"]
k = {clusters}
target = "dbo.customer_segment"
"""


def load_customers(database: Database, customers: int, clusters: int, seed: int) -> bool:
    """Make the demo's table unless it is there; returns whether it was made.

    Raises
    ------
    DefinitionError
        If there is such a table that is not what was asked for: it is never overwritten.
    """
    existing = database.describe_table(SOURCE)
    if existing is None:
        database.create_table(SOURCE, make_customers(customers, clusters, seed), COLUMNS[0])
        return True
    if [column.name for column in existing] != COLUMNS:
        raise DefinitionError(
            f"{SOURCE} is in this database already and is not the demo's; name another database"
        )
    rows = database.count(SOURCE)
    if rows != customers:
        raise DefinitionError(
            f"{SOURCE} is in this database already, with {rows:,} customers and not {customers:,}; "
            "name another database, or delete this one"
        )
    return False
