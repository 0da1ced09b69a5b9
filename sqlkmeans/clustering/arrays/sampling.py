"""Samples of rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import map_chunks, rows_where
from sqlkmeans.clustering.arrays.types import RowNumbers, Vector


def rows_that_count(
    n_rows: int, sample_weight: Vector | None, at_most: int, rng: np.random.Generator
) -> tuple[RowNumbers, int]:
    """Numbers of rows drawn from those that have a weight, and how many of these there are.

    Parameters
    ----------
    n_rows : int
    sample_weight : ndarray of float64 of shape (n_rows,) or None
        None: all have one.
    at_most : int
    rng : numpy.random.Generator
    """
    if sample_weight is None:
        return rng.choice(n_rows, min(at_most, n_rows), replace=False), n_rows
    weight = sample_weight

    def counts(start: int, stop: int) -> npt.NDArray[np.bool_]:
        return np.asarray(weight[start:stop] > 0)

    counting = sum(map_chunks(n_rows, lambda *ends: int(counts(*ends).sum())))
    ranks = rng.choice(counting, min(at_most, counting), replace=False)
    return rows_where(n_rows, ranks, counts), counting


def stratified_rows(
    labels: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64], at_most: int, seed: int
) -> npt.NDArray[np.int64]:
    """Row numbers of a sample in which each segment has its share, and a small one all it has.

    Parameters
    ----------
    labels : ndarray of int of shape (n_rows,)
    sizes : ndarray of int of shape (k,)
        Rows a label.
    at_most : int
        About so many rows; all of them where there are no more.
    seed : int
    """
    if len(labels) <= at_most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    floor = max(2, at_most // (4 * len(sizes)))
    wanted = np.minimum(sizes, np.maximum(floor, at_most * sizes // sizes.sum()))
    drawn = []
    for segment, (size, count) in enumerate(zip(sizes, wanted)):
        ranks = rng.choice(int(size), int(count), replace=False)
        drawn.append(rows_where(len(labels), ranks, partial(_has_label, labels, segment)))
    return np.sort(np.concatenate(drawn))


def _has_label(
    labels: npt.NDArray[np.int32], label: int, start: int, stop: int
) -> npt.NDArray[np.bool_]:
    return np.asarray(labels[start:stop] == label)
