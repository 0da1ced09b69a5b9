"""Keys as texts that say every value exactly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.clustering.describing.found import TypicalCustomer


def key_texts(keys: pa.Table, rows: npt.NDArray[np.int64]) -> list[str]:
    """The keys of some rows, each a JSON list of texts that say every value exactly."""
    # Not by take(), which would join all chunks first.
    return _json_lists(pa.concat_tables([keys[:0], *(keys.slice(row, 1) for row in rows)]))


def typical_customers(
    keys: pa.Table, rows: npt.NDArray[np.int64], distances: npt.NDArray[np.float64]
) -> list[TypicalCustomer]:
    """Some rows as customers, each with its distance."""
    return [TypicalCustomer(*one) for one in zip(key_texts(keys, rows), distances.tolist())]


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
    # A cast would load Arrow's functions, which takes a while; most keys are integers.
    kinds = (pa.types.is_integer, pa.types.is_date, pa.types.is_string)
    if any(is_one(column.type) for is_one in kinds):
        return [str(value) for value in column.to_pylist()]
    return [str(value) for value in column.cast(pa.string()).to_pylist()]
