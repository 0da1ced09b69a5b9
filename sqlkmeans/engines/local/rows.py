"""The rows of a source as arrays, filled from Arrow batches as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.background import one_thread
from sqlkmeans.clustering.arrays.chunks import CHUNK, Empty, chunks, empty_columns
from sqlkmeans.clustering.arrays.types import Mask, Matrix, Vector
from sqlkmeans.clustering.describing.bins import skipped_missing
from sqlkmeans.clustering.describing.found import PreparedRows
from sqlkmeans.clustering.describing.profile_columns import ColumnValues, ProfileColumn
from sqlkmeans.clustering.preparation.preparation import Preparation
from sqlkmeans.database.base import Batch, Source
from sqlkmeans.engines.local.keys import KeyCollector
from sqlkmeans.engines.local.storage import Batches, Storage, kept_rows
from sqlkmeans.errors import DataError, NoRows
from sqlkmeans.progress import Advance

#: What label, distance and its square, a weight, and an order that sorts the rows take for each of
#: them.
LABEL_BYTES, WEIGHT_BYTES, ORDER_BYTES = 20, 8, 8
# More levels than a definition allows are grouped.
MOST_LEVELS = 100


@dataclass(frozen=True, eq=False)
class RawRows:
    """All rows of a source, in key order.

    Attributes
    ----------
    keys : pyarrow.Table
    matrix : ndarray of float64 of shape (n_rows, n_columns)
        Raw values: NaN where missing, a code for a category's text.
    texts : dict of str to list of str
        What the codes of each category stand for.
    weights : ndarray of float64 of shape (n_rows,) or None
    described : ColumnValues or None
        Columns that are only described.
    """

    keys: pa.Table
    matrix: Matrix
    texts: dict[str, list[str]]
    weights: Vector | None
    described: ColumnValues | None = None


def prepare(
    raw: RawRows, preparation: Preparation, storage: Storage
) -> tuple[pa.Table, PreparedRows]:
    """Prepare rows where they lie: the raw ones are used up.

    Returns
    -------
    keys : pyarrow.Table
        Of the rows that are left.
    rows : PreparedRows

    Raises
    ------
    DataError
        If values cannot be prepared, or no row is left.
    """
    absent = missing_masks(raw.matrix, storage.empty)
    matrix, kept = preparation.prepare(raw.matrix, raw.texts, storage.empty)
    keys, weights, described, n_kept = raw.keys, raw.weights, raw.described, len(matrix)
    skipped = len(kept) - n_kept
    if not n_kept:
        raise DataError('missing = "skip" leaves no row; nothing was changed')
    missing_of_skipped = skipped_missing(absent, kept, preparation)
    if skipped:

        def of_kept(values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
            return None if values is None else kept_rows(values, kept, n_kept, storage.empty)

        keys, weights = _kept_keys(keys, kept, storage.batches()), of_kept(weights)
        absent = [of_kept(mask) for mask in absent]
        if described is not None:
            values = empty_columns(storage.empty, n_kept, len(described.columns))
            for position, column in enumerate(described.matrix.T):
                values[:, position] = of_kept(column)
            described = replace(described, matrix=values)
    missing = preparation.of_columns(absent)
    return keys, PreparedRows(
        preparation, matrix, missing, weights, skipped, missing_of_skipped, described
    )


def _kept_keys(keys: pa.Table, kept: Mask, batches: Batches) -> pa.Table:
    end = 0
    for batch in keys.to_batches(max_chunksize=CHUNK):
        start, end = end, end + batch.num_rows
        batches.add(batch.filter(pa.array(kept[start:end])))
    return batches.table()


def read_rows(
    source: Source,
    keys: Sequence[str],
    storage: Storage,
    advance: Advance,
    profile: Sequence[ProfileColumn] = (),
) -> RawRows | None:
    """Take the rows of an open source, whose columns after the features are only described.

    Returns
    -------
    RawRows or None
        None where the keys do not ascend and the rows are not in memory, so that the database has
        to sort them; progress is then taken back.

    Raises
    ------
    NoRows
        If there are none.
    DataError
        If a key is NULL or not unique.
    """
    with one_thread() as reader:
        batches = rows_ahead(source.batches, reader)
        return _take(batches, source, keys, storage, advance, profile)


def rows_ahead(batches: Iterator[Batch], reader: ThreadPoolExecutor) -> Iterator[Batch]:
    """The batches that have rows; ``reader`` fetches the next one while one is worked on."""
    coming = reader.submit(next, batches, None)
    try:
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            if batch.keys.num_rows:
                yield batch
    finally:
        # It would hold an error of the reader, and that the matrix by way of its traceback.
        del coming


def _take(
    batches: Iterator[Batch], source: Source, keys: Sequence[str], storage: Storage,
    advance: Advance, profile: Sequence[ProfileColumn],
) -> RawRows | None:  # fmt: skip
    first = next(batches, None)
    if first is None:
        raise NoRows("the source has no rows; nothing was changed")
    n_features = first.features.num_columns - len(profile)
    needed = _bytes_a_row(first, n_features, in_order=source.in_key_order)
    storage.expect(source.row_count * needed)
    in_order = source.in_key_order
    collected = KeyCollector(keys, storage.batches())
    matrix = empty_columns(storage.empty, source.row_count, n_features)
    described = DescribedRows(profile, source.row_count, storage)
    weights = None if first.sample_weight is None else storage.empty((source.row_count,))
    codes: dict[str, dict[str, int]] = {}
    end = 0
    for batch in chain([first], batches):
        rows = slice(end, end + batch.keys.num_rows)
        matrix = _room(matrix, rows.stop, storage.empty)
        _fill(matrix[rows], batch, codes)
        described.add(rows, batch)
        if weights is not None:
            weights = _room(weights, rows.stop, storage.empty)
            weights[rows] = numbers_of(batch.sample_weight)
        collected.add(batch.keys)
        if storage.spilled and not (in_order or collected.ascending):
            advance(-end)
            return None
        end = rows.stop
        advance(batch.keys.num_rows)
    matrix = matrix[:end]
    weights = None if weights is None else weights[:end]
    order = collected.finish(sort=not in_order)
    if order is not None:
        for position in range(matrix.shape[1]):
            matrix[:, position] = matrix[order, position]
        weights = None if weights is None else weights[order]
    texts = {column: list(known) for column, known in codes.items()}
    return RawRows(collected.keys, matrix, texts, weights, described.finish(end, order))


class DescribedRows:
    """Takes columns that are only described.

    Parameters
    ----------
    columns : sequence of ProfileColumn
        The last ones of each batch.
    n_rows : int
        About how many rows come.
    storage : Storage
        Where they are kept.
    """

    def __init__(self, columns: Sequence[ProfileColumn], n_rows: int, storage: Storage) -> None:
        self._columns = columns
        self._empty = storage.empty if columns else np.empty
        self._matrix = empty_columns(self._empty, n_rows, len(columns))
        self._codes: dict[str, dict[str, int]] = {}

    def add(self, rows: slice, batch: Batch) -> None:
        """Take a batch, which has these rows."""
        if not self._columns:
            return
        self._matrix = _room(self._matrix, rows.stop, self._empty)
        given = batch.features.columns[-len(self._columns) :]
        for position, (column, values) in enumerate(zip(self._columns, given)):
            if column.type == "category":
                own = _codes(values, self._codes.setdefault(column.name, {}))
            else:
                own = column.own_values(numbers_of(values))
            self._matrix[rows, position] = own

    def finish(
        self, n_rows: int, order: npt.NDArray[np.int64] | None = None
    ) -> ColumnValues | None:
        """All that came, in this order; None where there are no such columns."""
        if not self._columns:
            return None
        matrix = self._matrix[:n_rows]
        if order is not None:
            for position in range(matrix.shape[1]):
                matrix[:, position] = matrix[order, position]
        texts = {name: list(known) for name, known in self._codes.items()}
        return ColumnValues(self._columns, matrix, texts)


def _bytes_a_row(batch: Batch, n_features: int, *, in_order: bool) -> int:
    """What a row takes until it is published, judged by some."""
    columns = batch.features.columns[:n_features]
    # A category has its code, and a column for each level.
    levels = [min(MOST_LEVELS, len(column.unique()))
              for column in columns if not pa.types.is_floating(column.type)]  # fmt: skip
    values = 8 * (batch.features.num_columns + sum(levels))
    keys = -(-batch.keys.nbytes // batch.keys.num_rows)
    order = 0 if in_order else ORDER_BYTES
    weight = 0 if batch.sample_weight is None else WEIGHT_BYTES
    return int(values + keys + LABEL_BYTES + order + weight)


def _room(array: Matrix, rows: int, empty: Empty) -> Matrix:
    """More rows came than were counted: only where the database cannot hold one moment still."""
    if rows <= len(array):
        return array
    shape = (max(rows, len(array) + len(array) // 8), *array.shape[1:])
    larger = empty(shape[::-1], np.float64).T
    larger[: len(array)] = array
    return larger


def _fill(rows: Matrix, batch: Batch, codes: dict[str, dict[str, int]]) -> None:
    for position, (name, column) in enumerate(
        zip(batch.features.schema.names[: rows.shape[1]], batch.features.columns)
    ):
        if pa.types.is_floating(column.type):
            rows[:, position] = numbers_of(column)
        else:
            rows[:, position] = _codes(column, codes.setdefault(name, {}))


def numbers_of(column: pa.Array) -> Vector:
    values = column if column.null_count == 0 else column.fill_null(np.nan)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _codes(column: pa.Array, known: dict[str, int]) -> Vector:
    """A code for each text, the same in all batches; NaN where there is none."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    of_batch = np.array(
        [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()],
        dtype=np.float64,
    )
    indices = numbers_of(encoded.indices.cast(pa.float64()))
    absent = np.isnan(indices)
    if not absent.any():
        return of_batch[indices.astype(np.int64)]
    result = np.full(len(indices), np.nan)
    result[~absent] = of_batch[indices[~absent].astype(np.int64)]
    return result


def missing_masks(matrix: Matrix, empty: Empty) -> list[Mask | None]:
    """For each column, where its value is missing; None where none is."""
    masks: list[Mask | None] = [None] * matrix.shape[1]
    for rows in chunks(len(matrix)):
        for position, absent in enumerate(np.isnan(matrix[rows]).T):
            mask = masks[position]
            if mask is None and absent.any():
                mask = masks[position] = empty((len(matrix),), np.bool_)
                mask[: rows.start] = False
            if mask is not None:
                mask[rows] = absent
    return masks
