"""Labels and profiles as files: CSV, Parquet, Excel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.files import check_place, opened_file
from sqlkmeans.registry import load_model, load_segmentation, segment_table

#: Rows of a sheet of Excel, with its heading; digits that it keeps of a number.
MOST_EXCEL_ROWS, MOST_EXCEL_DIGITS = 1_048_576, 15

Batches = Iterable[pa.RecordBatch]
Sheets = Sequence[tuple[str, pa.Schema, Batches]]


@dataclass(frozen=True)
class WrittenExport:
    """Where an export is.

    Attributes
    ----------
    file : pathlib.Path
    segmentation : str
    rows : int
        Labels.
    profiles : pathlib.Path or None
        The file with the profiles: of Excel the same one, a sheet of its own.
    """

    file: Path
    segmentation: str
    rows: int
    profiles: Path | None


def export_labels(
    name: str, database: Database, file: str | Path, *, profiles: bool = False, replace: bool = True
) -> WrittenExport:
    """Write the labels of a segmentation as they are published now.

    Columns are the key's, then ``segment_id``, ``segment_name``, ``distance`` and ``is_outlier``,
    in key order.

    Parameters
    ----------
    name : str
        The segmentation.
    database : Database
    file : path-like
        Its ending says as what it is written: ``.csv``, ``.parquet`` or ``.xlsx``.
    profiles : bool, default=False
        Write the segments too, row 0 for everyone: a second sheet of Excel, else
        ``<file>_profiles`` beside the file.
    replace : bool, default=True
        Whether files that are there may be replaced.

    Raises
    ------
    DefinitionError
        If there is no such segmentation, the file has another ending or cannot be written, or no
        row may leave the database.
    DataError
        If nothing is published yet, or Excel has no room for the rows.
    """
    file = Path(file)
    kind = file.suffix.lower()
    if kind not in _WRITERS:
        raise DefinitionError(f"{file} given; allowed: a file that ends in {', '.join(_WRITERS)}")
    beside = file.with_name(f"{file.stem}_profiles{file.suffix}") if kind != ".xlsx" else file
    for path in {file, beside} if profiles else {file}:
        check_place(path, replace=replace)
    segmentation = load_segmentation(database, name)
    if segmentation.sample_rows == 0:
        raise DefinitionError(
            f"{name}: sample_rows = 0 lets no row leave the database, and a label is one; join "
            f"{segmentation.target} there"
        )
    if segmentation.lake_target:
        raise DefinitionError(
            f"{name}: the labels are in Spark's catalog, {segmentation.target}; write a file of "
            "them there"
        )
    model = load_model(name, database)
    rows = database.count(segmentation.target) if kind == ".xlsx" else 0
    if rows >= MOST_EXCEL_ROWS:
        raise DataError(
            f"{file}: {segmentation.target} has {rows:,} labels, and a sheet of Excel has room for "
            f"{MOST_EXCEL_ROWS - 1:,}; name a .csv or .parquet file"
        )
    names = dict(zip(model.segment_ids, model.names))
    segments = pa.Table.from_pylist(segment_table(database, name)) if profiles else None
    written = _Counted(_labels(database, segmentation, names))
    labels = ("labels", written.schema, written)
    write = _WRITERS[kind]
    sheet = [] if segments is None else [("profiles", segments.schema, segments.to_batches())]
    _write(file, write, [labels, *(sheet if beside == file else [])], replace)
    if sheet and beside != file:
        _write(beside, write, sheet, replace)
    return WrittenExport(file, name, written.rows, beside if profiles else None)


def _labels(
    database: Database, segmentation: Segmentation, names: dict[int, str]
) -> Iterator[pa.RecordBatch]:
    """The segment table in key order, with names."""
    # Without the features: one may be called as a column of labels is, and be of another type.
    target = segmentation.model_copy(
        update={"source": segmentation.target, "features": (), "sample_weight": None}
    )
    columns = ["segment_id", "distance", "is_outlier"]
    with database.open_source(target, columns, in_order=True) as source:
        for batch in source.batches:
            ids = batch.features.column(0).cast(pa.int32())
            values = {
                **dict(zip(batch.keys.schema.names, batch.keys.columns)),
                "segment_id": ids,
                "segment_name": pa.array([names.get(i) for i in ids.to_pylist()], pa.string()),
                "distance": batch.features.column(1),
                # Read as a number.
                "is_outlier": batch.features.column(2).cast(pa.bool_()),
            }
            yield pa.RecordBatch.from_pydict(values)


class _Counted:
    """Batches that can be read once, with their schema ahead and their rows afterwards."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._first, self._rest, self.rows = next(batches, None), batches, 0
        if self._first is None:
            raise DataError("there are no labels")
        self.schema = self._first.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        batch, self._first = self._first, None
        while batch is not None:
            self.rows += batch.num_rows
            yield batch
            batch = next(self._rest, None)


def _write(path: Path, write: Callable[[IO[bytes], Sheets], None], sheets: Sheets,
           replace: bool) -> None:  # fmt: skip
    with opened_file(path, replace=replace) as file:
        write(file, sheets)


def _write_csv(file: IO[bytes], sheets: Sheets) -> None:
    from pyarrow import csv

    ((_, schema, batches),) = sheets
    with csv.CSVWriter(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_parquet(file: IO[bytes], sheets: Sheets) -> None:
    from pyarrow import parquet

    ((_, schema, batches),) = sheets
    with parquet.ParquetWriter(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_excel(file: IO[bytes], sheets: Sheets) -> None:
    try:
        import xlsxwriter
    except ModuleNotFoundError:
        raise DefinitionError(
            'an .xlsx file needs XlsxWriter: python -m pip install "sqlkmeans[excel]"; or name a '
            ".csv or .parquet file"
        ) from None
    # Texts are texts, whatever they begin with: no formula and no link comes from a table.
    options = {
        "constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False,
        "strings_to_numbers": False,
    }  # fmt: skip
    with xlsxwriter.Workbook(file, options) as book:
        formats = {
            "heading": book.add_format({"bold": True}),
            "date": book.add_format({"num_format": "yyyy-mm-dd"}),
            "moment": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            "share": book.add_format({"num_format": "0.0%"}),
        }
        for title, schema, batches in sheets:
            sheet = book.add_worksheet(title)
            sheet.freeze_panes(1, 0)
            for place, name in enumerate(schema.names):
                sheet.set_column(place, place, max(10, min(40, len(name) + 2)))
                sheet.write_string(0, place, name, formats["heading"])
            last = 0
            for last, values in enumerate(_rows(batches), start=1):
                for place, (name, value) in enumerate(zip(schema.names, values)):
                    _write_cell(sheet, last, place, value, formats, name)
            sheet.autofilter(0, 0, last, len(schema.names) - 1)


def _rows(batches: Batches) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns))


def _write_cell(
    sheet: Any, row: int, place: int, value: Any, formats: dict[str, Any], name: str
) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, place, value)
    elif isinstance(value, float) or (
        isinstance(value, int) and len(str(abs(value))) <= MOST_EXCEL_DIGITS
    ):
        sheet.write_number(row, place, value, formats.get(name))
    elif isinstance(value, date) and value.year >= 1900:
        if isinstance(value, datetime):
            sheet.write_datetime(row, place, value.replace(tzinfo=None), formats["moment"])
        else:
            sheet.write_datetime(row, place, value, formats["date"])
    else:
        # A number with more digits than Excel keeps is a text, as is a key in bytes.
        text = "0x" + value.hex() if isinstance(value, bytes) else str(value)
        sheet.write_string(row, place, text)


_WRITERS: dict[str, Callable[[IO[bytes], Sheets], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".xlsx": write_excel,
}
