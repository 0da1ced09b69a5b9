"""No expression comes near SQL Server's limit, however many segments and features there are."""

from __future__ import annotations

import numpy as np
import pytest

from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.database.sqlserver.dialect import MOST_TERMS, TSQL, SQLServerDialect
from sqlkmeans.engines.pushdown.sql import training
from sqlkmeans.engines.pushdown.sql.nearest import least_terms
from sqlkmeans.engines.pushdown.sql.training import Layout
from sqlkmeans.model import SegmentModel
from sqlkmeans.tsql.expressions import (
    number,
    own_expression,
    scaled_expression,
    transformed_expression,
)
from sqlkmeans.tsql.scoring import parameter_names, scoring_function, scoring_script
from support.expansion import LIMIT, expression_sizes, largest_expression, mixed_aggregates
from support.models import wide_model
from support.training_statements import statements
from support.tsql_files import recorded_statements

#: Segments and features.
SIZES = [(2, 2), (8, 50), (20, 20), (254, 50)]


def before_it_was_linear(model: SegmentModel) -> str:
    """The form that scoring once had: LEAST over the distances, and a CASE that looks them up."""
    features = model.preparation.features
    positions = range(1, len(features) + 1)
    given = dict(zip(model.columns, parameter_names(model.columns)))
    own = [own_expression(f, given[f.column], TSQL, levels=["a", "b"]) for f in features]
    transformed = [transformed_expression(f, f"x.x{p}", TSQL) for p, f in zip(positions, features)]
    scaled = [scaled_expression(f, f"t.t{p}") for p, f in zip(positions, features)]
    ids = model.segment_ids
    distances = [
        " + ".join(f"(z.z{p} - ({number(c)})) * (z.z{p} - ({number(c)}))"
                   for p, c in zip(positions, centroid))
        for centroid in model.centroids.tolist()
    ]  # fmt: skip
    steps = {
        "x": [f"{text} AS x{p}" for p, text in zip(positions, own)],
        "t": [f"{text} AS t{p}" for p, text in zip(positions, transformed)],
        "z": [f"{text} AS z{p}" for p, text in zip(positions, scaled)],
        "d": [f"{text} AS d{i}" for i, text in zip(ids, distances)],
        "n": [f"LEAST({', '.join(f'd.d{i}' for i in ids)}) AS squared"],
        "b": [f"CASE n.squared {' '.join(f'WHEN d.d{i} THEN {i}' for i in ids)} END AS segment_id"],
    }
    first, *rest = (f"(SELECT {', '.join(columns)}) AS {name}" for name, columns in steps.items())
    return f"SELECT b.segment_id FROM {first} " + " ".join(f"CROSS APPLY {step}" for step in rest)


def test_names_are_written_out_and_a_select_list_is_one_expression() -> None:
    assert largest_expression("SELECT a, b + c, d + e FROM t") == 5
    assert largest_expression("SELECT y + y FROM (SELECT a + 1 AS y FROM t) AS q") == 4
    assert largest_expression("SELECT CASE y WHEN 1 THEN 2 WHEN 3 THEN 4 END FROM "
                              "t CROSS APPLY (SELECT a + b AS y) AS q") == 8  # fmt: skip


def test_what_an_aggregate_or_an_ordering_top_gives_is_not_written_out() -> None:
    assert expression_sizes("SELECT y FROM (SELECT SUM(a + b + c) AS y FROM t) AS q")[-1] == 1
    assert expression_sizes("SELECT q.y FROM t OUTER APPLY (SELECT TOP (1) t.a + v.b AS y FROM "
                            "(VALUES (1), (2)) AS v (b) ORDER BY y) AS q")[-1] == 1  # fmt: skip


def test_an_aggregate_that_mixes_columns_of_two_queries_is_found() -> None:
    with pytest.raises(ValueError, match="8124"):
        expression_sizes("SELECT (SELECT MIN(t.a - v.b) FROM (VALUES (1)) AS v (b)) FROM t")


def test_no_statement_that_is_executed_mixes_columns_of_two_queries_in_an_aggregate() -> None:
    for text in recorded_statements():
        assert not mixed_aggregates(text), text[:200]
    broken = ("CREATE VIEW dbo.v AS SELECT m.n FROM r AS a CROSS APPLY (SELECT MAX(CASE WHEN "
              "h.since <= a.ended THEN h.id END) AS n FROM h GROUP BY h.c) AS m;")  # fmt: skip
    assert mixed_aggregates(broken)
    assert mixed_aggregates("SELECT (SELECT MIN(t.a - v.b) FROM (VALUES (1)) AS v (b)) FROM t")
    assert not mixed_aggregates("SELECT SUM(a.n * b.n) FROM a INNER JOIN b ON 1 = 1")


def test_the_form_that_was_not_linear_is_seen_to_pass_the_limit() -> None:
    assert largest_expression(before_it_was_linear(wide_model(2, 2))) < LIMIT // 2
    assert largest_expression(before_it_was_linear(wide_model(20, 20))) > LIMIT


@pytest.mark.parametrize(("k", "n_features"), SIZES)
def test_the_scoring_function_stays_under_half_of_the_limit(k: int, n_features: int) -> None:
    model = wide_model(k, n_features)
    largest = largest_expression(scoring_function("sqlkmeans.[assign_customers]", model))
    assert largest < LIMIT // 2
    print(f"\nexport-sql, {k} segments, {n_features} features: {largest:,}", end="")


def test_the_scoring_function_grows_with_the_features_and_not_with_the_segments() -> None:
    def largest(k: int) -> int:
        return largest_expression(scoring_function("sqlkmeans.[a]", wide_model(k, 10)))

    assert largest(20) == largest(2)


@pytest.mark.parametrize(
    ("k", "n_features", "at_least", "least"),
    # So many segments are not for LEAST, so the largest are the same on every server.
    [*((*size, 1, False) for size in SIZES), *((*size, 10, True) for size in SIZES[:-1])],
)
def test_statements_that_train_stay_under_half_of_the_limit(
    k: int, n_features: int, at_least: int, least: bool
) -> None:
    model = wide_model(k, n_features)
    types = model.preparation.types
    layout = Layout(
        SQLServerDialect(least=least), ("bigint", "int"), tuple(types), ("float",) * len(types),
        weighted=True, at_least=at_least,
    )  # fmt: skip
    category = "city" if "city" in types else "f0"
    found = [
        largest_expression(text)
        for text in statements(layout, model.preparation.features, model.centroids, category)
        if "CREATE CLUSTERED" not in text
    ]
    assert max(found) < LIMIT // 2
    print(f"\ntraining, {k} segments, {n_features} features: {max(found):,}", end="")


@pytest.mark.parametrize(("k", "n_features"), [(2, 2), (5, 8), (12, 50), (20, 20)])
def test_least_is_counted_as_it_is_written_out(k: int, n_features: int) -> None:
    model = wide_model(k, n_features)
    features = model.preparation.features
    layout = Layout(SQLServerDialect(least=True), ("bigint",), tuple(model.columns),
                    ("float",) * len(model.columns))  # fmt: skip
    layout, _ = training.keep_prepared(layout, features)
    text = training.pass_query(layout, features, model.centroids, model.centroids[0])
    assert "LEAST(" in text
    counted = least_terms(k, n_features, n_features, 2, exact=False)
    assert largest_expression(text) == counted <= MOST_TERMS


def test_recorded_statements_of_the_procedures_are_small() -> None:
    scored = [text for text in recorded_statements() if "OUTER APPLY (SELECT TOP (1)" in text]
    assert len(scored) >= 4
    for text in scored:
        assert largest_expression(text) < 2_000


def test_the_script_of_20_segments_over_20_features_is_told() -> None:
    """What the note says of the largest expression."""
    features = tuple(
        PreparedFeature(f"f{j}", "log1p", 1.0, 1.5, 0.5, None, low=0.5, high=900.25)
        for j in range(20)
    )
    model = SegmentModel(
        Preparation(features, "standard", "error"), np.random.default_rng(0).normal(size=(20, 20)),
        tuple(range(1, 21)), tuple(f"segment {i}" for i in range(1, 21)),
    )  # fmt: skip
    now = largest_expression(scoring_script("customers", model).split("GO\n")[2])
    before = largest_expression(before_it_was_linear(model))
    print(f"\n20 segments over 20 log1p, winsorized features: {before:,} once, {now:,} now", end="")
    assert now < LIMIT // 2 < LIMIT < before
