"""The statements that train in a database: T-SQL by its grammar, and their size."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database.dialect import Dialect
from sqlkmeans.database.duckdb.dialect import DuckDBDialect
from sqlkmeans.database.sqlserver.dialect import SQLServerDialect
from sqlkmeans.engines.pushdown.sql import profile as training_profile
from sqlkmeans.engines.pushdown.sql import starts as training_seeds
from sqlkmeans.engines.pushdown.sql import training
from sqlkmeans.engines.pushdown.sql.training import Layout
from support.training_statements import (
    CENTROIDS,
    DIALECTS,
    FEATURES,
    NEW,
    OLD,
    make_layout,
    statements,
)
from support.tsql_files import GRAMMARS, check


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_pass_has_the_same_text_whatever_the_centroids(dialect: SQLServerDialect) -> None:
    layout, _ = training.keep_prepared(make_layout(dialect, weighted=True), FEATURES)
    texts, values = set(), []
    for centroids in (CENTROIDS, 2 * CENTROIDS):
        statement = training.pass_statement(layout, FEATURES, centroids, CENTROIDS[0])
        text, _, given = statement.rpartition("', @p1 = ")
        texts.add(text)
        values.append([float(value) for value in re.findall(r"(?:^|= )(-?\d\S*?e[+-]\d+)", given)])
    assert len(texts) == 1
    assert "@p1 float" in texts.pop()
    # A norm and a coordinate a feature, for each centroid, to the last bit.
    for centroids, found in zip((CENTROIDS, 2 * CENTROIDS), values):
        near = centroids - CENTROIDS[0]
        norms = np.array([sum(c * c for c in row) for row in near.tolist()])
        assert found == np.column_stack([norms, -2 * near]).ravel().tolist()


def test_a_pass_with_more_parameters_than_a_call_takes_has_its_numbers_in_the_text() -> None:
    layout, _ = training.keep_prepared(make_layout(OLD), FEATURES)
    many = np.random.default_rng(0).normal(size=(400, len(FEATURES)))
    statement = training.pass_statement(layout, FEATURES, many, many[0])
    assert statement == training.pass_query(layout, FEATURES, many, many[0])


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("at_least", [1, 10], ids=["open", "closed"])
@pytest.mark.parametrize("name", DIALECTS)
def test_every_statement_is_t_sql(name: str, at_least: int, weighted: bool, grammar: str) -> None:
    layout = make_layout(DIALECTS[name], at_least, weighted)
    text = ";\nGO\n".join(text.rstrip(";") for text in statements(layout)) + ";\n"
    assert check(text, grammar) == ""


def wide(
    dialect: Dialect, k: int, n_features: int
) -> tuple[Layout, list[PreparedFeature], npt.NDArray[np.float64]]:
    names = tuple(f"f{j}" for j in range(n_features))
    layout = Layout(dialect, ("bigint",), names, (dialect.float_type,) * n_features)
    features = [PreparedFeature(name, "none", 1.0, 0.5, 2.0, None) for name in names]
    layout, _ = training.keep_prepared(layout, features)
    return layout, features, np.random.default_rng(0).normal(size=(k, n_features))


@pytest.mark.parametrize("dialect", [OLD, NEW, DuckDBDialect()], ids=["2016", "2022", "DuckDB"])
def test_a_pass_grows_as_k_times_the_features(dialect: Dialect) -> None:
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
    assert check(";\n".join(text.rstrip(";") for text in texts) + ";\n", grammar) == ""


def test_few_segments_use_least_where_there_is_one() -> None:
    assert "LEAST(" in training.pass_query(*wide(NEW, 5, 8), np.zeros(8))
    assert "LEAST(" not in training.pass_query(*wide(OLD, 5, 8), np.zeros(8))


class ByOrder(DuckDBDialect):
    """DuckDB that goes SQL Server's way: it keeps prepared values, and has no LEAST."""

    keeps_prepared = True

    def fits_least(self, terms: float) -> bool:
        return False


def for_duckdb(text: str) -> str:
    """Without the collations of the layout's types."""
    return text.replace(" COLLATE DATABASE_DEFAULT", "")


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_sql_servers_way_gives_the_labels_and_sums_of_the_other(weighted: bool) -> None:
    """Kept values and centroids as rows, against values made anew and LEAST."""
    found, k = [], len(CENTROIDS)
    for dialect in (DuckDBDialect(), ByOrder()):
        layout = replace(make_layout(dialect, weighted=weighted), key_types=("bigint", "varchar"))
        with duckdb.connect() as connection:
            rng = np.random.default_rng(3)
            connection.register("source", pa.table({
                "id": np.arange(500), "shop": ["a", "b"] * 250, "w": rng.integers(0, 3, 500) + 0.0,
                "income": np.exp(rng.normal(2, 1, 500)), "age": rng.normal(50, 20, 500),
                "city": ["O'Hara", "Oslo"] * 250, "joined": [date(2025, 1, 1)] * 500,
            }))  # fmt: skip
            columns = ["id", "shop", *layout.columns, *layout.weights]
            made = training.take_rows(layout, "source", columns)
            kept, more = training.keep_prepared(layout, FEATURES)
            for text in [*made, *more, *training.label_rows(kept, FEATURES, CENTROIDS)]:
                connection.execute(for_duckdb(text))
            answers = [
                connection.execute(for_duckdb(text)).fetchall()
                for text in (
                    f"SELECT k1, cluster, squared FROM {kept.labelled} ORDER BY k1",
                    training.pass_query(kept, FEATURES, CENTROIDS, CENTROIDS[0]) + "\nORDER BY 2",
                    training.far_query(kept, FEATURES, CENTROIDS, 10),
                    training.moving_query(kept, FEATURES, CENTROIDS, np.arange(4.0, 4 + k), 50),
                    training_profile.silhouette_query(kept, FEATURES, CENTROIDS) + "\nORDER BY 2",
                )
            ]
        found.append([np.array(rows, dtype=np.float64) for rows in answers])
    made_anew, by_order = found
    # A single row's distance is the same to its last bit; sums may be added in another order.
    assert np.array_equal(made_anew[0], by_order[0])
    for one, other in zip(made_anew[1:], by_order[1:]):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_values_that_are_made_in_each_query_are_not_for_least() -> None:
    layout, features, centroids = wide(NEW, 5, 8)
    layout = replace(layout, kept=())
    assert "LEAST(" not in training.pass_query(layout, features, centroids, np.zeros(8))


def test_prepared_values_are_made_once_and_then_read() -> None:
    layout = make_layout(NEW, weighted=True)
    assert "LOG(" in training.pass_query(layout, FEATURES, CENTROIDS, CENTROIDS[0])
    layout, made = training.keep_prepared(layout, FEATURES)
    assert sum("LOG(" in text for text in made) == 1
    assert made[-1] == "DROP TABLE IF EXISTS #sqlkmeans_rows"
    for text in (
        training.pass_query(layout, FEATURES, CENTROIDS, CENTROIDS[0]),
        training.far_query(layout, FEATURES, CENTROIDS, 10),
        *training.label_rows(layout, FEATURES, CENTROIDS),
        training_seeds.sample_query(layout, FEATURES, 1000, 0.02, 7),
        training_profile.silhouette_query(layout, FEATURES, CENTROIDS),
    ):
        assert "LOG(" not in text
    assert training.drop(layout, training.ROWS) == "DROP TABLE IF EXISTS #sqlkmeans_prepared"


def test_duckdb_makes_prepared_values_in_each_query() -> None:
    layout = make_layout(DuckDBDialect())
    assert training.keep_prepared(layout, FEATURES) == (layout, [])


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
        for customers, cluster, weight, *means in passed:
            assert customers == weight == expected.sizes(50)[cluster]
            mean = ((rows - 0.5) / 2.0)[expected.labels == cluster].mean(axis=0)
            np.testing.assert_allclose(centroids[0] + means, mean, atol=1e-12)
