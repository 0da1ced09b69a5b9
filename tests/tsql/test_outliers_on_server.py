"""Limits that T-SQL finds, beside Python's, on a live server."""

from __future__ import annotations

from typing import Any

import pytest

from sqlkmeans import Segmentation, assign, run
from sqlkmeans.database import open_database
from sqlkmeans.demo import make_customers
from support.tsql_server import Server

live = pytest.mark.sqlserver

DEFINE = """
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N'here', @source = N'dbo.customer', @key = N'customer_id',
    @features = N'income, age', @k = 5, @n_init = 10, @target = N'dbo.here_segment',
    @engine = N'tsql', @outlier = 0.02, @quiet = 1;"""
LIMITS = """
SELECT c.segment_id, MAX(c.outlier_distance), MIN(s.outliers)
FROM sqlkmeans.centroid AS c
INNER JOIN sqlkmeans.segmentation AS g ON g.active_run_id = c.run_id
INNER JOIN sqlkmeans.segment AS s ON s.run_id = c.run_id AND s.segment_id = c.segment_id
WHERE g.name = ? GROUP BY c.segment_id ORDER BY c.segment_id;"""
#: Labels that differ: between the two tables, and of each from its function.
DIFFERENT = """
SELECT COUNT(*) FROM dbo.here_segment AS h
INNER JOIN dbo.there_segment AS t ON t.customer_id = h.customer_id
INNER JOIN dbo.customer AS c ON c.customer_id = h.customer_id
CROSS APPLY sqlkmeans.assign_here(c.income, c.age) AS f
CROSS APPLY sqlkmeans.assign_there(c.income, c.age) AS g
WHERE t.segment_id <> h.segment_id OR t.is_outlier <> h.is_outlier
   OR f.is_outlier <> h.is_outlier OR g.is_outlier <> h.is_outlier;"""


def flagged(server: Server, name: str) -> list[tuple[Any, ...]]:
    return server.rows(
        f"SELECT customer_id, segment_id FROM dbo.{name}_segment WHERE is_outlier = 1 "
        "ORDER BY customer_id;"
    )


@live
def test_t_sql_flags_whom_python_flags_in_training_assigning_and_rolling_back(
    server: Server,
) -> None:
    url = server.url.render_as_string(hide_password=False)
    rows = make_customers(3_000)
    with open_database(url) as database:
        database.create_table("dbo.customer", rows, "customer_id")
        server.rows(DEFINE)
        there = Segmentation.create(
            name="there", source="dbo.customer", key="customer_id", features=["income", "age"],
            k=5, n_init=10, target="dbo.there_segment", outlier=0.02,
        )  # fmt: skip
        server.rows("EXECUTE sqlkmeans.run_segmentation @segmentation = N'here';")
        run(there, database)
        ours, theirs = server.rows(LIMITS, "here"), server.rows(LIMITS, "there")
        assert [(i, n) for i, _, n in ours] == [(i, n) for i, _, n in theirs]
        assert [limit for _, limit, _ in ours] == pytest.approx([d for _, d, _ in theirs])
        assert sum(n for *_, n in ours) == len(flagged(server, "here")) > 5
        assert server.value(DIFFERENT) == 0
        before = flagged(server, "here")

        server.rows("UPDATE dbo.customer SET income = 400000 WHERE customer_id % 10 = 0;")
        server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'here';")
        result = assign(there, database)
        assert server.value(DIFFERENT) == 0
        assert flagged(server, "here") != before
        newest = "SELECT outliers, warnings FROM sqlkmeans.run WHERE run_id = (SELECT MAX(run_id) "
        newest += "FROM sqlkmeans.run WHERE segmentation = ?);"
        (count, warnings), (theirs_count, _) = (
            server.rows(newest, name)[0] for name in ("here", "there")
        )
        assert count == theirs_count == result.outliers == len(flagged(server, "here"))
        assert "a refit is due: outliers: " in warnings
        assert [w for w in result.warnings if w.startswith("a refit is due: outliers: ")]

        server.rows("EXECUTE sqlkmeans.rollback_segmentation @segmentation = N'here';")
        assert flagged(server, "here") == before
        open_rows = server.rows(
            "SELECT customer_id, segment_id FROM dbo.here_segment_history "
            "WHERE is_outlier = 1 AND valid_to IS NULL ORDER BY customer_id;"
        )
        assert open_rows == before


@live
def test_a_trim_is_for_who_looks_at_rows(server: Server) -> None:
    server.rows("CREATE TABLE dbo.customer (customer_id int NOT NULL PRIMARY KEY, income float, "
                "age float);")  # fmt: skip
    message = server.error(DEFINE.replace("@outlier = 0.02", "@outlier = 0.5, @trim = 0.01"))
    assert "@outlier: 0.5 given; allowed: above 0 and below 0.5, or NULL" in message
    assert "@trim: 0.01 needs to look at rows, and engine tsql sees sums" in message
    server.rows(DEFINE.replace("N'tsql'", "N'in_database'").replace("0.02", "0.02, @trim = 0.01"))
    assert "trim" in server.error(
        "EXECUTE sqlkmeans.run_segmentation @segmentation = N'here', @engine = N'tsql';"
    )
