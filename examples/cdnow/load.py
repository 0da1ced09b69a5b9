"""Load the CDNOW customers into DuckDB and compute recency, frequency and monetary value in SQL.

    python examples/cdnow/load.py [cdnow.duckdb]     # by default beside this file

The 23,570 customers who first bought from the music shop CDNOW in early 1997, and all their 69,659
purchases until June 1998 (Fader & Hardie, 2001). The data comes with the PyPI package
``lifetimes``, from which it is read: ``pip install lifetimes``.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import duckdb

RFM = """
CREATE OR REPLACE VIEW dbo.customer_rfm AS
SELECT
    customer_id,
    date_diff('day', MAX(ordered_on), (SELECT MAX(ordered_on) FROM dbo.purchase)) AS recency_days,
    COUNT(*) AS frequency,
    SUM(amount) AS monetary
FROM dbo.purchase
GROUP BY customer_id
"""


def purchases_file() -> Path:
    """Where the installed package keeps the purchases; the package itself is not imported."""
    spec = find_spec("lifetimes")
    if spec is None or spec.origin is None:
        raise SystemExit("the data comes with a package: pip install lifetimes")
    return Path(spec.origin).parent / "datasets" / "CDNOW_master.txt"


def load(database: str) -> None:
    """Make table dbo.purchase and view dbo.customer_rfm."""
    with duckdb.connect(database) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS dbo")
        # Columns stand at fixed places, so runs of spaces separate them.
        connection.execute(
            """
            CREATE OR REPLACE TABLE dbo.purchase AS
            SELECT
                CAST(field[1] AS integer) AS customer_id,
                CAST(strptime(field[2], '%Y%m%d') AS date) AS ordered_on,
                CAST(field[3] AS integer) AS units,
                CAST(field[4] AS decimal(9, 2)) AS amount
            FROM (
                SELECT regexp_split_to_array(trim(line), '\\s+') AS field
                FROM read_csv($file, columns = {'line': 'varchar'}, header = true, delim = '\\t')
            )
            """,
            {"file": str(purchases_file())},
        )
        connection.execute(RFM)
        purchases = connection.execute("SELECT COUNT(*) FROM dbo.purchase").fetchone()
        customers = connection.execute("SELECT COUNT(*) FROM dbo.customer_rfm").fetchone()
    print(f"{database}: {customers[0]:,} customers, {purchases[0]:,} purchases")


if __name__ == "__main__":
    load(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).with_name("cdnow.duckdb")))
