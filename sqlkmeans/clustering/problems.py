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
    outside = int((within <= -1).sum()) if transform == "log1p" else 0
    return counted_value_problems(infinite, outside, name)


def counted_value_problems(infinite: int, outside: int, name: str) -> list[str]:
    """The same from counts; ``outside`` are those that log1p is not defined for."""
    if infinite:
        return [f"{name}: {_rows(infinite)} infinite; every value must be a finite number or NULL"]
    if outside:
        return [
            f"{name}: {_rows(outside)} -1 or less, where log1p has no value; "
            'use transform = "none" or correct the rows'
        ]
    return []


def missing_problems(absent: Mask, name: str) -> list[str]:
    """Missing values, where ``missing = "error"``."""
    return counted_missing_problems(int(absent.sum()), name)


def counted_missing_problems(count: int, name: str) -> list[str]:
    """The same from their number."""
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
    return counted_almost_missing_problems(int(absent.sum()), len(absent), name)


def counted_almost_missing_problems(count: int, rows: int, name: str) -> list[str]:
    """The same from the number of missing values and of rows."""
    if rows < ALMOST_MISSING_ROWS or not ALMOST_MISSING < count / rows < 1:
        return []
    return [
        f"{name}: {count:,} of {rows:,} rows are NULL, more than "
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
    return [key_like(name, rows, f" from {plain(low)} to {plain(high)}")]


def key_like(name: str, rows: int, limits: str = "") -> str:
    """A column that is like a key, in words."""
    return (
        f"{name}: like a key ({rows:,} whole numbers{limits}, all different), so it identifies "
        "and does not measure; remove it from features"
    )


def empty(name: str) -> str:
    """A column without a value, in words."""
    return f"{name}: every value is NULL, so there is nothing to cluster by"


def constant(name: str, value: float, rows: int, *, winsorized: bool) -> str:
    """A column whose values are all the same, in words; ``winsorized`` made them so."""
    if winsorized:
        return (
            f"{name}: winsorize pulls every value in to {plain(value)}; "
            "use quantiles that lie further out, or none"
        )
    return (
        f"{name}: constant ({plain(value)} in all {rows:,} rows), so it separates nobody; "
        "remove it from features"
    )


def scale_problems(center: float, scale: float, name: str, scaling: str, limits: str) -> list[str]:
    """A scale that nothing can be divided by; ``limits`` says from where to where values go."""
    if scale == 0 and scaling == "robust":
        return [
            f'{name}: its interquartile range is 0, so scaling = "robust" cannot '
            'scale it; use "standard" or "minmax"'
        ]
    if not (np.isfinite(center) and np.isfinite(scale) and scale > 0):
        return [
            f'{name}: {limits}, which scaling = "{scaling}" cannot compute with; change its unit'
        ]
    return []


def weight_problems(weights: Vector) -> list[str]:
    """Row weights that cannot be used."""
    missing, infinite = int(np.isnan(weights).sum()), int(np.isinf(weights).sum())
    negative, positive = int((weights < 0).sum()), int((weights > 0).sum())
    return counted_weight_problems(missing, infinite, negative, positive)


def counted_weight_problems(missing: int, infinite: int, negative: int, positive: int) -> list[str]:
    """The same from counts."""
    problems = [
        f"sample_weight: {_rows(count)} {what}; every weight must be a number, 0 or more"
        for count, what in ((missing, "NULL"), (infinite, "infinite"), (negative, "negative"))
        if count
    ]
    if not problems and not positive:
        problems.append("sample_weight: no row has a weight above 0")
    return problems
