"""Segment ids mean the same customers from run to run, and a retired one never returns."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.comparing.stable_ids import Previous, match_segments

FAR = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def test_ids_of_the_first_run_are_1_to_k() -> None:
    assert match_segments(FAR, None) == [1, 2, 3, 4]
    assert match_segments(FAR, Previous((), None, 0)) == [1, 2, 3, 4]


def test_a_first_run_after_retired_ids_goes_on_from_the_last() -> None:
    assert match_segments(FAR[:2], Previous((), None, 7)) == [8, 9]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_ids_follow_the_customers_however_the_clusters_are_numbered(
    order: tuple[int, ...],
) -> None:
    previous = Previous([1, 3, 4, 7], None, 9)
    overlap = [(previous.segment_ids[old], new, 100 + old) for new, old in enumerate(order)]
    noise = [(3, cluster, 4) for cluster in range(4)]
    found = match_segments(FAR[list(order)], previous, overlap + noise)
    assert found == [previous.segment_ids[old] for old in order]


def test_customers_count_more_than_centroids() -> None:
    # The two segments changed places, and their customers with them.
    previous = Previous([1, 2], FAR[:2], 2)
    assert match_segments(FAR[1::-1], previous, [(1, 0, 50), (2, 1, 50)]) == [1, 2]


def test_of_a_split_segment_the_larger_part_keeps_the_id() -> None:
    previous = Previous([1, 2], FAR[:2], 2)
    new = np.array([[10.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    assert match_segments(new, previous, [(2, 0, 90), (1, 1, 60), (1, 2, 40)]) == [2, 1, 3]


def test_merged_segments_keep_the_id_of_the_larger() -> None:
    previous = Previous([1, 2, 3], FAR[:3], 3)
    overlap = [(1, 0, 40), (2, 0, 60), (3, 1, 80)]
    assert match_segments(FAR[[1, 2]], previous, overlap) == [2, 3]


def test_half_of_a_split_segment_does_not_take_the_id_of_one_that_vanished() -> None:
    previous = Previous([1, 2], np.array([[0.0, 0.0], [500.0, 0.0]]), 2)
    new = np.array([[-1.0, 0.0], [1.0, 0.0]])
    assert match_segments(new, previous, [(1, 0, 60), (1, 1, 40)]) == [1, 3]


def test_a_segment_whose_customers_were_all_replaced_is_known_by_its_centroid() -> None:
    previous = Previous([4, 5, 6], FAR[:3], 6)
    new = FAR[[2, 0, 1]] + 0.3
    assert match_segments(new, previous, []) == [6, 4, 5]


def test_one_segment_with_new_customers_beside_others_that_stayed() -> None:
    previous = Previous([1, 2, 3], FAR[:3], 3)
    assert match_segments(FAR[:3], previous, [(1, 0, 50), (2, 1, 50)]) == [1, 2, 3]


def test_without_customers_and_without_comparable_centroids_every_id_is_new() -> None:
    assert match_segments(FAR[:2], Previous([1, 2], None, 5), []) == [6, 7]


def test_few_shared_customers_do_not_carry_an_id() -> None:
    # A tenth of either side is chance.
    previous = Previous([1, 2], None, 2)
    overlap = [(1, 0, 10), (1, 2, 45), (2, 0, 45), (2, 1, 30), (2, 2, 45)]
    found = match_segments(FAR[:3], previous, overlap)
    assert len(set(found)) == 3
    assert all(number > 0 for number in found)


def test_more_clusters_than_before_get_new_ids_and_fewer_retire_some() -> None:
    previous = Previous([1, 2], FAR[:2], 2)
    assert match_segments(FAR, previous, [(1, 0, 9), (2, 1, 9)]) == [1, 2, 3, 4]
    assert match_segments(FAR[:1], Previous([1, 2, 8], FAR[:3], 8), [(8, 0, 9)]) == [8]


@st.composite
def situations(draw: st.DrawFn) -> tuple[np.ndarray, Previous, list[tuple[int, int, int]]]:
    k, old = draw(st.integers(1, 6)), draw(st.integers(0, 6))
    coordinate = st.integers(-4, 4).map(float)
    centroids = np.array(draw(st.lists(st.tuples(coordinate, coordinate), min_size=k, max_size=k)))
    ids = draw(st.lists(st.integers(1, 20), min_size=old, max_size=old, unique=True))
    points = draw(st.lists(st.tuples(coordinate, coordinate), min_size=old, max_size=old))
    known = old > 0 and draw(st.booleans())
    last = draw(st.integers(max(ids, default=0), 30))
    pairs = st.tuples(st.sampled_from(ids or [1]), st.integers(0, k - 1), st.integers(1, 100))
    overlap = draw(st.lists(pairs, max_size=20, unique_by=lambda pair: pair[:2]))
    return centroids, Previous(ids, np.array(points) if known else None, last), overlap


@given(situations())
def test_ids_are_unique_and_a_new_one_was_never_used(
    situation: tuple[np.ndarray, Previous, list[tuple[int, int, int]]],
) -> None:
    centroids, previous, overlap = situation
    found = match_segments(centroids, previous, overlap)
    assert len(found) == len(set(found)) == len(centroids)
    new = sorted(number for number in found if number not in previous.segment_ids)
    assert all(number > 0 for number in found)
    first = previous.last_segment_id + 1
    assert new == list(range(first, first + len(new)))


@given(situations(), st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order_of_the_overlap(
    situation: tuple[np.ndarray, Previous, list[tuple[int, int, int]]], random: object
) -> None:
    centroids, previous, overlap = situation
    shuffled = list(overlap)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert match_segments(centroids, previous, shuffled) == match_segments(
        centroids, previous, overlap
    )


@given(st.permutations(range(5)), st.lists(st.integers(1, 1000), min_size=5, max_size=5))
def test_unchanged_segments_keep_their_ids_whatever_their_sizes(
    order: list[int], sizes: list[int]
) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2))
    previous = Previous([2, 3, 5, 7, 11], points, 11)
    overlap = [(previous.segment_ids[old], new, sizes[old]) for new, old in enumerate(order)]
    assert match_segments(points[order], previous, overlap) == [
        previous.segment_ids[old] for old in order
    ]
