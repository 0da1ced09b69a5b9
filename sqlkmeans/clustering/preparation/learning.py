"""What the preparation learns from the rows of a run: fills, quantiles, levels, centres, scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sqlkmeans.clustering.arrays.chunks import map_chunks
from sqlkmeans.clustering.arrays.types import Mask, Matrix, Vector
from sqlkmeans.clustering.preparation.categories import fit_category
from sqlkmeans.clustering.preparation.preparation import (
    Feature,
    Preparation,
    PreparedFeature,
    Texts,
    days_since_1970,
)
from sqlkmeans.clustering.preparation.problems import (
    constant,
    counted_almost_missing_problems,
    counted_missing_problems,
    counted_value_problems,
    empty,
    key_like_problems,
    plain,
    scale_problems,
    weight_problems,
)
from sqlkmeans.clustering.preparation.statistics import (
    Values,
    center_and_scale,
    fill_value,
    without_missing,
)
from sqlkmeans.clustering.preparation.transforms import forward
from sqlkmeans.errors import DataError


def fit_preparation(
    matrix: Matrix,
    features: Sequence[Feature],
    *,
    scaling: str,
    missing: str,
    texts: Texts | None = None,
    sample_weight: Vector | None = None,
    reference_date: str | None = None,
) -> Preparation:
    """Learn centres, scales and fill values from raw rows.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_columns)
        Raw values, NaN where missing: numbers in the columns' own units, dates as days since
        1970-01-01, categories as codes. Not changed.
    features : sequence of Feature
        One a column.
    scaling : {"standard", "robust", "minmax", "none"}
        ``standard`` subtracts the mean and divides by the population deviation, ``robust``
        uses the median and the interquartile range, ``minmax`` maps to 0..1: scikit-learn's
        StandardScaler, RobustScaler and MinMaxScaler. A category has one scale for all of its
        levels; see :func:`~sqlkmeans.clustering.preparation.categories.fit_category`.
    missing : {"error", "skip", "mean", "median"}
    texts : dict of str to (sequence of str), optional
        What the codes of each category stand for.
    sample_weight : ndarray of shape (n_rows,), optional
        How much a row counts in every statistic; a row of weight 0 does not.
    reference_date : str, optional
        ``YYYY-MM-DD``, the day on which dates are aged; needed where there is a date.

    Returns
    -------
    Preparation

    Raises
    ------
    DataError
        For columns that cannot be used: infinite, constant, empty or almost so, like a key, out
        of a transform's domain, missing where that is an error; all problems of all columns at
        once.
    """
    rows, problems = _usable(matrix, features, missing, sample_weight)
    prepared: list[PreparedFeature] = []
    for position, feature in enumerate(features):
        if missing != "error":
            absent = sum(map_chunks(len(matrix), partial(_count_missing, matrix, position)))
            almost = counted_almost_missing_problems(absent, len(matrix), feature.column)
            if almost:
                problems += almost
                continue
        try:
            prepared += _fit_feature(
                _Column(rows, position), feature, scaling, missing,
                (texts or {}).get(feature.column, ()), reference_date,
            )  # fmt: skip
        except DataError as error:
            problems += error.problems
    problems += repeated_names(prepared)
    if problems:
        raise DataError(problems)
    return Preparation(tuple(prepared), scaling, missing)


@dataclass(frozen=True)
class _Rows:
    """The rows to learn from: those with a weight, and with ``skip`` those that lack nothing."""

    matrix: Matrix
    weights: Vector | None
    skip: bool

    def usable(self, start: int, stop: int) -> Mask | None:
        """Which of these rows are; None for all."""
        usable: Mask | None = None
        if self.weights is not None:
            usable = np.asarray(self.weights[start:stop] > 0)
        if self.skip:
            known: Mask = np.asarray(~np.isnan(self.matrix[start:stop]).any(axis=1))
            return known if usable is None else known & usable
        return usable


@dataclass(frozen=True)
class _Column:
    """A column of the rows to learn from."""

    rows: _Rows
    position: int

    @property
    def n_rows(self) -> int:
        return len(self.rows.matrix)

    def chunk(self, start: int, stop: int) -> tuple[Vector, Vector | None]:
        """Values, NaN where missing, and weights."""
        values = np.ascontiguousarray(self.rows.matrix[start:stop, self.position])
        weights = None if self.rows.weights is None else self.rows.weights[start:stop]
        usable = self.rows.usable(start, stop)
        if usable is None or usable.all():
            return values, weights
        return values[usable], None if weights is None else weights[usable]

    def own(self, reference_date: str | None) -> Values:
        """Values in own units, a date's as ages; NaN where missing."""
        own = Values(self.n_rows, self.chunk)
        if reference_date is None:
            return own
        today = days_since_1970(reference_date)
        return own.then(lambda days: today - days)


def _count_missing(matrix: Matrix, position: int, start: int, stop: int) -> int:
    return int(np.count_nonzero(np.isnan(matrix[start:stop, position])))


def _usable(
    matrix: Matrix,
    features: Sequence[Feature],
    missing: str,
    sample_weight: Vector | None,
) -> tuple[_Rows, list[str]]:
    """The rows to learn from."""
    problems = [] if sample_weight is None else weight_problems(sample_weight)
    rows = _Rows(matrix, None if problems else sample_weight, missing == "skip")

    def any_usable(start: int, stop: int) -> bool:
        usable = rows.usable(start, stop)
        return usable is None or bool(usable.any())

    if rows.skip and len(matrix) and not any(map_chunks(len(matrix), any_usable)):
        raise DataError(
            f'missing = "skip" leaves no row: each of the {len(matrix):,} rows has a NULL in '
            f"{', '.join(f.column for f in features)}"
        )
    return rows, problems


def repeated_names(prepared: Sequence[PreparedFeature]) -> Iterator[str]:
    """Features that would have the same name, in words."""
    names = [feature.name for feature in prepared]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name}: two features would have this name; rename the column or the level"


def _fit_feature(
    column: _Column,
    feature: Feature,
    scaling: str,
    missing: str,
    texts: Sequence[str],
    reference_date: str | None,
) -> list[PreparedFeature]:
    """One column's features, from its usable rows.

    Raises
    ------
    DataError
    """
    if feature.type == "category":
        return fit_category(column.own(None), feature, texts, scaling, missing)
    if feature.type == "date":
        if reference_date is None:
            raise ValueError(f"{feature.column} is a date, which needs a reference_date")
        return [_fit_number(column.own(reference_date), feature, scaling, missing, reference_date)]
    return [_fit_number(column.own(None), feature, scaling, missing, None)]


@dataclass(frozen=True)
class _Facts:
    """What one look at a column tells."""

    rows: int
    missing: int
    infinite: int

    @classmethod
    def of(cls, own: Values) -> _Facts:
        def look(values: Vector, _: object) -> tuple[int, int, int]:
            infinite = int(np.count_nonzero(np.isinf(values)))
            return len(values), int(np.count_nonzero(np.isnan(values))), infinite

        return cls(*(sum(counts) for counts in zip(*own.map(look), (0, 0, 0))))


def _fit_number(
    own: Values,
    feature: Feature,
    scaling: str,
    missing: str,
    reference_date: str | None,
) -> PreparedFeature:
    """A number's or an age's preparation, from values in own units."""
    name, transform = feature.column, feature.transform
    facts = _Facts.of(own)
    known = facts.rows - facts.missing
    present = without_missing(own) if facts.missing else own
    low, high = None, None
    if feature.winsorize is not None and known and not facts.infinite:
        low, high = present.quantiles(feature.winsorize)
    limits = partial(_pulled_in, low, high)
    within = present.then(limits)
    outside = int(within.total(_not_for_log1p)) if transform == "log1p" else 0
    absent = facts.missing if missing == "error" else 0
    _require(counted_value_problems(facts.infinite, outside, name)
             + counted_missing_problems(absent, name))  # fmt: skip
    if not known:
        raise DataError(empty(name))
    extremes = present.extremes()
    lowest, highest = limits(np.array(extremes)).tolist()
    if not lowest < highest:
        winsorized = extremes[0] < extremes[1]
        raise DataError(constant(name, lowest, known, winsorized=winsorized))
    if feature.type == "number":
        _require(key_like_problems(present, known, extremes, name))
    fill = fill_value(present, missing)
    if fill is not None and facts.missing:
        # Scale on what K-Means will see: the filled column.
        within = own.then(partial(_filled, fill)).then(limits)
    center, scale = center_and_scale(within.then(partial(forward, transform)), scaling)
    reach = f"from {plain(lowest)} to {plain(highest)}"
    _require(scale_problems(center, scale, name, scaling, reach))
    return PreparedFeature(
        name, transform, float(feature.weight), center, scale, fill, feature.type,
        low=low, high=high, reference_date=reference_date,
    )  # fmt: skip


def _pulled_in(low: float | None, high: float | None, values: Vector) -> Vector:
    return values if low is None or high is None else np.clip(values, low, high)


def _not_for_log1p(values: Vector, _: object) -> float:
    return float(np.count_nonzero(values <= -1))


def _filled(fill: float, values: Vector) -> Vector:
    return np.where(np.isnan(values), fill, values)


def _require(problems: list[str]) -> None:
    if problems:
        raise DataError(problems)
