"""K-Means: starts on a sample of the rows, and exact passes over all of them.

Starts exist to find the right basin, for which a sample is enough where rows are many; the passes
that follow are exact, so the result is a K-Means solution of all rows (Bradley & Fayyad, 1998,
"Refining initial points for K-Means clustering"). Up to ``sample_rows`` scikit-learn's KMeans makes
these passes from the best start. Then passes and moves of single rows go on until neither lowers
the inertia: each centroid is the mean of the rows that are nearest to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sqlkmeans.clustering.arrays.chunks import Empty, map_chunks
from sqlkmeans.clustering.arrays.threads import one_library_thread
from sqlkmeans.clustering.arrays.types import Matrix, RowNumbers, Vector
from sqlkmeans.clustering.kmeans.assignment import Assignment
from sqlkmeans.clustering.kmeans.kernels.kernel import kernel
from sqlkmeans.clustering.kmeans.lloyd import MAX_PASSES, Passed, settle, uncounted
from sqlkmeans.clustering.kmeans.starts import Options, Samples, best_start
from sqlkmeans.errors import DataError

SAMPLE_ROWS = 100_000
MAX_ITER = 300
TOLERANCE = 1e-4


@dataclass(frozen=True)
class KMeansFit:
    """A fitted K-Means.

    Attributes
    ----------
    centroids : ndarray of float64 of shape (k, n_features)
        Largest cluster first; ties in the order of their coordinates. Each is the mean of the rows
        that are nearest to it.
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
        Number of k-means++ starts at least; the one with the lowest inertia wins. How many more
        there are says :mod:`sqlkmeans.clustering.kmeans.starts`.
    seed : int, default=0
    sample_rows : int, default=100_000
        Up to this many rows scikit-learn's KMeans carries on the best start.
    max_iter : int, default=300
        Iterations of a start, where rows are not few, and of scikit-learn, at most.
    tol : float, default=1e-4
        A start ends, where rows are not few, when its centroids move by less than this share of
        the features' mean variance (scikit-learn's ``tol``); the passes over all rows end when no
        label changes.
    empty : callable, default=numpy.empty
        Makes the arrays of labels and distances.
    passed : callable, optional
        Called with 1 after each pass over all rows.

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

    All of them share the sample, and each ``k`` after the first has five starts more: the centroids
    of the ``k`` before, and a row drawn as k-means++ draws.

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
    options = Options(n_init, seed, max_iter, tol, compared=len(ks) > 1)
    distinct = _distinct_rows(matrix, max(ks), sample_weight)
    kernel(*matrix.shape)  # if these rows take compiled loops, so do the starts
    samples = Samples.draw(matrix, sample_weight, distinct, seed, sample_rows)
    before: Matrix | None = None
    for k in ks:
        with one_library_thread():
            start = best_start(matrix, sample_weight, samples, k, before, options)
            before = centroids = start.centroids
            n_iter = start.n_iter
            if len(matrix) <= sample_rows:
                centroids, passes = _scikit_learn(matrix, sample_weight, centroids, options)
                n_iter += passes
            found = settle(
                matrix, centroids, sample_weight, max_iter=MAX_PASSES, empty=empty, passed=passed
            )
            assignment = found.assignment()
        fit = KMeansFit(found.centroids, assignment, n_iter + found.n_iter)
        yield k, largest_first(fit)


def _scikit_learn(
    matrix: Matrix, sample_weight: Vector | None, start: Matrix, options: Options
) -> tuple[Matrix, int]:
    """Carry a start on with scikit-learn, and say in how many iterations."""
    from sklearn.cluster import KMeans

    model = KMeans(len(start), init=start, n_init=1, max_iter=options.max_iter, tol=options.tol)
    model.fit(matrix, sample_weight=sample_weight)
    return np.asarray(model.cluster_centers_, dtype=np.float64), int(model.n_iter_)


def largest_first(fit: KMeansFit) -> KMeansFit:
    """The same fit with its clusters in the order of their sizes; its labels are overwritten."""
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


def _distinct_rows(matrix: Matrix, k: int, sample_weight: Vector | None) -> RowNumbers:
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
            if len(found) == k:
                return np.array(list(found.values()))
    raise too_few_distinct(k, len(found), len(matrix))


def too_few_distinct(k: int, found: int, rows: int) -> DataError:
    """Fewer than k customers differ, in words."""
    return DataError(
        f"k = {k} needs at least {k} customers that differ in their features, and there are "
        f"{found} among {rows:,} rows; lower k or add features"
    )
