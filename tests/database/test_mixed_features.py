"""Categories, dates, outliers and weights, on every database."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.pipeline import assign, run
from sqlkmeans.registry import load_model
from sqlkmeans.sqltext import quote
from support.backends import Backend
from support.published import (
    SEGMENT,
    labels,
    published,
)
from support.shops import assert_near_rows

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


def test_profile_columns_are_described_on_every_database(
    mixed_shop: Backend, database: Database
) -> None:
    mixed_shop.require_names(columns=["last order"])
    untold = mixed_segmentation(features=["spend"])
    before = run(untold, database)
    labelled = labels(mixed_shop)
    told = mixed_segmentation(features=["spend"], profile=["city", "last order", "member"])
    result = run(told, database)
    assert labels(mixed_shop) == labelled
    assert (before.profile, result.changed) == ([], 0)
    rows = mixed_rows(mixed_shop)
    for segment in (None, 1):
        group = [row for key, row in rows.items() if segment in (None, labelled[key])]
        found = {
            (row["source_column"], row["level"]): row
            for row in result.profile
            if row["segment_id"] == (segment or 0)
        }
        cities = [row[1] for row in group if row[1] is not None]
        for city in ("Oslo", "oslo", "Bergen "):
            assert found["city", city]["share"] == pytest.approx(cities.count(city) / len(cities))
        assert found["city", "(other)"]["known"] == len(cities)
        assert found["last order", None]["missing"] == sum(row[2] is None for row in group)
        members = sum(bool(row[3]) for row in group)
        assert found["member", "yes"]["share"] == pytest.approx(members / len(group))
    assigned = assign(told, database)
    assert_near_rows(assigned.profile, result.profile)


def test_profile_columns_that_are_not_there_or_of_another_type_are_told_at_once(
    backend: Backend, database: Database
) -> None:
    rows = pa.table({"customer_id": [1, 2], "x": [1.0, 2.0], "photo": [b"a", b"b"]})
    backend.make_table("dbo.customer", rows, "customer_id")
    with pytest.raises(DataError) as raised:
        run(
            Segmentation.create(
                name="customers", source="dbo.customer", key="customer_id", features=["x"], k=2,
                target=SEGMENT, profile=["photo", "cty"],
            ),
            database,
        )  # fmt: skip
    problems = "\n".join(raised.value.problems)
    assert "profile cty: no such column in dbo.customer" in problems
    assert "profile photo: its type is" in problems
    assert "which is not described; allowed: numbers, booleans, dates, text" in problems
