"""What is asked of Spark, as texts: no Spark is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlglot

from sqlkmeans.database.source import Column
from sqlkmeans.database.spark import types
from sqlkmeans.database.spark.dialect import SparkDialect
from sqlkmeans.database.spark.sources import is_path, relation
from sqlkmeans.engines.pushdown.sql import brackets, training
from sqlkmeans.errors import DataError
from support.training_statements import CENTROIDS, FEATURES, make_layout, statements

GOLDEN = Path(__file__).parent / "golden" / "statements.sql"
#: Run with this variable, the test writes the file anew: look at the difference.
RECORD = "SQLKMEANS_RECORD"


def spark_statements() -> list[str]:
    """All but the first, whose source is T-SQL's, and quantiles by brackets."""
    layout = make_layout(SparkDialect())
    found = list(statements(layout))[1:]
    asked = [(feature, 0.5) for feature in FEATURES[:2]]
    for by_cluster in (False, True):
        values, names = brackets.values_query(
            layout, asked, transformed=False, table=training.LABELLED, by_cluster=by_cluster
        )
        ends = {
            cluster: [(1.5, 2.0), None] for cluster in range(len(CENTROIDS) if by_cluster else 1)
        }
        found += [
            brackets.bracket_query(layout, values, names, asked, 3_000, by_cluster=by_cluster),
            brackets.inside_query(layout, values, names, asked, ends, by_cluster=by_cluster),
        ]
    return found


def test_every_statement_of_a_run_is_what_it_was() -> None:
    text = ";\n\n".join(spark_statements()) + ";\n"
    if os.environ.get(RECORD):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("at_least", [1, 25])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_query_is_one_of_spark_sql(at_least: int, weighted: bool) -> None:
    layout = make_layout(SparkDialect(), at_least, weighted)
    queries = [text for text in list(statements(layout))[1:] if text.startswith("SELECT")]
    assert len(queries) > 30
    for query in queries:
        sqlglot.parse_one(query, read="spark")


def test_a_text_is_read_back_as_it_is() -> None:
    text = "O'Hara \\ ${x} \0 …"
    assert SparkDialect().literal(text) == r"'O\'Hara \\ ${x} \0 …'"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("lake.sales.customer", "`lake`.`sales`.`customer`"),
        ("delta.`/lake/customer`", "`delta`.`/lake/customer`"),
        ("/data/customers.parquet", "parquet.`/data/customers.parquet`"),
        ("SELECT * FROM lake.customer -- all", "(SELECT * FROM lake.customer -- all\n) AS source"),
    ],
)
def test_a_source_stands_after_from(source: str, text: str) -> None:
    assert relation(source) == text


def test_only_paths_are_spark_s_without_asking_the_database() -> None:
    assert [is_path(source) for source in (
        "parquet.`s3a://lake/customers`", "customers.parquet", "delta.`/lake/customer`",
        "delta.customer", "dbo.customer", "SELECT * FROM parquet.`/lake/customer`",
    )] == [True, True, True, False, False, False]  # fmt: skip


def test_a_file_that_spark_has_no_header_of_is_refused() -> None:
    with pytest.raises(DataError, match=r'customers\.csv: engine = "spark" reads Parquet'):
        relation("customers.csv")


@pytest.mark.parametrize(
    "source",
    [
        r"SELECT '\'', reflect('java.lang.System', 'exit') --'",
        "SELECT a[reflect('java.lang.System', 'exit')] FROM lake.customer",
    ],
)
def test_a_call_of_java_cannot_hide_behind_the_end_of_a_text_or_a_name(source: str) -> None:
    with pytest.raises(DataError, match="given in a SELECT for Spark; allowed: "):
        relation(source)


@pytest.mark.parametrize(
    ("name", "kind", "can_be_key", "can_be_category"),
    [
        ("bigint", "number", True, True),
        ("decimal(12,2)", "number", True, False),
        ("double", "number", False, False),
        ("varchar(20)", "text", True, True),
        ("boolean", "boolean", True, True),
        ("timestamp_ntz", "date", True, False),
        ("array<int>", "other", False, False),
        ("struct<a:int>", "other", False, False),
    ],
)
def test_a_type_says_what_can_be_done_with_a_column(
    name: str, kind: str, can_be_key: bool, can_be_category: bool
) -> None:
    assert types.column("c", name) == Column("c", name, kind, can_be_key, can_be_category)
