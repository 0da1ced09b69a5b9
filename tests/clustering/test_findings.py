"""What a run says of its features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import skew

from sqlkmeans.clustering.describing.findings import FINDING_ROWS, feature_findings
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import Feature


def findings(columns: dict[str, np.ndarray], **changes: Feature) -> list[str]:
    matrix = np.column_stack(list(columns.values())).astype(float)
    features = [changes.get(name, Feature(name)) for name in columns]
    preparation = fit_preparation(
        matrix, features, scaling="standard", missing="error", reference_date="2026-11-23",
        texts={name: ["a", "b"] for name in columns},
    )  # fmt: skip
    return feature_findings(preparation.prepare(matrix)[0], preparation)


@pytest.fixture
def spend() -> np.ndarray:
    return np.random.default_rng(0).lognormal(3, 1.2, 5_000)


def test_skew_is_scipys_and_comes_with_what_to_try(spend: np.ndarray) -> None:
    assert findings({"spend": spend}) == [f'spend: skew {skew(spend):.1f}; try transform = "log1p"']


def test_skew_is_not_told_where_a_logarithm_is_taken_or_would_not_help(spend: np.ndarray) -> None:
    assert not findings({"spend": spend}, spend=Feature("spend", "log1p"))
    assert not findings({"spend": spend}, spend=Feature("spend", winsorize=(0.0, 0.99)))
    assert not findings({"spend": spend - 500})
    assert findings({"spend": spend - spend.min()}), "0 has a logarithm"
    assert not findings({"age": np.random.default_rng(1).normal(40, 9, 5_000)})


def test_two_features_that_say_the_same_are_named_with_their_correlation() -> None:
    rng = np.random.default_rng(2)
    income = rng.normal(50_000, 9_000, 4_000)
    columns = {
        "income": income,
        "salary": income / 12 + rng.normal(0, 50, 4_000),
        "debt": -income + rng.normal(0, 900, 4_000),
        "age": rng.normal(40, 9, 4_000),
    }
    found = findings(columns)
    assert [line.split(":")[0] for line in found] == [
        "income and salary", "income and debt", "salary and debt",
    ]  # fmt: skip
    r = np.corrcoef(income, columns["debt"])[0, 1]
    assert f"correlation {r:.2f}, so they count nearly the same thing twice" in found[1]


def test_a_level_is_no_near_duplicate_of_another() -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 2, 500).astype(float)
    matrix = np.column_stack([codes, rng.normal(size=500)])
    features = [Feature("city", type="category"), Feature("x")]
    texts = {"city": ["a", "b"]}
    preparation = fit_preparation(
        matrix, features, scaling="standard", missing="error", texts=texts
    )
    prepared, _ = preparation.prepare(matrix, texts)
    assert prepared.shape == (500, 3)
    assert feature_findings(prepared, preparation) == []


def test_many_rows_are_sampled_the_same_way_each_time() -> None:
    x = np.random.default_rng(4).lognormal(0, 1.5, FINDING_ROWS * 2 + 7)
    assert findings({"x": x}) == findings({"x": x})
    assert findings({"x": x})[0].startswith("x: skew ")
