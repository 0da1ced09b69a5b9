"""Only changes are written, and the history tells who was where, on every database."""

from __future__ import annotations

import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.pipeline import assign, rollback, run
from sqlkmeans.result import RunResult
from support.backends import Backend
from support.published import (
    SEGMENT,
    as_of,
    labels,
    published,
)


def test_a_second_run_over_the_same_rows_writes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    before = published(shop)
    second = run(customers, database)
    assert (second.changed, second.written) == (0, 0)
    assert second.run_id > first.run_id
    assert [s.segment_id for s in second.segments] == [s.segment_id for s in first.segments]
    after = published(shop)
    assert after["target"] == before["target"]
    assert after["history"] == before["history"]


def test_a_second_run_writes_only_what_changed(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    before = labels(shop)
    shop.execute("UPDATE dbo.customer SET income = 159000, age = 63 WHERE customer_id IN (3, 4)")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id IN (5, 6, 7)")
    shop.execute("INSERT INTO dbo.customer (customer_id, income, age) VALUES (900, 40500, 26)")
    second = run(customers, database)
    assert (second.arrived, second.moved, second.departed) == (1, 2, 3)
    assert second.changed == 6
    assert 6 <= second.written < 120
    after = labels(shop)
    differ = {key for key in {*before, *after} if after.get(key) != before.get(key)}
    assert {key: after.get(key) for key in differ} == {
        3: 3, 4: 3, 5: None, 6: None, 7: None, 900: 1,
    }  # fmt: skip
    touched = shop.rows(f"SELECT customer_id FROM {SEGMENT} WHERE run_id = {second.run_id}")
    assert sorted(touched) == [(3,), (4,), (900,)]
    assert shop.rows(f"SELECT COUNT(*) FROM {SEGMENT} WHERE run_id = {first.run_id}") == [(115,)]


def test_the_history_closes_what_ended_and_opens_what_began(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    shop.execute("UPDATE dbo.customer SET income = 159000, age = 63 WHERE customer_id = 3")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 5")
    second = run(customers, database)
    history = shop.rows(
        "SELECT customer_id, segment_id, run_id, valid_from, valid_to "
        f"FROM {SEGMENT}_history WHERE customer_id IN (3, 5, 8) ORDER BY customer_id, valid_from"
    )
    when = dict(shop.rows("SELECT run_id, published_at FROM sqlkmeans.run"))
    one, two = sorted(when)
    assert two == second.run_id
    assert history == [
        (3, 1, one, when[one], when[two]),
        (3, 3, two, when[two], None),
        (5, 1, one, when[one], when[two]),
        (8, 1, one, when[one], None),
    ]


def test_the_history_tells_who_was_where_after_each_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    then: dict[int, dict[int, int]] = {}

    def remember(result: RunResult) -> None:
        then[result.run_id] = labels(shop)

    remember(run(customers, database))
    shop.execute("UPDATE dbo.customer SET income = 159000, age = 63 WHERE customer_id IN (3, 4)")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 5")
    remember(assign(customers, database))
    shop.execute("INSERT INTO dbo.customer (customer_id, income, age) VALUES (5, 90000, 44)")
    remember(run(customers, database))
    remember(rollback("customers", database))
    assert len({tuple(sorted(found.items())) for found in then.values()}) == 3
    assert {run_id: as_of(shop, run_id) for run_id in then} == then


def test_a_customer_who_departs_and_returns_has_two_rows_of_history(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 5")
    assign(customers, database)
    shop.execute("INSERT INTO dbo.customer (customer_id, income, age) VALUES (5, 40000, 25)")
    assert assign(customers, database).arrived == 1
    rows = shop.rows(f"SELECT valid_to FROM {SEGMENT}_history WHERE customer_id = 5")
    assert len(rows) == 2
    assert [row[0] for row in rows].count(None) == 1


def test_the_history_has_a_row_for_everyone_when_it_starts_beside_an_existing_target(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    database.uninstall(execute=True)
    database.install()
    result = run(customers, database)
    assert as_of(shop, result.run_id) == labels(shop)


def test_movement_between_two_runs_counts_who_stayed_moved_came_and_left(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    shop.execute("UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id <= 5")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 61")
    shop.execute("INSERT INTO dbo.customer (customer_id, income, age) VALUES (999, 40000, 25)")
    second = assign(customers, database)
    assert database.labels.movement(customers, first.run_id, second.run_id) == [
        (None, 1, 1), (1, 1, 55), (1, 3, 5), (2, 2, 39), (2, None, 1), (3, 3, 20),
    ]  # fmt: skip
    back = rollback("customers", database)
    assert database.labels.movement(customers, first.run_id, back.run_id) == [
        (1, 1, 60), (2, 2, 40), (3, 3, 20),
    ]  # fmt: skip


def test_movement_without_a_history_is_an_error(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.require_drop()
    first = run(customers, database)
    second = assign(customers, database)
    shop.execute(f"DROP TABLE {SEGMENT}_history")
    with pytest.raises(DataError, match="history is not there"):
        database.labels.movement(customers, first.run_id, second.run_id)
