"""HamerlyLabels of moving centroids: what a pass does not look at has not changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from sqlkmeans.clustering.arrays import threads
from sqlkmeans.clustering.kmeans.assignment import assign, squared_distances
from sqlkmeans.clustering.kmeans.hamerly import HamerlyLabels
from sqlkmeans.clustering.kmeans.kernels import kernel, numpy_kernel
from sqlkmeans.clustering.kmeans.lloyd import lloyd


def mean(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (rows * weight[:, None]).sum(axis=0) / weight.sum()


@given(
    seed=st.integers(0, 2**32 - 1), k=st.integers(1, 7), step=st.sampled_from([0.0, 1e-9, 0.02, 1]),
    lattice=st.booleans(), weighted=st.booleans(),
)  # fmt: skip
def test_labels_and_means_are_those_of_a_look_at_all_rows(
    seed: int, k: int, step: float, lattice: bool, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(300, 2)) * 3
    if lattice:  # many rows exactly between two centroids
        matrix = np.round(matrix)
    weight = rng.integers(0, 3, 300) / 2 if weighted else np.ones(300)
    members = HamerlyLabels(matrix, weight if weighted else None)
    centroids = matrix[rng.choice(300, k, replace=False)]
    for _ in range(6):
        means = members.means(centroids)
        expected = assign(matrix, centroids)
        for j in range(k):
            of_cluster = expected.labels == j
            if weight[of_cluster].any():
                np.testing.assert_allclose(
                    means[j], mean(matrix[of_cluster], weight[of_cluster]), rtol=1e-12, atol=1e-12
                )
        move = rng.normal(size=centroids.shape) * step
        centroids = centroids + (np.round(move) if lattice and step == 1 else move)
    found = members.assignment(centroids)
    expected = assign(matrix, centroids)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)


@given(
    seed=st.integers(0, 2**32 - 1), k=st.integers(2, 6), scale=st.sampled_from([1e-3, 1.0, 1e6]),
    far=st.sampled_from([0.0, 1e8]),
)  # fmt: skip
def test_a_margin_is_never_more_than_what_there_is(
    seed: int, k: int, scale: float, far: float
) -> None:
    rng = np.random.default_rng(seed)
    matrix, centroids = rng.normal(size=(200, 3)) * scale + far, rng.normal(size=(k, 3)) + far
    labels, margins = np.empty(200, np.int32), np.empty(200)
    numpy_kernel.add_rows(
        matrix, 0, 200, None, centroids, labels, margins, np.zeros((k, 3)), np.zeros(k)
    )
    distances = np.sort(np.sqrt(squared_distances(matrix, centroids)), axis=1)
    assert (margins <= distances[:, 1] - distances[:, 0]).all()


@pytest.mark.parametrize("far", [1e4, 1e6])
def test_small_steps_after_a_long_way_lose_no_row(far: float) -> None:
    # Rows about half-way between two centroids, and one centroid that jumps far away once.
    middle = 0.5 + np.linspace(-1, 1, 10_001) * far * 4e-16
    matrix = np.concatenate([middle, [0.0, 1.0, far]])[:, None]
    members = HamerlyLabels(matrix)
    centroids = np.array([[0.0], [1.0], [far / 3]])
    members.means(centroids)
    centroids = np.array([[0.0], [1.0], [far]])
    members.means(centroids)
    for _ in range(4):  # each less than the last digit of that way
        centroids = np.add(centroids, [[far * 5e-17], [far * 5e-17], [0.0]])
        members.means(centroids)
    np.testing.assert_array_equal(
        members.assignment(centroids).labels, assign(matrix, centroids).labels
    )


def test_settled_centroids_make_a_pass_look_at_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    nearest = numpy_kernel._nearest

    def counted(columns: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        looked_at.append(columns.shape[1])
        return nearest(columns, *rest)

    monkeypatch.setattr(numpy_kernel, "_nearest", counted)
    monkeypatch.setattr(kernel, "forced", False)  # another test may have loaded numba
    monkeypatch.setattr(threads, "cores", lambda: 1)
    matrix = np.random.default_rng(0).normal(size=(50_000, 3))
    start = lloyd(matrix[:5_000], matrix[:5], max_iter=300, threshold=1e-6).centroids
    looked_at.clear()
    found = lloyd(matrix, start, max_iter=300, threshold=1e-6)
    assert found.n_iter >= 5
    assert looked_at[0] == 50_000
    assert sum(looked_at[1:]) < 50_000


def test_a_cluster_that_loses_almost_all_of_its_weight_keeps_its_digits() -> None:
    # What is left of 1e12 after subtracting as much would be rounding.
    matrix = np.array([[0.0], [1.0], [1.0 + 1e-7], [5.0]])
    weight = np.array([1e12, 1e12, 1e-6, 1.0])
    members = HamerlyLabels(matrix, weight)
    members.means(np.array([[9.0], [1.0]]))
    means = members.means(np.array([[1.0], [1.0 + 1e-7]]))
    np.testing.assert_allclose(means[1], mean(matrix[2:], weight[2:]), rtol=1e-12)


def test_passes_to_the_end_are_those_of_scikit_learn() -> None:
    matrix = np.random.default_rng(2).normal(size=(20_000, 4))
    found = lloyd(matrix, matrix[:6], max_iter=40, threshold=0.0)
    model = KMeans(6, init=matrix[:6], n_init=1, max_iter=40, tol=0, algorithm="lloyd").fit(matrix)
    np.testing.assert_allclose(found.centroids, model.cluster_centers_, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.assignment().labels, model.labels_)
    assert found.n_iter == model.n_iter_
