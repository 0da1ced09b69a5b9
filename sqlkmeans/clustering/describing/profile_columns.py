"""Columns that are described for each segment and never clustered on, beside everyone.

A segment is a part of everyone, so its difference to everyone is that to all others times their
share of the customers, and so is the interval of 95 % around it:

- of means, that of Welch (1947, "The generalization of 'Student's' problem when several different
  population variances are involved"), in everyone's standard deviations;
- of shares, the hybrid score interval of Newcombe (1998, "Interval estimation for the difference
  between independent proportions", method 10), which is made of two of Wilson's (1927).

It is that of one comparison: of many columns and segments, some intervals leave out 0 by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import chunks, map_chunks
from sqlkmeans.clustering.arrays.types import Labels, Mask, Matrix, Vector
from sqlkmeans.clustering.describing.numbers import tidy
from sqlkmeans.clustering.describing.summaries import GroupedValues, summarise
from sqlkmeans.clustering.preparation.categories import is_of_the_rest
from sqlkmeans.clustering.preparation.preparation import (
    OTHER,
    Feature,
    Preparation,
    PreparedFeature,
)

#: The quantile of the normal distribution that an interval of 95 % takes.
Z = 1.959963984540054
#: Levels that are told of: so many, with such a share of the customers. The others are one.
MOST_LEVELS, LEAST_SHARE = Feature.max_categories, Feature.min_frequency
#: The level of a boolean that is told of.
YES = "yes"
_NO_YES = ("no", YES)


@dataclass(frozen=True)
class ProfileColumn:
    """A column that is described.

    Attributes
    ----------
    name : str
    type : {"number", "boolean", "date", "category"}
    reference_date : str or None
        Of a date, whose values are ages in days on it; ``YYYY-MM-DD``.
    """

    name: str
    type: str
    reference_date: str | None = None

    @property
    def read_as(self) -> str:
        """The type of feature that is read in the same way."""
        return "number" if self.type == "boolean" else self.type

    @property
    def is_share(self) -> bool:
        """Whether it is described by shares, and not by means."""
        return self.type in ("boolean", "category")

    def own_values(self, raw: Vector) -> Vector:
        """Of numbers, booleans and dates, as :class:`ColumnValues` has them: what is infinite is
        missing."""
        own = self.plain().from_raw(raw)
        return np.where(np.isfinite(own), own, np.nan)

    def plain(self, level: str | None = None) -> PreparedFeature:
        """The feature whose prepared values are the column's own."""
        return PreparedFeature(
            self.name, "none", 1.0, 0.0, 1.0, None, self.read_as, level,
            reference_date=self.reference_date,
        )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What is known of a column, or of a level, in one group; None where it is not told.

    Attributes
    ----------
    known, missing : int
        Customers that have a value, and those that have none.
    mean, deviation, median : float or None
        Of a number or of ages; ``deviation`` is the population's.
    having : int or None
        Customers that have the level.
    """

    known: int
    missing: int
    mean: float | None = None
    deviation: float | None = None
    median: float | None = None
    having: int | None = None


@dataclass(frozen=True)
class ColumnProfile:
    """One column in one segment, or one level of it; what the table ``segment_profile`` keeps.

    Attributes
    ----------
    source_column, type : str
    level : str or None
        Of a boolean or a category; ``(other)`` for what has no row of its own.
    known, missing : int
    mean, deviation, median : float or None
        Of numbers, in the column's own units; of dates, ages in days.
    share : float or None
        Of the customers that have a value, those that have the level.
    difference : float or None
        Of numbers and dates: of the mean to everyone's, in everyone's deviations. Of levels: of
        the share to everyone's. None for everyone.
    difference_low, difference_high : float or None
        The interval of 95 % around it; None where fewer than two customers are on a side.
    """

    source_column: str
    type: str
    level: str | None
    known: int
    missing: int
    mean: float | None
    deviation: float | None
    median: float | None
    share: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None


#: Of everyone, then of each cluster: a profile for each column or level.
ColumnProfiles = Sequence[Sequence[ColumnProfile]]
Difference = tuple["float | None", "float | None", "float | None"]
_UNKNOWN: Difference = (None, None, None)


def column_rows(segment_id: int, profiles: Sequence[ColumnProfile]) -> list[dict[str, Any]]:
    """One row a column or level, as the table ``segment_profile`` keeps them."""
    return [
        {"segment_id": segment_id, "position": position, **asdict(profile)}
        for position, profile in enumerate(profiles, start=1)
    ]


def column_title(row: Mapping[str, Any]) -> str:
    """What people read for a row of ``segment_profile``: ``revenue``, ``joined (days)``,
    ``city = Oslo``, ``churned = yes``."""
    if row["level"] is not None:
        return f"{row['source_column']} = {row['level']}"
    return f"{row['source_column']} (days)" if row["type"] == "date" else str(row["source_column"])


def compared(
    column: ProfileColumn, level: str | None, groups: Sequence[Measured]
) -> list[ColumnProfile]:
    """Each group beside everyone, who comes first.

    Parameters
    ----------
    column : ProfileColumn
    level : str or None
        Of a category; None is the rest.
    groups : sequence of Measured
    """
    everyone = groups[0]
    named = {"boolean": YES, "category": OTHER if level is None else level}.get(column.type)
    differ = share_difference if column.is_share else mean_difference
    found = []
    for group in groups:
        difference = _UNKNOWN if group is everyone else differ(group, everyone)
        numbers = (group.mean, group.deviation, group.median, _share(group), *difference)
        found.append(
            ColumnProfile(
                column.name, column.type, named, group.known, group.missing, *map(_tidy, numbers)
            )
        )
    return found


def _share(group: Measured) -> float | None:
    return None if group.having is None or not group.known else group.having / group.known


def _tidy(value: float | None) -> float | None:
    """As a table can keep it: sums of huge values are infinite."""
    return None if value is None or not isfinite(value) else tidy(value)


def mean_difference(group: Measured, everyone: Measured) -> Difference:
    """The difference of a group's mean to everyone's, and its interval: in everyone's deviations.

    Parameters
    ----------
    group, everyone : Measured
        The group is a part of everyone.

    Returns
    -------
    difference, low, high
        None where one is not known.
    """
    if group.mean is None or everyone.mean is None:
        return _UNKNOWN
    assert group.deviation is not None
    assert everyone.deviation is not None
    if not everyone.deviation:
        return 0.0, None, None
    apart = group.mean - everyone.mean
    difference = apart / everyone.deviation
    n, rest = group.known, everyone.known - group.known
    if n < 2 or rest < 2:
        return difference, None, None
    # Squares about the means: everyone's are the group's, the others' and those between the two.
    squares = everyone.known * everyone.deviation**2
    own = n * group.deviation**2
    others = max(0.0, squares - own - n * everyone.known / rest * apart**2)
    parts = own / n / (n - 1), others / rest / (rest - 1)
    if not 0 < sum(parts) < inf:
        return difference, difference, difference
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (rest - 1))
    reach = student_quantile(freedom) * sqrt(sum(parts)) * rest / everyone.known
    reach /= everyone.deviation
    return difference, difference - reach, difference + reach


def student_quantile(freedom: float) -> float:
    """The quantile of 0.975 of Student's t distribution, from its expansion about the normal one.

    Abramowitz & Stegun (1964), 26.7.5: within 0.001 from four degrees of freedom on; 1 % short at
    two, 11 % at one.
    """
    z = Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def share_difference(group: Measured, everyone: Measured) -> Difference:
    """The difference of a group's share to everyone's, and its interval.

    Parameters and what comes back are those of :func:`mean_difference`.
    """
    of_group, of_everyone = _share(group), _share(everyone)
    if of_group is None or of_everyone is None:
        return _UNKNOWN
    difference = of_group - of_everyone
    n, rest = group.known, everyone.known - group.known
    if rest < 1:
        return difference, None, None
    assert group.having is not None
    assert everyone.having is not None
    of_rest = (everyone.having - group.having) / rest
    apart, others = of_group - of_rest, rest / everyone.known
    low, high = _wilson(of_group, n)
    low_of_rest, high_of_rest = _wilson(of_rest, rest)
    below = sqrt((of_group - low) ** 2 + (high_of_rest - of_rest) ** 2)
    above = sqrt((high - of_group) ** 2 + (of_rest - low_of_rest) ** 2)
    return difference, (apart - below) * others, (apart + above) * others


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    square = Z * Z
    middle = share + square / (2 * n)
    reach = Z * sqrt(share * (1 - share) / n + square / (4 * n * n))
    return (middle - reach) / (1 + square / n), (middle + reach) / (1 + square / n)


def told_levels(counts: Mapping[str, int], n_levels: int, known: int) -> list[str | None]:
    """The levels of a category that have a row of their own, most frequent first; then None, the
    rest, where there is one.

    Parameters
    ----------
    counts : mapping of str to int
        Customers; at least of the ``MOST_LEVELS`` most frequent levels.
    n_levels, known : int
        How many levels there are, and customers that have one.
    """
    ranked = sorted(counts, key=lambda level: (-counts[level], level))
    often = [level for level in ranked if counts[level] >= LEAST_SHARE * known]
    named = [level for level in often if not is_of_the_rest(level)][:MOST_LEVELS]
    return [*named, *([] if named and len(named) == n_levels else [None])]


@dataclass(frozen=True, eq=False)
class ColumnValues:
    """Values of the columns that are described.

    Attributes
    ----------
    columns : sequence of ProfileColumn
    matrix : ndarray of float64 of shape (n_rows, n_columns)
        NaN where missing: a date as its age in days, a boolean as 0 or 1, a category as a code.
    texts : dict of str to sequence of str
        What the codes of each category stand for.
    """

    columns: Sequence[ProfileColumn]
    matrix: Matrix
    texts: Mapping[str, Sequence[str]]


def describe_columns(values: ColumnValues, labels: Labels, k: int) -> ColumnProfiles:
    """Describe the columns of labelled rows.

    Parameters
    ----------
    values : ColumnValues
    labels : ndarray of int32 of shape (n_rows,)
    k : int
    """
    found: list[list[ColumnProfile]] = []
    for column, own in zip(values.columns, values.matrix.T):
        if column.is_share:
            texts = values.texts.get(column.name, ()) if column.type == "category" else _NO_YES
            levels = [YES] if column.type == "boolean" else _told(own, texts)
            for level, groups in zip(levels, _counted(own, texts, levels, labels, k)):
                found.append(compared(column, level, groups))
        else:
            found.append(compared(column, None, _summarised(column, own, labels, k)))
    return list(zip(*found))


def _summarised(column: ProfileColumn, own: Vector, labels: Labels, k: int) -> list[Measured]:
    absent: Mask | None = np.isnan(own)
    plain = Preparation((column.plain(),), "none", "skip")
    missing = [absent if np.any(absent) else None]
    (groups,) = summarise(GroupedValues(own[:, None], missing, plain, labels, k))
    return [
        Measured(group.count, group.missing, group.mean, group.deviation, group.median)
        if group.count
        else Measured(0, group.missing)
        for group in groups
    ]


def _told(codes: Vector, texts: Sequence[str]) -> list[str | None]:
    """The levels of a category that have a row of their own, and the rest."""
    counts = np.zeros(len(texts), dtype=np.int64)
    for rows in chunks(len(codes)):
        part = codes[rows]
        counts += np.bincount(part[~np.isnan(part)].astype(np.int64), minlength=len(texts))
    present = np.flatnonzero(counts).tolist()
    return told_levels(
        {texts[code]: int(counts[code]) for code in present}, len(present), int(counts.sum())
    )


def _counted(
    codes: Vector, texts: Sequence[str], levels: Sequence[str | None], labels: Labels, k: int
) -> list[list[Measured]]:
    """Of each level, everyone and each cluster."""
    named = {level: place for place, level in enumerate(levels) if level is not None}
    # What has no row of its own, and what is missing.
    other, absent = len(levels), len(levels) + 1
    if None in levels:
        other = levels.index(None)
    places = np.array([*(named.get(text, other) for text in texts), absent], dtype=np.int64)

    def count(start: int, stop: int) -> npt.NDArray[np.int64]:
        of_chunk = np.nan_to_num(codes[start:stop], nan=len(texts)).astype(np.int64)
        cells = labels[start:stop].astype(np.int64) * (absent + 1) + places[of_chunk]
        return np.bincount(cells, minlength=k * (absent + 1))

    table = np.sum(map_chunks(len(codes), count), axis=0).reshape(k, absent + 1)
    table = np.vstack([table.sum(axis=0), table])
    known = table[:, :absent].sum(axis=1).tolist()
    missing = table[:, absent].tolist()
    return [
        [Measured(n, gone, having=has) for n, gone, has in zip(known, missing, having)]
        for having in table[:, : len(levels)].T.tolist()
    ]
