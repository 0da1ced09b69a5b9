"""Rows as they are taken from a source."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from threading import current_thread
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from sqlkmeans.database.base import Batch, Source
from sqlkmeans.engines.local import rows
from sqlkmeans.engines.local.rows import read_rows
from sqlkmeans.engines.local.storage import Storage
from sqlkmeans.errors import DataError


def batch(first: int, n_rows: int) -> Batch:
    keys = pa.array(range(first, first + n_rows))
    return Batch(
        pa.record_batch({"id": keys}),
        pa.record_batch({"x": keys.cast(pa.float64()), "y": pa.array([0.5] * n_rows)}),
        None,
    )


def taken(batches: Iterator[Batch], storage: Storage | None = None) -> rows.Rows:
    source = Source(100, batches, in_key_order=True)
    return read_rows(source, ["id"], storage or Storage(), lambda _: None)


def test_batches_are_fetched_by_another_thread_and_empty_ones_left_out() -> None:
    fetched_by = set()

    def batches() -> Iterator[Batch]:
        for first, n_rows in [(0, 0), (0, 40), (40, 0), (40, 60), (100, 0)]:
            fetched_by.add(current_thread().name)
            yield batch(first, n_rows)

    found = taken(batches())
    assert found.matrix.tolist() == [[float(row), 0.5] for row in range(100)]
    assert found.keys["id"].to_pylist() == list(range(100))
    assert len(fetched_by) == 1
    assert current_thread().name not in fetched_by


def test_each_column_lies_in_one_piece() -> None:
    matrix = taken(iter([batch(0, 100)])).matrix
    assert all(column.flags.c_contiguous for column in matrix.T)


def test_an_error_of_the_source_comes_out_and_keeps_no_rows() -> None:
    made: list[weakref.ref[npt.NDArray[Any]]] = []

    class Watched(Storage):
        def empty(self, shape: tuple[int, ...], dtype: Any = np.float64) -> npt.NDArray[Any]:
            array = super().empty(shape, dtype)
            made.append(weakref.ref(array))
            return array

    def batches() -> Iterator[Batch]:
        yield batch(0, 50)
        raise DataError("source: reading stopped")

    gc.disable()  # what only a look for cycles frees, stays
    try:
        with pytest.raises(DataError, match="reading stopped"):
            taken(batches(), Watched())
        assert [array() for array in made] == [None]
    finally:
        gc.enable()
