"""Samples of labelled rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import rows_where


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
