"""Scoring SQL: pinned as text, and executed against Python's own labels."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tsql_files import GRAMMARS, check

from sqlkmeans.clustering.preparation import Preparation, PreparedFeature
from sqlkmeans.model import SegmentModel
from sqlkmeans.sqltext import quote
from sqlkmeans.tsql.expressions import DUCKDB, TSQL, TSQL_LEAST, number
from sqlkmeans.tsql.scoring import (
    parameter_names,
    scoring_function,
    scoring_query,
    scoring_script,
)

GOLDEN = Path(__file__).parent / "golden"


def make_model(
    columns: list[str],
    k: int = 5,
    missing: str = "mean",
    names: list[str] | None = None,
    seed: int = 0,
) -> SegmentModel:
    """A model with every kind of feature; ids have a gap, as after a retired segment."""
    rng = np.random.default_rng(seed)
    features = tuple(
        PreparedFeature(
            column,
            "log1p" if position % 2 else "none",
            1.0 + position,
            float(rng.normal()),
            float(rng.uniform(0.2, 3)),
            2.5 if missing in ("mean", "median") else None,
        )
        for position, column in enumerate(columns)
    )
    ids = (*range(1, k), k + 3)
    return SegmentModel(
        Preparation(features, "standard", missing),
        rng.normal(size=(k, len(columns))),
        ids,
        tuple(names or [f"name {i}" for i in ids]),
    )


def score(model: SegmentModel, rows: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """What the scoring SQL says of rows, NaN where NULL."""
    table = pa.table(
        {name: pa.array(rows[:, j], from_pandas=True) for j, name in enumerate(model.columns)}
    )
    with duckdb.connect() as connection:
        connection.register("customer", table.append_column("n", pa.array(range(len(rows)))))
        query = scoring_query(model, [f"s.{quote(name)}" for name in model.columns], DUCKDB)
        found = connection.execute(
            f"SELECT f.* FROM customer AS s {DUCKDB.apply} ({query}) AS f ORDER BY s.n"
        ).to_arrow_table()
    return {
        name: found[name].to_numpy().astype(np.float64)
        for name in ("segment_id", "distance", "runner_up_distance")
    }


def test_scoring_gives_pythons_labels_and_distances_on_100_000_rows() -> None:
    model = make_model(["income", "orders", "Größe in cm"])
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(100_000, 3))
    rows[:, 1] = np.exp(rng.normal(2, 2, 100_000)) - 0.5
    rows[rng.random(rows.shape) < 0.02] = np.nan
    rows[:4, 1] = [0.0, 1e-18, -1e-9, 1e300]
    found = score(model, rows)
    distances = np.sort(model.distances(rows), axis=1)
    # Rows whose two nearest centroids are equally far to the last bits could go either way.
    clear = distances[:, 1] - distances[:, 0] > 1e-9 * distances[:, 1]
    assert clear.sum() > 99_990
    assert np.array_equal(found["segment_id"][clear], model.predict(rows)[clear])
    np.testing.assert_allclose(found["distance"], distances[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["runner_up_distance"], distances[:, 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("missing", ["skip", "error"])
def test_a_missing_value_that_is_not_filled_in_gives_no_segment(missing: str) -> None:
    model = make_model(["a", "b"], missing=missing)
    rows = np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, 1.0]])
    found = score(model, rows)
    assert np.isnan(found["segment_id"]).tolist() == [True, True, False]
    assert np.isnan(found["distance"]).tolist() == [True, True, False]
    assert model.predict(rows).tolist()[:2] == [0, 0]


def test_a_value_outside_the_domain_of_log1p_gives_no_segment_and_no_error() -> None:
    found = score(make_model(["a", "b"]), np.array([[0.0, -1.0], [0.0, -7.0], [0.0, -0.5]]))
    assert np.isnan(found["segment_id"]).tolist() == [True, True, False]


def test_the_lowest_segment_id_wins_a_tie() -> None:
    features = (PreparedFeature("a", "none", 1.0, 0.0, 1.0, None),)
    preparation = Preparation(features, "none", "error")
    model = SegmentModel(preparation, np.array([[1.0], [-1.0], [1.0]]), (7, 4, 2), ("x", "y", "z"))
    assert score(model, np.array([[0.0], [1.0]]))["segment_id"].tolist() == [2, 2]
    assert model.predict([[0.0], [1.0]]).tolist() == [2, 2]


@pytest.mark.parametrize(
    "x", [1e-300, 1e-17, 1e-16, 3e-16, 1e-12, 1e-9, 1e-5, 0.5, 1e6, 1e15, 1e300]
)
def test_the_logarithm_keeps_its_digits_near_zero(x: float) -> None:
    features = (PreparedFeature("a", "log1p", 1.0, 0.0, 1.0, None),)
    model = SegmentModel(
        Preparation(features, "none", "error"), np.array([[0.0], [-9.0]]), (1, 2), ("x", "y")
    )
    assert score(model, np.array([[x]]))["distance"][0] == pytest.approx(np.log1p(x), rel=1e-14)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_the_same_float(value: float) -> None:
    text = number(value)
    assert float(text) == value
    assert "e" in text, "without an exponent T-SQL reads a decimal"


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), st.integers(2, 9))
def test_any_row_gets_pythons_segment(row: list[float], k: int) -> None:
    model = make_model(["a", "b"], k=k, seed=k)
    row[1] = abs(row[1])
    distances = np.sort(model.distances([row])[0])
    if distances[1] - distances[0] > 1e-9 * (1 + distances[1]):
        assert score(model, np.array([row]))["segment_id"][0] == model.predict([row])[0]


def test_parameters_are_named_after_the_columns_where_that_is_possible() -> None:
    names = parameter_names(
        ["income", "Income", "total spend", "größe", "2nd", "x]; DROP TABLE y--"]
    )
    assert names == [
        "@income",
        "@feature_2",
        "@feature_3",
        "@feature_4",
        "@feature_5",
        "@feature_6",
    ]


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("least", [False, True])
@pytest.mark.parametrize("k", [2, 5, 300])
def test_the_script_is_sql_for_every_supported_server(k: int, least: bool, grammar: str) -> None:
    names = [f"it's [segment] {i} -- % {{}} Ünïcode" for i in range(k)]
    model = make_model(["income", "My Table]]x]", "a'b", "line\nbreak", "*/ GO"], k=k, names=names)
    assert not check(scoring_script("customers", model, least=least), grammar)


def test_least_is_written_only_where_it_is_asked_for_and_takes_the_values() -> None:
    model = make_model(["a"], k=5)
    assert "LEAST(" not in scoring_query(model, ["@a"], TSQL)
    assert "LEAST(" in scoring_query(model, ["@a"], TSQL_LEAST)
    assert "LEAST(" not in scoring_query(make_model(["a"], k=300), ["@a"], TSQL_LEAST)


@pytest.mark.parametrize(("golden", "least"), [("assign_2016", False), ("assign_2022", True)])
def test_the_text_is_the_one_that_was_reviewed(golden: str, least: bool) -> None:
    features = (
        PreparedFeature("income", "log1p", 2.0, 10.5, 0.75, 50_000.0),
        PreparedFeature("age in years", "none", 1.0, 41.25, 12.5, None),
    )
    model = SegmentModel(
        Preparation(features, "standard", "skip"),
        np.array([[0.5, -1.25], [-0.125, 1e-7], [2.0, 3.0]]),
        (1, 2, 4),
        ("high income", "it's average", "older"),
    )
    text = scoring_function("sqlkmeans.[assign_customers]", model, TSQL_LEAST if least else TSQL)
    path = GOLDEN / f"{golden}.sql"
    if not path.exists():
        path.write_text(text, encoding="utf-8", newline="\n")
        pytest.fail(f"{path.name} was missing and has been written; review it")
    assert text == path.read_text(encoding="utf-8")


def test_parameters_of_the_function_never_share_a_name() -> None:
    names = parameter_names(["feature_2", "a b", "Income", "income", "feature_9"])
    assert len({name.lower() for name in names}) == 5
