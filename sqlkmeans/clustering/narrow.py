"""Rows of half the size for a fit: float32, scaled by what is learnt while they come.

A centred value in float32 is off by less than 1e-7 of its distance from the centre, which moves
centroids of many rows by far less than K-Means' tolerance does. Nothing else is computed from such
rows: labels, distances and what describes them come from the columns' own values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.chunks import Empty, map_chunks
from sqlkmeans.clustering.preparation import (
    Feature,
    Preparation,
    PreparedFeature,
    days_since_1970,
    forward,
)
from sqlkmeans.clustering.problems import may_be_key_like

Vector = npt.NDArray[np.float64]
#: Of float32; functions of rows take it as they take one of float64.
NarrowMatrix = npt.NDArray[Any]

# Centred values up to this keep their digits in float32, and their squares in float64.
MOST = 1e30


class NotNarrow(Exception):
    """These rows are not for this way: something has to be filled in, or to be refused in words."""


def can_be_narrow(features: Sequence[Feature], scaling: str, missing: str) -> bool:
    """Whether what prepares these features is known from sums and extremes of their columns."""
    return (
        scaling != "robust"
        and missing == "error"
        and all(
            feature.winsorize is None
            and (feature.type == "number" or (feature.type, feature.transform) == ("date", "none"))
            for feature in features
        )
    )


@dataclass
class _Column:
    """One column so far: transformed values about one that lies among them."""

    about: float | None = None
    total: float = 0.0
    squares: float = 0.0
    # Before the transform.
    low: float = inf
    high: float = -inf

    def take(self, raw: Vector, transform: str, narrow: npt.NDArray[np.float32]) -> None:
        low, high = float(raw.min()), float(raw.max())
        # What is not a number is neither.
        if not (isfinite(low) and isfinite(high)) or (transform == "log1p" and low <= -1):
            raise NotNarrow
        self.low, self.high = min(self.low, low), max(self.high, high)
        values = forward(transform, raw)
        if self.about is None:
            self.about = float(values.mean())
        values = values - self.about
        narrow[:] = values
        self.total += float(values.sum())
        values *= values  # no product of vectors, for which BLAS would wake up its threads
        self.squares += float(values.sum())


@dataclass
class NarrowRows:
    """Rows that a fit needs no more of, filled as they come.

    Parameters
    ----------
    features : sequence of Feature
        Such as :func:`can_be_narrow` allows.
    scaling : {"standard", "minmax", "none"}
    n_rows : int
        How many will come.
    empty : callable, default=numpy.empty
        Makes the matrix.

    Raises
    ------
    NotNarrow
        From :meth:`add` and :meth:`check`, where
        :func:`~sqlkmeans.clustering.fitting.fit_preparation` has to see the rows: it fills in and
        refuses.
    """

    features: Sequence[Feature]
    scaling: str
    n_rows: int
    empty: Empty = np.empty
    count: int = field(default=0, init=False)
    _columns: list[_Column] = field(init=False)
    _values: NarrowMatrix = field(init=False)

    def __post_init__(self) -> None:
        self._columns = [_Column() for _ in self.features]
        self._values = self.empty((len(self.features), self.n_rows), np.float32)

    def add(self, columns: Sequence[Vector]) -> None:
        """Take the next rows' raw values, one array a feature."""
        end = self.count + len(columns[0])
        if end > self.n_rows:
            raise NotNarrow
        with np.errstate(over="ignore"):
            for position, (feature, raw) in enumerate(zip(self.features, columns)):
                narrow = self._values[position, self.count : end]
                self._columns[position].take(raw, feature.transform, narrow)
        self.count = end

    def check(self) -> None:
        """Look whether all that came can be scaled; after the last of them."""
        for column, feature in zip(self._columns, self.features):
            if not column.low < column.high or not column.squares < MOST:
                raise NotNarrow
            if feature.type == "number" and may_be_key_like(self.count, column.low, column.high):
                raise NotNarrow
            # The scale of a date is that of its ages on any day.
            scaled = self._prepared(column, feature, "1970-01-01")
            if not (isfinite(scaled.center) and isfinite(scaled.scale) and scaled.scale > 0):
                raise NotNarrow

    def finish(self, reference_date: str) -> tuple[NarrowMatrix, Preparation]:
        """Scale all rows, where they lie; :meth:`check` comes before.

        Returns
        -------
        matrix : ndarray of float32 of shape (n_rows, n_features)
        preparation : Preparation
            The one that ``fit_preparation`` finds, but for rounding.
        """
        prepared = [
            self._prepared(column, feature, reference_date)
            for column, feature in zip(self._columns, self.features)
        ]
        values = self._values[:, : self.count]
        for row, column, feature in zip(values, self._columns, prepared):
            _scale(row, feature, float(column.about or 0.0))
        return values.T, Preparation(tuple(prepared), self.scaling, "error")

    def _prepared(self, column: _Column, feature: Feature, today: str) -> PreparedFeature:
        dated = feature.type == "date"
        shift = column.total / self.count
        mean = float(column.about or 0.0) + shift
        low, high = forward(feature.transform, np.array([column.low, column.high])).tolist()
        if dated:
            day = days_since_1970(today)
            mean, low, high = day - mean, day - high, day - low
        center, scale = 0.0, 1.0
        if self.scaling == "standard":
            center = mean
            scale = sqrt(max(0.0, column.squares / self.count - shift * shift))
        elif self.scaling == "minmax":
            center, scale = low, high - low
        return PreparedFeature(
            feature.column, feature.transform, float(feature.weight), center, scale, None,
            feature.type, reference_date=today if dated else None,
        )  # fmt: skip


def _scale(values: npt.NDArray[np.float32], feature: PreparedFeature, about: float) -> None:
    """Prepare values that are centred about one before they are ages."""
    if feature.reference_date is None:
        factor, shift = 1 / feature.divisor, (about - feature.center) / feature.divisor
    else:
        of_about = days_since_1970(feature.reference_date) - about
        factor, shift = -1 / feature.divisor, (of_about - feature.center) / feature.divisor

    def scale(start: int, stop: int) -> None:
        values[start:stop] = values[start:stop].astype(np.float64) * factor + shift

    map_chunks(len(values), scale)
