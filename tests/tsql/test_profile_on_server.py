"""Profile columns, described in T-SQL, beside what Python says of the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import Segmentation, assign, run
from sqlkmeans.database import open_database
from support.shops import assert_near_rows, make_shop
from support.tsql_server import Server

pytestmark = pytest.mark.sqlserver

PROFILE = ["age", "churned", "city", "joined"]


def shop() -> pa.Table:
    """Customers with a bit, a text, a date and a number that are missing now and then."""
    rows, rng = make_shop(400), np.random.default_rng(5)
    churned = pa.array(rng.random(400) < 0.2, mask=rng.random(400) < 0.03)
    return rows.append_column("churned", churned)


def definition(name: str, engine: str, **values: Any) -> Segmentation:
    given = {"name": name, "source": "dbo.shop", "key": "customer_id", "k": 4, "n_init": 2,
             "features": ["income", "orders"], "target": f"dbo.{name}", "engine": engine,
             "profile": PROFILE}  # fmt: skip
    return Segmentation.create(**{**given, **values})


def test_the_procedures_describe_as_the_client_does(server: Server) -> None:
    with open_database(server.url.render_as_string(hide_password=False)) as database:
        database.create_table("dbo.shop", shop(), "customer_id")
        expected = run(definition("there", "local"), database).profile
        here = definition("here", "tsql")
        assert_near_rows(run(here, database).profile, expected)
        assert_near_rows(assign(here, database).profile, expected)
        run(definition("untold", "tsql", profile=[]), database)
    differing = server.value(
        "SELECT COUNT(*) FROM dbo.here AS a INNER JOIN dbo.untold AS b "
        "ON b.customer_id = a.customer_id AND b.segment_id = a.segment_id "
        "AND b.distance = a.distance;"
    )
    assert differing == 400


def test_medians_are_left_out_where_they_are_not_wanted(server: Server) -> None:
    with open_database(server.url.render_as_string(hide_password=False)) as database:
        database.create_table("dbo.shop", shop(), "customer_id")
        run(definition("here", "local"), database)
    row = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'here', @medians = 0;")[0]
    counts = server.rows(
        "SELECT COUNT(p.mean), COUNT(p.median) FROM sqlkmeans.segment_profile AS p "
        "WHERE p.run_id = ?;", row[0]
    )[0]  # fmt: skip
    assert counts == (10, 0)


def test_what_was_defined_in_t_sql_is_described_with_awkward_names(server: Server) -> None:
    server.rows(
        "CREATE TABLE dbo.point (id int NOT NULL PRIMARY KEY, x float NOT NULL, [a b] int NULL, "
        "[select] nvarchar(200) NULL);"
    )
    server.rows(
        "INSERT INTO dbo.point (id, x, [a b], [select]) VALUES (1, 1, 5, N'(other)'), "
        "(2, 2, 7, N'y'), (3, 100, NULL, N'y '), (4, 101, NULL, NULL), "
        "(5, 102, NULL, N'y');"
    )
    server.rows(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = N'p', @source = N'dbo.point', "
        "@key = N'id', @features = N'x', @k = 2, @target = N'dbo.p', "
        """@profile = N'["a b", "select"]';"""
    )
    server.rows("EXECUTE sqlkmeans.run_segmentation @segmentation = N'p', @engine = N'tsql';")
    found = server.rows(
        "SELECT segment_id, position, level, known, missing, mean, deviation, share "
        "FROM sqlkmeans.segment_profile ORDER BY segment_id, position;"
    )
    assert [tuple(row) for row in found[:4]] == [
        (0, 1, None, 2, 3, 6.0, 1.0, None),
        (0, 2, "y", 4, 1, None, None, 0.5),
        (0, 3, "y ", 4, 1, None, None, 0.25),
        (0, 4, "(other)", 4, 1, None, None, 0.25),
    ]
    nothing_known = [row for row in found if row[1] == 1 and row[3] == 0]
    assert [tuple(row[4:7]) for row in nothing_known] == [(3, None, None)]
