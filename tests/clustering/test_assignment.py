"""The nearest centroid: against brute force, and the same however the work is cut up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sqlkmeans.clustering.arrays import chunks, threads
from sqlkmeans.clustering.arrays.chunks import map_chunks
from sqlkmeans.clustering.kmeans.assignment import assign, settle_ties, squared_distances

small = st.integers(-5, 5).map(float)


@given(
    npst.arrays(np.float64, st.tuples(st.integers(0, 40), st.just(2)), elements=small),
    npst.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=small),
)
def test_every_row_gets_its_nearest_centroid_and_the_first_of_equals(
    matrix: np.ndarray, centroids: np.ndarray
) -> None:
    found = assign(matrix, centroids)
    for row, label, distance in zip(matrix, found.labels, found.squared_distances):
        distances = [float(((row - centroid) ** 2).sum()) for centroid in centroids]
        assert distance == min(distances)
        assert label == distances.index(min(distances))
    assert found.inertia == found.squared_distances.sum()
    assert found.sizes(len(centroids)).tolist() == [
        int((found.labels == j).sum()) for j in range(len(centroids))
    ]


def test_a_tie_goes_to_the_lowest_segment_id_once_there_are_ids() -> None:
    matrix = np.array([[0.0], [2.0], [4.0], [1.0], [3.0]])
    centroids = np.array([[4.0], [0.0]])
    found = assign(matrix, centroids)
    assert found.labels.tolist() == [1, 0, 0, 1, 0]
    settle_ties(matrix, centroids, found, [7, 3])
    assert found.labels.tolist() == [1, 1, 0, 1, 0]
    settle_ties(matrix, centroids, found, [3, 7])
    assert found.labels.tolist() == [1, 0, 0, 1, 0]
    assert found.squared_distances.tolist() == [0.0, 4.0, 0.0, 1.0, 1.0]


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    # |x|^2 - 2xc + |c|^2 would give 0 here.
    found = squared_distances([[1e9 + 1, 1e9]], np.array([[1e9, 1e9]]))
    assert found.tolist() == [[1.0]]


def test_labels_do_not_depend_on_chunks_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    matrix, centroids = rng.normal(size=(20_011, 3)), rng.normal(size=(7, 3))
    whole = assign(matrix, centroids)
    for chunk in (1_000, 4_096, 20_010, 50_000):
        for count in (1, 4):
            monkeypatch.setattr(threads, "cores", lambda n=count: n)
            monkeypatch.setattr(chunks, "CHUNK", chunk)
            cut = assign(matrix, centroids)
            np.testing.assert_array_equal(cut.labels, whole.labels)
            np.testing.assert_array_equal(cut.squared_distances, whole.squared_distances)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("n_rows", [0, 1, 99, 100, 101, 5_000])
def test_chunks_cover_every_row_once_and_come_back_in_order(
    count: int, n_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: count)
    monkeypatch.setattr(chunks, "CHUNK", 100)
    found = map_chunks(n_rows, lambda start, stop: list(range(n_rows))[start:stop])
    assert [row for chunk in found for row in chunk] == list(range(n_rows))


def test_an_error_in_a_chunk_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(chunks, "CHUNK", 100)

    def fails(start: int, stop: int) -> None:
        if start == 1_500:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        map_chunks(2_000, fails)
