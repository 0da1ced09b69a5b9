"""With sample_rows = 0, what is told by accident is about min_group customers at least."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database, open_database
from sqlkmeans.database.tables import RESULT_TABLES
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import SqlKMeansError
from sqlkmeans.pipeline import assign, choose_k, run
from support.attacks import each

ROWS, FEW, SECRET = 600, 25, 123_456.5


def customers(**columns: Any) -> pa.Table:
    n = np.arange(ROWS)
    values = {
        "id": n, "x": n % 2 * 500.0 + n % 97, "y": n % 3 * 50.0 + n % 31,
        "city": np.where(n % 3 == 0, "Oslo", "Bergen").tolist(), "w": np.ones(ROWS), **columns,
    }  # fmt: skip
    return pa.table(values)


def definition(**changes: Any) -> Segmentation:
    values = {
        "name": "shop", "source": "customer", "key": "id", "k": 2, "n_init": 2, "seed": 1,
        "target": "segment", "engine": "pushdown", "sample_rows": 0, "min_group": FEW,
        "features": ["x", "y"], **changes,
    }  # fmt: skip
    return Segmentation.create(**values)


def everything_told(database: Database) -> list[Any]:
    """What stands in the tables of schema sqlkmeans."""
    told: list[Any] = []
    for run_id, *row in database.catalog.select("SELECT * FROM sqlkmeans.run"):
        told += row
        for table in RESULT_TABLES:
            told += [v for found in database.catalog.result(table, run_id) for v in found.values()]
    return told


def with_one(column: str, value: Any) -> dict[str, Any]:
    """A column in which one customer has a value of its own."""
    values: list[Any] = customers()[column].to_pylist()
    values[7] = value
    return {column: values}


#: One customer's note is no number.
ERRORS = [
    "SELECT id, x, CAST(note AS double) AS y FROM customer",
    "SELECT id, x, CASE WHEN CAST(note AS bigint) > 0 THEN y END AS y FROM customer",
    "SELECT CAST(note || id AS bigint) AS id, x, y FROM customer",
    "SELECT id, x, CASE WHEN note <> '1' THEN error(note) ELSE y END AS y FROM customer",
]


@each(ERRORS)
@pytest.mark.parametrize("job", [run, choose_k])
def test_no_error_quotes_a_row(attack: str, job: Any) -> None:
    with open_database("duckdb:///:memory:") as database:
        notes = ["SSN 12-34" if number == 7 else "1" for number in range(ROWS)]
        make(database, customers(note=notes))
        with pytest.raises(SqlKMeansError) as caught:
            job(definition(source=attack), database)
        assert "SSN" not in str(caught.value)
        assert "may quote a row" in str(caught.value)
        assert not [told for told in everything_told(database) if "SSN" in str(told)]


WEIGHTS = [1e6, 1e15, 1e149, 1e160, 1e300]


@each(WEIGHTS)
def test_a_customer_of_great_weight_is_nobodys_centre(attack: float) -> None:
    weights = customers()["w"].to_pylist()
    weights[7] = attack
    rows = customers(w=weights, **with_one("x", SECRET))
    for changes in ({}, {"scaling": "robust"}, {"scaling": "none"}, {"winsorize": [0.01, 0.99]}):
        with open_database("duckdb:///:memory:") as database:
            database.create_table("customer", rows, "id")
            with pytest.raises(SqlKMeansError, match="few of them have most of the weight"):
                run(definition(sample_weight="w", **changes), database)
            numbers = [told for told in everything_told(database) if isinstance(told, float)]
            assert not [told for told in numbers if abs(told - SECRET) < 1]


def test_weights_that_differ_as_customers_do_are_no_obstacle() -> None:
    weights = np.random.default_rng(0).lognormal(0, 1, ROWS)
    with open_database("duckdb:///:memory:") as database:
        database.create_table("customer", customers(w=weights), "id")
        assert run(definition(sample_weight="w"), database).changed == ROWS
        assert assign(definition(sample_weight="w"), database).changed == 0


#: One customer of whom something is different, and what may be told of it.
ALONE: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "a NULL that is an error": (with_one("x", None), {}, "x: a few rows are NULL"),
    "an infinity": (with_one("x", np.inf), {}, "x: a few rows are infinite"),
    "outside the logarithm": (
        with_one("x", -5.0), {"features": [{"column": "x", "transform": "log1p"}, "y"]},
        "x: a few rows are -1 or less",
    ),
    "a weight that is NULL": (
        with_one("w", None), {"sample_weight": "w"}, "sample_weight: a few rows are NULL"
    ),
    "a negative weight": (
        with_one("w", -1.0), {"sample_weight": "w"}, "sample_weight: a few rows are negative"
    ),
    "a NULL that is filled in": (with_one("x", None), {"missing": "mean"}, None),
    "a NULL whose row is skipped": (with_one("x", None), {"missing": "skip"}, None),
    "a city of its own": (
        with_one("city", "Hidden"),
        {"features": ["x", {"column": "city", "type": "category", "min_frequency": 0.0}]}, None,
    ),
    "no city": (
        with_one("city", None), {"features": ["x", {"column": "city", "type": "category"}],
                                 "missing": "mean"}, None,
    ),
    "a value far away": (with_one("x", SECRET), {}, None),
}  # fmt: skip


@each(ALONE)
def test_nothing_is_told_of_a_customer_who_is_alone(attack: str) -> None:
    columns, changes, words = ALONE[attack]
    with open_database("duckdb:///:memory:") as database:
        make(database, customers(**columns))
        if words is not None:
            with pytest.raises(SqlKMeansError, match=words):
                run(definition(**changes), database)
            return
        run(definition(**changes), database)
        assign(definition(**changes), database)
        told = everything_told(database)
        assert "Hidden" not in [str(one) for one in told]
        assert SECRET not in told
        for row in database.catalog.result("segment_feature", 1):
            assert row["missing"] == 0 or row["missing"] >= FEW
        for row in database.catalog.result("model_feature", 1):
            if row["type"] == "category":
                assert FEW / ROWS <= row["center"] <= 1 - FEW / ROWS


def make(database: Database, rows: pa.Table) -> None:
    database.create_table("customer", rows, "id")


def test_a_key_that_few_repeat_is_not_counted() -> None:
    for source, words in (
        ("SELECT CASE WHEN id = 7 THEN NULL ELSE id END AS id, x, y FROM customer", "a few NULL"),
        ("SELECT CASE WHEN id = 7 THEN 8 ELSE id END AS id, x, y FROM customer", "a few rows"),
    ):
        with open_database("duckdb:///:memory:") as database:
            make(database, customers())
            with pytest.raises(SqlKMeansError, match=words):
                run(definition(source=source), database)


def test_a_column_that_few_have_is_refused() -> None:
    known: list[float | None] = [None] * ROWS
    known[:24] = np.arange(24.0).tolist()
    with open_database("duckdb:///:memory:") as database:
        make(database, customers(x=known))
        source = "SELECT * FROM customer WHERE id < 200"
        with pytest.raises(SqlKMeansError, match="fewer customers than min_group = 25 have"):
            run(definition(missing="mean", source=source), database)
