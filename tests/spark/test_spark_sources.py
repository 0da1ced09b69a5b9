"""Rows that Spark has, and labels in a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.spark import workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.explanation import explain
from sqlkmeans.progress import Advance, Progress
from sqlkmeans.report.page import write_report
from support.shops import labels_of, make_shop

pytestmark = pytest.mark.spark

SHOP: dict[str, Any] = {
    "key": "customer_id", "features": ["income", "age", {"column": "city", "type": "category"}],
    "k": 4, "missing": "mean", "n_init": 3,
}  # fmt: skip


@pytest.fixture
def database() -> Iterator[Database]:
    """An empty DuckDB in memory."""
    with open_database("duckdb:///:memory:", create=True) as opened:
        yield opened


@pytest.fixture
def view(spark_session: Any) -> Iterator[str]:
    """The shop's customers as a view of Spark, in which the database has no part."""
    spark_session.createDataFrame(make_shop()).createOrReplaceTempView("lake_customer")
    yield "lake_customer"
    spark_session.catalog.dropTempView("lake_customer")


def definition(source: str, engine: str = "spark", **changes: Any) -> Segmentation:
    values = {"name": engine, "source": source, "target": f"dbo.{engine}", **SHOP, **changes}
    return Segmentation.create(engine=engine, **values)


def same_labels(database: Database, target: str = "dbo.spark") -> None:
    """As of the same rows in the database, by the local engine."""
    database.create_table("dbo.shop", make_shop(), "customer_id")
    pipeline.run(definition("dbo.shop", "local"), database)
    expected, found = labels_of(database, "dbo.local"), labels_of(database, target)
    assert found["customer_id"].equals(expected["customer_id"])
    assert found["segment_id"].equals(expected["segment_id"])


def test_a_view_is_clustered_assigned_and_told_of(
    view: str, database: Database, tmp_path: Path
) -> None:
    segmentation = definition(view)
    first = pipeline.run(segmentation, database)
    assert (first.rows, first.changed, first.engine) == (3_000, 3_000, "spark")
    assert pipeline.run(segmentation, database).changed == 0
    assert pipeline.assign(segmentation, database).changed == 0
    same_labels(database)
    page = write_report("spark", database, tmp_path / "page.html").file.read_text("utf-8")
    assert "Spark reads the source, so no customer is drawn" in page
    assert database.describe_table("dbo.spark")[0].type == "BIGINT"  # type: ignore[index]


def test_a_checkpoint_needs_a_folder(
    view: str, database: Database, spark_session: Any, tmp_path: Path
) -> None:
    segmentation = definition(view, spark={"keep": "checkpoint"})
    if spark_session.sparkContext.getCheckpointDir() is None:
        with pytest.raises(DefinitionError, match=r"allowed: spark\.checkpoint\.dir"):
            pipeline.run(segmentation, database)
    spark_session.sparkContext.setCheckpointDir(str(tmp_path))
    assert pipeline.run(segmentation, database).changed == 3_000
    assert list(tmp_path.iterdir())
    same_labels(database)


def test_labels_come_in_parts(
    view: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "PART_ROWS", 700)
    assert pipeline.run(definition(view), database).changed == 3_000
    same_labels(database)


def test_a_select_reads_some_of_them(view: str, database: Database) -> None:
    source = f"SELECT *, ARRAY(income) AS incomes FROM {view} WHERE `age` > 40"
    run = pipeline.run(definition(source, k=2), database)
    assert 0 < run.rows < 3_000
    with pytest.raises(DataError, match=r"feature incomes: its type is array<double>; allowed"):
        pipeline.run(definition(source, features=["incomes"]), database)


def test_parquet_is_read_by_its_path(tmp_path: Path, spark_session: Any) -> None:
    folder = tmp_path / "customers.parquet"
    folder.mkdir()
    rows = make_shop()
    for part, start in enumerate((0, 1_000)):
        parquet.write_table(rows.slice(start, 1_000 + 1_000 * part), folder / f"{part}.parquet")
    with open_database(f"duckdb:///{tmp_path / 'labels.duckdb'}", create=True) as database:
        pipeline.run(definition(folder.as_posix()), database)
        same_labels(database)


class WhenLabelled(Progress):
    """Does something once rows have been taken, and before their labels are looked at."""

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__()
        self._do = [do]

    @contextmanager
    def shown(self, name: str, total: int | None) -> Iterator[Advance]:
        if name == "assign" and self._do:
            self._do.pop()()
        yield lambda done: None


@pytest.mark.parametrize("keep", ["cache", "checkpoint"])
def test_a_source_that_has_other_rows_after_the_run_is_told_of(
    keep: str, database: Database, spark_session: Any, tmp_path: Path
) -> None:
    spark_session.sparkContext.setCheckpointDir(str(tmp_path / "kept"))
    folder = tmp_path / "customers.parquet"
    folder.mkdir()
    parquet.write_table(make_shop(500), folder / "1.parquet")
    more = WhenLabelled(lambda: parquet.write_table(make_shop(20), folder / "2.parquet"))
    segmentation = definition(folder.as_posix(), features=["income"], spark={"keep": keep})
    run = pipeline.run(segmentation, database, more)
    told = [one for one in run.warnings if one.startswith("the source had 500 rows when they were")]
    assert len(told) == (keep == "cache")
    assert run.rows == 500


def test_a_part_that_is_read_again_from_a_changed_source_is_not_published(
    database: Database, spark_session: Any, tmp_path: Path
) -> None:
    file = tmp_path / "customers.csv"
    lines = [f"{n},{n % 3 * 100 + n % 7}\n" for n in range(300)]
    file.write_text("".join(lines))

    def lose() -> None:
        file.write_text("".join(lines[:299]))
        spark_session.catalog.clearCache()

    source = f"SELECT CAST(_c0 AS bigint) AS id, CAST(_c1 AS double) AS x FROM csv.`{file}`"
    segmentation = definition(source, key="id", features=["x"], k=3)
    with pytest.raises(DataError, match=r"300 rows were kept and 299 have a label, because a part"):
        pipeline.run(segmentation, database, WhenLabelled(lose))


@pytest.mark.parametrize(
    "keys",
    [
        [f"k{n % 7}-{n}" for n in range(60)],
        [Decimal(n) / 4 for n in range(60)],
        [datetime(2026, 1, 1, 12, 30, n, 250_000) for n in range(60)],
        [bytes([n, 255]) for n in range(60)],
        pa.array(range(60), pa.uint32()),
    ],
    ids=["text", "decimal", "moment", "bytes", "unsigned"],
)
def test_keys_come_back_as_they_went(keys: Any, database: Database, spark_session: Any) -> None:
    rows = pa.table({"id": keys, "x": [n % 3 * 10.0 + n * n / 4_000 for n in range(60)]})
    database.create_table("dbo.things", rows, "id")
    found = []
    for engine in ("local", "spark"):
        segmentation = Segmentation.create(
            name=engine, source="dbo.things", key="id", features=["x"], k=3,
            target=f"dbo.{engine}", engine=engine,
        )  # fmt: skip
        run = pipeline.run(segmentation, database)
        typical = database.catalog.result("typical_customer", run.run_id)
        labels = labels_of(database, f"dbo.{engine}", "id")
        found.append((labels["id"], labels["segment_id"], [row["customer"] for row in typical]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "weights", [{}, {"sample_weight": "importance"}], ids=["plain", "weighted"]
)
def test_a_pass_by_numpy_is_a_pass_by_sql(
    weights: dict[str, str], view: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    for way, wide in (("sql", 1_000), ("numpy", 1)):
        monkeypatch.setattr(workspace, "WIDE", wide)
        run = pipeline.run(
            definition(view, sample_rows=500, target=f"dbo.{way}", name=way, **weights), database
        )
        passes.append(run.n_iter or 0)
    by_sql, by_numpy = labels_of(database, "dbo.sql"), labels_of(database, "dbo.numpy")
    assert by_sql["segment_id"].equals(by_numpy["segment_id"])
    np.testing.assert_allclose(by_sql["distance"], by_numpy["distance"], rtol=1e-9)
    assert passes[0] == passes[1]


def test_a_target_of_another_kind_of_key_is_refused(view: str, database: Database) -> None:
    pipeline.run(definition(view), database)
    source = f"SELECT CAST(customer_id AS string) AS customer_id, income, age, city FROM {view}"
    with pytest.raises(DataError, match=r"key customer_id: string in the source and BIGINT"):
        pipeline.run(definition(source), database)


def test_nothing_stays_behind_in_the_session(
    view: str, database: Database, spark_session: Any
) -> None:
    before = spark_session.conf.get("spark.sql.ansi.enabled")
    pipeline.run(definition(view), database)
    with pytest.raises(DataError):
        pipeline.run(definition(view, missing="error"), database)
    names = [name for _, name, _ in spark_session.sql("SHOW TABLES").collect()]
    assert names == [view]
    assert spark_session.sparkContext._jsc.getPersistentRDDs().size() == 0
    assert spark_session.conf.get("spark.sql.ansi.enabled") == before


def test_one_customer_is_explained(view: str, database: Database, spark_session: Any) -> None:
    pipeline.run(definition(view), database)
    customer = make_shop()["customer_id"][0].as_py()
    found = explain("spark", database, customer, spark=spark_session)
    assert found.segment.segment_id == found.published_segment_id


def test_a_session_is_for_spark_alone(view: str, database: Database, spark_session: Any) -> None:
    with pytest.raises(DefinitionError, match='a session given with engine = "local"'):
        pipeline.run(definition(view, "local"), database, spark=spark_session)
    assert pipeline.choose_k(
        definition(view, k="auto", k_max=4), database, spark=spark_session
    ).recommended_k
