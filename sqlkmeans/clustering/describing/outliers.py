"""Customers far from their centroid: how far that is in each segment, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, inf

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import map_chunks
from sqlkmeans.clustering.arrays.types import Labels, Vector
from sqlkmeans.clustering.preparation.quantiles import Bracket, Cut, Wanted, order_statistics

#: A limit is so much beyond what it lies between: SQL and Python may round the last digit of a
#: distance apart, and whoever is as far as the limit itself is no outlier.
SLACK = 1 + 1e-9
#: Distances a segment that tell where its limit is to be looked for.
_SAMPLE = 10_000


def outlier_distances(
    labels: Labels,
    distances: Vector,
    k: int,
    share: float,
    *,
    squared: bool = False,
    at_most: float = inf,
) -> Vector:
    """The distance beyond which a customer is an outlier, of each cluster.

    A share of each cluster's rows, rounded down to whole rows, lies beyond: the limit is in the
    middle between the nearest of these and the next one before them. Where a cluster has too few
    rows for the share to be one, it is the distance of the farthest. Rows count alike, whatever
    they weigh; those that the fit left out do not count.

    Parameters
    ----------
    labels : ndarray of int32 of shape (n_rows,)
        Every cluster has a row that counts.
    distances : ndarray of float64 of shape (n_rows,)
        Of each row to its centroid.
    k : int
    share : float
        Above 0 and below 1.
    squared : bool, default=False
        Whether the distances are squared; the limits are not.
    at_most : float, default=inf
        Rows that are farther do not count.

    Returns
    -------
    ndarray of float64 of shape (k,)
    """

    def of(cluster: int, rows: slice) -> Vector:
        far: Vector = distances[rows][labels[rows] == cluster]
        return far[far <= at_most]

    def count(start: int, stop: int) -> npt.NDArray[np.int64]:
        near = distances[start:stop] <= at_most
        return np.bincount(labels[start:stop][near], minlength=k)

    sizes = np.sum(map_chunks(len(labels), count), axis=0).tolist()
    some = slice(None, None, max(1, len(labels) // (_SAMPLE * k)))
    wanted = []
    for cluster, size in enumerate(sizes):
        last = size - 1 - floor(share * size)
        sample = np.sort(of(cluster, some))
        wanted.append(Wanted((last, min(last + 1, size - 1)), size, sample))

    def cut_all(asked: Sequence[tuple[int, Bracket]]) -> list[tuple[Cut, ...]]:
        def cut(start: int, stop: int) -> list[Cut]:
            rows = slice(start, stop)
            return [bracket.cut(of(cluster, rows)) for cluster, bracket in asked]

        return list(zip(*map_chunks(len(labels), cut)))

    found = np.array(order_statistics(wanted, cut_all))
    if squared:
        found = np.sqrt(found)
    return np.asarray((found[:, 0] + found[:, 1]) / 2 * SLACK)


def count_outliers(
    labels: Labels, distances: Vector, limits: Vector, *, squared: bool = False
) -> npt.NDArray[np.int64]:
    """Rows of each cluster that are farther from their centroid than its limit, of shape (k,).

    Parameters are those of :func:`outlier_distances`, and what it returned.
    """

    def count(start: int, stop: int) -> npt.NDArray[np.int64]:
        of_chunk, far = labels[start:stop], distances[start:stop]
        if squared:
            far = np.sqrt(far)
        return np.bincount(of_chunk[far > limits[of_chunk]], minlength=len(limits))

    return np.asarray(np.sum(map_chunks(len(labels), count), axis=0, dtype=np.int64))
