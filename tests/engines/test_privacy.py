"""With sample_rows = 0 only aggregates over min_group customers leave the database.

Every result set that the client fetches, over whatever connection, is listened to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.tables import RESULT_TABLES
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.explanation import explain
from sqlkmeans.report.page import write_report
from support.shops import labels_of, make_shop, native

MIN_GROUP = 25


@dataclass
class Heard:
    """One result set: the statement, the names of its columns, its rows."""

    statement: str
    columns: list[str]
    rows: list[tuple[Any, ...]]


@dataclass
class Listener:
    """Stands in for DuckDB's connection and remembers everything that is fetched over it."""

    native: Any
    heard: list[Heard] = field(default_factory=list)
    statement: str = ""

    def execute(self, statement: str, *arguments: Any) -> Listener:
        self.statement = statement
        self.native.execute(statement, *arguments)
        return self

    def sql(self, *_: Any) -> None:
        raise AssertionError("a way to fetch that nobody listens to")

    query = from_query = sql

    @property
    def description(self) -> Any:
        return self.native.description

    def _remember(self, rows: list[tuple[Any, ...]]) -> None:
        columns = [column[0] for column in self.native.description or []]
        self.heard.append(Heard(self.statement, columns, rows))

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.native.fetchall()
        self._remember(rows)
        return rows

    def fetchone(self) -> Any:
        row = self.native.fetchone()
        self._remember([] if row is None else [row])
        return row

    def fetchmany(self, *arguments: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.native.fetchmany(*arguments)
        self._remember(rows)
        return rows

    def fetchnumpy(self) -> dict[str, Any]:
        columns: dict[str, Any] = self.native.fetchnumpy()
        self._remember(list(zip(*(values.tolist() for values in columns.values()))))
        return columns

    def _table(self, *arguments: Any) -> pa.Table:
        table = self.native.to_arrow_table(*arguments)
        self._remember([tuple(row.values()) for row in table.to_pylist()])
        return table

    to_arrow_table = fetch_arrow_table = arrow = _table

    def to_arrow_reader(self, *arguments: Any) -> pa.RecordBatchReader:
        return self._table().to_reader()

    fetch_record_batch = to_arrow_reader

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("fetch", "to_", "df", "pl", "arrow", "torch", "tf")):
            raise AssertionError(f"a way to fetch that nobody listens to: {name}")
        return getattr(self.native, name)


@pytest.fixture
def shop() -> pa.Table:
    """Three customers of a city of their own, and weights that tell who is who."""
    table = make_shop(2_500)
    rng = np.random.default_rng(1)
    cities = table["city"].to_pylist()
    cities[:3] = ["Hidden"] * 3
    weights = pa.array(rng.uniform(0.5, 1.5, len(table)))
    table = table.set_column(table.column_names.index("city"), "city", pa.array(cities))
    return table.set_column(table.column_names.index("importance"), "importance", weights)


@pytest.fixture
def listened(shop: pa.Table) -> Iterator[tuple[Database, Listener]]:
    with open_database("duckdb:///:memory:", create=True) as database:
        listener = Listener(native(database))
        database._connection.native = listener  # type: ignore[attr-defined]
        database.create_table("dbo.shop", shop, "customer_id")
        database.install()
        listener.heard.clear()
        yield database, listener
        database._connection.native = listener.native  # type: ignore[attr-defined]


def definition(**changes: Any) -> Segmentation:
    values: dict[str, Any] = {
        "name": "shop", "source": "dbo.shop", "key": "customer_id", "target": "dbo.shop_segment",
        "features": ["income", {"column": "orders", "transform": "log1p"}, "age"], "k": 4,
        "missing": "median", "n_init": 3, "engine": "pushdown", "sample_rows": 0,
        "min_group": MIN_GROUP, **changes,
    }  # fmt: skip
    return Segmentation.create(**values)


CASES: dict[str, dict[str, Any]] = {
    "standard scaling, medians for what is missing": {},
    "robust scaling, rows with missing values left out": {"scaling": "robust", "missing": "skip"},
    "winsorised": {"winsorize": [0.02, 0.98], "missing": "mean"},
    "weighted, robust": {"sample_weight": "importance", "scaling": "robust"},
    "weighted, winsorised to the extremes": {"sample_weight": "importance", "winsorize": [0, 1]},
    "limits of outliers": {"outlier": 0.02},
    "categories and dates": {
        "features": ["income", {"column": "city", "type": "category", "min_frequency": 0.0},
                     {"column": "joined", "type": "date"}],
        "missing": "mean",
    },
    "columns that are only described": {
        "features": ["income", "orders"], "profile": ["age", "city", "joined", "importance"],
        "missing": "mean",
    },
}  # fmt: skip

#: Tables of the temporary kind, which every query about customers asks.
OURS = ("sqlkmeans_rows", "sqlkmeans_labelled", "sqlkmeans_cells")


def secrets(shop: pa.Table) -> set[Any]:
    """Values that tell who a customer is: keys and measurements that nobody shares."""
    values: set[Any] = set(shop["customer_id"].to_pylist())
    for column in ("income", "orders", "age", "importance"):
        values |= set(shop[column].drop_null().to_pylist())
    return values | {"Hidden"}


def leaks(heard: list[Heard], secret: set[Any]) -> list[Heard]:
    """Result sets with a customer's own key or measurement in them."""
    return [h for h in heard if any(value in secret for row in h.rows for value in row)]


@pytest.mark.parametrize("case", CASES)
def test_no_customers_row_leaves_only_aggregates_over_min_group(
    case: str, listened: tuple[Database, Listener], shop: pa.Table
) -> None:
    database, listener = listened
    segmentation = definition(**CASES[case])
    pipeline.run(segmentation, database)
    pipeline.run(segmentation, database)  # again, to compare with what is published
    pipeline.assign(segmentation, database)
    pipeline.choose_k(segmentation, database)
    pipeline.run(definition(**CASES[case], k="auto", k_max=5, min_share=0.03), database)
    only_aggregates_leave(listener.heard, shop)


def test_small_numbers_of_outliers_are_not_told(
    listened: tuple[Database, Listener],
) -> None:
    database, _ = listened
    told: list[int] = []
    for share in (0.01, 0.1):
        result = pipeline.run(definition(outlier=share), database)
        told += [segment.outliers for segment in result.segments if segment.outliers is not None]
        flagged = sum(labels_of(database, "dbo.shop_segment")["is_outlier"].to_pylist())
        assert 0 < flagged < 2 * share * 2_500 + 4 * MIN_GROUP
    assert told
    assert min(told) >= MIN_GROUP


def test_a_guard_that_refuses_reads_no_customer_either(
    listened: tuple[Database, Listener], shop: pa.Table
) -> None:
    database, listener = listened
    guarded = definition(guard={"action": "refuse"})
    pipeline.run(guarded, database)
    listener.native.execute("UPDATE dbo.shop SET income = income / 10 WHERE customer_id % 3 = 0")
    for job in (pipeline.run, pipeline.assign):
        with pytest.raises(DataError, match="income: drifted"):
            job(guarded, database)
    only_aggregates_leave(listener.heard, shop)


def only_aggregates_leave(listened_to: list[Heard], shop: pa.Table) -> None:
    """Over min_group customers, of the tables of a run; of other tables only counts."""
    assert not leaks(listened_to, secrets(shop))
    about_customers = [h for h in listened_to if any(name in h.statement for name in OURS)]
    answered = [h for h in about_customers if h.columns != ["Count"] and h.rows]
    assert len(answered) > 20
    for heard in answered:
        assert heard.columns[0] == "customers", heard.statement
        assert all(row[0] >= MIN_GROUP for row in heard.rows), heard
    # A bin or a level that has customers has enough of them.
    for heard in answered:
        if "SUM(CASE WHEN o1 IS NULL THEN 1" in heard.statement:
            counts = [value for row in heard.rows for value in row if value is not None]
            assert min(counts) >= MIN_GROUP, heard
    only_counts_leave(listened_to)
    # What SQLAlchemy fetches is heard as well.
    assert any("FROM sqlkmeans.segmentation" in h.statement for h in listened_to)


def only_counts_leave(heard: list[Heard]) -> None:
    """Of the source, the labels and the segment table."""
    tables = ("dbo.shop", '"dbo"."shop', "sqlkmeans_staging", "sqlkmeans_change")
    about = [
        h for h in heard
        if h.rows and any(name in h.statement for name in tables)
        and not any(name in h.statement for name in OURS)
        and not h.statement.startswith("DESCRIBE")
    ]  # fmt: skip
    assert about
    for one in about:
        if "GROUP BY" in one.statement:  # the overlap: segment, cluster, customers
            assert all(row[2] >= MIN_GROUP for row in one.rows), one
        else:  # the number of rows that there are or that were written
            assert all(len(row) == 1 and isinstance(row[0], int) for row in one.rows), one


def test_with_a_sample_the_listener_hears_the_rows_of_the_sample(
    listened: tuple[Database, Listener], shop: pa.Table
) -> None:
    database, listener = listened
    features = ["income", "orders"]
    pipeline.run(
        definition(sample_rows=500, scaling="none", features=features, missing="error"), database
    )
    found = leaks(listener.heard, secrets(shop))
    rows = [h for h in found if h.columns == ["z1", "z2"]]
    # To start on, and to describe segments by: the same customers.
    assert [len(h.rows) for h in rows] == [500, 500]
    assert rows[0].rows == rows[1].rows
    typical = [h for h in found if h.columns == ["k1", "cluster", "distance"]]
    assert [len(h.rows) for h in typical] == [12]
    assert all(h.columns[0] == "customers" for h in found if h not in [*rows, *typical])


def test_what_is_stored_has_no_single_customers_value(
    listened: tuple[Database, Listener], shop: pa.Table
) -> None:
    database, _ = listened
    result = pipeline.run(definition(), database)
    for row in database.catalog.result("segment_feature", result.run_id):
        assert row["min"] is None
        assert row["max"] is None
        assert row["median"] is not None
    for row in database.catalog.result("feature_bin", result.run_id):
        assert row["customers"] == 0 or row["customers"] >= MIN_GROUP
    assert database.catalog.result("typical_customer", result.run_id) == []
    stored = [
        tuple(row.values())
        for table in RESULT_TABLES
        for row in database.catalog.result(table, result.run_id)
    ]
    assert not leaks([Heard("", [], stored)], secrets(shop))


def test_a_report_reads_no_customer_either(
    listened: tuple[Database, Listener], shop: pa.Table, tmp_path: Path
) -> None:
    database, listener = listened
    pipeline.run(definition(), database)
    write_report("shop", database, tmp_path / "report.html")
    assert not leaks(listener.heard, secrets(shop))
    assert "without samples" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_segment_smaller_than_min_group_is_refused() -> None:
    rng = np.random.default_rng(0)
    far = np.array([1e6, 1.1e6, 1.2e6])
    income = np.concatenate([rng.normal(10, 1, 200), rng.normal(20, 1, 200), far])
    rows = pa.table({"id": np.arange(403), "income": income})
    with open_database("duckdb:///:memory:", create=True) as database:
        database.create_table("dbo.shop", rows, "id")
        with pytest.raises(DataError, match="fewer customers than min_group = 25"):
            pipeline.run(definition(key="id", features=["income"], k=3), database)
        assert database.describe_table("dbo.shop_segment") is None


def test_too_few_rows_and_too_few_groups_are_refused() -> None:
    rows = pa.table({"id": np.arange(60), "income": np.random.default_rng(0).normal(size=60)})
    with open_database("duckdb:///:memory:", create=True) as database:
        database.create_table("dbo.shop", rows, "id")
        with pytest.raises(DataError, match="k = 4 needs at least 4 groups of min_group = 25"):
            pipeline.run(definition(key="id", features=["income"]), database)
        with pytest.raises(DataError, match="fewer than min_group = 100"):
            pipeline.run(definition(key="id", features=["income"], min_group=100), database)


def test_definitions_that_would_let_a_customers_value_out_are_refused() -> None:
    with pytest.raises(DefinitionError, match="single customers' and stay in the database"):
        definition(scaling="minmax")
    with pytest.raises(DefinitionError, match='engine = "local" reads all of them'):
        definition(engine="local")


def test_choosing_k_and_explaining_a_customer_read_no_row_where_none_may_leave(
    listened: tuple[Database, Listener], shop: pa.Table
) -> None:
    database, listener = listened
    pipeline.run(definition(), database)
    with pytest.raises(DefinitionError, match="read that customer's row"):
        explain("shop", database, [str(shop["customer_id"][0])])
    with pytest.raises(DefinitionError, match="sample_rows = 0 lets none leave the database"):
        pipeline.choose_k(definition(engine="in_database"), database)
    assert not leaks(listener.heard, secrets(shop))
