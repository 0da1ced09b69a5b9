"""What a run says of its segments and of the run before, on every database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.explanation import explain
from sqlkmeans.pipeline import assign, rollback, run
from support.backends import Backend
from support.published import SEGMENT, changed, target_rows
from support.shops import MakeCustomers


def halve_incomes(backend: Backend) -> None:
    """A broken load: every second income is zero."""
    backend.execute("UPDATE dbo.customer SET income = 0 WHERE customer_id % 2 = 0")


# Explanations


def test_every_segment_has_a_rule_whose_precision_and_coverage_a_query_confirms(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    rules = shop.rows(
        'SELECT segment_id, "rule", rule_precision, rule_coverage FROM sqlkmeans.segment '
        "ORDER BY segment_id"
    )
    assert rules[0][1:] == (None, None, None)
    for segment_id, rule, precision, coverage in rules[1:]:
        condition = re.sub(r"(\S+) < (\w+) <=", r"\1 < \2 AND \2 <=", rule.replace(",", ""))
        [(meets, members, both)] = shop.rows(
            f"SELECT SUM(m), SUM(s), SUM(m * s) FROM (SELECT CASE WHEN {condition} "
            f"THEN 1 ELSE 0 END AS m, CASE WHEN segment_id = {segment_id} THEN 1 ELSE 0 END AS s "
            f"FROM dbo.customer AS c JOIN {SEGMENT} AS l ON l.customer_id = c.customer_id) AS x"
        )
        assert (precision, coverage) == pytest.approx((both / meets, both / members))
        assert min(precision, coverage) > 0.9


def test_typical_customers_are_the_three_nearest_their_centroid(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    shop.require_names(texts=['["1"]'])
    rows = shop.rows(
        'SELECT segment_id, "rank", customer, distance FROM sqlkmeans.typical_customer '
        'ORDER BY segment_id, "rank"'
    )
    assert [row[:2] for row in rows] == [(s, rank) for s in (1, 2, 3) for rank in (1, 2, 3)]
    for segment_id in (1, 2, 3):
        nearest = sorted(
            (distance, key)
            for key, distance in shop.rows(
                f"SELECT customer_id, distance FROM {SEGMENT} WHERE segment_id = {segment_id}"
            )
        )[:3]
        found = [(d, int(json.loads(c)[0])) for s, _, c, d in rows if s == segment_id]
        assert found == [(pytest.approx(d), key) for d, key in nearest]


def test_each_segment_has_its_silhouette_and_they_weigh_up_to_that_of_the_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    rows = shop.rows("SELECT size, silhouette FROM sqlkmeans.segment WHERE segment_id > 0")
    assert sum(n * s for n, s in rows) / 120 == pytest.approx(result.scores["silhouette"])


KEYS: dict[str, Callable[[int], Any]] = {
    "integer": lambda i: i - 5,
    "bigint": lambda i: 9_007_199_254_740_993 + 2 * i,
    "text": lambda i: f'O\'Brien "{i}" 漢字',
    "uuid": lambda i: UUID(int=(0xF0 << 120) + i * 7919),
    "date": lambda i: date.fromordinal(date(1899, 12, 28).toordinal() + i),
    "decimal": lambda i: Decimal(i) + Decimal("0.07"),
}


@pytest.mark.parametrize("kind", list(KEYS))
def test_a_typical_customer_can_be_explained_by_the_key_that_is_stored(
    kind: str, backend: Backend, database: Database, customers: Segmentation
) -> None:
    backend.require_names(texts=['["1"]'])
    values = [KEYS[kind](i) for i in range(12)]
    given = [str(value) if kind == "uuid" else value for value in values]
    rows = pa.table({"id": given, "x": [float(i % 2 * 100 + i) for i in range(12)]})
    backend.make_table("dbo.customer", rows, "id", {"id": backend.types[kind]})
    run(changed(customers, key="id", features=["x"], k=2), database)
    known = {str(value).lower() for value in values}
    for segment_id, customer in backend.rows(
        "SELECT segment_id, customer FROM sqlkmeans.typical_customer"
    ):
        key = json.loads(customer)
        assert key[0].lower() in known
        found = explain("customers", database, key)
        assert found.segment.segment_id == found.published_segment_id == segment_id


@pytest.mark.parametrize(
    "customer", [[42], 42, "42", ("42",), np.array([42]), np.int64(42), [42.0]], ids=repr
)
def test_a_key_may_be_given_as_it_is(
    shop: Backend, database: Database, customers: Segmentation, customer: object
) -> None:
    run(customers, database)
    found = explain("customers", database, customer)
    assert found.customer == ("42",)
    assert found.to_json() == explain("customers", database, ["42"]).to_json()


def test_a_key_of_two_columns_is_explained_by_its_two_values(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    rows = pa.table(
        {"shop": ["north", "süd"] * 6, "number": [i // 2 for i in range(12)],
         "x": [i % 2 * 50.0 + i for i in range(12)]}
    )  # fmt: skip
    types = {"shop": backend.types["text"], "number": backend.types["integer"]}
    backend.make_table("dbo.customer", rows, ["shop", "number"], types)
    run(changed(customers, key=["shop", "number"], features=["x"], k=2), database)
    found = explain("customers", database, ["süd", "3"])
    assert found.features[0].value == 57.0
    assert explain("customers", database, ["north", "3"]).features[0].value == 6.0
    with pytest.raises(DefinitionError, match=r"1 values of the key given; allowed: 2 \(shop, nu"):
        explain("customers", database, ["süd"])


def test_the_reason_has_the_distances_of_the_segment_table_in_five_lines(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    found = explain("customers", database, ["70"])
    [(segment_id, distance)] = shop.rows(
        f"SELECT segment_id, distance FROM {SEGMENT} WHERE customer_id = 70"
    )
    [(income, age)] = shop.rows("SELECT income, age FROM dbo.customer WHERE customer_id = 70")
    assert (found.segment.segment_id, found.published_segment_id) == (segment_id, segment_id)
    assert found.segment.distance == pytest.approx(distance)
    assert found.runner_up.distance > distance
    assert {r.feature: r.value for r in found.features} == pytest.approx(
        {"income": income, "age": age}
    )
    assert sum(reason.contribution for reason in found.features) == pytest.approx(1)
    assert found.certainty == "sure"
    assert not found.changed
    lines = found.lines()
    assert len(lines) == 5
    assert lines[0].startswith("Customer 70 is in segment 2 (")
    assert "runner-up" in lines[1]
    assert lines[2].startswith("Decided by ")
    assert lines[3].startswith("Sure: ")


def test_a_row_that_changed_since_it_was_labelled_is_told(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    shop.execute("UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id = 1")
    found = explain("customers", database, ["1"])
    assert found.changed
    assert (found.published_segment_id, found.segment.segment_id) == (1, 3)
    assert found.lines()[0].startswith("Customer 1 has changed since it was labelled segment 1")
    assign(customers, database)
    assert not explain("customers", database, ["1"]).changed


def test_a_customer_without_a_label_is_told_where_it_will_go(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    shop.execute("INSERT INTO dbo.customer (customer_id, income, age) VALUES (999, 90000.0, 45.0)")
    found = explain("customers", database, ["999"])
    assert found.published_segment_id is None
    assert found.lines()[0].startswith("Customer 999 has no label yet and is nearest to segment 2")


def test_an_unknown_customer_is_an_error_that_shows_what_keys_look_like(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.require_names(texts=['["1"]'])
    run(customers, database)
    with pytest.raises(DataError, match=r"customer 4711: not in dbo.customer; customer_id looks "):
        explain("customers", database, ["4711"])
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 5")
    with pytest.raises(DataError, match=r"customer 5: not in dbo.customer any more; .*segment 1"):
        explain("customers", database, ["5"])
    with pytest.raises(DataError):
        explain("customers", database, ["x'; DROP TABLE dbo.customer; --"])
    with pytest.raises(DataError):
        explain("customers", database, ["5.4"])


def test_nothing_can_be_explained_before_the_first_run(database: Database) -> None:
    with pytest.raises(DefinitionError, match="not in this database"):
        explain("customers", database, ["1"])


def test_a_customer_with_a_missing_value_has_no_reason_but_an_error(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    shop.execute("UPDATE dbo.customer SET income = NULL WHERE customer_id = 7")
    with pytest.raises(DataError, match="income: 1 row is NULL"):
        explain("customers", database, ["7"])


# Watching


def test_the_first_run_is_compared_with_nothing_and_keeps_its_bins(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(changed(customers, guard={"action": "refuse"}), database)
    assert (result.compared_run_id, result.drift) == (None, [])
    assert not any("run" in text.split() for text in result.warnings)
    bins = shop.rows(
        "SELECT feature, SUM(customers), MIN(bin) FROM sqlkmeans.feature_bin GROUP BY feature"
    )
    assert sorted(bins) == [("age", 120, 0), ("income", 120, 0)]


def test_the_bins_of_a_run_are_counts_that_a_query_confirms(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    bins = shop.rows(
        "SELECT upper, customers FROM sqlkmeans.feature_bin WHERE feature = 'income' AND bin > 0 "
        "ORDER BY bin"
    )
    lower = -1.0
    for upper, counted in bins:
        condition = f"income > {lower}" + (f" AND income <= {upper}" if upper else "")
        assert shop.rows(f"SELECT COUNT(*) FROM dbo.customer WHERE {condition}") == [(counted,)]
        lower = upper


def test_the_same_customers_again_do_not_differ(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    again = run(customers, database)
    assert again.warnings == first.warnings
    assert again.compared_run_id == first.run_id
    assert again.centroid_shift == pytest.approx(0, abs=1e-9)
    assert [(row["feature"], row["psi"]) for row in again.drift] == [("income", 0), ("age", 0)]
    assert again.mean_distance == pytest.approx(first.mean_distance)
    [(psi, mean_distance)] = shop.rows(
        f"SELECT psi, mean_distance FROM sqlkmeans.run WHERE run_id = {again.run_id}"
    )
    distances = [d for (d,) in shop.rows(f"SELECT distance FROM {SEGMENT}")]
    assert (psi, mean_distance) == pytest.approx((0, np.mean(distances)))


@pytest.mark.parametrize("job", [run, assign])
def test_a_load_with_half_the_incomes_zero_is_stopped_and_the_message_names_them(
    job: Callable[..., Any], shop: Backend, database: Database, customers: Segmentation
) -> None:
    guarded = changed(customers, guard={"action": "refuse"})
    first = run(guarded, database).run_id
    before = target_rows(shop)
    halve_incomes(shop)
    told = rf"income: drifted since run {first} \(PSI .*mean .*, was "
    with pytest.raises(DataError, match=told) as no:
        job(guarded, database)
    assert no.value.exit_code == 3
    assert "age" not in no.value.problems[0]
    assert 'guard.action is "refuse"' in no.value.problems[-1]
    assert target_rows(shop) == before
    [(status, error)] = shop.rows(f"SELECT status, error FROM sqlkmeans.run WHERE run_id > {first}")
    assert status == "failed"
    assert "income: drifted" in error
    assert shop.rows("SELECT active_run_id FROM sqlkmeans.segmentation") == [(first,)]
    shop.execute("DELETE FROM dbo.customer WHERE income = 0")
    job(changed(guarded, guard={"psi": 9, "rows": 9}), database)


def test_without_refusal_the_same_load_is_published_with_warnings_in_the_run_row(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database).run_id
    halve_incomes(shop)
    result = run(customers, database)
    assert any(text.startswith(f"income: drifted since run {first} ") for text in result.warnings)
    [(warnings, psi)] = shop.rows(
        f"SELECT warnings, psi FROM sqlkmeans.run WHERE run_id = {result.run_id}"
    )
    assert json.loads(warnings) == result.warnings
    drift = shop.rows(
        "SELECT feature, psi, mean, previous_mean, missing_share FROM sqlkmeans.feature_drift "
        f"WHERE run_id = {result.run_id} ORDER BY position"
    )
    assert [row[0] for row in drift] == ["income", "age"]
    assert drift[0][1] == psi > 0.25
    [(mean,)] = shop.rows("SELECT AVG(income) FROM dbo.customer")
    assert drift[0][2] == pytest.approx(mean)
    assert drift[0][3] > mean
    assert drift[1][1] == 0


def test_assign_says_when_a_refit_is_due(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database).run_id
    assert not any("refit" in text for text in assign(customers, database).warnings)
    halve_incomes(shop)
    warnings = assign(customers, database).warnings
    told = f"a refit is due: income: drifted since run {first} "
    assert any(text.startswith(told) for text in warnings)
    # The next fit is compared with what is published now, and nothing has drifted since.
    assert not any("drifted" in text for text in run(customers, database).warnings)


def test_assign_keeps_to_the_bins_of_its_fit(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database).run_id
    halve_incomes(shop)
    run_id = assign(customers, database).run_id
    query = "SELECT bin, label, upper FROM sqlkmeans.feature_bin WHERE feature = 'income' "
    assert sorted(shop.rows(f"{query} AND run_id = {first}"), key=str) == sorted(
        shop.rows(f"{query} AND run_id = {run_id}"), key=str
    )


def test_many_arrivals_since_the_fit_make_a_refit_due(
    shop: Backend, database: Database, customers: Segmentation, make_customers: MakeCustomers
) -> None:
    first = run(customers, database).run_id
    extra = make_customers([150, 100, 50], seed=5, first_id=1000).to_pylist()
    values = ", ".join(f"({r['customer_id']}, {r['income']}, {r['age']})" for r in extra)
    shop.execute(f"INSERT INTO dbo.customer (customer_id, income, age) VALUES {values}")
    warnings = assign(customers, database).warnings
    assert any(f"300 customers arrived since run {first}, and 420 are there" in w for w in warnings)
    assert any("300 customers arrived" in text for text in assign(customers, database).warnings)


def test_segments_born_and_gone_are_told(
    shop: Backend, database: Database, customers: Segmentation, make_customers: MakeCustomers
) -> None:
    run(customers, database)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id > 100")
    far = make_customers([20], [(500_000.0, 20.0)], first_id=500).to_pylist()
    values = ", ".join(f"({r['customer_id']}, {r['income']}, {r['age']})" for r in far)
    shop.execute(f"INSERT INTO dbo.customer (customer_id, income, age) VALUES {values}")
    warnings = run(customers, database).warnings
    assert "segment 4 is new" in warnings
    assert "segment 3 is gone" in warnings


def test_after_another_k_customers_and_features_are_compared_and_the_rest_is_not(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database).run_id
    strict = {"action": "refuse", "moved": 0.01, "centroid_shift": 0.01, "distance": 0.01}
    result = run(changed(customers, k=2, guard=strict), database)
    assert any(
        text.startswith(f"k changed since run {first}: moved customers, centroids")
        for text in result.warnings
    )
    assert [row["psi"] for row in result.drift] == [0, 0]
    shop.execute("UPDATE dbo.customer SET age = age + 30")
    with pytest.raises(DataError, match="age: drifted"):
        run(changed(customers, k=3, guard=strict), database)


def test_after_other_features_only_the_common_ones_are_compared(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database).run_id
    result = run(changed(customers, features=["age"], k=2), database)
    assert [row["feature"] for row in result.drift] == ["age"]
    told = f"features and k changed since run {first}:"
    assert any(text.startswith(told) for text in result.warnings)
    assert result.centroid_shift is None


def test_a_column_that_goes_missing_is_drift(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    skipping = changed(customers, missing="skip", guard={"rows": 0.9})
    run(skipping, database)
    shop.execute("UPDATE dbo.customer SET age = NULL WHERE customer_id % 2 = 0")
    result = run(skipping, database)
    assert any("age: drifted" in text and "50% are missing" in text for text in result.warnings)
    [row] = [row for row in result.drift if row["feature"] == "age"]
    assert (row["missing_share"], row["previous_missing_share"]) == (0.5, 0)


def test_after_a_rollback_the_run_that_came_back_is_the_one_to_compare_with(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    halve_incomes(shop)
    run(customers, database)
    rollback("customers", database)
    assert run(customers, database).compared_run_id == first.run_id
