"""The statements that train in a database: T-SQL by its grammar, and their size."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from tsql_files import GRAMMARS, check

from sqlkmeans.clustering.assignment import assign
from sqlkmeans.clustering.preparation import PreparedFeature
from sqlkmeans.clustering.rules import Interval
from sqlkmeans.tsql import (
    training,
    training_description,
    training_profile,
    training_seeds,
    training_statistics,
)
from sqlkmeans.tsql.training import Layout
from sqlkmeans.tsql.training_dialect import (
    MOST_TERMS,
    DuckDBDialect,
    SQLServerDialect,
    TrainingDialect,
)

OLD, NEW = SQLServerDialect(), SQLServerDialect(least=True)
FABRIC = SQLServerDialect(least=True, columnstore=False)
DIALECTS = {"2016": OLD, "2022": NEW, "Fabric": FABRIC}
CENTROIDS = np.random.default_rng(0).normal(size=(4, 5))
FEATURES = [
    PreparedFeature("income", "log1p", 2.0, 1.5, 0.5, 3.25),
    PreparedFeature("age", "none", 1.0, 40.0, 12.0, None, low=18.0, high=90.0),
    PreparedFeature("city", "none", 1.0, 0.2, 0.7, None, "category", "O'Hara"),
    PreparedFeature("city", "none", 1.0, 0.8, 0.7, None, "category", None),
    PreparedFeature("joined", "none", 1.0, 900.0, 100.0, None, "date", reference_date="2026-01-31"),
]


def make_layout(dialect: TrainingDialect, at_least: int = 1, weighted: bool = False) -> Layout:
    number = dialect.float_type
    return Layout(
        dialect, ("bigint", "nvarchar(40) COLLATE Latin1_General_CI_AS"),
        ("income", "age", "city", "joined"), (number, number, "nvarchar(101)", "date"),
        weighted, at_least,
    )  # fmt: skip


def statements(layout: Layout) -> Iterator[str]:
    """Every statement of a run."""
    numbers, origin = FEATURES[:2], CENTROIDS[0]
    columns = ["[id]", "[shop]", "CAST([income] AS float)", "CAST([age] AS float)", "[city]",
               "[joined]", *["[w]"] * layout.weighted]  # fmt: skip
    yield from training.take_rows(layout, "[dbo].[customer] AS source", columns)
    yield training_statistics.key_query(layout)
    yield training_statistics.check_query(layout, ["income", "age"])
    for fitted in (False, True):
        yield training_statistics.count_query(layout, fitted=fitted)
    yield training_statistics.skip_rows(layout)
    yield training_statistics.range_query(layout, numbers)
    yield training_statistics.moment_query(layout, FEATURES)
    yield training_statistics.extreme_query(layout, FEATURES)
    yield training_statistics.distinct_query(layout, numbers)
    yield training_statistics.level_query(layout, "city", 20, 100)
    yield training_statistics.level_summary_query(layout, "city")
    yield training_statistics.lacking_query(layout, "city")
    for transformed in (False, True):
        yield training_statistics.quantile_query(layout, numbers[0], 0.25, transformed=transformed)
    if layout.weighted:
        yield training_statistics.weighted_quantile_query(layout, numbers[0], 0.25)
    for share in (0.02, 1.0):
        yield training_seeds.sample_query(layout, FEATURES, 1000, share, 7)
        yield from training_seeds.first_cell(layout, FEATURES, 1000, share, 7)
    yield training_seeds.some_distinct_query(layout, FEATURES, 5)
    yield from training_seeds.split_cells(layout, FEATURES, 0)
    yield training_seeds.cell_query(layout, FEATURES, 1)
    yield training.pass_query(layout, FEATURES, CENTROIDS, origin)
    yield training.far_query(layout, FEATURES, CENTROIDS, 10)
    yield from training.label_rows(layout, FEATURES, CENTROIDS)
    yield training.staged_query(layout, ["customer ]id", "shop"], [3, 0, 1, 2])
    yield training_profile.size_query(layout)
    yield training_profile.spread_query(layout, FEATURES)
    yield training_profile.mean_query(layout, FEATURES)
    for by_cluster in (False, True):
        yield training_profile.profile_query(layout, FEATURES, origin, by_cluster=by_cluster)
        yield training_statistics.quantile_query(
            layout, numbers[0], 0.5, table=training.LABELLED, by_cluster=by_cluster
        )
    for table in (training.ROWS, training.LABELLED):
        yield training_profile.silhouette_query(layout, FEATURES, CENTROIDS, table)
    yield training_seeds.sample_query(layout, FEATURES, 1000, 0.02, 7, table=training.LABELLED)
    for edges in ([], [18.5], [18.0, 1e-7, 65.0]):
        yield training_description.range_count_query(layout, numbers[1], edges)
    yield training_description.level_count_query(layout, FEATURES[2:4])
    yield training_description.group_query(layout, numbers[0], 20)
    rules = {0: {0: Interval(3.5, inf)}, 2: {2: Interval(0.5, inf), 1: Interval(18.0, 1e22)}}
    yield training_description.rule_query(layout, FEATURES, rules)
    yield training_description.typical_query(layout, 3)
    yield training.drop(layout, training.ROWS)


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("at_least", [1, 10], ids=["open", "closed"])
@pytest.mark.parametrize("name", DIALECTS)
def test_every_statement_is_t_sql(name: str, at_least: int, weighted: bool, grammar: str) -> None:
    layout = make_layout(DIALECTS[name], at_least, weighted)
    text = ";\nGO\n".join(text.rstrip(";") for text in statements(layout)) + ";\n"
    assert check(text, grammar) == ""


def wide(
    dialect: TrainingDialect, k: int, n_features: int
) -> tuple[Layout, list[PreparedFeature], npt.NDArray[np.float64]]:
    names = tuple(f"f{j}" for j in range(n_features))
    layout = Layout(dialect, ("bigint",), names, (dialect.float_type,) * n_features)
    features = [PreparedFeature(name, "none", 1.0, 0.5, 2.0, None) for name in names]
    return layout, features, np.random.default_rng(0).normal(size=(k, n_features))


@pytest.mark.parametrize("dialect", [OLD, NEW, DuckDBDialect()], ids=["2016", "2022", "DuckDB"])
def test_a_pass_grows_as_k_times_the_features(dialect: TrainingDialect) -> None:
    def size(k: int, n_features: int) -> int:
        layout, features, centroids = wide(dialect, k, n_features)
        return len(training.pass_query(layout, features, centroids, centroids[0]))

    assert size(50, 50) < 1.1 * 100 * size(5, 5)
    assert size(50, 50) < 60 * 2_500


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("dialect", [OLD, NEW], ids=["2016", "2022"])
def test_50_features_and_50_segments_stay_within_the_servers_limits(
    dialect: SQLServerDialect, grammar: str
) -> None:
    layout, features, centroids = wide(dialect, 50, 50)
    texts = [
        training.pass_query(layout, features, centroids, centroids[0]),
        *training.label_rows(layout, features, centroids),
        training_profile.silhouette_query(layout, features, centroids),
    ]
    # LEAST could be written out in each of 50 WHENs: more terms than one expression may have.
    assert all("LEAST(" not in text for text in texts)
    assert MOST_TERMS > 50 * 50 * 4
    assert check(";\n".join(text.rstrip(";") for text in texts) + ";\n", grammar) == ""


def test_few_segments_use_least_where_there_is_one() -> None:
    assert "LEAST(" in training.pass_query(*wide(NEW, 5, 8), np.zeros(8))
    assert "LEAST(" not in training.pass_query(*wide(OLD, 5, 8), np.zeros(8))


def test_50_features_and_50_segments_run_on_duckdb_and_agree_with_numpy() -> None:
    layout, features, centroids = wide(DuckDBDialect(), 50, 50)
    rows = np.random.default_rng(1).normal(size=(2_000, 50))
    with duckdb.connect() as connection:
        # DuckDB would look for ten seconds for expressions that the 2,500 squares share.
        connection.execute("SET disabled_optimizers = 'common_subexpressions'")
        connection.register(
            "source",
            pa.table({"id": np.arange(2_000)} | {f"f{j}": rows[:, j] for j in range(50)}),
        )
        for text in training.take_rows(layout, "source", ["id", *layout.columns]):
            connection.execute(text)
        for text in training.label_rows(layout, features, centroids):
            connection.execute(text)
        found = connection.execute(
            f"SELECT cluster, squared FROM {layout.labelled} ORDER BY k1"
        ).fetchnumpy()
        expected = assign((rows - 0.5) / 2.0, centroids)
        assert (found["cluster"] == expected.labels).all()
        np.testing.assert_allclose(found["squared"], expected.squared_distances, rtol=1e-12)
        passed = connection.execute(
            training.pass_query(layout, features, centroids, centroids[0])
        ).fetchall()
        assert sum(row[0] for row in passed) == 2_000
        for customers, cluster, *means in passed:
            assert customers == expected.sizes(50)[cluster]
            mean = ((rows - 0.5) / 2.0)[expected.labels == cluster].mean(axis=0)
            np.testing.assert_allclose(centroids[0] + means, mean, atol=1e-12)
