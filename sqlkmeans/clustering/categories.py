"""Categories: which levels get a feature of their own, and how these are scaled."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.preparation import Feature, PreparedFeature
from sqlkmeans.clustering.problems import missing_problems
from sqlkmeans.errors import DataError

Vector = npt.NDArray[np.float64]

#: Longest level, in characters as SQL Server counts them (UTF-16).
MAX_LEVEL_LENGTH = 100
#: With this many rows a column with a level for more than every second of them is like a key.
KEY_LIKE_ROWS, KEY_LIKE_SHARE = 100, 0.5


def fit_category(
    codes: Vector,
    feature: Feature,
    texts: Sequence[str],
    scaling: str,
    missing: str,
    weights: Vector | None,
) -> list[PreparedFeature]:
    """One feature a level, most frequent first, and one for the rest where there is a rest.

    The features of a column share a scale, so that a category weighs as much as one number:
    with ``standard`` and ``robust`` the variances of all its features add up to 1 (each is
    ``p (1 - p)``, so the sum is ``1 - sum(p^2)``), with ``minmax`` two rows of different levels
    are 1 apart.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,)
        Indices into ``texts``, NaN where missing.
    feature : Feature
    texts : sequence of str
    scaling, missing : str
    weights : ndarray of shape (n_rows,), optional

    Raises
    ------
    DataError
        If the column is empty, constant, like a key, has levels that are too long, or missing
        values where that is an error.
    """
    absent = np.isnan(codes)
    known = codes[~absent].astype(np.int64)
    name = feature.column
    problems = missing_problems(absent, name) if missing == "error" else []
    if not len(known):
        raise DataError(
            problems or f"{name}: every value is NULL, so there is nothing to cluster by"
        )
    rows = np.bincount(known, minlength=len(texts))
    present: list[int] = np.flatnonzero(rows).tolist()
    problems += _level_problems(name, [texts[code] for code in present], len(known))
    if problems:
        raise DataError(problems)
    heavy = None if weights is None else weights[~absent]
    counts = np.bincount(known, weights=heavy, minlength=len(texts)).astype(np.float64)
    ranked = sorted(present, key=lambda code: (-counts[code], texts[code]))
    total = float(counts.sum())
    kept = [code for code in ranked if counts[code] >= feature.min_frequency * total]
    kept = kept[: feature.max_categories]
    if not kept:
        raise DataError(
            f"{name}: each of its {len(ranked):,} levels has a smaller share than min_frequency "
            f"{feature.min_frequency:g}; lower it, or remove the column from features"
        )
    levels: list[str | None] = [texts[code] for code in kept]
    sums = [float(counts[code]) for code in kept]
    if len(kept) < len(ranked):
        levels.append(None)
        sums.append(float(counts[ranked].sum() - counts[kept].sum()))
    fills: list[float | None] = [None] * len(levels)
    if missing in ("mean", "median"):
        # The most frequent level is ranked first, and so is its feature.
        fills = [float(position == 0) for position in range(len(levels))]
        lacking = absent if weights is None else weights[absent]
        sums[0] += float(lacking.sum())
    shares = [value / sum(sums) for value in sums]
    centers = shares if scaling in ("standard", "robust") else [0.0] * len(shares)
    scale = _scale(scaling, shares)
    return [
        PreparedFeature(name, "none", float(feature.weight), center, scale, fill, "category", level)
        for level, center, fill in zip(levels, centers, fills)
    ]


def _scale(scaling: str, shares: Sequence[float]) -> float:
    if scaling == "minmax":
        return sqrt(2)
    if scaling == "none":
        return 1.0
    return sqrt(sum(share * (1 - share) for share in shares))


def _level_problems(name: str, levels: Sequence[str], rows: int) -> list[str]:
    if len(levels) == 1:
        return [
            f"{name}: constant ({levels[0]} in all {rows:,} rows), so it separates nobody; "
            "remove it from features"
        ]
    if rows >= KEY_LIKE_ROWS and len(levels) > KEY_LIKE_SHARE * rows:
        return [
            f"{name}: like a key ({len(levels):,} levels in {rows:,} rows), so it identifies and "
            "does not group; remove it from features, or group it in a SELECT"
        ]
    long = [level for level in levels if len(level.encode("utf-16-le")) > 2 * MAX_LEVEL_LENGTH]
    if long:
        return [
            f"{name}: {len(long):,} levels have more than {MAX_LEVEL_LENGTH} characters "
            f"(one begins {min(long)[:30]!r}); shorten or group them in a SELECT"
        ]
    return []
