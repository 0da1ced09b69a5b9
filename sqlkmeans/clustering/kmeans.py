"""K-Means: scikit-learn's up to ``sample_rows``, above it restarts on a sample and exact passes.

Above ``sample_rows`` the restarts run on parts of a random sample, all of it tells which of them
is best, and Lloyd's passes over all rows carry that one to the end. Restarts exist to find the
right basin, for which a sample is enough; the passes that follow are exact, so the result is a
K-Means solution of all rows (Bradley & Fayyad, 1998, "Refining initial points for K-Means
clustering").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import (
    Assignment,
    Matrix,
    Vector,
    assign,
    inertia_of,
    squared_distances,
)
from sqlkmeans.clustering.chunks import Empty, empty_columns, map_chunks, rows_where
from sqlkmeans.clustering.kernel import kernel
from sqlkmeans.clustering.lloyd import Passed, lloyd, seed_centroids, uncounted
from sqlkmeans.clustering.threads import in_threads, one_library_thread
from sqlkmeans.errors import DataError

Rows = npt.NDArray[np.int64]

SAMPLE_ROWS = 100_000
# Rows of a start's part, for each cluster and at least: enough to tell basins apart.
START_ROWS_PER_CLUSTER, START_ROWS = 500, 10_000
# Starts on a part for each that is asked for: one in six finds the best basin of rows with long
# tails, and it costs less than a pass over a million rows.
STARTS = 2
# Candidates for each seed, times scikit-learn's: on a part they cost less than the iterations
# that they save, and more starts find the best basin.
MORE_TRIALS = 4
# Starts from the best centroids so far, one of which is to be found anew: where two share what one
# could hold, and one holds what two should, no Lloyd iteration gets out of it.
SWAPS = 4
# Starts from the centroids of the k before: most of them are right, and one is to be added.
STARTS_FROM_BEFORE = 5
MAX_ITER = 300
TOLERANCE = 1e-4
# Passes over all rows are few and settle the result, so they go on for longer than a restart.
PASS_TOLERANCE_SHARE = 0.1
# Starts on parts only tell which of them to carry on.
START_TOLERANCE_SHARE = 10
# A start on a part may be this much above the best where its basin is the better one.
# Starts of one basin can look as if they differed there, and must not take all places.
CARRIED_SHARE, MOST_CARRIED = 0.02, 8
# The inertia on a sample is off by its heaviest tails: starts this close are compared on all rows.
RIVAL_SHARE, MOST_RIVALS = 0.005, 3
# Starts whose centroids are so near, in the features' mean variance, have found the same basin.
SAME_SHARE = 0.01


@dataclass(frozen=True)
class KMeansFit:
    """A fitted K-Means.

    Attributes
    ----------
    centroids : ndarray of float64 of shape (k, n_features)
        Largest cluster first; ties in the order of their coordinates.
    assignment : Assignment
        Every row's nearest centroid, as indices into ``centroids``.
    n_iter : int
        Lloyd iterations of the best start, the passes over all rows included.
    """

    centroids: Matrix
    assignment: Assignment
    n_iter: int


def fit_kmeans(
    matrix: Matrix,
    k: int,
    *,
    sample_weight: Vector | None = None,
    n_init: int = 10,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    max_iter: int = MAX_ITER,
    tol: float = TOLERANCE,
    empty: Empty = np.empty,
    passed: Passed = uncounted,
) -> KMeansFit:
    """Cluster prepared rows.

    Parameters
    ----------
    matrix : ndarray of float64 or float32 of shape (n_rows, n_features)
        Prepared rows, in an order that does not depend on chance (the key's). All arithmetic is
        in float64.
    k : int
        Number of clusters.
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        How much each row counts, finite and 0 or more; by default each counts 1. A row of
        weight 0 is labelled and moves no centroid.
    n_init : int, default=10
        Number of k-means++ starts; the one with the lowest inertia wins.
    seed : int, default=0
    sample_rows : int, default=100_000
        Up to this many rows the fit is scikit-learn's own.
    max_iter : int, default=300
    tol : float, default=1e-4
        A start ends when its centroids move by less than this share of the features' mean
        variance (scikit-learn's ``tol``); the passes over all rows end at a tenth of it.
    empty : callable, default=numpy.empty
        Makes the arrays of labels and distances.
    passed : callable, optional
        Called with 1 after each pass over all rows, where there are more than ``sample_rows``.

    Returns
    -------
    KMeansFit
        The same for the same rows in the same order, whatever the number of threads, and with
        numba or without.

    Raises
    ------
    DataError
        If the rows that have a weight have fewer than ``k`` distinct values.
    """
    ((_, fit),) = fit_many(
        matrix, [k], sample_weight=sample_weight, n_init=n_init, seed=seed,
        sample_rows=sample_rows, max_iter=max_iter, tol=tol, empty=empty, passed=passed,
    )  # fmt: skip
    return fit


def fit_many(
    matrix: Matrix,
    ks: Sequence[int],
    *,
    sample_weight: Vector | None = None,
    n_init: int = 10,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    max_iter: int = MAX_ITER,
    tol: float = TOLERANCE,
    empty: Empty = np.empty,
    passed: Passed = uncounted,
) -> Iterator[tuple[int, KMeansFit]]:
    """Cluster the same rows for several numbers of clusters.

    Above ``sample_rows`` all of them share the samples, and each ``k`` after the first has five
    starts more: the centroids of the ``k`` before, and a row drawn as k-means++ draws.

    Parameters
    ----------
    ks : sequence of int
        Ascending.

    Other parameters and errors are those of :func:`fit_kmeans`.

    Yields
    ------
    (int, KMeansFit)
        One at a time: the labels of all of them could be more than the rows.
    """
    options = _Options(n_init, seed, max_iter, tol)
    distinct = _distinct_rows(matrix, max(ks), sample_weight)
    samples = None
    if len(matrix) > sample_rows:
        kernel(matrix.size)  # loads it now, so that the starts have it too
        samples = _Samples.draw(matrix, sample_weight, distinct, seed, sample_rows)
    before: Matrix | None = None
    for k in ks:
        if samples is None:
            centroids, n_iter = _scikit_learn(matrix, sample_weight, k, options)
            assignment = assign(matrix, centroids, sample_weight, empty)
        else:
            with one_library_thread():
                before, n_iter = _best_start(matrix, sample_weight, samples, k, before, options)
                found = lloyd(
                    matrix, before, sample_weight, max_iter=max_iter, empty=empty,
                    threshold=PASS_TOLERANCE_SHARE * samples.threshold(tol), passed=passed,
                )  # fmt: skip
                centroids, assignment = found.centroids, found.assignment()
                n_iter += found.n_iter
        yield k, _largest_first(KMeansFit(centroids, assignment, n_iter))


@dataclass(frozen=True)
class _Options:
    n_init: int
    seed: int
    max_iter: int
    tol: float


@dataclass(frozen=True)
class _Samples:
    """The rows that starts run on; the first ``n_distinct`` of them differ."""

    rows: Matrix
    weight: Vector | None
    n_distinct: int

    @classmethod
    def draw(
        cls, matrix: Matrix, sample_weight: Vector | None, distinct: Rows, seed: int, n_rows: int
    ) -> _Samples:
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
        n_rows -= len(distinct)
        if sample_weight is None:
            drawn = rng.choice(len(matrix), n_rows, replace=False)
        else:
            weight = sample_weight

            def counts(start: int, stop: int) -> npt.NDArray[np.bool_]:
                return np.asarray(weight[start:stop] > 0)

            counting = sum(map_chunks(len(matrix), lambda *ends: int(counts(*ends).sum())))
            ranks = rng.choice(counting, min(n_rows, counting), replace=False)
            drawn = rows_where(len(matrix), ranks, counts)
        # Rows that repeat often could crowd out the rare ones: k rows that differ are always in.
        rows = np.concatenate([distinct, drawn])
        # Read in the order in which they lie: out of it, a file is read many times over.
        order = np.argsort(rows)
        points, of_rows = empty_columns(np.empty, len(rows), matrix.shape[1]), None
        for drawn_values, values in zip(points.T, matrix.T):
            drawn_values[order] = values[rows[order]]
        if sample_weight is not None:
            of_rows = np.empty(len(rows))
            of_rows[order] = sample_weight[rows[order]]
        return cls(points, of_rows, len(distinct))

    def part(self, k: int, turn: int) -> _Samples:
        """The rows of one start: those that differ, and a part of the others, each in turn.

        Starts that all saw the same few rows would all miss what these do not show.
        """
        others = len(self.rows) - self.n_distinct
        size = max(START_ROWS, START_ROWS_PER_CLUSTER * k, self.n_distinct) - self.n_distinct
        size = min(size, others)
        first = self.n_distinct + turn % max(1, others // max(1, size)) * size
        rows = np.r_[: self.n_distinct, first : first + size]
        weight = None if self.weight is None else self.weight[rows]
        return _Samples(self.rows.T[:, rows].T, weight, self.n_distinct)

    def threshold(self, tol: float) -> float:
        return tol * float(self.rows.var(axis=0).mean())


def _best_start(
    matrix: Matrix, sample_weight: Vector | None, samples: _Samples, k: int,
    before: Matrix | None, options: _Options,
) -> tuple[Matrix, int]:  # fmt: skip
    """Restarts on parts of the sample, the best of them carried to their ends on all of it, and
    the best of these on all rows."""
    threshold, same = samples.threshold(options.tol), samples.threshold(SAME_SHARE)

    def start(turn: int) -> _Start:
        small, rng = samples.part(k, turn), np.random.default_rng(sequences[turn])
        seeds = seed_centroids(small.rows, k, rng, small.weight, given[turn], MORE_TRIALS)
        found = lloyd(
            small.rows, seeds, small.weight, max_iter=options.max_iter,
            threshold=START_TOLERANCE_SHARE * threshold,
        )  # fmt: skip
        inertia = assign(samples.rows, found.centroids, samples.weight).inertia
        return _Start(inertia, found.centroids, found.n_iter)

    def carry(started: _Start) -> _Start:
        found = lloyd(
            samples.rows, started.centroids, samples.weight, max_iter=options.max_iter,
            threshold=threshold,
        )  # fmt: skip
        inertia = found.assignment().inertia
        return _Start(inertia, found.centroids, started.n_iter + found.n_iter)

    given: list[Matrix | None] = [None] * (STARTS * options.n_init)
    given += [before] * (0 if before is None else STARTS_FROM_BEFORE)
    _, *sequences = np.random.SeedSequence(options.seed).spawn(1 + len(given) + SWAPS)
    starts = in_threads(start, range(len(given)))
    given += _all_but_one(samples.part(k, 0), min(starts, key=_inertia).centroids)[:SWAPS]
    starts += in_threads(start, range(len(starts), len(given)))
    # Parts of the sample put the same basin's centroids a little apart; all of it does not.
    carried = in_threads(carry, _rivals(starts, same, CARRIED_SHARE, MOST_CARRIED))
    best, *others = rivals = _rivals(carried, same, RIVAL_SHARE, MOST_RIVALS)
    if others:
        best = min(rivals, key=lambda rival: inertia_of(matrix, rival.centroids, sample_weight))
    return best.centroids, best.n_iter


@dataclass(frozen=True)
class _Start:
    """Where a start has come to, with its inertia on the sample."""

    inertia: float
    centroids: Matrix
    n_iter: int


def _inertia(start: _Start) -> float:
    return start.inertia


def _all_but_one(samples: _Samples, centroids: Matrix) -> list[Matrix]:
    """The centroids without each in turn, the one first whose loss costs the inertia least."""
    if len(centroids) == 1:
        return []
    distances = squared_distances(samples.rows, centroids)
    nearest, second = np.partition(distances, 1, axis=1)[:, :2].T
    loss = second - nearest if samples.weight is None else (second - nearest) * samples.weight
    costs = np.bincount(distances.argmin(axis=1), loss, len(centroids))
    return [np.delete(centroids, one, axis=0) for one in np.argsort(costs, kind="stable")]


def _rivals(starts: list[_Start], same: float, share: float, most: int) -> list[_Start]:
    """The best start, and others that differ from it and are not much worse."""
    starts = sorted(starts, key=_inertia)
    rivals: list[_Start] = []
    for start in starts:
        if start.inertia > starts[0].inertia * (1 + share) or len(rivals) == most:
            break
        if _apart(start.centroids, rivals) > same:
            rivals.append(start)
    return rivals


def _apart(centroids: Matrix, others: list[_Start]) -> float:
    """How far they are from the most similar of others, as a sum of squared distances."""
    apart = float("inf")
    for other in others:
        differences = centroids[:, None, :] - other.centroids
        squared = np.einsum("ijf,ijf->ij", differences, differences)
        apart = min(apart, float(squared.min(axis=1).sum()))
    return apart


def _scikit_learn(
    matrix: Matrix, sample_weight: Vector | None, k: int, options: _Options
) -> tuple[Matrix, int]:
    from sklearn.cluster import KMeans

    if sample_weight is not None:
        # scikit-learn may start from a row of weight 0, and such a cluster could stay empty.
        counts = sample_weight > 0
        matrix, sample_weight = matrix[counts], sample_weight[counts]
    model = KMeans(
        k, n_init=options.n_init, random_state=options.seed, max_iter=options.max_iter,
        tol=options.tol,
    )  # fmt: skip
    with one_library_thread():
        model.fit(matrix, sample_weight=sample_weight)
    return np.asarray(model.cluster_centers_, dtype=np.float64), int(model.n_iter_)


def _largest_first(fit: KMeansFit) -> KMeansFit:
    k = len(fit.centroids)
    sizes = fit.assignment.sizes(k)
    order = sorted(range(k), key=lambda j: (-sizes[j], tuple(fit.centroids[j])))
    rank = np.empty(k, dtype=np.int32)
    rank[order] = np.arange(k, dtype=np.int32)
    labels = fit.assignment.labels

    def relabel(start: int, stop: int) -> None:
        labels[start:stop] = rank[labels[start:stop]]

    map_chunks(len(labels), relabel)
    return KMeansFit(np.ascontiguousarray(fit.centroids[order]), fit.assignment, fit.n_iter)


def _distinct_rows(matrix: Matrix, k: int, sample_weight: Vector | None) -> Rows:
    """Numbers of the first k rows that differ and count; reads no further than needed.

    Raises
    ------
    DataError
        If there are fewer.
    """
    found: dict[bytes, int] = {}
    for start in range(0, len(matrix), 4096):
        block = slice(start, start + 4096)
        # + 0.0 turns -0.0 into 0.0, which is equal but has other bytes.
        for number, row in enumerate(matrix[block] + 0.0, start):
            if sample_weight is None or sample_weight[number] > 0:
                found.setdefault(row.tobytes(), number)
        if len(found) >= k:
            return np.array(list(found.values())[:k])
    raise too_few_distinct(k, len(found), len(matrix))


def too_few_distinct(k: int, found: int, rows: int) -> DataError:
    """Fewer than k customers differ, in words."""
    return DataError(
        f"k = {k} needs at least {k} customers that differ in their features, and there are "
        f"{found} among {rows:,} rows; lower k or add features"
    )
