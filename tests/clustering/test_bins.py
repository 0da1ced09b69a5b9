"""Bins, the population stability index, and what a comparison says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.comparing.compare import (
    THRESHOLDS,
    Comparison,
    Movement,
    RunFacts,
    compare,
    movement,
)
from sqlkmeans.clustering.describing.bins import (
    FeatureBins,
    bin_features,
    bins_from_rows,
    bins_to_rows,
    count_in,
    population_stability,
)
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import Feature, Preparation, PreparedFeature
from sqlkmeans.definition import Guard
from sqlkmeans.errors import DataError


def prepared(
    raw: np.ndarray, *features: Feature, missing: str = "median"
) -> tuple[np.ndarray, list[Any], Preparation]:
    matrix = raw.astype(np.float64).copy()
    preparation = fit_preparation(matrix, features, scaling="standard", missing=missing)
    absent = [np.isnan(column) if np.isnan(column).any() else None for column in matrix.T]
    matrix, _ = preparation.prepare(matrix)
    return matrix, absent, preparation


def bins_of(*customers: int) -> FeatureBins:
    uppers = (None, *(float(i) for i in range(1, len(customers) - 1)), None)
    labels = ("missing", *(f"bin {i}" for i in range(1, len(customers))))
    return FeatureBins("x", labels, uppers, customers)


def test_bins_are_about_tenths_with_exact_counts() -> None:
    raw = np.random.default_rng(0).lognormal(10, 1, (50_000, 1)).round(2)
    matrix, absent, preparation = prepared(raw, Feature("income", "log1p"))
    [bins] = bin_features(matrix, absent, preparation)
    assert bins.feature == "income"
    assert bins.labels[0] == "missing"
    assert bins.shares[1:] == pytest.approx(np.full(10, 0.1), abs=0.01)
    edges = [-np.inf, *bins.uppers[1:-1], np.inf]
    expected = [((raw > a) & (raw <= b)).sum() for a, b in itertools.pairwise(edges)]
    assert list(bins.customers) == [0, *expected]


def test_missing_values_are_bin_0_and_not_what_they_were_filled_with() -> None:
    raw = np.arange(100.0)[:, None]
    raw[::4] = np.nan
    matrix, absent, preparation = prepared(raw, Feature("x"))
    [bins] = bin_features(matrix, absent, preparation)
    assert bins.customers[0] == 25
    assert sum(bins.customers) == 100


def test_a_column_of_few_values_has_a_bin_for_each() -> None:
    matrix, absent, preparation = prepared(np.array([[0.0], [0], [0], [1], [2]] * 20), Feature("x"))
    [bins] = bin_features(matrix, absent, preparation)
    assert bins.labels == ("missing", "<= 0", "0 to 1", "> 1")
    assert bins.customers == (0, 60, 20, 20)


def test_a_category_has_a_bin_a_level_and_one_for_the_others() -> None:
    preparation = Preparation(
        tuple(
            PreparedFeature("city", "none", 1.0, 0.3, 0.5, None, "category", level)
            for level in ("Oslo", "Bergen")
        ),
        "standard", "error",
    )  # fmt: skip
    own = np.array([[1, 0]] * 5 + [[0, 1]] * 3 + [[0, 0]] * 2)
    matrix = (own - 0.3) / 0.5
    [bins] = bin_features(matrix, [None, None], preparation)
    assert bins.labels == ("missing", "Oslo", "Bergen", "(other)")
    assert bins.customers == (0, 5, 3, 2)
    earlier = FeatureBins("city", ("missing", "Oslo", "(other)"), (None,) * 3, (0, 9, 1))
    [counted] = count_in([earlier], matrix, [None, None], preparation)
    assert counted.customers == (0, 5, 5)


def test_rows_are_counted_in_the_bins_of_an_earlier_run_whatever_the_scaling_is_now() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(18, 90, (1000, 1)).astype(float)
    [earlier] = bin_features(*prepared(first, Feature("age")))
    later = rng.integers(40, 120, (500, 1)).astype(float)
    [counted] = count_in([earlier], *prepared(later, Feature("age", "log1p")))
    edges = [-np.inf, *earlier.uppers[1:-1], np.inf]
    expected = [((later > a) & (later <= b)).sum() for a, b in itertools.pairwise(edges)]
    assert list(counted.customers[1:]) == expected
    assert (counted.labels, counted.uppers) == (earlier.labels, earlier.uppers)


def test_a_column_that_the_earlier_run_does_not_have_is_left_out() -> None:
    assert count_in([bins_of(0, 5, 5)], *prepared(np.array([[1.0], [2]]), Feature("y"))) == []


def test_bins_survive_the_way_through_the_table() -> None:
    raw = np.random.default_rng(3).normal(size=(200, 2))
    bins = bin_features(*prepared(raw, Feature("a"), Feature("b")))
    assert bins_from_rows(bins_to_rows(bins)[::-1]) == bins


def test_the_population_stability_index_is_the_sum_of_its_definition() -> None:
    before, now = bins_of(0, 50, 50), bins_of(0, 75, 25)
    assert population_stability(before, now) == pytest.approx(0.25 * log(1.5) - 0.25 * log(0.5))


def test_an_empty_bin_counts_as_a_ten_thousandth() -> None:
    expected = 0.5 * log(1 / 0.5) + (1e-4 - 0.5) * log(1e-4 / 0.5)
    assert population_stability(bins_of(0, 5, 5), bins_of(0, 10, 0)) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=2, max_size=12))
def test_the_index_is_never_negative_symmetric_and_0_for_the_same(
    pairs: list[tuple[int, int]],
) -> None:
    before, now = bins_of(0, *(a for a, _ in pairs)), bins_of(0, *(b for _, b in pairs))
    assert population_stability(before, now) >= 0
    assert population_stability(before, now) == pytest.approx(population_stability(now, before))
    assert population_stability(before, before) == 0


# The comparison


BEFORE = RunFacts(
    run_id=3, rows=1000, k=3, silhouette=0.6, mean_distance=0.5,
    definition={"features": [{"column": "x", "weight": 1.0}], "scaling": "standard",
                "missing": "error"},
    bins=[bins_of(0, 500, 500)], means={"x": 40_000.0},
)  # fmt: skip
SAME = replace(BEFORE, run_id=4)
STAYED = Movement(stayed=1000, moved=0)


def compared(now: RunFacts, moves: Movement = STAYED, **guard: Any) -> Comparison:
    return compare(now, BEFORE, moves, guard)


def test_a_run_like_the_one_before_says_nothing() -> None:
    found = compared(SAME)
    assert (found.alarms, found.notes) == ([], [])
    assert found.run == {"compared_run_id": 3, "psi": 0.0, "centroid_shift": None}


def test_a_drifted_feature_is_named_with_what_changed() -> None:
    now = replace(SAME, bins=[bins_of(0, 900, 100)], means={"x": 21_500.4})
    [alarm] = compared(now).alarms
    assert alarm == (
        "x: drifted since run 3 (PSI 0.88, allowed 0.25): mean 21,500, was 40,000; "
        "90% are bin 1, and 50% were"
    )
    assert compared(now, psi=0.9).alarms == []
    [row] = compared(now).drift
    assert (row["feature"], row["mean"], row["previous_mean"]) == ("x", 21_500.4, 40_000.0)


def test_missing_values_are_drift_as_well() -> None:
    now = replace(SAME, bins=[bins_of(400, 300, 300)])
    found = compared(now)
    assert "40% are missing, and 0% were" in found.alarms[0]
    assert found.drift[0]["missing_share"] == 0.4


@pytest.mark.parametrize(
    ("changes", "moves", "words"),
    [
        ({"rows": 400}, STAYED, r"customers: 400, and 1,000 in run 3 \(-60%, allowed 50%\)"),
        ({"mean_distance": 0.8}, STAYED, r"distance: 0.8 .* was 0.5 .*\+60%, allowed 50%"),
        ({"silhouette": 0.3}, STAYED, r"silhouette: 0.30, was 0.60 .*allowed 0.2"),
        ({}, Movement(300, 700), r"moved: 700 of 1,000 customers .*70%, allowed 50%"),
        ({}, Movement(1, 0, shifts={1: 0.1, 2: 1.5}), r"segment 2: its centroid moved by 1.50"),
    ],
)
def test_each_threshold_has_its_words(changes: dict[str, Any], moves: Movement, words: str) -> None:
    found = compared(replace(SAME, **changes), moves)
    assert len(found.alarms) == 1
    with pytest.raises(DataError, match=words) as refused:
        compared(replace(SAME, **changes), moves, action="refuse")
    assert refused.value.problems[:-1] == found.alarms


def test_after_a_change_of_k_only_what_still_means_something_is_compared() -> None:
    now = replace(SAME, k=4, silhouette=0.0, mean_distance=9.0, rows=100)
    found = compared(now, Movement(0, 1000, born=[4], shifts={1: 9.0}))
    assert [alarm.split(":")[0] for alarm in found.alarms] == ["customers"]
    assert found.notes[0].startswith("k changed since run 3: moved customers")
    assert found.notes[1:] == ["segment 4 is new"]


def test_another_weight_is_another_space_and_a_key_that_came_later_is_not() -> None:
    heavier = {**BEFORE.definition, "features": [{"column": "x", "weight": 2.0}]}
    newer = {**BEFORE.definition, "features": [{"column": "x", "weight": 1.0, "type": "number"}]}
    moved = Movement(0, 10)
    assert compared(replace(SAME, definition=heavier), moved).alarms == []
    assert len(compared(replace(SAME, definition=newer), moved).alarms) == 1


def test_movement_counts_who_kept_the_segment_and_how_far_centroids_went() -> None:
    overlap = [(1, 0, 90), (1, 1, 10), (2, 1, 50), (3, 0, 5)]
    centroids, earlier = np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 0], [0, 0], [9, 9]])
    found = movement(overlap, [1, 4], centroids, [1, 2, 3], earlier)
    assert (found.stayed, found.moved) == (90, 65)
    assert (found.born, found.gone) == ([4], [2, 3])
    assert found.shifts == {1: 0.0}
    assert found.moved_share == 65 / 155


def test_the_thresholds_are_those_of_the_definition() -> None:
    assert Guard().model_dump() == {"action": "warn", **THRESHOLDS}
