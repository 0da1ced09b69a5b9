"""What is wrong with a column's values, in words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Rows from which a column of which more than this share is NULL is refused.
ALMOST_MISSING_ROWS, ALMOST_MISSING = 20, 0.95
#: Rows from which a column may be like a key; in fewer, chance does the same.
KEY_LIKE_ROWS = 100


def value_problems(own: Vector, within: Vector, name: str, transform: str) -> list[str]:
    """Infinite values, and values that the transform is not defined for.

    Parameters
    ----------
    own, within : ndarray of shape (n_rows,)
        Before and after what is outside the quantiles was pulled in.
    name : str
        The column.
    transform : {"none", "log1p"}
    """
    infinite = int(np.isinf(own).sum())
    if infinite:
        return [f"{name}: {_rows(infinite)} infinite; every value must be a finite number or NULL"]
    if transform == "log1p":
        outside = int((within <= -1).sum())
        if outside:
            return [
                f"{name}: {_rows(outside)} -1 or less, where log1p has no value; "
                'use transform = "none" or correct the rows'
            ]
    return []


def missing_problems(absent: Mask, name: str) -> list[str]:
    """Missing values, where ``missing = "error"``."""
    count = int(absent.sum())
    if not count:
        return []
    return [
        f'{name}: {_rows(count)} NULL and missing = "error"; '
        'correct the rows, or set missing to "skip", "mean" or "median"'
    ]


def _rows(count: int) -> str:
    return f"{count:,} row is" if count == 1 else f"{count:,} rows are"


def plain(value: float) -> str:
    """A number as people write it."""
    return f"{value:.12g}"


def almost_missing_problems(absent: Mask, name: str) -> list[str]:
    """A column that is known of hardly any row: what fills it in would be all there is."""
    share = float(absent.mean()) if len(absent) else 0.0
    if len(absent) < ALMOST_MISSING_ROWS or not ALMOST_MISSING < share < 1:
        return []
    return [
        f"{name}: {int(absent.sum()):,} of {len(absent):,} rows are NULL, more than "
        f"{ALMOST_MISSING:.0%}; remove it from features"
    ]


def key_like_problems(present: Vector, name: str) -> list[str]:
    """Whole numbers, all different and close together: a number given to each customer."""
    rows = len(present)
    low, high = float(present.min()), float(present.max())
    # Fewer numbers than rows cannot all be different, so most columns end here.
    if rows < KEY_LIKE_ROWS or not rows - 1 <= high - low < 2 * rows:
        return []
    if (present != np.floor(present)).any():
        return []
    if np.bincount((present - low).astype(np.int64)).max() > 1:
        return []
    return [
        f"{name}: like a key ({rows:,} whole numbers from {plain(low)} to {plain(high)}, all "
        "different), so it identifies and does not measure; remove it from features"
    ]


def weight_problems(weights: Vector) -> list[str]:
    """Row weights that cannot be used."""
    problems = []
    missing, infinite = int(np.isnan(weights).sum()), int(np.isinf(weights).sum())
    negative = int((weights < 0).sum())
    for count, what in ((missing, "NULL"), (infinite, "infinite"), (negative, "negative")):
        if count:
            problems.append(
                f"sample_weight: {_rows(count)} {what}; every weight must be a number, 0 or more"
            )
    if not problems and not (weights > 0).any():
        problems.append("sample_weight: no row has a weight above 0")
    return problems
