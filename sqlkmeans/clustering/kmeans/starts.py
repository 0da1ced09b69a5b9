"""Where K-Means starts from, found on a sample of the rows.

Each start has k-means++ seeds and Lloyd's passes on a part of the sample of its own; all of the
sample tells which of them are promising, and carries these to their ends. Where they end
differently there are more starts, and all rows tell the best of those that the sample cannot tell
apart.

Where rows are few, :mod:`sqlkmeans.clustering.kmeans.few_rows` has many more starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from sqlkmeans.clustering.arrays.chunks import CHUNK, empty_columns
from sqlkmeans.clustering.arrays.sampling import rows_that_count
from sqlkmeans.clustering.arrays.threads import in_threads
from sqlkmeans.clustering.arrays.types import Matrix, RowNumbers, Vector
from sqlkmeans.clustering.kmeans.assignment import assign, inertia_of, squared_distances
from sqlkmeans.clustering.kmeans.few_rows import (
    ALONE,
    COMPARED,
    FEW,
    STARTS_FROM_BEFORE,
    FewRows,
    best_end,
)
from sqlkmeans.clustering.kmeans.kernels import numpy_kernel
from sqlkmeans.clustering.kmeans.kernels.kernel import kernel
from sqlkmeans.clustering.kmeans.lloyd import Clusters, lloyd, seed_centroids

Item = TypeVar("Item")

# Rows of a start's part, for each cluster and at least: enough to tell basins apart.
START_ROWS_PER_CLUSTER, START_ROWS = 500, 10_000
# Distances on a part, of each row to each centroid, that are few to NumPy.
FEW_DISTANCES = 60_000
# Candidates for each seed, times scikit-learn's: on a part they cost less than the iterations
# that they save, and more starts find the best basin.
MORE_TRIALS = 4
# Starts on parts only tell which of them to carry on, so they may end early: at so many times the
# tolerance.
START_TOLERANCE_SHARE = 10
# Starts from the best centroids so far, one of which is to be found anew: where two share what one
# could hold, and one holds what two should, no Lloyd iteration gets out of it.
SWAPS = 4
# Swaps that lower the inertia by this share are followed by others, at most so many times.
SWAP_GAIN, SWAP_ROUNDS = 2e-3, 20
# A start on a part may be this much above the best where its basin is the better one.
# Starts of one basin can look as if they differed there, and must not take all places.
CARRIED_SHARE, MOST_CARRIED = 0.02, 8
# Ends that are as good as each other to this share need no more starts, wherever they are.
SPREAD = 5e-4
# The inertia on a sample is off by its heaviest tails: starts this close are compared on all rows.
RIVAL_SHARE, MOST_RIVALS = 0.005, 3
# Starts whose centroids are so near, in the features' mean variance, have found the same basin.
SAME_SHARE = 0.01


@dataclass(frozen=True)
class Options:
    """What of a fit does not depend on k.

    ``compared`` says whether several k are fitted, to be compared.
    """

    n_init: int
    seed: int
    max_iter: int
    tol: float
    compared: bool = False


@dataclass(frozen=True)
class Samples:
    """The rows that starts run on; the first ``n_distinct`` of them differ.

    ``everyone`` says whether they are all rows that count.
    """

    rows: Matrix
    weight: Vector | None
    n_distinct: int
    everyone: bool = False

    @classmethod
    def draw(
        cls,
        matrix: Matrix,
        sample_weight: Vector | None,
        distinct: RowNumbers,
        seed: int,
        n_rows: int,
    ) -> Samples:
        """At most ``n_rows`` of the rows that have a weight, those numbered ``distinct`` first."""
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
        drawn, counting = rows_that_count(len(matrix), sample_weight, n_rows, rng)
        # Rows that repeat often could crowd out the rare ones: k rows that differ are always in.
        others = drawn[~np.isin(drawn, distinct)][: n_rows - len(distinct)]
        rows = np.concatenate([distinct, others])
        # Read one chunk after the other: out of order, a file is read many times over.
        order = np.argsort((rows // CHUNK).astype(np.uint16), kind="stable")
        points, of_rows = empty_columns(np.empty, len(rows), matrix.shape[1]), None
        for drawn_values, values in zip(points.T, matrix.T):
            drawn_values[order] = values[rows[order]]
        if sample_weight is not None:
            of_rows = np.empty(len(rows))
            of_rows[order] = sample_weight[rows[order]]
        return cls(points, of_rows, len(distinct), len(rows) == counting)

    def part(self, k: int, turn: int) -> Samples:
        """The rows of one start: those that differ, and a part of the others, each in turn.

        Starts that all saw the same few rows would all miss what these do not show.
        """
        if len(self.rows) <= self._part_rows(k):
            return self
        others = len(self.rows) - self.n_distinct
        size = min(self._part_rows(k) - self.n_distinct, others)
        first = self.n_distinct + turn % max(1, others // max(1, size)) * size

        def of(values: Any) -> Any:
            return np.concatenate(
                [values[..., : self.n_distinct], values[..., first : first + size]], axis=-1
            )

        weight = None if self.weight is None else of(self.weight)
        return Samples(of(self.rows.T).T, weight, self.n_distinct)

    def are_few(self, k: int) -> bool:
        """Whether a part is all rows, and these have few distances."""
        few = len(self.rows) * k <= FEW
        return self.everyone and few and len(self.rows) <= self._part_rows(k)

    @cached_property
    def differing(self) -> FewRows:
        """The rows for starts of few; the same for every k."""
        return FewRows(self.rows, self.weight)

    def _part_rows(self, k: int) -> int:
        return max(START_ROWS, START_ROWS_PER_CLUSTER * k, self.n_distinct)

    def threshold(self, tol: float) -> float:
        return tol * float(self.rows.var(axis=0).mean())


@dataclass(frozen=True)
class Start:
    """Where a start has come to, with its inertia on the sample; they are numbered by turn."""

    inertia: float
    centroids: Matrix
    n_iter: int
    turn: int = 0

    def then(self, found: Clusters) -> Start:
        """Where passes over the sample have carried it."""
        inertia = found.assignment().inertia
        return Start(inertia, found.centroids, self.n_iter + found.n_iter, self.turn)


def best_start(
    matrix: Matrix, sample_weight: Vector | None, samples: Samples, k: int,
    before: Matrix | None, options: Options,
) -> Start:  # fmt: skip
    """The most promising centroids to carry on with on all rows.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
    sample_weight : ndarray of float64 of shape (n_rows,) or None
    samples : Samples
        Of these rows.
    k : int
    before : ndarray of shape (at most k, n_features) or None
        Centroids found for a smaller k.
    options : Options
    """
    if samples.are_few(k):
        effort = COMPARED if options.compared else ALONE
        end = best_end(samples.differing, k, before, options.n_init, effort, options.seed)
        if samples.differing.are_told_apart(end):
            return Start(end.inertia, end.centroids, end.n_iter)
    search = _Search(samples, k, options)
    anew: list[Matrix | None] = [None] * options.n_init
    search.start(anew + [before] * (0 if before is None else STARTS_FROM_BEFORE))
    search.swap()
    search.carry()
    # Where rows have long tails, one start in six finds the best basin; and a sample errs, too.
    if search.spread > SPREAD:
        search.start(anew[len(anew) // 2 :] if samples.everyone else anew)
        search.carry()
    best, *others = rivals = search.rivals(RIVAL_SHARE, MOST_RIVALS)
    if others and not samples.everyone:
        best = min(rivals, key=lambda rival: inertia_of(matrix, rival.centroids, sample_weight))
    return best


class _Search:
    """Starts of one k: those on parts, and where the promising ones of them have been carried."""

    _starts: list[Start]

    def __init__(self, samples: Samples, k: int, options: Options) -> None:
        self._samples, self._k, self._options = samples, k, options
        self._threshold, self._same = (samples.threshold(t) for t in (options.tol, SAME_SHARE))
        self._seeds = np.random.SeedSequence(options.seed)
        self._seeds.spawn(1)  # the sample's
        self._starts = []
        self._carried: dict[int, Start] = {}

    @property
    def best(self) -> Start:
        """Of those on parts."""
        return min(self._starts, key=_inertia)

    def start(self, given: Sequence[Matrix | None]) -> None:
        """Start on a part for each of some centroids, to which others are added up to k."""
        turns = range(len(self._starts), len(self._starts) + len(given))
        asked = list(zip(turns, given, self._seeds.spawn(len(given))))
        self._starts += self._each(lambda one: self._on_part(*one), asked)

    def swap(self) -> None:
        """Start from the best without one centroid, and again while that finds a better one."""
        for _ in range(SWAP_ROUNDS):
            before = self.best
            rows = self._samples.part(self._k, 0)
            self.start(_all_but_one(rows, before.centroids)[:SWAPS])
            if self.best.inertia >= before.inertia * (1 - SWAP_GAIN):
                return

    def _each(self, function: Callable[[Item], Start], items: Sequence[Item]) -> list[Start]:
        # NumPy's steps on few rows are shorter than handing the interpreter to another thread.
        in_numpy = kernel(*self._samples.rows.shape) is numpy_kernel
        if in_numpy and min(START_ROWS, len(self._samples.rows)) * self._k <= FEW_DISTANCES:
            return [function(item) for item in items]
        return in_threads(function, items)

    def _on_part(self, turn: int, given: Matrix | None, seeds: np.random.SeedSequence) -> Start:
        samples, rng = self._samples, np.random.default_rng(seeds)
        part = samples.part(self._k, turn)
        centroids = seed_centroids(part.rows, self._k, rng, part.weight, given, MORE_TRIALS)
        found = lloyd(
            part.rows, centroids, part.weight, max_iter=self._options.max_iter,
            threshold=START_TOLERANCE_SHARE * self._threshold,
        )  # fmt: skip
        inertia = assign(samples.rows, found.centroids, samples.weight).inertia
        return Start(inertia, found.centroids, found.n_iter, turn)

    def carry(self) -> None:
        """Carry the promising starts to their ends on all of the sample."""
        # Parts of the sample put the same basin's centroids a little apart; all of it does not.
        promising = _rivals(self._starts, self._same, CARRIED_SHARE, MOST_CARRIED)
        new = [start for start in promising if start.turn not in self._carried]
        ends = in_threads(self._on_sample, new)
        self._carried |= {end.turn: end for end in ends}

    def _on_sample(self, start: Start) -> Start:
        return start.then(lloyd(
            self._samples.rows, start.centroids, self._samples.weight,
            max_iter=self._options.max_iter, threshold=self._threshold,
        ))  # fmt: skip

    @property
    def spread(self) -> float:
        """How much worse the worst of the ends is than the best."""
        inertias = [end.inertia for end in self._carried.values()]
        return max(inertias) / min(inertias) - 1 if min(inertias) else 0.0

    def rivals(self, share: float, most: int) -> list[Start]:
        """The best of the ends, and others that are not much worse and differ from it."""
        return _rivals(list(self._carried.values()), self._same, share, most)


def _inertia(start: Start) -> float:
    return start.inertia


def _all_but_one(samples: Samples, centroids: Matrix) -> list[Matrix]:
    """The centroids without each in turn, the one first whose loss costs the inertia least."""
    if len(centroids) == 1:
        return []
    distances = squared_distances(samples.rows, centroids)
    nearest, second = np.partition(distances, 1, axis=1)[:, :2].T
    loss = second - nearest if samples.weight is None else (second - nearest) * samples.weight
    costs = np.bincount(distances.argmin(axis=1), loss, len(centroids))
    return [np.delete(centroids, one, axis=0) for one in np.argsort(costs, kind="stable")]


def _rivals(starts: list[Start], same: float, share: float, most: int) -> list[Start]:
    """The best start, and others that differ from it and are not much worse."""
    starts = sorted(starts, key=_inertia)
    rivals: list[Start] = []
    for start in starts:
        if start.inertia > starts[0].inertia * (1 + share) or len(rivals) == most:
            break
        if _apart(start.centroids, rivals) > same:
            rivals.append(start)
    return rivals


def _apart(centroids: Matrix, others: list[Start]) -> float:
    """How far they are from the most similar of others, as a sum of squared distances."""
    apart = float("inf")
    for other in others:
        differences = centroids[:, None, :] - other.centroids
        squared = np.einsum("ijf,ijf->ij", differences, differences)
        apart = min(apart, float(squared.min(axis=1).sum()))
    return apart
