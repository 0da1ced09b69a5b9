"""A file as the source: CSV and Parquet, of any size, wherever the definition lies."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from sqlkmeans import pipeline
from sqlkmeans.cli.app import run_command
from sqlkmeans.database import open_database
from sqlkmeans.definition import load_definition
from sqlkmeans.errors import DataError
from sqlkmeans.registry import load_model
from support.folders import labels

DEFINITION = """
[database]
url = "duckdb:///shop.duckdb"

[segmentation.customers]
source = "{source}"
key = "customer_id"
features = ["income", {{ column = "city", type = "category" }}]
k = 2
n_init = 2
target = "dbo.customer_segment"
"""

CUSTOMERS = (
    "SELECT i AS customer_id, 100 * (i % 2) + hash(i) % 10 AS income, "
    "CASE i % 2 WHEN 0 THEN 'Oslo' ELSE 'Bergen' END AS city FROM range({rows}) AS t (i)"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an empty database and a folder for data."""
    (tmp_path / "data").mkdir()
    with open_database(tmp_path / "shop.duckdb", create=True) as database:
        database.install()
    return tmp_path


def write(path: Path, rows: int) -> Path:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({CUSTOMERS.format(rows=rows)}) TO '{path.as_posix()}'")
    return path


def define(folder: Path, source: str) -> Path:
    path = folder / "shop.toml"
    path.write_text(DEFINITION.format(source=source), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("rows", [1, 10, 100, 1_000, 100_000])
def test_a_file_of_any_size_is_a_source(folder: Path, rows: int, kind: str) -> None:
    write(folder / f"customers.{kind}", rows)
    definition = load_definition(define(folder, f"SELECT * FROM 'customers.{kind}'"))
    segmentation = definition.segmentations["customers"]
    with open_database(str(definition.url)) as database:
        if rows == 1:
            with pytest.raises(DataError, match="constant"):
                pipeline.run(segmentation, database)
            return
        first, again = (pipeline.run(segmentation, database) for _ in range(2))
        assigned = pipeline.assign(segmentation, database)
    assert (first.rows, first.arrived, again.changed, assigned.changed) == (rows, rows, 0, 0)
    published = labels(folder)
    assert [key for key, _ in published] == list(range(rows))
    assert len({(key % 2, segment) for key, segment in published}) == 2


@pytest.mark.parametrize(
    "source",
    [
        "customers.csv",
        "data/more.parquet",
        "{absolute}",
        "SELECT * FROM 'customers.csv'",
        "SELECT c.* FROM 'data/more.parquet' AS c JOIN 'customers.csv' USING (customer_id)",
        "SELECT * FROM read_csv('customers.csv', header = true)",
        "SELECT * FROM read_parquet('data/more.parquet')",
        "SELECT * FROM '{absolute}'",
    ],
)
def test_paths_are_relative_to_the_definition_and_may_be_absolute(
    folder: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "customers.csv", 100)
    write(folder / "data" / "more.parquet", 100)
    absolute = (folder / "customers.csv").as_posix()
    path = define(folder, source.format(absolute=absolute))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for working_folder in (folder, folder.parent, elsewhere):
        monkeypatch.chdir(working_folder)
        named = os.path.relpath(path)
        for command in (["run", named], ["assign", named], ["doctor", named],
                        ["explain", named, "42"], ["report", named]):  # fmt: skip
            assert run_command([*command, "--json"]) == 0, capsys.readouterr().out
        (working_folder / "customers.html").unlink()
    assert len(labels(folder)) == 100
    assert list(elsewhere.iterdir()) == []


def test_a_file_that_is_not_there_is_named_with_its_whole_path(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in ("SELECT * FROM 'data/custmers.csv'", "data/custmers.csv"):
        path = define(folder, source)
        assert run_command(["run", str(path)]) == 3
        missing = (folder / "data" / "custmers.csv").as_posix()
        assert capsys.readouterr().err == f"Error: source: there is no file {missing}\n"


def test_a_source_without_files_is_left_as_it_is_written(folder: Path) -> None:
    for source in ("dbo.customer", " SELECT 'a.csv' AS x FROM t ", "dbo.[csv]"):
        loaded = load_definition(define(folder, source))
        assert loaded.segmentations["customers"].source == source


@pytest.mark.parametrize("kind", ["category", "number"])
def test_a_model_gives_the_frame_that_it_was_trained_from_its_published_labels(
    folder: Path, kind: str
) -> None:
    rng = np.random.default_rng(0)
    rows = 400
    frame = pd.DataFrame(
        {
            "customer_id": np.arange(rows),
            "income": rng.normal(50_000, 9_000, rows).round(2),
            "city": rng.choice(["Oslo", "Bergen", "Rome"], rows),
            "newsletter": rng.choice(["yes", "no"], rows),
            "joined": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
        }
    )
    frame.to_csv(folder / "customers.csv", index=False)
    features = (
        f'["income", {{ column = "city", type = "category" }}, {{ column = "newsletter", '
        f'type = "{kind}" }}, {{ column = "joined", type = "date" }}]'
    )
    path = define(folder, "customers.csv")
    text = path.read_text(encoding="utf-8").splitlines()
    text = [f"features = {features}" if line.startswith("features") else line for line in text]
    path.write_text("\n".join(text).replace("k = 2", "k = 6"), encoding="utf-8")
    segmentation = load_definition(path).segmentations["customers"]
    with open_database(folder / "shop.duckdb") as database:
        pipeline.run(segmentation, database)
        model = load_model("customers", database)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_memory = model.predict(frame)
        from_file = model.predict(pd.read_csv(folder / "customers.csv"))
    published = [segment for _, segment in labels(folder)]
    assert from_memory.tolist() == from_file.tolist() == published
