"""Means, deviations and quantiles of a column, of rows that count alike or by their weight.

A weighted quantile is the mean of the sorted values over a window of the cumulated weight that is
as wide as one of the effective number of rows (Akinshin, 2023, "Weighted quantile estimators").
With equal weights that is NumPy's default (type 7 of Hyndman & Fan, 1996, "Sample quantiles in
statistical packages").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import TypeVar

import numpy as np

from sqlkmeans.clustering.arrays.chunks import map_chunks
from sqlkmeans.clustering.arrays.types import Vector
from sqlkmeans.clustering.preparation.quantiles import (
    SMALL,
    Bracket,
    Cut,
    Wanted,
    between,
    linear_ranks,
    order_statistics,
)

T = TypeVar("T")

#: Places from which the sample for a quantile is taken, and rows at each.
SAMPLE_PLACES, SAMPLE_ROWS = 2_500, 20


@dataclass(frozen=True)
class Values:
    """Values without NaN, a chunk of rows at a time.

    Attributes
    ----------
    n_rows : int
        Rows to go through; not each need have a value.
    chunk : callable
        From start and stop to the values of these rows and their weights (all above 0), or None
        where rows count alike.
    """

    n_rows: int
    chunk: Callable[[int, int], tuple[Vector, Vector | None]]

    def map(self, function: Callable[[Vector, Vector | None], T]) -> list[T]:
        """Call a function with each chunk, on all cores; results in row order."""
        return map_chunks(self.n_rows, lambda start, stop: function(*self.chunk(start, stop)))

    def total(self, function: Callable[[Vector, Vector | None], float]) -> float:
        """The sum of a function's results over all chunks."""
        return fsum(self.map(function))

    def then(self, change: Callable[[Vector], Vector]) -> Values:
        """The same values, each changed."""

        def chunk(start: int, stop: int) -> tuple[Vector, Vector | None]:
            values, weights = self.chunk(start, stop)
            return change(values), weights

        return Values(self.n_rows, chunk)

    def count(self) -> int:
        """How many there are."""
        return sum(self.map(lambda values, _: len(values)))

    def extremes(self) -> tuple[float, float]:
        """The least and the greatest; there has to be one."""
        found = self.map(lambda v, _: (v.min(initial=np.inf), v.max(initial=-np.inf)))
        lows, highs = zip(*found)
        return float(min(lows)), float(max(highs))

    def weight(self) -> float:
        """The sum of the weights."""
        return self.total(lambda v, w: float(len(v)) if w is None else float(w.sum()))

    def mean(self) -> float:
        """Weighted mean."""
        total = self.total(lambda v, w: float(v.sum() if w is None else (v * w).sum()))
        return total / self.weight()

    def deviation(self, mean: float) -> float:
        """Weighted deviation from the mean, the population's."""

        def squares(values: Vector, weights: Vector | None) -> float:
            difference = values - mean
            with np.errstate(over="ignore"):  # the caller refuses an infinite scale
                difference *= difference
            return float(difference.sum() if weights is None else (difference * weights).sum())

        return sqrt(self.total(squares) / self.weight())

    def quantiles(self, at: Sequence[float]) -> list[float]:
        """Quantiles; ``at`` from 0 to 1. With weights, all values are held in memory."""
        weighted = self.n_rows > 0 and self.chunk(0, 1)[1] is not None
        if weighted:
            parts = self.map(lambda values, weights: (values, weights))
            values, weights = (np.concatenate(part) for part in zip(*parts))
            return weighted_quantiles(values, at, weights)
        count, sample = self.count(), self._sample()
        ranks = [linear_ranks(count, share) for share in at]
        found = order_statistics(
            [Wanted((low, high), count, sample) for low, high, _ in ranks], self._cut
        )
        return [between(low, high, part) for (low, high), (_, _, part) in zip(found, ranks)]

    def _cut(self, asked: Sequence[tuple[int, Bracket]]) -> list[list[Cut]]:
        chunks = self.map(lambda values, _: [bracket.cut(values) for _, bracket in asked])
        return [list(cuts) for cuts in zip(*chunks)]

    def _sample(self) -> Vector:
        if self.n_rows <= SMALL:
            return np.empty(0)
        starts = np.linspace(0, self.n_rows - SAMPLE_ROWS, SAMPLE_PLACES).astype(np.int64)
        parts = [self.chunk(start, start + SAMPLE_ROWS)[0] for start in starts.tolist()]
        return np.sort(np.concatenate(parts))


def without_missing(values: Values) -> Values:
    """Those that are not NaN."""

    def chunk(start: int, stop: int) -> tuple[Vector, Vector | None]:
        found, weights = values.chunk(start, stop)
        known = ~np.isnan(found)
        return found[known], None if weights is None else weights[known]

    return Values(values.n_rows, chunk)


def weighted_quantiles(values: Vector, at: Sequence[float], weights: Vector) -> list[float]:
    """Quantiles of values without NaN; ``at`` from 0 to 1, ``weights`` above 0."""
    order = np.argsort(values, kind="stable")
    shares = weights[order] / weights.sum()
    ends = np.cumsum(shares)
    ends /= ends[-1]
    effective = float(1 / (shares**2).sum())  # Kish's number
    return [_window_mean(values[order], ends, share, effective) for share in at]


def _window_mean(values: Vector, ends: Vector, at: float, effective: float) -> float:
    """Mean of the sorted values over the window of a quantile."""
    low = at * max(effective - 1, 0) / effective
    high = min(low + 1 / effective, 1.0)
    first, last = np.searchsorted(ends, [low, high], side="left")
    rows = slice(int(first), min(int(last) + 1, len(values)))
    edges = np.clip(np.concatenate([[low], ends[rows]]), low, high)
    widths = np.diff(edges)
    widths[widths < 1e-9 / effective] = 0  # a neighbour that only rounding brings in
    if not widths.any():  # so many rows that the window is less than a rounding
        return float(values[rows][-1])
    return float(np.average(values[rows], weights=widths))


def fill_value(present: Values, missing: str) -> float | None:
    """What stands for a missing value; None where nothing does."""
    if missing == "mean":
        return present.mean()
    if missing == "median":
        return present.quantiles([0.5])[0]
    return None


def center_and_scale(values: Values, scaling: str) -> tuple[float, float]:
    """What is subtracted from transformed values, and what the rest is divided by."""
    if scaling == "standard":
        center = values.mean()
        return center, values.deviation(center)
    if scaling == "robust":
        low, middle, high = values.quantiles([0.25, 0.5, 0.75])
        return middle, high - low
    if scaling == "minmax":
        low, high = values.extremes()
        return low, high - low
    return 0.0, 1.0
