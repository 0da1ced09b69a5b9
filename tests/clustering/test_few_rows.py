"""The best end of few rows, against all partitions, scikit-learn and one start at a time."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from sqlkmeans.clustering.arrays import threads
from sqlkmeans.clustering.kmeans import few_rows, starts
from sqlkmeans.clustering.kmeans.assignment import inertia_of
from sqlkmeans.clustering.kmeans.few_rows import ALONE, COMPARED, Effort, End, FewRows, best_end
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans, fit_many
from sqlkmeans.clustering.kmeans.lloyd import lloyd


def least_inertia(rows: np.ndarray, weight: np.ndarray, k: int) -> float:
    """Of all partitions."""

    def inertia(labels: np.ndarray) -> float:
        parts = [labels == j for j in range(k)]
        means = [np.average(rows[p], axis=0, weights=weight[p]) for p in parts if p.any()]
        return sum(
            float((weight[p] * ((rows[p] - mean) ** 2).sum(axis=1)).sum())
            for p, mean in zip([p for p in parts if p.any()], means)
        )

    return min(inertia(np.array(labels)) for labels in product(range(k), repeat=len(rows)))


@pytest.mark.parametrize("seed", range(8))
def test_no_partition_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, weight = rng.exponential(size=(8, 2)), rng.integers(1, 5, 8).astype(float)
    least = least_inertia(rows, weight, 3)
    end = best_end(FewRows(rows, weight), 3, None, 10, ALONE, seed)
    assert end.inertia == pytest.approx(least, rel=1e-9)
    assert inertia_of(rows, end.centroids, weight) == pytest.approx(least, rel=1e-9)
    fit = fit_kmeans(rows, 3, sample_weight=weight)
    assert fit.assignment.inertia == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_starts_of_scikit_learn_find_nothing_better(seed: int) -> None:
    # Answers in a questionnaire: few places, much repeated, and no clusters.
    answers = np.random.default_rng(seed).binomial(5, 0.6, size=(2_000, 2)).astype(float)
    fit = fit_kmeans(answers, 8)
    many = KMeans(8, n_init=300, random_state=seed).fit(answers)
    assert fit.assignment.inertia <= many.inertia_ * (1 + 1e-9)


def test_rows_that_repeat_are_one_row_with_their_weight() -> None:
    rng = np.random.default_rng(3)
    rows, times = rng.normal(size=(60, 3)), rng.integers(1, 6, 60)
    repeated = np.repeat(rows, times, axis=0)[rng.permutation(times.sum())]
    found = best_end(FewRows(repeated), 5, None, 10, ALONE, 0)
    weighted = best_end(FewRows(rows, times.astype(float)), 5, None, 10, ALONE, 0)
    np.testing.assert_array_equal(found.centroids, weighted.centroids)
    assert len(FewRows(np.array([[0.0, 1.0], [-0.0, 1.0]])).rows) == 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("block", [few_rows.BLOCK, 150])
def test_many_starts_at_once_make_the_steps_of_one_by_itself(
    weighted: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_rows, "BLOCK", block)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)) + 40
    weight = rng.random(200) + 0.5 if weighted else None
    seeds = rows[[rng.choice(200, 4, replace=False) for _ in range(7)]]
    few = FewRows(rows, weight)
    ends = few.ends(seeds - few.origin, 4, 0.0, rng)
    hopeful = few.ends(seeds - few.origin, 4, np.inf, rng)
    for seed, early, end in zip(seeds, ends, hopeful):
        found = lloyd(rows, seed, weight, max_iter=300, threshold=0)
        np.testing.assert_allclose(end.centroids + few.origin, found.centroids, rtol=1e-12)
        assert end.inertia == pytest.approx(found.assignment().inertia, rel=1e-10)
        assert abs(end.n_iter - found.n_iter) <= 1
        # None can become as good as a best of 0, so all end as soon as they are slow.
        assert early.n_iter <= end.n_iter
    assert sum(end.n_iter for end in ends) < sum(end.n_iter for end in hopeful)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 4), st.booleans())
def test_seeds_are_those_given_and_rows_that_differ(
    seed: int, k: int, known: int, extreme: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2, size=(40, 2)) + np.arange(40)[:, None] % 3
    rows = rows * (1e9 if extreme else 1.0) + 1e6
    differ = np.unique(rows, axis=0)
    k = min(k, len(differ))
    few = FewRows(rows)
    of_rows = few.rows[rng.permutation(len(differ))[: min(known, k)]]
    seeds = few._seeds(np.array([of_rows] * 3), k, rng.random((3, k, 2)))
    for of_start in seeds:
        np.testing.assert_array_equal(of_start[: len(of_rows)], of_rows)
        assert len(np.unique(of_start, axis=0)) == k
        assert {tuple(row) for row in of_start} <= {tuple(row) for row in few.rows}


def test_whoever_is_extremely_far_away_drowns_no_distance() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(100, 2)) * 0.01 + np.repeat([[0.0, 0.0], [1.0, 1.0]], 50, axis=0)
    found = best_end(FewRows(np.vstack([rows, [[1e9, 1e9]]])), 3, None, 10, ALONE, 0)
    near = np.sort(found.centroids[:, 0])
    np.testing.assert_allclose(near, [rows[:50, 0].mean(), rows[50:, 0].mean(), 1e9], rtol=1e-6)


def test_more_searches_follow_until_enough_have_found_the_best_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = FewRows(np.random.default_rng(0).normal(size=(30, 2)))
    inertias: list[float] = []
    taken = 50_000.0

    def end(self: Any, before: None) -> End:
        self.work = taken
        return End(inertias.pop(0), np.zeros((2, 2)), 1)

    monkeypatch.setattr(few_rows._Search, "end", end)

    def made(found: list[float], effort: Effort) -> tuple[float, int]:
        inertias[:] = found
        best = best_end(rows, 2, None, 10, effort, 0)
        return best.inertia, len(found) - len(inertias)

    assert made([5, 5, 5, 5], Effort(3, 9, 1e9, 0)) == (5, 3)
    assert made([5, 4, 5, 4 + 1e-12, 4, 4], Effort(3, 9, 1e9, 0)) == (4, 5)
    assert made([5, 4, 3, 2, 1], Effort(3, 4, 1e9, 0)) == (2, 4)
    assert made([5, 4, 3, 2, 1], Effort(3, 9, 100_000, 0)) == (4, 2)
    # However much work wide rows are, each is compared with so many centroids.
    taken = few_rows.work_of_a_pass(rows.rows, 100)
    assert made([5, 4, 3, 2, 1], Effort(3, 9, 50_000, 0)) == (5, 1)
    assert made([5, 4, 3, 2, 1], Effort(3, 9, 50_000, 300)) == (3, 3)


def test_a_search_ends_with_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = FewRows(np.random.default_rng(0).normal(size=(300, 4)))
    a_pass = few_rows.work_of_a_pass(rows.rows, 6)
    seed = np.random.SeedSequence(0)
    bred: list[int] = []
    child = few_rows._Search._child

    def seen(self: Any) -> Any:
        bred.append(1)
        return child(self)

    monkeypatch.setattr(few_rows._Search, "_child", seen)
    least = few_rows._Search(rows, 6, 3, 1, seed)
    least.end(None)
    # Three starts and one end that is settled, at least.
    assert not bred
    assert 4 * a_pass < least.work < 200 * a_pass
    free = few_rows._Search(rows, 6, 3, 1e12, seed)
    assert free.end(None).inertia <= least.end(None).inertia
    # Generations of six, and four without a better end.
    assert len(bred) % 6 == 0
    assert len(bred) >= 24


def test_a_child_has_centroids_of_both_parents_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    search = few_rows._Search(FewRows(np.eye(9)), 4, 10, 1e9, np.random.SeedSequence(0))
    one, other = np.arange(8.0).reshape(4, 2), np.arange(8.0).reshape(4, 2)[::-1] + 0.25
    search._best = [End(1.0, one, 1), End(2.0, other, 1)]
    children = [search._child() for _ in range(60)]
    for child in children:
        # What is near each other in the two takes each other's place.
        assert sorted(np.floor(child[:, 0]) // 2) in [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    fractions = {tuple(sorted(set((child % 1).ravel()))) for child in children}
    assert fractions == {(0.0,), (0.25,), (0.0, 0.25)}


def test_one_segment_and_a_segment_a_row_need_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_rows, "_Search", None)
    rows, weight = np.random.default_rng(0).normal(size=(2, 7, 3))
    few = FewRows(np.repeat(rows, 2, axis=0), np.abs(weight[:, :2]).ravel())
    one = best_end(few, 1, None, 10, ALONE, 0)
    means = np.average(np.repeat(rows, 2, axis=0), axis=0, weights=np.abs(weight[:, :2]).ravel())
    np.testing.assert_allclose(one.centroids, [means], rtol=1e-12)
    each = best_end(few, 7, None, 10, ALONE, 0)
    assert each.inertia == pytest.approx(0, abs=1e-30)
    assert few.are_told_apart(each)
    np.testing.assert_allclose(each.centroids, np.unique(rows, axis=0), rtol=1e-12)


@pytest.mark.parametrize(("away", "few"), [(1e3, True), (1e9, False)])
def test_crowds_so_far_apart_that_products_drown_distances_are_left_to_other_starts(
    away: float, few: bool
) -> None:
    rng = np.random.default_rng(0)
    places = [0, 6, -6, 12, away, away + 8, away + 16]
    rows = np.concatenate([rng.normal(size=(40, 3)) + place for place in places])
    end = best_end(FewRows(rows), 6, None, 10, ALONE, 0)
    assert FewRows(rows).are_told_apart(end) is few
    ten = KMeans(6, n_init=10, random_state=0).fit(rows - rows.mean(axis=0))
    fit = fit_kmeans(rows, 6)
    assert fit.assignment.inertia <= inertia_of(rows, ten.cluster_centers_ + rows.mean(axis=0))
    assert fit.n_iter < 300


@pytest.mark.parametrize("cores", [1, 3])
def test_the_best_end_does_not_depend_on_the_number_of_threads(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(2).normal(size=(400, 5))
    monkeypatch.setattr(few_rows, "BLOCK", 5_000)
    monkeypatch.setattr(threads, "cores", lambda: cores)
    found = best_end(FewRows(rows), 5, None, 5, COMPARED, 0)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    again = best_end(FewRows(rows), 5, None, 5, COMPARED, 0)
    np.testing.assert_array_equal(found.centroids, again.centroids)


def test_several_k_that_are_compared_take_less_and_go_on_from_the_k_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    efforts: list[tuple[int, Effort]] = []
    given: list[int] = []

    def seen(rows: FewRows, k: int, before: Any, n_init: int, effort: Effort, seed: int) -> End:
        efforts.append((k, effort))
        given.append(0 if before is None else len(before))
        return best_end(rows, k, before, n_init, effort, seed)

    made: list[FewRows] = []

    def few(*of: Any) -> FewRows:
        made.append(FewRows(*of))
        return made[-1]

    monkeypatch.setattr(starts, "best_end", seen)
    monkeypatch.setattr(starts, "FewRows", few)
    rows = np.random.default_rng(0).normal(size=(90, 3))
    list(fit_many(rows, [3, 4], n_init=1))
    assert len(made) == 1
    fit_kmeans(rows, 4, n_init=1)
    assert efforts == [(3, COMPARED), (4, COMPARED), (4, ALONE)]
    assert given == [0, 3, 0]


def test_rows_are_few_up_to_ten_thousand_and_half_a_million_distances() -> None:
    def few(n_rows: int, n_features: int, k: int, everyone: bool = True) -> bool:
        rows = np.broadcast_to(0.0, (n_rows, n_features))
        return starts.Samples(rows, None, k, everyone).are_few(k)

    assert few(10_000, 1500, 8)
    assert few(10_000, 4, 50)
    assert not few(10_000, 4, 51)
    assert not few(10_001, 4, 5)
    assert few(10_001, 4, 30)
    assert not few(10_000, 4, 5, everyone=False)
