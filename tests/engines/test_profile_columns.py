"""Columns that are described and never clustered on, by every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.local import rereading, storage
from sqlkmeans.engines.pushdown.columns import withhold
from support.engines import ENGINES, FIRST, OTHERS
from support.shops import assert_near_rows, labels_of, make_shop

PROFILE = ["orders", "churned", "city", "joined"]
Row = dict[str, Any]


@pytest.fixture
def shop(database: Database) -> Database:
    """Customers, of whom some churned; of some it is not known, and one number is infinite."""
    rows, rng = make_shop(), np.random.default_rng(7)
    churned = pa.array(rng.random(len(rows)) < 0.2, mask=rng.random(len(rows)) < 0.01)
    orders = rows["orders"].to_numpy().copy()
    orders[:2] = np.inf, np.nan
    rows = rows.set_column(rows.column_names.index("orders"), "orders", pa.array(orders))
    rows = rows.append_column("churned", churned)
    database.create_table("dbo.shop", rows, "customer_id")
    database.create_table("dbo.in_order", rows.sort_by("customer_id"), "customer_id")
    return database


def definition(name: str, **values: Any) -> Segmentation:
    given = {"name": name, "source": "dbo.shop", "key": "customer_id", "target": f"dbo.{name}",
             "features": ["income", "age"], "missing": "mean", "k": 4, "n_init": 3,
             "profile": PROFILE}  # fmt: skip
    return Segmentation.create(**{**given, **values})


def plain(database: Database, run_id: int, table: str = "segment_profile") -> list[Row]:
    rows = database.catalog.result(table, run_id)
    return [{name: value for name, value in row.items() if name != "run_id"} for row in rows]


@pytest.mark.parametrize("missing", ["mean", "skip"])
@pytest.mark.parametrize("engine", ENGINES)
def test_labels_are_to_the_bit_those_without_profile_columns(
    engine: str, missing: str, shop: Database
) -> None:
    for name, profile in (("told", PROFILE), ("untold", [])):
        values = {"engine": engine, "missing": missing, "profile": profile}
        result = pipeline.run(definition(name, **values), shop)
        assert bool(result.profile) == bool(profile)
    assert labels_of(shop, "dbo.told").equals(labels_of(shop, "dbo.untold"))
    for table in ("model_feature", "centroid", "segment", "segment_feature"):
        assert plain(shop, 1, table) == plain(shop, 2, table)


@pytest.mark.parametrize("missing", ["mean", "skip"])
@pytest.mark.parametrize("engine", OTHERS)
def test_every_engine_describes_as_the_first_does(
    engine: str, missing: str, shop: Database
) -> None:
    first = pipeline.run(definition("first", engine=FIRST, missing=missing), shop)
    other = pipeline.run(definition("other", engine=engine, missing=missing), shop)
    assert_near_rows(other.profile, first.profile)
    assert other.to_json()["profile"] == other.profile


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_are_those_that_sql_counts(engine: str, shop: Database) -> None:
    result = pipeline.run(definition("told", engine=engine), shop)
    rows = {(r["segment_id"], r["source_column"], r["level"]): r for r in result.profile}
    native: Any = shop._native  # type: ignore[attr-defined]
    for segment_id in (0, 1, 4):
        where = f"WHERE {segment_id} IN (0, segment_id)"
        ((mean, median, known, churned, oslo, age),) = native.execute(
            "SELECT AVG(o), MEDIAN(o), COUNT(o), AVG(churned::int), AVG((city = 'Oslo')::int), "
            "AVG(current_date - joined) FROM (SELECT *, CASE WHEN isfinite(orders) THEN orders END "
            f"AS o FROM dbo.shop JOIN dbo.told USING (customer_id)) {where}"
        ).fetchall()
        orders = rows[segment_id, "orders", None]
        assert (orders["mean"], orders["median"]) == pytest.approx((mean, median), rel=1e-9)
        assert orders["known"] == known
        assert rows[segment_id, "churned", "yes"]["share"] == pytest.approx(churned, rel=1e-9)
        assert rows[segment_id, "city", "Oslo"]["share"] == pytest.approx(oslo, rel=1e-9)
        # The day may change while the test runs.
        assert rows[segment_id, "joined", None]["mean"] == pytest.approx(age, abs=1.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_assign_describes_the_rows_of_now(engine: str, shop: Database) -> None:
    fitted = pipeline.run(definition("told", engine=engine), shop)
    native: Any = shop._native  # type: ignore[attr-defined]
    native.execute("UPDATE dbo.shop SET churned = true")
    assigned = pipeline.assign(definition("told", engine=engine), shop)
    changed = [row for row in assigned.profile if row["source_column"] != "churned"]
    assert_near_rows(changed, [row for row in fitted.profile if row["source_column"] != "churned"])
    assert {r["share"] for r in assigned.profile if r["source_column"] == "churned"} == {1.0}


def test_rows_that_are_read_again_are_described_as_one_matrix_is(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlkmeans.database.duckdb.database.READ_ROWS", 700)
    monkeypatch.setattr(rereading, "LITTLE", 0)
    values = {"source": "dbo.in_order", "features": ["income", "importance"], "sample_rows": 500,
              "missing": "error"}  # fmt: skip
    told = pipeline.run(definition("told", **values), shop)
    pipeline.run(definition("untold", **values, profile=[]), shop)
    assert labels_of(shop, "dbo.told").equals(labels_of(shop, "dbo.untold"))
    monkeypatch.setattr(rereading, "LITTLE", 2**60)
    once = pipeline.run(definition("once", **values), shop)
    assert_near_rows(told.profile, once.profile)


def test_a_spilled_run_describes_as_one_in_memory(
    shop: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = {"source": "dbo.in_order", "missing": "skip"}
    here = pipeline.run(definition("here", **values), shop)
    monkeypatch.setattr(storage, "FREE_ROWS_SHARE", 0.0)
    monkeypatch.setattr(storage, "LITTLE", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    there = pipeline.run(definition("there", **values), shop)
    assert any("kept in files" in warning for warning in there.warnings)
    assert there.profile == here.profile


def test_changes_alone_keep_the_description_of_the_run_before(shop: Database) -> None:
    native: Any = shop._native  # type: ignore[attr-defined]
    native.execute("ALTER TABLE dbo.shop ADD COLUMN version bigint DEFAULT 1")
    told = definition("told", changed_by="version")
    fitted = pipeline.run(told, shop)
    native.execute("UPDATE dbo.shop SET version = 2, income = income + 1 WHERE importance = 1")
    assigned = pipeline.assign(told, shop)
    assert "rows were read" in assigned.warnings[0]
    assert assigned.profile == fitted.profile


def test_choosing_k_reads_no_profile_column(shop: Database) -> None:
    native: Any = shop._native  # type: ignore[attr-defined]
    native.execute(
        "CREATE VIEW dbo.lazy AS SELECT customer_id, income, age, "
        "CASE WHEN random() < 2 THEN error('read') END::double AS slow FROM dbo.shop"
    )
    lazy = definition("told", source="dbo.lazy", profile=["slow"], k_max=3)
    assert pipeline.choose_k(lazy, shop).rows == 3_000
    assert pipeline.check(lazy, shop) == 3_000


#: In the smallest segment, fewer churned.
MIN_GROUP = 80


def private(name: str, **values: Any) -> Segmentation:
    given = {"engine": "pushdown", "sample_rows": 0, "min_group": MIN_GROUP}
    return definition(name, **{**given, **values})


def test_where_no_row_leaves_few_customers_have_no_share(shop: Database) -> None:
    few = ["orders", "churned"]
    open_, closed = (
        pipeline.run(segmentation, shop).profile
        for segmentation in (definition("open", profile=few), private("closed", profile=few))
    )
    withheld = 0
    for one, other in zip(open_, closed):
        assert (one["source_column"], one["level"]) == (other["source_column"], other["level"])
        if one["share"] is None:
            assert other["mean"] == pytest.approx(one["mean"], rel=1e-9)
            continue
        having = round(one["share"] * one["known"])
        if 0 < having < MIN_GROUP or 0 < one["known"] - having < MIN_GROUP:
            assert other["share"] is None
            assert other["difference_low"] is None
            withheld += 1
        assert other["missing"] == 0 or other["missing"] >= MIN_GROUP
    assert withheld


def test_a_share_that_the_others_would_give_away_is_withheld_with_another() -> None:
    # Everyone, three clusters; the second level of the second cluster is about few customers.
    having: list[list[int | None]] = [[90, 30, 30, 30], [90, 30, None, 50], [90, 40, 45, 5]]
    withhold(having)
    lines = [level[1:] for level in having] + [list(group) for group in zip(*having)]
    assert all(line.count(None) != 1 for line in lines)


def test_levels_of_few_customers_are_in_the_rest_where_no_row_leaves(shop: Database) -> None:
    native: Any = shop._native  # type: ignore[attr-defined]
    native.execute("UPDATE dbo.shop SET city = 'Hidden' WHERE customer_id % 200 = 1")
    rows = pipeline.run(private("closed", profile=["city"]), shop).profile
    levels = {row["level"] for row in rows}
    assert "Hidden" not in levels
    assert len(levels) >= 2
