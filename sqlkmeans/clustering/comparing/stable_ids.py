"""Segment ids that mean the same customers from one run to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix

# A cluster continues a segment when they share more than this part of the smaller one's customers.
SHARED_PART = 0.5


@dataclass(frozen=True)
class Previous:
    """The segments that are published now.

    Attributes
    ----------
    segment_ids : sequence of int
    centroids : ndarray of shape (len(segment_ids), n_features) or None
        In the new run's scaled space; None where the features are not the same any more.
    last_segment_id : int
        The highest id that was ever given.
    """

    segment_ids: Sequence[int]
    centroids: Matrix | None
    last_segment_id: int


def match_segments(
    centroids: Matrix,
    previous: Previous | None,
    overlap: Iterable[tuple[int, int, int]] = (),
) -> list[int]:
    """Give each new cluster its segment id.

    First by shared customers: the pairing that keeps most customers where they are (Hungarian
    assignment; Kuhn, 1955), as far as a pair shares more than half of the customers of the
    smaller of the two. Then, among what is left, by centroid: a pair in which each is the
    other's nearest. What is left then is new and gets an id that was never used.

    Parameters
    ----------
    centroids : ndarray of shape (k, n_features)
        New clusters in the scaled space, largest first.
    previous : Previous or None
        None in the first run: ids are then 1 to k, largest first.
    overlap : iterable of (segment_id, cluster, customers)
        Customers that a published segment and a new cluster share.

    Returns
    -------
    list of int of length k
    """
    k = len(centroids)
    if previous is None or not previous.segment_ids:
        first = previous.last_segment_id if previous else 0
        return [first + index + 1 for index in range(k)]
    old_ids = list(previous.segment_ids)
    matched = _by_customers(_shared(old_ids, k, overlap))
    if previous.centroids is not None:
        matched |= _by_centroid(previous.centroids, centroids, matched)
    by_cluster = {new: old_ids[old] for old, new in matched.items()}
    ids: list[int] = []
    unused = previous.last_segment_id
    for cluster in range(k):
        if cluster not in by_cluster:
            unused += 1
            by_cluster[cluster] = unused
        ids.append(by_cluster[cluster])
    return ids


def _shared(
    old_ids: list[int], k: int, overlap: Iterable[tuple[int, int, int]]
) -> npt.NDArray[np.int64]:
    shared = np.zeros((len(old_ids), k), dtype=np.int64)
    positions = {segment_id: position for position, segment_id in enumerate(old_ids)}
    for segment_id, cluster, customers in overlap:
        if segment_id in positions:
            shared[positions[segment_id], cluster] += customers
    return shared


def _by_customers(shared: npt.NDArray[np.int64]) -> dict[int, int]:
    smaller = np.minimum(shared.sum(axis=1)[:, None], shared.sum(axis=0)[None, :])
    return {
        old: new
        for old, new in _best_pairs(-shared)
        if shared[old, new] > SHARED_PART * smaller[old, new]
    }


def _by_centroid(old: Matrix, new: Matrix, matched: dict[int, int]) -> dict[int, int]:
    distances = ((old[:, None, :] - new[None, :, :]) ** 2).sum(axis=2)
    free_old = [index for index in range(len(old)) if index not in matched]
    free_new = [index for index in range(len(new)) if index not in matched.values()]
    pairs = _best_pairs(distances[np.ix_(free_old, free_new)])
    candidates = [(free_old[a], free_new[b]) for a, b in pairs]
    # Nearest among all, the matched ones too: a half of a split segment lies nearest to the
    # segment it came from, and must not take the id of one that has vanished elsewhere.
    return {
        a: b for a, b in candidates if distances[a].argmin() == b and distances[:, b].argmin() == a
    }


def _best_pairs(cost: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The pairs of rows and columns that cost least in sum (Hungarian assignment)."""
    if not cost.size:
        return []
    best = cost.argmin(axis=1)
    if len(set(best.tolist())) == len(best):
        # Every row gets the column it likes best: nothing to solve, and SciPy need not be loaded.
        return list(enumerate(best.tolist()))
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    return list(zip(rows.tolist(), columns.tolist()))
