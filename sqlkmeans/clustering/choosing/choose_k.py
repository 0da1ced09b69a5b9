"""Choosing k: every number of segments is fitted as a run would, scored, and one recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import Empty
from sqlkmeans.clustering.arrays.sampling import rows_that_count, stratified_rows
from sqlkmeans.clustering.arrays.threads import one_library_thread
from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing import gap, stability
from sqlkmeans.clustering.choosing.crowds import crowds
from sqlkmeans.clustering.choosing.gap import Gap, GapStatistic
from sqlkmeans.clustering.choosing.judged_columns import Columns, judged_columns, spread
from sqlkmeans.clustering.choosing.k_scores import KScore, Recommendation
from sqlkmeans.clustering.choosing.quick_fit import distinct
from sqlkmeans.clustering.choosing.recommend import Beside, recommend
from sqlkmeans.clustering.choosing.separation import separation
from sqlkmeans.clustering.choosing.stability import adjusted_rand_index, crossed
from sqlkmeans.clustering.describing.scores import score
from sqlkmeans.clustering.kmeans.assignment import Assignment, assign, squared_distances
from sqlkmeans.clustering.kmeans.kmeans import KMeansFit, fit_many
from sqlkmeans.clustering.kmeans.lloyd import Passed, uncounted
from sqlkmeans.errors import DataError

#: Rows of the stratified sample on which borders and the simplified silhouette are looked at.
SAMPLE_ROWS = 20_000
#: Rows by which the other columns are judged where some have few values.
JUDGED_ROWS = 100_000


@dataclass(frozen=True, eq=False)
class KChoice:
    """A recommendation, and all that it rests on.

    Attributes
    ----------
    recommendation : Recommendation
    scores : tuple of KScore
        One for each k, ascending.
    gap_of_one : Gap or None
        The gap statistic of k = 1: everyone in one segment.
    centroids : dict of int to ndarray of shape (k, n_features)
        Of each k, in the scaled space.
    n_iter : dict of int to int
        Iterations of each fit.
    beside : Beside
        What is known of the rows beside the scores.
    """

    recommendation: Recommendation
    scores: tuple[KScore, ...]
    gap_of_one: Gap | None
    centroids: dict[int, Matrix]
    n_iter: dict[int, int]
    beside: Beside

    def fit(
        self, matrix: Matrix, sample_weight: Vector | None = None, empty: Empty = np.empty
    ) -> KMeansFit:
        """The fit of the best k to the rows and weights that it was chosen for.

        ``empty`` makes the arrays of labels and distances.

        Raises
        ------
        DataError
            If ``min_share`` refuses every k.
        """
        k = self.best_k()
        assignment = assign(matrix, self.centroids[k], sample_weight, empty)
        return KMeansFit(self.centroids[k], assignment, self.n_iter[k])

    def best_k(self) -> int:
        """The k that a run takes.

        Raises
        ------
        DataError
            If ``min_share`` refuses every k.
        """
        if self.recommendation.best_k is None:
            raise DataError(f"{self.recommendation.reason}; nothing was changed")
        return self.recommendation.best_k

    def to_rows(self) -> list[dict[str, Any]]:
        """Rows of ``k_score``, without their run."""
        recommended = self.recommendation.recommended_k
        return [{**asdict(s), "recommended": s.k == recommended} for s in self.scores]

    def warnings(self) -> list[str]:
        """What people should look at after a run with the best k."""
        k, shape = self.recommendation.best_k, self.recommendation.shape
        if shape == "connected":
            return [
                f"structure, but not of K-Means' shape: the {k} segments cut across "
                f"{self.beside.n_crowds} crowds"
            ]
        if self.recommendation.structure is False:
            return [f"no cluster structure: the {k} segments cut a continuum"]
        return []


def choose_k(
    matrix: Matrix,
    k_min: int = 2,
    k_max: int = 10,
    *,
    sample_weight: Vector | None = None,
    min_share: float = 0.0,
    n_init: int = 10,
    seed: int = 0,
    empty: Empty = np.empty,
    passed: Passed = uncounted,
    columns: Sequence[str] | None = None,
) -> KChoice:
    """Score the partitions into ``k_min`` to ``k_max`` segments and recommend one.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows, in an order that does not depend on chance (the key's).
    k_min, k_max : int, default=2 and 10
        Where fewer than ``k_max`` rows differ, as many as do.
    sample_weight : ndarray of float64 of shape (n_rows,), optional
        How much each row counts in the fits and their inertia; the other scores count rows.
    min_share : float, default=0.0
        A k with a segment smaller than this share of the rows is not recommended.
    n_init : int, default=10
        Number of k-means++ starts of each fit.
    seed : int, default=0
    empty : callable, default=numpy.empty
        Makes arrays of labels and distances.
    passed : callable, optional
        Called with 1 after each pass over all rows, where there are more than 100,000.
    columns : sequence of str, optional
        The source column of each feature; the levels of a category share one.

    Returns
    -------
    KChoice
        The same for the same rows in the same order.

    Raises
    ------
    DataError
        If fewer than ``k_min`` rows differ.
    """
    names = columns or [f"column {number}" for number in range(1, matrix.shape[1] + 1)]
    size = min(len(matrix), stability.ROWS)
    drawn = np.random.default_rng(seed).choice(len(matrix), size, replace=False)
    numbers = np.sort(drawn)
    some, weight = matrix[numbers], None if sample_weight is None else sample_weight[numbers]
    by = judged_columns(some, names, k_max, weight)
    sample, halves = by.of(matrix[np.sort(drawn[: gap.ROWS])]), by.of(some)
    reference = GapStatistic(sample, seed, names if by.few_valued else None)
    apart = None if by.few_valued else crowds(sample, seed)
    ks = range(k_min, max(k_min, distinct(matrix, k_max, sample_weight)) + 1)
    own = _Own(matrix, by, sample_weight, ks, n_init, seed) if by.left_out else None
    scores, centroids, n_iter = [], {}, {}
    as_own, as_crowds, whole_crowds = {}, {}, {}
    for k, fit in fit_many(
        matrix,
        ks,
        sample_weight=sample_weight,
        n_init=n_init,
        seed=seed,
        empty=empty,
        passed=passed,
    ):
        centroids[k], n_iter[k] = fit.centroids, fit.n_iter
        rows, judged = (matrix, fit) if own is None else (own.rows, own.fit())
        with one_library_thread():
            found, stable = reference.of(k), stability.stability(halves, k, seed)
        scores.append(_score(rows, judged, found, stable, seed, by.few_valued))
        if own is not None:
            scores[-1] = replace(
                scores[-1], inertia=fit.assignment.inertia, smallest_share=_smallest_share(fit)
            )
            as_own[k] = adjusted_rand_index(
                fit.assignment.labels[own.numbers], judged.assignment.labels, k
            )
        if apart is not None and apart.max() > 0:
            labels = assign(sample, judged.centroids).labels
            as_crowds[k], whole_crowds[k] = _beside_crowds(apart, labels)
    gap_of_one = reference.of(1)
    n_crowds = 1 if apart is None else int(apart.max()) + 1
    beside = Beside(
        len(matrix), len(matrix) / int(by.judged.sum()), by.few_valued, by.left_out, as_own,
        n_crowds, as_crowds, whole_crowds,
    )  # fmt: skip
    recommendation = recommend(scores, gap_of_one, min_share, beside)
    return KChoice(recommendation, tuple(scores), gap_of_one, centroids, n_iter, beside)


class _Own:
    """Partitions by the judged columns alone, of at most :data:`JUDGED_ROWS` rows."""

    def __init__(
        self,
        matrix: Matrix,
        by: Columns,
        sample_weight: Vector | None,
        ks: Sequence[int],
        n_init: int,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.numbers = np.sort(rows_that_count(len(matrix), sample_weight, JUDGED_ROWS, rng)[0])
        self.rows = by.of(matrix[self.numbers])
        weight = None if sample_weight is None else sample_weight[self.numbers]
        self._fits = fit_many(self.rows, ks, sample_weight=weight, n_init=n_init, seed=seed)

    def fit(self) -> KMeansFit:
        """Of the next k."""
        return next(self._fits)[1]


def _beside_crowds(
    apart: npt.NDArray[np.int32], labels: npt.NDArray[np.int32]
) -> tuple[float, float]:
    """How alike segments and crowds are, of the rows that are in a crowd; and the share of these
    that are in the crowd that most of their segment are in."""
    inside = apart >= 0
    apart, labels = apart[inside], labels[inside]
    number = int(max(apart.max(), labels.max())) + 1
    whole = crossed(labels, apart, number).max(axis=1).sum() / len(apart)
    return adjusted_rand_index(apart, labels, number), float(whole)


def _smallest_share(fit: KMeansFit) -> float:
    sizes = fit.assignment.sizes(len(fit.centroids))
    return float(sizes.min() / sizes.sum())


def require_share(sizes: npt.NDArray[np.int64], min_share: float) -> None:
    """Refuse segments of which one has a smaller share of the rows.

    Parameters
    ----------
    sizes : ndarray of int of shape (k,)
        Rows in each segment.
    min_share : float

    Raises
    ------
    DataError
    """
    if sizes.min() < min_share * sizes.sum():
        raise DataError(
            f"min_share = {min_share:g}: with k = {len(sizes)}, a segment has {sizes.min():,} of "
            f"{sizes.sum():,} customers ({sizes.min() / sizes.sum():.2%}); lower k or min_share, "
            "or winsorize outliers; nothing was changed"
        )


def _score(
    matrix: Matrix,
    fit: KMeansFit,
    gap: Gap | None,
    stable: float | None,
    seed: int,
    few_valued: bool,
) -> KScore:
    k, labels = len(fit.centroids), fit.assignment.labels
    sizes = fit.assignment.sizes(k)
    # All but the inertia count rows, whatever they weigh.
    unweighted = Assignment(labels, fit.assignment.squared_distances)
    scores = score(matrix, fit.centroids, unweighted, seed=seed)
    rows = stratified_rows(labels, sizes, SAMPLE_ROWS, seed)
    points, drawn = matrix[rows], labels[rows]
    weights = (sizes / np.bincount(drawn, minlength=k))[drawn]
    # Between the levels of a column every border is empty.
    apart = None if few_valued else separation(spread(points, seed), drawn, fit.centroids, weights)
    return KScore(
        k=k,
        inertia=fit.assignment.inertia,
        silhouette=scores.silhouette,
        simplified_silhouette=_simplified_silhouette(points, fit.centroids, weights),
        davies_bouldin=scores.davies_bouldin,
        calinski_harabasz=scores.calinski_harabasz,
        gap=gap.value if gap else None,
        gap_error=gap.error if gap else None,
        separation=apart.value if apart else None,
        separation_error=apart.error if apart else None,
        stability=stable,
        smallest_share=_smallest_share(fit),
    )


def _simplified_silhouette(points: Matrix, centroids: Matrix, weights: Vector) -> float:
    nearest = np.sort(np.sqrt(squared_distances(points, centroids)), axis=1)[:, :2]
    # Centroids differ, so the second is never at distance 0.
    return float(np.average(1 - nearest[:, 0] / nearest[:, 1], weights=weights))
