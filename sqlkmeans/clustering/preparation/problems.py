"""What is wrong with a column's values, in words."""

from __future__ import annotations

import numpy as np

from sqlkmeans.clustering.arrays.chunks import map_chunks
from sqlkmeans.clustering.arrays.types import Vector
from sqlkmeans.clustering.preparation.statistics import Values

#: Rows from which a column of which more than this share is NULL is refused.
ALMOST_MISSING_ROWS, ALMOST_MISSING = 20, 0.95
#: Rows from which a column may be like a key; in fewer, chance does the same.
KEY_LIKE_ROWS = 100


def counted_value_problems(infinite: int, outside: int, name: str) -> list[str]:
    """Infinite values, and values ``outside`` of what log1p is defined for, by their numbers."""
    if infinite:
        return [f"{name}: {_rows(infinite)} infinite; every value must be a finite number or NULL"]
    if outside:
        return [
            f"{name}: {_rows(outside)} -1 or less, where log1p has no value; "
            'use transform = "none" or correct the rows'
        ]
    return []


def counted_missing_problems(count: int, name: str) -> list[str]:
    """Missing values, where ``missing = "error"``, by their number."""
    if not count:
        return []
    return [
        f'{name}: {_rows(count)} NULL and missing = "error"; '
        'correct the rows, or set missing to "skip", "mean" or "median"'
    ]


def _rows(count: int) -> str:
    """-1 stands for rows that are too few to tell how many."""
    if count < 0:
        return "a few rows are"
    return f"{count:,} row is" if count == 1 else f"{count:,} rows are"


def plain(value: float) -> str:
    """A number as people write it."""
    return f"{value:.12g}"


def counted_almost_missing_problems(count: int, rows: int, name: str) -> list[str]:
    """A column that is known of hardly any row: what fills it in would be all there is."""
    if rows < ALMOST_MISSING_ROWS or not ALMOST_MISSING < count / rows < 1:
        return []
    return [
        f"{name}: {count:,} of {rows:,} rows are NULL, more than "
        f"{ALMOST_MISSING:.0%}; remove it from features"
    ]


def key_like_problems(
    present: Values, rows: int, extremes: tuple[float, float], name: str
) -> list[str]:
    """Whole numbers, all different and close together: a number given to each customer."""
    low, high = extremes
    # Most columns end here.
    if not may_be_key_like(rows, low, high):
        return []
    if not all(present.map(lambda values, _: bool((values == np.floor(values)).all()))):
        return []
    seen = np.zeros(int(high - low) + 1, dtype=bool)

    def mark(values: Vector, _: object) -> None:
        seen[(values - low).astype(np.int64)] = True

    present.map(mark)
    if int(seen.sum()) < rows:
        return []
    return [key_like(name, rows, f" from {plain(low)} to {plain(high)}")]


def may_be_key_like(rows: int, low: float, high: float) -> bool:
    """Whether so many rows can have whole numbers that differ and lie close together: fewer
    numbers than rows cannot all be different."""
    return rows >= KEY_LIKE_ROWS and rows - 1 <= high - low < 2 * rows


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

    def count(start: int, stop: int) -> list[int]:
        part = weights[start:stop]
        kinds = (np.isnan(part), np.isinf(part), part < 0, part > 0)
        return [int(np.count_nonzero(kind)) for kind in kinds]

    missing, infinite, negative, positive = map(sum, zip([0] * 4, *map_chunks(len(weights), count)))
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
