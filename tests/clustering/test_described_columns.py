"""Columns that are only described: against pandas, SciPy and published intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sqlkmeans.clustering.describing.profile_columns import (
    ColumnProfile,
    ColumnValues,
    Measured,
    ProfileColumn,
    describe_columns,
    mean_difference,
    share_difference,
    student_quantile,
    told_levels,
)

CITIES = ["Oslo", "Bergen", "Tromsø"]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Customers in three segments, some values missing."""
    rng = np.random.default_rng(0)
    segment = rng.integers(0, 3, 900)
    frame = pd.DataFrame(
        {
            "segment": segment.astype(np.int32),
            "revenue": 1e6 + rng.gamma(2.0, 40.0, 900) * (1 + segment),
            "churned": (rng.random(900) < 0.1 + 0.2 * segment).astype(float),
            "city": np.where(rng.random(900) < 0.5, 0.0, segment),
        }
    )
    frame.loc[::11, ["revenue", "churned"]] = np.nan
    frame.loc[::13, "city"] = np.nan
    return frame


def described(frame: pd.DataFrame, *columns: ProfileColumn, k: int = 3) -> list[Any]:
    values = frame[[column.name for column in columns]].to_numpy()
    labels = frame["segment"].to_numpy()
    return list(describe_columns(ColumnValues(columns, values, {"city": CITIES}), labels, k))


def test_a_number_has_the_mean_deviation_and_median_that_pandas_sees(frame: pd.DataFrame) -> None:
    groups = described(frame, ProfileColumn("revenue", "number"))
    for index, (found,) in enumerate(groups):
        known = (frame if index == 0 else frame[frame["segment"] == index - 1])["revenue"]
        assert (found.known, found.missing) == (known.notna().sum(), known.isna().sum())
        expected = (known.mean(), known.std(ddof=0), known.median())
        assert (found.mean, found.deviation, found.median) == pytest.approx(expected, rel=1e-11)
        assert (found.level, found.share) == (None, None)


def test_the_interval_of_a_mean_is_welchs_against_all_others(frame: pd.DataFrame) -> None:
    everyone = frame["revenue"].dropna()
    for index, (found,) in enumerate(described(frame, ProfileColumn("revenue", "number"))):
        if index == 0:
            assert found.difference is None
            continue
        inside = frame["segment"] == index - 1
        own, others = frame["revenue"][inside].dropna(), frame["revenue"][~inside].dropna()
        interval = stats.ttest_ind(own, others, equal_var=False).confidence_interval(0.95)
        part = len(others) / len(everyone) / everyone.std(ddof=0)
        assert found.difference == pytest.approx(
            (own.mean() - everyone.mean()) / everyone.std(ddof=0)
        )
        assert found.difference_low == pytest.approx(part * interval.low, rel=1e-6)
        assert found.difference_high == pytest.approx(part * interval.high, rel=1e-6)


@pytest.mark.parametrize("freedom", [4.0, 7.3, 30.0, 1e9])
def test_students_quantile_is_scipys(freedom: float) -> None:
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-3)


def test_the_interval_of_a_share_is_newcombes() -> None:
    # 56 of 70 and 48 of 80: 0.0524 to 0.3339 (Newcombe, 1998, table II, method 10).
    group, everyone = Measured(70, 0, having=56), Measured(150, 0, having=104)
    difference, low, high = share_difference(group, everyone)
    assert difference == pytest.approx(56 / 70 - 104 / 150)
    assert low == pytest.approx(0.0524 * 80 / 150, abs=5e-5)
    assert high == pytest.approx(0.3339 * 80 / 150, abs=5e-5)


def test_a_boolean_is_the_share_of_yes_and_a_category_that_of_each_level(
    frame: pd.DataFrame,
) -> None:
    groups = described(
        frame, ProfileColumn("churned", "boolean"), ProfileColumn("city", "category")
    )
    for index, (churned, *cities) in enumerate(groups):
        part = frame if index == 0 else frame[frame["segment"] == index - 1]
        assert churned.level == "yes"
        assert churned.share == pytest.approx(part["churned"].mean(), rel=1e-11)
        # Most frequent first, by everyone.
        often = frame["city"].value_counts().index.astype(int)
        assert [city.level for city in cities] == [CITIES[code] for code in often]
        assert sum(city.share for city in cities) == pytest.approx(1)
        for city in cities:
            has_it = part["city"].dropna() == CITIES.index(city.level)
            assert city.share == pytest.approx(has_it.mean(), rel=1e-11)
            assert city.missing == part["city"].isna().sum()


def test_at_most_twenty_frequent_levels_are_told_of_and_the_rest_is_one() -> None:
    counts = {f"level {number:02}": 100 - number for number in range(30)} | {"(other)": 5_000}
    levels = told_levels(counts, 31, sum(counts.values()))
    assert levels == [*(f"level {number:02}" for number in range(20)), None]
    assert told_levels({"a": 995, "b": 5}, 2, 1000) == ["a", None]
    assert told_levels({"a": 995, "b": 15}, 2, 1010) == ["a", "b"]


def test_a_column_without_a_value_has_nothing_but_counts() -> None:
    frame = pd.DataFrame({"segment": np.zeros(5, np.int32), "x": np.nan, "city": np.nan})
    columns = (ProfileColumn("x", "number"), ProfileColumn("city", "category"))
    for number, city in described(frame, *columns, k=1):
        assert number == ColumnProfile("x", "number", None, 0, 5, *[None] * 7)
        assert city == ColumnProfile("city", "category", "(other)", 0, 5, *[None] * 7)


def test_what_does_not_vary_has_no_difference_and_no_interval() -> None:
    same = Measured(10, 0, 3.0, 0.0, 3.0)
    assert mean_difference(same, Measured(30, 0, 3.0, 0.0, 3.0)) == (0.0, None, None)


def test_one_customer_alone_has_a_difference_and_no_interval() -> None:
    one, everyone = Measured(1, 0, 5.0, 0.0, 5.0), Measured(11, 0, 1.0, 2.0, 1.0)
    assert mean_difference(one, everyone) == (2.0, None, None)


def test_infinite_values_count_as_missing_and_a_date_is_an_age() -> None:
    raw = np.array([1.0, np.inf, -np.inf, np.nan])
    own = ProfileColumn("x", "number").own_values(raw)
    np.testing.assert_array_equal(own, [1.0, np.nan, np.nan, np.nan])
    assert ProfileColumn("d", "date", "1970-01-11").own_values(np.array([3.0])) == [7.0]
