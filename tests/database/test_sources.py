"""Tables, views and SELECTs as sources, and their columns, on every database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.pipeline import assign, run
from support.backends import Backend
from support.published import (
    changed,
    labels,
    sizes,
)


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
