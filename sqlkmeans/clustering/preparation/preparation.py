"""From raw columns to the scaled space that K-Means measures distances in.

Raw rows are numbers: a number as it is, a date as days since 1970-01-01, a category as a code, an
index into the texts of its column. In a feature's own units a date is its age in days and a
category is 0 or 1 for each level. A prepared value is ``(t(x) - center) / (scale / weight)``,
where ``t`` is the transform and ``x`` the value in own units, in which ``fill`` stands for what
is missing and what is outside ``low`` and ``high`` is pulled in. The scoring SQL writes the same
expression, so that a query and this module give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import Empty, compact_rows, empty_columns, map_chunks
from sqlkmeans.clustering.arrays.types import Mask, Matrix, Vector
from sqlkmeans.clustering.preparation.problems import (
    counted_missing_problems,
    counted_value_problems,
)
from sqlkmeans.clustering.preparation.transforms import TRANSFORMS, backward, forward
from sqlkmeans.errors import DataError

#: For each column that is a category, what its codes stand for.
Texts = Mapping[str, Sequence[str]]

TYPES = ("number", "category", "date")
SCALINGS = ("standard", "robust", "minmax", "none")
MISSING = ("error", "skip", "mean", "median")
#: What stands for the levels that have no feature of their own.
OTHER = "(other)"


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


def features_from_definition(definition: Mapping[str, Any]) -> list[Feature]:
    """The features of a definition as JSON has it; ``winsorize`` holds for those without one."""
    known = {field.name for field in fields(Feature)}
    features = []
    for given in definition["features"]:
        values = {name: value for name, value in given.items() if name in known}
        quantiles = values.get("winsorize") or definition.get("winsorize")
        category = values.get("type") == "category"
        values["winsorize"] = None if category or quantiles is None else tuple(quantiles)
        features.append(Feature(**values))
    return features


def units_from_definition(definition: Mapping[str, Any]) -> dict[str, str]:
    """The unit of each feature of a definition that has one, by column."""
    return {f["column"]: f["unit"] for f in definition["features"] if f.get("unit")}


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

    def __post_init__(self) -> None:
        # It is written into statements, and may come from a table that others can write.
        if self.type not in TYPES or self.transform not in TRANSFORMS:
            raise ValueError(f"type {self.type!r} and transform {self.transform!r} given")
        if self.reference_date is not None:
            days_since_1970(self.reference_date)

    @property
    def name(self) -> str:
        """The column, and the level of a category: ``city = Oslo``."""
        if self.type != "category":
            return self.column
        return f"{self.column} = {OTHER if self.level is None else self.level}"

    @property
    def divisor(self) -> float:
        """What a centred value is divided by."""
        return self.scale / self.weight

    def from_raw(self, values: Vector) -> Vector:
        """A number or a date in own units: a date as its age."""
        if self.reference_date is None:
            return values
        return days_since_1970(self.reference_date) - values

    def within(self, own: Vector) -> Vector:
        """Fill in what is missing, then pull in what is outside ``low`` and ``high``."""
        if self.fill is not None:
            own = np.where(np.isnan(own), self.fill, own)
        if self.low is None or self.high is None:
            return own
        return np.clip(own, self.low, self.high)

    def scaled(self, own: Vector) -> Vector:
        """Transform and scale values in own units that :meth:`within` has seen."""
        prepared = forward(self.transform, own) - self.center
        prepared /= self.divisor
        return prepared

    def apply(self, own: Vector) -> Vector:
        """Prepare values in own units; NaN becomes ``fill``, or stays NaN where there is none."""
        return self.scaled(self.within(own))

    def invert(self, prepared: Vector) -> Vector:
        """Back to the feature's own units."""
        own = prepared * self.divisor
        own += self.center
        return backward(self.transform, own)


def days_since_1970(text: str) -> int:
    """Of a date written as YYYY-MM-DD."""
    return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()


def indicators(
    codes: Vector, texts: Sequence[str], levels: Sequence[str | None]
) -> Iterator[Vector]:
    """For each level 1 where a row has it and 0 elsewhere; NaN where the row has none.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,)
        Indices into ``texts``, NaN where missing.
    texts : sequence of str
    levels : sequence of (str or None)
        None stands for every text that is not among the others.
    """
    place = {level: position for position, level in enumerate(levels) if level is not None}
    other = levels.index(None) if None in levels else -1
    absent = np.isnan(codes)
    if len(texts):
        places = np.array([place.get(text, other) for text in texts], dtype=np.int16)
        found = places[np.where(absent, 0, codes).astype(np.int64)]
    else:
        found = np.full(len(codes), -1, dtype=np.int16)
    for position in range(len(levels)):
        own = (found == position).astype(np.float64)
        own[absent] = np.nan
        yield own


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

    @property
    def names(self) -> list[str]:
        """One a feature: the column, or the column and the level."""
        return [feature.name for feature in self.features]

    @property
    def types(self) -> dict[str, str]:
        """The type of each source column."""
        return {feature.column: feature.type for feature in self.features}

    def levels(self, column: str) -> list[str]:
        """The levels of a category that have a feature of their own."""
        return [f.level for f in self.features if f.column == column and f.level is not None]

    def of_columns(self, by_column: Sequence[Any]) -> list[Any]:
        """What is given for each source column, for each feature."""
        given = dict(zip(self.columns, by_column))
        return [given[feature.column] for feature in self.features]

    def _own(self, matrix: Matrix, texts: Texts) -> Iterator[tuple[Vector, PreparedFeature]]:
        """The values in own units, feature by feature."""
        for position, column in enumerate(self.columns):
            of_column = [feature for feature in self.features if feature.column == column]
            raw = np.ascontiguousarray(matrix[:, position])
            if of_column[0].type == "category":
                levels = [feature.level for feature in of_column]
                yield from zip(indicators(raw, texts[column], levels), of_column)
            else:
                yield of_column[0].from_raw(raw), of_column[0]

    def prepare(
        self, matrix: Matrix, texts: Texts | None = None, empty: Empty = np.empty
    ) -> tuple[Matrix, Mask]:
        """Prepare raw rows; where they lie, unless a category makes several columns of one.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, n_columns)
            Raw values, NaN where missing. Overwritten where no column is a category.
        texts : dict of str to (sequence of str), optional
            What the codes of each category stand for.
        empty : callable, default=numpy.empty
            Makes arrays as long as the rows.

        Returns
        -------
        prepared : ndarray of shape (n_kept, n_features)
        kept : ndarray of bool of shape (n_rows,)
            False for the rows that ``missing="skip"`` leaves out.

        Raises
        ------
        DataError
            For infinite values, values outside a transform's domain, or missing values
            where ``missing="error"``; all columns' problems at once.
        """
        n_rows, n_features = len(matrix), len(self.features)
        in_place = n_features == matrix.shape[1]
        prepared = matrix if in_place else empty_columns(empty, n_rows, n_features)
        kept = empty((n_rows,), np.bool_)

        def prepare_chunk(start: int, stop: int) -> npt.NDArray[np.int64]:
            rows = slice(start, stop)
            counts = np.zeros((n_features, 3), dtype=np.int64)
            missing = np.zeros(stop - start, dtype=bool)
            for target, (own, feature) in enumerate(self._own(matrix[rows], texts or {})):
                within = feature.within(own)
                absent = np.isnan(own)
                outside = within <= -1 if feature.transform == "log1p" else ()
                counts[target] = [np.count_nonzero(c) for c in (np.isinf(own), outside, absent)]
                missing |= absent
                if not counts[target, :2].any():
                    prepared[rows, target] = feature.scaled(within)
            kept[rows] = True if self.missing != "skip" else ~missing
            return counts

        counts = np.sum(map_chunks(n_rows, prepare_chunk), axis=0) if n_rows else ()
        if problems := self._problems(counts):
            raise DataError(problems)
        compact_rows(prepared, kept)
        return prepared[: int(np.count_nonzero(kept))], kept

    def _problems(self, counts: Sequence[Sequence[int]]) -> list[str]:
        """What is wrong with the rows, from each feature's infinite, undefined, missing values."""
        problems: list[str] = []
        columns: list[str] = []
        for feature, (infinite, outside, absent) in zip(self.features, counts):
            problems += counted_value_problems(int(infinite), int(outside), feature.column)
            # The levels of a category are missing together.
            if self.missing == "error" and feature.column not in columns:
                problems += counted_missing_problems(int(absent), feature.column)
            columns.append(feature.column)
        return problems

    def transform(self, matrix: npt.ArrayLike, texts: Texts | None = None) -> Matrix:
        """Prepare a copy of raw rows; a row that has a missing value and no fill is NaN."""
        raw = np.asarray(matrix, dtype=np.float64)
        return np.column_stack([feature.apply(own) for own, feature in self._own(raw, texts or {})])

    def from_own_units(self, own: npt.ArrayLike) -> Matrix:
        """Undo :meth:`inverse_transform`."""
        points = np.asarray(own, dtype=np.float64)
        return np.column_stack([f.scaled(points[:, j]) for j, f in enumerate(self.features)])

    def inverse_transform(self, prepared: npt.ArrayLike) -> Matrix:
        """Prepared rows or centroids, of shape (n, n_features), in the features' own units."""
        points = np.asarray(prepared, dtype=np.float64)
        return np.column_stack([f.invert(points[:, j]) for j, f in enumerate(self.features)])


def preparation_from_rows(
    rows: Iterable[Mapping[str, Any]], *, scaling: str, missing: str
) -> Preparation:
    """Read what :func:`preparation_to_rows` wrote; a date may come as one or as text.

    Raises
    ------
    DataError
        If a value is not what it has to be.
    """
    try:
        features = tuple(
            PreparedFeature(
                str(row["source_column"] or row["feature"]), row["transform"],
                _number(row["weight"]), _number(row["center"]), _number(row["scale"]),
                _number_or_none(row["fill"]), row["type"], row["level"],
                _number_or_none(row["low"]), _number_or_none(row["high"]),
                _date_or_none(row["reference_date"]),
            )
            for row in sorted(rows, key=lambda row: int(row["position"]))
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise DataError(f"the stored model cannot be read: {error}") from None
    return Preparation(features, scaling, missing)


def _number(value: Any) -> float:
    if not isfinite(number := float(value)):
        raise ValueError(f"{value} given; allowed: finite numbers")
    return number


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


def _date_or_none(value: Any) -> str | None:
    return None if value is None else date.fromisoformat(str(value)).isoformat()


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
