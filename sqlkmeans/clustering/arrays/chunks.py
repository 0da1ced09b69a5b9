"""All rows, a chunk at a time: rows may lie in a file that is larger than memory.

So nothing here or in the modules that use it makes anything on the way that is as long as the
rows. Arrays that are as long because they are the result are made by the caller's ``empty``, which
is NumPy's or puts them into a file as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.threads import in_threads
from sqlkmeans.clustering.arrays.types import Mask, Matrix

T = TypeVar("T")
#: Makes an array from its shape and type, as ``numpy.empty`` does.
Empty = Callable[[Any, Any], npt.NDArray[Any]]

# Rows at a time: few enough that all threads have work, many enough that starting one is nothing.
CHUNK = 131072


def empty_columns(empty: Empty, n_rows: int, n_columns: int) -> npt.NDArray[np.float64]:
    """A matrix of shape (n_rows, n_columns) of any content, each of its columns in one piece.

    Columns come one at a time from the database, are scaled one at a time, and distances add up
    one feature after the other.
    """
    return empty((n_columns, n_rows), np.float64).T


def map_chunks(n_rows: int, function: Callable[[int, int], T]) -> list[T]:
    """Call ``function(start, stop)`` for each chunk of rows, on all cores; results in row order.

    The chunks do not depend on the number of threads, so neither does anything that is summed
    over the results.
    """
    return in_threads(lambda rows: function(rows.start, rows.stop), list(chunks(n_rows)))


def chunks(n_rows: int) -> Iterator[slice]:
    """The rows from the first on, a chunk at a time."""
    return (slice(start, min(start + CHUNK, n_rows)) for start in range(0, n_rows, CHUNK))


def label_counts(
    labels: npt.NDArray[np.int32], k: int, weights: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[Any]:
    """``numpy.bincount`` of labels 0 to k - 1, which would make 64-bit numbers of all of them."""

    def count(start: int, stop: int) -> npt.NDArray[Any]:
        of_chunk = None if weights is None else weights[start:stop]
        return np.bincount(labels[start:stop], weights=of_chunk, minlength=k)

    counts = map_chunks(len(labels), count)
    return np.asarray(np.sum(counts, axis=0)) if counts else np.zeros(k, dtype=np.int64)


def rows_where(
    n_rows: int,
    ranks: npt.NDArray[np.int64],
    condition: Callable[[int, int], npt.NDArray[np.bool_]],
) -> npt.NDArray[np.int64]:
    """Row numbers of some of the rows that meet a condition.

    Parameters
    ----------
    n_rows : int
    ranks : ndarray of int64
        Which ones: 0 is the first row that meets it. In any order.
    condition : callable
        From start and stop to an ndarray of bool of shape (stop - start,).

    Returns
    -------
    ndarray of int64 of the shape of ``ranks``
        In their order.
    """
    counts = map_chunks(n_rows, lambda start, stop: int(np.count_nonzero(condition(start, stop))))
    ends = np.cumsum(counts)
    of_chunk = np.searchsorted(ends, ranks, side="right")
    found = np.empty(len(ranks), dtype=np.int64)
    for chunk in np.flatnonzero(np.bincount(of_chunk)):
        start, mine = int(chunk) * CHUNK, of_chunk == chunk
        rows = np.flatnonzero(condition(start, min(start + CHUNK, n_rows)))
        found[mine] = start + rows[ranks[mine] - (ends[chunk] - counts[chunk])]
    return found


def compact_rows(matrix: Matrix, kept: Mask) -> None:
    """Move the kept rows to the front, a block at a time, so that no second matrix is made."""
    if kept.all():
        return
    end = 0
    for chunk in chunks(len(matrix)):
        rows = matrix[chunk][kept[chunk]]
        matrix[end : end + len(rows)] = rows
        end += len(rows)
