"""The smallest change of one column that moves a customer to another segment.

In one scaled feature the squared distances to two centroids differ by a line, so where they are
equal is known: with squared distances D to the own and E to another centroid, which lie at a and b
in the feature, the border is ``(E - D) / (2 (b - a))`` away from the customer. The value is then
rounded away from the border, prepared and scored as any row: the answer is what scoring says.
The functions ``explain_<segmentation>`` do the same (:mod:`sqlkmeans.tsql.explaining`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import ceil, exp, expm1, floor, isfinite, isnan, log10, sqrt
from typing import Any

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.kmeans.assignment import assign, squared_distances
from sqlkmeans.clustering.preparation.preparation import (
    OTHER,
    Preparation,
    PreparedFeature,
    days_since_1970,
)

#: Centroids that are closer in a feature, as a part of the distances to them, have no border there.
LEAST_APART = 1e-9
#: A border counts only where it is at most so many times as far away as the centroids are apart.
FARTHEST = 1e6
#: A new value is rounded to so small a part of the way, and of itself.
GRAIN, RESOLUTION = 1e-3, 1e-10
#: How far beyond the border it lies at least, as a part of that; of the way, for whole numbers.
CLEARANCE, WHOLE_CLEARANCE = 1e-3, 1e-6
#: The logarithms that a value has where it has enough digits.
LEAST_LOGARITHM, MOST_LOGARITHM = -30.0, 36.0


@dataclass(frozen=True)
class Steps:
    """Which new values make sense of a column.

    Attributes
    ----------
    whole : bool
        Whether its values are whole numbers.
    least, most : float or None
        In the feature's own units.
    seen : (float, float) or None
        The least and the greatest value in the fit; no bound, but what is beyond is strange.
    """

    whole: bool = False
    least: float | None = None
    most: float | None = None
    seen: tuple[float, float] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Change:
    """The smallest change of one feature's column that moves a customer.

    Attributes
    ----------
    value : float or str
        What the column has to be: a number, a date as YYYY-MM-DD, or a category's level.
    difference : float or None
        From the value that it has, in days for a date; None for a category and where it has none.
    segment : int
        Index of the centroid that is nearest then.
    is_usual : bool
        Whether the value is between the least and the greatest of the fit.
    """

    value: float | str
    difference: float | None
    segment: int
    is_usual: bool = True


def steps_from_rows(rows: Iterable[Mapping[str, Any]]) -> dict[int, Steps]:
    """What rows of ``segment_feature`` tell of each column, by position.

    A column is of whole numbers where the least, the greatest and twice the median of every
    segment are; and of 0 and 1 where these are everyone's least and greatest.
    """
    seen: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        seen.setdefault(int(row["position"]), []).append(row)
    return {position: _steps(of_feature) for position, of_feature in seen.items()}


def _steps(rows: Sequence[Mapping[str, Any]]) -> Steps:
    facts = [(row["min"], row["max"], row["median"]) for row in rows]
    if any(fact is None for of_segment in facts for fact in of_segment):
        return Steps()
    seen = (min(low for low, _, _ in facts), max(high for _, high, _ in facts))
    if any(low % 1 or high % 1 or 2 * middle % 1 for low, high, middle in facts):
        return Steps(seen=seen)
    return Steps(True, 0.0, 1.0, seen) if seen == (0, 1) else Steps(True, seen=seen)


def smallest_changes(
    preparation: Preparation,
    centroids: Matrix,
    raw: Vector,
    texts: Mapping[str, Sequence[str]],
    steps: Mapping[int, Steps],
) -> list[Change | None]:
    """One for each feature; None where no change of its column alone moves the customer.

    A category has one feature a level, and its change is to that level.

    Parameters
    ----------
    preparation : Preparation
    centroids : ndarray of shape (k, n_features)
        Scaled.
    raw : ndarray of shape (n_columns,)
        One row: NaN where missing, a code for a category's text, days since 1970 for a date.
    texts : dict of str to sequence of str
        What the codes of each category stand for.
    steps : dict of int to Steps
        By position, from 1; a feature that is not there may have any value.
    """
    row = np.array(raw, dtype=np.float64)[np.newaxis, :]
    point = preparation.transform(row, texts)[0]
    own = int(assign(point[np.newaxis, :], centroids).labels[0])
    squares = squared_distances(point[np.newaxis, :], centroids)[0]
    columns = {column: place for place, column in enumerate(preparation.columns)}
    known = {
        column: [*found, OTHER, *preparation.levels(column)] for column, found in texts.items()
    }
    changes: list[tuple[int, float | str, float | None, bool]] = []
    rows = []
    for position, feature in enumerate(preparation.features):
        place, changed = columns[feature.column], row[0].copy()
        if feature.type == "category":
            level = OTHER if feature.level is None else feature.level
            if feature.invert(point[[position]])[0] > 0.5:
                continue  # the customer has it
            changed[place] = known[feature.column].index(level)
            changes.append((position, level, None, True))
        else:
            given = float(feature.from_raw(row[0, [place]])[0])
            borders = _borders(float(point[position]), centroids[:, position], squares, own)
            of_feature = steps.get(position + 1, Steps())
            bounds = _bounds(feature, of_feature)
            value = _nearest_value(feature, given, borders, bounds)
            if value is None:
                continue
            changed[place] = feature.from_raw(np.array([value]))[0]
            low, high = of_feature.seen or (value, value)
            changes.append((position, *_told(feature, value, given), low <= value <= high))
        rows.append(changed)
    found: list[Change | None] = [None] * len(preparation.features)
    if not rows:
        return found
    moved = preparation.transform(np.array(rows), known)
    for (position, new, difference, is_usual), label, prepared in zip(
        changes, assign(moved, centroids).labels.tolist(), moved
    ):
        if label != own and np.isfinite(prepared).all():
            found[position] = Change(new, difference, int(label), is_usual)
    return found


def _bounds(feature: PreparedFeature, steps: Steps) -> Steps:
    if feature.reference_date is None:
        return steps
    # An age that is a date still.
    today = days_since_1970(feature.reference_date)
    last, first = (days_since_1970(day.isoformat()) for day in (date.max, date.min))
    return Steps(True, float(today - last), float(today - first))


def _told(feature: PreparedFeature, value: float, given: float) -> tuple[float | str, float | None]:
    """The new value as the column has it, and how far it is from the given one."""
    difference = None if isnan(given) else float(f"{value - given:.12g}")
    if feature.reference_date is None:
        return value, difference
    day = date.fromisoformat(feature.reference_date).toordinal() - int(value)
    return date.fromordinal(day).isoformat(), None if difference is None else -difference


def _borders(
    z: float, of_centroids: Vector, squares: Vector, own: int
) -> Iterator[tuple[float, float, bool]]:
    """Where a scaled feature meets other segments, how far all that is, and whether upwards."""
    root = sqrt(squares[own])
    for centre, square in zip(of_centroids.tolist(), squares.tolist()):
        apart = centre - float(of_centroids[own])
        if abs(apart) > LEAST_APART * (sqrt(square) + root):
            step = (square - float(squares[own])) / (2 * apart)
            reach = root + abs(step)
            if abs(apart) * FARTHEST > reach:
                yield z + step, reach, apart > 0


def _nearest_value(
    feature: PreparedFeature,
    given: float,
    borders: Iterable[tuple[float, float, bool]],
    bounds: Steps,
) -> float | None:
    """The value beyond a border that is nearest to the given one, in own units, if there is one."""
    if isnan(given):
        given = float(feature.fill or 0.0)
    values = []
    for scaled, reach, upwards in borders:
        border = scaled * feature.divisor + feature.center
        way = feature.divisor * reach
        if feature.transform == "log1p":
            if not LEAST_LOGARITHM <= border <= MOST_LOGARITHM:
                continue
            way *= exp(border)
            border = expm1(border)
        value = _beyond(border, way, upwards, bounds.whole)
        if value is not None and _is_reached(feature, border, value, upwards, bounds):
            values.append(value)
    return min(values, key=lambda value: (abs(value - given), -value), default=None)


def _is_reached(
    feature: PreparedFeature, border: float, value: float, upwards: bool, bounds: Steps
) -> bool:
    """Whether the column may have the value, and the border is not where values are pulled in."""
    if feature.transform == "log1p" and value <= -1:
        return False
    if bounds.least is not None and value < bounds.least:
        return False
    if bounds.most is not None and value > bounds.most:
        return False
    if feature.low is None or feature.high is None:
        return True
    return border < feature.high if upwards else border > feature.low


def _beyond(border: float, way: float, upwards: bool, whole: bool) -> float | None:
    """The next round number beyond a border, and not on its very edge."""
    coarse = GRAIN * way + RESOLUTION * abs(border)
    if not (isfinite(coarse) and coarse > 1e-290):
        return None
    digits = 0 if whole else -floor(log10(coarse))
    # Whole powers of ten alone are exact, so one divides by 1000 rather than multiplies by 0.001.
    unit, parts = 10.0 ** max(0, -digits), 10.0 ** max(0, digits)
    clear = CLEARANCE * unit / parts
    if whole:
        clear = WHOLE_CLEARANCE * way + RESOLUTION * abs(border)
    if upwards:
        return (floor((border + clear) / unit * parts) + 1) / parts * unit
    return (ceil((border - clear) / unit * parts) - 1) / parts * unit
