"""A job that fails leaves everything published as it was, on every database."""

from __future__ import annotations

from typing import Any

import pytest

from sqlkmeans import outcome
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.pipeline import assign, rollback, run
from sqlkmeans.registry import load_segmentation
from support.backends import Backend
from support.published import (
    SEGMENT,
    changed,
    labels,
    published,
    staging_tables,
)


@pytest.mark.parametrize(
    ("source", "changes", "says", "started"),
    [
        pytest.param(
            "SELECT customer_id, income, CASE WHEN customer_id < 3 THEN NULL ELSE age END AS age "
            "FROM dbo.customer",
            {}, r'age: 2 rows are NULL and missing = "error"', True, id="NULL in a feature",
        ),
        pytest.param(
            "SELECT * FROM dbo.customer UNION ALL "
            "SELECT * FROM dbo.customer WHERE customer_id IN (7, 9)",
            {}, r"key customer_id: not unique; 2 rows repeat.*\(for example 7\)", True,
            id="duplicate key",
        ),
        pytest.param(
            "SELECT NULLIF(customer_id, 4) AS customer_id, income, age FROM dbo.customer",
            {}, "key customer_id: 1 NULL", True, id="NULL key",
        ),
        pytest.param(
            "SELECT customer_id, income, 'old' AS age FROM dbo.customer",
            {}, 'feature age: its type is .*; allowed for type = "number": numbers and booleans '
            r'\(write { column = "age", type = "category" }\)', False,
            id="text feature",
        ),
        pytest.param(
            "SELECT customer_id, income, CAST('2020-01-01' AS date) AS age FROM dbo.customer",
            {}, 'feature age: its type is .*write { column = "age", type = "date" }', False,
            id="date feature",
        ),
        pytest.param("dbo.costumer", {}, "source dbo.costumer", False, id="missing table"),
        pytest.param(
            "SELECT customer_id, nothing AS income, age FROM dbo.customer",
            {}, "(?i)nothing", False, id="SELECT that the database refuses",
        ),
        pytest.param(
            "dbo.customer", {"features": ["income", "agee"]},
            "feature agee: no such column in dbo.customer, did you mean age", False,
            id="missing feature column",
        ),
        pytest.param(
            "dbo.customer", {"key": "id"}, "key id: no such column in dbo.customer", False,
            id="missing key column",
        ),
        pytest.param(
            "SELECT customer_id, income, CAST(1.5 AS float) AS age FROM dbo.customer",
            {}, r"age: constant \(1.5 in all 120 rows\)", True, id="constant feature",
        ),
        pytest.param(
            "SELECT customer_id, customer_id % 2 AS income, customer_id % 2 AS age "
            "FROM dbo.customer",
            {}, "k = 3 needs at least 3 customers that differ.* there are 2 among 120", True,
            id="fewer distinct rows than k",
        ),
        pytest.param(
            "SELECT * FROM dbo.customer WHERE 1 = 0", {}, "the source has no rows", True,
            id="empty source",
        ),
        pytest.param(
            "SELECT customer_id, income - 100000 AS income, age FROM dbo.customer",
            {"features": [{"column": "income", "transform": "log1p"}, "age"]},
            "income: 100 rows are -1 or less, where log1p has no value", True,
            id="out of the domain of log1p",
        ),
        pytest.param(
            "SELECT customer_id, CAST(CONCAT('x', customer_id) AS float) AS income, age "
            "FROM dbo.customer",
            {}, "source", True, id="query that fails while it runs",
        ),
        pytest.param(
            "SELECT customer_id, age, CASE WHEN age IS NULL THEN income END AS income "
            "FROM dbo.customer",
            {"missing": "mean"}, "income: every value is NULL", True, id="feature of NULLs only",
        ),
        pytest.param(
            "SELECT customer_id, age, CASE WHEN age IS NULL THEN income END AS income "
            "FROM dbo.customer",
            {"missing": "skip"}, "leaves no row", True, id="every row skipped",
        ),
    ],
)  # fmt: skip
def test_a_run_that_fails_leaves_everything_published_as_it_was(
    source: str,
    changes: dict[str, Any],
    says: str,
    started: bool,
    shop: Backend,
    database: Database,
    customers: Segmentation,
) -> None:
    run(customers, database)
    before = published(shop)
    with pytest.raises(DataError, match=says) as raised:
        run(changed(customers, source=source, **changes), database)
    assert raised.value.exit_code == 3
    assert published(shop) == before
    assert staging_tables(shop) == set()
    failed = shop.rows("SELECT error FROM sqlkmeans.run WHERE status <> 'published'")
    assert failed == ([(str(raised.value),)] if started else [])
    assert shop.rows("SELECT COUNT(*) FROM sqlkmeans.run WHERE status = 'running'") == [(0,)]
    assert run(customers, database).changed == 0


def test_an_infinite_value_fails_the_run_and_leaves_everything_as_it_was(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    if shop.infinity is None:
        pytest.skip("this database has no infinite numbers")
    run(customers, database)
    before = published(shop)
    infinite = f"CASE WHEN customer_id = 3 THEN {shop.infinity} ELSE age END"
    source = f"SELECT customer_id, income, {infinite} AS age FROM dbo.customer"
    with pytest.raises(DataError, match="age: 1 row is infinite"):
        run(changed(customers, source=source), database)
    assert published(shop) == before


def test_all_problems_of_columns_come_in_one_error(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    source = "SELECT customer_id, 'x' AS income, age FROM dbo.customer"
    segmentation = changed(customers, source=source, key="id", features=["income", "agee", "zip"])
    with pytest.raises(DataError) as raised:
        run(segmentation, database)
    assert len(raised.value.problems) == 4


def test_all_problems_of_values_come_in_one_error(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    source = "SELECT customer_id, NULLIF(income, income) AS income, 3 AS age FROM dbo.customer"
    with pytest.raises(DataError) as raised:
        run(changed(customers, source=source), database)
    assert [problem.split(":")[0] for problem in raised.value.problems] == ["income", "age"]


def test_a_run_that_fails_leaves_the_registered_definition_as_it_was(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    before = labels(shop)
    run(changed(customers, k=2), database)
    nobody = "SELECT * FROM dbo.customer WHERE 1 = 0"
    with pytest.raises(DataError, match="no rows"):
        run(changed(customers, source=nobody, target="dbo.elsewhere"), database)
    assert shop.rows("SELECT target FROM sqlkmeans.segmentation") == [(SEGMENT,)]
    # By its name, it is still what was published: it can be assigned, and rolled back.
    registered = load_segmentation(database, "customers")
    assert registered == changed(customers, k=2)
    assert assign(registered, database).changed == 0
    rollback("customers", database, first.run_id)
    assert labels(shop) == before


def test_a_first_run_that_fails_makes_no_table(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    with pytest.raises(DataError):
        run(changed(customers, source="SELECT * FROM dbo.customer WHERE 1 = 0"), database)
    assert not {name for name in shop.tables("dbo") if name.startswith("customer_segment")}
    assert shop.rows("SELECT status FROM sqlkmeans.run") == [("failed",)]


def test_an_assign_that_fails_leaves_everything_published_as_it_was(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    shop.execute("UPDATE dbo.customer SET income = NULL WHERE customer_id = 3")
    before = published(shop)
    with pytest.raises(DataError, match="income: 1 row is NULL"):
        assign(customers, database)
    assert published(shop) == before
    assert staging_tables(shop) == set()


def test_an_error_in_the_middle_of_publishing_undoes_all_of_it(
    shop: Backend, database: Database, customers: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(customers, database)
    before = published(shop)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id <= 30")
    real = outcome.segment_rows

    def twice(*arguments: Any) -> list[dict[str, Any]]:
        return real(*arguments) * 2  # repeats its key

    monkeypatch.setattr(outcome, "segment_rows", twice)
    with pytest.raises(Exception, match=r"(?i)duplicate|unique|primary key"):
        run(changed(customers, k=4), database)
    assert published(shop) == before
    assert staging_tables(shop) == set()
    assert shop.rows("SELECT status FROM sqlkmeans.run ORDER BY run_id") == [
        ("published",), ("failed",),
    ]  # fmt: skip
    monkeypatch.undo()
    assert run(customers, database).departed == 30
