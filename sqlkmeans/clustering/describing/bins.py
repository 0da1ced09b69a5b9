"""How customers spread over each feature, and how far that differs from an earlier run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import map_chunks, rows_where
from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.describing.numbers import number_text, own_values, short_number
from sqlkmeans.clustering.preparation.preparation import OTHER, Preparation, PreparedFeature

Masks = Sequence["npt.NDArray[np.bool_] | None"]

BINS = 10
SAMPLE_ROWS = 20_000
#: An empty bin counts as this share, because a logarithm of 0 is none.
LEAST_SHARE = 1e-4
MISSING = "missing"


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
    return _counted(BinCounts.cut(matrix, missing, preparation), matrix, missing)


def count_in(
    earlier: Sequence[FeatureBins], matrix: Matrix, missing: Masks, preparation: Preparation
) -> list[FeatureBins]:
    """Count these rows in the bins of an earlier run, for the columns that both have.

    Parameters are those of :func:`bin_features`, and the earlier run's bins.
    """
    return _counted(BinCounts.like(earlier, preparation), matrix, missing)


class BinCounts:
    """Counts rows in bins, some rows at a time.

    Parameters
    ----------
    preparation : Preparation
    edges : dict of str to sequence of float
        Of the columns that are no category, in own units.
    levels : dict of str to FeatureBins, optional
        Bins to keep to, of columns that are.
    columns : collection of str, optional
        Those to count; by default all.
    """

    def __init__(
        self,
        preparation: Preparation,
        edges: Mapping[str, Sequence[float]],
        levels: Mapping[str, FeatureBins] | None = None,
        columns: Collection[str] | None = None,
    ) -> None:
        self._preparation, self._edges, self._levels = preparation, edges, levels or {}
        self._columns = preparation.columns if columns is None else columns
        self._bounds = [
            feature.scaled(np.asarray(_bounds(feature, edges), dtype=np.float64))
            for feature in preparation.features
        ]

    @classmethod
    def cut(cls, matrix: Matrix, missing: Masks, preparation: Preparation) -> BinCounts:
        """New bins, as :func:`bin_features` cuts them."""
        edges = {
            feature.column: short_edges(_sample(matrix, missing, position), feature)
            for position, feature in enumerate(preparation.features)
            if feature.type != "category"
        }
        return cls(preparation, edges)

    @classmethod
    def like(cls, earlier: Sequence[FeatureBins], preparation: Preparation) -> BinCounts:
        """The bins of an earlier run, of the columns that both have."""
        types = preparation.types
        same = [b for b in earlier if b.of_category == (types.get(b.feature) == "category")]
        edges = {bins.feature: bins.edges for bins in same if not bins.of_category}
        levels = {bins.feature: bins for bins in same if bins.of_category}
        return cls(preparation, edges, levels, {*edges, *levels})

    def look(self, columns: Matrix, missing: Masks) -> npt.NDArray[np.int64]:
        """Count some rows.

        Parameters
        ----------
        columns : ndarray of shape (n_features, n_rows)
            Prepared.
        missing : sequence of (ndarray of bool of shape (n_rows,) or None)

        Returns
        -------
        ndarray of int64
            For each feature: known values at or below each bound, then all known values; last
            the number of rows. What several calls return is added.
        """
        counts: list[int] = []
        for column, mask, bounds in zip(columns, missing, self._bounds):
            known = column if mask is None else column[~mask]
            counts += [int(np.count_nonzero(known <= bound)) for bound in bounds]
            counts.append(len(known))
        return np.array([*counts, columns.shape[1]], dtype=np.int64)

    def bins(self, counts: npt.NDArray[np.int64]) -> list[FeatureBins]:
        """The bins, from what :meth:`look` counted of all rows."""
        ends = np.cumsum([len(bounds) + 1 for bounds in self._bounds])
        below, n_rows = np.split(counts[:-1], ends[:-1]), int(counts[-1])
        positions: dict[str, list[int]] = {}
        for position, feature in enumerate(self._preparation.features):
            positions.setdefault(feature.column, []).append(position)
        bins = []
        for column, own in positions.items():
            features = [self._preparation.features[position] for position in own]
            known = int(below[own[0]][-1])
            absent = n_rows - known
            if features[0].type == "category":
                of_levels = [known - int(below[position][0]) for position in own]
                bins.append(
                    level_bins(features, absent, of_levels, known, self._levels.get(column))
                )
            else:
                between = np.diff([0, *below[own[0]]]).tolist()
                bins.append(range_bins(features[0], self._edges.get(column, ()), absent, between))
        return [found for found in bins if found.feature in self._columns]


def _counted(counts: BinCounts, matrix: Matrix, missing: Masks) -> list[FeatureBins]:
    """All rows of a matrix in bins, in one pass."""

    def look(start: int, stop: int) -> npt.NDArray[np.int64]:
        masks = [mask if mask is None else mask[start:stop] for mask in missing]
        return counts.look(np.ascontiguousarray(matrix[start:stop].T), masks)

    return counts.bins(np.sum(map_chunks(len(matrix), look), axis=0))


def _bounds(feature: PreparedFeature, edges: Mapping[str, Sequence[float]]) -> Sequence[float]:
    return [0.5] if feature.type == "category" else edges.get(feature.column, ())


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
