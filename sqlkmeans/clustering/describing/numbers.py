"""Numbers in the columns' own units, with no more digits than people can use."""

from __future__ import annotations

import numpy as np

from sqlkmeans.clustering.arrays.types import Vector
from sqlkmeans.clustering.preparation.preparation import PreparedFeature

#: Share of the sampled rows that a rounded number may put on its other side.
ROUNDING = 0.002


def tidy(value: float) -> float:
    """Twelve significant digits: scaling there and back must not turn 18 into 17.9999999999999."""
    return float(f"{value:.12g}")


def own_values(feature: PreparedFeature, prepared: Vector) -> Vector:
    """Prepared values in the column's own units, without what the way there and back leaves.

    Twelve significant digits, and 0 for what is 0: not 17.9999999999999 for 18. Of float32, as
    many as it has.
    """
    if prepared.dtype == np.float32:
        return _own_float32_values(feature, prepared.astype(np.float64))
    values = feature.invert(prepared)
    values[np.abs(values) < 1e-12 * feature.scale] = 0
    magnitude = np.floor(np.log10(np.where(values == 0, 1, np.abs(values))))
    unit = 10.0 ** np.clip(11 - magnitude, -290, 290)
    return np.asarray(np.round(values * unit) / unit)


def _own_float32_values(feature: PreparedFeature, prepared: Vector) -> Vector:
    """The same of values that were float32: rounded to more than that can have changed them by."""
    values = feature.invert(prepared)
    error = np.maximum(np.abs(prepared), 1) * feature.divisor * float(np.finfo(np.float32).eps)
    if feature.transform == "log1p":
        error *= 1 + np.abs(values)
    power = np.clip(np.ceil(np.log10(2 * error)), -290, 290)
    # Powers of ten that are whole numbers, because the others are not exact; 0.0 for -0.0.
    unit, parts = 10.0 ** np.maximum(power, 0), 10.0 ** np.maximum(-power, 0)
    return np.asarray(np.round(values / unit * parts) / parts * unit + 0.0)


def short_number(value: float, ordered: Vector) -> float:
    """The number of fewest digits that parts a sample nearly as ``value`` does.

    Parameters
    ----------
    value : float
    ordered : ndarray of float64 of shape (n,)
        The sample, ascending.
    """
    if len(ordered) and bool((ordered == np.rint(ordered)).all()):
        value = float(np.floor(value))  # between whole numbers, the lower one parts them as well
    place = np.searchsorted(ordered, value, side="right")
    for digits in range(1, 17):
        rounded = float(f"{value:.{digits}g}")
        moved = abs(int(np.searchsorted(ordered, rounded, side="right") - place))
        if moved <= ROUNDING * len(ordered):
            return rounded
    return value


def number_text(value: float) -> str:
    """A number for people: ``120,000``, ``0.25``."""
    return f"{value:,.12g}"


def brief_number(value: float, digits: int = 3) -> str:
    """A number in a sentence: whole from 1,000 on, so many significant digits below."""
    return f"{value:,.0f}" if abs(value) >= 1000 else number_text(float(f"{value:.{digits}g}"))
