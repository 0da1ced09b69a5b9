"""Frames as SQL Server's Python extension makes them, and what it can take back.

Seen by driving the extension that Microsoft publishes through its C interface.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sqlkmeans.external_script import run_segmentation
from support.embedded import hexadecimal, make_job, make_rows
from support.tsql_files import read

CITY = [{"column": "income"}, {"column": "city", "type": "category", "min_frequency": 0.0,
                               "max_categories": 100}]  # fmt: skip
LEVELS = ["Oslo", "Oslo ", "Oslo  ", "oslo", "", " ", "é", "e\u0301", "😀", "שלום", "مرحبا",
          "it's", "a\x00b", "\ufeffmark", "\uffff", "None", "nan", "0x4F00", "😀" * 50,
          "x" * 100]  # fmt: skip


def run(rows: pd.DataFrame, **changes: Any) -> tuple[pd.DataFrame, dict[str, Any], str]:
    labels, publication = run_segmentation(rows, json.dumps(make_job(**changes)))
    return labels, json.loads(publication), publication


def with_cities(cities: list[str | None]) -> pd.DataFrame:
    """120 rows with an income and a city."""
    rows = make_rows()
    sent = [None if city is None else hexadecimal(city) for city in cities]
    rows["f2"] = np.array([sent[i % len(sent)] for i in range(120)], dtype=object)
    return rows


def test_every_text_arrives_as_it_is() -> None:
    _, publication, _ = run(with_cities([*LEVELS, None]), features=CITY, missing="mean")
    found = [row["level"] for row in publication["tables"]["model_feature"][1:]]
    assert sorted(found) == sorted(LEVELS)


def test_the_query_sends_a_category_as_the_frames_here_have_it() -> None:
    query = read("procedures/read_source.sql")
    assert "N'CONVERT(varchar(406), CAST([sqlkmeans f' + @x" in query
    assert "+ N'] AS varbinary(202)), 1)'" in query
    assert hexadecimal("Å ") == "0xC5002000"


@pytest.mark.parametrize(
    "level", ["y" * 101, "😀" * 51, "a\ud83d", "(other)"],
    ids=["cut", "cut through an emoji", "half of a surrogate pair", "reserved"],
)  # fmt: skip
def test_a_text_that_can_have_no_feature_is_of_the_rest(level: str) -> None:
    _, publication, _ = run(with_cities(["Oslo", "Bergen", level]), features=CITY)
    found = [row["level"] for row in publication["tables"]["model_feature"][1:]]
    assert found == ["Bergen", "Oslo", None]


def test_text_of_procedures_of_another_version_is_one_sentence() -> None:
    rows = make_rows()
    rows["f2"] = np.array(["Oslo", "Bergen"] * 60, dtype=object)
    _, publication, _ = run(rows, features=CITY)
    assert publication["error"]["code"] == 1
    assert publication["error"]["problems"][0].startswith("ValueError: 'Oslo' came for a category")


@pytest.mark.parametrize("kind", ["number", "category"])
def test_a_column_of_nothing_but_null_is_one_sentence(kind: str) -> None:
    rows = make_rows()
    rows["f2"] = np.nan if kind == "number" else np.full(120, None, dtype=object)
    _, publication, _ = run(rows, features=[{"column": "income"}, {"column": "x", "type": kind}],
                            missing="mean")  # fmt: skip
    assert publication["error"] == {
        "code": 3, "problems": ["x: every value is NULL, so there is nothing to cluster by"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "dtype", [np.int16, np.int32, np.int64, np.uint8, np.float32, np.bool_, object]
)
def test_numbers_of_every_type_are_the_same_numbers(dtype: Any) -> None:
    rows = make_rows()
    rows["f2"] = rows["f2"] > 40
    expected = run(rows.astype({"f2": np.float64}))[0]
    pd.testing.assert_frame_equal(run(rows.astype({"f2": dtype}))[0], expected)


def test_a_bit_with_a_null_comes_as_objects() -> None:
    rows = make_rows()
    rows["f2"] = (rows["f2"] > 40).astype(np.float64)
    rows.loc[3, "f2"] = np.nan
    expected = run(rows, missing="mean")[0]
    bits = [None if np.isnan(value) else bool(value) for value in rows["f2"]]
    rows["f2"] = np.array(bits, dtype=object)
    pd.testing.assert_frame_equal(run(rows, missing="mean")[0], expected)


def test_the_columns_are_the_servers_memory_and_stay_as_they_are() -> None:
    columns = {name: values.to_numpy().copy() for name, values in make_rows().items()}
    before = {name: values.copy() for name, values in columns.items()}
    for values in columns.values():
        values.flags.writeable = False
    labels, _, _ = run(pd.DataFrame(columns, copy=False))
    assert len(labels) == 120
    for name, values in columns.items():
        np.testing.assert_array_equal(values, before[name])


def test_no_label_is_a_null() -> None:
    """What is not finite would be one, and the column takes none."""
    labels, _, _ = run(make_rows())
    assert np.isfinite(labels["distance"]).all()


@pytest.mark.parametrize("missing", ["mean", "error"])
def test_what_comes_back_is_ascii_whatever_is_in_it(missing: str) -> None:
    """The extension counts letters, and sends so many UTF-16 units."""
    rows = with_cities(["😀", "שלום", None])
    features = [{"column": "😀 income"}, {**CITY[1], "column": "ville é"}]
    _, publication, text = run(rows, features=features, missing=missing)
    assert ("error" in publication) == (missing == "error")
    assert text.isascii()
    assert "😀" in json.dumps(publication, ensure_ascii=False) or "é" in publication["error"][
        "problems"][0]  # fmt: skip


def test_nothing_is_printed_because_the_caller_would_see_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(make_rows())
    run(make_rows().iloc[:, :3])
    assert capsys.readouterr() == ("", "")
