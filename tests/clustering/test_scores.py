"""Scores against sklearn.metrics."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import (
    calinski_harabasz_score,
    davies_bouldin_score,
    silhouette_samples,
    silhouette_score,
)

from sqlkmeans.clustering.describing.scores import (
    SILHOUETTE_ROWS,
    Scores,
    score,
    silhouette_coefficients,
)
from sqlkmeans.clustering.kmeans.assignment import Assignment, assign
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans


@pytest.mark.parametrize("k", [2, 3, 7])
def test_scores_of_few_rows_are_those_of_scikit_learn(k: int) -> None:
    matrix = np.random.default_rng(k).normal(size=(400, 3))
    fit = fit_kmeans(matrix, k, tol=0)
    labels = fit.assignment.labels
    found = score(matrix, fit.centroids, fit.assignment)
    assert found.silhouette == pytest.approx(silhouette_score(matrix, labels), rel=1e-9)
    assert found.davies_bouldin == pytest.approx(davies_bouldin_score(matrix, labels), rel=1e-9)
    assert found.calinski_harabasz == pytest.approx(
        calinski_harabasz_score(matrix, labels), rel=1e-9
    )


def test_silhouette_coefficients_are_those_of_scikit_learn_row_by_row() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(1_100, 2)), rng.integers(0, 5, 1_100).astype(np.int32)
    labels[0], labels[labels == 4] = 4, 3
    labels[7] = 4  # a row that is alone in its segment
    labels[0] = 3
    points[20:30] = points[20]  # rows that are equal
    labels[20:30] = 1
    found = silhouette_coefficients(points, labels, 5)
    np.testing.assert_allclose(found, silhouette_samples(points, labels), rtol=1e-7, atol=1e-7)
    assert found[7] == 0


def test_the_silhouette_does_not_depend_on_where_the_origin_is() -> None:
    # scaling = "none" and a column such as a time in seconds.
    matrix, truth = make_blobs([200, 200], n_features=2, cluster_std=1.0, random_state=0)
    labels = truth.astype(np.int32)
    near = silhouette_coefficients(matrix, labels, 2)
    far = silhouette_coefficients(matrix + 1.7e9, labels, 2)
    np.testing.assert_allclose(far, near, atol=1e-4)


def test_the_sampled_silhouette_is_near_the_one_of_all_rows() -> None:
    matrix, _ = make_blobs([2_500, 1_500, 1_000], n_features=3, cluster_std=3.0, random_state=5)
    assert len(matrix) > SILHOUETTE_ROWS
    fit = fit_kmeans(matrix, 3)
    found = score(matrix, fit.centroids, fit.assignment)
    whole = silhouette_score(matrix, fit.assignment.labels)
    assert found.silhouette == pytest.approx(whole, abs=0.02)
    assert found.davies_bouldin == pytest.approx(
        davies_bouldin_score(matrix, fit.assignment.labels), rel=1e-3
    )


def test_a_small_segment_is_not_lost_in_the_sample() -> None:
    rng = np.random.default_rng(0)
    matrix = np.concatenate(
        [rng.normal(size=(4_500, 2)), [[50.0, 50.0], [50.1, 50.0]], [[-90.0, 0]]]
    )
    centroids = np.array([[0.0, 0.0], [50.0, 50.0], [-90.0, 0.0]])
    found = assign(matrix, centroids)
    assert found.sizes(3).tolist() == [4_500, 2, 1]
    result = score(matrix, centroids, found)
    assert result.silhouette == pytest.approx(
        silhouette_score(matrix, found.labels, sample_size=None), abs=0.02
    )


def test_the_sample_is_the_same_for_the_same_seed() -> None:
    matrix = np.random.default_rng(1).normal(size=(5_000, 2))
    centroids = matrix[:4]
    found = assign(matrix, centroids)
    scores = [score(matrix, centroids, found, seed=seed).silhouette for seed in (1, 1, 2)]
    assert scores[0] == scores[1] != scores[2]


def test_scores_that_are_not_defined_are_none() -> None:
    matrix = np.array([[0.0], [1.0], [9.0]])
    everything = assign(matrix, np.array([[3.0]]))
    assert score(matrix, np.array([[3.0]]), everything) == Scores(None, None, None)
    alone = assign(matrix, matrix)
    assert score(matrix, matrix, alone) == Scores(None, None, None)
    empty = np.array([[0.0], [100.0]])
    assert score(matrix, empty, assign(matrix, empty)) == Scores(None, None, None)


def test_clusters_without_any_spread_have_no_calinski_harabasz() -> None:
    matrix = np.array([[0.0], [0.0], [9.0], [9.0]])
    centroids = np.array([[0.0], [9.0]])
    found = score(matrix, centroids, assign(matrix, centroids))
    assert found == Scores(1.0, 0.0, None, (1.0, 1.0))
    assert found.to_dict() == {
        "silhouette": 1.0, "davies_bouldin": 0.0, "calinski_harabasz": None,
    }  # fmt: skip


def test_scores_do_not_depend_on_the_numbers_that_clusters_have() -> None:
    matrix = np.random.default_rng(2).normal(size=(300, 2))
    fit = fit_kmeans(matrix, 4)
    turned = Assignment(3 - fit.assignment.labels, fit.assignment.squared_distances)
    one = score(matrix, fit.centroids, fit.assignment).to_dict()
    two = score(matrix, fit.centroids[::-1].copy(), turned).to_dict()
    assert two == pytest.approx(one)
