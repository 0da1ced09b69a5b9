"""The rows nearest their centroid: customers to look at when a segment needs a face."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import CHUNK, map_chunks
from sqlkmeans.clustering.arrays.types import RowNumbers, Vector
from sqlkmeans.clustering.kmeans.assignment import Assignment

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

    def nearest(rows: RowNumbers) -> list[tuple[RowNumbers, Vector]]:
        # Rows of a segment side by side; a stable sort of 16-bit integers is a radix sort.
        rows = rows[np.argsort(labels[rows].astype(np.uint16), kind="stable")]
        ends = np.cumsum(np.bincount(labels[rows], minlength=k))
        parts = (rows[start:end] for start, end in zip([0, *ends], ends))
        return [_first(part, distances[part], count) for part in parts]

    # Some rows show how near the others have to be to count at all.
    bounds = np.full(k, np.inf)
    for segment, (_, near) in enumerate(nearest(np.arange(min(len(labels), CHUNK)))):
        if len(near) == count:
            bounds[segment] = near[-1]

    def look(start: int, stop: int) -> list[tuple[RowNumbers, Vector]]:
        near = distances[start:stop] <= bounds[labels[start:stop]]
        return nearest(start + np.flatnonzero(near))

    found = []
    for of_segment in zip(*map_chunks(len(labels), look)):
        rows, near = (np.concatenate(part) for part in zip(*of_segment))
        found.append(_first(rows, near, count)[0])
    return found


def _first(rows: RowNumbers, distances: Vector, count: int) -> tuple[RowNumbers, Vector]:
    """The nearest of some rows, which are ascending where they are equally near."""
    if len(rows) > count:
        near = np.flatnonzero(distances <= np.partition(distances, count - 1)[count - 1])
        rows, distances = rows[near], distances[near]
    order = np.argsort(distances, kind="stable")[:count]
    return rows[order], distances[order]
