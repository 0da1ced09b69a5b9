"""What the preparation learns from the rows of a run: fills, quantiles, levels, centres, scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sqlkmeans.clustering import statistics
from sqlkmeans.clustering.categories import fit_category
from sqlkmeans.clustering.preparation import (
    Feature,
    Matrix,
    Preparation,
    PreparedFeature,
    Texts,
    days_since_1970,
    forward,
)
from sqlkmeans.clustering.problems import (
    Mask,
    Vector,
    almost_missing_problems,
    constant,
    empty,
    key_like_problems,
    missing_problems,
    plain,
    scale_problems,
    value_problems,
    weight_problems,
)
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
        levels; see :func:`~sqlkmeans.clustering.categories.fit_category`.
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
    usable, problems = _usable(matrix, features, missing, sample_weight)
    everything = bool(usable.all())
    weights = None if sample_weight is None or problems else sample_weight[usable]
    prepared: list[PreparedFeature] = []
    for position, feature in enumerate(features):
        column = np.ascontiguousarray(matrix[:, position])
        if missing != "error":
            almost = almost_missing_problems(np.isnan(column), feature.column)
            if almost:
                problems += almost
                continue
        column = column if everything else column[usable]
        try:
            prepared += _fit_feature(
                column, feature, scaling, missing, (texts or {}).get(feature.column, ()),
                weights, reference_date,
            )  # fmt: skip
        except DataError as error:
            problems += error.problems
    problems += repeated_names(prepared)
    if problems:
        raise DataError(problems)
    return Preparation(tuple(prepared), scaling, missing)


def _usable(
    matrix: Matrix,
    features: Sequence[Feature],
    missing: str,
    sample_weight: Vector | None,
) -> tuple[Mask, list[str]]:
    """The rows to learn from."""
    usable = np.ones(len(matrix), dtype=bool)
    problems = []
    if sample_weight is not None:
        problems = weight_problems(sample_weight)
        usable = np.ones(len(matrix), dtype=bool) if problems else sample_weight > 0
    if missing == "skip":
        for position in range(matrix.shape[1]):
            usable &= ~np.isnan(matrix[:, position])
        if len(matrix) and not usable.any():
            raise DataError(
                f'missing = "skip" leaves no row: each of the {len(matrix):,} rows has a NULL in '
                f"{', '.join(f.column for f in features)}"
            )
    return usable, problems


def repeated_names(prepared: Sequence[PreparedFeature]) -> Iterator[str]:
    """Features that would have the same name, in words."""
    names = [feature.name for feature in prepared]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name}: two features would have this name; rename the column or the level"


def _fit_feature(
    column: Vector,
    feature: Feature,
    scaling: str,
    missing: str,
    texts: Sequence[str],
    weights: Vector | None,
    reference_date: str | None,
) -> list[PreparedFeature]:
    """One column's features, from its usable rows.

    Raises
    ------
    DataError
    """
    if feature.type == "category":
        return fit_category(column, feature, texts, scaling, missing, weights)
    if feature.type == "date":
        if reference_date is None:
            raise ValueError(f"{feature.column} is a date, which needs a reference_date")
        return [_fit_number(
            days_since_1970(reference_date) - column, feature, scaling, missing, weights,
            reference_date,
        )]  # fmt: skip
    return [_fit_number(column, feature, scaling, missing, weights, None)]


def _fit_number(
    own: Vector,
    feature: Feature,
    scaling: str,
    missing: str,
    weights: Vector | None,
    reference_date: str | None,
) -> PreparedFeature:
    """A number's or an age's preparation, from values in own units."""
    name, transform = feature.column, feature.transform
    absent = np.isnan(own)
    some = bool(absent.any())
    present = own[~absent] if some else own
    known = weights[~absent] if some and weights is not None else weights
    low, high = _quantiles(present, feature, known)
    within = present if low is None or high is None else np.clip(present, low, high)
    _require(value_problems(present, within, name, transform)
             + (missing_problems(absent, name) if missing == "error" else []))  # fmt: skip
    if not len(present):
        raise DataError(empty(name))
    lowest, highest = float(within.min()), float(within.max())
    _require(_constant_problems(present, within, name))
    if feature.type == "number":
        _require(key_like_problems(present, name))
    fill = statistics.fill_value(present, known, missing)
    if fill is not None and some:
        # Scale on what K-Means will see: the filled column.
        filled = np.where(absent, fill, own)
        within, known = (filled if low is None else np.clip(filled, low, high)), weights
    center, scale = statistics.center_and_scale(forward(transform, within), known, scaling)
    limits = f"from {plain(lowest)} to {plain(highest)}"
    _require(scale_problems(center, scale, name, scaling, limits))
    return PreparedFeature(
        name, transform, float(feature.weight), center, scale, fill, feature.type,
        low=low, high=high, reference_date=reference_date,
    )  # fmt: skip


def _quantiles(
    present: Vector, feature: Feature, weights: Vector | None
) -> tuple[float | None, float | None]:
    if feature.winsorize is None or not len(present) or not np.isfinite(present).all():
        return None, None
    low, high = statistics.quantiles(present, feature.winsorize, weights)
    return low, high


def _constant_problems(present: Vector, within: Vector, name: str) -> list[str]:
    if within.min() < within.max():
        return []
    winsorized = bool(present.min() < present.max())
    return [constant(name, float(within[0]), len(present), winsorized=winsorized)]


def _require(problems: list[str]) -> None:
    if problems:
        raise DataError(problems)
