"""Categories, dates, outliers and row weights: what the preparation makes of them."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sqlkmeans.clustering.preparation import statistics
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import (
    Feature,
    Preparation,
    features_from_definition,
    preparation_from_rows,
    preparation_to_rows,
)
from sqlkmeans.clustering.preparation.raw_rows import raw_rows
from sqlkmeans.errors import DataError

CITY = Feature("city", type="category")
DAY = Feature("day", type="date")
TODAY = "2026-11-23"


def fit(
    features: list[Feature],
    columns: dict[str, Any],
    *,
    scaling: str = "standard",
    missing: str = "error",
    sample_weight: Any = None,
) -> Preparation:
    matrix, texts = raw_rows(columns, {feature.column: feature.type for feature in features})
    return fit_preparation(
        matrix, features, scaling=scaling, missing=missing, texts=texts, reference_date=TODAY,
        sample_weight=None if sample_weight is None else np.asarray(sample_weight, dtype=float),
    )  # fmt: skip


def transform(preparation: Preparation, columns: dict[str, Any]) -> np.ndarray:
    return preparation.transform(*raw_rows(columns, preparation.types))


def own_units(preparation: Preparation, columns: dict[str, Any]) -> np.ndarray:
    return preparation.inverse_transform(transform(preparation, columns))


def problems_of(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(DataError) as raised:
        fit(*args, **kwargs)
    return raised.value.problems


# Categories

cities = st.lists(st.sampled_from([*"ABCDEFG", "a", "A ", ""]), min_size=4, max_size=60)


@given(cities, st.floats(0.01, 0.4), st.integers(2, 6), st.lists(st.sampled_from([*"ABCXY"]),
                                                              min_size=1, max_size=20))  # fmt: skip
def test_indicators_are_those_of_scikit_learns_encoder(
    fitted: list[str], min_frequency: float, at_most: int, later: list[str]
) -> None:
    feature = Feature("city", type="category", min_frequency=min_frequency, max_categories=at_most)
    try:
        preparation = fit([feature], {"city": fitted}, scaling="none")
    except DataError:
        return  # constant, or nothing is frequent enough
    kept = preparation.levels("city")
    grouped = any(f.level is None for f in preparation.features)
    encoder = OneHotEncoder(
        # Its limit counts the group of the rest as a category, ours does not.
        max_categories=at_most + 1, min_frequency=min_frequency,
        handle_unknown="infrequent_if_exist", sparse_output=False,
    ).fit(np.array(fitted, dtype=object)[:, None])  # fmt: skip
    rest = encoder.infrequent_categories_[0]
    ties = len({fitted.count(level) for level in kept}) < len(kept) or rest is None
    assert grouped == (rest is not None) or ties
    for rows in (fitted, later):
        found = own_units(preparation, {"city": rows})
        by_name = dict(zip(preparation.names, found.T))
        for level in kept:
            assert by_name[f"city = {level}"].tolist() == [float(row == level) for row in rows]
        if grouped:
            expected = [float(row not in kept) for row in rows]
            assert by_name["city = (other)"].tolist() == expected
        if set(kept) == set(encoder.categories_[0]) - set(rest if rest is not None else ()):
            theirs = encoder.transform(np.array(rows, dtype=object)[:, None])
            assert theirs.sum() == found.sum()
            assert (theirs.sum(axis=1) == found.sum(axis=1)).all()


def test_levels_come_most_frequent_first_and_ties_by_text() -> None:
    preparation = fit([CITY], {"city": ["b", "a", "c", "c"] * 3})
    assert preparation.names == ["city = c", "city = a", "city = b"]


def test_rare_levels_and_those_beyond_max_categories_are_grouped() -> None:
    rows = ["a"] * 50 + ["b"] * 30 + ["c"] * 19 + ["d"]
    by_share = Feature("city", type="category", min_frequency=0.02)
    assert fit([by_share], {"city": rows}).names[-1] == "city = (other)"
    by_number = Feature("city", type="category", max_categories=2)
    preparation = fit([by_number], {"city": rows}, scaling="none")
    assert preparation.names == ["city = a", "city = b", "city = (other)"]
    assert own_units(preparation, {"city": ["c", "new", "a"]})[:, 2].tolist() == [1, 1, 0]


def test_an_unseen_level_has_only_zeros_where_nothing_was_grouped() -> None:
    preparation = fit([CITY], {"city": ["a", "b"] * 3}, scaling="none")
    assert own_units(preparation, {"city": ["new"]}).tolist() == [[0, 0]]


@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_a_category_has_the_variance_of_one_number(scaling: str) -> None:
    rows = ["a"] * 50 + ["b"] * 30 + ["c"] * 20
    prepared = transform(fit([CITY], {"city": rows}, scaling=scaling), {"city": rows})
    assert prepared.var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_allclose(prepared.mean(axis=0), 0, atol=1e-12)


def test_under_minmax_two_levels_are_1_apart_and_under_none_the_root_of_2() -> None:
    for scaling, distance in (("minmax", 1.0), ("none", np.sqrt(2))):
        a, b = transform(fit([CITY], {"city": ["a", "b"]}, scaling=scaling), {"city": ["a", "b"]})
        assert np.linalg.norm(a - b) == pytest.approx(distance)


def test_the_weight_of_a_category_holds_for_the_whole_of_it() -> None:
    rows = {"city": ["a", "b", "b", "c"]}
    heavy = Feature("city", type="category", weight=3.0)
    np.testing.assert_allclose(
        transform(fit([heavy], rows), rows), 3 * transform(fit([CITY], rows), rows)
    )


@pytest.mark.parametrize("missing", ["mean", "median"])
def test_the_most_frequent_level_stands_for_a_missing_one(missing: str) -> None:
    rows = {"city": ["a", "b", None, "b", float("nan"), "b"]}
    preparation = fit([CITY], rows, missing=missing)
    assert [feature.fill for feature in preparation.features] == [1.0, 0.0]
    prepared = transform(preparation, rows)
    np.testing.assert_array_equal(prepared[2], prepared[1])
    assert prepared.var(axis=0).sum() == pytest.approx(1), "scaled on what is clustered"


def test_a_missing_level_is_an_error_or_skipped_like_a_number() -> None:
    rows = {"city": ["a", "b", None, "b"]}
    assert "city: 1 row is NULL" in problems_of([CITY], rows)[0]
    preparation = fit([CITY], rows, missing="skip")
    prepared, kept = preparation.prepare(*raw_rows(rows, preparation.types))
    assert kept.tolist() == [True, True, False, True]
    assert prepared.shape == (3, 2)
    assert np.isnan(transform(preparation, rows)).all(axis=1).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_booleans_and_whole_numbers_are_levels_by_their_text() -> None:
    preparation = fit([CITY], {"city": [True, False, True]}, scaling="none")
    assert preparation.levels("city") == ["1", "0"]
    preparation = fit([CITY], {"city": pd.Series([3.0, None, 12.0, 3.0])}, missing="mean")
    assert preparation.levels("city") == ["3", "12"]
    assert fit([CITY], {"city": pd.Series([3, pd.NA, 12], dtype="Int64")}, missing="mean").levels(
        "city"
    ) == ["12", "3"]


def test_a_category_that_is_of_no_use_is_refused_with_its_reason() -> None:
    assert problems_of([CITY], {"city": ["a"] * 5}) == [
        "city: constant (a in all 5 rows), so it separates nobody; remove it from features"
    ]
    keys = [f"customer {i % 60}" for i in range(100)]
    assert "city: like a key (60 levels in 100 rows)" in problems_of([CITY], {"city": keys})[0]
    fit([CITY], {"city": [f"{i % 50}" for i in range(100)]})
    rare = Feature("city", type="category", min_frequency=0.6)
    assert "has a share of min_frequency 0.6 or more" in problems_of([rare], {"city": [*"abab"]})[0]
    long = ["x" * 101, "y" * 101]
    assert "at most 100 characters" in problems_of([CITY], {"city": long})[0]


def test_long_and_reserved_levels_are_of_the_rest_however_frequent_they_are() -> None:
    for level in ("x" * 101, "🚲" * 51, "(other)"):  # SQL Server counts a bicycle as two
        preparation = fit([CITY], {"city": [level, level, level, "y" * 100, "🚲" * 50]})
        assert preparation.levels("city") == ["y" * 100, "🚲" * 50]
        assert preparation.names[-1] == "city = (other)"
        own = own_units(preparation, {"city": [level, "y" * 100, "(other)", "new"]})
        assert own.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_two_features_of_one_name_are_refused() -> None:
    features = [Feature("city = a"), CITY]
    rows = {"city = a": [1.0, 2.0], "city": ["a", "b"]}
    assert problems_of(features, rows) == [
        "city = a: two features would have this name; rename the column or the level"
    ]


# Dates


def test_a_date_is_its_age_in_days_on_the_day_of_the_fit() -> None:
    rows = {"day": [date(2026, 11, 23), date(2026, 11, 13), date(2027, 1, 1), date(1969, 12, 31)]}
    preparation = fit([DAY], rows)
    assert preparation.features[0].reference_date == TODAY
    ages = [0, 10, -39, (date(2026, 11, 23) - date(1969, 12, 31)).days]
    np.testing.assert_allclose(own_units(preparation, rows)[:, 0], ages, atol=1e-9)
    # On any later day too.
    np.testing.assert_allclose(own_units(preparation, {"day": [date(2026, 11, 20)]}), [[3]])


@pytest.mark.parametrize(
    "values",
    [
        [date(2026, 11, 20), date(1960, 2, 29), None],
        [datetime(2026, 11, 20, 23, 59), datetime(1960, 2, 29, 0, 1), None],
        np.array(["2026-11-20T23:59", "1960-02-29T00:01", "NaT"], dtype="datetime64[s]"),
        pd.to_datetime(pd.Series(["2026-11-20 23:59", "1960-02-29 00:01", None])),
        pd.to_datetime(pd.Series(["2026-11-20 23:59", "1960-02-29 00:01", None]), utc=True),
        [20777.0, -3594.0, float("nan")],
    ],
)
def test_dates_come_in_many_forms(values: Any) -> None:
    matrix, _ = raw_rows({"day": values}, {"day": "date"})
    np.testing.assert_array_equal(matrix[:, 0], [20777.0, -3594.0, np.nan])
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert (datetime(2026, 11, 20, tzinfo=timezone.utc) - epoch).days == 20777


def test_an_array_of_dates_needs_no_frame() -> None:
    days = np.array([["2026-11-20"], ["2026-11-13"]], dtype="datetime64[D]")
    preparation = fit([DAY], {"day": days[:, 0]})
    np.testing.assert_allclose(
        preparation.inverse_transform(preparation.transform(*raw_rows(days, preparation.types))),
        [[3], [10]],
    )


def test_log1p_of_an_age_needs_an_age_above_minus_1() -> None:
    logarithm = Feature("day", "log1p", type="date")
    fit([logarithm], {"day": [date(2026, 11, 23), date(2020, 1, 1)]})
    assert "day: 1 row is -1 or less" in problems_of(
        [logarithm], {"day": [date(2026, 11, 24), date(2020, 1, 1)]}
    )[0]  # fmt: skip


# Outliers


def test_values_outside_the_quantiles_are_pulled_in_before_the_transform() -> None:
    rng = np.random.default_rng(1)
    values = rng.lognormal(3, 2, 500)
    feature = Feature("spend", "log1p", winsorize=(0.05, 0.9))
    preparation = fit([feature], {"spend": values})
    low, high = np.quantile(values, [0.05, 0.9])
    assert (preparation.features[0].low, preparation.features[0].high) == (low, high)
    logs = np.log1p(np.clip(values, low, high))
    expected = StandardScaler().fit_transform(logs[:, None])
    np.testing.assert_allclose(transform(preparation, {"spend": values}), expected, rtol=1e-9)
    own = own_units(preparation, {"spend": [0.0, 1e12]})
    np.testing.assert_allclose(own[:, 0], [low, high])


def test_quantiles_are_of_known_values_and_the_fill_is_pulled_in_too() -> None:
    values = [*range(1, 100), 1e9, None]
    feature = Feature("spend", winsorize=(0.0, 0.5))
    preparation = fit([feature], {"spend": values}, missing="mean")
    fitted = preparation.features[0]
    assert (fitted.low, fitted.high) == (1.0, 50.5)
    assert fitted.fill == pytest.approx((4950 + 1e9) / 100)
    assert own_units(preparation, {"spend": [None]})[0, 0] == pytest.approx(50.5)


def test_quantiles_of_a_date_are_ages() -> None:
    feature = Feature("day", type="date", winsorize=(0.0, 0.5))
    days = [date(2026, 11, 22), date(2026, 11, 21), date(1900, 1, 1)]
    fitted = fit([feature], {"day": days}).features[0]
    assert (fitted.low, fitted.high) == (1.0, 2.0)


def test_winsorising_that_leaves_one_value_says_so() -> None:
    feature = Feature("spend", winsorize=(0.1, 0.9))
    assert "spend: winsorize pulls every value in to 0" in problems_of(
        [feature], {"spend": [0.0] * 99 + [5.0]}
    )[0]  # fmt: skip


def test_an_infinite_value_is_refused_before_its_quantiles_are_taken() -> None:
    feature = Feature("spend", winsorize=(0.1, 0.9))
    assert "1 row is infinite" in problems_of([feature], {"spend": [1.0, 2.0, np.inf]})[0]


def test_the_segmentations_quantiles_hold_for_numbers_and_dates_without_their_own() -> None:
    features = features_from_definition(
        {
            "winsorize": [0.01, 0.99],
            "features": [
                {"column": "a", "winsorize": None},
                {"column": "b", "winsorize": [0, 0.5], "weight": 2.0},
                {"column": "c", "type": "category"},
                {"column": "d", "type": "date"},
            ],
        }
    )
    assert [f.winsorize for f in features] == [(0.01, 0.99), (0, 0.5), None, (0.01, 0.99)]


# Row weights

few = st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 4)), min_size=5, max_size=40)


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
@given(rows=few)
def test_a_whole_weight_is_as_good_as_repeated_rows(
    rows: list[tuple[int, int]], scaling: str
) -> None:
    values, weights = zip(*rows)
    repeated = np.repeat(values, weights)
    if len(set(repeated.tolist())) < 2:
        return
    cities = [str(value % 3) for value in values]
    columns = {"x": values, "city": cities}
    features = [Feature("x")]
    if len(set(np.repeat(cities, weights).tolist())) > 1:
        features.append(CITY)
    weighted = fit(features, columns, scaling=scaling, sample_weight=weights, missing="mean")
    plain = fit(
        features,
        {"x": repeated, "city": np.repeat(np.array(cities, dtype=object), weights)},
        scaling=scaling,
        missing="mean",
    )
    assert weighted.names == plain.names
    for one, two in zip(weighted.features, plain.features):
        assert one.center == pytest.approx(two.center, rel=1e-9, abs=1e-9)
        assert one.scale == pytest.approx(two.scale, rel=1e-9)
        assert one.fill == pytest.approx(two.fill, rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50), st.floats(0, 1))
def test_a_quantile_of_equal_weights_is_numpys(values: list[float], at: float) -> None:
    column = np.array(values)
    (found,) = statistics.weighted_quantiles(column, [at], np.full(len(values), 2.5))
    assert found == pytest.approx(np.quantile(column, at), rel=1e-6, abs=1e-6)


def test_a_weighted_median_lies_where_the_weight_lies() -> None:
    column, weights = np.array([1.0, 2.0, 3.0, 10.0]), np.array([1.0, 1.0, 1.0, 97.0])
    (median,) = statistics.weighted_quantiles(column, [0.5], weights)
    assert 9 < median <= 10


def test_a_row_of_weight_0_teaches_nothing() -> None:
    preparation = fit([Feature("x")], {"x": [1.0, 3.0, 1e9]}, sample_weight=[1, 1, 0])
    assert (preparation.features[0].center, preparation.features[0].scale) == (2.0, 1.0)


def test_weights_that_cannot_be_used_come_with_the_other_problems() -> None:
    weights = [np.nan, -1, np.inf, 1]
    found = problems_of([Feature("x")], {"x": [5.0] * 4}, sample_weight=weights)
    assert found == [
        "sample_weight: 1 row is NULL; every weight must be a number, 0 or more",
        "sample_weight: 1 row is infinite; every weight must be a number, 0 or more",
        "sample_weight: 1 row is negative; every weight must be a number, 0 or more",
        "x: constant (5 in all 4 rows), so it separates nobody; remove it from features",
    ]
    assert problems_of([Feature("x")], {"x": [1.0, 2.0]}, sample_weight=[0, 0]) == [
        "sample_weight: no row has a weight above 0"
    ]


# Columns that should be none


def test_a_number_that_is_like_a_key_is_refused() -> None:
    keys = np.random.default_rng(0).permutation(np.arange(5_000, 5_150)).astype(float)
    assert problems_of([Feature("id")], {"id": keys}) == [
        "id: like a key (150 whole numbers from 5000 to 5149, all different), so it identifies "
        "and does not measure; remove it from features"
    ]


@pytest.mark.parametrize(
    "values",
    [
        np.arange(99.0),
        np.arange(150.0) + 0.5,
        np.arange(150.0) * 2.1,
        np.arange(150.0) * 3,
        np.r_[np.arange(149.0), 148.0],
        np.tile(np.arange(75.0), 2),
    ],
)
def test_a_number_that_only_looks_like_a_key_is_kept(values: np.ndarray) -> None:
    assert fit([Feature("age")], {"age": values}).columns == ["age"]


def test_a_column_of_hardly_any_values_is_refused_unless_that_is_an_error_anyway() -> None:
    values = [1.0, 2.0] + [np.nan] * 98
    for feature, column in ((Feature("x"), values), (CITY, ["a", "b"] + [None] * 98)):
        columns = {feature.column: column}
        assert problems_of([feature], columns, missing="mean") == [
            f"{feature.column}: 98 of 100 rows are NULL, more than 95%; remove it from features"
        ]
        assert "missing = " in problems_of([feature], columns)[0]
    fit([Feature("x")], {"x": values[:19]}, missing="mean")
    fit([Feature("x")], {"x": [1.0] * 4 + values[:96]}, missing="mean")


# The tables


def test_the_rows_of_the_model_table_bring_every_kind_of_feature_back() -> None:
    features = [
        Feature("spend", "log1p", 2.0, winsorize=(0.1, 0.9)), DAY,
        Feature("city", type="category", max_categories=2),
    ]  # fmt: skip
    columns = {
        "spend": [1.0, 2.0, None, 4.0],
        "day": [date(2020, 1, 1), None, date(2021, 1, 1), date(2022, 1, 1)],
        "city": ["Oslo", "oslo ", "x", None],
    }
    preparation = fit(features, columns, missing="median")
    rows = preparation_to_rows(preparation)
    assert [row["feature"] for row in rows] == preparation.names
    # A database gives a date for a date.
    for row in rows:
        if row["reference_date"]:
            row["reference_date"] = date.fromisoformat(row["reference_date"])
    again = preparation_from_rows(rows, scaling="standard", missing="median")
    assert again == preparation


def test_missing_numbers_come_in_many_forms() -> None:
    for values in ([1.0, None], pd.Series([1, pd.NA], dtype="Int64"), np.array([1.0, np.nan])):
        np.testing.assert_array_equal(
            raw_rows({"x": values}, {"x": "number"})[0], [[1.0], [np.nan]]
        )
    with pytest.raises(DataError, match="Oslo"):
        raw_rows({"x": [1.0, "Oslo"]}, {"x": "number"})
