"""The suite that every database passes: what is published, and what is left alone.

The SQL in here is plain: it goes to each database as it is written.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import outcome
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError, LockedError, SqlKMeansError
from sqlkmeans.model import SegmentModel
from sqlkmeans.pipeline import assign, choose_k, rename, rollback, run
from sqlkmeans.progress import Progress
from sqlkmeans.registry import load_model, load_segmentation
from sqlkmeans.result import RunResult
from sqlkmeans.sqltext import parse_name, quote, quote_name
from support.backends import Backend
from support.published import (
    SEGMENT,
    as_of,
    changed,
    labels,
    names,
    published,
    sizes,
    staging_tables,
)
from support.shops import MakeCustomers

# What is published


def test_the_first_run_makes_the_segment_table_with_the_documented_columns(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    columns = [column.name for column in database.describe(SEGMENT)]
    assert columns == ["customer_id", "segment_id", "distance", "run_id", "assigned_at"]


def test_the_view_beside_the_target_adds_the_name(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    columns = [column.name for column in database.describe(f"{SEGMENT}_named")]
    assert columns == [
        "customer_id", "segment_id", "distance", "run_id", "assigned_at", "segment_name",
    ]  # fmt: skip
    assert names(shop) == {s.segment_id: s.name for s in result.segments}
    assert shop.rows(f"SELECT COUNT(*) FROM {SEGMENT}_named") == [(120,)]


def test_the_history_has_the_documented_columns_and_one_open_row_a_customer(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    columns = [column.name for column in database.describe(f"{SEGMENT}_history")]
    documented = ["customer_id", "segment_id", "valid_from", "valid_to", "run_id"]
    assert [column for column in columns if column in documented] == documented
    history = shop.rows(
        f"SELECT customer_id, segment_id FROM {SEGMENT}_history WHERE valid_to IS NULL"
    )
    assert sorted(history) == sorted(labels(shop).items())


def test_segment_ids_of_the_first_run_start_at_1_largest_first(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    assert [(s.segment_id, s.size) for s in result.segments] == [(1, 60), (2, 40), (3, 20)]
    assert sizes(shop) == {1: 60, 2: 40, 3: 20}


def test_a_run_tells_what_the_tables_hold(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    row = shop.rows(
        'SELECT run_id, segmentation, kind, status, engine, k, "rows", skipped, changed, arrived, '
        "moved, departed, written, inertia, n_iter, silhouette, davies_bouldin, calinski_harabasz, "
        "error FROM sqlkmeans.run"
    )
    assert row == [
        (
            result.run_id, "customers", "fit", "published", "local", 3, 120, 0, 120, 120, 0, 0, 120,
            result.inertia, result.n_iter, *result.scores.values(), None,
        )
    ]  # fmt: skip
    assert list(result.scores) == ["silhouette", "davies_bouldin", "calinski_harabasz"]
    centroids = shop.rows("SELECT segment_id, feature, value FROM sqlkmeans.centroid")
    assert {(s, f): v for s, f, v in centroids} == {
        (s.segment_id, name): value for s in result.segments for name, value in s.centroid.items()
    }
    assert shop.rows("SELECT active_run_id, last_segment_id FROM sqlkmeans.segmentation") == [
        (result.run_id, 3)
    ]


def test_a_run_records_its_times_and_its_versions(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    [(started, at, finished, version, libraries, client)] = shop.rows(
        "SELECT started_at, published_at, finished_at, sqlkmeans_version, library_versions, client "
        "FROM sqlkmeans.run"
    )
    assert started <= at <= finished
    assert version
    assert "scikit-learn" in libraries
    assert "@" in client


def test_the_distance_is_that_to_the_own_centroid_in_the_scaled_space(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    squares = [d * d for (d,) in shop.rows(f"SELECT distance FROM {SEGMENT}")]
    assert sum(squares) == pytest.approx(result.inertia, rel=1e-9)


def test_row_0_of_the_segments_is_everyone(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    assert shop.rows("SELECT name, size, share FROM sqlkmeans.segment WHERE segment_id = 0") == [
        ("everyone", 120, 1.0)
    ]
    [(total,)] = shop.rows("SELECT SUM(within_ss) FROM sqlkmeans.segment WHERE segment_id > 0")
    assert total == pytest.approx(result.inertia)
    expected = shop.rows("SELECT AVG(income), MIN(income), MAX(income) FROM dbo.customer")[0]
    found = shop.rows(
        'SELECT mean, "min", "max", missing FROM sqlkmeans.segment_feature '
        "WHERE segment_id = 0 AND feature = 'income'"
    )[0]
    assert found[:3] == pytest.approx(expected)
    assert found[3] == 0


def test_the_target_has_the_key_as_primary_key(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    with pytest.raises(shop.error):
        shop.execute(f"INSERT INTO {SEGMENT} SELECT * FROM {SEGMENT} WHERE customer_id = 1")
    assert len(labels(shop)) == 120


# Keys


AWKWARD_TEXTS = [
    "O'Brien", 'a "quoted" one', "Zoë 漢字 🙂", "; DROP TABLE x --", "", " x", "\\", "line\nbreak",
]  # fmt: skip


def _key_values(kind: str, count: int) -> list[Any]:
    values: Callable[[int], Any] = {
        "integer": lambda i: i - 5,
        "bigint": lambda i: 9_007_199_254_740_993 + 2 * i,
        "text": lambda i: (AWKWARD_TEXTS + ["plain"] * 9)[i] + ("" if i < 8 else str(i)),
        "uuid": lambda i: UUID(int=(0xF0 << 120) + i * 7919),
        "date": lambda i: date.fromordinal(date(1899, 12, 28).toordinal() + i),
        "decimal": lambda i: Decimal(i) + Decimal("0.07"),
    }[kind]
    return [values(i) for i in range(count)]


@pytest.mark.parametrize("kind", ["integer", "bigint", "text", "uuid", "date", "decimal"])
def test_keys_are_carried_exactly_with_the_type_of_the_source(
    kind: str, backend: Backend, database: Database, customers: Segmentation
) -> None:
    values = _key_values(kind, 12)
    given = [str(value) if kind == "uuid" else value for value in values]
    rows = pa.table({"id": given, "x": [float(i % 2 * 100 + i) for i in range(12)]})
    backend.make_table("dbo.customer", rows, "id", {"id": backend.types[kind]})
    segmentation = changed(customers, key="id", features=["x"], k=2)
    run(segmentation, database)
    expected = sorted(str(value) for value in values)
    assert sorted(str(key) for key in labels(backend, key="id")) == expected
    history = backend.rows(f"SELECT id FROM {SEGMENT}_history")
    assert sorted(str(key) for (key,) in history) == expected
    source_type = next(c.type for c in database.describe("dbo.customer") if c.name == "id")
    assert database.describe(SEGMENT)[0].type == source_type
    assert run(segmentation, database).changed == 0


def test_a_key_of_two_columns_is_carried_exactly(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    shops, numbers = ["north", "north", "süd", "süd"] * 3, list(range(12))
    rows = pa.table({"shop": shops, "number": numbers, "x": [i % 2 * 50.0 + i for i in numbers]})
    types = {"shop": backend.types["text"], "number": backend.types["integer"]}
    backend.make_table("dbo.customer", rows, ["shop", "number"], types)
    segmentation = changed(customers, key=["shop", "number"], features=["x"], k=2)
    run(segmentation, database)
    found = backend.rows(f"SELECT shop, number FROM {SEGMENT}")
    assert sorted(found) == sorted(zip(shops, numbers))
    backend.execute("DELETE FROM dbo.customer WHERE number IN (2, 3)")
    backend.execute("INSERT INTO dbo.customer (shop, number, x) VALUES ('north', 2, 3.5)")
    result = run(segmentation, database)
    # (north, 3) was never there: the pair counts, not its parts.
    assert (result.arrived, result.departed) == (1, 2)
    assert ("north", 2) in backend.rows(f"SELECT shop, number FROM {SEGMENT}")


def test_half_of_a_composite_key_may_repeat_but_not_all_of_it(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    rows = pa.table({"shop": [1, 1, 2, 2, 2], "number": [1, 2, 1, 2, 2], "x": [1.0, 2, 3, 4, 5]})
    backend.make_table("dbo.customer", rows, None)
    segmentation = changed(customers, key=["shop", "number"], features=["x"], k=2)
    with pytest.raises(
        DataError, match=r"key shop, number: not unique; 1 row.*\(for example 2, 2\)"
    ):
        run(segmentation, database)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("dbo.[My Table]]x]", "dbo.[My Segments]]x]"),
        ('dbo."sel""ect"', 'dbo."seg.ment"'),
        ("[order]", "[group]"),
        ("dbo.Kunden_Ü", "dbo.[Käufer № 1]"),
        ("dbo.[; DROP TABLE dbo.customer --]", "dbo.['; DROP TABLE dbo.customer --]"),
    ],
)
def test_awkward_table_names_work_in_every_job(
    source: str,
    target: str,
    backend: Backend,
    database: Database,
    customers: Segmentation,
    make_customers: MakeCustomers,
) -> None:
    backend.require_names(tables=[source, target])
    backend.make_table(source, make_customers([20, 10]), "customer_id")
    segmentation = changed(customers, source=source, target=target, k=2)
    run(segmentation, database)
    backend.execute(f"DELETE FROM {quote_name(parse_name(source))} WHERE customer_id > 25")
    assert assign(segmentation, database).departed == 5
    assert len(labels(backend, target)) == 25
    assert rollback("customers", database).arrived == 5
    assert len(labels(backend, target)) == 30


@pytest.mark.parametrize(
    ("key", "feature"),
    [
        ("order", "select"),
        ("Kunde №", "Umsatz in €"),
        ('we"ird', "it's"),
        ("[id]", "a]b"),
        ("new", "old"),
        ("label", "change"),
        ("old_segment_id", "segment_id"),
        ("name", "run_id"),
        ("x'; DROP TABLE dbo.customer; --", 'y"; DROP TABLE dbo.customer; --'),
    ],
)
def test_awkward_column_names_work(
    key: str, feature: str, backend: Backend, database: Database, customers: Segmentation
) -> None:
    backend.require_names(columns=[key, feature])
    rows = pa.table({key: list(range(10)), feature: [1.0, 2, 1, 2, 1, 52, 51, 52, 51, 50]})
    backend.make_table("dbo.customer", rows, key)
    segmentation = changed(customers, key=key, features=[feature], k=2)
    run(segmentation, database)
    backend.execute(f"DELETE FROM dbo.customer WHERE {quote(key)} = 9")
    assert run(segmentation, database).departed == 1
    assert sorted(labels(backend, key=key)) == list(range(9))
    assert load_model("customers", database).columns == [feature]


# Sources


def test_a_view_is_a_source(shop: Backend, database: Database, customers: Segmentation) -> None:
    shop.execute(
        "CREATE VIEW dbo.rich AS SELECT customer_id, income, age FROM dbo.customer "
        "WHERE income > 60000"
    )
    result = run(changed(customers, source="dbo.rich", k=2), database)
    assert result.rows == 60


@pytest.mark.parametrize(
    "source",
    [
        "SELECT customer_id, income, age FROM dbo.customer WHERE income > 60000 -- the rich",
        "select * from dbo.customer where income > 60000 /* ; DROP TABLE dbo.customer */",
        "SELECT customer_id, income, age FROM dbo.customer WHERE ';)--/*' <> '''' AND "
        "income > 60000",
        "/* rich */ SELECT c.customer_id, c.income, c.age FROM dbo.customer AS c\n"
        "JOIN (SELECT customer_id FROM dbo.customer WHERE income > 60000) AS r\n"
        "ON r.customer_id = c.customer_id -- )",
    ],
)
def test_a_select_is_a_source(
    source: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.require_names(texts=[source])
    assert run(changed(customers, source=source, k=2), database).rows == 60
    assert shop.rows("SELECT COUNT(*) FROM dbo.customer") == [(120,)]


def test_integers_decimals_and_booleans_are_features(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    types = shop.types
    source = (
        f"SELECT customer_id, CAST(income AS {types['decimal']}) AS income, "
        f"CAST(age AS {types['integer']}) AS age, "
        f"CAST(CASE WHEN age > 40 THEN 1 ELSE 0 END AS {types['boolean']}) AS senior "
        "FROM dbo.customer"
    )
    segmentation = changed(customers, source=source, features=["income", "age", "senior"])
    run(segmentation, database)
    assert sizes(shop) == {1: 60, 2: 40, 3: 20}
    found = shop.rows(
        "SELECT mean FROM sqlkmeans.segment_feature WHERE segment_id = 0 AND feature = 'senior'"
    )
    assert found == [(0.5,)]


@pytest.mark.parametrize("missing", ["skip", "mean", "median"])
def test_missing_values_are_handled_as_the_definition_says(
    missing: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.execute("UPDATE dbo.customer SET age = NULL WHERE customer_id IN (1, 2, 100)")
    segmentation = changed(customers, missing=missing)
    result = run(segmentation, database)
    skipped = 3 if missing == "skip" else 0
    assert (result.rows, result.skipped) == (120 - skipped, skipped)
    assert len(labels(shop)) == 120 - skipped
    assert shop.rows(
        "SELECT missing FROM sqlkmeans.segment_feature WHERE segment_id = 0 AND feature = 'age'"
    ) == [(0 if missing == "skip" else 3,)]
    told = any("skipped because a feature is missing" in line for line in result.warnings)
    assert told == (missing == "skip")
    again = assign(segmentation, database)
    assert (again.changed, again.rows, again.skipped) == (0, 120 - skipped, skipped)


def test_shuffled_source_rows_give_the_same_ids_and_centroids(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(300, 2))
    rows = pa.table({"customer_id": range(300), "income": points[:, 0], "age": points[:, 1]})
    backend.make_table("dbo.ordered", rows, None)
    backend.make_table("dbo.shuffled", rows.take(rng.permutation(300)), None)
    found = []
    for name in ("ordered", "shuffled"):
        segmentation = changed(
            customers, name=name, source=f"dbo.{name}", target=f"dbo.{name}_segment", k=5
        )
        result = run(segmentation, database)
        found.append((labels(backend, f"dbo.{name}_segment"), result.segments, result.inertia))
    assert found[0] == found[1]


# Labels


def test_run_assign_and_predict_agree_on_every_customer(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    rng = np.random.default_rng(5)
    matrix = np.column_stack(
        [rng.lognormal(3, 2, 400), rng.integers(0, 9, 400), rng.normal(size=400)]
    )
    matrix[::37, 2] = np.nan
    rows = pa.table(
        {"customer_id": range(400), "spent": matrix[:, 0], "orders": matrix[:, 1],
         "trend": pa.array(matrix[:, 2], from_pandas=True)}
    )  # fmt: skip
    backend.make_table("dbo.customer", rows, "customer_id")
    segmentation = changed(
        customers,
        features=[
            {"column": "spent", "transform": "log1p"}, {"column": "orders", "weight": 2.5}, "trend",
        ],
        k=6, scaling="robust", missing="median",
    )  # fmt: skip
    run(segmentation, database)
    published_labels = labels(backend)
    model = load_model("customers", database)
    assert model is not None
    predicted = model.predict(matrix)
    assert published_labels == dict(enumerate(predicted.tolist()))
    assert SegmentModel.from_json(model.to_json()).predict(matrix).tolist() == predicted.tolist()
    again = assign(segmentation, database)
    assert (again.changed, again.written) == (0, 0)
    assert labels(backend) == published_labels


def test_assign_labels_new_changed_and_departed_customers_without_a_refit(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    # 1 moves to the rich, 2 leaves, 500 arrives among the middle.
    shop.execute("UPDATE dbo.customer SET income = 161000, age = 61 WHERE customer_id = 1")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 2")
    shop.execute("INSERT INTO dbo.customer (customer_id, income, age) VALUES (500, 91000, 44)")
    result = assign(customers, database)
    counts = (result.arrived, result.moved, result.departed, result.changed, result.written)
    assert counts == (1, 1, 1, 3, 3)
    assert result.kind == "assign"
    assert result.n_iter is None
    found = labels(shop)
    assert found[1] == 3
    assert found[500] == 2
    assert 2 not in found
    assert [s.centroid for s in result.segments] == [s.centroid for s in first.segments]
    assert [s.size for s in result.segments] == [58, 41, 21]
    assert shop.rows("SELECT active_run_id FROM sqlkmeans.segmentation") == [(first.run_id,)]


def test_assign_needs_a_model(shop: Backend, database: Database, customers: Segmentation) -> None:
    with pytest.raises(DataError, match="no model yet"):
        assign(customers, database)
    assert "customer_segment" not in shop.tables("dbo")


def test_assign_refuses_features_that_the_model_does_not_know(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    with pytest.raises(DefinitionError, match="the features are not those of the stored model"):
        assign(changed(customers, features=["income"]), database)
    assert published(shop) == before


def test_a_customer_with_a_missing_value_leaves_at_assign_where_missing_is_skip(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    segmentation = changed(customers, missing="skip")
    run(segmentation, database)
    shop.execute("UPDATE dbo.customer SET age = NULL WHERE customer_id = 7")
    result = assign(segmentation, database)
    assert (result.rows, result.skipped, result.departed) == (119, 1, 1)
    assert 7 not in labels(shop)


# Changes only


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


# Stable ids and names


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


# Rollback


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


# Categories, dates, outliers and weights

CITIES = ["Oslo", "oslo", "Bergen", "Bergen ", "Tromsø", "x'y", "rare 1", "rare 2", None]


@pytest.fixture
def mixed_shop(backend: Backend) -> Backend:
    """300 customers with texts, dates, booleans, outliers and holes."""
    rng = np.random.default_rng(5)
    group = np.repeat([0, 1, 2], 100)
    spend = rng.lognormal(np.array([2.0, 4.0, 6.0])[group], 0.4)
    spend[[7, 150]] = 1e7
    ages = rng.integers(0, 300, 300) + group * 400
    shares = [0.4, 0.2, 0.15, 0.1, 0.06, 0.03, 0.004, 0.004, 0.052]
    days = [date(2026, 1, 1) - timedelta(int(age)) for age in ages]
    rows = pa.table(
        {
            "customer_id": list(range(1, 301)),
            "spend": pa.array([None if i == 9 else float(v) for i, v in enumerate(spend)]),
            "city": pa.array([CITIES[i] for i in rng.choice(9, 300, p=shares)], pa.string()),
            "last order": pa.array([None if i % 50 == 3 else d for i, d in enumerate(days)]),
            "member": pa.array([bool(v) for v in rng.random(300) < 0.3]),
            "visits": pa.array([int(v) for v in rng.integers(0, 5, 300)]),
        }
    )
    types = {"city": backend.types["text"], "last order": backend.types["date"]}
    backend.make_table("dbo.customer", rows, "customer_id", types)
    return backend


def mixed_segmentation(**changes: Any) -> Segmentation:
    values: dict[str, Any] = {
        "name": "customers", "source": "dbo.customer", "key": "customer_id", "k": 3,
        "target": SEGMENT, "missing": "median", "winsorize": [0.02, 0.98],
        "sample_weight": "visits",
        "features": [
            {"column": "spend", "transform": "log1p", "weight": 3.0},
            {"column": "city", "type": "category"},
            {"column": "last order", "type": "date", "winsorize": [0.0, 0.9]},
            {"column": "member", "type": "category"},
        ],
    }  # fmt: skip
    return Segmentation.create(**{**values, **changes})


def mixed_rows(backend: Backend) -> dict[int, tuple[Any, ...]]:
    listed = ", ".join(quote(c) for c in ("customer_id", "spend", "city", "last order", "member"))
    return {row[0]: tuple(row[1:]) for row in backend.rows(f"SELECT {listed} FROM dbo.customer")}


@pytest.mark.parametrize("missing", ["median", "skip"])
def test_categories_dates_outliers_and_weights_run_assign_and_predict(
    missing: str, mixed_shop: Backend, database: Database
) -> None:
    mixed_shop.require_names(columns=["last order"])
    segmentation = mixed_segmentation(missing=missing)
    result = run(segmentation, database)
    rows = mixed_rows(mixed_shop)
    complete = [key for key, row in rows.items() if None not in row]
    assert result.rows == (300 if missing == "median" else len(complete))
    assert sum(segment.size for segment in result.segments) == result.rows
    model = load_model("customers", database)
    assert model is not None
    assert model.columns == ["spend", "city", "last order", "member"]
    frame = {name: list(values) for name, values in zip(model.columns, zip(*rows.values()))}
    predicted = dict(zip(rows, model.predict(frame).tolist()))
    published = labels(mixed_shop)
    assert published == {key: label for key, label in predicted.items() if label}
    distances = model.transform(frame).min(axis=1)
    found = dict(mixed_shop.rows(f"SELECT customer_id, distance FROM {SEGMENT}"))
    for key, distance in zip(rows, distances):
        if key in found:
            assert found[key] == pytest.approx(distance, rel=1e-12, abs=1e-12)
    weights = dict(mixed_shop.rows("SELECT customer_id, visits FROM dbo.customer"))
    weighted = sum(weights[key] * distance**2 for key, distance in found.items())
    assert result.inertia == pytest.approx(weighted, rel=1e-9)
    for again in (run(segmentation, database), assign(segmentation, database)):
        assert (again.changed, again.written, again.rows) == (0, 0, result.rows)
    assert again.inertia == pytest.approx(result.inertia, rel=1e-12)


def test_the_tables_hold_all_of_the_preparation(mixed_shop: Backend, database: Database) -> None:
    mixed_shop.require_names(columns=["last order"])
    before = datetime.now(timezone.utc).date()
    result = run(mixed_segmentation(), database)
    after = datetime.now(timezone.utc).date()
    rows = database.catalog.result("model_feature", result.run_id)
    levels = [row["level"] for row in rows if row["source_column"] == "city"]
    assert levels[0] == "Oslo"
    assert levels[-1] is None
    assert {"Oslo", "oslo", "Bergen", "Bergen ", "Tromsø"} < set(levels), "texts as they are"
    by_name = {row["feature"]: row for row in rows}
    assert by_name["spend"]["high"] < 1e7
    assert by_name["city = (other)"]["fill"] == 0
    assert by_name["last order"]["type"] == "date"
    assert before <= date.fromisoformat(str(by_name["last order"]["reference_date"])) <= after
    assert {
        row["feature"] for row in database.catalog.result("segment_feature", result.run_id)
    } == set(by_name)
    # An indicator's mean is the share of customers that have the level.
    (share,) = mixed_shop.rows(
        "SELECT CAST(SUM(CASE WHEN city = 'Tromsø' THEN 1 ELSE 0 END) AS float) / COUNT(city) "
        "FROM dbo.customer"
    )[0]
    everyone = {
        row["feature"]: row
        for row in database.catalog.result("segment_feature", result.run_id)
        if row["segment_id"] == 0
    }
    assert everyone["city = Tromsø"]["mean"] == pytest.approx(float(share))
    (nulls,) = mixed_shop.rows("SELECT COUNT(*) FROM dbo.customer WHERE city IS NULL")[0]
    assert everyone["city = Oslo"]["missing"] == nulls


def test_assign_takes_a_level_that_is_new_and_a_date_after_the_fit(
    mixed_shop: Backend, database: Database
) -> None:
    mixed_shop.require_names(columns=["last order"])
    run(mixed_segmentation(), database)
    mixed_shop.execute(
        "UPDATE dbo.customer SET city = 'Elsewhere', \"last order\" = '2099-01-01', "
        "spend = 1000000000 WHERE customer_id = 42"
    )
    result = assign(mixed_segmentation(), database)
    assert result.rows == 300
    model = load_model("customers", database)
    assert model is not None
    row = mixed_rows(mixed_shop)[42]
    frame = {name: [value] for name, value in zip(model.columns, row)}
    assert labels(mixed_shop)[42] == model.predict(frame)[0]


def test_text_uuids_booleans_and_integers_are_categories(shop: Backend, database: Database) -> None:
    source = (
        "SELECT customer_id, income, CAST(CASE WHEN age < 40 THEN 1 ELSE 0 END AS "
        f"{shop.types['boolean']}) AS young, customer_id % 3 AS shift, "
        "CAST(CASE WHEN age > 60 THEN '00000000-0000-0000-0000-00000000000a' ELSE "
        f"'00000000-0000-0000-0000-00000000000b' END AS {shop.types['uuid']}) AS store "
        "FROM dbo.customer"
    )
    columns = [{"column": name, "type": "category"} for name in ("young", "shift", "store")]
    segmentation = Segmentation.create(
        name="customers", source=source, key="customer_id", features=["income", *columns], k=3,
        target=SEGMENT,
    )  # fmt: skip
    run(segmentation, database)
    model = load_model("customers", database)
    assert model is not None
    assert sorted(model.preparation.levels("young")) == ["0", "1"]
    assert sorted(model.preparation.levels("shift")) == ["0", "1", "2"]
    stores = [level.lower() for level in model.preparation.levels("store")]
    assert sorted(stores) == [f"00000000-0000-0000-0000-00000000000{end}" for end in "ab"]


def test_a_column_of_the_wrong_type_comes_with_what_to_write(
    mixed_shop: Backend, database: Database
) -> None:
    mixed_shop.require_names(columns=["last order"])
    wrong = mixed_segmentation(
        features=["city", "last order", {"column": "spend", "type": "category"},
                  {"column": "member", "type": "date"}],
        sample_weight="weight",
    )  # fmt: skip
    with pytest.raises(DataError) as raised:
        run(wrong, database)
    problems = "\n".join(raised.value.problems)
    assert 'write { column = "city", type = "category" }' in problems
    assert 'write { column = "last order", type = "date" }' in problems
    assert 'allowed for type = "category": text, uuid, booleans and integers' in problems
    assert 'allowed for type = "date": dates, with or without a time' in problems
    assert "sample_weight weight: no such column" in problems
    with pytest.raises(DataError, match=r"sample_weight city: its type is .*; allowed: numbers"):
        run(mixed_segmentation(features=["spend"], sample_weight="city"), database)


@pytest.mark.parametrize("long", ["x" * 101, "(other)"])
def test_a_level_that_is_too_long_or_reserved_is_of_the_rest(
    long: str, shop: Backend, database: Database
) -> None:
    source = (
        f"SELECT customer_id, income, CASE WHEN age < 40 THEN '{long}' ELSE 'y' END AS city "
        "FROM dbo.customer"
    )
    segmentation = Segmentation.create(
        name="customers", source=source, key="customer_id", k=3, target=SEGMENT,
        features=["income", {"column": "city", "type": "category"}],
    )  # fmt: skip
    result = run(segmentation, database)
    assert set(result.segments[0].centroid) == {"income", "city = y", "city = (other)"}
    assign(segmentation, database)


def test_a_weight_that_is_missing_fails_the_run_and_assign(
    mixed_shop: Backend, database: Database
) -> None:
    mixed_shop.require_names(columns=["last order"])
    run(mixed_segmentation(), database)
    before = published(mixed_shop)
    mixed_shop.execute("UPDATE dbo.customer SET visits = NULL WHERE customer_id < 3")
    for job in (run, assign):
        with pytest.raises(DataError, match="sample_weight: 2 rows are NULL"):
            job(mixed_segmentation(), database)
    assert published(mixed_shop) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"winsorize": [0.05, 0.95]},
        {"winsorize": None},
        {"features": ["spend", {"column": "city", "type": "category"}]},
    ],
)
def test_assign_refuses_another_preparation_than_the_models(
    changes: dict[str, Any], mixed_shop: Backend, database: Database
) -> None:
    mixed_shop.require_names(columns=["last order"])
    run(mixed_segmentation(), database)
    with pytest.raises(DefinitionError, match="not those of the stored model, or not prepared"):
        assign(mixed_segmentation(**changes), database)


def test_a_run_says_which_features_are_skewed_or_nearly_the_same(
    shop: Backend, database: Database
) -> None:
    source = (
        "SELECT customer_id, income, age, income * 2 + 1 AS salary, "
        "CASE WHEN customer_id = 1 THEN 1000.0 ELSE customer_id % 7 END AS spend FROM dbo.customer"
    )
    segmentation = Segmentation.create(
        name="customers", source=source, key="customer_id", target=SEGMENT, k=3,
        features=["income", "salary", "spend"],
    )  # fmt: skip
    warnings = run(segmentation, database).warnings
    assert any(line.startswith("spend: skew 1") and "log1p" in line for line in warnings)
    assert any(line.startswith("income and salary: correlation 1.00") for line in warnings)


# Failures


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


def test_an_interrupt_between_staging_and_publishing_changes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    class Interrupted(Progress):
        @contextmanager
        def shown(self, name: str, total: int | None):  # type: ignore[no-untyped-def]
            if name == "assign":
                raise KeyboardInterrupt
            yield lambda done: None

    run(customers, database)
    before = published(shop)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id <= 30")
    with pytest.raises(KeyboardInterrupt):
        run(customers, database, Interrupted())
    assert published(shop) == before
    assert staging_tables(shop) == set()
    assert shop.rows("SELECT error FROM sqlkmeans.run WHERE status = 'failed'") == [
        ("interrupted",)
    ]


def test_a_run_reclaims_what_a_killed_one_left(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    row = {"kind": "fit", "engine": "local", "k": 3}
    dead = database.store.start(customers, row)
    database.labels.stage(
        customers, dead, pa.table({"customer_id": pa.array([1, 2], pa.int64())}),
        np.zeros(2, dtype=np.int32), np.zeros(2),
    )  # fmt: skip
    other = database.store.start(changed(customers, name="other", target="dbo.other"), row)
    assert run(customers, database).changed == 0
    assert staging_tables(shop) <= {f"staging_{other}"}
    status = dict(shop.rows("SELECT run_id, status FROM sqlkmeans.run"))
    assert status[dead] == "failed"
    # Another segmentation's run may be alive.
    assert status[other] == "running"
    [(error, finished)] = shop.rows(
        f"SELECT error, finished_at FROM sqlkmeans.run WHERE run_id = {dead}"
    )
    assert "ended before it finished" in error
    assert finished is not None


def test_no_staging_table_remains_after_any_job(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    for job in (run, assign, run):
        job(customers, database)
        assert staging_tables(shop) == set()
    rollback("customers", database)
    assert staging_tables(shop) == set()


# What belongs to somebody else


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


def test_a_key_whose_type_changed_is_refused(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    text = shop.types["text"]
    source = f"SELECT CAST(customer_id AS {text}) AS customer_id, income, age FROM dbo.customer"
    with pytest.raises(DataError, match=r"key customer_id: .* in the source and .* in dbo"):
        run(changed(customers, source=source), database)
    assert published(shop) == before


@pytest.mark.parametrize("kind", ["float"])
def test_a_key_that_cannot_be_compared_exactly_is_refused(
    kind: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    source = (
        f"SELECT CAST(customer_id AS {shop.types[kind]}) AS customer_id, income, age "
        "FROM dbo.customer"
    )
    with pytest.raises(DataError, match=r"key customer_id: its type is .*, which cannot be a key"):
        run(changed(customers, source=source), database)


# Injection


@pytest.mark.parametrize(
    "values",
    [
        {"source": "dbo.customer; DROP TABLE dbo.customer"},
        {"source": "dbo.customer) AS x; DROP TABLE dbo.customer --"},
        {"source": "SELECT * FROM dbo.customer; DROP TABLE dbo.customer"},
        {"source": "SELECT * FROM dbo.customer) AS x; DROP TABLE dbo.customer --"},
        {"source": "DROP TABLE dbo.customer"},
        {"source": "SELECT customer_id, income, age INTO dbo.stolen FROM dbo.customer"},
        {"target": "dbo.x; DROP TABLE dbo.customer"},
        {"target": 'dbo.x"; DROP TABLE dbo.customer; --'},
        {"target": "dbo.customer_segment (a int)"},
        {"name": "x'; DROP TABLE dbo.customer; --"},
    ],
)
def test_an_injection_is_refused_by_the_definition(
    values: dict[str, str], customers: Segmentation
) -> None:
    with pytest.raises(DefinitionError):
        changed(customers, **values)


@pytest.mark.parametrize("place", ["key", "features"])
def test_an_injection_in_a_column_name_is_only_a_column_that_does_not_exist(
    place: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    attempts = [
        'income"; DROP TABLE dbo.customer; --', "income]; DROP TABLE dbo.customer; --",
        "income FROM dbo.customer; DROP TABLE dbo.customer; --", "(SELECT 1)", "1",
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(DataError, match="no such column"):
            run(changed(customers, **{place: [attempt]}), database)
    assert shop.rows("SELECT COUNT(*) FROM dbo.customer") == [(120,)]


def test_an_injection_in_a_segment_name_is_only_a_name(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    name = "'); DROP TABLE dbo.customer; --"
    rename("customers", database, 1, name, name)
    run(customers, database)
    assert names(shop)[1] == name
    assert shop.rows("SELECT COUNT(*) FROM dbo.customer") == [(120,)]


# One at a time


def test_a_second_run_at_the_same_time_is_refused_and_changes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    errors: list[BaseException] = []

    def second() -> None:
        with shop.open() as other:
            for job in (
                lambda: run(changed(customers, k=2), other),
                lambda: assign(customers, other),
                lambda: rename("customers", other, 1, "taken"),
                lambda: rollback("customers", other, 1),
            ):
                try:
                    job()
                except SqlKMeansError as error:
                    errors.append(error)

    with database.store.lock("customers"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(60)
    assert [type(error) for error in errors] == [LockedError] * 4
    assert errors[0].exit_code == 5  # type: ignore[attr-defined]
    assert published(shop) == before
    assert shop.rows("SELECT COUNT(*) FROM sqlkmeans.run") == [(1,)]


def test_of_two_runs_that_overlap_one_publishes_and_the_other_is_refused(
    shop: Backend, customers: Segmentation
) -> None:
    reading, refused = threading.Event(), threading.Event()

    class Waits(Progress):
        @contextmanager
        def shown(self, name: str, total: int | None):  # type: ignore[no-untyped-def]
            if name == "fit":
                reading.set()
                refused.wait(60)
            yield lambda done: None

    outcome: list[Any] = []

    def first() -> None:
        with shop.open() as one:
            outcome.append(run(customers, one, Waits()))

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert reading.wait(60)
        with shop.open() as two, pytest.raises(LockedError):
            run(customers, two)
    finally:
        refused.set()
        thread.join(60)
    assert outcome[0].changed == 120
    assert shop.rows("SELECT status FROM sqlkmeans.run") == [("published",)]


def test_the_lock_is_free_again_after_a_failure(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    with pytest.raises(DataError):
        run(changed(customers, features=["nothing"]), database)
    with pytest.raises(RuntimeError), database.store.lock("customers"):
        raise RuntimeError
    assert run(customers, database).changed == 120


def test_the_lock_of_one_segmentation_does_not_hold_another(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    with shop.open() as other, other.store.lock("something_else"):
        assert run(customers, database).changed == 120


# The schema


def test_install_can_be_repeated(backend: Backend, database: Database) -> None:
    version = database.install()
    assert version >= 1
    assert database.install() == version
    assert database.schema_version() == version
    assert backend.rows("SELECT COUNT(*) FROM sqlkmeans.schema_version") == [(version,)]


def test_uninstall_prints_what_it_would_drop_and_drops_it_only_when_told(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    statements = database.uninstall(execute=False)
    assert any("customer_segment_history" in statement for statement in statements)
    assert "run" in shop.tables("sqlkmeans")
    assert database.uninstall(execute=True) == statements
    assert database.schema_version() == 0
    assert shop.tables("sqlkmeans") == set()
    assert {"customer", "customer_segment"} <= shop.tables("dbo")
    assert not {"customer_segment_history", "customer_segment_named"} & shop.tables("dbo")
    assert len(labels(shop)) == 120


def test_uninstall_drops_nothing_that_the_package_did_not_make(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.make_table("dbo.mine_history", pa.table({"note": ["a"]}), None)
    with pytest.raises(SqlKMeansError):
        run(
            changed(customers, source="SELECT * FROM dbo.customer WHERE 1 = 0", target="dbo.mine"),
            database,
        )
    database.uninstall(execute=True)
    assert shop.rows("SELECT * FROM dbo.mine_history") == [("a",)]


def test_doctor_finds_nothing_to_do_after_a_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    findings = database.doctor()
    assert findings
    assert [finding for finding in findings if finding.ok is False] == []


def test_a_labelled_sample_is_of_labelled_customers_and_the_same_each_time(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    sample = database.labels.sample(customers, ["income", "age"], 50)
    assert sample.num_rows == 50
    assert sample.column_names == ["income", "age", "segment_id"]
    assert sample.equals(database.labels.sample(customers, ["income", "age"], 50))
    by_label = {
        (income, age): label
        for income, age, label in shop.rows(
            "SELECT c.income, c.age, s.segment_id FROM dbo.customer AS c "
            f"JOIN {SEGMENT} AS s ON s.customer_id = c.customer_id"
        )
    }
    found = sample.to_pylist()
    assert all(by_label[row["income"], row["age"]] == row["segment_id"] for row in found)


def test_a_labelled_sample_has_texts_days_and_columns_that_are_no_features(
    mixed_shop: Backend, database: Database
) -> None:
    mixed_shop.require_names(columns=["last order"])
    run(mixed_segmentation(), database)
    sample = database.labels.sample(
        mixed_segmentation(), ["city", "last order", "member", "visits"], 20
    )
    types = dict(zip(sample.column_names, sample.schema.types))
    assert types.pop("city") in (pa.string(), pa.large_string())
    assert types.pop("member") in (pa.string(), pa.large_string())
    assert types == {
        "last order": pa.float64(), "visits": pa.float64(), "segment_id": pa.int32(),
    }  # fmt: skip
    days = {None if d is None else (d - date(1970, 1, 1)).days for _, _, d, _ in
            mixed_rows(mixed_shop).values()}  # fmt: skip
    assert set(sample["last order"].to_pylist()) <= days


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


def test_the_catalog_lists_runs_newest_first(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    ids = [run(customers, database).run_id for _ in range(3)]
    other = changed(customers, name="other", target="dbo.other")
    ids.append(run(other, database).run_id)
    catalog = database.catalog
    assert [row["run_id"] for row in catalog.runs()] == ids[::-1]
    assert [row["run_id"] for row in catalog.runs("customers", 2)] == [ids[2], ids[1]]
    assert [row["name"] for row in catalog.segmentations()] == ["customers", "other"]


def test_the_registered_definition_is_the_one_that_ran(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    [(text,)] = shop.rows("SELECT definition FROM sqlkmeans.segmentation")
    assert Segmentation.from_json(text) == customers


def test_columns_are_told_apart_by_what_can_be_done_with_them(
    backend: Backend, database: Database
) -> None:
    types: Sequence[tuple[str, str, bool, bool]] = [
        ("integer", "number", True, True), ("bigint", "number", True, True),
        ("decimal", "number", True, False), ("float", "number", False, False),
        ("boolean", "boolean", True, True), ("text", "text", True, True),
        ("date", "date", True, False), ("uuid", "other", True, True),
    ]  # fmt: skip
    casts = ", ".join(f"CAST(NULL AS {backend.types[name]}) AS c_{name}" for name, *_ in types)
    columns = database.describe(f"SELECT {casts}")
    assert [(c.name, c.kind, c.can_be_key, c.can_be_category) for c in columns] == [
        (f"c_{name}", kind, key, category) for name, kind, key, category in types
    ]


# Choosing k


def test_a_choice_of_k_keeps_its_scores_and_publishes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    fitted = run(changed(customers, k=2), database)
    before = published(shop)
    result = choose_k(changed(customers, k_max=4), database)
    assert published(shop) == before
    assert staging_tables(shop) == set()
    assert (result.recommended_k, result.structure, result.rows) == (3, True, 120)
    assert shop.rows(
        'SELECT kind, status, k, "rows", published_at, model_run_id FROM sqlkmeans.run '
        f"WHERE run_id = {result.run_id}"
    ) == [("choose_k", "finished", 3, 120, None, None)]
    columns = list(result.scores[0])
    stored = shop.rows(
        f"SELECT {', '.join(columns)} FROM sqlkmeans.k_score WHERE run_id = {result.run_id} "
        "ORDER BY k"
    )
    assert stored == [tuple(row.values()) for row in result.scores]
    assert [row["k"] for row in result.scores if row["recommended"]] == [3]
    kept = shop.rows(f"SELECT recommendation FROM sqlkmeans.run WHERE run_id = {result.run_id}")
    assert json.loads(kept[0][0]) == {
        "structure": True, "recommended_k": 3, "reason": result.reason,
        "runner_up_k": result.runner_up_k,
    }  # fmt: skip
    assert load_segmentation(database, "customers").k == 2
    assert [row["run_id"] for row in database.catalog.published_runs("customers")] == [
        fitted.run_id
    ]


def test_assign_and_rollback_pass_a_choice_of_k_by(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(changed(customers, k=2), database)
    run(customers, database)
    choose_k(changed(customers, k_max=3), database)
    assert assign(customers, database).changed == 0
    rollback("customers", database)
    choose_k(changed(customers, k_max=3), database)
    assert rollback("customers", database, first.run_id).k == 2


def test_a_choice_of_k_can_come_before_the_first_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    assert choose_k(changed(customers, k_max=3), database).recommended_k == 3
    assert load_segmentation(database, "customers").k == 3
    assert run(customers, database).changed == 120


def test_a_run_with_k_auto_takes_the_recommended_k_and_keeps_the_reason(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(changed(customers, k="auto", k_max=5), database)
    assert [s.size for s in result.segments] == [60, 40, 20]
    assert result.recommendation is not None
    assert result.recommendation["recommended_k"] == 3
    assert not any("structure" in warning for warning in result.warnings)
    rows = shop.rows("SELECT k, recommended FROM sqlkmeans.k_score ORDER BY k")
    assert rows == [(2, False), (3, True), (4, False), (5, False)]
    assert load_segmentation(database, "customers").k == "auto"
    same = run(customers, database)
    assert same.changed == 0
    assert same.inertia == result.inertia


def test_a_run_with_k_auto_warns_where_there_is_no_structure(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    points = np.random.default_rng(0).uniform(size=(400, 2)).round(4)
    rows = pa.table({"customer_id": range(400), "income": points[:, 0], "age": points[:, 1]})
    backend.make_table("dbo.customer", rows, "customer_id")
    result = run(changed(customers, k="auto", k_max=4), database)
    assert 2 <= result.k <= 4
    assert result.warnings == [f"no cluster structure: the {result.k} segments cut a continuum"]
    stored = backend.rows("SELECT warnings FROM sqlkmeans.run")
    assert json.loads(stored[0][0]) == result.warnings
    chosen = choose_k(changed(customers, k_max=4), database)
    assert (chosen.structure, chosen.recommended_k) == (False, None)
    row = database.catalog.run(chosen.run_id)
    assert row is not None
    assert row["k"] is None


def test_a_segment_smaller_than_min_share_stops_a_run_and_leaves_all_as_it_was(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    for k in (3, "auto"):
        with pytest.raises(DataError, match=r"min_share = 0\.2"):
            run(changed(customers, k=k, k_min=3, k_max=4, min_share=0.2), database)
    assert published(shop) == before
    assert len(run(changed(customers, k="auto", k_max=4, min_share=0.2), database).segments) == 2


def test_a_choice_of_k_that_fails_says_so_in_its_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.execute("UPDATE dbo.customer SET income = NULL WHERE customer_id = 7")
    with pytest.raises(DataError):
        choose_k(customers, database)
    rows = shop.rows("SELECT kind, status FROM sqlkmeans.run")
    assert rows == [("choose_k", "failed")]
    assert shop.rows("SELECT * FROM sqlkmeans.k_score") == []


@pytest.mark.parametrize("sample_rows", [100_000, 0])
def test_training_in_the_database_publishes_what_training_here_does(
    shop: Backend, database: Database, customers: Segmentation, sample_rows: int
) -> None:
    here = run(customers, database)
    there = run(changed(customers, engine="pushdown", sample_rows=sample_rows), database)
    assert (there.engine, there.changed) == ("pushdown", 0)
    assert there.inertia == pytest.approx(here.inertia, rel=1e-6)
    for one, other in zip(here.segments, there.segments):
        assert other.size == one.size
        assert other.centroid == pytest.approx(one.centroid, rel=1e-6)
