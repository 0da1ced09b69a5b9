"""Exact order statistics of values that come a chunk at a time.

A sample says between which two values the wanted ones lie; one pass counts the values below and
keeps those between, among which the wanted ones are then found (after Floyd & Rivest, 1975,
"Expected time bounds for selection"). Where the sample was wrong, the ends are moved apart and
the values pass once more: the answer is exact, only the time is a matter of luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from sqlkmeans.clustering.arrays.types import Vector

#: So few values are all kept.
SMALL = 131_072
#: How far apart the ends are at first, in standard errors of the sample's quantile.
WIDTH = 5.0


@dataclass(frozen=True)
class Cut:
    """What one bracket keeps of some values."""

    below: int
    at_low: int
    between: Vector
    at_high: int


@dataclass(frozen=True)
class Bracket:
    """Two values between which the wanted ones may lie, ends included."""

    low: float
    high: float

    def cut(self, values: Vector) -> Cut:
        """Count values below and at the ends, and keep those between; they have no NaN."""
        if self.low == -inf and self.high == inf:
            return Cut(0, 0, values, 0)
        above = values > self.low
        inside = values[above & (values < self.high)]
        at_low = int(np.count_nonzero(values == self.low))
        below = len(values) - int(np.count_nonzero(above)) - at_low
        at_high = int(np.count_nonzero(values == self.high)) if self.high > self.low else 0
        return Cut(below, at_low, inside, at_high)


@dataclass(frozen=True)
class Wanted:
    """Neighbouring order statistics of one set of values.

    Attributes
    ----------
    ranks : tuple of int
        Ascending; 0 is the smallest value.
    count : int
        How many values there are.
    sample : ndarray
        Some of them, sorted.
    """

    ranks: tuple[int, ...]
    count: int
    sample: Vector

    def bracket(self, width: float) -> Bracket:
        """Where the sample says that they are; ``width`` in standard errors."""
        size = len(self.sample)
        if self.count <= SMALL or size < 2:
            return Bracket(-inf, inf)
        share = (self.ranks[0] + 0.5) / self.count
        margin = 2 + width * sqrt(size * share * (1 - share))
        first = int(share * size - margin)
        last = int((self.ranks[-1] + 0.5) / self.count * size + margin) + 1
        return Bracket(
            float(self.sample[first]) if first >= 0 else -inf,
            float(self.sample[last]) if last < size else inf,
        )

    def found(self, bracket: Bracket, cuts: Sequence[Cut]) -> list[float] | None:
        """The wanted values; None where the bracket does not have them all."""
        at_low = sum(cut.below for cut in cuts)
        inside = at_low + sum(cut.at_low for cut in cuts)
        at_high = inside + sum(len(cut.between) for cut in cuts)
        end = at_high + sum(cut.at_high for cut in cuts)
        if self.ranks[0] < at_low or self.ranks[-1] >= end:
            return None
        places = [rank - inside for rank in self.ranks if inside <= rank < at_high]
        between = np.concatenate([cut.between for cut in cuts]) if places else np.empty(0)
        if places:
            between.partition(places)
        return [
            bracket.low if rank < inside
            else float(between[rank - inside]) if rank < at_high
            else bracket.high
            for rank in self.ranks
        ]  # fmt: skip


class Search:
    """Looks for order statistics, each of its own set of values, in passes over the values.

    Parameters
    ----------
    wanted : sequence of Wanted
        Those of a set without values are NaN.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self._missing = [number for number, want in enumerate(wanted) if want.count]
        self._width = WIDTH
        #: What has been found: of each set, the values of its ranks.
        self.results: list[list[float]] = [[np.nan] * len(want.ranks) for want in wanted]

    def asked(self) -> list[tuple[int, Bracket]]:
        """Numbers in ``wanted``, each with a bracket that the next pass has to cut."""
        return [(number, self._wanted[number].bracket(self._width)) for number in self._missing]

    def take(self, asked: Sequence[tuple[int, Bracket]], cuts: Iterable[Sequence[Cut]]) -> None:
        """What each bracket cut from all chunks of the values of that number."""
        for (number, bracket), of_number in zip(asked, cuts):
            found = self._wanted[number].found(bracket, of_number)
            if found is not None and number in self._missing:
                self._missing.remove(number)
                self.results[number] = found
        self._width *= 4


def order_statistics(
    wanted: Sequence[Wanted],
    cut_all: Callable[[Sequence[tuple[int, Bracket]]], Iterable[Sequence[Cut]]],
) -> list[list[float]]:
    """The wanted order statistics, in as many passes as it takes.

    Parameters
    ----------
    wanted : sequence of Wanted
        As :class:`Search` takes them.
    cut_all : callable
        Passes over the values: from what :meth:`Search.asked` gives to what :meth:`Search.take`
        takes.
    """
    search = Search(wanted)
    while asked := search.asked():
        search.take(asked, cut_all(asked))
    return search.results


def linear_ranks(count: int, at: float) -> tuple[int, int, float]:
    """The two order statistics that a quantile lies between, and how far from the first (type 7
    of Hyndman & Fan, 1996, "Sample quantiles in statistical packages")."""
    place = (count - 1) * at
    low = min(int(place), max(count - 1, 0))
    return low, min(low + 1, max(count - 1, 0)), place - low


def between(low: float, high: float, part: float) -> float:
    """``low`` where ``part`` is 0, ``high`` where it is 1; rounded as NumPy's quantiles are."""
    difference = high - low
    return high - difference * (1 - part) if part >= 0.5 else low + difference * part
