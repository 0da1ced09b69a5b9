"""Moves of single rows: each lowers the inertia, and at the end no other would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlkmeans.clustering.kmeans import hamerly, single_moves
from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.kmeans.kernels import kernel
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.kmeans.lloyd import lloyd, settle
from sqlkmeans.clustering.kmeans.single_moves import may_pay, move_single_rows


@pytest.fixture
def unforced() -> Iterator[None]:
    yield
    kernel.forced = None


def inertia_of(rows: np.ndarray, weight: np.ndarray, labels: np.ndarray) -> float:
    """About the clusters' own means."""
    total = 0.0
    for j in set(labels[weight > 0]):
        of_cluster = (labels == j) & (weight > 0)
        mean = np.average(rows[of_cluster], axis=0, weights=weight[of_cluster])
        apart = ((rows[of_cluster] - mean) ** 2).sum(axis=1)
        total += float((weight[of_cluster] * apart).sum())
    return total


def least_after_one_move(rows: np.ndarray, weight: np.ndarray, labels: np.ndarray, k: int) -> float:
    """By trying each row in each cluster that is not its own, unless its own would be empty."""
    least = np.inf
    for row in np.flatnonzero(weight > 0):
        if ((labels == labels[row]) & (weight > 0)).sum() == 1:
            continue
        for j in range(k):
            moved = labels.copy()
            moved[row] = j
            least = min(least, inertia_of(rows, weight, moved))
    return least


def drawn(seed: int, kind: str, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(int(rng.integers(12, 40)), 2))
    if kind == "lattice":  # with ties, and rows that repeat
        rows = np.round(rows)
    if kind == "outlier":
        rows[0] = 1e4
    weight = rng.integers(0, 4, len(rows)) / 2 if weighted else np.ones(len(rows))
    return rows, weight


@given(
    seed=st.integers(0, 2**32 - 1), k=st.integers(1, 5), weighted=st.booleans(),
    kind=st.sampled_from(["cloud", "lattice", "outlier"]), empty=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_at_the_end_no_move_of_one_row_lowers_the_inertia(
    seed: int, k: int, weighted: bool, kind: str, empty: bool
) -> None:
    rows, weight = drawn(seed, kind, weighted)
    differ = np.unique(rows[weight > 0], axis=0)
    if len(differ) < k:
        return
    start = differ[np.random.default_rng(seed).choice(len(differ), k, replace=False)]
    if empty:  # no row is near
        start = np.vstack([start[:-1], [[1e6, 1e6]]])
    of_rows = weight if weighted else None
    rested = lloyd(rows, start, of_rows, max_iter=300, threshold=0.0)
    found = settle(rows, start, of_rows, max_iter=300)
    labels = found.assignment().labels
    assert len(set(labels[weight > 0])) == k
    total = inertia_of(rows, weight, labels)
    assert total <= rested.assignment().inertia * (1 + 1e-12)
    assert total <= least_after_one_move(rows, weight, labels, k) * (1 + 1e-9)
    # And every row is with its nearest centroid, which is the mean of its rows.
    again = assign(rows, found.centroids, of_rows)
    np.testing.assert_array_equal(labels, again.labels)
    assert again.inertia == pytest.approx(total, rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans())
@settings(deadline=None, max_examples=40)
def test_moves_lower_the_inertia_from_any_labels(seed: int, weighted: bool) -> None:
    rows, weight = drawn(seed, "cloud", weighted)
    labels = (np.arange(len(rows)) % 3).astype(np.int32)
    weight[:3] = 1  # so that no cluster is empty
    before = labels.copy()
    sums = np.array([(weight * (labels == j)) @ rows for j in range(3)])
    counts = np.bincount(labels, weights=weight, minlength=3)
    moves = move_single_rows(rows, weight if weighted else None, labels, sums, counts)
    if not weighted:
        weight = np.ones(len(rows))
    assert inertia_of(rows, weight, labels) <= inertia_of(rows, weight, before) * (1 + 1e-12)
    assert (moves == 0) == (labels == before).all()
    np.testing.assert_allclose(counts, np.bincount(labels, weights=weight, minlength=3))
    expected = np.array([(weight * (labels == j)) @ rows for j in range(3)])
    np.testing.assert_allclose(sums, expected, atol=1e-9)


def test_a_row_can_leave_the_centroid_that_is_nearest_to_it() -> None:
    # 2 is 1 away from the mean of 0 and 2, and 1.5 from 3.5; with 3.5 it costs half of 1.5 squared,
    # and with 0 half of 2 squared.
    rows, start = np.array([[0.0], [2.0], [3.5]]), np.array([[1.0], [3.5]])
    rested = lloyd(rows, start, max_iter=300, threshold=0.0)
    assert rested.assignment().labels.tolist() == [0, 0, 1]
    found = settle(rows, start, max_iter=300)
    assert found.centroids.tolist() == [[0.0], [2.75]]
    assert found.assignment().labels.tolist() == [0, 1, 1]


@pytest.mark.usefixtures("unforced")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["cloud", "lattice"])
def test_rows_put_aside_change_nothing_and_neither_does_numba(
    kind: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(5_000, 2))
    if kind == "lattice":
        rows = np.round(rows * 4)
    weight = rng.integers(0, 3, len(rows)) / 2 if weighted else None
    start = rows[rng.choice(len(rows), 6, replace=False)] + 0.01
    expected = settle(rows, start, weight, max_iter=1_000)
    labels = expected.assignment().labels
    rested = lloyd(rows, start, weight, max_iter=1_000, threshold=0.0)
    assert expected.n_iter >= rested.n_iter
    monkeypatch.setattr(hamerly, "MANY_ROWS", 0)
    aside = []
    for forced in (False, True):
        if forced:
            pytest.importorskip("numba", reason="extra `fast` is not installed")
        kernel.forced = forced
        found = settle(rows, start, weight, max_iter=1_000)
        np.testing.assert_allclose(found.centroids, expected.centroids, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(found.assignment().labels, labels)
        aside.append(found.centroids)
    np.testing.assert_array_equal(*aside)


def test_rows_that_may_pay_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight = drawn(3, "cloud", weighted=True)
    centroids = rows[:4]
    labels = assign(rows, centroids).labels
    counts = np.bincount(labels, weight, 4) + 1
    whole = may_pay(rows, weight, labels, centroids, counts)
    assert 0 < whole.sum() < len(rows)
    monkeypatch.setattr(single_moves, "BLOCK", 12)
    np.testing.assert_array_equal(may_pay(rows, weight, labels, centroids, counts), whole)


@pytest.mark.parametrize("n_init", [1, 10])
def test_one_cluster_is_everyone(n_init: int) -> None:
    rows, weight = drawn(5, "cloud", weighted=True)
    fit = fit_kmeans(rows, 1, sample_weight=weight, n_init=n_init)
    mean = np.average(rows, axis=0, weights=weight)
    np.testing.assert_allclose(fit.centroids, [mean], rtol=1e-12, atol=1e-12)
