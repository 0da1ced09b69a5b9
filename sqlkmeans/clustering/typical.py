"""The rows nearest their centroid: customers to look at when a segment needs a face."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Assignment
from sqlkmeans.clustering.chunks import map_chunks

Rows = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]

#: Typical customers a segment.
COUNT = 3


def typical_rows(assignment: Assignment, k: int, count: int = COUNT) -> list[npt.NDArray[np.int64]]:
    """Row numbers of the rows nearest their centroid, the nearest first.

    Parameters
    ----------
    assignment : Assignment
    k : int
    count : int, default=3
        At most so many a cluster.

    Returns
    -------
    list of ndarray of int64, one a cluster
        Of rows equally near, the first ones: those with the lowest keys.
    """
    labels, distances = assignment.labels, assignment.squared_distances

    def nearest(start: int, stop: int) -> list[tuple[Rows, Vector]]:
        # Rows of a segment side by side; a stable sort of 16-bit integers is a radix sort.
        order = np.argsort(labels[start:stop].astype(np.uint16), kind="stable")
        sizes = np.bincount(labels[start:stop], minlength=k)
        found = []
        for end, size in zip(np.cumsum(sizes), sizes):
            rows = start + order[end - size : end]
            found.append(_first(rows, distances[rows], count))
        return found

    found = []
    for of_segment in zip(*map_chunks(len(labels), nearest)):
        rows, near = (np.concatenate(part) for part in zip(*of_segment))
        found.append(_first(rows, near, count)[0])
    return found


def _first(rows: Rows, distances: Vector, count: int) -> tuple[Rows, Vector]:
    """The nearest of some rows, which are ascending where they are equally near."""
    if len(rows) > count:
        near = np.flatnonzero(distances <= np.partition(distances, count - 1)[count - 1])
        rows, distances = rows[near], distances[near]
    order = np.argsort(distances, kind="stable")[:count]
    return rows[order], distances[order]
