"""How customers spread over each feature, and how far that differs from an earlier run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.assignment import Matrix
from sqlkmeans.clustering.chunks import map_chunks, rows_where
from sqlkmeans.clustering.numbers import number_text, own_values, short_number
from sqlkmeans.clustering.preparation import Preparation, PreparedFeature

Vector = npt.NDArray[np.float64]
Masks = Sequence["npt.NDArray[np.bool_] | None"]

BINS = 10
SAMPLE_ROWS = 20_000
#: An empty bin counts as this share, because a logarithm of 0 is none.
LEAST_SHARE = 1e-4
MISSING = "missing"
OTHER = "(other)"


@dataclass(frozen=True)
class FeatureBins:
    """One column of the source, cut into bins.

    Attributes
    ----------
    feature : str
        The column.
    labels : tuple of str
        Each bin in words; first the one for missing values.
    uppers : tuple of (float or None)
        The upper end of each bin, which belongs to it, in the column's own units. None for
        missing values, for the last bin, and for a category.
    customers : tuple of int
        In each bin.
    """

    feature: str
    labels: tuple[str, ...]
    uppers: tuple[float | None, ...]
    customers: tuple[int, ...]

    @property
    def edges(self) -> list[float]:
        """Where one bin ends and the next begins, ascending."""
        return [upper for upper in self.uppers if upper is not None]

    @property
    def of_category(self) -> bool:
        """Whether the bins are levels."""
        return OTHER in self.labels

    @property
    def shares(self) -> Vector:
        """The part of the customers that each bin has."""
        counts = np.asarray(self.customers, dtype=np.float64)
        return np.asarray(counts / max(1.0, float(counts.sum())))


def bin_features(matrix: Matrix, missing: Masks, preparation: Preparation) -> list[FeatureBins]:
    """Cut each column of the source into about ten bins of equal size; a category by its levels.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows. The ends of the bins are short numbers near the deciles of up to 20,000 of
        them; the counts are of all.
    missing : sequence of (ndarray of bool of shape (n_rows,) or None)
        For each feature, where its value was missing; None where none was.
    preparation : Preparation
    """

    edges = {
        feature.column: short_edges(_sample(matrix, missing, position), feature)
        for position, feature in enumerate(preparation.features)
        if feature.type != "category"
    }
    return _count(matrix, missing, preparation, edges, {})


def count_in(
    earlier: Sequence[FeatureBins], matrix: Matrix, missing: Masks, preparation: Preparation
) -> list[FeatureBins]:
    """Count these rows in the bins of an earlier run, for the columns that both have.

    Parameters are those of :func:`bin_features`, and the earlier run's bins.
    """
    types = preparation.types
    same = [b for b in earlier if b.of_category == (types.get(b.feature) == "category")]
    edges = {bins.feature: bins.edges for bins in same if not bins.of_category}
    levels = {bins.feature: bins for bins in same if bins.of_category}
    found = _count(matrix, missing, preparation, edges, levels)
    known = {*edges, *levels}
    return [bins for bins in found if bins.feature in known]


def _count(
    matrix: Matrix,
    missing: Masks,
    preparation: Preparation,
    edges: Mapping[str, Sequence[float]],
    levels: Mapping[str, FeatureBins],
) -> list[FeatureBins]:
    """Count all rows in one pass.

    Parameters
    ----------
    edges : dict of str to sequence of float
        Of the columns that are no category, in own units.
    levels : dict of str to FeatureBins
        Bins to keep to, of columns that are.
    """
    bounds = [
        feature.scaled(np.asarray(_bounds(feature, edges), dtype=np.float64))
        for feature in preparation.features
    ]
    below = _at_or_below(matrix, missing, bounds)
    positions: dict[str, list[int]] = {}
    for position, feature in enumerate(preparation.features):
        positions.setdefault(feature.column, []).append(position)
    bins = []
    for column, own in positions.items():
        features = [preparation.features[position] for position in own]
        known = int(below[own[0]][-1])
        absent = len(matrix) - known
        if features[0].type == "category":
            counts = [known - int(below[position][0]) for position in own]
            bins.append(level_bins(features, absent, counts, known, levels.get(column)))
        else:
            counts = np.diff([0, *below[own[0]]]).tolist()
            bins.append(range_bins(features[0], edges.get(column, ()), absent, counts))
    return bins


def _bounds(feature: PreparedFeature, edges: Mapping[str, Sequence[float]]) -> Sequence[float]:
    return [0.5] if feature.type == "category" else edges.get(feature.column, ())


def _at_or_below(
    matrix: Matrix, missing: Masks, bounds: Sequence[Vector]
) -> list[npt.NDArray[np.int64]]:
    """For each feature: known values at or below each bound, then all known values."""

    def count(start: int, stop: int) -> list[npt.NDArray[np.int64]]:
        part = np.ascontiguousarray(matrix[start:stop].T)
        counts = []
        for column, mask, of_column in zip(part, missing, bounds):
            known = column if mask is None else column[~mask[start:stop]]
            within = [np.count_nonzero(known <= bound) for bound in of_column]
            counts.append(np.array([*within, len(known)], dtype=np.int64))
        return counts

    return [np.sum(parts, axis=0) for parts in zip(*map_chunks(len(matrix), count))]


def _sample(matrix: Matrix, missing: Masks, position: int) -> Vector:
    """About SAMPLE_ROWS of the known values, evenly spaced."""
    mask, n_rows = missing[position], len(matrix)
    if mask is None:
        return np.ascontiguousarray(matrix[:: max(1, n_rows // SAMPLE_ROWS), position])
    known = n_rows - int(np.count_nonzero(mask))
    ranks = np.arange(0, known, max(1, known // SAMPLE_ROWS))
    rows = rows_where(n_rows, ranks, lambda start, stop: ~mask[start:stop])
    return np.asarray(matrix[rows, position])


def short_edges(known: Vector, feature: PreparedFeature) -> list[float]:
    """Short numbers near the deciles of prepared values, in own units, ascending, each below the
    highest value."""
    sample = known[:: max(1, len(known) // SAMPLE_ROWS)]
    if not len(sample):
        return []
    values = np.sort(own_values(feature, sample))
    at = (np.arange(1, BINS) * (len(values) - 1)) // BINS
    edges = {short_number(float(value), values) for value in values[at]}
    return sorted(edge for edge in edges if edge < values[-1])


def range_bins(
    feature: PreparedFeature, edges: Sequence[float], absent: int, counts: Sequence[int]
) -> FeatureBins:
    """The bins of a number or an age.

    Parameters
    ----------
    feature : PreparedFeature
    edges : sequence of float
        Ascending, in own units; each belongs to the bin that it ends.
    absent : int
        Missing values.
    counts : sequence of int
        One more than the edges.
    """
    labels, unit = [], " days" if feature.type == "date" else ""
    for number in range(len(edges) + 1):
        if not edges:
            labels.append("known")
        elif number == 0:
            labels.append(f"<= {number_text(edges[0])}{unit}")
        elif number == len(edges):
            labels.append(f"> {number_text(edges[-1])}{unit}")
        else:
            labels.append(f"{number_text(edges[number - 1])} to {number_text(edges[number])}{unit}")
    return FeatureBins(
        feature.column,
        (MISSING, *labels),
        (None, *edges, None),
        (absent, *counts),
    )


def level_bins(
    features: Sequence[PreparedFeature],
    absent: int,
    counts: Sequence[int],
    known: int,
    earlier: FeatureBins | None = None,
) -> FeatureBins:
    """The bins of a category.

    Parameters
    ----------
    features : sequence of PreparedFeature
        Of its levels.
    absent : int
        Missing values.
    counts : sequence of int
        Customers of each level.
    known : int
        Customers that have any level.
    earlier : FeatureBins, optional
        Whose bins to keep to: customers of other levels are among the others.
    """
    if earlier is None:
        levels = [_level(feature) for feature in features]
        labels = [*levels, *([] if OTHER in levels else [OTHER])]
    else:
        labels = list(earlier.labels[1:])
    found = dict.fromkeys(labels, 0)
    for feature, count in zip(features, counts):
        label = _level(feature)
        found[label if label in found else OTHER] += count
    found[OTHER] += max(0, known - sum(found.values()))
    return FeatureBins(
        features[0].column,
        (MISSING, *found),
        (None,) * (len(found) + 1),
        (absent, *found.values()),
    )


def _level(feature: PreparedFeature) -> str:
    return OTHER if feature.level is None else feature.level


def skipped_missing(
    missing: Masks, kept: npt.NDArray[np.bool_], preparation: Preparation
) -> dict[str, int]:
    """Missing values of the rows that were left out, by source column.

    Parameters
    ----------
    missing : sequence of (ndarray of bool of shape (n_rows,) or None)
        For each column of the source, of all rows.
    kept : ndarray of bool of shape (n_rows,)
    preparation : Preparation
    """
    if kept.all():
        return {}

    def count(start: int, stop: int) -> list[int]:
        gone = ~kept[start:stop]
        return [
            0 if mask is None else int(np.count_nonzero(mask[start:stop] & gone))
            for mask in missing
        ]

    counts = np.sum(map_chunks(len(kept), count), axis=0).tolist()
    return {
        column: number
        for column, mask, number in zip(preparation.columns, missing, counts)
        if mask is not None
    }


def with_skipped(bins: Iterable[FeatureBins], skipped: Mapping[str, int]) -> list[FeatureBins]:
    """Count the missing values of rows that were left out as well: a broken load has most."""
    return [
        replace(b, customers=(b.customers[0] + skipped.get(b.feature, 0), *b.customers[1:]))
        for b in bins
    ]


def population_stability(before: FeatureBins, now: FeatureBins) -> float:
    """The population stability index of two counts over the same bins.

    The sum of (a - e) ln(a / e) over the bins' shares, e before and a now, each at least 0.0001;
    0 where nothing changed. Siddiqi, Credit Risk Scorecards, 2006, calls 0.1 to 0.25 a small
    change and more a large one; Yurdakul (2018) gives its distribution.
    """
    expected = np.maximum(before.shares, LEAST_SHARE)
    actual = np.maximum(now.shares, LEAST_SHARE)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def largest_change(before: FeatureBins, now: FeatureBins) -> tuple[str, float, float]:
    """The bin whose share changed most: its label, its share now and before."""
    number = int(np.abs(now.shares - before.shares).argmax())
    return before.labels[number], float(now.shares[number]), float(before.shares[number])


def bins_to_rows(bins: Iterable[FeatureBins]) -> list[dict[str, Any]]:
    """One row a bin, as the table ``feature_bin`` keeps them, without their run."""
    return [
        {
            "position": position,
            "bin": number,
            "feature": feature.feature,
            "label": label,
            "upper": upper,
            "customers": customers,
        }
        for position, feature in enumerate(bins, start=1)
        for number, (label, upper, customers) in enumerate(
            zip(feature.labels, feature.uppers, feature.customers)
        )
    ]


def bins_from_rows(rows: Iterable[Mapping[str, Any]]) -> list[FeatureBins]:
    """Read what :func:`bins_to_rows` wrote."""
    by_position: dict[int, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["position"], row["bin"])):
        by_position.setdefault(row["position"], []).append(row)
    return [
        FeatureBins(
            part[0]["feature"],
            tuple(row["label"] for row in part),
            tuple(row.get("upper") for row in part),
            tuple(int(row["customers"]) for row in part),
        )
        for part in by_position.values()
    ]
