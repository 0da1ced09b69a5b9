"""Outliers in the published tables: the same suite for every database."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from sqlkmeans.database.base import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.pipeline import assign, rollback, run
from sqlkmeans.registry import load_model, segment_table
from support.backends import Backend
from support.published import changed

#: One customer of the first group is far from its centre, and one is not quite so far.
FAR, LESS = 11, 12


@pytest.fixture
def shop(backend: Backend, make_customers: Any) -> Backend:
    rows = make_customers().to_pydict()
    for customer, income in ((FAR, 95_000.0), (LESS, 70_000.0)):
        rows["income"][customer - 1] = income
    backend.make_table("dbo.customer", pa.table(rows), "customer_id")
    return backend


@pytest.fixture
def watched(customers: Segmentation) -> Segmentation:
    """Of the three segments of 60, 40 and 20, one or two hundredths are no customer but in the
    first."""
    return changed(customers, outlier=0.02)


def outliers(shop: Backend, table: str = "dbo.customer_segment") -> set[int]:
    rows = shop.rows(f"SELECT customer_id, is_outlier FROM {table}")
    return {customer for customer, is_outlier in rows if is_outlier}


def misplaced(shop: Backend) -> int:
    """Customers whose flag is not what their distance and the model's limit say."""
    return int(
        shop.rows(
            "SELECT COUNT(*) FROM dbo.customer_segment AS t "
            "INNER JOIN sqlkmeans.segmentation AS g ON g.name = 'customers' "
            "LEFT JOIN sqlkmeans.centroid AS c ON c.run_id = g.active_run_id "
            "AND c.segment_id = t.segment_id AND c.position = 1 "
            "WHERE CAST(t.is_outlier AS int) "
            "<> CASE WHEN t.distance > c.outlier_distance THEN 1 ELSE 0 END"
        )[0][0]
    )


def history(shop: Backend, customer: int) -> list[tuple[int, bool, bool]]:
    """Segment, flag and whether it is over, of each time."""
    rows = shop.rows(
        "SELECT segment_id, is_outlier, valid_to FROM dbo.customer_segment_history "
        f"WHERE customer_id = {customer} ORDER BY valid_from"
    )
    return [(segment_id, bool(flag), valid_to is not None) for segment_id, flag, valid_to in rows]


def test_who_is_beyond_the_limit_of_its_segment_is_flagged_in_table_view_and_history(
    shop: Backend, database: Database, watched: Segmentation
) -> None:
    result = run(watched, database)
    assert outliers(shop) == {FAR}
    assert outliers(shop, "dbo.customer_segment_named") == {FAR}
    assert outliers(shop, "dbo.customer_segment_history") == {FAR}
    assert misplaced(shop) == 0
    assert result.outliers == 1
    assert [s.outliers for s in result.segments] == [1, 0, 0]
    assert result.to_json()["outliers"] == 1
    told = "SELECT segment_id, outliers FROM sqlkmeans.segment ORDER BY segment_id"
    assert shop.rows(told) == [(0, 1), (1, 1), (2, 0), (3, 0)]
    assert shop.rows("SELECT outliers FROM sqlkmeans.run") == [(1,)]
    assert [row["outliers"] for row in segment_table(database, "customers")] == [1, 1, 0, 0]
    model = load_model("customers", database)
    assert model.is_outlier([[95_000.0, 35.0], [50_000.0, 35.0]]).tolist()[1] is False


def test_without_a_share_nobody_is_an_outlier_and_nothing_is_counted(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    assert outliers(shop) == set()
    assert result.outliers is None
    assert shop.rows("SELECT DISTINCT outlier_distance FROM sqlkmeans.centroid") == [(None,)]
    assert shop.rows("SELECT DISTINCT outliers FROM sqlkmeans.segment") == [(None,)]
    assert "outliers" not in segment_table(database, "customers")[0]
    later = assign(changed(customers, outlier=0.02), database)
    assert outliers(shop) == set()
    assert [w for w in later.warnings if "has no limits" in w]


def test_an_assign_keeps_the_limits_and_so_the_share_drifts(
    shop: Backend, database: Database, watched: Segmentation
) -> None:
    first = run(watched, database)
    shop.execute("UPDATE dbo.customer SET income = 94000 WHERE customer_id BETWEEN 1 AND 9")
    shop.execute(f"UPDATE dbo.customer SET income = 50000 WHERE customer_id = {FAR}")
    second = assign(watched, database)
    assert outliers(shop) >= {1, 5, 9}
    assert FAR not in outliers(shop)
    assert misplaced(shop) == 0
    assert second.outliers == len(outliers(shop))
    assert second.moved == 0
    assert second.changed == 0
    assert second.written >= 10
    assert load_model("customers", database).limits.keys() == {1, 2, 3}
    # Each flag has its time in the history.
    assert history(shop, FAR) == [(1, True, True), (1, False, False)]
    assert history(shop, 1) == [(1, False, True), (1, True, False)]
    assert history(shop, 100)[-1][2] is False
    drift = [w for w in second.warnings if w.startswith("a refit is due: outliers: ")]
    assert drift
    assert f"in run {first.run_id} (allowed rise 5" in drift[0]
    # As of then, and as of now: one row a customer.
    for run_id, expected in ((first.run_id, {FAR}), (second.run_id, outliers(shop))):
        moment = f"(SELECT published_at FROM sqlkmeans.run WHERE run_id = {run_id})"
        rows = shop.rows(
            "SELECT customer_id, is_outlier FROM dbo.customer_segment_history "
            f"WHERE valid_from <= {moment} AND (valid_to IS NULL OR valid_to > {moment})"
        )
        assert len(rows) == 120
        assert {customer for customer, flag in rows if flag} == expected


def test_a_guard_that_refuses_keeps_a_night_of_many_outliers_out(
    shop: Backend, database: Database, watched: Segmentation
) -> None:
    guard = {"action": "refuse", "psi": 9, "distance": 9, "silhouette": 9, "outliers": 0.04}
    guarded = changed(watched, guard=guard)
    run(guarded, database)
    shop.execute("UPDATE dbo.customer SET income = 94000 WHERE customer_id BETWEEN 1 AND 4")
    assign(guarded, database)
    flagged = outliers(shop)
    assert len(flagged) == 5
    shop.execute("UPDATE dbo.customer SET income = 94000 WHERE customer_id BETWEEN 1 AND 9")
    with pytest.raises(DataError, match=r"outliers: 8\.3"):
        assign(guarded, database)
    assert outliers(shop) == flagged


def test_a_refit_finds_limits_anew_and_every_flag_agrees_with_its_distance(
    shop: Backend, database: Database, watched: Segmentation
) -> None:
    run(watched, database)
    shop.execute("UPDATE dbo.customer SET income = income + 300 WHERE customer_id BETWEEN 3 AND 8")
    shop.execute(f"UPDATE dbo.customer SET income = 50000 WHERE customer_id = {FAR}")
    result = run(watched, database)
    assert outliers(shop) == {LESS}
    assert misplaced(shop) == 0
    assert result.outliers == 1
    assert history(shop, LESS) == [(1, False, True), (1, True, False)]


def test_rollback_brings_the_flags_back(
    shop: Backend, database: Database, watched: Segmentation
) -> None:
    first = run(watched, database)
    shop.execute(f"UPDATE dbo.customer SET income = 50000 WHERE customer_id = {FAR}")
    run(watched, database)
    assert outliers(shop) == {LESS}
    result = rollback("customers", database, first.run_id)
    assert outliers(shop) == {FAR}
    assert result.outliers == 1
    assert history(shop, FAR) == [(1, True, True), (1, False, True), (1, True, False)]
    # And with the limits of the restored model the next night goes on.
    shop.execute(f"UPDATE dbo.customer SET income = 95000 WHERE customer_id = {FAR}")
    assign(watched, database)
    assert outliers(shop) == {FAR}
    assert misplaced(shop) == 0


def test_changes_alone_are_flagged_by_the_same_limits(
    shop: Backend, database: Database, watched: Segmentation
) -> None:
    shop.execute("CREATE TABLE dbo.stamped (customer_id bigint NOT NULL PRIMARY KEY, "
                 "income float, age float, version bigint)")  # fmt: skip
    shop.execute("INSERT INTO dbo.stamped SELECT customer_id, income, age, customer_id "
                 "FROM dbo.customer")  # fmt: skip
    stamped = changed(watched, source="dbo.stamped", changed_by="version")
    run(stamped, database)
    shop.execute("UPDATE dbo.stamped SET income = 94000, version = 1000 WHERE customer_id <= 3")
    result = assign(stamped, database)
    assert [w for w in result.warnings if w.startswith("4 of 120 rows were read")]
    assert {1, 2, 3, FAR} <= outliers(shop)
    assert result.outliers == len(outliers(shop))
    assert sum(s.outliers or 0 for s in result.segments) == result.outliers
    assert misplaced(shop) == 0


def test_a_fit_that_leaves_out_the_farthest_still_labels_them(
    shop: Backend, database: Database, watched: Segmentation
) -> None:
    shop.execute("UPDATE dbo.customer SET income = 900000, age = 20 WHERE customer_id IN (1, 61)")
    trimmed = run(changed(watched, trim=0.02), database)
    assert sorted(s.size for s in trimmed.segments) == [22, 39, 59]
    assert trimmed.rows == 120
    assert misplaced(shop) == 0
    # Without, they have a segment of their own.
    assert 2 in [s.size for s in run(watched, database).segments]
