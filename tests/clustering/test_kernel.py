"""The loops over all rows: exact, and the same to the last bit in NumPy and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlkmeans.clustering.arrays import threads
from sqlkmeans.clustering.kmeans.assignment import assign
from sqlkmeans.clustering.kmeans.kernels import kernel, machine_code, numpy_kernel
from sqlkmeans.clustering.kmeans.kernels.kernel import Kernel
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.kmeans.lloyd import lloyd


@pytest.fixture
def compiled() -> Kernel:
    pytest.importorskip("numba", reason="extra `fast` is not installed")
    from sqlkmeans.clustering.kmeans.kernels import compiled_kernel

    return compiled_kernel


@pytest.fixture
def unforced() -> Iterator[None]:
    yield
    kernel.forced = None


def rows_and_centroids(kind: str, seed: int, k: int, n_features: int) -> tuple[np.ndarray, ...]:
    """Rows, centroids and weights that make it hard to say which centroid is nearest."""
    rng = np.random.default_rng(seed)
    n_rows = int(rng.integers(1, 700))
    if kind == "lattice":  # many rows exactly between two centroids
        matrix = rng.integers(-3, 4, (n_rows, n_features)).astype(float)
        centroids = rng.integers(-3, 4, (k, n_features)).astype(float)
        scale = rng.choice([1.0, 3.0, 0.1])
        matrix, centroids = matrix / scale, centroids / scale
    else:
        matrix = rng.normal(size=(n_rows, n_features))
        centroids = matrix[rng.integers(n_rows, size=k)] + rng.choice([0, 1e-9, 1.0])
        if kind == "far":
            matrix, centroids = matrix + 1e8, centroids + 1e8
        if kind == "coarse":  # to float32, which has every eighth of these numbers
            matrix, centroids = 9 * matrix + 1e8, 9 * centroids + 1e8
        if kind == "outlier":
            matrix[0], centroids[0] = 1e9, 1e9
        if kind == "tiny":
            matrix, centroids = matrix * 1e-170, centroids * 1e-170
        if kind == "huge":
            matrix, centroids = matrix * 1e160, centroids * 1e160
    return matrix, centroids, rng.integers(0, 4, n_rows) / 2


hard = st.tuples(
    st.sampled_from(["cloud", "lattice", "far", "coarse", "outlier", "tiny", "huge"]),
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([1, 2, 5]),
)  # fmt: skip


@given(hard)
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_labels_of_the_matrix_product_are_those_of_the_differences(
    case: tuple[str, int, int, int],
) -> None:
    matrix, centroids, _ = rows_and_centroids(*case)
    labels, distances = np.empty(len(matrix), np.int32), np.empty(len(matrix))
    numpy_kernel.label_rows(matrix, 0, len(matrix), centroids, labels, distances)
    expected = np.zeros((len(matrix), len(centroids)))
    for column, values in zip(matrix.T, centroids.T):
        expected += (column[:, None] - values) ** 2
    np.testing.assert_array_equal(labels, expected.argmin(axis=1))
    np.testing.assert_array_equal(distances, expected.min(axis=1))


@given(
    case=hard, weighted=st.booleans(), order=st.sampled_from("CF"),
    dtype=st.sampled_from([np.float64, np.float32]),
)  # fmt: skip
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_numpy_and_compiled_loops_agree_to_the_last_bit(
    case: tuple[str, int, int, int], weighted: bool, order: str, dtype: type
) -> None:
    pytest.importorskip("numba", reason="extra `fast` is not installed")
    from sqlkmeans.clustering.kmeans.kernels import compiled_kernel

    matrix, centroids, weight = rows_and_centroids(*case)
    matrix = np.asarray(matrix, dtype=dtype, order=order)
    found = []
    for loops in (numpy_kernel, compiled_kernel):
        rows, of_rows = (matrix, 0, len(matrix)), weight if weighted else None
        labels, distances = np.empty(len(matrix), np.int32), np.empty(len(matrix))
        sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids))
        gained = np.zeros(centroids.shape), np.zeros(len(centroids))
        lost = np.zeros(centroids.shape), np.zeros(len(centroids))
        loops.label_rows(*rows, centroids, labels, distances)
        again, margins = np.empty(len(matrix), np.int32), np.empty(len(matrix))
        loops.add_rows(*rows, of_rows, centroids, again, margins, sums, counts)
        np.testing.assert_array_equal(again, labels)
        assert_no_more_than_they_are(margins, matrix, centroids)
        loops.measure_rows(*rows, centroids, labels, margins)
        np.testing.assert_array_equal(margins, distances)
        # All rows are looked at, and go to where the last centroid is the first.
        margins[:] = 0
        other = np.ascontiguousarray(centroids[::-1]) * 1.25
        loops.move_rows(*rows, of_rows, other, 0.5, again, margins, gained, lost)
        found.append((labels, distances, sums, counts, again, *gained, *lost))
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


def assert_no_more_than_they_are(
    margins: np.ndarray, matrix: np.ndarray, centroids: np.ndarray
) -> None:
    """Each margin is 0, or at most how much farther the second nearest centroid is."""
    assert (margins >= 0).all()
    if len(centroids) == 1:
        assert not margins.any()
        return
    # In more digits, so that the margins' own rounding would show.
    apart = matrix[:, None, :].astype(np.longdouble) - centroids
    distances = np.sort(np.sqrt((apart * apart).sum(axis=2)), axis=1)
    known = margins > 0
    assert (margins[known] <= (distances[:, 1] - distances[:, 0])[known]).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_part_of_the_rows_is_part_of_the_result(
    compiled: Kernel, order: Literal["C", "F"], dtype: type
) -> None:
    rng = np.random.default_rng(0)
    matrix, centroids = rng.normal(size=(1_000, 3)), rng.normal(size=(4, 3))
    matrix = np.asarray(matrix, dtype=dtype, order=order)
    whole = assign(matrix, centroids)
    for loops in (numpy_kernel, compiled):
        labels, distances = np.full(1_000, -1, np.int32), np.full(1_000, -1.0)
        loops.label_rows(matrix, 130, 777, centroids, labels[130:777], distances[130:777])
        np.testing.assert_array_equal(labels[130:777], whole.labels[130:777])
        np.testing.assert_array_equal(distances[130:777], whole.squared_distances[130:777])
        assert set(labels[:130]) == set(labels[777:]) == {-1}
        margins, sums, counts = np.full(1_000, -1.0), np.zeros((4, 3)), np.zeros(4)
        labels[:] = -1
        loops.add_rows(matrix, 130, 777, None, centroids, labels, margins, sums, counts)
        np.testing.assert_array_equal(labels[130:777], whole.labels[130:777])
        assert set(labels[:130]) == set(labels[777:]) == {-1}
        assert set(margins[:130]) == set(margins[777:]) == {-1}
        of_rows = [matrix[130:777][whole.labels[130:777] == j] for j in range(4)]
        np.testing.assert_array_equal(counts, [len(rows) for rows in of_rows])
        np.testing.assert_allclose(sums, [rows.sum(axis=0, dtype=float) for rows in of_rows])


@pytest.mark.usefixtures("compiled", "unforced")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", ["cloud", "integers"])
def test_a_fit_is_the_same_with_numba_and_without(
    rows: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(150_000, 3))
    if rows == "integers":
        matrix = np.round(matrix * 2)
    weight = rng.integers(0, 3, len(matrix)) / 1.0 if weighted else None
    found = []
    for forced in (False, True):
        for count in (1, 2, 3):
            monkeypatch.setattr(threads, "cores", lambda n=count: n)
            kernel.forced = forced
            found.append(fit_kmeans(matrix, 6, sample_weight=weight, n_init=3, sample_rows=9_000))
    for other in found[1:]:
        np.testing.assert_array_equal(other.centroids, found[0].centroids)
        np.testing.assert_array_equal(other.assignment.labels, found[0].assignment.labels)
        assert other.assignment.inertia == found[0].assignment.inertia
        assert other.n_iter == found[0].n_iter


@pytest.mark.usefixtures("unforced")
def test_without_numba_large_matrices_are_done_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_compiled", lambda: None)
    assert kernel.kernel(10**9, 1) is numpy_kernel


def test_numba_is_recommended_where_it_would_help_and_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "find_spec", lambda name: None)
    assert kernel.advice(10**6) == []
    assert kernel.advice(10**9) == [
        "the fit of 1,000,000,000 values ran in NumPy; "
        'pip install "sqlkmeans[fast]" makes it several times faster'
    ]
    assert 'pip install "sqlkmeans[fast]"' in kernel.describe()
    monkeypatch.setattr(kernel, "find_spec", lambda name: "there")
    assert kernel.advice(10**9) == []
    assert kernel.describe().startswith("numba")


@pytest.mark.usefixtures("compiled", "unforced")
def test_small_matrices_load_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_taken", set())
    assert kernel.kernel(1_000, 1) is numpy_kernel
    assert kernel.kernel(kernel.WORTH_LOADING, 1) is not numpy_kernel
    kernel.forced = False
    assert kernel.kernel(10**9, 1) is numpy_kernel
    kernel.forced = True
    assert kernel.kernel(1, 1) is not numpy_kernel


@pytest.mark.usefixtures("compiled", "unforced")
def test_few_rows_of_loaded_loops_take_them_and_others_are_not_compiled_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "_taken", set())
    assert kernel.kernel(1_000, 2) is numpy_kernel
    assert kernel.kernel(kernel.WORTH_LOADING, 2) is not numpy_kernel
    assert kernel.kernel(1_000, 2) is not numpy_kernel
    assert kernel.kernel(1_000, 3) is numpy_kernel


@pytest.mark.usefixtures("compiled", "unforced")
def test_what_can_be_kept_nowhere_is_compiled_for_more_rows_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "_taken", set())
    monkeypatch.setattr(machine_code, "_folder", lambda: None)
    assert kernel.kernel(kernel.WORTH_LOADING, 1) is numpy_kernel
    assert kernel.kernel(kernel.WORTH_COMPILING, 1) is not numpy_kernel
    assert f"{kernel.WORTH_COMPILING:,}" in kernel.describe()


@pytest.mark.usefixtures("unforced")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_compiled_loops_get_ready_while_rows_are_read(compiled: Any, dtype: str) -> None:
    assert kernel.load_ahead(1_000, 2, dtype) is None
    compiled._loaded.cache_clear()
    thread = kernel.load_ahead(kernel.WORTH_LOADING, 2, dtype)
    assert thread is not None
    thread.join()
    ready = compiled._loaded.cache_info().misses
    rows = np.asfortranarray(np.arange(20.0).reshape(10, 2), dtype=dtype)
    kernel.forced = True
    lloyd(rows, rows[:3].astype(float), max_iter=1, threshold=0.0)
    assert compiled._loaded.cache_info().misses == ready
    assert compiled._loaded.cache_info().hits > 0


def test_what_fails_while_rows_are_read_stays_for_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no disk")

    monkeypatch.setattr(kernel, "find_spec", lambda name: "there")
    monkeypatch.setattr(kernel, "_compiled", fail)
    thread = kernel.load_ahead(kernel.WORTH_COMPILING, 7)
    assert thread is not None
    thread.join()
    monkeypatch.setattr(kernel, "find_spec", lambda name: None)
    assert kernel.load_ahead(10**9, 7) is None


def test_where_no_loop_can_be_compiled_numpy_runs(
    compiled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*of_loop: Any) -> None:
        raise RuntimeError("numba makes functions of another kind")

    monkeypatch.setattr(compiled, "_loop", fail)
    kernel._compiled.cache_clear()
    try:
        assert kernel.kernel(10**9, 1) is numpy_kernel
    finally:
        kernel._compiled.cache_clear()


def test_compiled_loops_take_no_array_of_another_kind(compiled: Any) -> None:
    matrix, centroids = np.ones((6, 2)), np.ones((1, 2))
    labels, distances = np.zeros(6, np.int32), np.empty(6)
    with pytest.raises(TypeError, match="int64 given; allowed: int32"):
        compiled.label_rows(matrix, 0, 6, centroids, labels.astype(np.int64), distances)
    with pytest.raises(TypeError, match="in one piece"):
        compiled.label_rows(matrix, 0, 6, centroids, labels, np.empty(12)[::2])
    with pytest.raises(ValueError, match="6 rows, and 5 values of them"):
        compiled.label_rows(matrix, 0, 6, centroids, labels[:5], distances)
    with pytest.raises(ValueError, match="6 rows, and 4 values of them"):
        compiled.measure_rows(matrix, 0, 6, centroids, labels, distances[:4])
    with pytest.raises(ValueError, match="2 features"):
        compiled.label_rows(matrix, 0, 6, np.ones((1, 3)), labels, distances)


@pytest.mark.usefixtures("unforced")
@pytest.mark.parametrize("forced", [False, True])
def test_float32_rows_are_added_in_float64(forced: bool) -> None:
    if forced:
        pytest.importorskip("numba", reason="extra `fast` is not installed")
    kernel.forced = forced
    # In float32 a sum stops growing at 2**24.
    matrix = np.ones((2**24 + 2**20, 1), dtype=np.float32)
    centroids = lloyd(matrix, np.array([[0.5]]), max_iter=1, threshold=0.0).centroids
    assert centroids.tolist() == [[1.0]]
    found = assign(matrix, np.array([[0.0]]))
    assert found.inertia == len(matrix)
