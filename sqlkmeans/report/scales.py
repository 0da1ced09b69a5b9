"""How numbers are written, and where they stand on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sqlkmeans.clustering.arrays.types import Vector
from sqlkmeans.clustering.preparation.transforms import backward, forward

#: Ticks of an axis, about.
TICKS = 5


def decimals_for(values: Iterable[float | None]) -> int:
    """Decimals that give the largest of some numbers three digits, so that all of them align."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return 0
    return min(12, max(0, 2 - math.floor(math.log10(largest))))


def number(value: float | None, decimals: int | None = None) -> str:
    """A number for people: ``12,345``, ``0.412``; by default with three digits or more."""
    if value is None:
        return "–"
    if decimals is None:
        decimals = 0 if isinstance(value, int) else decimals_for([value])
    # A zero has no sign.
    text = f"{value + 0:,.{decimals}f}"
    if value and not text.strip("-0."):
        # Not nothing, only small beside the numbers that it stands with.
        text = f"{value:.2g}"
    return text.replace("-", "−")


def signed(value: float | None, decimals: int = 2) -> str:
    """A difference: ``+0.41`` or ``−1.20``."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 else text


def percent(share: float | None, decimals: int = 1) -> str:
    """A share of 0 to 1: ``12.3 %``."""
    return "–" if share is None else f"{number(100 * share, decimals)} %"


def points(difference: float | None, decimals: int = 1) -> str:
    """A difference of two shares in percentage points: ``+12.3 %``."""
    return "–" if difference is None else f"{signed(100 * difference, decimals)} %"


@dataclass(frozen=True)
class Tick:
    """A tick: its place from 0 to 1, and its words."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A feature's values on a line.

    Attributes
    ----------
    name : str
    low, high : float
        Its ends, in the feature's own units.
    transform : {"none", "log1p"}
        Values are spaced as the clustering sees them.
    whole : bool
        Whether its values are whole numbers.
    """

    name: str
    low: float
    high: float
    transform: str = "none"
    whole: bool = False

    def places(self, values: Vector) -> Vector:
        """Where values stand, from 0 to 1; those beyond the ends stand at them."""
        low, high = self._forward(self.low), self._forward(self.high)
        if high <= low:
            return np.where(np.isnan(values), np.nan, 0.5)
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = forward(self.transform, np.asarray(values, dtype=np.float64))
        return np.clip((moved - low) / (high - low), 0, 1)

    def place(self, value: float) -> float:
        """Where one value stands."""
        return float(self.places(np.array([value]))[0])

    def value(self, place: float) -> float:
        """The value that stands at a place."""
        low, high = self._forward(self.low), self._forward(self.high)
        return float(backward(self.transform, np.float64(low + place * (high - low))))  # type: ignore[arg-type]

    def ticks(self) -> list[Tick]:
        """Round numbers along the axis."""
        if self.transform == "log1p" and self.low > -1:
            values = self._log_ticks()
            if len(values) > 1:
                return [Tick(self.place(v), number(v, _decimals_of(v))) for v in values]
        values = _round_numbers(self)
        decimals = max((_decimals_of(value) for value in values), default=0)
        return [Tick(self.place(v), number(v, decimals)) for v in values]

    def _forward(self, value: float) -> float:
        return float(forward(self.transform, np.float64(value)))  # type: ignore[arg-type]

    def _log_ticks(self) -> list[float]:
        """0, 1, 10, 100 …; with 2 and 5 between them where there is room."""
        for factors in ((1, 2, 5), (1, 3), (1,)):
            powers = [0.0] + [f * 10.0**p for p in range(-3, 16) for f in factors]
            inside = [v for v in powers if self.low <= v <= self.high and (v >= 1 or v == 0)]
            # A label takes as much of the axis as it has letters.
            room = 0.03 + 0.024 * max((len(number(v, _decimals_of(v))) for v in inside), default=0)
            if all(b - a > room for a, b in pairwise(map(self.place, inside))):
                break
        return inside


def _round_numbers(axis: Axis) -> list[float]:
    span = axis.high - axis.low
    if not span > 0 or not math.isfinite(span):
        return [axis.low]
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(f * power for f in (1, 2, 5, 10) if span / (f * power) <= TICKS)
    if axis.whole:
        step = max(step, 1.0)
    first = math.ceil(axis.low / step - 1e-9)
    count = math.floor((axis.high - first * step) / step + 1e-9) + 1
    return [(first + i) * step for i in range(count)]


def _decimals_of(value: float) -> int:
    """Decimals that a round number needs."""
    return next((d for d in range(12) if abs(round(value, d) - value) < 1e-9 * abs(value)), 0)
