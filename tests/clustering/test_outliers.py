"""Limits of segments, and fits that leave the farthest rows out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlkmeans.clustering.describing.outliers import count_outliers, outlier_distances
from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.kmeans.trimming import fit_trimmed, kept_within
from sqlkmeans.errors import DataError

Points = npt.NDArray[np.float64]
CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=6),
    share=st.floats(0.001, 0.49),
    levels=st.integers(1, 1_000),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_no_more_than_the_share_of_each_segment_is_beyond_its_limit(
    sizes: list[int], share: float, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
    distances = rng.integers(0, levels, len(labels)) / 7
    limits = outlier_distances(labels, distances, len(sizes), share)
    counts = count_outliers(labels, distances, limits)
    for cluster, size in enumerate(sizes):
        own = np.sort(distances[labels == cluster])
        wanted = int(share * size)
        assert counts[cluster] <= wanted
        # Fewer only where several are as far as the limit.
        if counts[cluster] < wanted:
            assert own[size - wanted] == own[size - wanted - 1]
        assert counts[cluster] == np.count_nonzero(own > limits[cluster])
    squared = outlier_distances(labels, distances**2, len(sizes), share, squared=True)
    np.testing.assert_allclose(squared, limits, rtol=1e-12)
    assert np.array_equal(count_outliers(labels, distances**2, limits, squared=True), counts)


def test_the_limit_is_halfway_between_the_last_two_it_separates() -> None:
    labels, distances = np.zeros(200, np.int32), np.arange(200.0)
    assert outlier_distances(labels, distances, 1, 0.01)[0] == pytest.approx(197.5)
    # A segment of 50 has no customer to a hundredth: nobody of the fit is beyond.
    (limit,) = outlier_distances(labels[:50], distances[:50], 1, 0.01)
    assert 49 < limit < 49.001


def test_limits_of_many_rows_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 400_000).astype(np.int32)
    distances = rng.normal(size=400_000) ** 2
    limits = outlier_distances(labels, distances, 3, 0.003)
    for cluster in range(3):
        own = np.sort(distances[labels == cluster])
        last = len(own) - int(0.003 * len(own)) - 1
        assert limits[cluster] == pytest.approx((own[last] + own[last + 1]) / 2)


def planted(seed: int, far: int = 40) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Four groups of 500 and some rows far from all of them, in no order."""
    rng = np.random.default_rng(seed)
    near = np.repeat(CENTRES, 500, axis=0) + rng.normal(0, 0.7, (2_000, 2))
    beyond = rng.uniform(-90, 90, (far, 2))
    beyond = beyond[np.min(np.linalg.norm(beyond[:, None] - CENTRES, axis=2), axis=1) > 12]
    order = rng.permutation(len(near) + len(beyond))
    is_far = np.arange(len(order)) >= len(near)
    return np.asfortranarray(np.concatenate([near, beyond])[order]), is_far[order]


def missed(centroids: Points) -> float:
    """How far the true centre that was found worst is from the nearest centroid."""
    return float(np.linalg.norm(CENTRES[:, None] - centroids, axis=2).min(axis=1).max())


@pytest.mark.parametrize("seed", range(8))
def test_rows_far_from_all_groups_do_not_move_a_trimmed_fit(seed: int) -> None:
    points, is_far = planted(seed)
    trimmed = fit_trimmed(points, 4, trim=0.02, seed=seed)
    assert missed(trimmed.centroids) < 0.15
    # What they do to one that keeps them.
    assert missed(fit_kmeans(points, 4, seed=seed).centroids) > 1
    # The centroids are the means of the rows that are left, and all rows have a label.
    labels, squared = trimmed.assignment.labels, trimmed.assignment.squared_distances
    left = squared <= np.sort(squared)[len(points) - int(0.02 * len(points)) - 1]
    means = [points[left & (labels == cluster)].mean(axis=0) for cluster in range(4)]
    np.testing.assert_allclose(trimmed.centroids, means, atol=1e-12)
    assert len(labels) == len(points)
    # Limits that know what was left out find who was planted, and one more a segment.
    kept = kept_within(squared, 0.02)
    assert np.array_equal(squared <= kept, left)
    limits = outlier_distances(labels, squared, 4, 0.002, squared=True, at_most=kept)
    flagged = np.sqrt(squared) > limits[labels]
    assert flagged[is_far].all()
    assert flagged.sum() <= int(0.02 * len(points)) + 4


def test_a_trim_of_nothing_is_the_same_fit_to_the_last_bit() -> None:
    points, _ = planted(0)
    plain = fit_kmeans(points, 4, seed=3)
    for trim in (0.0, 1e-6):
        found = fit_trimmed(points, 4, trim=trim, seed=3)
        assert np.array_equal(found.centroids, plain.centroids)
        assert np.array_equal(found.assignment.labels, plain.assignment.labels)
        assert found.n_iter == plain.n_iter


def test_a_row_without_weight_is_neither_kept_nor_left_out() -> None:
    points, is_far = planted(1)
    weight = np.where(is_far, 0.0, 2.0)
    # 20 of those that count are left out, and none of those that do not.
    found = fit_trimmed(points, 4, trim=0.01, sample_weight=weight)
    only = fit_trimmed(points[~is_far], 4, trim=0.01)
    assert missed(found.centroids) < 0.15
    np.testing.assert_allclose(np.sort(found.centroids, axis=0), np.sort(only.centroids, axis=0),
                               atol=1e-9)  # fmt: skip
    assert len(found.assignment.labels) == len(points)


def test_more_rows_than_starts_look_at_are_trimmed_exactly() -> None:
    rng = np.random.default_rng(2)
    near = CENTRES[rng.integers(0, 4, 49_500)] + rng.normal(0, 0.7, (49_500, 2))
    points = np.asfortranarray(np.concatenate([near, rng.uniform(-900, 900, (500, 2))]))
    found = fit_trimmed(points, 4, trim=0.01)
    assert missed(found.centroids) < 0.05
    # One row in fifty counts, and not all of these are seen by a start.
    weight = np.where(np.arange(len(points)) % 50 == 0, 1.0, 0.0)
    many, counts = np.concatenate([points] * 25), np.tile(weight, 25)
    assert missed(fit_trimmed(many, 4, trim=0.011, sample_weight=counts, n_init=2).centroids) < 0.2
    again = fit_trimmed(points, 4, trim=0.01)
    assert np.array_equal(found.centroids, again.centroids)
    sizes = np.bincount(found.assignment.labels)
    assert list(sizes) == sorted(sizes, reverse=True)
    assert np.array_equal(found.assignment.labels, assign(points, found.centroids).labels)


def test_fewer_distinct_rows_than_segments_are_refused_once_the_farthest_are_out() -> None:
    points = np.repeat([[0.0], [1.0], [50.0]], [60, 30, 10], axis=0)
    assert len(fit_trimmed(points, 2, trim=0.1).centroids) == 2
    with pytest.raises(DataError, match="k = 3 needs at least 3 customers that differ"):
        fit_trimmed(points, 3, trim=0.2)
