"""K-Means against scikit-learn's, and the same result however the work is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from threadpoolctl import threadpool_limits

from sqlkmeans.clustering.arrays import threads
from sqlkmeans.clustering.kmeans import kmeans, starts
from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans, fit_many
from sqlkmeans.clustering.kmeans.lloyd import lloyd as clusters_of
from sqlkmeans.clustering.kmeans.lloyd import seed_centroids
from sqlkmeans.errors import DataError


def lloyd(*arguments: Any, **options: Any) -> tuple[np.ndarray, int]:
    """The centroids, and the number of passes."""
    found = clusters_of(*arguments, **options)
    return found.centroids, found.n_iter


@pytest.fixture
def cloud() -> np.ndarray:
    """Rows without structure: the hardest to get the same result on."""
    return np.random.default_rng(4).normal(size=(3_000, 3))


def test_up_to_sample_rows_the_fit_is_where_scikit_learn_would_stay(cloud: np.ndarray) -> None:
    fit = fit_kmeans(cloud, 6, n_init=4, seed=11)
    ten = KMeans(6, n_init=10, random_state=11).fit(cloud)
    assert fit.assignment.inertia <= ten.inertia_ * (1 + 1e-12)
    stayed = KMeans(6, init=fit.centroids, n_init=1, tol=0).fit(cloud)
    np.testing.assert_allclose(stayed.cluster_centers_, fit.centroids, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(stayed.labels_, fit.assignment.labels)
    assert fit.assignment.inertia == pytest.approx(stayed.inertia_, rel=1e-12)


@pytest.mark.parametrize("sample_rows", [500, 100_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_centroids_are_the_means_of_the_rows_nearest_to_them(
    sample_rows: int, weighted: bool, cloud: np.ndarray
) -> None:
    weight = np.random.default_rng(0).integers(0, 3, len(cloud)) / 2 if weighted else None
    fit = fit_kmeans(cloud, 5, sample_weight=weight, n_init=2, sample_rows=sample_rows)
    labels = fit.assignment.labels
    np.testing.assert_array_equal(labels, assign(cloud, fit.centroids).labels)
    for j, centroid in enumerate(fit.centroids):
        rows = labels == j
        mean = np.average(cloud[rows], axis=0, weights=None if weight is None else weight[rows])
        np.testing.assert_allclose(centroid, mean, rtol=0, atol=1e-12)


def test_few_rows_have_the_same_segments_in_any_order() -> None:
    rng = np.random.default_rng(7)
    matrix = rng.gamma(1.0, size=(150, 3))
    found = set()
    for seed in range(4):
        order = rng.permutation(150)
        labels = np.empty(150, dtype=int)
        labels[order] = fit_kmeans(matrix[order], 4, seed=seed).assignment.labels
        found.add(tuple(labels))
    assert len(found) == 1


@pytest.mark.parametrize("seed", range(3))
def test_all_of_a_hundred_clusters_are_found(seed: int) -> None:
    centres = np.array([[i, j] for i in range(10) for j in range(10)], dtype=float)
    rng = np.random.default_rng(seed)
    matrix = np.repeat(centres, 30, axis=0) + 0.12 * rng.normal(size=(3_000, 2))
    found = fit_kmeans(matrix, 100, n_init=2, seed=seed).centroids
    assert len({tuple(place) for place in found.round()}) == 100


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_iter", [1, 2, 5, 300])
def test_lloyd_makes_the_same_steps_as_scikit_learn(
    seed: int, max_iter: int, cloud: np.ndarray
) -> None:
    start = cloud[np.random.default_rng(seed).choice(len(cloud), 5, replace=False)]
    centroids, passes = lloyd(cloud, start, max_iter=max_iter, threshold=0.0)
    model = KMeans(5, init=start, n_init=1, max_iter=max_iter, tol=0, algorithm="lloyd").fit(cloud)
    np.testing.assert_allclose(centroids, model.cluster_centers_, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(assign(cloud, centroids).labels, model.labels_)
    assert passes <= max_iter


def test_lloyd_stops_at_its_threshold_and_at_its_limit(cloud: np.ndarray) -> None:
    start = cloud[:5]
    _, passes = lloyd(cloud, start, max_iter=300, threshold=1e-2)
    _, to_the_end = lloyd(cloud, start, max_iter=300, threshold=0.0)
    assert 1 < passes < to_the_end
    assert lloyd(cloud, start, max_iter=2, threshold=0.0)[1] == 2


def test_rare_rows_among_many_that_repeat_are_found_above_the_sample_size() -> None:
    matrix = np.zeros((20_000, 2))
    matrix[:8] = [[j, j * j] for j in range(1, 9)]
    fit = fit_kmeans(matrix, 5, sample_rows=1_000)
    assert len({tuple(centroid) for centroid in fit.centroids}) == 5
    assert fit.assignment.sizes(5).min() > 0


def test_lloyd_at_rest_stays_at_rest(cloud: np.ndarray) -> None:
    rest, passes = lloyd(cloud, cloud[:5], max_iter=300, threshold=0.0)
    assert passes < 300
    again, passes = lloyd(cloud, rest, max_iter=300, threshold=0.0)
    assert passes <= 2
    np.testing.assert_allclose(again, rest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_no_cluster_stays_empty(lost: int) -> None:
    matrix, truth = make_blobs([60] * 4, random_state=2, centers=None, cluster_std=0.2)
    start = np.array([matrix[truth == j].mean(axis=0) for j in range(4)])
    start[:lost] = [[1e6 + j, 1e6] for j in range(lost)]
    centroids, _ = lloyd(matrix, start, max_iter=300, threshold=0.0)
    found = assign(matrix, centroids)
    assert found.sizes(4).min() > 0
    if lost == 1:  # the rows of the lost one are the farthest
        assert found.sizes(4).tolist() == [60] * 4


def test_a_segment_very_far_away_does_not_blur_the_others() -> None:
    # As scaling = "robust" leaves an outlier: distances between the others are tiny beside it.
    rng = np.random.default_rng(0)
    near = np.concatenate([rng.normal(-2, 0.5, (500, 2)), rng.normal(2, 0.5, (500, 2))])
    matrix = np.concatenate([near, [[1e9, 1e9]]])
    start = np.array([[-1.0, -1.0], [3.0, 0.0], [1e9, 1e9]])
    centroids, _ = lloyd(matrix, start, max_iter=300, threshold=0.0)
    np.testing.assert_allclose(
        centroids, [near[:500].mean(axis=0), near[500:].mean(axis=0), [1e9, 1e9]], rtol=1e-6
    )


def test_two_equal_centroids_give_every_row_to_the_first() -> None:
    matrix = np.array([[0.0], [0.0], [8.0], [9.0]])
    centroids, _ = lloyd(matrix, np.array([[0.0], [8.5], [8.5]]), max_iter=1, threshold=0.0)
    # The empty one then moves to the row that is farthest from its centroid.
    assert centroids[:2].tolist() == [[0.0], [8.5]]
    assert centroids[2, 0] in (8.0, 9.0)


@pytest.mark.parametrize("sample_rows", [10_000, 200_000])
def test_a_fit_does_not_depend_on_the_number_of_threads(
    sample_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = np.random.default_rng(0).normal(size=(110_000, 3))
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "cores", lambda n=count: n)
        with threadpool_limits(count):
            found.append(fit_kmeans(matrix, 4, n_init=2, sample_rows=sample_rows, max_iter=20))
    np.testing.assert_array_equal(found[0].centroids, found[1].centroids)
    np.testing.assert_array_equal(found[0].assignment.labels, found[1].assignment.labels)
    assert found[0].assignment.inertia == found[1].assignment.inertia


def test_above_sample_rows_the_inertia_is_that_of_scikit_learn_over_all_rows() -> None:
    matrix, _ = make_blobs(60_000, centers=6, n_features=3, cluster_std=2.0, random_state=3)
    fit = fit_kmeans(matrix, 6, sample_rows=5_000)
    expected = KMeans(6, n_init=3, random_state=0).fit(matrix)
    assert fit.assignment.inertia <= expected.inertia_ * (1 + 1e-4)
    assert fit.assignment.sizes(6).sum() == 60_000


def test_above_sample_rows_a_cloud_without_structure_is_clustered_as_well_or_better() -> None:
    matrix = np.random.default_rng(8).normal(size=(40_000, 2))
    fit = fit_kmeans(matrix, 5, sample_rows=5_000)
    expected = KMeans(5, n_init=5, random_state=0).fit(matrix)
    assert fit.assignment.inertia <= expected.inertia_ * (1 + 5e-3)


@pytest.mark.parametrize("sample_rows", [500, 100_000])
def test_the_same_rows_and_seed_give_the_same_fit(sample_rows: int, cloud: np.ndarray) -> None:
    one, two = (fit_kmeans(cloud, 5, n_init=3, seed=1, sample_rows=sample_rows) for _ in range(2))
    np.testing.assert_array_equal(one.centroids, two.centroids)
    np.testing.assert_array_equal(one.assignment.labels, two.assignment.labels)
    assert one.assignment.inertia == two.assignment.inertia
    other = fit_kmeans(cloud, 5, n_init=1, seed=2, sample_rows=sample_rows)
    # Of few rows another seed may find the same.
    assert sample_rows == 100_000 or not np.array_equal(one.centroids, other.centroids)


def test_clusters_come_largest_first() -> None:
    matrix, _ = make_blobs([10, 50, 30, 20], random_state=1, cluster_std=0.1)
    fit = fit_kmeans(matrix, 4)
    assert fit.assignment.sizes(4).tolist() == [50, 30, 20, 10]
    np.testing.assert_allclose(
        fit.centroids, [matrix[fit.assignment.labels == j].mean(axis=0) for j in range(4)]
    )


def test_clusters_of_one_size_come_in_the_order_of_their_coordinates() -> None:
    matrix = np.array([[9.0], [9.1], [1.0], [1.1], [5.0], [5.1]])
    for seed in range(5):
        fit = fit_kmeans(matrix, 3, seed=seed)
        np.testing.assert_allclose(fit.centroids[:, 0], [1.05, 5.05, 9.05])


@pytest.mark.parametrize("sample_rows", [50, 100_000])
def test_fewer_distinct_rows_than_clusters_are_refused(sample_rows: int) -> None:
    matrix = np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 3.0]] * 100)
    with pytest.raises(DataError) as raised:
        fit_kmeans(matrix, 3, sample_rows=sample_rows)
    assert raised.value.problems == [
        "k = 3 needs at least 3 customers that differ in their features, and there are 2 among "
        "300 rows; lower k or add features"
    ]


def test_as_many_clusters_as_distinct_rows_have_an_inertia_of_0() -> None:
    matrix = np.array([[0.0], [5.0], [9.0]] * 4)
    fit = fit_kmeans(matrix, 3)
    assert fit.assignment.inertia == pytest.approx(0)
    assert fit.assignment.sizes(3).tolist() == [4, 4, 4]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_the_starts_are_different_rows_of_the_matrix(seed: int, k: int) -> None:
    matrix = np.repeat(np.arange(8.0), 5).reshape(-1, 1)
    found = seed_centroids(matrix, k, np.random.default_rng(seed))
    assert found.shape == (k, 1)
    assert set(found[:, 0]) <= set(matrix[:, 0])
    assert len(set(found[:, 0])) == k


@given(st.integers(0, 2**32 - 1), st.sampled_from([1_000, 150]))
@settings(deadline=None, max_examples=15)
def test_a_weight_counts_like_a_repeated_row(seed: int, sample_rows: int) -> None:
    rng = np.random.default_rng(seed)
    # Four groups: where there are none, a sample ends in another valley than all rows do.
    matrix = rng.normal(size=(400, 2)) + 6 * rng.integers(0, 2, (400, 2))
    weight = rng.integers(0, 4, 400)
    repeated = np.repeat(matrix, weight, axis=0)
    start = matrix[np.flatnonzero(weight)[:4]]
    weighted, _ = lloyd(matrix, start, weight.astype(float), max_iter=50, threshold=0.0)
    expected, _ = lloyd(repeated, start, max_iter=50, threshold=0.0)
    np.testing.assert_allclose(weighted, expected, rtol=1e-9, atol=1e-12)
    fit = fit_kmeans(matrix, 4, sample_weight=weight.astype(float), sample_rows=sample_rows)
    labels = np.repeat(fit.assignment.labels, weight)
    within = assign(repeated, fit.centroids)
    np.testing.assert_array_equal(labels, within.labels)
    assert fit.assignment.inertia == pytest.approx(within.inertia, rel=1e-12)
    assert within.inertia <= fit_kmeans(repeated, 4).assignment.inertia * (1 + 1e-9)
    assert len(fit.assignment.labels) == 400


@pytest.mark.parametrize("sample_rows", [100, 1_000])
def test_rows_of_weight_0_are_labelled_and_move_nothing(sample_rows: int) -> None:
    matrix, _ = make_blobs([100, 100], centers=[[0, 0], [9, 9]], random_state=5)
    far = np.full((20, 2), 1e6) + np.arange(20)[:, None]
    rows, weight = np.concatenate([far, matrix]), np.repeat([0.0, 1.0], [20, 200])
    fit = fit_kmeans(rows, 2, sample_weight=weight, sample_rows=sample_rows)
    assert np.abs(fit.centroids).max() < 100
    assert sorted(fit.assignment.sizes(2)) == [100, 120]
    alone = fit_kmeans(matrix, 2, sample_rows=sample_rows)
    assert fit.assignment.inertia == pytest.approx(alone.assignment.inertia)


def test_clusters_need_rows_that_have_a_weight() -> None:
    matrix = np.arange(6.0).reshape(-1, 1)
    with pytest.raises(DataError, match="there are 2 among 6 rows"):
        fit_kmeans(matrix, 3, sample_weight=np.array([0, 1, 0, 0, 2, 0.0]))


@given(st.integers(0, 2**32 - 1))
def test_no_start_has_a_weight_of_0(seed: int) -> None:
    matrix = np.arange(12.0).reshape(-1, 1)
    weight = np.where(np.arange(12) % 3 == 0, 0.25, 0.0)
    found = seed_centroids(matrix, 4, np.random.default_rng(seed), weight)
    assert sorted(found[:, 0]) == [0.0, 3.0, 6.0, 9.0]


@pytest.mark.parametrize("sample_rows", [8_000, 100_000])
def test_fits_for_many_k_are_as_good_as_scikit_learn_for_each(sample_rows: int) -> None:
    matrix, _ = make_blobs(12_000, centers=5, n_features=3, cluster_std=2.0, random_state=3)
    inertia = []
    for k, fit in fit_many(matrix, [1, 2, 5, 6], sample_rows=sample_rows):
        assert fit.centroids.shape == (k, 3)
        assert fit.assignment.sizes(k).min() > 0
        with threadpool_limits(1):
            alone = KMeans(k, n_init=10, random_state=0).fit(matrix)
        assert fit.assignment.inertia <= alone.inertia_ * (1 + 1e-3)
        inertia.append(fit.assignment.inertia)
    assert inertia == sorted(inertia, reverse=True)


def test_each_start_has_the_rows_that_differ_and_its_own_part_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starts, "START_ROWS", 20)
    monkeypatch.setattr(starts, "START_ROWS_PER_CLUSTER", 2)
    rows = np.arange(59.0)[:, None]
    samples = starts.Samples(rows, rows[:, 0] + 100, 3)
    parts = [samples.part(4, turn) for turn in range(5)]
    for turn, part in enumerate(parts):
        first = 3 + turn % 3 * 17
        assert part.rows[:, 0].tolist() == [0, 1, 2, *range(first, first + 17)]
        assert part.weight.tolist() == (part.rows[:, 0] + 100).tolist()
    everything = samples.part(40, 7)
    assert everything.rows.tolist() == rows.tolist()


def test_starts_that_a_sample_cannot_tell_apart_are_rivals_once_each() -> None:
    one, other = np.array([[0.0], [9.0]]), np.array([[0.0], [3.0]])
    near, far = one[::-1] + 0.01, one + 50
    given = [
        starts.Start(inertia, centroids, n_iter)
        for inertia, centroids, n_iter in
        [(1.0, one, 5), (1.001, near, 6), (1.002, other, 7), (2.0, far, 8)]
    ]  # fmt: skip

    def found(share: float, most: int) -> list[int]:
        return [start.n_iter for start in starts._rivals(given[::-1], 0.1, share, most)]

    assert found(0.005, 3) == [5, 7]
    assert found(0.005, 1) == [5]
    assert found(0.001, 3) == [5]
    assert found(1.0, 3) == [5, 7, 8]


def test_starts_that_end_alike_do_not_crowd_out_another_basin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The sample likes 0 better than 10, all rows do not; iterations end at the nearest ten.
    sample, rows = np.linspace(-6, 15, 100)[:, None], np.linspace(-2, 18, 1000)[:, None]

    def ended(given: Any, centroids: Any, *_: object, **__: object) -> SimpleNamespace:
        ends = np.round(centroids, -1) if len(given) == len(sample) else centroids
        return SimpleNamespace(centroids=ends, n_iter=1, assignment=lambda: assign(given, ends))

    seeds = iter([[[1.0]], [[2.0]], [[3.0]], [[-1.0]], [[12.0]]] * 2)
    monkeypatch.setattr(starts, "seed_centroids", lambda *_: np.array(next(seeds)))
    monkeypatch.setattr(starts, "lloyd", ended)
    for name, value in {
        "START_ROWS": 20, "START_ROWS_PER_CLUSTER": 1, "SAME_SHARE": 1e-9, "MOST_RIVALS": 2,
        "CARRIED_SHARE": 9, "RIVAL_SHARE": 9,
    }.items():  # fmt: skip
        monkeypatch.setattr(starts, name, value)
    samples = starts.Samples(sample, None, 1)
    options = starts.Options(n_init=5, seed=0, max_iter=300, tol=1e-4)
    best = starts.best_start(rows, None, samples, 1, None, options)
    assert (best.centroids.tolist(), best.n_iter) == ([[10.0]], 2)


@pytest.mark.parametrize(("apart", "batches"), [(0.0, 1), (1.0, 2)])
def test_starts_that_end_differently_are_followed_by_as_many(
    apart: float, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Iterations leave the seeds where they are, or bring all of them to one place.
    matrix = np.random.default_rng(0).normal(size=(20_000, 2)) * [5, 1]
    turns: list[int] = []
    part = starts.Samples.part

    def seen(self: starts.Samples, k: int, turn: int) -> starts.Samples:
        turns.append(turn)
        return part(self, k, turn)

    def ended(given: Any, centroids: Any, *_: object, **__: object) -> SimpleNamespace:
        ends = centroids * apart
        return SimpleNamespace(centroids=ends, n_iter=1, assignment=lambda: assign(given, ends))

    monkeypatch.setattr(starts.Samples, "part", seen)
    monkeypatch.setattr(starts, "lloyd", ended)
    monkeypatch.setattr(starts, "CARRIED_SHARE", 9)
    monkeypatch.setattr(starts, "SWAPS", 0)
    samples = starts.Samples(matrix[:1000], None, 2)
    options = starts.Options(n_init=3, seed=0, max_iter=300, tol=1e-4)
    starts.best_start(matrix, None, samples, 2, None, options)
    # The one more is where a centroid is looked for that can be left out.
    assert sorted(turns) == [0, *range(3 * batches)]


def test_centroids_are_left_out_in_the_order_in_which_they_are_missed_least() -> None:
    centroids = np.array([[0.0], [1.0], [9.0], [20.0]])
    rows = np.repeat(centroids, [30, 10, 10, 20], axis=0)

    def left_out(weight: Any = None) -> list[float]:
        rest = starts._all_but_one(starts.Samples(rows, weight, 4), centroids)
        return [float(centroids.sum() - some.sum()) for some in rest]

    assert left_out() == [1, 0, 9, 20]
    # As if the rows at 0 were 3, and those at 9 were 2 thirds of one.
    assert left_out(np.repeat([0.1, 1, 0.001, 1], [30, 10, 10, 20])) == [9, 0, 1, 20]
    assert starts._all_but_one(starts.Samples(rows, None, 1), centroids[:1]) == []


def test_a_centroid_gets_from_where_two_are_too_many_to_where_one_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    centres = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0], [100.0, 100.0]])
    matrix, _ = make_blobs(30_000, centers=centres, cluster_std=1.0, random_state=0)
    stuck = np.array([[-1.0, 0.0], [1.0, 0.0], [50.0, 100.0], [100.0, 0.0]])
    seed = starts.seed_centroids

    def badly(rows: Any, k: int, rng: Any, weight: Any, given: Any, *rest: Any) -> Any:
        return stuck if given is None else seed(rows, k, rng, weight, given, *rest)

    monkeypatch.setattr(starts, "seed_centroids", badly)
    found = kmeans.fit_kmeans(matrix, 4, n_init=2, sample_rows=20_000).centroids
    assert np.abs(found[np.lexsort(found.round().T)] - centres).max() < 0.1
    monkeypatch.setattr(starts, "SWAPS", 0)
    assert kmeans.fit_kmeans(matrix, 4, n_init=2, sample_rows=20_000).centroids[:, 0].min() < -0.5


def test_many_fits_need_as_many_distinct_rows_as_the_largest_k() -> None:
    with pytest.raises(DataError, match="k = 5 needs at least 5"):
        list(fit_many(np.array([[1.0], [2.0], [3.0]] * 5), [2, 5]))
