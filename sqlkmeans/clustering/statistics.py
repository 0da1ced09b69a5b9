"""Means, deviations and quantiles of a column, of rows that count alike or by their weight.

A weighted quantile is the mean of the sorted values over a window of the cumulated weight that is
as wide as one of the effective number of rows (Akinshin, 2023, "Weighted quantile estimators").
With equal weights that is NumPy's default (type 7 of Hyndman & Fan, 1996, "Sample quantiles in
statistical packages").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def mean(values: Vector, weights: Vector | None) -> float:
    """Weighted mean of values without NaN."""
    return float(values.mean() if weights is None else np.average(values, weights=weights))


def quantiles(values: Vector, at: Sequence[float], weights: Vector | None) -> list[float]:
    """Quantiles of values without NaN; ``at`` from 0 to 1, ``weights`` above 0."""
    if weights is None:
        return [float(value) for value in np.quantile(values, at)]
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


def fill_value(present: Vector, weights: Vector | None, missing: str) -> float | None:
    """What stands for a missing value; None where nothing does."""
    if missing == "mean":
        return mean(present, weights)
    if missing == "median":
        return (
            float(np.median(present)) if weights is None else quantiles(present, [0.5], weights)[0]
        )
    return None


def center_and_scale(values: Vector, weights: Vector | None, scaling: str) -> tuple[float, float]:
    """What is subtracted from transformed values, and what the rest is divided by."""
    if scaling == "standard":
        center = mean(values, weights)
        if weights is None:
            return center, float(values.std())
        return center, float(np.sqrt(np.average((values - center) ** 2, weights=weights)))
    if scaling == "robust":
        low, middle, high = quantiles(values, [0.25, 0.5, 0.75], weights)
        return middle, high - low
    if scaling == "minmax":
        low, high = float(values.min()), float(values.max())
        return low, high - low
    return 0.0, 1.0
