"""Categories: which levels get a feature of their own, and how these are scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, sqrt
from typing import Any

import numpy as np

from sqlkmeans.clustering.arrays.types import Vector
from sqlkmeans.clustering.preparation.preparation import OTHER, Feature, PreparedFeature
from sqlkmeans.clustering.preparation.problems import counted_missing_problems
from sqlkmeans.clustering.preparation.statistics import Values
from sqlkmeans.errors import DataError

#: Longest level that has a feature, in characters as SQL Server counts them (UTF-16).
MAX_LEVEL_LENGTH = 100
#: With this many rows a column with a level for more than every second of them is like a key.
KEY_LIKE_ROWS, KEY_LIKE_SHARE = 100, 0.5


def fit_category(
    codes: Values,
    feature: Feature,
    texts: Sequence[str],
    scaling: str,
    missing: str,
) -> list[PreparedFeature]:
    """One feature a level, most frequent first, and one for the rest where there is a rest.

    A level that is longer than ``MAX_LEVEL_LENGTH``, or that has the name of the rest, is part of
    the rest however frequent it is: one row must not stop all.

    The features of a column share a scale, so that a category weighs as much as one number:
    with ``standard`` and ``robust`` the variances of all its features add up to 1 (each is
    ``p (1 - p)``, so the sum is ``1 - sum(p^2)``), with ``minmax`` two rows of different levels
    are 1 apart.

    Parameters
    ----------
    codes : Values
        Indices into ``texts``, NaN where missing.
    feature : Feature
    texts : sequence of str
    scaling, missing : str

    Raises
    ------
    DataError
        If the column is empty, constant, like a key, or has missing values where that is an
        error.
    """
    name = feature.column

    def count(values: Vector, weights: Vector | None) -> tuple[Any, Any, float, int]:
        absent = np.isnan(values)
        known, heavy = values[~absent].astype(np.int64), None
        if weights is not None:
            heavy = weights[~absent]
        rows = np.bincount(known, minlength=len(texts))
        counts = rows if heavy is None else np.bincount(known, heavy, minlength=len(texts))
        lacking = absent.sum() if weights is None else weights[absent].sum()
        return rows, counts, float(lacking), int(absent.sum())

    parts = list(zip(*codes.map(count)))
    rows, counts = np.sum(parts[0], axis=0), np.sum(parts[1], axis=0).astype(np.float64)
    lacking, known = fsum(parts[2]), int(rows.sum())
    problems = counted_missing_problems(sum(parts[3]), name) if missing == "error" else []
    if not known:
        raise DataError(
            problems or f"{name}: every value is NULL, so there is nothing to cluster by"
        )
    present: list[int] = np.flatnonzero(rows).tolist()
    problems += _level_problems(name, [texts[code] for code in present], known)
    if problems:
        raise DataError(problems)
    levels = {texts[code]: float(counts[code]) for code in present}
    return category_features(
        feature, levels, scaling, missing,
        n_levels=len(present), total=float(counts.sum()), lacking=lacking,
    )  # fmt: skip


def category_features(
    feature: Feature,
    levels: Mapping[str, float],
    scaling: str,
    missing: str,
    *,
    n_levels: int,
    total: float,
    lacking: float,
) -> list[PreparedFeature]:
    """The same from the levels' counts.

    Parameters
    ----------
    feature : Feature
    levels : dict of str to float
        Rows, or the sum of their weights; at least of the ``max_categories`` most frequent that
        are not of the rest.
    scaling, missing : str
    n_levels : int
        How many there are.
    total, lacking : float
        Of the rows that have a level, and of those that have none.

    Raises
    ------
    DataError
        If no level is frequent enough.
    """
    name = feature.column
    ranked = sorted(levels, key=lambda level: (-levels[level], level))
    kept = [
        level
        for level in ranked
        if levels[level] >= feature.min_frequency * total and not is_of_the_rest(level)
    ]
    kept = kept[: feature.max_categories]
    if not kept:
        raise DataError(
            f"{name}: none of its {n_levels:,} levels has a share of min_frequency "
            f"{feature.min_frequency:g} or more and at most {MAX_LEVEL_LENGTH} characters; lower "
            "it, shorten them in a SELECT, or remove the column from features"
        )
    named: list[str | None] = [*kept]
    sums = [levels[level] for level in kept]
    if len(kept) < n_levels:
        named.append(None)
        sums.append(total - sum(sums))
    fills: list[float | None] = [None] * len(named)
    if missing in ("mean", "median"):
        # The most frequent level is ranked first, and so is its feature.
        fills = [1.0, *[0.0] * (len(named) - 1)]
        sums[0] += lacking
    shares = [value / sum(sums) for value in sums]
    centers: list[float] = shares if scaling in ("standard", "robust") else [0.0] * len(shares)
    scale = _scale(scaling, shares)
    return [
        PreparedFeature(name, "none", float(feature.weight), center, scale, fill, "category", level)
        for level, center, fill in zip(named, centers, fills)
    ]


def _scale(scaling: str, shares: Sequence[float]) -> float:
    if scaling == "minmax":
        return sqrt(2)
    if scaling == "none":
        return 1.0
    return sqrt(sum(share * (1 - share) for share in shares))


def _level_problems(name: str, levels: Sequence[str], rows: int) -> list[str]:
    if len(levels) == 1:
        return [constant_level(name, levels[0], rows)]
    if is_key_like(len(levels), rows):
        return [key_like_levels(name, len(levels), rows)]
    return []


def is_of_the_rest(level: str) -> bool:
    """Whether a level is part of the rest however frequent it is.

    One that is too long is, one that has its name, and one with half of a surrogate pair, which is
    no text.
    """
    size = len(level.encode("utf-16-le", "surrogatepass"))
    broken = any("\ud800" <= letter <= "\udfff" for letter in level)
    return level == OTHER or broken or size > 2 * MAX_LEVEL_LENGTH


def constant_level(name: str, level: str, rows: int) -> str:
    """A category of one level, in words."""
    return (
        f"{name}: constant ({level} in all {rows:,} rows), so it separates nobody; "
        "remove it from features"
    )


def is_key_like(levels: int, rows: int) -> bool:
    """Whether there are so many levels that the column rather identifies than groups."""
    return rows >= KEY_LIKE_ROWS and levels > KEY_LIKE_SHARE * rows


def key_like_levels(name: str, levels: int, rows: int) -> str:
    """The same in words."""
    return (
        f"{name}: like a key ({levels:,} levels in {rows:,} rows), so it identifies and "
        "does not group; remove it from features, or group it in a SELECT"
    )
