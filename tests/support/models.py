"""Models without a run."""

from __future__ import annotations

from datetime import date

import numpy as np
from hypothesis import strategies as st

from sqlkmeans.clustering.describing.remedy import Steps
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


@st.composite
def models(draw: st.DrawFn) -> tuple[SegmentModel, dict[int, Steps]]:
    """Any model of numbers, dates and categories, and which of its numbers are whole."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    filled = draw(st.booleans())
    features: list[PreparedFeature] = []
    steps = {}
    for j, kind in enumerate(
        draw(st.lists(st.sampled_from(["number", "whole", "date", "category"]), min_size=1,
                      max_size=4))
    ):  # fmt: skip
        scale = float(10 ** rng.uniform(-3, 4))
        weight = float(rng.choice([0.5, 1.0, 2.0]))
        if kind == "category":
            levels = [*LEVELS[: rng.integers(2, 5)], *([None] if rng.random() < 0.5 else [])]
            features += [
                PreparedFeature(f"city {j}", "none", weight, 0.2, 0.7,
                                float(not p) if filled else None, kind, level)
                for p, level in enumerate(levels)
            ]  # fmt: skip
            continue
        log = rng.random() < 0.4
        low, high = (
            (-0.5 if log else -2 * scale, 1.5 * scale) if rng.random() < 0.4 else (None, None)
        )
        centre, divisor = (1.5, 0.8) if log else (float(rng.normal()) * scale, scale)
        features.append(
            PreparedFeature(
                f"f{j}", "log1p" if log else "none", weight, centre, divisor,
                scale * 0.5 if filled else None, "date" if kind == "date" else "number",
                low=low, high=high, reference_date="2026-11-23" if kind == "date" else None,
            )
        )  # fmt: skip
        if kind == "whole":
            steps[len(features)] = Steps(True)
    k = draw(st.integers(2, 6))
    centroids = rng.normal(size=(k, len(features)))
    # Segments that are alike in some features, as real ones are.
    centroids[:, rng.random(len(features)) < 0.2] = 0.5
    centroids[0] += 0.01
    model = SegmentModel(
        Preparation(tuple(features), "standard", "mean" if filled else "skip"), centroids,
        tuple(range(2, k + 2)), tuple(f"it's {i}" for i in range(k)),
    )  # fmt: skip
    return model, steps


def rows_of(model: SegmentModel) -> st.SearchStrategy[dict[str, object]]:
    """Rows that a model labels, one value a column."""
    values = {
        "number": lambda f: st.floats(-0.9, 3).map(lambda x: round(x * f.scale, 3)),
        "date": lambda f: st.dates(date(2000, 1, 1), date(2026, 11, 23)),
        "category": lambda f: st.sampled_from([*LEVELS[:5], "unseen"]),
    }
    fields = {}
    for feature in model.preparation.features:
        strategy = values[feature.type](feature)
        if feature.transform == "log1p" and feature.type == "number":
            strategy = strategy.map(abs)
        fields[feature.column] = strategy | st.none() if feature.fill is not None else strategy
    return st.fixed_dictionaries(fields)
