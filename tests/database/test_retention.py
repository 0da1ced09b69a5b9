"""What is kept of customers and of segmentations, and how it goes, on every database."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DefinitionError, LockedError
from sqlkmeans.pipeline import assign, drop, run
from support.backends import Backend
from support.published import changed

HISTORY = "dbo.customer_segment_history"


def end_labels(shop: Backend, customer: int, days: int) -> None:
    """Give a customer a label that ended so many days ago."""
    ended = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(days=days)
    begun = ended - timedelta(days=1)
    shop.execute(
        f"INSERT INTO {HISTORY} SELECT customer_id, segment_id, distance, is_outlier, "
        f"CAST('{begun.isoformat(' ', 'seconds')}' AS {moment(shop)}), "
        f"CAST('{ended.isoformat(' ', 'seconds')}' AS {moment(shop)}), run_id "
        f"FROM {HISTORY} WHERE customer_id = {customer} AND valid_to IS NULL"
    )


def moment(shop: Backend) -> str:
    """The type of the moments in a history."""
    return "timestamp" if shop.infinity else "datetime2(6)"


def ended(shop: Backend) -> list[int]:
    rows = shop.rows(f"SELECT customer_id FROM {HISTORY} WHERE valid_to IS NOT NULL ORDER BY 1")
    return [row[0] for row in rows]


def test_a_history_without_history_days_keeps_everything(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    end_labels(shop, 7, days=9000)
    run(customers, database)
    assert ended(shop) == [7]


@pytest.mark.parametrize("job", [run, assign])
def test_each_run_deletes_what_ended_before_history_days(
    job: Callable[..., Any], shop: Backend, database: Database, customers: Segmentation
) -> None:
    kept = changed(customers, history_days=30)
    run(kept, database)
    end_labels(shop, 7, days=31)
    end_labels(shop, 8, days=29)
    result = job(kept, database)
    assert ended(shop) == [8]
    assert not [warning for warning in result.warnings if "history" in warning]
    assert shop.rows(f"SELECT COUNT(*) FROM {HISTORY} WHERE valid_to IS NULL") == [(120,)]


@pytest.mark.parametrize("days", [0, -1, 36_501, 1.5, "a year"])
def test_history_days_that_are_no_days_are_named(days: object, customers: Segmentation) -> None:
    with pytest.raises(DefinitionError, match="history_days"):
        changed(customers, history_days=days)


def test_one_customer_is_erased_everywhere_by_the_statements_of_the_page(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.require_names(texts=['["57"]'])
    run(customers, database)
    (nearest,) = shop.rows("SELECT customer FROM sqlkmeans.typical_customer WHERE segment_id = 1 "
                           "AND rank = 1")[0]  # fmt: skip
    customer = int(re.sub(r"\D", "", nearest))
    assert nearest == f'["{customer}"]'
    page = (Path(__file__).parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")
    (block,) = [part for part in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
                if "typical_customer" in part]  # fmt: skip
    statements = [part for part in block.replace("42", str(customer)).split(";") if part.strip()]
    assert len(statements) == 4
    for statement in statements:
        shop.execute(statement)
    assert run(customers, database).rows == 119
    for table in ("dbo.customer", "dbo.customer_segment", HISTORY):
        assert shop.rows(f"SELECT COUNT(*) FROM {table} WHERE customer_id = {customer}") == [(0,)]
    assert (nearest,) not in shop.rows("SELECT customer FROM sqlkmeans.typical_customer")


@pytest.fixture
def two(shop: Backend, database: Database, customers: Segmentation) -> Segmentation:
    """Two segmentations of the same customers; the one that is not ``customers``."""
    other = changed(customers, name="others", target="dbo.other_segment")
    run(customers, database)
    run(other, database)
    return other


def test_dropping_a_segmentation_shows_first_and_does_nothing(
    shop: Backend, database: Database, two: Segmentation
) -> None:
    statements = drop("customers", database, execute=False)
    assert any("customer_segment_history" in statement for statement in statements)
    assert not any("other_segment" in statement for statement in statements)
    assert shop.rows("SELECT COUNT(*) FROM sqlkmeans.segmentation") == [(2,)]
    assert shop.tables("dbo") >= {"customer_segment_history", "customer_segment_named"}
    assert run(two, database).changed == 0


def test_a_dropped_segmentation_leaves_its_labels_and_the_other_segmentation(
    shop: Backend, database: Database, two: Segmentation, customers: Segmentation
) -> None:
    shop.require_drop()
    drop("customers", database)
    assert shop.tables("dbo") == {"customer", "customer_segment", "other_segment",
                                  "other_segment_history", "other_segment_named"}  # fmt: skip
    assert shop.rows("SELECT name FROM sqlkmeans.segmentation") == [("others",)]
    of_others = "run_id NOT IN (SELECT run_id FROM sqlkmeans.run WHERE segmentation = 'others')"
    for table in ("model_feature", "centroid", "segment", "segment_feature", "typical_customer",
                  "feature_bin", "feature_drift", "run"):  # fmt: skip
        assert shop.rows(f"SELECT COUNT(*) FROM sqlkmeans.{table} WHERE {of_others}") == [(0,)]
    assert run(two, database).changed == 0
    # What stayed is taken up again, from where it stands.
    again = run(customers, database)
    assert (again.arrived, again.departed) == (0, 0)


def test_a_segment_table_goes_with_its_segmentation_where_that_is_asked_for(
    shop: Backend, database: Database, two: Segmentation
) -> None:
    shop.require_drop()
    drop("customers", database, drop_target=True)
    assert "customer_segment" not in shop.tables("dbo")
    assert "other_segment" in shop.tables("dbo")
    with pytest.raises(DefinitionError, match="customers"):
        drop("customers", database)


def test_a_former_target_of_a_segmentation_goes_too_unless_it_is_anothers_now(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.require_drop()
    run(customers, database)
    run(changed(customers, target="dbo.new_segment"), database)
    run(changed(customers, name="others"), database)
    drop("customers", database, drop_target=True)
    assert shop.tables("dbo") == {"customer", "customer_segment", "customer_segment_history",
                                  "customer_segment_named"}  # fmt: skip


def test_a_segmentation_that_is_being_run_is_not_dropped(
    shop: Backend, database: Database, two: Segmentation
) -> None:
    with shop.open() as other, database.store.lock("customers"), pytest.raises(LockedError):
        drop("customers", other)
    assert shop.rows("SELECT COUNT(*) FROM sqlkmeans.segmentation") == [(2,)]
