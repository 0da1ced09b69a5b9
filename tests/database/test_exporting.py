"""Labels and profiles as files, read back."""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from sqlkmeans import exporting, pipeline
from sqlkmeans.cli.app import run_command
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.exporting import export_labels
from support.backends import Backend

N = 60


@pytest.fixture
def published(backend: Backend, database: Database) -> Segmentation:
    """Segments with a name that looks like a formula, and a key of two columns."""
    rows = pa.table(
        {
            "region": ["north", "=1+1"] * (N // 2),
            "id": np.arange(9_007_199_254_740_990, 9_007_199_254_740_990 + N),
            "income": np.repeat([10.0, 90.0], [40, 20]) + np.arange(N) / 100,
        }
    )
    backend.make_table("dbo.customer", rows, ["region", "id"])
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key=["region", "id"], features=["income"], k=2,
        target="dbo.customer_segment", outlier=0.05,
    )  # fmt: skip
    pipeline.run(segmentation, database)
    pipeline.rename("customers", database, 2, '=HYPERLINK("x"), "rich"')
    return segmentation


def table(backend: Backend) -> list[tuple[Any, ...]]:
    """What is published, as the database itself says it."""
    return sorted(
        tuple(row)
        for row in backend.rows(
            "SELECT region, id, segment_id, segment_name, distance, is_outlier "
            "FROM dbo.customer_segment_named"
        )
    )


def read(path: Path) -> list[tuple[Any, ...]]:
    if path.suffix == ".xlsx":
        first, *rows = openpyxl.load_workbook(path)["labels"].iter_rows(values_only=True)
        assert first == ("region", "id", "segment_id", "segment_name", "distance", "is_outlier")
        # More digits than Excel keeps.
        return sorted((region, int(i), *rest) for region, i, *rest in rows)
    rows = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    return sorted(tuple(row.values()) for row in rows.to_pylist())


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
def test_every_label_is_in_the_file_with_its_name(
    backend: Backend, database: Database, published: Segmentation, tmp_path: Path, ending: str
) -> None:
    written = export_labels("customers", database, tmp_path / f"labels{ending}")
    assert (written.rows, written.profiles) == (N, None)
    found, there = read(written.file), table(backend)
    assert [row[:4] for row in found] == [row[:4] for row in there]
    assert [row[4] for row in found] == pytest.approx([row[4] for row in there])
    assert [bool(row[5]) for row in found] == [bool(row[5]) for row in there]
    # Of the segment of 20, the two farthest are equally far.
    assert sum(row[5] for row in found) == 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
def test_profiles_are_written_beside_or_as_a_sheet(
    database: Database, published: Segmentation, tmp_path: Path, ending: str
) -> None:
    written = export_labels("customers", database, tmp_path / f"labels{ending}", profiles=True)
    assert written.profiles is not None
    rows: list[dict[str, Any]]
    if ending == ".xlsx":
        assert written.profiles == written.file
        names, *values = openpyxl.load_workbook(written.file)["profiles"].iter_rows(
            values_only=True
        )
        rows = [dict(zip(map(str, names), row)) for row in values]
    else:
        assert written.profiles == tmp_path / f"labels_profiles{ending}"
        reading = csv.read_csv if ending == ".csv" else parquet.read_table
        rows = reading(written.profiles).to_pylist()
    assert [(row["segment_id"], row["size"]) for row in rows] == [(0, N), (1, 40), (2, 20)]
    assert rows[2]["name"] == '=HYPERLINK("x"), "rich"'
    assert rows[1]["income"] == pytest.approx(10.195)


def test_profile_columns_stand_behind_the_features(
    backend: Backend, database: Database, tmp_path: Path
) -> None:
    rows = pa.table(
        {"id": [1, 2, 3, 4], "x": [1.0, 2.0, 8.0, 9.0], "size": [1, 3, 5, 7],
         "paid": [True, False, True, True]}
    )  # fmt: skip
    backend.make_table("dbo.customer", rows, "id")
    pipeline.run(
        Segmentation.create(
            name="customers", source="dbo.customer", key="id", features=["x"], k=2,
            target="dbo.customer_segment", profile=["size", "paid"],
        ),
        database,
    )  # fmt: skip
    written = export_labels("customers", database, tmp_path / "labels.parquet", profiles=True)
    assert written.profiles is not None
    found = parquet.read_table(written.profiles).to_pylist()
    told = [(row["size"], row["size (mean)"], row["paid = yes"]) for row in found]
    assert told == [(4, 4.0, 0.75), (2, 2.0, 0.5), (2, 6.0, 1.0)]


def test_texts_are_no_formulas_and_no_links(
    database: Database, published: Segmentation, tmp_path: Path
) -> None:
    export_labels("customers", database, tmp_path / "labels.xlsx", profiles=True)
    book = openpyxl.load_workbook(tmp_path / "labels.xlsx")
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert any(str(cell.value).startswith("=") for cell in cells)
    assert {cell.data_type for cell in cells} <= {"s", "n", "b"}
    assert not any(cell.hyperlink for cell in cells)


def test_dates_are_dates_of_excel(tmp_path: Path) -> None:
    rows = pa.table({"day": [date(2026, 1, 2), date(1066, 10, 14)],
                     "moment": [datetime(2026, 1, 2, 3, 4, 5), None],
                     "raw": [b"\x01\xff", b""], "yes": [True, False]})  # fmt: skip
    with (tmp_path / "x.xlsx").open("wb") as file:
        exporting.write_excel(file, [("labels", rows.schema, rows.to_batches())])
    _, first, second = openpyxl.load_workbook(tmp_path / "x.xlsx")["labels"].iter_rows(
        values_only=True
    )
    assert first == (datetime(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5), "0x01ff", True)
    assert second[0] == "1066-10-14"


def test_what_cannot_be_written_is_refused_before_and_in_words(
    database: Database, published: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "labels_profiles.csv"
    there.write_text("mine")
    with pytest.raises(DefinitionError, match="add --force"):
        export_labels("customers", database, tmp_path / "labels.csv", profiles=True, replace=False)
    assert there.read_text() == "mine"
    assert not (tmp_path / "labels.csv").exists()
    with pytest.raises(DefinitionError, match=r"allowed: a file that ends in \.csv"):
        export_labels("customers", database, tmp_path / "labels.xls")
    with pytest.raises(DefinitionError, match="not in this database"):
        export_labels("others", database, tmp_path / "labels.csv")
    monkeypatch.setattr(exporting, "MOST_EXCEL_ROWS", N)
    with pytest.raises(DataError, match=f"has {N} labels, and a sheet of Excel has room for 59"):
        export_labels("customers", database, tmp_path / "labels.xlsx")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(DefinitionError, match=r"sqlkmeans\[excel\]"):
        export_labels("customers", database, tmp_path / "labels.xlsx")
    assert not (tmp_path / "labels.xlsx").exists()


def test_no_label_leaves_where_no_row_may(
    backend: Backend, database: Database, published: Segmentation, tmp_path: Path
) -> None:
    values = {**published.model_dump(), "engine": "pushdown", "sample_rows": 0}
    pipeline.run(Segmentation.create(**values), database)
    with pytest.raises(DefinitionError, match="sample_rows = 0 lets no row leave"):
        export_labels("customers", database, tmp_path / "labels.csv")


def test_the_command_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    csv.write_csv(pa.table({"id": range(N), "x": [float(n % 2) for n in range(N)]}), "c.csv")
    assert run_command(["init", "c.csv", "-q"]) == 0
    text = Path("c.toml").read_text().replace('"auto"', "2")
    Path("c.toml").write_text(text)
    assert run_command(["run", "c.toml", "-q"]) == 0
    capsys.readouterr()
    assert run_command(["export", "c.toml", "--to", "out.csv", "--profiles"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"Written: out.csv, {N} labels", "Written: out_profiles.csv"
    ]  # fmt: skip
    assert run_command(["export", "c", "--url", "c.duckdb", "--to", "out.csv"]) == 2
    assert "add --force" in capsys.readouterr().err
    assert run_command(["export", "c.toml", "--to", "out.parquet", "--json"]) == 0
    assert '"rows": 60' in capsys.readouterr().out
