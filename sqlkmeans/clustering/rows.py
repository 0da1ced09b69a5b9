"""Raw rows as people and data frames hold them, as the numbers that a preparation takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


def raw_rows(rows: Any, types: Mapping[str, str]) -> tuple[Matrix, dict[str, list[str]]]:
    """Raw rows as a matrix, and the texts that a category's codes in it stand for.

    Parameters
    ----------
    rows : data frame, mapping of columns, or array-like of shape (n_rows, n_columns)
        Anything with columns by name; else the columns in the order of ``types``.
    types : dict of str to {"number", "category", "date"}
        Of each column, in order.

    Returns
    -------
    matrix : ndarray of float64 of shape (n_rows, n_columns)
    texts : dict of str to list of str

    Raises
    ------
    ValueError
        If the rows have another number of columns.
    """
    if hasattr(rows, "columns") or isinstance(rows, Mapping):
        columns = [rows[name] for name in types]
    else:
        array = np.asarray(rows)
        if array.ndim != 2 or array.shape[1] != len(types):
            raise ValueError(
                f"rows of shape {array.shape} given; allowed: (n_rows, {len(types)}), "
                f"the columns {', '.join(types)}"
            )
        if array.dtype.kind in "fiub" and "category" not in types.values():
            return array.astype(np.float64, copy=False), {}
        columns = list(array.T)
    matrix = np.empty((len(columns[0]), len(types)))
    texts: dict[str, list[str]] = {}
    for position, (values, (name, kind)) in enumerate(zip(columns, types.items())):
        if kind == "category":
            matrix[:, position], texts[name] = level_codes(values)
        else:
            matrix[:, position] = dates(values) if kind == "date" else numbers(values)
    return matrix, texts


def numbers(values: Any) -> Vector:
    """Numbers as float64, NaN where missing."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):  # pandas' NA is no float
        return np.array([np.nan if _missing(value) else float(value) for value in values])


def dates(values: Any) -> Vector:
    """Days since 1970-01-01, NaN where missing; numbers are such days already."""
    array = np.asarray(values)
    if array.dtype.kind in "fiu":
        return array.astype(np.float64)
    if array.dtype.kind != "M":
        array = np.array([_without_zone(value) for value in array], dtype="datetime64[us]")
    result = array.astype("datetime64[D]").astype(np.float64)
    result[np.isnat(array)] = np.nan
    return result


def _without_zone(value: Any) -> Any:
    """A date for NumPy, which knows no zones: the moment in UTC, or None where missing."""
    if _missing(value):
        return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(timezone.utc).replace(tzinfo=None)
    return value


def level_codes(values: Sequence[Any]) -> tuple[Vector, list[str]]:
    """Codes of a category's values, NaN where missing, and the texts they stand for."""
    known: dict[str, int] = {}
    codes = np.empty(len(values))
    for position, value in enumerate(np.asarray(values, dtype=object)):
        text = level_text(value)
        codes[position] = np.nan if text is None else known.setdefault(text, len(known))
    return codes, list(known)


def level_text(value: Any) -> str | None:
    """A value as the text that a database makes of it; a boolean is 1 or 0.

    A whole number stays one where a missing value in its column made it a float.
    """
    if isinstance(value, str):
        return str(value)
    if _missing(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas' NA is neither true nor false
        return True
