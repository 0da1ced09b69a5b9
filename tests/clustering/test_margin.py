"""Why one point is nearer to a centroid than to the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sqlkmeans.clustering.describing.margin import margin_of


@given(
    point=hnp.arrays(np.float64, 3, elements=st.floats(-10, 10)),
    centroids=hnp.arrays(np.float64, (4, 3), elements=st.floats(-10, 10)),
)
def test_the_contributions_add_up_to_the_difference_of_the_squared_distances(
    point: np.ndarray, centroids: np.ndarray
) -> None:
    found = margin_of(point, centroids)
    distances = np.sort(np.linalg.norm(centroids - point, axis=1))
    assert (found.distance, found.runner_up_distance) == pytest.approx(tuple(distances[:2]))
    difference = found.runner_up_distance**2 - found.distance**2
    assert found.contributions.sum() == pytest.approx(difference, abs=1e-9)
    assert 0 <= found.margin <= 1


@pytest.mark.parametrize(
    ("x", "margin", "words"),
    [(0.0, 1.0, "sure"), (1.0, 2 / 3, "sure"), (1.5, 0.4, "fairly sure"), (2.0, 0.0, "borderline")],
)
def test_the_margin_is_1_at_the_centroid_and_0_half_way(
    x: float, margin: float, words: str
) -> None:
    found = margin_of(np.array([x]), np.array([[0.0], [4.0]]))
    assert found.margin == pytest.approx(margin)
    assert found.certainty == words


def test_two_centroids_on_the_point_are_borderline() -> None:
    assert margin_of(np.zeros(2), np.zeros((2, 2))).certainty == "borderline"
