"""Segments keep their ids and names from run to run, on every database."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.pipeline import assign, rename, rollback, run
from sqlkmeans.registry import load_model
from support.backends import Backend
from support.published import (
    changed,
    labels,
    names,
    published,
)


def test_ids_stay_when_the_largest_segment_becomes_the_smallest(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = labels(shop)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id <= 50")
    result = run(customers, database)
    assert {s.segment_id: s.size for s in result.segments} == {1: 10, 2: 40, 3: 20}
    assert labels(shop) == {key: value for key, value in before.items() if key > 50}


def test_a_retired_id_never_comes_back(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    assert {s.segment_id for s in run(changed(customers, k=2), database).segments} < {1, 2, 3}
    # The three groups are found again, but the one that was gone has a new id.
    third = {s.segment_id for s in run(customers, database).segments}
    assert len(third & {1, 2, 3}) == 2
    assert third - {1, 2, 3} == {4}
    # Other customers, elsewhere, in other features: nothing to match by.
    shop.execute("DROP TABLE dbo.customer")
    rows = pa.table(
        {"customer_id": range(1000, 1020), "visits": [i % 3 * 10 + i / 100 for i in range(20)]}
    )
    shop.make_table("dbo.customer", rows, "customer_id")
    result = run(changed(customers, features=["visits"]), database)
    assert {s.segment_id for s in result.segments} == {5, 6, 7}
    assert (result.arrived, result.departed) == (20, 120)


def test_an_id_that_a_failed_run_would_have_given_is_not_lost_or_reused(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    with pytest.raises(DataError):
        run(changed(customers, source="SELECT * FROM dbo.customer WHERE 1 = 0"), database)
    result = run(changed(customers, k=4), database)
    assert sorted(s.segment_id for s in result.segments)[-1] == 4


def test_a_name_that_people_gave_survives_run_assign_and_rollback(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    rename("customers", database, 2, "The middle; 'best' № 1")
    assert names(shop)[2] == "The middle; 'best' № 1"
    shop.execute("DELETE FROM dbo.customer WHERE customer_id <= 50")
    for job in (run, assign, run):
        job(customers, database)
        assert names(shop)[2] == "The middle; 'best' № 1"
    rollback("customers", database)
    assert names(shop)[2] == "The middle; 'best' № 1"
    assert load_model("customers", database).names[1] == "The middle; 'best' № 1"
    shop.execute("UPDATE dbo.customer SET income = income * 2")
    result = run(customers, database)
    assert [s.name for s in result.segments if s.segment_id == 2] == ["The middle; 'best' № 1"]


def test_a_generated_name_stays_with_its_segment_too(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = names(shop)
    shop.execute("UPDATE dbo.customer SET income = income + 500000 WHERE customer_id <= 60")
    run(customers, database)
    assert names(shop) == before


def test_rename_also_takes_a_description(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    rename("customers", database, 1, "young", "They have just begun.")
    assert shop.rows(
        "SELECT name, name_source, description FROM sqlkmeans.segment WHERE segment_id = 1"
    ) == [("young", "given", "They have just begun.")]


def test_rename_refuses_an_unknown_segment_an_empty_name_and_a_taken_one_all_at_once(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    rename("customers", database, 1, "young")
    before = published(shop)
    with pytest.raises(DefinitionError) as unknown:
        rename("customers", database, 9, " ")
    assert len(unknown.value.problems) == 2
    assert "allowed: 1, 2, 3" in unknown.value.problems[0]
    with pytest.raises(DefinitionError, match="segment 1 has or had it"):
        rename("customers", database, 2, "young")
    with pytest.raises(DefinitionError, match="1 to 128 characters"):
        rename("customers", database, 2, "x" * 129)
    with pytest.raises(DefinitionError, match="not in this database"):
        rename("costumers", database, 2, "x")
    assert published(shop) == before


def test_rename_changes_no_label_and_leaves_other_segmentations_alone(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    run(changed(customers, name="other", target="dbo.other_segment"), database)
    before, name = labels(shop), names(shop)[1]
    rename("customers", database, 1, "young")
    assert labels(shop) == before
    others = "SELECT DISTINCT segment_name FROM dbo.other_segment_named WHERE segment_id = 1"
    assert shop.rows(others) == [(name,)]
