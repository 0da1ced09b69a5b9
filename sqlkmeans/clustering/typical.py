"""The rows nearest their centroid: customers to look at when a segment needs a face."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Assignment

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
    order = np.argsort(labels.astype(np.uint16), kind="stable")
    sizes = assignment.sizes(k)
    found = []
    for end, size in zip(np.cumsum(sizes), sizes):
        rows = order[end - size : end]
        own = distances[rows]
        if size > count:
            near = np.flatnonzero(own <= np.partition(own, count - 1)[count - 1])
            rows, own = rows[near], own[near]
        found.append(rows[np.argsort(own, kind="stable")][:count])
    return found
