"""The scoring rule as one SELECT: DuckDB's equals the table row by row, the others parse."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import sqlglot
from pyarrow import csv

from sqlkmeans import pipeline
from sqlkmeans.cli.app import run_command
from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.database import Database, open_database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DefinitionError
from sqlkmeans.model import SegmentModel
from sqlkmeans.registry import load_model
from sqlkmeans.tsql.portable import DIALECTS, scoring_select
from support.tsql_files import GRAMMARS, check

N = 500
KEY = ["x1", "k1"]
FEATURES = [
    "income",
    {"column": "order", "transform": "log1p", "winsorize": [0.05, 0.95], "weight": 2.0},
    {"column": "city", "type": "category", "min_frequency": 0.2},
    {"column": "member", "type": "category"},
    "active",
    {"column": "joined", "type": "date", "transform": "log1p", "winsorize": [0.0, 1.0]},
]


def customers() -> pa.Table:
    """Customers with a key whose columns are called as steps of the SELECT are."""
    rng = np.random.default_rng(2)
    group = rng.integers(0, 3, N)

    def some(values: list[object], every: int) -> pa.Array:
        return pa.array([None if row % every == 0 else v for row, v in enumerate(values)])

    return pa.table(
        {
            "x1": [f"a{row % 7}" for row in range(N)],
            "k1": np.arange(N),
            "income": some((group * 30.0 + rng.normal(0, 4, N)).tolist(), 50),
            "order": np.exp(group + rng.normal(0, 1, N)),
            "city": some(["Oslo oslo O'Hara\\n Bodø rare".split()[i] for i in rng.choice(
                5, N, p=[0.3, 0.3, 0.3, 0.05, 0.05])], 30),
            "member": some((group == 1).tolist(), 40),
            "active": (group == 2),
            "joined": some([date(2020, 1, 1) + timedelta(days=int(2.0**d))
                            for d in rng.uniform(0, 11, N)], 60),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with open_database(":memory:", create=True) as opened:
        opened.create_table('shop."the customers"', customers(), "k1")
        yield opened


def segmentation(missing: str = "median") -> Segmentation:
    return Segmentation.create(
        name="customers", source='shop."the customers"', key=KEY, features=FEATURES, k=4,
        missing=missing, target=f"segments_{missing}", scaling="robust", outlier=0.05,
    )  # fmt: skip


def select(database: Database, dialect: str, missing: str = "median") -> str:
    defined = segmentation(missing)
    return scoring_select(
        "customers", load_model("customers", database), dialect, source=defined.source, key=KEY,
        booleans={"member", "active"},
    )  # fmt: skip


@pytest.mark.parametrize("missing", ["median", "skip"])
def test_the_select_of_duckdb_gives_the_published_label_of_every_row(missing: str) -> None:
    with open_database(":memory:", create=True) as database:
        database.create_table('shop."the customers"', customers(), "k1")
        pipeline.run(segmentation(missing), database)
        pipeline.rename("customers", database, 2, "it's 2")
        text = select(database, "duckdb", missing)
        target = segmentation().model_copy(update={"source": f"segments_{missing}"})
        columns = ["segment_id", "distance", "is_outlier"]
        with database.open_source(target, columns, in_order=True) as source:
            labels = {
                tuple(key.values()): tuple(label.values())
                for batch in source.batches
                for key, label in zip(batch.keys.to_pylist(), batch.features.to_pylist())
            }
        names = dict(zip((m := load_model("customers", database)).segment_ids, m.names))
    with duckdb.connect() as plain:
        plain.execute("CREATE SCHEMA shop")
        plain.register("rows", customers())
        plain.execute('CREATE TABLE shop."the customers" AS FROM rows')
        # As a statement, and as part of one.
        scored = plain.sql(text.rstrip().rstrip(";")).fetchall()
    assert len(scored) == N
    known = {(x1, k1): rest for x1, k1, *rest in scored if rest[0] is not None}
    assert known.keys() == labels.keys()
    assert (len(labels) < N) == (missing == "skip")
    assert [known[key][0] for key in labels] == [label for label, _, _ in labels.values()]
    assert [known[key][2] for key in labels] == pytest.approx([d for _, d, _ in labels.values()])
    assert [known[key][3] for key in labels] == [far for _, _, far in labels.values()]
    assert 0 < sum(known[key][3] for key in labels) <= 0.05 * len(labels)
    assert all(name == names.get(i) for _, _, i, name, *_ in scored)
    assert all(far is None for _, _, i, _, _, far in scored if i is None)


def test_a_missing_value_that_is_nan_is_missing() -> None:
    rows = pa.table({"id": [1, 2, 3, 4], "x": [1.0, 2.0, 9.0, float("nan")]})
    with open_database(":memory:", create=True) as database:
        database.create_table("c", rows, "id")
        defined = Segmentation.create(
            name="c", source="c", key="id", features=["x"], k=2, missing="skip", target="t"
        )
        pipeline.run(defined, database)
        text = scoring_select("c", load_model("c", database), "duckdb", source="c", key=["id"])
    with duckdb.connect() as plain:
        plain.register("c", rows)
        assert [row[1] for row in plain.sql(f"{text[:-2]} ORDER BY id").fetchall()] == [
            1, 1, 2, None
        ]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_is_one_select_that_parses(database: Database, dialect: str) -> None:
    pipeline.run(segmentation(), database)
    text = select(database, dialect)
    assert text.startswith(f"-- Segments of customers as one SELECT for {DIALECTS[dialect]}")
    if dialect == "tsql":
        assert {grammar: check(text, grammar) for grammar in GRAMMARS} == dict.fromkeys(
            GRAMMARS, ""
        )
        return
    (statement,) = sqlglot.parse(text, read=dialect, error_level=sqlglot.ErrorLevel.RAISE)
    assert isinstance(statement, sqlglot.exp.Select)
    names = ["X1", "K1"] if dialect == "snowflake" else ["x1", "k1"]
    assert statement.named_selects == [
        *names,
        "segment_id",
        "segment_name",
        "distance",
        "is_outlier",
    ]
    tables = {table.name for table in statement.find_all(sqlglot.exp.Table)}
    assert tables == {"the customers"}
    # What DuckDB alone has is not in the others.
    assert dialect == "duckdb" or "date_diff('day'" not in text
    assert "isnan" not in text.lower() or dialect == "duckdb"


def test_without_sqlglot_the_two_that_need_none_are_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run(segmentation(), database)
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    assert select(database, "duckdb")
    assert select(database, "tsql")
    with pytest.raises(DefinitionError, match=r"sqlkmeans\[dialects\]"):
        select(database, "spark")


def test_the_command_scores_the_file_or_the_table_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    csv.write_csv(customers(), "it's.csv")
    assert run_command(["run", "it's.csv", "-q"]) == 0
    capsys.readouterr()
    assert run_command(["export-sql", "it_s.toml", "--dialect", "duckdb"]) == 0
    scored = duckdb.sql(capsys.readouterr().out).fetchall()
    with duckdb.connect("it_s.duckdb") as made:
        published = made.sql("SELECT k1, segment_id FROM it_s_segment").fetchall()
    assert {row[0]: row[1] for row in scored} == dict(published)
    for arguments, words in (
        (["--dialect", "spark"], "name the table to score with --from"),
        (["--dialect", "oracle"], "dialect 'oracle' given; allowed: tsql, duckdb"),
        (["--from", "c"], "--from given; allowed: with --dialect"),
        (["--dialect", "spark", "--from", "a b"], "table: 'a b' given"),
    ):
        assert run_command(["export-sql", "it_s.toml", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert run_command(["export-sql", "it_s.toml", "--dialect", "spark", "--from", "a.c"]) == 0
    assert "FROM `a`.`c`" in capsys.readouterr().out


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "tsql"])
def test_texts_and_names_of_rows_stay_texts_and_names(dialect: str) -> None:
    odd = "a'b\\n\nc\t\"`${x}--/*"
    features = (
        PreparedFeature('ci"ty', "none", 1.0, 0.0, 1.0, None, "category", odd),
        PreparedFeature("x", "none", 1.0, 0.0, 1.0, None),
    )
    model = SegmentModel(
        Preparation(features, "none", "skip"), np.eye(2), (1, 2), (odd, "other")
    )  # fmt: skip
    text = scoring_select("n\n; DROP", model, dialect, source="t", key=["k"])
    assert text.splitlines()[0].startswith("-- Segments of n ; DROP as one SELECT")
    statement = sqlglot.parse_one(text, read=dialect)
    texts = {found.this for found in statement.find_all(sqlglot.exp.Literal) if found.is_string}
    assert texts == {odd, "other"}
    assert 'ci"ty' in {found.name for found in statement.find_all(sqlglot.exp.Column)}
