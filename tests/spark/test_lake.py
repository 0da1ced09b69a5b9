"""Labels in a table of Spark's catalog, beside the same in a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sqlkmeans import explain, export_labels, pipeline, write_report
from sqlkmeans.database import Database, open_database, open_places
from sqlkmeans.database.duckdb.store import DuckDBStore
from sqlkmeans.database.spark.dialect import backquote
from sqlkmeans.database.spark.lake_tables import LakeTables
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError
from sqlkmeans.report.facts import read_facts
from support.shops import make_shop, native

pytestmark = pytest.mark.spark

SCHEMA = "spark_catalog.sqlkmeans_lake"
TARGET = f"{SCHEMA}.segment"
LABEL = "customer_id, segment_id, distance, is_outlier, run_id"
AWKWARD = "customer's `id`"
HISTORY = "customer_id, segment_id, distance, is_outlier, run_id, valid_to IS NULL AS holds"


def definition(target: str, **changes: Any) -> Segmentation:
    values: dict[str, Any] = {
        "name": "shop", "source": "lake_customer", "key": "customer_id",
        "features": ["income", "orders"], "k": 4, "n_init": 2, "outlier": 0.05,
        "target": target, **changes,
    }  # fmt: skip
    return Segmentation.create(**{"engine": "spark", **values})


def stamped(customers: pa.Table, stamps: Sequence[int]) -> pa.Table:
    """Customers with a number that grows when one of them changes."""
    return customers.append_column("stamp", pa.array(stamps, pa.int64()))


@dataclass
class Lake:
    """A schema of Spark's, and customers who change from run to run."""

    session: Any
    customers: pa.Table = field(default_factory=lambda: stamped(make_shop(600), [1] + [0] * 599))
    key: str = "customer_id"

    def show(self) -> None:
        """Let runs see the customers as they are now."""
        named = self.customers.rename_columns([self.key, *self.customers.column_names[1:]])
        self.session.createDataFrame(named).createOrReplaceTempView("lake_customer")

    def change(self, seed: int) -> None:
        """Forty have another income, thirty leave, twenty come."""
        rng = np.random.default_rng(seed)
        income = self.customers["income"].to_numpy().copy()
        stamp = self.customers["stamp"].to_numpy().copy()
        others = rng.choice(len(income), 40, replace=False)
        income[others], stamp[others] = 90_000 + seed, seed + 1
        there = self.customers.drop_columns("stamp").set_column(1, "income", pa.array(income))
        there = stamped(there, stamp).slice(30)
        come = stamped(make_shop(20, seed), [seed + 1] * 20)
        keys = pa.array(np.arange(20) + 9_000_000_000 + 1_000 * seed)
        self.customers = pa.concat_tables([there, come.set_column(0, "customer_id", keys)])
        self.show()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query of Spark."""
        return [tuple(row) for row in self.session.sql(query).collect()]

    def labels(self) -> list[tuple[Any, ...]]:
        """What a reader of the target sees."""
        columns = LABEL.replace("customer_id", backquote(self.key))
        return self.rows(f"SELECT {columns} FROM {TARGET} ORDER BY 1")

    def tables(self) -> list[str]:
        """What is in the schema."""
        listed = self.rows(f"SHOW TABLES IN {SCHEMA}")
        return sorted(name for _, name, temporary in listed if not temporary)


@pytest.fixture
def lake(spark_session: Any, tmp_path: Path) -> Iterator[Lake]:
    spark_session.sql(f"CREATE DATABASE {SCHEMA} LOCATION '{(tmp_path / 'lake').as_uri()}'")
    opened = Lake(spark_session)
    opened.show()
    yield opened
    spark_session.catalog.dropTempView("lake_customer")
    spark_session.sql(f"DROP DATABASE {SCHEMA} CASCADE")


@pytest.fixture
def database() -> Iterator[Database]:
    """An empty DuckDB in memory."""
    with open_database("duckdb:///:memory:", create=True) as opened:
        yield opened


@pytest.fixture
def other() -> Iterator[Database]:
    """Another one."""
    with open_database("duckdb:///:memory:", create=True) as opened:
        yield opened


def of_duckdb(database: Database, columns: str, suffix: str = "") -> list[tuple[Any, ...]]:
    query = f"SELECT {columns} FROM dbo.segment{suffix} ORDER BY customer_id, run_id"
    return rounded(native(database).execute(query).fetchall())


def rounded(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows whose floats two engines can agree on."""
    return [tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in rows]


def counted(database: Database) -> list[tuple[Any, ...]]:
    """What each run changed."""
    return database.catalog.select(
        "SELECT run_id, kind, arrived, moved, departed, written FROM sqlkmeans.run "
        "WHERE status = 'published' ORDER BY run_id"
    )


def test_labels_names_and_history_are_those_of_a_table_in_the_database(
    lake: Lake, database: Database, other: Database, tmp_path: Path
) -> None:
    segmentation = definition(TARGET)
    local = definition("dbo.segment", source="dbo.customer", engine="local")

    def both(work: Callable[[Segmentation, Database], object]) -> None:
        """Do the same in both, and find the same."""
        other.create_table("dbo.customer", lake.customers, "customer_id", replace=True)
        work(local, other)
        work(segmentation, database)
        assert counted(database) == counted(other)
        assert rounded(lake.labels()) == of_duckdb(other, LABEL)
        history = lake.rows(f"SELECT {HISTORY} FROM {TARGET}_history ORDER BY 1, run_id")
        assert rounded(history) == of_duckdb(other, HISTORY, "_history")
        named = lake.rows(f"SELECT {LABEL}, segment_name FROM {TARGET}_named ORDER BY 1")
        assert rounded(named) == of_duckdb(other, f"{LABEL}, segment_name", "_named")

    both(pipeline.run)
    lake.change(1)
    both(pipeline.run)
    there = [
        "segment", "segment__changes", "segment__run_1", "segment__run_2", "segment_history",
        "segment_named",
    ]  # fmt: skip
    assert lake.tables() == there
    # Nobody moved; distances that hardly changed were left, and are exact now.
    both(pipeline.assign)
    assert lake.tables() == [*there[:2], "segment__run_2", "segment__run_3", *there[4:]]
    given = dict(lake.rows(f"SELECT DISTINCT run_id, UNIX_MICROS(assigned_at) FROM {TARGET}"))
    published = database.catalog.select("SELECT run_id, EPOCH_US(published_at) FROM sqlkmeans.run")
    assert set(given) == {1, 2}
    assert given.items() <= dict(published).items()

    key, segment_id = lake.labels()[0][:2]
    with open_places(segmentation, database, lake.session) as (in_lake, sources):
        facts = read_facts(in_lake, "shop", sources, samples=True, failed=False)
        for asked in (
            lambda labels, of: labels.movement(of, 1, 2),
            lambda labels, of: labels.movement(of, 1, 3),
            lambda labels, of: rounded([one[1:] for one in labels.farthest(of, 5)]),
            lambda labels, of: labels.segment_of(of, [str(key)]),
        ):
            assert asked(in_lake.labels, segmentation) == asked(other.labels, local)
    assert facts.sample.rows is not None
    assert facts.sample.rows.num_rows == len(lake.labels()) == 590
    assert explain("shop", database, key, spark=lake.session).published_segment_id == segment_id
    written = write_report("shop", database, tmp_path / "page.html")
    page = written.file.read_text(encoding="utf-8")
    assert "`spark_catalog`.`sqlkmeans_lake`.`segment_history`" in page
    assert "no session is given" in page
    with pytest.raises(DefinitionError, match="write a file of them there"):
        export_labels("shop", database, tmp_path / "labels.csv")

    with pytest.raises(DataError, match="no session is given: allowed: spark=…"):
        pipeline.rollback("shop", database, 1)
    pipeline.rollback("shop", other, 1)
    both(lambda of, where: of.lake_target and pipeline.rollback(
        "shop", where, 1, spark=lake.session
    ))  # fmt: skip
    assert len(lake.labels()) == 600
    # No key is in the database but those of typical customers.
    assert native(database).execute("SHOW ALL TABLES").fetchall()
    assert "customer_id" not in str(native(database).execute("SHOW ALL TABLES").fetchall())


class Killed(BaseException):
    """As if the process had ended here."""


def test_a_run_that_ends_anywhere_leaves_labels_whole_and_the_next_one_mends(
    lake: Lake, database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object, **__: object) -> None:
        raise Killed

    def no_views(self: LakeTables, *_: object) -> None:
        self.session.sql("CREATE OR REPLACE VIEW nowhere.at_all AS SELECT 1 AS one")

    lake.key = AWKWARD
    lake.show()
    segmentation = definition(TARGET, key=AWKWARD, changed_by="stamp")
    local = definition("dbo.segment", source="dbo.customer", engine="local", changed_by="stamp")
    other.create_table("dbo.customer", lake.customers, "customer_id")
    for one, where in ((segmentation, database), (local, other)):
        pipeline.run(one, where)
    before = lake.labels()
    for seed, (owner, name) in enumerate(
        [(LakeTables, "fill"), (DuckDBStore, "publish_elsewhere")], start=1
    ):
        lake.change(seed)
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, ended)
            # Nobody records how a killed run ended.
            patched.setattr(DuckDBStore, "fail", lambda *_: None)
            with pytest.raises(Killed):
                pipeline.assign(segmentation, database)
        assert lake.labels() == before
        assert f"segment__run_{seed + 1}" in lake.tables()
    assert (3,) in lake.rows(f"SELECT DISTINCT run_id FROM {TARGET}__changes")

    # What was published is shown as a run begins; what this one publishes is not.
    shows = iter([LakeTables.show, no_views])
    with monkeypatch.context() as patched:
        patched.setattr(LakeTables, "show", lambda *given: next(shows)(*given))
        with pytest.raises(DatabaseError, match=r"run 4 is published, and its views were not all"):
            pipeline.assign(segmentation, database)
    assert lake.labels() == before
    assert "segment__run_3" not in lake.tables()

    # Nothing is left to change, and nothing is written.
    assert pipeline.assign(segmentation, database).changed == 0
    assert [name for name in lake.tables() if "__run_" in name] == [
        "segment__run_1", "segment__run_4",
    ]  # fmt: skip
    labels = lake.labels()
    assert labels != before
    # As if nothing had happened, and by looking at what changed alone.
    other.create_table("dbo.customer", lake.customers, "customer_id", replace=True)
    pipeline.assign(local, other)
    assert [row[:2] for row in labels] == of_duckdb(other, "customer_id, segment_id")
    for where, run_id in ((database, 4), (other, 2)):
        row = where.catalog.run(run_id) or {}
        assert "those that changed since run 1" in row["warnings"]
        assert counted(where)[1][2:] == counted(other)[1][2:]
    held = lake.rows(f"SELECT * FROM {TARGET}_history WHERE valid_to IS NULL ORDER BY 1")
    assert [row[:2] for row in held] == [row[:2] for row in labels]
    assert lake.rows(f"SELECT DISTINCT run_id FROM {TARGET}__changes ORDER BY 1") == [(1,), (4,)]
    # What is in Spark's catalog stays, and is no other database's.
    pipeline.drop("shop", database, drop_target=True)
    assert lake.labels() == labels
    with pytest.raises(DataError, match="segment_history` exists, and no run of shop in"):
        pipeline.run(segmentation, database)


def test_what_is_published_stays_whatever_the_definition_says_next(
    lake: Lake, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "customers.parquet"
    customers = lake.customers.set_column(2, "distance", lake.customers["orders"])
    unnamed = pa.array([None, *range(1, 600)], pa.int64())
    pq.write_table(customers.append_column("unnamed", unnamed), path)
    changes: dict[str, Any] = {"source": path.as_posix(), "features": ["income", "distance"]}
    # A run that failed by other keys leaves nothing that the next one cannot use.
    with pytest.raises(DataError, match="unnamed"):
        pipeline.run(definition(TARGET, key="unnamed", **changes), database)
    segmentation = definition(TARGET, **changes)
    pipeline.run(segmentation, database)
    labels = lake.labels()
    # Spark takes names that differ in case for one.
    pipeline.run(definition(TARGET.replace("segment", "Segment"), **changes), database)
    assert [row[2:] for row in counted(database)] == [(600, 0, 0, 600), (0, 0, 0, 0)]
    assert lake.labels() == labels
    assert lake.rows(f"SELECT DISTINCT run_id FROM {TARGET}__changes") == [(2,)]

    with open_places(segmentation, database, lake.session) as (in_lake, sources):
        drawn = read_facts(in_lake, "shop", sources, samples=True, failed=False).sample.rows
    assert drawn is not None
    assert drawn.column_names == ["income", "distance", "segment_id"]
    page = write_report("shop", database, tmp_path / "page.html").file.read_text(encoding="utf-8")
    assert f"FROM parquet.`{path.as_posix()}` AS customer" in page

    # Nor is a key cut to the type that it had.
    exact = pa.decimal128(20, 1)
    pq.write_table(
        customers.set_column(0, "customer_id", customers["customer_id"].cast(exact)), path
    )
    with pytest.raises(
        DataError, match=r"key customer_id bigint, and now it is .* decimal\(20,1\)"
    ):
        pipeline.run(segmentation, database)
    assert lake.labels() == labels


def test_a_target_that_cannot_be_is_told_before_rows_are_read(
    lake: Lake, database: Database, duckdb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problems(target: str = TARGET, **changes: Any) -> str:
        with pytest.raises((DataError, DefinitionError)) as told:
            pipeline.run(definition(target, **changes), database)
        return "\n".join(told.value.problems)

    assert "spark_catalog.nowhere.segment: Spark cannot look into its schema" in problems(
        "spark_catalog.nowhere.segment"
    )
    assert "nowhere.of.segment: Spark cannot look into its schema" in problems("nowhere.of.segment")
    database.create_table("dbo.shop", make_shop(100), "customer_id")
    assert "duckdb:///:memory: has the source; allowed: a source that Spark reads" in problems(
        source="dbo.shop"
    )
    assert "whose history is only ever appended to" in problems(history_days=30)
    # What the database knew, no process after this one would find.
    with (
        open_database(duckdb_url, create=True) as stays,
        pytest.raises(DataError, match=r"own catalog is in memory here .* enableHiveSupport\(\)"),
    ):
        pipeline.run(definition(TARGET), stays)
    with monkeypatch.context() as patched:
        for name in ("run_inside", "run_script", "self_test"):
            patched.setattr(type(database), name, lambda *_: None, raising=False)
        assert "duckdb:///:memory: publishes labels itself; allowed: a target of two" in problems()
    # Somebody else's table with just these columns, and a view beside the target.
    lake.session.sql(
        f"CREATE VIEW {TARGET} AS SELECT customer_id, 1 AS segment_id, 1e0 AS distance, "
        "false AS is_outlier, 1L AS run_id, current_timestamp() AS assigned_at "
        f"FROM VALUES (7L) AS customer(customer_id)"
    )
    lake.session.sql(f"CREATE TABLE {TARGET}__changes (one int) USING parquet")
    told = problems()
    for name in ("segment", "segment__changes"):
        assert (
            f"`spark_catalog`.`sqlkmeans_lake`.`{name}` exists, and no run of shop in "
            "duckdb:///:memory: made it; name another target, or drop it"
        ) in told
    assert database.catalog.select("SELECT COUNT(*) FROM sqlkmeans.run") == [(0,)]
    assert lake.labels()[0][0] == 7
    # What this catalog takes no table of is told before rows are read, but in a run.
    with pytest.raises(DatabaseError, match=r"target .*a segment\]: .* not a valid name"):
        pipeline.run(definition(f"{SCHEMA}.[a segment]"), database)

    # Nor is a table ours that somebody made after it was looked for.
    def overtaken(self: LakeTables, *_: object) -> None:
        self.execute(f"CREATE TABLE {self.changes} (run_id bigint) USING parquet")

    monkeypatch.setattr(LakeTables, "create_changes", overtaken)
    with pytest.raises(DataError, match="`late__changes` exists, and no run of shop"):
        pipeline.run(definition(f"{SCHEMA}.late"), database)
