"""Models without a run."""

from __future__ import annotations

import numpy as np

from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.model import SegmentModel

LEVELS = [*(f"level {i}" for i in range(9)), None]


def wide_model(k: int, n_features: int) -> SegmentModel:
    """Logarithms of filled and winsorized numbers and ages, and a category from 20 features on."""
    rng = np.random.default_rng(0)
    levels = LEVELS if n_features >= 20 else []
    features = [
        PreparedFeature(
            f"f{j}", "log1p", 2.0, 1.5, 0.5, 3.25, "date" if j % 5 == 4 else "number",
            low=0.5, high=900.25, reference_date="2026-11-23" if j % 5 == 4 else None,
        )
        for j in range(n_features - len(levels))
    ]  # fmt: skip
    features += [
        PreparedFeature("city", "none", 1.0, 0.5, 0.5, 0.0, "category", level) for level in levels
    ]
    return SegmentModel(
        Preparation(tuple(features), "standard", "mean"),
        rng.normal(size=(k, n_features)),
        tuple(range(1, k + 1)),
        tuple(f"it's number {i}" for i in range(k)),
    )
