"""Rows in float32 and the preparation that is learnt while they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.describing.numbers import own_values
from sqlkmeans.clustering.describing.one_pass import prepare_batch
from sqlkmeans.clustering.preparation.float32_rows import Float32Rows, NeedsFloat64, can_be_float32
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import Feature

TODAY = "2026-03-01"
FEATURES = [
    Feature("income"),
    Feature("orders", transform="log1p", weight=2.0),
    Feature("joined", type="date"),
]


def raw_rows(seed: int, rows: int = 1_000, far: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([
        far + 1_000 * rng.normal(size=rows),
        rng.poisson(3, rows).astype(float),
        np.floor(rng.uniform(15_000, 20_000, rows)),
    ])  # fmt: skip


def narrow_of(raw: np.ndarray, scaling: str, parts: int = 7) -> Float32Rows:
    narrow = Float32Rows(FEATURES, scaling, len(raw))
    for part in np.array_split(raw, parts):
        narrow.add(list(part.T))
    narrow.check()
    return narrow


@pytest.mark.parametrize("scaling", ["standard", "minmax", "none"])
@pytest.mark.parametrize("far", [0.0, 1e9])
def test_rows_and_preparation_are_those_of_all_rows_at_once(scaling: str, far: float) -> None:
    raw = raw_rows(0, far=far)
    # The first rows tell little of the others.
    raw = raw[np.argsort(raw[:, 0])]
    expected = fit_preparation(
        raw, FEATURES, scaling=scaling, missing="error", reference_date=TODAY
    )  # fmt: skip
    matrix, preparation = narrow_of(raw, scaling).finish(TODAY)
    assert matrix.dtype == np.float32
    for found, feature in zip(preparation.features, expected.features):
        assert found.center == pytest.approx(feature.center, rel=1e-12, abs=1e-12)
        assert found.scale == pytest.approx(feature.scale, rel=1e-12)
        named = (found.column, found.transform, found.weight, found.type, found.reference_date)
        assert named == (feature.column, feature.transform, feature.weight, feature.type,
                         feature.reference_date)  # fmt: skip
    exact, _ = expected.prepare(raw.copy())
    spread = exact.max(axis=0) - exact.min(axis=0)
    # Values far from the origin without scaling have the digits that float32 has there.
    room = np.maximum(spread, np.abs(exact).max(axis=0))
    np.testing.assert_allclose(matrix / room, exact / room, atol=2.5e-7)


@given(st.integers(0, 1_000), st.integers(1, 9))
def test_rows_come_in_any_number_of_parts(seed: int, parts: int) -> None:
    raw = raw_rows(seed, rows=60)
    matrix, preparation = narrow_of(raw, "standard", parts).finish(TODAY)
    whole, expected = narrow_of(raw, "standard", 1).finish(TODAY)
    np.testing.assert_allclose(matrix, whole, atol=1e-6)
    for found, feature in zip(preparation.features, expected.features):
        assert found.center == pytest.approx(feature.center, rel=1e-12)
        assert found.scale == pytest.approx(feature.scale, rel=1e-12)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (0, [np.nan, 1.0]), (0, [np.inf, 1.0]), (0, [-np.inf, 1.0]), (0, [1e200, 1.0]),
        (0, [5.0, 5.0]), (1, [-1.0, 1.0]), (1, [-7.0, 1.0]), (2, [3.0, 3.0]),
    ],
)  # fmt: skip
def test_rows_for_which_more_is_needed_are_told_apart(column: int, values: list[float]) -> None:
    raw = raw_rows(1, rows=2)
    raw[:, column] = values
    with pytest.raises(NeedsFloat64):
        narrow_of(raw, "standard", 1)


def test_a_column_like_a_key_is_told_apart() -> None:
    raw = raw_rows(2)
    raw[:, 0] = np.arange(len(raw)) + 7_000_000_001
    with pytest.raises(NeedsFloat64):
        narrow_of(raw, "standard")


def test_more_rows_than_were_counted_are_told_apart() -> None:
    narrow = Float32Rows(FEATURES, "standard", 2)
    with pytest.raises(NeedsFloat64):
        narrow.add(list(raw_rows(3, rows=3).T))


@pytest.mark.parametrize(
    ("feature", "scaling", "missing", "allowed"),
    [
        (Feature("a"), "standard", "error", True),
        (Feature("a", type="date"), "minmax", "error", True),
        (Feature("a", type="date", transform="log1p"), "none", "error", False),
        (Feature("a", type="category"), "none", "error", False),
        (Feature("a", winsorize=(0.1, 0.9)), "standard", "error", False),
        (Feature("a"), "robust", "error", False),
        (Feature("a"), "standard", "mean", False),
        (Feature("a"), "standard", "skip", False),
    ],
)
def test_what_needs_all_rows_is_told_beforehand(
    feature: Feature, scaling: str, missing: str, allowed: bool
) -> None:
    assert can_be_float32([Feature("b"), feature], scaling, missing) is allowed


def test_own_values_of_narrow_rows_are_whole_where_they_were() -> None:
    raw = raw_rows(4, rows=2_000, far=1e6)
    raw[:, 0] = np.rint(raw[:, 0])
    matrix, preparation = narrow_of(raw, "standard").finish(TODAY)
    for position, expected in ((0, raw[:, 0]), (1, raw[:, 1])):
        found = own_values(preparation.features[position], matrix[:, position])
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float64


def test_passing_rows_are_prepared_as_others_are_to_the_last_bit() -> None:
    raw = raw_rows(5)
    preparation = fit_preparation(
        raw, FEATURES, scaling="standard", missing="error", reference_date=TODAY
    )
    found = prepare_batch(preparation, list(raw.T))
    expected, _ = preparation.prepare(raw.copy())
    assert found is not None
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("column", "value"), [(0, np.nan), (0, np.inf), (1, -1.0), (1, -2.0)])
def test_passing_rows_that_cannot_be_prepared_are_told(column: int, value: float) -> None:
    raw = raw_rows(6)
    preparation = fit_preparation(
        raw, FEATURES, scaling="standard", missing="error", reference_date=TODAY
    )
    raw[17, column] = value
    assert prepare_batch(preparation, list(raw.T)) is None
