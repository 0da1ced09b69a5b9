"""The smallest change of one column moves a row where it says, and nothing smaller does."""

from __future__ import annotations

import warnings
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.describing.remedy import (
    GRAIN,
    Change,
    Steps,
    smallest_changes,
    steps_from_rows,
)
from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.clustering.preparation.raw_rows import raw_rows
from sqlkmeans.model import SegmentModel
from support.models import models, rows_of


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, dtype=object)


def segments_of(model: SegmentModel, rows: list[dict[str, Any]]) -> list[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a level that the model does not know
        return model.predict(frame_of(rows)).tolist()


def changes_of(
    model: SegmentModel, row: dict[str, Any], steps: dict[int, Steps]
) -> list[Change | None]:
    raw, texts = raw_rows(frame_of([row]), model.preparation.types)
    return smallest_changes(model.preparation, model.centroids, raw[0], texts, steps)


def changed(row: dict[str, Any], feature: PreparedFeature, value: Any) -> dict[str, Any]:
    if feature.type == "date" and isinstance(value, str):
        value = date.fromisoformat(value)
    return {**row, feature.column: value}


@given(models(), st.data())
def test_the_change_applied_and_scored_again_is_in_the_named_segment(
    given_model: tuple[SegmentModel, dict[int, Steps]], data: st.DataObject
) -> None:
    model, steps = given_model
    row = data.draw(rows_of(model))
    [own] = segments_of(model, [row])
    for feature, change in zip(model.preparation.features, changes_of(model, row, steps)):
        if change is not None:
            [moved] = segments_of(model, [changed(row, feature, change.value)])
            assert moved == model.segment_ids[change.segment] != own


@given(models(), st.data())
def test_no_smaller_change_moves_the_row(
    given_model: tuple[SegmentModel, dict[int, Steps]], data: st.DataObject
) -> None:
    model, steps = given_model
    row = data.draw(rows_of(model))
    [own] = segments_of(model, [row])
    for position, (feature, change) in enumerate(
        zip(model.preparation.features, changes_of(model, row, steps)), start=1
    ):
        if feature.type == "category":
            continue
        start = row[feature.column]
        if feature.type == "date" and start is not None:
            start = (date(2026, 11, 23) - start).days
        start = feature.fill if start is None else float(start)
        if change is None:
            # As far as anybody would go.
            ends = [start - 30 * feature.scale, start + 30 * feature.scale]
            spare = 0.0
        else:
            new = change.value
            if isinstance(new, str):
                new = (date(2026, 11, 23) - date.fromisoformat(new)).days
            # What rounding may have added, and the same on the other side.
            spare = rounding(model, row, changed(row, feature, change.value), feature, new)
            if feature.type == "date" or position in steps:
                spare = max(spare, 1.0)
            way = max(0.0, abs(new - start) - 2 * spare)
            ends = [start - way, start + way]
        values = np.linspace(*ends, 21)
        if feature.type == "date" or position in steps:
            values = np.round(values)
            values = values[(values >= min(ends)) & (values <= max(ends))]
        if not len(values):
            continue
        if feature.type == "date":
            values = values[(values > -600_000) & (values < 700_000)]
            tried = [date(2026, 11, 23) - timedelta(int(v)) for v in values]
        else:
            if feature.transform == "log1p":
                values = values[values > -0.99]
            tried = values.tolist()
        found = segments_of(model, [changed(row, feature, value) for value in tried])
        assert set(found) <= {own}, (feature, change, start)


def rounding(
    model: SegmentModel, row: dict[str, Any], then: dict[str, Any], feature: PreparedFeature,
    new: float,
) -> float:  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        points = model.prepare(frame_of([row, then]))
        near = model.transform(frame_of([row])).min()
    reach = near + np.abs(points[1] - points[0]).max()
    stretch = 1 + max(new, 0.0) if feature.transform == "log1p" else 1.0
    return float(2 * GRAIN * feature.divisor * reach * stretch) + 1e-9 * abs(new)


def one_feature(**about: Any) -> SegmentModel:
    """Centroids at 0, 10 and 30."""
    feature = PreparedFeature("x", "none", 1.0, 0.0, 1.0, None, **about)
    return SegmentModel(
        Preparation((feature,), "none", "error"), np.array([[0.0], [10.0], [30.0]]), (1, 2, 3),
        ("a", "b", "c"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "new", "segment"),
    [(0.0, 5.01, 1), (9.5, 4.99, 0), (16.0, 20.01, 2), (100.0, 19.9, 1), (10.0, 4.99, 0)],
)
def test_the_nearest_border_is_crossed_by_a_round_number(
    value: float, new: float, segment: int
) -> None:
    [change] = changes_of(one_feature(), {"x": value}, {})
    assert change is not None
    assert (change.value, change.segment) == (pytest.approx(new, abs=0.1), segment)
    assert change.difference == pytest.approx(change.value - value)


def test_a_column_of_whole_numbers_changes_by_whole_numbers_past_the_very_border() -> None:
    [change] = changes_of(one_feature(), {"x": 3.0}, {1: Steps(True)})
    assert change == Change(6.0, 3.0, 1)


def test_a_number_of_0_and_1_becomes_nothing_else() -> None:
    assert changes_of(one_feature(), {"x": 1.0}, {1: Steps(True, 0.0, 1.0)}) == [None]
    feature = PreparedFeature("x", "none", 1.0, 0.0, 1.0, None)
    model = SegmentModel(Preparation((feature,), "none", "error"), np.array([[0.2], [0.7]]),
                         (1, 2), ("a", "b"))  # fmt: skip
    assert changes_of(model, {"x": 1.0}, {1: Steps(True, 0.0, 1.0)}) == [Change(0.0, -1.0, 0)]


def test_a_value_that_is_pulled_in_cannot_reach_a_border_beyond() -> None:
    model = one_feature(low=-4.0, high=12.0)
    [change] = changes_of(model, {"x": 11.0}, {})
    assert change is not None
    assert change.segment == 0
    # From far outside the way back is as long as it is.
    [change] = changes_of(model, {"x": 1000.0}, {})
    assert change is not None
    assert (change.segment, change.difference) == (0, pytest.approx(-995, abs=0.1))
    assert changes_of(one_feature(low=6.0, high=12.0), {"x": 1000.0}, {}) == [None]


def test_a_feature_in_which_the_segments_do_not_differ_moves_nobody() -> None:
    features = [PreparedFeature(name, "none", 1.0, 0.0, 1.0, None) for name in ("x", "y")]
    model = SegmentModel(Preparation(tuple(features), "none", "error"),
                         np.array([[0.0, 1.0], [10.0, 1.0]]), (1, 2), ("a", "b"))  # fmt: skip
    change, none = changes_of(model, {"x": 2.0, "y": 7.0}, {})
    assert change is not None
    assert none is None


def test_columns_are_whole_where_every_segment_says_so() -> None:
    rows = [
        {"position": 1, "min": 1.0, "max": 9.0, "median": 3.5},
        {"position": 1, "min": 2.0, "max": 4.0, "median": 3.0},
        {"position": 2, "min": 0.0, "max": 1.0, "median": 0.25},
        {"position": 3, "min": 0.0, "max": 1.0, "median": 0.5},
        {"position": 4, "min": None, "max": 1.0, "median": None},
    ]
    assert steps_from_rows(rows) == {
        1: Steps(True), 2: Steps(), 3: Steps(True, 0.0, 1.0), 4: Steps(),
    }  # fmt: skip
