"""SegmentModel: nothing is lost on the way through JSON and tables."""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.clustering.preparation.raw_rows import level_codes
from sqlkmeans.errors import DataError
from sqlkmeans.model import SegmentModel

numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-300, allow_infinity=False)


@st.composite
def models(draw: st.DrawFn) -> SegmentModel:
    name = st.text(min_size=1, max_size=8)
    columns = draw(st.lists(name, min_size=1, max_size=4, unique=True))
    n_features, k = len(columns), draw(st.integers(1, 5))
    features = tuple(
        PreparedFeature(
            column,
            draw(st.sampled_from(["none", "log1p"])),
            draw(positive), draw(numbers), draw(positive), draw(st.none() | numbers),
        )
        for column in columns
    )  # fmt: skip
    row = st.lists(numbers, min_size=n_features, max_size=n_features)
    return SegmentModel(
        Preparation(
            features,
            draw(st.sampled_from(["standard", "robust", "minmax", "none"])),
            draw(st.sampled_from(["error", "skip", "mean", "median"])),
        ),
        np.array(draw(st.lists(row, min_size=k, max_size=k))),
        tuple(draw(st.lists(st.integers(1, 10**6), min_size=k, max_size=k, unique=True))),
        tuple(draw(st.lists(st.text(max_size=10), min_size=k, max_size=k))),
    )


def bits(model: SegmentModel) -> tuple[object, ...]:
    """Everything a model is, floats as their bytes."""
    values = [[f.weight, f.center, f.scale, f.fill] for f in model.preparation.features]
    return (
        model.centroids.tobytes(), model.segment_ids, model.names, model.preparation.scaling,
        model.preparation.missing, [(f.column, f.transform) for f in model.preparation.features],
        [None if v is None else np.float64(v).tobytes() for row in values for v in row],
    )  # fmt: skip


@given(models())
def test_json_keeps_every_bit(model: SegmentModel) -> None:
    again = SegmentModel.from_json(model.to_json())
    assert bits(again) == bits(model)
    assert again == model
    assert hash(again) == hash(model)


@given(models())
def test_tables_keep_every_bit(model: SegmentModel) -> None:
    with np.errstate(all="ignore"):
        rows = model.to_rows()
    names = dict(zip(model.segment_ids, model.names))
    again = SegmentModel.from_rows(
        rows["model_feature"][::-1], rows["centroid"][::-1], names,
        scaling=model.preparation.scaling, missing=model.preparation.missing,
    )  # fmt: skip
    assert bits(again) == bits(model)


@given(models(), st.data())
def test_a_model_predicts_the_same_after_json(model: SegmentModel, data: st.DataObject) -> None:
    width = len(model.columns)
    value = numbers | st.just(float("nan"))
    row = st.lists(value, min_size=width, max_size=width)
    rows = np.array(data.draw(st.lists(row, min_size=1, max_size=8)))
    with np.errstate(all="ignore"):
        expected = model.predict(rows)
        found = SegmentModel.from_json(model.to_json()).predict(rows)
    assert found.tolist() == expected.tolist()
    assert set(found) <= {0, *model.segment_ids}


def simple(missing: str = "error", fill: float | None = None) -> SegmentModel:
    features = (
        PreparedFeature("income", "none", 1.0, 50.0, 10.0, fill),
        PreparedFeature("age", "none", 2.0, 40.0, 5.0, fill),
    )
    centroids = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 4.0]])
    return SegmentModel(
        Preparation(features, "standard", missing), centroids, (7, 2, 4), ("rich", "poor", "old")
    )


def test_segments_stand_in_the_order_of_their_ids() -> None:
    model = simple()
    assert model.segment_ids == (2, 4, 7)
    assert model.names == ("poor", "old", "rich")
    assert model.centroids.tolist() == [[-2.0, 0.0], [0.0, 4.0], [2.0, 0.0]]
    assert model.k == 3
    assert model.columns == ["income", "age"]


def test_predict_gives_segment_ids() -> None:
    assert simple().predict([[72, 40], [28, 40], [50, 52]]).tolist() == [7, 2, 4]


def test_a_data_frame_may_hold_its_columns_in_any_order() -> None:
    frame = pd.DataFrame({"age": [40, 52], "other": ["x", "y"], "income": [72, 50]})
    assert simple().predict(frame).tolist() == [7, 4]


def test_a_row_with_a_missing_value_has_segment_0_unless_the_model_fills_it_in() -> None:
    assert simple().predict([[np.nan, 40]]).tolist() == [0]
    assert simple("mean", 52.0).predict([[50.0, np.nan]]).tolist() == [4]


def test_no_rows_have_no_segments() -> None:
    assert simple().predict(np.empty((0, 2))).tolist() == []


@pytest.mark.parametrize("rows", [[1.0, 2.0], [[1.0]], [[1.0, 2.0, 3.0]]])
def test_rows_of_another_shape_are_refused(rows: object) -> None:
    with pytest.raises(DataError, match=r"the columns income, age"):
        simple().predict(rows)


def test_every_column_that_rows_lack_or_spell_otherwise_is_named() -> None:
    with pytest.raises(DataError) as refused:
        simple().predict(pd.DataFrame({"Income": [1.0], "city": ["Oslo"]}))
    assert refused.value.problems == [
        "income: no such column in the rows, did you mean Income? (they have Income, city)",
        "age: no such column in the rows (they have Income, city)",
    ]
    with pytest.raises(DataError, match="different lengths given: income 2, age 1"):
        simple().predict({"income": [1, 2], "age": [3]})


def test_every_column_with_values_that_are_none_is_named_with_their_number() -> None:
    with pytest.raises(DataError) as refused:
        simple().predict({"income": [np.inf, -np.inf, 3.0], "age": ["old", 4, None]})
    assert refused.value.problems == [
        "income: 2 rows are infinite; every value must be a finite number or NULL",
        "age: 1 row is not a number (such as 'old')",
    ]
    with pytest.raises(DataError, match=r"day: 2 rows are not a date \(such as 'soon'\)"):
        mixed().predict(
            {"income": [1.0] * 3, "city": ["Oslo"] * 3, "day": ["soon", "2026-01-01", "x"]}
        )


def with_levels(*levels: str | None) -> SegmentModel:
    features = tuple(
        PreparedFeature("member", "none", 1.0, 0.0, 1.0, None, "category", level)
        for level in levels
    )
    centroids = np.eye(len(levels))
    ids = tuple(range(1, len(levels) + 1))
    names = tuple(str(level) for level in levels)
    return SegmentModel(Preparation(features, "none", "error"), centroids, ids, names)


def test_levels_that_a_model_does_not_know_are_told_with_their_number() -> None:
    rows = {"member": ["gold", "iron", "tin", "tin", None]}
    with pytest.warns(UserWarning, match="member") as told:
        with_levels("gold", "silver").predict(rows)
    assert [str(one.message) for one in told] == [
        "member: 3 rows have levels that the model does not know ('tin' 2, 'iron' 1); it knows "
        "'gold', 'silver'"
    ]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_levels("gold", None).predict(rows).tolist() == [1, 2, 2, 2, 0]


@pytest.mark.parametrize(
    "values",
    [["yes", "No", None], ["TRUE", "false", None], [True, False, None], [1, 0, None],
     [1.0, 0.0, np.nan], ["1", "0", None], ["t", "f", None]],
)  # fmt: skip
def test_a_boolean_of_the_database_may_be_written_as_people_do(values: list[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_levels("0", "1").predict({"member": values}).tolist() == [2, 1, 0]
    number = PreparedFeature("member", "none", 1.0, 0.0, 1.0, None)
    model = SegmentModel(
        Preparation((number,), "none", "error"), np.array([[0.0], [1.0]]), (1, 2), ("a", "b")
    )
    assert model.predict({"member": values}).tolist() == [2, 1, 0]


def test_distances_are_those_of_the_scaled_space() -> None:
    np.testing.assert_allclose(simple().transform([[50.0, 40.0]]), [[2.0, 4.0, 2.0]])


def test_own_units_undo_the_preparation() -> None:
    np.testing.assert_allclose(simple().own_units(), [[30, 40], [50, 50], [70, 40]])


def test_a_model_cannot_be_changed() -> None:
    model = simple()
    with pytest.raises(AttributeError):
        model.names = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        model.centroids[0, 0] = 1.0


def test_the_caller_s_array_is_left_alone() -> None:
    centroids = np.array([[1.0], [0.0]])
    feature = PreparedFeature("a", "none", 1.0, 0.0, 1.0, None)
    model = SegmentModel(Preparation((feature,), "none", "error"), centroids, (1, 2), ("x", "y"))
    centroids[0, 0] = 99.0
    assert model.centroids.tolist() == [[1.0], [0.0]]


def test_json_of_another_format_is_refused() -> None:
    values = {**json.loads(simple().to_json()), "format": 99}
    with pytest.raises(ValueError, match="format 99 given; allowed: 1"):
        SegmentModel.from_json(json.dumps(values))


def test_json_is_text_that_any_language_reads() -> None:
    values = json.loads(simple().to_json())
    assert values["features"][0] == {
        "column": "income", "transform": "none", "weight": 1.0, "center": 50.0, "scale": 10.0,
        "fill": None, "type": "number", "level": None, "low": None, "high": None,
        "reference_date": None,
    }  # fmt: skip
    assert values["segments"][0] == {"segment_id": 2, "name": "poor", "centroid": [-2.0, 0.0]}


def test_nothing_in_the_model_or_its_json_is_pickled() -> None:
    assert pickle.dumps(0)[:1] not in simple().to_json().encode()
    rows = simple().to_rows()
    kinds = {type(value) for table in rows.values() for row in table for value in row.values()}
    assert kinds <= {int, float, str, type(None)}


# Categories and dates


def mixed() -> SegmentModel:
    features = (
        PreparedFeature("income", "none", 1.0, 50.0, 10.0, None, low=0.0, high=90.0),
        PreparedFeature("city", "none", 1.0, 0.5, 0.8, None, "category", "Oslo"),
        PreparedFeature("city", "none", 1.0, 0.2, 0.8, None, "category", None),
        PreparedFeature("day", "none", 1.0, 30.0, 5.0, None, "date", reference_date="2026-11-23"),
    )
    centroids = np.array([[0.0, 0.625, -0.25, 0.0], [1.0, -0.625, 1.0, 4.0]])
    return SegmentModel(Preparation(features, "standard", "skip"), centroids, (1, 2), ("a", "b"))


ROWS = {
    "income": [50.0, 60.0, None],
    "city": ["Oslo", "Bergen", "Oslo"],
    "day": [date(2026, 10, 24), date(2026, 10, 4), date(2026, 1, 1)],
}


def test_columns_are_the_sources_and_features_have_names_of_their_own() -> None:
    assert mixed().columns == ["income", "city", "day"]
    assert mixed().preparation.names == ["income", "city = Oslo", "city = (other)", "day"]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS)[["day", "city", "income"]].assign(more=1),
        pd.DataFrame(ROWS).astype({"city": "category"}),
        pa.table(ROWS),
        np.array(list(zip(*ROWS.values())), dtype=object),
    ],
)
def test_rows_with_texts_and_dates_come_in_many_forms(rows: object) -> None:
    assert mixed().predict(rows).tolist() == [1, 2, 0]
    distances = mixed().transform(rows)
    assert distances[0, 0] == pytest.approx(0)
    assert distances[1, 1] == pytest.approx(0)
    assert np.isnan(distances[2]).all()


def test_own_units_of_a_category_are_shares_and_of_a_date_days() -> None:
    np.testing.assert_allclose(mixed().own_units(), [[50, 1, 0, 30], [60, 0, 1, 50]], atol=1e-12)


def test_a_model_of_categories_and_dates_survives_json_and_tables() -> None:
    model = mixed()
    assert SegmentModel.from_json(model.to_json()) == model
    rows = model.to_rows()
    assert [row["feature"] for row in rows["centroid"][:4]] == model.preparation.names
    again = SegmentModel.from_rows(
        rows["model_feature"], rows["centroid"], {1: "a", 2: "b"}, scaling="standard",
        missing="skip",
    )  # fmt: skip
    assert again == model


def test_centroids_are_compared_in_the_space_of_another_run() -> None:
    old, features = mixed(), list(mixed().preparation.features)
    np.testing.assert_allclose(old.centroids_in(old.preparation), old.centroids, atol=1e-12)
    # A level that is new has the share 0 in the old model, and one that is gone is left out.
    features[2] = replace(features[2], level="Bergen")
    found = old.centroids_in(Preparation(tuple(features), "standard", "skip"))
    assert found is not None
    np.testing.assert_allclose(found[:, 2], [-0.25, -0.25])
    np.testing.assert_allclose(found[:, [0, 1, 3]], old.centroids[:, [0, 1, 3]], atol=1e-12)
    assert old.centroids_in(Preparation(tuple(features[:3]), "standard", "skip")) is None
    features[3] = replace(features[3], type="number", reference_date=None)
    assert old.centroids_in(Preparation(tuple(features), "standard", "skip")) is None


def test_the_model_has_the_names_of_scikit_learn() -> None:
    model = mixed()
    assert model.feature_names_in_.tolist() == model.columns
    assert model.n_features_in_ == len(model.columns)
    assert model.cluster_centers_.shape == (model.k, len(model.preparation.features))
    np.testing.assert_array_equal(model.cluster_centers_, model.centroids)


def test_the_nearest_by_transform_is_what_is_predicted() -> None:
    model, rows = simple(), np.array([[50.0, 40.0], [10.0, 3.0], [np.nan, 1.0]])
    distances = model.transform(rows)
    assert distances.shape == (3, model.k)
    known = np.isfinite(distances).all(axis=1)
    nearest = np.array(model.segment_ids)[distances[known].argmin(axis=1)]
    np.testing.assert_array_equal(nearest, model.predict(rows)[known])


def test_a_missing_text_of_an_arrow_dictionary_is_missing() -> None:
    values = pa.chunked_array([pa.array(["a", None, "b"]).dictionary_encode()])
    codes, texts = level_codes(values)
    assert texts == ["a", "b"]
    np.testing.assert_array_equal(codes, [0, np.nan, 1])
