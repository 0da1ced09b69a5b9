"""Rows of half the size for a fit: float32, scaled by what is learnt while they come.

A centred value in float32 is off by less than 1e-7 of its distance from the centre, which moves
centroids of many rows by far less than K-Means' tolerance does. Nothing else is computed from such
rows: labels, distances and what describes them come from the columns' own values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import Empty, map_chunks
from sqlkmeans.clustering.arrays.types import Vector
from sqlkmeans.clustering.preparation.preparation import (
    Feature,
    Preparation,
    PreparedFeature,
    days_since_1970,
)
from sqlkmeans.clustering.preparation.problems import may_be_key_like
from sqlkmeans.clustering.preparation.transforms import forward

#: Of float32; functions of rows take it as they take one of float64.
Float32Matrix = npt.NDArray[Any]

# Centred values up to this keep their digits in float32, and their squares in float64.
MOST = 1e30


class NeedsFloat64(Exception):
    """These rows are not for this way: something has to be filled in, or to be refused in words."""


def can_be_float32(features: Sequence[Feature], scaling: str, missing: str) -> bool:
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


class _Column(NamedTuple):
    """What is known of a column: of transformed values about one among them, and of raw ones."""

    about: float
    total: float
    squares: float
    low: float
    high: float


@dataclass
class Float32Rows:
    """Rows that a fit needs no more of, filled as they come.

    Parameters
    ----------
    features : sequence of Feature
        Such as :func:`can_be_float32` allows.
    scaling : {"standard", "minmax", "none"}
    n_rows : int
        How many will come.
    empty : callable, default=numpy.empty
        Makes the matrix.

    Raises
    ------
    NeedsFloat64
        From :meth:`add` and :meth:`check`, where
        :func:`~sqlkmeans.clustering.preparation.learning.fit_preparation` has to see the rows: it
        fills in and refuses.
    """

    features: Sequence[Feature]
    scaling: str
    n_rows: int
    empty: Empty = np.empty
    count: int = field(default=0, init=False)
    _values: Float32Matrix = field(init=False)
    # Of each feature, as a _Column has them.
    _about: Vector = field(init=False)
    _sums: Vector = field(init=False)
    _squares: Vector = field(init=False)
    _lows: Vector = field(init=False)
    _highs: Vector = field(init=False)
    #: Where some rows are prepared: memory that has been used needs not be cleared.
    _work: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        n_features = len(self.features)
        self._values = self.empty((n_features, self.n_rows), np.float32)
        self._lows, self._highs = np.full(n_features, inf), np.full(n_features, -inf)
        self._about, self._sums, self._squares = np.zeros((3, n_features))
        self._work = np.empty((n_features, 0))

    def add(self, columns: Sequence[Vector]) -> None:
        """Take the next rows' raw values, one array a feature."""
        end = self.count + len(columns[0])
        if end > self.n_rows:
            raise NeedsFloat64
        # All features at once: few long operations, between which another thread can have the
        # interpreter, instead of many short ones.
        if self._work.shape[1] < end - self.count:
            self._work = np.empty((len(columns), end - self.count))
        values = self._work[:, : end - self.count]
        for row, column in zip(values, columns):
            row[:] = column
        self._lows = np.minimum(self._lows, values.min(axis=1))
        self._highs = np.maximum(self._highs, values.max(axis=1))
        # What is not a number is neither.
        if not np.isfinite(self._lows + self._highs).all():
            raise NeedsFloat64
        for row, feature, low in zip(values, self.features, self._lows):
            if feature.transform == "log1p" and low <= -1:
                raise NeedsFloat64
            if feature.transform != "none":
                row[:] = forward(feature.transform, row)
        if not self.count:
            self._about = values.mean(axis=1)
        with np.errstate(over="ignore"):
            values -= self._about[:, None]
            self._values[:, self.count : end] = values
            self._sums += values.sum(axis=1)
            values *= values
            self._squares += values.sum(axis=1)
        self.count = end

    def check(self) -> None:
        """Look whether all that came can be scaled; after the last of them."""
        for column, feature in zip(self._columns(), self.features):
            if not column.low < column.high or not column.squares < MOST:
                raise NeedsFloat64
            if feature.type == "number" and may_be_key_like(self.count, column.low, column.high):
                raise NeedsFloat64
            # The scale of a date is that of its ages on any day.
            scaled = self._prepared(column, feature, "1970-01-01")
            if not (isfinite(scaled.center) and isfinite(scaled.scale) and scaled.scale > 0):
                raise NeedsFloat64

    def finish(self, reference_date: str) -> tuple[Float32Matrix, Preparation]:
        """Scale all rows, where they lie; :meth:`check` comes before.

        Returns
        -------
        matrix : ndarray of float32 of shape (n_rows, n_features)
        preparation : Preparation
            The one that ``fit_preparation`` finds, but for rounding.
        """
        columns = self._columns()
        prepared = [
            self._prepared(column, feature, reference_date)
            for column, feature in zip(columns, self.features)
        ]
        values = self._values[:, : self.count]
        for row, column, feature in zip(values, columns, prepared):
            _scale(row, feature, column.about)
        return values.T, Preparation(tuple(prepared), self.scaling, "error")

    def _columns(self) -> list[_Column]:
        of_features = (self._about, self._sums, self._squares, self._lows, self._highs)
        return [_Column(*told) for told in np.array(of_features).T.tolist()]

    def _prepared(self, column: _Column, feature: Feature, today: str) -> PreparedFeature:
        dated = feature.type == "date"
        shift = column.total / self.count
        mean = column.about + shift
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
