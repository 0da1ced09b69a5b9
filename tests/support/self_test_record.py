"""What Python makes of the customers of the self-test, and the SQL that says so to a server.

``python tests/support/self_test_record.py`` writes ``sql/functions/self_test_record.sql`` anew.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from sqlkmeans import Segmentation, open_database, run
from sqlkmeans.database.sqlserver.script import sql_directory

FILE = sql_directory() / "functions" / "self_test_record.sql"
#: As `self_test_checks` writes them.
FEATURES = (
    '["income", {"column": "orders", "transform": "log1p", "weight": 2}, '
    '{"column": "city", "type": "category"}]'
)

_HEAD = """\
IF OBJECT_ID(N'sqlkmeans.self_test_record') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.self_test_record () RETURNS TABLE
        AS RETURN (SELECT 1 AS segment_id);');
GO
-- What Python makes of self_test_customers: the centroids in the scaled space and, as segment 0,
-- the inertia. Written by tests/support/self_test_record.py.
ALTER FUNCTION sqlkmeans.self_test_record ()
RETURNS TABLE
AS
RETURN (
    SELECT r.segment_id, r.position, r.feature, r.scaled_value
    FROM (VALUES
"""
_TAIL = """
    ) AS r (segment_id, position, feature, scaled_value)
);
GO
"""


@dataclass(frozen=True)
class Record:
    """What a run published: rows of (segment_id, position, feature, value), and labels by key."""

    rows: list[tuple[int, int, str, float]]
    labels: dict[int, int]


def query_of(name: str) -> str:
    """The SELECT inside an inline function of ``sql/functions``, as DuckDB reads it."""
    text = (sql_directory() / "functions" / f"{name}.sql").read_text(encoding="utf-8")
    found = re.search(r"^RETURN \(\n(.*)\n\);$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].replace(" AS float)", " AS double)").replace("N'", "'")


def customers() -> list[tuple[Any, ...]]:
    """The rows of ``self_test_customers``: key, income, orders, city, expected segment."""
    return duckdb.sql(query_of("self_test_customers")).fetchall()


def compute() -> Record:
    """Segment these customers with the local engine."""
    segmentation = Segmentation.create(
        name="self_test", source="dbo.customer", key="customer_id", features=json.loads(FEATURES),
        k=3, target="dbo.customer_segment", missing="mean", n_init=2,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "self_test.duckdb")
        with duckdb.connect(file) as made:
            made.execute("CREATE SCHEMA dbo")
            made.execute(f"CREATE TABLE dbo.customer AS {query_of('self_test_customers')}")
        with open_database(f"duckdb:///{file}", create=True) as database:
            inertia = run(segmentation, database).inertia
        with duckdb.connect(file) as made:
            rows = made.sql(
                "SELECT segment_id, position, feature, scaled_value FROM sqlkmeans.centroid "
                "ORDER BY segment_id, position"
            ).fetchall()
            labels = dict(
                made.sql("SELECT customer_id, segment_id FROM dbo.customer_segment").fetchall()
            )
    return Record([(0, 0, "inertia", inertia), *rows], labels)


def recorded() -> list[tuple[int, int, str, float]]:
    """The rows that stand in the SQL."""
    return duckdb.sql(query_of("self_test_record")).fetchall()


def text_of(rows: list[tuple[int, int, str, float]]) -> str:
    """The file that holds these rows."""
    values = ",\n".join(
        f"        ({segment}, {position}, N'{feature}', {value:.16e})"
        for segment, position, feature, value in rows
    )
    return _HEAD + values + _TAIL


if __name__ == "__main__":
    FILE.write_text(text_of(compute().rows), encoding="utf-8", newline="\n")
    sys.stdout.write(f"{FILE}\n")
