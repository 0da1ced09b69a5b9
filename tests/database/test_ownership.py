"""What belongs to somebody else is refused and left alone, on every database."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, SqlKMeansError
from sqlkmeans.pipeline import rollback, run
from support.backends import Backend
from support.published import (
    SEGMENT,
    changed,
    labels,
    published,
    sizes,
)
from support.shops import MakeCustomers


def test_a_table_of_somebody_else_as_target_is_refused_and_untouched(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.make_table(SEGMENT, pa.table({"customer_id": [1, 2], "note": ["a", "b"]}), "customer_id")
    with pytest.raises(
        DataError, match="a table of that name exists and is not this segmentation's"
    ):
        run(customers, database)
    assert sorted(shop.rows(f"SELECT * FROM {SEGMENT}")) == [(1, "a"), (2, "b")]


def test_a_table_of_somebody_else_where_the_history_goes_is_refused_and_untouched(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.make_table(f"{SEGMENT}_history", pa.table({"customer_id": [1], "note": ["a"]}), None)
    with pytest.raises(SqlKMeansError, match="customer_segment_history"):
        run(customers, database)
    assert shop.rows(f"SELECT * FROM {SEGMENT}_history") == [(1, "a")]
    assert "customer_segment" not in shop.tables("dbo")


@pytest.mark.parametrize("kind", ["view", "table"])
def test_what_somebody_else_has_where_the_named_view_goes_is_refused_and_untouched(
    kind: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    if kind == "table":
        shop.make_table(f"{SEGMENT}_named", pa.table({"note": ["a"]}), None)
    else:
        shop.execute(f"CREATE VIEW {SEGMENT}_named AS SELECT 'a' AS note")
    with pytest.raises(SqlKMeansError, match="customer_segment_named"):
        run(customers, database)
    assert shop.rows(f"SELECT * FROM {SEGMENT}_named") == [("a",)]
    assert "customer_segment" not in shop.tables("dbo")


@pytest.mark.parametrize("suffix", ["_history", "_named"])
def test_the_source_is_never_overwritten_by_what_stands_beside_the_target(
    suffix: str, backend: Backend, database: Database, customers: Segmentation,
    make_customers: MakeCustomers,
) -> None:  # fmt: skip
    backend.make_table("dbo.base", make_customers(), "customer_id")
    backend.execute(f"CREATE VIEW dbo.crm{suffix} AS SELECT customer_id, income, age FROM dbo.base")
    with pytest.raises(SqlKMeansError):
        run(changed(customers, source=f"dbo.crm{suffix}", target="dbo.crm"), database)
    assert len(backend.rows(f"SELECT income FROM dbo.crm{suffix}")) == 120


def test_two_segmentations_cannot_share_a_target(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    for target in (SEGMENT, "[dbo].CUSTOMER_SEGMENT"):
        with pytest.raises(DataError, match="it belongs to segmentation customers"):
            run(changed(customers, name="other", target=target, k=2), database)
    assert published(shop) == before


def test_two_segmentations_of_the_same_source_live_side_by_side(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = labels(shop)
    other = changed(customers, name="by_age", features=["age"], k=2, target="dbo.by_age")
    assert {s.segment_id for s in run(other, database).segments} == {1, 2}
    run(changed(other, k=4), database)
    rollback("by_age", database)
    assert sizes(shop, "dbo.by_age") == {1: 60, 2: 60}
    assert labels(shop) == before
