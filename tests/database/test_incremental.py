"""`assign` with ``changed_by``: the same suite for every database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pytest

from sqlkmeans.database.base import ChangedRows, Database, TracksChanges
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError
from sqlkmeans.pipeline import assign, rollback, run
from support.backends import Backend
from support.published import changed, labels

NOON = datetime(2024, 5, 1, 12)
EARLIER = "'2024-01-01 00:00:00'"
LATER = "'2024-05-02 00:00:00'"
FAR = "income = 160000, age = 62"  # the third group's middle


@pytest.fixture
def shop(backend: Backend, make_customers: Any) -> Backend:
    """120 customers; one was stamped at noon, the others long before."""
    rows = make_customers()
    stamps = [NOON - timedelta(days=100 + n) for n in range(rows.num_rows - 1)] + [NOON]
    rows = rows.append_column("updated_at", pa.array(stamps, pa.timestamp("us")))
    rows = rows.append_column("version", pa.array(range(1, rows.num_rows + 1), pa.int64()))
    backend.make_table("dbo.customer", rows, "customer_id")
    return backend


@pytest.fixture
def stamped(customers: Segmentation) -> Segmentation:
    return changed(customers, changed_by="updated_at")


def test_only_rows_that_changed_came_or_left_are_looked_at(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    run(stamped, database)
    before = labels(shop)
    third = before[120]
    shop.execute(f"UPDATE dbo.customer SET {FAR}, updated_at = {LATER} WHERE customer_id = 1")
    # Nobody stamped this one, so nobody reads it.
    shop.execute(f"UPDATE dbo.customer SET {FAR} WHERE customer_id = 2")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 3")
    # New ones are read whatever their stamp says.
    shop.execute(f"INSERT INTO dbo.customer VALUES (500, 160000, 62, {EARLIER}, 0)")
    result = assign(stamped, database)
    assert (result.arrived, result.moved, result.departed) == (1, 1, 1)
    assert result.rows == 120
    expected = {**before, 1: third, 500: third}
    del expected[3]
    assert labels(shop) == expected
    # The two above, and the one of noon, from which the hour before the newest is counted.
    assert [w for w in result.warnings if w.startswith("3 of 120 rows were read")]
    current = "SELECT customer_id, segment_id FROM dbo.customer_segment_history WHERE valid_to IS "
    assert dict(shop.rows(current + "NULL")) == expected


def test_sizes_are_counted_and_the_rest_is_carried_over(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    first = run(stamped, database)
    shop.execute(f"UPDATE dbo.customer SET {FAR}, updated_at = {LATER} WHERE customer_id <= 5")
    second = assign(stamped, database)
    counted = dict(
        shop.rows("SELECT segment_id, COUNT(*) FROM dbo.customer_segment GROUP BY segment_id")
    )
    assert {s.segment_id: s.size for s in second.segments} == counted
    assert sum(s.share for s in second.segments) == pytest.approx(1)
    squares = shop.rows("SELECT SUM(distance * distance) FROM dbo.customer_segment")[0][0]
    assert second.inertia == pytest.approx(squares)
    features = "SELECT segment_id, position, mean FROM sqlkmeans.segment_feature WHERE run_id = {}"
    of_first, of_second = (sorted(shop.rows(features.format(r.run_id))) for r in (first, second))
    assert of_first == of_second


def test_what_it_publishes_is_what_a_look_at_every_row_publishes(
    shop: Backend, database: Database, stamped: Segmentation, customers: Segmentation
) -> None:
    run(stamped, database)
    shop.execute(
        f"UPDATE dbo.customer SET income = income + 60000, updated_at = {LATER} "
        "WHERE customer_id % 7 = 0"
    )
    shop.execute("DELETE FROM dbo.customer WHERE customer_id % 11 = 0")
    shop.execute(f"INSERT INTO dbo.customer VALUES (501, 41000, 26, {LATER}, 0)")
    assert assign(stamped, database).changed > 10
    everything = assign(customers, database)
    assert everything.rows == len(labels(shop))
    assert everything.written == 0


def test_an_empty_source_is_refused_and_everybody_keeps_the_label(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    run(stamped, database)
    before = labels(shop)
    shop.execute("DELETE FROM dbo.customer")
    with pytest.raises(DataError, match="the source has no rows; nothing was changed"):
        assign(stamped, database)
    assert labels(shop) == before


def test_of_few_customers_no_mark_is_recorded(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    """It would be the value of one of them."""
    for few in (changed(stamped, engine="pushdown", sample_rows=0), stamped):
        run(few, database)
    marks = [row["high_water"] for row in database.catalog.runs("customers", 2)]
    assert [mark is None for mark in marks] == [False, True]


def test_nothing_changed_writes_nothing_again_and_again(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    run(stamped, database)
    for _ in range(2):
        result = assign(stamped, database)
        assert (result.rows, result.written) == (120, 0)


def test_rows_that_were_committed_late_are_not_missed(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    """Stamped half an hour before a row that the run has seen already, or not at all."""
    run(stamped, database)
    shop.execute(f"UPDATE dbo.customer SET {FAR}, updated_at = '2024-05-01 11:30:00' "
                 "WHERE customer_id = 1")  # fmt: skip
    shop.execute(f"UPDATE dbo.customer SET {FAR}, updated_at = NULL WHERE customer_id = 2")
    assert assign(stamped, database).moved == 2


def test_a_counter_tells_as_well(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    counted = changed(customers, changed_by="version")
    run(counted, database)
    assert database.catalog.runs("customers", 1)[0]["high_water"] == "120"
    shop.execute(f"UPDATE dbo.customer SET {FAR}, version = 121 WHERE customer_id = 1")
    shop.execute(f"UPDATE dbo.customer SET {FAR} WHERE customer_id = 2")
    assert assign(counted, database).moved == 1
    assert database.catalog.runs("customers", 1)[0]["high_water"] == "121"


@pytest.mark.parametrize(
    ("happened", "why"),
    [
        (lambda s, d: None, "did not record which changes"),
        (lambda s, d: (run(s, d), run(s, d), rollback("customers", d)), "rollback"),
        (lambda s, d: run(changed(s, changed_by="version"), d), "another changed_by"),
        (lambda s, d: run(changed(s, source="SELECT * FROM dbo.customer"), d), "another source"),
    ],
    ids=["no mark", "rollback", "column", "source"],
)
def test_where_it_cannot_tell_all_rows_are_read_and_the_run_says_why(
    happened: Any, why: str, shop: Backend, database: Database, stamped: Segmentation,
    customers: Segmentation,
) -> None:  # fmt: skip
    run(customers, database)
    happened(stamped, database)
    shop.execute(f"UPDATE dbo.customer SET {FAR} WHERE customer_id = 2")
    result = assign(stamped, database)
    assert result.moved == 1
    assert [w for w in result.warnings if w.startswith("all rows were read: ") and why in w]


def test_a_source_beside_the_database_says_itself_who_departed(
    shop: Backend, database: Database, stamped: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stamped, database)
    before = labels(shop)
    keys = database.labels.published_keys(stamped)
    assert sorted(keys["customer_id"].to_pylist()) == sorted(before)
    gone = keys.filter(pa.compute.equal(keys["customer_id"], 3))
    changed_rows = database.changed_rows
    monkeypatch.setattr(
        database, "changed_rows",
        lambda *given: ChangedRows(changed_rows(*given).source, departed=gone),
    )  # fmt: skip
    shop.execute(f"UPDATE dbo.customer SET {FAR}, updated_at = {LATER} WHERE customer_id = 1")
    result = assign(stamped, database)
    assert (result.arrived, result.moved, result.departed) == (0, 1, 1)
    expected = {**before, 1: before[120]}
    del expected[3]
    assert labels(shop) == expected


def test_a_column_may_have_the_name_of_change_tracking(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.require_names(columns=["SYS_CHANGE_VERSION"])
    shop.execute('CREATE VIEW dbo.tracked AS SELECT customer_id, income, age, '
                 'version AS "SYS_CHANGE_VERSION" FROM dbo.customer')  # fmt: skip
    named = changed(customers, source="dbo.tracked", changed_by="SYS_CHANGE_VERSION")
    run(named, database)
    shop.execute(f"UPDATE dbo.customer SET {FAR}, version = 121 WHERE customer_id = 1")
    shop.execute(f"UPDATE dbo.customer SET {FAR} WHERE customer_id = 2")
    assert assign(named, database).moved == 1


def forgets(
    monkeypatch: pytest.MonkeyPatch, database: Database, answer: Callable[..., str | None]
) -> None:
    """Let a database have a record of changes, which says so of those since a mark."""
    monkeypatch.setattr(database, "change_tracking_problems", lambda source: [], raising=False)
    monkeypatch.setattr(database, "changes_unknown_since", answer, raising=False)
    assert isinstance(database, TracksChanges)


def test_changes_that_are_not_known_any_more_need_all_rows(
    shop: Backend, database: Database, stamped: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stamped, database)
    seen = database.catalog.runs("customers", 1)[0]["high_water"]
    forgets(monkeypatch, database, lambda s, mark: f"{mark} is long past")
    shop.execute(f"UPDATE dbo.customer SET {FAR} WHERE customer_id = 2")
    result = assign(stamped, database)
    assert (result.rows, result.moved) == (120, 1)
    assert f"all rows were read: {seen} is long past" in result.warnings


def test_changes_that_are_forgotten_while_they_are_read_are_not_taken_for_all(
    shop: Backend, database: Database, stamped: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stamped, database)
    before = labels(shop)
    answers = iter([None, "the clean-up came"])
    forgets(monkeypatch, database, lambda s, mark: next(answers))
    shop.execute(f"UPDATE dbo.customer SET {FAR}, updated_at = {LATER} WHERE customer_id = 1")
    with pytest.raises(DatabaseError, match=r"the clean-up came; .* nothing was published"):
        assign(stamped, database)
    assert labels(shop) == before
    monkeypatch.undo()
    assert assign(stamped, database).moved == 1


def test_skipped_customers_need_all_rows(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    """Who loses a feature loses the label; that shows only where every row is looked at."""
    skipping = changed(stamped, missing="skip")
    run(skipping, database)
    shop.execute("UPDATE dbo.customer SET age = NULL WHERE customer_id = 2")
    result = assign(skipping, database)
    assert result.departed == 1
    assert any("all rows were read" in w and "skip" in w for w in result.warnings)


def test_a_target_that_was_dropped_is_made_anew(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    run(stamped, database)
    shop.execute("DROP VIEW dbo.customer_segment_named")
    shop.execute("DROP TABLE dbo.customer_segment")
    assert assign(stamped, database).arrived == 120


@pytest.mark.parametrize(
    ("column", "says"),
    [("income", "changed_by income: its type is .*; allowed"),
     ("updated", "changed_by updated: no such column .*did you mean updated_at")],
)  # fmt: skip
def test_a_column_that_cannot_tell_is_refused_before_anything_is_read(
    column: str, says: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    with pytest.raises(DataError, match=says):
        run(changed(customers, changed_by=column), database)
    assert "customer_segment" not in shop.tables("dbo")


def test_an_error_in_a_changed_row_changes_nothing(
    shop: Backend, database: Database, stamped: Segmentation
) -> None:
    run(stamped, database)
    before = labels(shop)
    shop.execute(f"UPDATE dbo.customer SET age = NULL, updated_at = {LATER} WHERE customer_id = 2")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 3")
    with pytest.raises(DataError, match="age"):
        assign(stamped, database)
    assert labels(shop) == before
    shop.execute("UPDATE dbo.customer SET age = 25 WHERE customer_id = 2")
    assert assign(stamped, database).departed == 1
