"""Rolling back, on every database."""

from __future__ import annotations

import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.pipeline import assign, rollback, run
from sqlkmeans.registry import load_model
from support.backends import Backend
from support.published import (
    changed,
    labels,
    published,
)


def test_rollback_brings_back_the_labels_and_the_model_of_the_run_before(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    before, model = labels(shop), load_model("customers", database)
    shop.execute("UPDATE dbo.customer SET income = 159000, age = 63 WHERE customer_id IN (3, 4)")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 5")
    run(changed(customers, k=4), database)
    assert labels(shop) != before
    result = rollback("customers", database)
    assert labels(shop) == before
    assert load_model("customers", database) == model
    assert result.kind == "rollback"
    assert result.k == 3
    assert result.arrived == 1
    assert [(s.segment_id, s.size) for s in result.segments] == [(1, 60), (2, 40), (3, 20)]
    assert shop.rows("SELECT active_run_id FROM sqlkmeans.segmentation") == [(first.run_id,)]
    assert shop.rows(
        f"SELECT kind, status, restored_run_id FROM sqlkmeans.run WHERE run_id = {result.run_id}"
    ) == [("rollback", "published", first.run_id)]


def test_rollback_of_nothing_changed_writes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    run(customers, database)
    before = published(shop)
    result = rollback("customers", database)
    assert (result.changed, result.written) == (0, 0)
    assert published(shop)["target"] == before["target"]
    assert published(shop)["history"] == before["history"]


def test_rollback_goes_to_the_run_named_and_across_an_assign(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    then = labels(shop)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 5")
    second = assign(customers, database)
    assigned = labels(shop)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id > 100")
    run(changed(customers, k=2), database)
    rollback("customers", database, first.run_id)
    assert labels(shop) == then
    rollback("customers", database, second.run_id)
    assert labels(shop) == assigned
    # The model that made the assigned labels came back with them.
    assert shop.rows("SELECT active_run_id FROM sqlkmeans.segmentation") == [(first.run_id,)]
    assert load_model("customers", database).k == 3


def test_rollback_twice_goes_back_two_runs_and_then_says_that_there_is_no_more(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    found = []
    for k in (2, 3, 4):
        run(changed(customers, k=k), database)
        found.append(labels(shop))
    rollback("customers", database)
    assert labels(shop) == found[1]
    rollback("customers", database)
    assert labels(shop) == found[0]
    before = published(shop)
    with pytest.raises(DefinitionError, match="no earlier run"):
        rollback("customers", database)
    assert published(shop) == before


def test_a_run_after_a_rollback_keeps_the_ids_of_what_came_back(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = labels(shop)
    run(changed(customers, k=5), database)
    rollback("customers", database)
    result = run(customers, database)
    assert result.changed == 0
    assert labels(shop) == before


def test_assign_after_a_rollback_uses_the_model_that_came_back(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = labels(shop)
    run(changed(customers, k=5), database)
    rollback("customers", database)
    assert assign(customers, database).changed == 0
    assert labels(shop) == before


def test_rollback_refuses_a_run_that_is_not_a_published_one_of_this_segmentation(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    other = run(changed(customers, name="other", target="dbo.other_segment"), database)
    with pytest.raises(DataError):
        run(changed(customers, source="SELECT * FROM dbo.customer WHERE 1 = 0"), database)
    failed = other.run_id + 1
    before = published(shop)
    for run_id in (other.run_id, failed, 999, 0, -1):
        with pytest.raises(
            DefinitionError, match=f"run {run_id}: not a published run of customers"
        ):
            rollback("customers", database, run_id)
    assert published(shop) == before


def test_rollback_refuses_a_run_that_wrote_another_target(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    run(changed(customers, target="dbo.elsewhere"), database)
    elsewhere = labels(shop, "dbo.elsewhere")
    with pytest.raises(DefinitionError, match="its labels cannot come back there"):
        rollback("customers", database, first.run_id)
    assert labels(shop, "dbo.elsewhere") == elsewhere


def test_rollback_needs_no_source(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = labels(shop)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id > 100")
    run(changed(customers, k=2), database)
    shop.execute("DROP TABLE dbo.customer")
    rollback("customers", database)
    assert labels(shop) == before
