"""Frames in, segments out: what analysts type in a notebook."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import csv

from sqlkmeans import (
    DataError,
    DefinitionError,
    Segments,
    load_model,
    open_database,
    segment,
)

matplotlib.use("Agg")

N = 300
FEATURES: list[Any] = [
    "age",
    {"column": "revenue", "transform": "log1p"},
    {"column": "city", "type": "category"},
    {"column": "size", "type": "category"},
    {"column": "store", "type": "category"},
    {"column": "joined", "type": "date"},
    {"column": "seen", "type": "date"},
    "member",
    {"column": "letters", "type": "category"},
]


def people() -> pd.DataFrame:
    """Two groups of customers, with values of every kind, and some missing in each column."""
    rng = np.random.default_rng(5)
    group = np.repeat([0, 1], [180, 120])
    frame = pd.DataFrame(
        {
            "id": rng.permutation(np.arange(10_000, 10_000 + N)),
            "age": np.where(group, 60, 30) + rng.integers(-3, 4, N),
            "revenue": np.exp(np.where(group, 8.0, 5.0) + rng.normal(0, 0.3, N)),
            "city": rng.choice(["Oslo", "oslo", "Bodø ", "O'Hara"], N),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], N), ["S", "M", "L"], ordered=True),
            "store": rng.integers(1, 4, N).astype(float),
            "joined": pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 500, N), "D"),
            "seen": [date(2025, 1, 1 + int(d)) for d in rng.integers(0, 28, N)],
            "member": (group == 1).astype(object),
            "letters": rng.choice(["yes", "no"], N),
        },
        index=pd.Index([f"row {n}" for n in range(N)], name="who"),
    )
    frame["member"] = frame["member"].map(bool).astype(object)
    frame["seen"] = pd.Series(frame["seen"], frame.index, dtype=object)
    for place, column in enumerate(frame.columns[1:]):
        frame.loc[frame.index[place::40], column] = None
    return frame


@pytest.fixture(scope="module")
def result() -> Segments:
    return segment(people(), key="id", features=FEATURES, k=2, missing="median")


def test_the_labels_are_on_the_index_of_the_frame(result: Segments) -> None:
    assert result.labels.index.equals(people().index)
    assert result.labels.name == "segment"
    assert result.labels.value_counts().to_dict() == {1: 180, 2: 120}


@pytest.mark.parametrize("missing", ["median", "skip"])
@pytest.mark.parametrize(
    "kind",
    ["pandas", "polars", "arrow", "nullable", "zones"],
)
def test_the_model_predicts_the_label_of_every_row(kind: str, missing: str) -> None:
    frame: Any = people()
    if kind == "polars":
        frame = pl.from_pandas(frame)
    elif kind == "arrow":
        frame = pa.Table.from_pandas(frame, preserve_index=False)
    elif kind == "nullable":
        frame = frame.convert_dtypes()
    elif kind == "zones":
        # A moment after ten in the evening in UTC is the next day here.
        frame["joined"] = (frame["joined"] + pd.Timedelta("22:30:00")).dt.tz_localize("UTC")
        frame["joined"] = frame["joined"].dt.tz_convert("Europe/Oslo")
    found = segment(frame, key="id", features=FEATURES, k=4, missing=missing, scaling="robust")
    np.testing.assert_array_equal(found.model.predict(frame), found.labels)
    assert (found.labels == 0).any() == (missing == "skip")


def test_features_are_proposed_where_none_are_given() -> None:
    frame = people()
    found = segment(frame)
    # A row's number is no feature, and a column of yes and no is one.
    assert set(found.model.columns) <= set(frame.columns) - {"id"}
    assert {"age", "city", "member", "letters"} <= set(found.model.columns)
    assert found.segmentation.feature_types["letters"] == "number"
    assert found.segmentation.missing == "median"
    np.testing.assert_array_equal(found.model.predict(frame), found.labels)


def test_a_file_is_read_as_run_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "it's.csv"
    csv.write_csv(pa.Table.from_pandas(people(), preserve_index=False), file)
    found = segment(file, key="id", features=["age", "letters"], k=2, missing="skip")
    assert list(found.labels.index) == list(range(N))
    assert found.model.columns == ["age", "letters"]


def test_the_segments_are_a_frame_with_their_rules_and_means(result: Segments) -> None:
    segments = result.segments
    assert list(segments.columns[:6]) == ["segment_id", "name", "size", "share", "rule", "age"]
    assert list(segments["size"]) == [180, 120]
    means = people()["age"].groupby(result.labels).mean()
    assert segments["age"].to_numpy() == pytest.approx(means.to_numpy())
    # A feature that is called as one of the first columns.
    assert "size = M" in segments.columns
    assert result.scores["silhouette"] is not None


def test_a_column_named_size_does_not_hide_the_size_of_a_segment() -> None:
    frame = pd.DataFrame({"size": [1.0, 1.1, 1.2, 9.0, 9.1], "name": [1, 2, 3, 4, 6]})
    found = segment(frame, features=["size", "name"], k=2)
    assert list(found.segments["size"]) == [3, 2]
    assert found.segments["size (mean)"].to_list() == pytest.approx([1.1, 9.05])


def test_a_row_is_explained_by_its_key_or_its_index_label(result: Segments) -> None:
    frame = people()
    by_key = result.explain(int(frame["id"].iloc[3]))
    assert by_key.segment.segment_id == result.labels.iloc[3]
    without = segment(frame, features=["age"], k=2, missing="skip")
    by_label = without.explain("row 3")
    assert by_label.customer == ("row 3",)
    assert str(by_label).startswith("Customer row 3 is in segment")
    with pytest.raises(DataError, match="'row 1000': not in the frame's index"):
        without.explain("row 1000")
    with pytest.raises(DataError, match="'row 0': has no segment"):
        without.explain("row 0")


def test_outliers_are_flagged_on_the_frames_index() -> None:
    frame = people()[["age", "revenue"]].fillna(40.0)
    frame.index = pd.Index([f"row {i}" for i in range(N)])
    # One much farther away would be a segment by itself, of the lowest inertia.
    frame.loc["row 7", "revenue"] = 100_000.0
    found = segment(frame, features=["age", "revenue"], k=2, outlier=0.01)
    assert found.outliers.index.equals(frame.index)
    assert found.outliers["row 7"]
    assert found.outliers.sum() == found.segments["outliers"].sum() == found.run.outliers
    assert 0 < found.outliers.sum() <= 3
    assert np.array_equal(found.model.is_outlier(frame), found.outliers)
    assert found.model.from_json(found.model.to_json()).is_outlier(frame).sum() == (
        found.outliers.sum()
    )
    without = segment(frame, features=["age", "revenue"], k=2)
    assert not without.outliers.any()
    assert "outliers" not in without.segments


def test_who_is_extremely_far_away_is_warned_of_or_flagged_where_the_fit_leaves_out_some() -> None:
    frame = people()[["age", "revenue"]].fillna(40.0)
    frame.index = pd.Index([f"row {i}" for i in range(N)])
    frame.loc["row 7", "revenue"] = 3_000_000.0
    alone = segment(frame, features=["age", "revenue"], k=2, outlier=0.01)
    assert not alone.outliers["row 7"]
    assert any("segment 2 is one customer" in warning for warning in alone.run.warnings)
    trimmed = segment(frame, features=["age", "revenue"], k=2, outlier=0.01, trim=0.01)
    assert trimmed.outliers["row 7"]
    assert trimmed.segments["size"].min() > 100


def test_a_label_that_is_there_twice_explains_nobody() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 8.0, 9.0]}, index=["a", "a", "b", "c"])
    found = segment(frame, features=["x"], k=2)
    with pytest.raises(DataError, match="more than once"):
        found.explain("a")
    assert found.explain("b").customer == ("b",)


def test_two_features_are_drawn_as_they_are_and_more_as_principal_components(
    result: Segments,
) -> None:
    axes = result.plot()
    assert axes.get_xlabel().startswith("principal component 1")
    assert [text.get_text()[:1] for text in axes.get_legend().get_texts()] == ["1", "2"]
    two = result.plot("age", "revenue")
    assert (two.get_xlabel(), two.get_ylabel()) == ("age", "revenue")
    assert (two.get_xscale(), two.get_yscale()) == ("linear", "symlog")
    drawn = sum(len(points.get_offsets()) for points in two.collections)
    assert drawn == N + 2
    with pytest.raises(DefinitionError, match="city given; allowed: numbers and dates"):
        result.plot("age", "city")
    with pytest.raises(DefinitionError, match="y missing"):
        result.plot("age")


def test_one_feature_can_be_drawn() -> None:
    found = segment(pd.DataFrame({"x": [1.0, 2.0, 8.0, 9.0]}), features=["x"], k=2)
    assert found.plot().get_ylabel() == "principal component 2 (0%)"


def test_a_notebook_shows_the_table_and_the_picture(result: Segments) -> None:
    shown = result._repr_html_()
    assert "<table" in shown
    assert "180" in shown
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', shown)
    assert picture is not None
    assert base64.b64decode(picture[1]).startswith(b"\x89PNG")
    assert "300 rows in 2 segments" in repr(result)


def test_what_a_notebook_shows_of_names_is_no_markup() -> None:
    frame = pd.DataFrame({"<b>x</b>": [1.0, 2.0, 8.0, 9.0]})
    assert "<b>" not in segment(frame, features=["<b>x</b>"], k=2)._repr_html_()


def test_the_report_is_written(result: Segments, tmp_path: Path) -> None:
    assert result.report(tmp_path / "page.html").file.exists()


def test_labels_go_to_a_database_and_ids_follow_the_customers(
    result: Segments, tmp_path: Path
) -> None:
    url = f"duckdb:///{(tmp_path / 'shop.duckdb').as_posix()}"
    first = result.to_database(url, "crm.customer_segment")
    assert (first.segmentation, first.arrived) == ("customer_segment", N)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        there = dict(
            database.sql("SELECT id, segment_id FROM crm.customer_segment_named").fetchall()
        )
    assert there == dict(zip(people()["id"].tolist(), result.labels.tolist()))
    fewer = people().iloc[120:]
    again = segment(fewer, key="id", features=FEATURES, k=2, missing="median")
    assert list(again.segments["size"]) == [120, 60]
    second = again.to_database(url, "crm.customer_segment")
    # Who is older was segment 2 and stays it, though it is the larger one now.
    assert {s.segment_id: s.size for s in second.segments} == {1: 60, 2: 120}
    assert (second.moved, second.departed) == (0, 120)
    with open_database(url, read_only=True) as opened:
        assert load_model("customer_segment", opened).k == 2


def test_profile_columns_are_described_and_neither_proposed_nor_clustered_on(
    tmp_path: Path,
) -> None:
    profile = ["revenue", "member", "city"]
    told = segment(people(), key="id", k=2, profile=profile)
    untold = segment(people().drop(columns=profile), key="id", k=2)
    assert not set(profile) & set(told.segmentation.columns)
    assert told.labels.equals(untold.labels)
    assert untold.profile.empty
    assert list(untold.profile.columns) == list(told.profile.columns)
    of_members = told.profile.query("source_column == 'member' and segment_id > 0")
    members = people()["member"].groupby(told.labels.to_numpy()).mean()
    assert list(of_members["share"]) == pytest.approx(list(members))
    assert "member = yes" in told.segments.columns
    url = f"duckdb:///{(tmp_path / 'shop.duckdb').as_posix()}"
    assert told.to_database(url, "customer_segment").profile == told.run.profile


def test_labels_do_not_replace_somebody_elses_table(result: Segments, tmp_path: Path) -> None:
    url = str(tmp_path / "shop.duckdb")
    with duckdb.connect(url) as database:
        database.execute("CREATE TABLE mine_source (x int)")
    with pytest.raises(DefinitionError, match="is there already and not of segmentation mine"):
        result.to_database(url, "mine")
    with pytest.raises(DefinitionError, match="to_database without a key"):
        segment(people(), features=["age"], k=2, missing="skip").to_database(url, "mine")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"data": [[1.0, 2.0]]}, "a list given; allowed: a pandas or polars frame"),
        ({"data": "customers.xlsx"}, "customers.xlsx given; allowed"),
        ({"data": "none.csv"}, "none.csv: there is no such file"),
        ({"data": pd.DataFrame([[1, 2]], columns=["A", "a"])}, "a: twice in the frame"),
        ({"features": ["age"], "k": 1}, "2 to 1000"),
        ({"features": ["age"], "k": 2, "scale": "robust"}, "did you mean"),
        ({"features": ["age"], "k": 2, "target": "x"}, "target given"),
    ],
)
def test_wrong_arguments_are_told_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        segment(**{"data": people(), **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"features": ["age"], "k": 2}, "8 rows are NULL"),
        ({"features": ["shoe"], "k": 2}, "feature shoe: no such column in frame"),
        ({"key": "shoe"}, "key shoe: no such column in frame .it has age, city, id"),
        ({"features": ["revenue"], "k": 2, "key": "city", "missing": "skip"}, "key city"),
    ],
)
def test_rows_that_do_not_allow_it_are_told_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        segment(people(), **arguments)


def test_values_of_several_kinds_are_levels() -> None:
    frame = pd.DataFrame({"mixed": [1, "1", 2.5, "b"] * 10, "x": range(40)})
    found = segment(frame, features=["x", {"column": "mixed", "type": "category"}], k=2)
    assert found.model.preparation.levels("mixed") == ["1", "2.5", "b"]
    np.testing.assert_array_equal(found.model.predict(frame), found.labels)


COMMANDS = [
    "--help",
    "init customers.csv --force",
    "run customers.csv",
    "assign customers.toml",
    "explain customers.toml 1",
    "export-sql customers.toml",
    "export customers.toml --to labels.xlsx",
]


def test_no_command_loads_pandas(tmp_path: Path) -> None:
    rows = pa.table({"id": range(60), "x": [float(n % 3) for n in range(60)],
                     "city": ["a", "b"] * 30})  # fmt: skip
    csv.write_csv(rows, tmp_path / "customers.csv")
    code = (
        "import atexit, sys; from sqlkmeans.cli.app import main; "
        "atexit.register(lambda: print('pandas' in sys.modules, file=sys.stderr)); main()"
    )
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-c", code, *command.split()], cwd=tmp_path, capture_output=True,
            text=True, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stderr.splitlines()[-1:]) == (0, ["False"]), command
