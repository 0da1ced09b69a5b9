"""Rules, typical customers, and the bins that drift is measured by, from each engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.bins import _rounded
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.explanation import explain
from support.engines import ENGINES, FIRST, OTHERS
from support.shops import native

RunEngine = Callable[..., dict[str, Any]]

MIN_GROUP = 25
PUSHDOWN: dict[str, dict[str, Any]] = {
    "all rows as sample": {},
    "a sample": {"sample_rows": 1_000},
    "without rows": {"sample_rows": 0, "min_group": MIN_GROUP},
}
FEATURES = ["income", "age", "orders", {"column": "city", "type": "category"}]


def break_load(database: Database) -> None:
    """A broken load, in which ages are missing too."""
    native(database).execute(
        "UPDATE dbo.shop SET income = income / 10, age = NULL, city = 'Rome' "
        "WHERE customer_id % 3 = 0"
    )


def definition_of(database: Database, engine: str) -> Segmentation:
    row = database.catalog.segmentation(f"shop_{engine}") or {}
    return Segmentation.from_json(row["definition"])


def drift_after_a_broken_load(
    run_engine: RunEngine, database: Database, engine: str, **definition: Any
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """The run before, the rows of ``feature_drift`` of an assign after it, and its warnings."""
    before = run_engine(engine, features=FEATURES, **definition)
    break_load(database)
    assigned = pipeline.assign(definition_of(database, engine), database)
    return before, assigned.drift, assigned.warnings


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("missing", ["mean", "skip"])
def test_drift_is_what_the_first_engine_measures(
    missing: str, engine: str, run_engine: RunEngine, database: Database
) -> None:
    first = run_engine(FIRST, features=FEATURES, missing=missing)
    before = run_engine(engine, features=FEATURES, missing=missing)
    assert before["feature_bin"] == [
        {**row, "run_id": before["run_id"]} for row in first["feature_bin"]
    ]
    break_load(database)
    expected, found = (
        pipeline.assign(definition_of(database, name), database) for name in (FIRST, engine)
    )
    assert [row["feature"] for row in found.drift] == ["income", "age", "orders", "city"]
    for one, other in zip(found.drift, expected.drift):
        for column, value in other.items():
            expected_value = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert one[column] == expected_value, column
    again = run_engine(engine, features=FEATURES, missing=missing)
    assert again["feature_bin"] != before["feature_bin"]
    # Compared with the labels before it, which are of the same rows.
    assert [row["psi"] for row in again["drift"]] == [0.0] * 4


@pytest.mark.parametrize("name", PUSHDOWN)
def test_a_broken_load_is_noticed(name: str, run_engine: RunEngine, database: Database) -> None:
    before, drift, warnings = drift_after_a_broken_load(
        run_engine, database, "pushdown", **PUSHDOWN[name]
    )
    psi = {row["feature"]: row["psi"] for row in drift}
    assert min(psi["income"], psi["age"], psi["city"]) > 0.2 > 0.01 > psi["orders"]
    assert any(text.startswith("a refit is due: income: drifted") for text in warnings)
    by_feature: dict[str, int] = {}
    for row in before["feature_bin"]:
        by_feature[row["feature"]] = by_feature.get(row["feature"], 0) + row["customers"]
    assert by_feature == dict.fromkeys(["income", "age", "orders", "city"], 3_000)


@pytest.mark.parametrize("name", PUSHDOWN)
def test_the_guard_refuses_a_broken_load(
    name: str, run_engine: RunEngine, database: Database
) -> None:
    guarded = {**PUSHDOWN[name], "features": FEATURES, "guard": {"action": "refuse"}}
    before = run_engine("pushdown", **guarded)
    break_load(database)
    with pytest.raises(DataError, match=r"income: drifted since run \d+ \(PSI"):
        run_engine("pushdown", **guarded)
    published = database.catalog.published_runs("shop_pushdown")
    assert [row["run_id"] for row in published] == [before["run_id"]]


def test_without_rows_small_bins_are_merged_and_in_earlier_bins_count_as_empty(
    run_engine: RunEngine, database: Database
) -> None:
    # 30 customers in 3,000 buy far more, and 20 hardly anything.
    native(database).execute(
        "CREATE OR REPLACE TABLE dbo.shop AS SELECT * REPLACE (CASE WHEN n <= 30 THEN 500.0 "
        "WHEN n <= 50 THEN 0.0 ELSE 20 + n % 40 END AS orders) FROM (SELECT *, "
        "ROW_NUMBER() OVER (ORDER BY customer_id) AS n FROM dbo.shop)"
    )
    definition = {"features": ["age", "orders"], "k": 2, **PUSHDOWN["without rows"]}
    run = run_engine("pushdown", **definition)
    bins = [row for row in run["feature_bin"] if row["feature"] == "orders"]
    assert len(bins) > 5
    assert all(row["customers"] >= MIN_GROUP for row in bins[1:])
    first = bins[1]["upper"]
    native(database).execute(
        f"UPDATE dbo.shop SET orders = 60 WHERE orders <= {first} AND customer_id NOT IN "
        f"(SELECT customer_id FROM dbo.shop WHERE orders <= {first} LIMIT {MIN_GROUP - 1})"
    )
    assigned = pipeline.assign(definition_of(database, "pushdown"), database)
    counts = database.catalog.result("feature_bin", assigned.run_id)
    now = [row["customers"] for row in counts if row["feature"] == "orders"]
    assert now[1] == 0
    assert [row["upper"] for row in counts] == [row["upper"] for row in run["feature_bin"]]


def test_edges_are_as_short_as_the_bins_allow() -> None:
    assert _rounded([11.98, 30.1, 88.0]) == [12.0, 30.0, 88.0]
    assert _rounded([2_001.02, 2_002.01]) == [2_001.0, 2_002.0]
    assert _rounded([0.5]) == [0.5]
    assert _rounded([]) == []


def test_rules_of_a_sample_are_counted_on_all_rows(
    run_engine: RunEngine, database: Database
) -> None:
    run = run_engine("pushdown", sample_rows=700)
    segments = {row["segment_id"]: row for row in run["segment"] if row["segment_id"]}
    assert all(row["rule"] for row in segments.values())
    for segment_id, row in segments.items():
        age = f"COALESCE(age, {run['model_feature'][1]['fill']!r})"
        rule = re.sub(r"(?<=\d),(?=\d)", "", row["rule"]).replace("age", age)
        rule = re.sub(r"([\d.]+) < (\w+|COALESCE\(.*?\)) <= ", r"\2 > \1 AND \2 <= ", rule)
        meeting, inside = (
            native(database)
            .execute(
                f"SELECT COUNT(*), COUNT(*) FILTER (segment_id = {segment_id}) "
                f"FROM dbo.shop JOIN dbo.shop_pushdown USING (customer_id) WHERE {rule}"
            )
            .fetchone()
        )
        assert row["rule_precision"] == pytest.approx(inside / meeting)
        assert row["rule_coverage"] == pytest.approx(inside / row["size"])


def test_without_rows_there_are_neither_rules_nor_typical_customers(
    run_engine: RunEngine, database: Database
) -> None:
    run = run_engine("pushdown", sample_rows=0)
    assert [row["rule"] for row in run["segment"]] == [None] * 5
    assert run["typical_customer"] == []


KEYS: dict[str, list[Any]] = {
    "text": [f"é {n:03}" for n in range(60)],
    "number": [2**53 + n for n in range(60)],
    "decimal": [Decimal(n) / 4 for n in range(60)],
    "day": [date.fromordinal(730_000 + n) for n in range(60)],
    "moment": [datetime(2026, 1, 1, 12, 30, n, 250_000) for n in range(60)],
    "truth": [n % 2 == 0 for n in range(60)],
    "bytes": [bytes([n, 255]) for n in range(60)],
}


@pytest.mark.parametrize("kind", [*KEYS, "uuid"])
def test_typical_customers_have_the_same_keys_from_every_engine(
    kind: str, database: Database
) -> None:
    rows = {"n": list(range(60)), "x": [n % 3 * 10.0 + n * n / 4_000 for n in range(60)]}
    keys = KEYS.get(kind) or [str(UUID(int=n)) for n in range(60)]
    native(database).execute("CREATE SCHEMA dbo")
    native(database).register("given", pa.table({"id": keys, **rows}))
    cast = "CAST(id AS uuid)" if kind == "uuid" else "id"
    native(database).execute(
        f"CREATE TABLE dbo.things AS SELECT * REPLACE ({cast} AS id) FROM given"
    )
    found = []
    for engine in ENGINES:
        segmentation = Segmentation.create(
            name=engine, source="dbo.things", key=["id", "n"], features=["x"], k=3,
            target=f"dbo.{engine}", engine=engine,
        )  # fmt: skip
        run = pipeline.run(segmentation, database)
        typical = database.catalog.result("typical_customer", run.run_id)
        found.append([(row["segment_id"], row["rank"], row["customer"]) for row in typical])
    assert all(one == found[0] for one in found)
    assert len(found[0]) == 9


def test_one_customer_is_not_explained_where_no_row_may_leave(
    run_engine: RunEngine, database: Database
) -> None:
    run_engine("pushdown", sample_rows=0)
    with pytest.raises(DefinitionError, match="sample_rows = 0 lets no row leave the database"):
        explain("shop_pushdown", database, ["7000000001"])
    run_engine("pushdown", sample_rows=500)
    assert explain("shop_pushdown", database, ["7000000001"]).certainty
