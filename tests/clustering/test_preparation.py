"""Centres, scales and fills, against scikit-learn, and every error with its text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, RobustScaler, StandardScaler

from sqlkmeans.clustering.arrays.chunks import compact_rows
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import (
    SCALINGS,
    Feature,
    preparation_to_rows,
)
from sqlkmeans.errors import DataError

SCALERS = {
    "standard": StandardScaler,
    "robust": RobustScaler,
    "minmax": MinMaxScaler,
    "none": FunctionTransformer,
}
A, B, C = Feature("a"), Feature("b"), Feature("c")


@pytest.fixture
def raw() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.column_stack(
        [rng.normal(50_000, 9_000, 200), rng.lognormal(2, 1, 200), rng.integers(0, 2, 200)]
    )


@pytest.fixture
def with_holes(raw: np.ndarray) -> np.ndarray:
    raw[3, 0] = raw[3, 1] = raw[10, 1] = raw[11, 2] = np.nan
    return raw


@pytest.mark.parametrize("scaling", ["standard", "minmax", "none"])
def test_scaling_is_that_of_scikit_learn(scaling: str, raw: np.ndarray) -> None:
    preparation = fit_preparation(raw, [A, B, C], scaling=scaling, missing="error")
    expected = SCALERS[scaling]().fit_transform(raw)
    np.testing.assert_allclose(preparation.transform(raw), expected, rtol=1e-12, atol=1e-12)


def test_robust_scaling_is_that_of_scikit_learn(raw: np.ndarray) -> None:
    preparation = fit_preparation(raw[:, :2], [A, B], scaling="robust", missing="error")
    expected = RobustScaler().fit_transform(raw[:, :2])
    np.testing.assert_allclose(preparation.transform(raw[:, :2]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scaling", ["standard", "robust", "minmax", "none"])
@pytest.mark.parametrize("missing", ["mean", "median"])
def test_fill_then_log1p_then_scaling_then_weight(
    scaling: str, missing: str, with_holes: np.ndarray
) -> None:
    rows = with_holes[:, :2]
    features = [Feature("a", "log1p", 3.0), Feature("b", "log1p", 0.25)]
    preparation = fit_preparation(rows, features, scaling=scaling, missing=missing)
    pipeline = make_pipeline(
        SimpleImputer(strategy=missing), FunctionTransformer(np.log1p), SCALERS[scaling]()
    )
    expected = pipeline.fit_transform(rows) * (3.0, 0.25)
    np.testing.assert_allclose(preparation.transform(rows), expected, rtol=1e-11, atol=1e-11)
    fills = SimpleImputer(strategy=missing).fit(rows).statistics_
    np.testing.assert_allclose([f.fill for f in preparation.features], fills, rtol=1e-14)


def test_skip_fits_on_the_complete_rows_only(with_holes: np.ndarray) -> None:
    preparation = fit_preparation(with_holes, [A, B, C], scaling="standard", missing="skip")
    complete = with_holes[~np.isnan(with_holes).any(axis=1)]
    scaler = StandardScaler().fit(complete)
    np.testing.assert_allclose([f.center for f in preparation.features], scaler.mean_, rtol=1e-13)
    np.testing.assert_allclose([f.scale for f in preparation.features], scaler.scale_, rtol=1e-13)
    matrix = with_holes.copy()
    prepared, kept = preparation.prepare(matrix)
    assert np.flatnonzero(~kept).tolist() == [3, 10, 11]
    np.testing.assert_allclose(prepared, scaler.transform(complete), rtol=1e-12, atol=1e-12)


def test_a_fill_learned_without_holes_fills_holes_that_come_later(raw: np.ndarray) -> None:
    preparation = fit_preparation(raw, [A, B, C], scaling="standard", missing="mean")
    later = np.array([[np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(preparation.transform(later), [[0.0, 0.0, 0.0]], atol=1e-12)


def test_a_weight_of_2_counts_four_times_in_a_squared_distance(raw: np.ndarray) -> None:
    once = fit_preparation(raw, [A, B, C], scaling="standard", missing="error").transform(raw)
    heavy = [A, Feature("b", weight=2.0), C]
    twice = fit_preparation(raw, heavy, scaling="standard", missing="error").transform(raw)
    squares = [((rows[0] - rows[1]) ** 2) for rows in (once, twice)]
    np.testing.assert_allclose(squares[1], squares[0] * (1, 4, 1), rtol=1e-10)


def test_fitting_leaves_the_rows_as_they_are(with_holes: np.ndarray) -> None:
    before = with_holes.copy()
    features = [A, Feature("b", "log1p"), C]
    fit_preparation(with_holes, features, scaling="minmax", missing="mean")
    np.testing.assert_array_equal(with_holes, before)


def test_the_rows_of_the_model_table_hold_what_the_scoring_sql_needs(raw: np.ndarray) -> None:
    features = [A, Feature("b", "log1p", 2.0), C]
    preparation = fit_preparation(raw, features, scaling="standard", missing="median")
    rows = preparation_to_rows(preparation)
    assert [row["position"] for row in rows] == [1, 2, 3]
    assert [row["feature"] for row in rows] == ["a", "b", "c"]
    value = 17.25
    row = rows[1]
    by_sql = (np.log1p(value) - row["center"]) / (row["scale"] / row["weight"])
    assert preparation.transform([[0.0, value, 0.0]])[0, 1] == by_sql


# Errors


def problems_of(
    matrix: Any, features: list[Feature], *, scaling: str = "standard", missing: str = "error"
) -> list[str]:
    with pytest.raises(DataError) as raised:
        fit_preparation(np.asarray(matrix, dtype=float), features, scaling=scaling, missing=missing)
    assert raised.value.exit_code == 3
    return raised.value.problems


def test_missing_values_say_how_many_and_what_can_be_done() -> None:
    assert problems_of([[1, 2], [np.nan, 3], [np.nan, np.nan]], [A, B]) == [
        'a: 2 rows are NULL and missing = "error"; correct the rows, or set missing to "skip", '
        '"mean" or "median"',
        'b: 1 row is NULL and missing = "error"; correct the rows, or set missing to "skip", '
        '"mean" or "median"',
    ]


@pytest.mark.parametrize("missing", ["error", "skip", "mean", "median"])
def test_infinite_values_are_refused_however_missing_ones_are_handled(missing: str) -> None:
    assert problems_of([[1], [np.inf], [-np.inf]], [A], missing=missing) == [
        "a: 2 rows are infinite; every value must be a finite number or NULL"
    ]


def test_a_constant_column_says_its_value() -> None:
    assert problems_of([[7.5], [7.5], [7.5]], [A]) == [
        "a: constant (7.5 in all 3 rows), so it separates nobody; remove it from features"
    ]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_constant_column_is_refused_whatever_the_scaling(scaling: str) -> None:
    assert "a: constant" in problems_of([[3.0], [3.0]], [A], scaling=scaling)[0]


def test_a_column_that_is_constant_where_it_is_known_is_constant() -> None:
    found = problems_of([[3.0], [np.nan], [3.0]], [A], missing="mean")
    assert found == [
        "a: constant (3 in all 2 rows), so it separates nobody; remove it from features"
    ]


def test_values_without_a_logarithm_are_counted() -> None:
    assert problems_of([[-1], [-2], [5]], [Feature("a", "log1p")]) == [
        'a: 2 rows are -1 or less, where log1p has no value; use transform = "none" or correct '
        "the rows"
    ]


def test_a_column_of_nulls_says_that_there_is_nothing_to_cluster_by() -> None:
    assert problems_of([[np.nan, 1], [np.nan, 2]], [A, B], missing="median") == [
        "a: every value is NULL, so there is nothing to cluster by"
    ]


def test_skip_that_leaves_no_row_says_so() -> None:
    assert problems_of([[np.nan, 1], [2, np.nan]], [A, B], missing="skip") == [
        'missing = "skip" leaves no row: each of the 2 rows has a NULL in a, b'
    ]


def test_an_interquartile_range_of_0_cannot_be_robust() -> None:
    assert problems_of([[0], [0], [0], [0], [9]], [A], scaling="robust") == [
        'a: its interquartile range is 0, so scaling = "robust" cannot scale it; use "standard" '
        'or "minmax"'
    ]


def test_the_problems_of_all_columns_come_together() -> None:
    rows = [[np.nan, np.inf, 1, -5], [2, 3, 1, 2], [3, 4, 1, 3]]
    found = problems_of(rows, [A, B, C, Feature("d", "log1p")])
    assert [problem.split(":")[0] for problem in found] == ["a", "b", "c", "d"]


def test_later_rows_are_checked_too_and_left_as_they_are(raw: np.ndarray) -> None:
    features = [A, Feature("b", "log1p"), C]
    preparation = fit_preparation(raw, features, scaling="standard", missing="error")
    later = np.array([[np.inf, 1, 0], [1, -3, 0], [1, 1, np.nan]])
    with pytest.raises(DataError) as raised:
        preparation.prepare(later.copy())
    assert [problem.split(":")[0] for problem in raised.value.problems] == ["a", "b", "c"]


# Properties

cents = st.integers(-(10**9), 10**9).map(lambda value: value / 100)


@st.composite
def prepared_rows(draw: st.DrawFn) -> tuple[np.ndarray, list[Feature], str, str]:
    """Rows that can be prepared, and how."""
    shape = draw(st.tuples(st.integers(4, 30), st.integers(1, 4)))
    matrix = draw(npst.arrays(np.float64, shape, elements=cents))
    features = []
    for position in range(shape[1]):
        transform = draw(st.sampled_from(["none", "log1p"]))
        if transform == "log1p":
            matrix[:, position] = np.abs(matrix[:, position])
        features.append(Feature(f"f{position}", transform, draw(st.floats(0.01, 100))))
    missing = draw(st.sampled_from(["error", "skip", "mean", "median"]))
    if missing != "error":
        holes = draw(npst.arrays(np.bool_, shape, elements=st.sampled_from([False] * 4 + [True])))
        matrix[holes] = np.nan
    scaling = draw(st.sampled_from(["standard", "robust", "minmax", "none"]))
    return matrix, features, scaling, missing


def fitted(given_rows: tuple[np.ndarray, list[Feature], str, str]) -> Any:
    matrix, features, scaling, missing = given_rows
    try:
        return fit_preparation(matrix, features, scaling=scaling, missing=missing)
    except DataError:
        assume(False)


@given(prepared_rows())
def test_inverse_transform_undoes_transform(
    given_rows: tuple[np.ndarray, list[Feature], str, str],
) -> None:
    preparation = fitted(given_rows)
    matrix = given_rows[0][~np.isnan(given_rows[0]).any(axis=1)]
    back = preparation.inverse_transform(preparation.transform(matrix))
    size = np.abs(given_rows[0][~np.isnan(given_rows[0])]).max() + 1
    np.testing.assert_allclose(back, matrix, rtol=1e-9, atol=1e-9 * size)


@given(prepared_rows())
def test_prepare_is_transform_in_place_without_the_skipped_rows(
    given_rows: tuple[np.ndarray, list[Feature], str, str],
) -> None:
    preparation = fitted(given_rows)
    matrix = given_rows[0]
    expected = preparation.transform(matrix)
    in_place = matrix.copy()
    prepared, kept = preparation.prepare(in_place)
    assert kept.tolist() == (~np.isnan(expected).any(axis=1)).tolist()
    np.testing.assert_array_equal(prepared, expected[kept])
    assert np.shares_memory(prepared, in_place) or not kept.any()


@given(prepared_rows(), st.randoms(use_true_random=False))
def test_fitting_depends_on_the_rows_and_hardly_on_their_order(
    given_rows: tuple[np.ndarray, list[Feature], str, str], random: Any
) -> None:
    preparation = fitted(given_rows)
    order = list(range(len(given_rows[0])))
    random.shuffle(order)
    again = fitted((given_rows[0][order], *given_rows[1:]))
    for one, two in zip(preparation.features, again.features):
        assert two.center == pytest.approx(one.center, rel=1e-9, abs=1e-6)
        assert two.scale == pytest.approx(one.scale, rel=1e-9, abs=1e-6)


@given(st.lists(st.booleans(), max_size=50))
def test_compact_rows_moves_the_kept_rows_to_the_front_in_order(kept: list[bool]) -> None:
    mask = np.array(kept, dtype=bool)
    matrix = np.arange(len(kept) * 2, dtype=float).reshape(-1, 2)
    expected = matrix[mask].copy()
    compact_rows(matrix, mask)
    np.testing.assert_array_equal(matrix[: mask.sum()], expected)


def test_compact_rows_works_across_blocks() -> None:
    matrix = np.arange(200_000, dtype=float).reshape(-1, 1)
    mask = np.arange(200_000) % 3 != 0
    compact_rows(matrix, mask)
    np.testing.assert_array_equal(matrix[: mask.sum(), 0], np.flatnonzero(mask))
