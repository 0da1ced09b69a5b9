"""Rows a chunk at a time: exact answers, and nothing as long as the rows on the way."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.arrays.chunks import CHUNK, label_counts, rows_where
from sqlkmeans.clustering.describing.bins import bin_features
from sqlkmeans.clustering.describing.profile import profile_segments
from sqlkmeans.clustering.describing.rules import find_rules
from sqlkmeans.clustering.describing.scores import score
from sqlkmeans.clustering.describing.typical import typical_rows
from sqlkmeans.clustering.kmeans.assignment import assign, inertia_of
from sqlkmeans.clustering.kmeans.kernels import kernel
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.preparation import quantiles as selection
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import Feature
from sqlkmeans.clustering.preparation.quantiles import Bracket, Wanted, order_statistics
from sqlkmeans.clustering.preparation.statistics import Values

N_ROWS = 3 * selection.SMALL + 17


def _values(column: np.ndarray[Any, Any]) -> Values:
    return Values(len(column), lambda start, stop: (column[start:stop], None))


def _columns() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    skewed = np.exp(3 * rng.normal(size=N_ROWS))
    many_zeros = np.where(rng.random(N_ROWS) < 0.3, 0.0, rng.normal(size=N_ROWS))
    # A sample of evenly spaced places sees nothing of these.
    hidden = np.zeros(N_ROWS)
    hidden[50:120] = -1.0
    steps = np.repeat(rng.normal(size=N_ROWS // 1000 + 1), 1000)[:N_ROWS]
    return {
        "normal": rng.normal(size=N_ROWS),
        "skewed": skewed,
        "ascending": np.sort(skewed),
        "many zeros": many_zeros,
        "steps": steps,
        "hidden": hidden,
        "constant": np.full(N_ROWS, 7.25),
    }


@pytest.mark.parametrize("name", list(_columns()))
def test_quantiles_of_many_rows_are_numpys(name: str) -> None:
    column, at = _columns()[name], [0.0, 0.0001, 0.25, 0.5, 0.75, 0.999, 1.0]
    assert _values(column).quantiles(at) == np.quantile(column, at).tolist()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_of_few_rows_are_numpys(values: list[float], at: float) -> None:
    column = np.array(values)
    assert _values(column).quantiles([at]) == [np.quantile(column, at)]


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=80), st.integers(-4, 4), st.integers(0, 8),
    st.integers(0, 79),
)  # fmt: skip
def test_a_bracket_finds_a_rank_or_says_that_it_does_not(
    values: list[int], low: int, width: int, rank: int
) -> None:
    column = np.array(values, dtype=np.float64)
    rank %= len(column)
    bracket = Bracket(float(low), float(low + width))
    wanted = Wanted((rank,), len(column), np.empty(0))
    found = wanted.found(bracket, [bracket.cut(column[:30]), bracket.cut(column[30:])])
    truth = float(np.sort(column)[rank])
    assert found == ([truth] if low <= truth <= low + width else None)


def test_a_misleading_sample_costs_passes_and_not_the_answer() -> None:
    column = np.random.default_rng(0).permutation(N_ROWS).astype(np.float64)
    passes = []

    def cut_all(asked: Any) -> Any:
        passes.append(len(asked))
        return [[bracket.cut(column)] for _, bracket in asked]

    wanted = Wanted((N_ROWS // 2,), N_ROWS, np.sort(column[column < 1000]))
    assert order_statistics([wanted], cut_all) == [[N_ROWS // 2]]
    assert len(passes) > 1


def test_rows_of_ranks() -> None:
    mask = np.random.default_rng(1).random(3 * CHUNK + 5) < 0.01
    ranks = np.random.default_rng(2).permutation(int(mask.sum()))[:500]
    found = rows_where(len(mask), ranks, lambda start, stop: mask[start:stop])
    assert found.tolist() == np.flatnonzero(mask)[ranks].tolist()


def test_label_counts() -> None:
    rng = np.random.default_rng(4)
    labels, weights = rng.integers(0, 6, size=2 * CHUNK).astype(np.int32), rng.random(2 * CHUNK)
    assert label_counts(labels, 7).tolist() == np.bincount(labels, minlength=7).tolist()
    by_weight = label_counts(labels, 7, weights)
    assert by_weight == pytest.approx(np.bincount(labels, weights, minlength=7), rel=1e-12)


def test_starts_that_a_sample_cannot_tell_apart_are_compared_without_keeping_rows() -> None:
    rng = np.random.default_rng(7)
    rows, centroids = rng.normal(size=(20 * CHUNK, 2)), rng.normal(size=(4, 2))
    weights = rng.random(len(rows))
    assert inertia_of(rows, centroids) == pytest.approx(assign(rows, centroids).inertia, rel=1e-12)
    weighted = assign(rows, centroids, weights).inertia
    assert inertia_of(rows, centroids, weights) == pytest.approx(weighted, rel=1e-12)
    # Rows without groups: the starts end in several places that are about as good.
    made = []

    def empty(shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        made.append(shape)
        return np.empty(shape, dtype)

    tracemalloc.start()
    fit_kmeans(rows, 5, sample_rows=2_000, n_init=5, empty=empty)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made == [(len(rows),)] * 2
    # One labelling of all rows, which is the result, takes 12 bytes a row; two would take 24.
    assert peak < 20 * len(rows) + 10_000_000


class _Files:
    """Arrays in files, as an engine makes them of rows that do not fit into memory."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, 0

    def empty(self, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        self._made += 1
        path = self._folder / f"array{self._made}"
        return np.memmap(path, dtype=dtype, mode="w+", shape=tuple(np.atleast_1d(shape)))


def test_a_run_over_rows_in_a_file_holds_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "forced", False)  # loading numba would count
    n_rows, n_features, k = 4_000_000, 3, 4
    files = _Files(tmp_path)
    matrix = files.empty((n_rows, n_features), np.float64)
    rng = np.random.default_rng(5)
    for start in range(0, n_rows, CHUNK):
        rows = matrix[start : start + CHUNK]
        rows[:] = rng.normal(size=rows.shape) + 4 * rng.integers(k, size=len(rows))[:, None]
        rows[rng.random(len(rows)) < 0.01, 0] = np.nan
    missing = files.empty(n_rows, np.bool_)
    missing[:] = np.isnan(matrix[:, 0])
    features = [Feature("a"), Feature("b", winsorize=(0.01, 0.99)), Feature("c")]
    masks = [missing, None, None]

    tracemalloc.start()
    preparation = fit_preparation(matrix, features, scaling="robust", missing="median")
    prepared, kept = preparation.prepare(matrix, empty=files.empty)
    fit = fit_kmeans(prepared, k, empty=files.empty)
    again = assign(prepared, fit.centroids, empty=files.empty)
    scores = score(prepared, fit.centroids, fit.assignment)
    profiles = profile_segments(prepared, masks, preparation, fit.assignment, k)
    rules = find_rules(prepared, preparation, fit.assignment.labels, k)
    typical = typical_rows(fit.assignment, k)
    bins = bin_features(prepared, masks, preparation)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # Samples and brackets are of a fixed size; one column of float64 would be 32 MB beside them.
    assert peak < 1.1 * 8 * n_rows

    assert isinstance(fit.assignment.labels, np.memmap)
    assert kept.all()
    assert np.array_equal(again.labels, fit.assignment.labels)
    assert scores.silhouette is not None
    assert scores.silhouette > 0.4
    assert [profile.size for profile in profiles[1:]] == fit.assignment.sizes(k).tolist()
    assert profiles[0].features["a"].missing == int(missing.sum())
    own = preparation.inverse_transform(prepared[fit.assignment.labels == 2])[:, 1]
    assert profiles[3].features["b"].median == pytest.approx(np.median(own), rel=1e-9)
    assert profiles[3].features["b"].deviation == pytest.approx(own.std(), rel=1e-9)
    assert all(rule is not None for rule in rules)
    assert [len(rows) for rows in typical] == [3] * k
    assert sum(bins[0].customers) == n_rows
