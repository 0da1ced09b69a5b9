"""From raw columns to the scaled space that K-Means measures distances in.

A prepared value is ``(t(x) - center) / (scale / weight)``, where ``t`` is the transform and a
missing ``x`` is first replaced by ``fill``, both in the column's own units. The scoring SQL
writes the same expression, so that a query and this module give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.errors import DataError

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TRANSFORMS = ("none", "log1p")
SCALINGS = ("standard", "robust", "minmax", "none")
MISSING = ("error", "skip", "mean", "median")


@dataclass(frozen=True)
class Feature:
    """What a definition says of one feature.

    Parameters
    ----------
    column : str
        The source column.
    transform : {"none", "log1p"}, default="none"
        ``log1p`` is ``ln(1 + x)``, for amounts and counts with a long tail.
    weight : float, default=1.0
        The scaled column is multiplied by it, so a weight of 2 counts four times in a
        squared distance. Positive.
    type : {"number", "category", "date"}, default="number"
    winsorize : (float, float), optional
        Quantiles that values outside are pulled in to.
    min_frequency : float, default=0.01
        A category's levels with a smaller share of the rows are grouped.
    max_categories : int, default=20
        At most so many levels, the most frequent; the rest is grouped.
    """

    column: str
    transform: str = "none"
    weight: float = 1.0
    type: str = "number"
    winsorize: tuple[float, float] | None = None
    min_frequency: float = 0.01
    max_categories: int = 20


@dataclass(frozen=True)
class PreparedFeature:
    """How one feature is prepared; all that the scoring SQL needs to know of it.

    Attributes
    ----------
    column : str
        The source column.
    transform : {"none", "log1p"}
    weight, center, scale : float
    fill : float or None
        Stands for a missing value, in the column's own units.
    type : {"number", "category", "date"}
        A category's column has one feature a level, 1 where the row has it and 0 elsewhere; a
        date's value is its age in days at ``reference_date``.
    level : str or None
        Of a category; None stands for every level that has no feature of its own.
    low, high : float or None
        Values outside are pulled in to them, in the column's own units.
    reference_date : str or None
        ``YYYY-MM-DD``.
    """

    column: str
    transform: str
    weight: float
    center: float
    scale: float
    fill: float | None
    type: str = "number"
    level: str | None = None
    low: float | None = None
    high: float | None = None
    reference_date: str | None = None

    @property
    def name(self) -> str:
        """The column, and the level of a category: ``city = Oslo``."""
        if self.type != "category":
            return self.column
        return f"{self.column} = {'(other)' if self.level is None else self.level}"

    @property
    def divisor(self) -> float:
        """What a centred value is divided by."""
        return self.scale / self.weight

    def apply(self, values: Vector) -> Vector:
        """Prepare one column; NaN becomes ``fill``, or stays NaN where there is none."""
        if self.fill is not None:
            values = np.where(np.isnan(values), self.fill, values)
        prepared = forward(self.transform, values) - self.center
        prepared /= self.divisor
        return prepared

    def invert(self, prepared: Vector) -> Vector:
        """Back to the column's own units."""
        own = prepared * self.divisor
        own += self.center
        return backward(self.transform, own)


def forward(transform: str, values: Vector) -> Vector:
    """Apply a transform to values in the column's own units."""
    return np.log1p(values) if transform == "log1p" else values


def backward(transform: str, values: Vector) -> Vector:
    """Undo :func:`forward`."""
    return np.expm1(values) if transform == "log1p" else values


@dataclass(frozen=True)
class Preparation:
    """The preparation of every feature, fitted on the rows of one run.

    Attributes
    ----------
    features : tuple of PreparedFeature
    scaling : {"standard", "robust", "minmax", "none"}
    missing : {"error", "skip", "mean", "median"}
        What happens to a row with a missing value: ``error`` refuses the rows, ``skip``
        leaves the row unlabelled, ``mean`` and ``median`` fill it in from the fitted rows.
    """

    features: tuple[PreparedFeature, ...]
    scaling: str
    missing: str

    @property
    def columns(self) -> list[str]:
        """The source columns, in the order in which raw rows hold them."""
        return list(dict.fromkeys(feature.column for feature in self.features))

    def levels(self, column: str) -> list[str]:
        """The levels of a category that have a feature of their own."""
        return [f.level for f in self.features if f.column == column and f.level is not None]

    def transform_in_place(self, matrix: Matrix) -> Mask:
        """Prepare raw rows where they lie.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, n_features)
            Raw values, NaN where missing. Overwritten; the rows to keep come first, so use
            ``matrix[:kept.sum()]``.

        Returns
        -------
        kept : ndarray of bool of shape (n_rows,)
            False for the rows that ``missing="skip"`` leaves out.

        Raises
        ------
        DataError
            For infinite values, values outside a transform's domain, or missing values
            where ``missing="error"``; all columns' problems at once.
        """
        problems: list[str] = []
        missing = np.zeros(len(matrix), dtype=bool)
        for position, feature in enumerate(self.features):
            column = np.ascontiguousarray(matrix[:, position])
            absent = np.isnan(column)
            problems += _value_problems(column, absent, feature.column, feature.transform)
            if self.missing == "error":
                problems += _missing_problems(absent, feature.column)
            if not problems:
                if self.missing == "skip":
                    missing |= absent
                matrix[:, position] = feature.apply(column)
        if problems:
            raise DataError(problems)
        kept = ~missing
        compact_rows(matrix, kept)
        return kept

    def transform(self, matrix: npt.ArrayLike) -> Matrix:
        """Prepare a copy of raw rows; a row that has a missing value and no fill is NaN."""
        raw = np.asarray(matrix, dtype=np.float64)
        return np.column_stack([f.apply(raw[:, j]) for j, f in enumerate(self.features)])

    def inverse_transform(self, prepared: npt.ArrayLike) -> Matrix:
        """Prepared rows or centroids, of shape (n, n_features), in the columns' own units."""
        points = np.asarray(prepared, dtype=np.float64)
        return np.column_stack([f.invert(points[:, j]) for j, f in enumerate(self.features)])


def compact_rows(matrix: Matrix, kept: Mask) -> None:
    """Move the kept rows to the front, a block at a time, so that no second matrix is made."""
    if kept.all():
        return
    block, end = 65536, 0
    for start in range(0, len(matrix), block):
        rows = matrix[start : start + block][kept[start : start + block]]
        matrix[end : end + len(rows)] = rows
        end += len(rows)


def fit_preparation(
    matrix: Matrix, features: Sequence[Feature], *, scaling: str, missing: str
) -> Preparation:
    """Learn centres, scales and fill values from raw rows.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Raw values in the columns' own units, NaN where missing. Not changed.
    features : sequence of Feature
    scaling : {"standard", "robust", "minmax", "none"}
        ``standard`` subtracts the mean and divides by the population deviation, ``robust``
        uses the median and the interquartile range, ``minmax`` maps to 0..1: scikit-learn's
        StandardScaler, RobustScaler and MinMaxScaler.
    missing : {"error", "skip", "mean", "median"}

    Returns
    -------
    Preparation

    Raises
    ------
    DataError
        For columns that cannot be used: infinite, constant, empty, out of a transform's
        domain, missing where that is an error; all problems of all columns at once.
    """
    usable = np.ones(len(matrix), dtype=bool)
    if missing == "skip":
        for position in range(matrix.shape[1]):
            usable &= ~np.isnan(matrix[:, position])
        if len(matrix) and not usable.any():
            raise DataError(
                f'missing = "skip" leaves no row: each of the {len(matrix):,} rows has a NULL in '
                f"{', '.join(f.column for f in features)}"
            )
    everything = bool(usable.all())
    problems: list[str] = []
    prepared: list[PreparedFeature] = []
    for position, feature in enumerate(features):
        column = np.ascontiguousarray(matrix[:, position])
        result = _fit_feature(column if everything else column[usable], feature, scaling, missing)
        if isinstance(result, PreparedFeature):
            prepared.append(result)
        else:
            problems += result
    if problems:
        raise DataError(problems)
    return Preparation(tuple(prepared), scaling, missing)


def _fit_feature(
    column: Vector, feature: Feature, scaling: str, missing: str
) -> PreparedFeature | list[str]:
    absent = np.isnan(column)
    problems = _value_problems(column, absent, feature.column, feature.transform)
    if missing == "error":
        problems += _missing_problems(absent, feature.column)
    if problems:
        return problems
    present = column[~absent] if absent.any() else column
    if not len(present):
        return [f"{feature.column}: every value is NULL, so there is nothing to cluster by"]
    fill = _fill_value(present, missing)
    values = forward(feature.transform, present)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [
            f"{feature.column}: constant ({_plain(float(present[0]))} in all {len(present):,} "
            "rows), so it separates nobody; remove it from features"
        ]
    if fill is not None and absent.any():
        # Scale on what K-Means will see: the filled column.
        values = forward(feature.transform, np.where(absent, fill, column))
    center, scale = _center_and_scale(values, scaling)
    if scale == 0 and scaling == "robust":
        return [
            f'{feature.column}: its interquartile range is 0, so scaling = "robust" cannot '
            'scale it; use "standard" or "minmax"'
        ]
    if not (np.isfinite(center) and np.isfinite(scale) and scale > 0):
        return [
            f"{feature.column}: from {_plain(low)} to {_plain(high)}, which scaling = "
            f'"{scaling}" cannot compute with; change its unit'
        ]
    return PreparedFeature(
        feature.column, feature.transform, float(feature.weight), center, scale,
        fill,
    )  # fmt: skip


def _fill_value(present: Vector, missing: str) -> float | None:
    if missing == "mean":
        return float(present.mean())
    return float(np.median(present)) if missing == "median" else None


def _center_and_scale(values: Vector, scaling: str) -> tuple[float, float]:
    if scaling == "standard":
        return float(values.mean()), float(values.std())
    if scaling == "robust":
        low, middle, high = np.percentile(values, [25, 50, 75])
        return float(middle), float(high - low)
    if scaling == "minmax":
        low, high = values.min(), values.max()
        return float(low), float(high - low)
    return 0.0, 1.0


def _value_problems(column: Vector, absent: Mask, name: str, transform: str) -> list[str]:
    infinite = int(np.isinf(column).sum())
    if infinite:
        return [f"{name}: {_rows(infinite)} infinite; every value must be a finite number or NULL"]
    if transform == "log1p":
        outside = int((column[~absent] <= -1).sum())
        if outside:
            return [
                f"{name}: {_rows(outside)} -1 or less, where log1p has no value; "
                'use transform = "none" or correct the rows'
            ]
    return []


def _missing_problems(absent: Mask, name: str) -> list[str]:
    count = int(absent.sum())
    if not count:
        return []
    return [
        f'{name}: {_rows(count)} NULL and missing = "error"; '
        'correct the rows, or set missing to "skip", "mean" or "median"'
    ]


def _rows(count: int) -> str:
    return f"{count:,} row is" if count == 1 else f"{count:,} rows are"


def _plain(value: float) -> str:
    return f"{value:.12g}"


def preparation_from_rows(
    rows: Iterable[Mapping[str, Any]], *, scaling: str, missing: str
) -> Preparation:
    """Read what :func:`preparation_to_rows` wrote; a date may come as one or as text."""
    features = tuple(
        PreparedFeature(
            row["source_column"] or row["feature"], row["transform"], row["weight"],
            row["center"], row["scale"], row["fill"], row["type"], row["level"], row["low"],
            row["high"], None if row["reference_date"] is None else str(row["reference_date"]),
        )
        for row in sorted(rows, key=lambda row: row["position"])
    )  # fmt: skip
    return Preparation(features, scaling, missing)


def preparation_to_rows(preparation: Preparation) -> list[dict[str, Any]]:
    """One row a feature, as the table ``model_feature`` keeps them."""
    return [
        {
            "position": position,
            "feature": feature.name,
            "transform": feature.transform,
            "weight": feature.weight,
            "center": feature.center,
            "scale": feature.scale,
            "fill": feature.fill,
            "source_column": feature.column,
            "type": feature.type,
            "level": feature.level,
            "low": feature.low,
            "high": feature.high,
            "reference_date": feature.reference_date,
        }
        for position, feature in enumerate(preparation.features, start=1)
    ]
