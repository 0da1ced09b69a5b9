"""Rows that are read again give what rows in one matrix give, in less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines import Labelled, Plan
from sqlkmeans.engines.local import rereading
from sqlkmeans.engines.local.engine import LocalEngine
from sqlkmeans.errors import DataError
from sqlkmeans.progress import Advance, Progress
from support.shops import labels_of, make_shop, native

DEFINITIONS: dict[str, dict[str, Any]] = {
    "numbers": {},
    "log1p": {"features": ["income", {"column": "orders", "transform": "log1p", "weight": 2.0}]},
    "dates": {"features": ["income", {"column": "joined", "type": "date"}]},
    "minmax": {"scaling": "minmax"},
    "none": {"features": [{"column": "orders", "weight": 0.5}, "visits"], "scaling": "none"},
    "limits": {"outlier": 0.02},
    "two keys": {"key": ["store", "customer_id"]},
    "whole numbers": {"features": ["visits", "member"], "k": 3},
    "long tails from 0 on": {"features": ["spent", "income"]},
}
UNSUITED: dict[str, dict[str, Any]] = {
    "a view": {"source": "dbo.shop_view"},
    "a query": {"source": "SELECT * FROM dbo.shop"},
    "few rows": {"sample_rows": 4_000},
    "weights": {"sample_weight": "importance"},
    "quantiles": {"scaling": "robust"},
    "winsorized": {"winsorize": [0.01, 0.99]},
    "fills": {"missing": "mean"},
    "skips": {"missing": "skip"},
    "categories": {"features": ["income", {"column": "city", "type": "category"}],
                   "missing": "mean"},
    "k of its own": {"k": "auto", "k_max": 4},
    "a trim": {"trim": 0.01},
    "no order": {"source": "dbo.shuffled"},
}  # fmt: skip


@pytest.fixture
def shop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Customers in key order, in batches of which there are several."""
    monkeypatch.setattr("sqlkmeans.database.duckdb.database.READ_ROWS", 700)
    monkeypatch.setattr("sqlkmeans.engines.local.rereading.LITTLE", 0)
    rows = make_shop()
    visits = np.random.default_rng(1).poisson(4, len(rows))
    rows = rows.append_column("visits", pa.array(visits))
    spent = np.where(visits > 3, np.exp(visits / 2), 0)
    rows = rows.append_column("spent", pa.array(spent))
    rows = rows.append_column("member", pa.array(visits % 2 == 0))
    database.create_table("dbo.shuffled", rows, "customer_id")
    rows = rows.sort_by("customer_id")
    rows = rows.append_column("store", pa.array(np.arange(len(rows)) // 400))
    database.create_table("dbo.shop", rows, "customer_id")
    native(database).execute("CREATE VIEW dbo.shop_view AS SELECT * FROM dbo.shop")
    return database


def definition(name: str, **values: Any) -> Segmentation:
    given = {"name": name, "source": "dbo.shop", "key": "customer_id", "k": 4, "n_init": 3,
             "features": ["income", "orders"], "target": f"dbo.{name}",
             "sample_rows": 500}  # fmt: skip
    return Segmentation.create(**{**given, **values})


class Told(Progress):
    """Keeps what it is told of reading."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    @contextmanager
    def shown(self, name: str, total: int | None) -> Iterator[Advance]:
        yield self.rows.append if name == "read" else lambda done: None


def is_read_two_times(database: Database, segmentation: Segmentation) -> bool:
    """How the rows are read to be fitted."""
    real, readings = rereading.SecondReading.label, []

    def label(self: rereading.SecondReading) -> Labelled:
        readings.append(self)
        return real(self)

    told = Told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rereading.SecondReading, "label", label)
        with LocalEngine().open(database, Plan.of(segmentation, told)) as rows:
            rows.fit()
    assert sum(told.rows) == 3_000
    return bool(readings)


def near(found: Any, expected: Any, path: str = "") -> None:
    """Assert that two trees of values are the same but for rounding."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), path
        for name in expected:
            near(found[name], expected[name], f"{path}.{name}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), path
        for number, pair in enumerate(zip(found, expected)):
            near(*pair, f"{path}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6), path
    else:
        assert found == expected, path


def published(database: Database, segmentation: Segmentation, run_id: int) -> dict[str, Any]:
    tables = {
        name: [
            {column: value for column, value in row.items() if column != "run_id"}
            for row in database.catalog.result(name, run_id)
        ]
        for name in ("model_feature", "centroid", "segment", "segment_feature", "feature_bin",
                     "typical_customer", "feature_drift")
    }  # fmt: skip
    run = database.catalog.run(run_id) or {}
    facts = ("rows", "outliers", "skipped", "inertia", "mean_distance", "silhouette",
             "davies_bouldin", "calinski_harabasz", "n_iter", "warnings")  # fmt: skip
    return {**tables, **{name: run[name] for name in facts}}


@pytest.mark.parametrize("values", DEFINITIONS.values(), ids=DEFINITIONS)
def test_several_readings_find_what_one_matrix_finds(
    shop: Database, values: dict[str, Any]
) -> None:
    again = definition("again", **values)
    once = definition("once", source="dbo.shop_view", **values)
    assert is_read_two_times(shop, again)
    assert not is_read_two_times(shop, once)
    found, expected = pipeline.run(again, shop), pipeline.run(once, shop)
    near(published(shop, again, found.run_id), published(shop, once, expected.run_id))
    keys = ", ".join(again.key)
    labels = [labels_of(shop, segmentation.target, keys) for segmentation in (again, once)]
    assert labels[0].drop_columns("distance") == labels[1].drop_columns("distance")
    np.testing.assert_allclose(*[part["distance"].to_numpy() for part in labels], atol=1e-6)


def test_long_tails_are_told_of_narrow_rows_too(shop: Database) -> None:
    result = pipeline.run(definition("tails", features=["spent", "income"]), shop)
    assert [warning for warning in result.warnings if warning.startswith("spent: skew")]


@pytest.mark.parametrize("values", DEFINITIONS.values(), ids=DEFINITIONS)
def test_labels_are_those_of_assign_to_the_last_bit(shop: Database, values: dict[str, Any]) -> None:
    segmentation = definition("exact", **values)
    pipeline.run(segmentation, shop)
    keys = ", ".join(segmentation.key)
    of_run = labels_of(shop, segmentation.target, keys)
    # It reads once, and publishes any distance that is not the same.
    result = pipeline.assign(segmentation, shop)
    assert (result.changed, result.written) == (0, 0)
    assert labels_of(shop, segmentation.target, keys) == of_run


def test_published_centroids_are_the_means_of_the_exact_values(shop: Database) -> None:
    # A third of the customers have the same value, whose rounding to float32 would add up.
    native(shop).execute("UPDATE dbo.shop SET income = 12345.67 WHERE customer_id % 3 = 0")
    segmentation = definition("means", features=["income", "visits"], k=5)
    assert is_read_two_times(shop, segmentation)
    pipeline.run(segmentation, shop)
    found = (
        native(shop)
        .execute(
            "SELECT c.value, m.income FROM sqlkmeans.centroid AS c INNER JOIN (SELECT segment_id, "
            "AVG(income) AS income FROM dbo.shop INNER JOIN dbo.means USING (customer_id) "
            "GROUP BY segment_id) AS m USING (segment_id) WHERE c.feature = 'income'"
        )
        .fetchall()
    )
    assert len(found) == 5
    np.testing.assert_allclose(*np.array(found).T, rtol=0, atol=1e-9 * 30_000)


def test_a_second_run_counts_in_the_bins_of_the_first(shop: Database) -> None:
    results = []
    for name, source in (("again", "dbo.shop"), ("once", "dbo.shop_view")):
        native(shop).execute("UPDATE dbo.shop SET income = income / 1.5 WHERE visits > 5")
        segmentation = definition(name, source=source)
        pipeline.run(segmentation, shop)
        native(shop).execute("UPDATE dbo.shop SET income = income * 1.5 WHERE visits > 5")
        result = pipeline.run(segmentation, shop)
        results.append(published(shop, segmentation, result.run_id))
        assert result.changed > 0
    assert results[0]["feature_drift"][0]["psi"] > 0
    near(*results)


def test_a_median_that_the_sample_misled_about_is_found_all_the_same(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlkmeans.clustering.preparation.quantiles.SMALL", 100)
    monkeypatch.setattr("sqlkmeans.clustering.preparation.quantiles.WIDTH", 1e-9)
    # A margin of two values of the sample, of which the sample has every twentieth.
    monkeypatch.setattr("sqlkmeans.engines.local.rereading.SAMPLE_ROWS", 150)
    opened: list[Any] = []
    real = shop.open_source

    def open_source(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(shop, "open_source", open_source)
    segmentation = definition("misled")
    result = pipeline.run(segmentation, shop)
    assert len(opened) > 3  # a run that is not misled reads twice
    rows = (
        native(shop)
        .execute(
            "SELECT segment_id, median(income), median(orders) FROM dbo.shop JOIN dbo.misled "
            "USING (customer_id) GROUP BY ALL"
        )
        .fetchall()
    )
    found = {
        (row["segment_id"], row["feature"]): row["median"]
        for row in shop.catalog.result("segment_feature", result.run_id)
    }
    for segment_id, income, orders in rows:
        assert found[segment_id, "income"] == pytest.approx(income, rel=1e-11)
        assert found[segment_id, "orders"] == pytest.approx(orders, rel=1e-11)


@pytest.mark.parametrize("values", UNSUITED.values(), ids=UNSUITED)
def test_other_rows_are_read_once(shop: Database, values: dict[str, Any]) -> None:
    assert not is_read_two_times(shop, definition("other", **values))


def test_few_rows_are_read_once(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlkmeans.engines.local.rereading.LITTLE", 3_000 * 2 * 8)
    assert not is_read_two_times(shop, definition("few"))


def test_rows_that_spill_are_read_once(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlkmeans.engines.local.storage.ROWS_SHARE", 0.0)
    assert is_read_two_times(shop, definition("spilled"))
    assert not is_read_two_times(shop, definition("spilled", memory_limit="512MiB"))


def test_a_memory_limit_holds_for_the_database_too(shop: Database) -> None:
    settings = "SELECT current_setting('memory_limit')"
    before, during = native(shop).execute(settings).fetchall(), []
    real = rereading.SecondReading.label

    def label(self: rereading.SecondReading) -> Labelled:
        labelled = real(self)
        during.append(native(shop).execute(settings).fetchall()[0][0])
        return labelled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rereading.SecondReading, "label", label)
        pipeline.run(definition("limited", memory_limit="512MiB"), shop)
    assert during in (["160.0 MiB"], ["192.0 MiB"])  # labels are being written, or have been
    assert native(shop).execute(settings).fetchall() == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE dbo.shop SET income = NULL WHERE store = 7", "income: 200 rows are NULL"),
        ("UPDATE dbo.shop SET income = 'inf' WHERE store = 7", "income: 200 rows are infinite"),
        ("UPDATE dbo.shop SET income = -3 WHERE store = 0", "income: 400 rows are -1 or less"),
        ("UPDATE dbo.shop SET income = 5", "income: constant"),
        ("UPDATE dbo.shop SET income = customer_id", "income: like a key"),
    ],
)
def test_rows_that_are_refused_are_refused_in_words(
    shop: Database, change: str, problem: str
) -> None:
    native(shop).execute(change)
    features = [{"column": "income", "transform": "log1p"}, "visits"]
    told = Told()
    with pytest.raises(DataError, match=problem):
        pipeline.run(definition("refused", features=features), shop, told)
    assert sum(told.rows) == 3_000


CHANGES: dict[str, str] = {
    "a row more": "INSERT INTO dbo.shop (customer_id, income, orders) VALUES (8e9, 1, 1)",
    "a row less": "DELETE FROM dbo.shop "
    "WHERE customer_id = (SELECT MAX(customer_id) FROM dbo.shop)",
    "another order": "UPDATE dbo.shop SET customer_id = 1 WHERE store = 7 AND customer_id = "
    "(SELECT MAX(customer_id) FROM dbo.shop)",
    "a missing value": "UPDATE dbo.shop SET income = NULL WHERE store = 3",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_source_that_changes_between_the_readings_publishes_nothing(
    shop: Database, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    fit: Callable[..., Any] = rereading.FirstReading.fit

    def fit_and_change(self: rereading.FirstReading, *arguments: Any) -> Any:
        found = fit(self, *arguments)
        native(shop).execute(change)
        return found

    monkeypatch.setattr(rereading.FirstReading, "fit", fit_and_change)
    segmentation = definition("changing")
    with pytest.raises(DataError, match="changed while it was read"):
        pipeline.run(segmentation, shop)
    assert shop.describe_table("dbo.changing") is None
    monkeypatch.undo()
    if "NULL" not in change:
        assert pipeline.run(segmentation, shop).rows in (2_999, 3_000, 3_001)


def test_a_segment_that_is_too_small_is_refused(shop: Database) -> None:
    with pytest.raises(DataError, match="min_share"):
        pipeline.run(definition("small", min_share=0.3), shop)
