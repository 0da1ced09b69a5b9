"""Profiles against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sqlkmeans.clustering.describing.numbers import tidy
from sqlkmeans.clustering.describing.profile import (
    SegmentProfile,
    profile_segments,
    profile_to_rows,
)
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import Feature

COLUMNS = ["income", "orders", "age"]


@pytest.fixture
def described() -> tuple[pd.DataFrame, np.ndarray, list[SegmentProfile], np.ndarray]:
    """Raw rows with missing values, their labels, their profiles and squared distances."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "income": rng.normal(50_000, 20_000, 500).round(2),
            "orders": rng.integers(0, 60, 500).astype(float),
            "age": rng.integers(18, 90, 500).astype(float),
        }
    )
    frame.loc[::9, "age"] = np.nan
    matrix = frame.to_numpy().copy()
    features = [Feature("income"), Feature("orders", "log1p", 2.0), Feature("age")]
    preparation = fit_preparation(matrix, features, scaling="standard", missing="median")
    missing = [None, None, np.isnan(matrix[:, 2])]
    preparation.prepare(matrix)
    fit = fit_kmeans(matrix, 4, n_init=2)
    profiles = profile_segments(matrix, missing, preparation, fit.assignment, 4)
    return frame, fit.assignment.labels, profiles, fit.assignment.squared_distances


def test_profiles_are_everyone_and_each_segment_as_pandas_sees_them(
    described: tuple[pd.DataFrame, np.ndarray, list[SegmentProfile], np.ndarray],
) -> None:
    frame, labels, profiles, _ = described
    assert len(profiles) == 5
    for index, profile in enumerate(profiles):
        part = frame if index == 0 else frame[labels == index - 1]
        assert profile.size == len(part)
        assert profile.share == pytest.approx(len(part) / 500)
        assert list(profile.features) == COLUMNS
        for name, feature in profile.features.items():
            known = part[name]
            found = (feature.mean, feature.deviation, feature.min, feature.median, feature.max)
            expected = (known.mean(), known.std(ddof=0), known.min(), known.median(), known.max())
            assert found == pytest.approx(expected, rel=1e-9)
            assert feature.missing == known.isna().sum()
            apart = (known.mean() - frame[name].mean()) / frame[name].std(ddof=0)
            assert feature.importance == pytest.approx(apart, abs=1e-9)


def test_within_ss_adds_up_to_that_of_everyone(
    described: tuple[pd.DataFrame, np.ndarray, list[SegmentProfile], np.ndarray],
) -> None:
    _, labels, profiles, squared = described
    for cluster in range(4):
        assert profiles[cluster + 1].within_ss == pytest.approx(squared[labels == cluster].sum())
    assert profiles[0].within_ss == pytest.approx(squared.sum())


def test_scaling_there_and_back_leaves_whole_numbers_whole(
    described: tuple[pd.DataFrame, np.ndarray, list[SegmentProfile], np.ndarray],
) -> None:
    _, _, profiles, _ = described
    for profile in profiles:
        age = profile.features["age"]
        assert age.min is not None
        assert age.max is not None
        assert age.min == int(age.min)
        assert age.max == int(age.max)
        assert profile.features["income"].min == round(profile.features["income"].min or 0, 2)


def test_a_segment_that_is_empty_or_knows_nothing_has_no_numbers() -> None:
    matrix = np.array([[0.0], [1.0], [5.0], [5.0]])
    preparation = fit_preparation(matrix, [Feature("a")], scaling="none", missing="mean")
    fit = fit_kmeans(matrix, 2)
    missing = [np.array([False, False, True, True])]
    profiles = profile_segments(matrix, missing, preparation, fit.assignment, 3)
    unknown, nobody = (
        p.features["a"] for p in (profiles[1 + fit.assignment.labels[2]], profiles[3])
    )
    assert (unknown.mean, unknown.missing, unknown.importance) == (None, 2, 0.0)
    assert (nobody.mean, nobody.max, nobody.missing) == (None, None, 0)
    assert profiles[3].size == 0
    assert profiles[3].share == 0


def test_the_rows_of_a_profile_are_one_a_feature(
    described: tuple[pd.DataFrame, np.ndarray, list[SegmentProfile], np.ndarray],
) -> None:
    rows = profile_to_rows(7, described[2][1])
    assert [(row["segment_id"], row["position"], row["feature"]) for row in rows] == [
        (7, 1, "income"), (7, 2, "orders"), (7, 3, "age"),
    ]  # fmt: skip
    assert set(rows[0]) == {
        "segment_id", "position", "feature", "mean", "deviation", "min", "median", "max",
        "missing", "importance",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [(17.9999999999999, 18.0), (0.1 + 0.2, 0.3), (123456.789012, 123456.789012), (0.0, 0.0)],
)
def test_tidy_keeps_twelve_digits(value: float, expected: float) -> None:
    assert tidy(value) == expected
