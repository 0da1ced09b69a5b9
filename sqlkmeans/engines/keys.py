"""The keys of the rows that an engine reads: collected, checked, put in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sqlkmeans.errors import DataError


class KeyCollector:
    """Keeps the key columns and finds NULL and repeated keys.

    Parameters
    ----------
    names : sequence of str
        The key columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._name = ", ".join(names)
        self._batches: list[pa.RecordBatch] = []
        self._increasing = True
        self._nulls = 0
        self.keys = pa.table({})

    def add(self, keys: pa.RecordBatch) -> None:
        """Take the keys of the next rows."""
        if not keys.num_rows:
            return
        self._nulls += sum(column.null_count for column in keys.columns)
        # A column of an imported batch keeps all of the batch alive, features too; a copy of the
        # keys lets the rest go.
        copied = [pa.concat_arrays([column, column.slice(0, 0)]) for column in keys.columns]
        batch = pa.RecordBatch.from_arrays(copied, names=keys.schema.names)
        if self._increasing and not self._nulls:
            if self._batches:
                last = self._batches[-1]
                pair = _joined(last.slice(last.num_rows - 1), batch.slice(0, 1))
                self._increasing = _strictly_increasing(pair)
            self._increasing = self._increasing and _strictly_increasing(batch)
        self._batches.append(batch)

    def finish(self, *, sort: bool) -> npt.NDArray[np.int64] | None:
        """Check the keys, and set ``keys`` to all of them.

        Parameters
        ----------
        sort : bool
            Bring the keys into ascending order; where false, equal keys are neighbours already.

        Returns
        -------
        ndarray of int64 or None
            The order that sorts the rows; None where they are to stay as they are.

        Raises
        ------
        DataError
            If a key is NULL or not unique.
        """
        self.keys = pa.Table.from_batches(self._batches)
        self._batches = []
        if self._nulls:
            raise DataError(f"key {self._name}: {self._nulls:,} NULL; a key identifies a customer")
        if self._increasing:
            return None
        order = None
        if sort:
            by = [(name, "ascending") for name in self.keys.column_names]
            order = pc.sort_indices(self.keys, sort_keys=by)
            self.keys = self.keys.take(order)
        self._refuse_repeats()
        return None if order is None else order.to_numpy().astype(np.int64)

    def _refuse_repeats(self) -> None:
        keys = self.keys.combine_chunks()
        same: pa.ChunkedArray | None = None
        for column in keys.columns:
            equal = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
            same = equal if same is None else pc.and_(same, equal)
        repeats = pc.sum(same).as_py() or 0
        if repeats:
            row = keys.slice(pc.index(same, True).as_py(), 1).to_pylist()[0]
            example = ", ".join(str(value) for value in row.values())
            raise DataError(
                f"key {self._name}: not unique; {repeats:,} rows repeat the key of another "
                f"(for example {example}); aggregate in the source, or add a key column"
            )


def _joined(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    columns = [pa.concat_arrays(pair) for pair in zip(first.columns, second.columns)]
    return pa.RecordBatch.from_arrays(columns, names=first.schema.names)


def _strictly_increasing(keys: pa.RecordBatch) -> bool:
    """Whether each row's key is greater than the one before, the first column counting most."""
    greater: pa.Array | None = None
    for column in reversed(keys.columns):
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        if greater is None:
            greater = pc.less(before, after)
        else:
            greater = pc.or_(pc.less(before, after), pc.and_(pc.equal(before, after), greater))
    return bool(pc.all(greater).as_py())


def key_texts(keys: pa.Table, rows: npt.NDArray[np.int64]) -> list[str]:
    """The keys of some rows, each a JSON list of texts that say every value exactly."""
    return _json_lists(keys.take(pa.array(rows)))


def key_texts_of(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The same of keys that came as Python's values, one sequence a row."""
    columns = [pa.chunked_array([_array(values)]) for values in zip(*rows)]
    return _json_lists(pa.table(columns, names=[str(n) for n in range(len(columns))]))


def _array(values: Sequence[Any]) -> pa.Array:
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        array = None
    if array is None or isinstance(array.type, pa.BaseExtensionType):  # as UUIDs are
        return pa.array([str(value) for value in values])
    return array


def _json_lists(keys: pa.Table) -> list[str]:
    columns = [_texts(column) for column in keys.columns]
    return [json.dumps(values, ensure_ascii=False) for values in zip(*columns)]


def _texts(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return ["0x" + value.hex() for value in column.to_pylist()]
    if pa.types.is_date(column.type) or pa.types.is_string(column.type):
        return [str(value) for value in column.to_pylist()]
    return [str(value) for value in pc.cast(column, pa.string()).to_pylist()]
