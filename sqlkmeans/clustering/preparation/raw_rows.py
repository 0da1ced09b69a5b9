"""Raw rows as people and data frames hold them, as the numbers that a preparation takes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.preparation.problems import counted_value_problems
from sqlkmeans.errors import DataError

#: Texts that databases read as a boolean, and the number that stands for it.
YES_AND_NO = {
    **dict.fromkeys(("yes", "y", "true", "t", "on"), 1),
    **dict.fromkeys(("no", "n", "false", "f", "off"), 0),
}


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
    DataError
        If the rows have another number of columns, a column is not there or has another length,
        or values are infinite, or no numbers or dates where the column has such; all at once.
    """
    if hasattr(rows, "columns") or isinstance(rows, Mapping):
        columns = _named(rows, types)
    else:
        array = np.asarray(rows)
        if array.ndim != 2 or array.shape[1] != len(types):
            raise DataError(
                f"rows of shape {array.shape} given; allowed: (n_rows, {len(types)}), "
                f"the columns {', '.join(types)}"
            )
        if array.dtype.kind in "fiub" and "category" not in types.values():
            matrix = array.astype(np.float64, copy=False)
            _require(_infinite(matrix, types))
            return matrix, {}
        columns = list(array.T)
    matrix = np.empty((len(columns[0]), len(types)))
    texts: dict[str, list[str]] = {}
    problems: list[str] = []
    for position, (values, (name, kind)) in enumerate(zip(columns, types.items())):
        try:
            if kind == "category":
                matrix[:, position], texts[name] = level_codes(values)
            else:
                matrix[:, position] = dates(values) if kind == "date" else numbers(values)
        except ValueError as error:
            matrix[:, position] = np.nan
            problems.append(f"{name}: {error}")
    _require(_infinite(matrix, types) + problems)
    return matrix, texts


def _infinite(matrix: Matrix, names: Iterable[str]) -> list[str]:
    problems = []
    for position, name in enumerate(names):
        count = int(np.count_nonzero(np.isinf(matrix[:, position])))
        problems += counted_value_problems(count, 0, name)
    return problems


def _require(problems: Sequence[str]) -> None:
    if problems:
        raise DataError(problems)


def _named(rows: Any, types: Mapping[str, str]) -> list[Any]:
    """The columns of a data frame or a mapping."""
    # Arrow's columns are no names.
    given = [str(name) for name in getattr(rows, "column_names", getattr(rows, "columns", rows))]
    problems = []
    for name in types:
        if name not in given:
            same = [other for other in given if other.lower() == name.lower()]
            close = same or difflib.get_close_matches(name, given, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            listed = ", ".join(given)
            problems.append(f"{name}: no such column in the rows{hint} (they have {listed})")
    _require(problems)
    columns = [rows[name] for name in types]
    lengths = {name: len(column) for name, column in zip(types, columns)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise DataError(f"columns of different lengths given: {listed}; allowed: one length")
    return columns


def numbers(values: Any) -> Vector:
    """Numbers as float64, NaN where missing; yes and no are 1 and 0, as databases read them.

    Raises
    ------
    ValueError
        If a value is none.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):  # pandas' NA is no float
        return np.array(_each(values, _number, "a number"), dtype=np.float64)


def _number(value: Any) -> float:
    if isinstance(value, str) and value.strip().lower() in YES_AND_NO:
        return YES_AND_NO[value.strip().lower()]
    return np.nan if _missing(value) else float(value)


def _each(values: Any, convert: Callable[[Any], Any], what: str) -> list[Any]:
    """Every value converted; else how many cannot be, and one of them."""
    converted, failed = [], []
    for value in values:
        try:
            converted.append(convert(value))
        except (TypeError, ValueError):
            failed.append(value)
    if failed:
        rows = "1 row is" if len(failed) == 1 else f"{len(failed):,} rows are"
        raise ValueError(f"{rows} not {what} (such as {str(failed[0])[:30]!r})")
    return converted


def dates(values: Any) -> Vector:
    """Days since 1970-01-01, NaN where missing; numbers are such days already.

    Raises
    ------
    ValueError
        If a value is none.
    """
    array = np.asarray(values)
    if array.dtype.kind in "fiu":
        return array.astype(np.float64)
    if array.dtype.kind != "M":
        moments = _each(array, lambda value: np.datetime64(_without_zone(value), "us"), "a date")
        array = np.array(moments, dtype="datetime64[us]")
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
    if hasattr(values, "to_pylist"):
        # Arrow's: as an array of NumPy, a missing value of a dictionary would be one of its texts.
        values = values.to_pylist()
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
