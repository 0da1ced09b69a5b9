"""Means, deviations, extremes and medians of every feature in every segment, and of everyone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.chunks import map_chunks
from sqlkmeans.clustering.preparation import Preparation
from sqlkmeans.clustering.selection import (
    SMALL,
    Bracket,
    Cut,
    Wanted,
    between,
    linear_ranks,
    order_statistics,
)

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Rows of the sample that says about where medians are.
SAMPLE_ROWS = 50_000
#: Values of a feature that medians may keep at a time; features take turns above it.
KEPT_VALUES = 4_000_000


@dataclass(frozen=True)
class Summary:
    """One feature's known values in one group, in own units; without one, all but counts is 0."""

    count: int
    missing: int
    mean: float = 0.0
    deviation: float = 0.0
    min: float = 0.0
    median: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class GroupedValues:
    """The known values of each feature in own units: of everyone (group 0), then of each segment.

    Attributes
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows.
    missing : sequence of (ndarray of bool of shape (n_rows,) or None)
    preparation : Preparation
    labels : ndarray of int32 of shape (n_rows,)
    k : int
    """

    matrix: Matrix
    missing: Sequence[Mask | None]
    preparation: Preparation
    labels: npt.NDArray[np.int32]
    k: int

    def rows(
        self, rows: slice | npt.NDArray[np.int64], positions: Sequence[int]
    ) -> Iterator[list[Vector]]:
        """For some rows and each of some features: the values in each group."""
        # Rows of a segment side by side; a stable sort of 16-bit integers is a radix sort.
        labels = self.labels[rows]
        order = np.argsort(labels.astype(np.uint16), kind="stable")
        ends = np.cumsum(np.bincount(labels, minlength=self.k)).tolist()
        part = self.matrix[rows]
        for position in positions:
            values = self.preparation.features[position].invert(part[order, position])
            parts = [slice(start, end) for start, end in zip([0, *ends], ends)]
            mask = self.missing[position]
            if mask is None:
                yield [values, *(values[segment] for segment in parts)]
                continue
            known = ~mask[rows][order]
            yield [values[known], *(values[segment][known[segment]] for segment in parts)]

    def all_counts(self) -> list[list[tuple[int, int]]]:
        """Known and missing values of each feature in each group."""

        def count(start: int, stop: int) -> npt.NDArray[np.int64]:
            rows = slice(start, stop)
            labels = self.labels[rows]
            sizes = np.bincount(labels, minlength=self.k)
            absent = [
                np.zeros_like(sizes)
                if mask is None
                else np.bincount(labels[mask[rows]], minlength=self.k)
                for mask in self.missing
            ]
            return np.array([[sizes - gone, gone] for gone in absent])

        counts = np.sum(map_chunks(len(self.labels), count), axis=0)
        everyone = counts.sum(axis=2, keepdims=True)
        return [
            [(int(known), int(gone)) for known, gone in zip(*of_feature)]
            for of_feature in np.concatenate([everyone, counts], axis=2)
        ]

    def sample(self) -> list[list[Vector]]:
        """Of each feature and group some values, sorted; not every group need have one."""
        n_rows, positions = len(self.labels), range(len(self.preparation.features))
        if n_rows > SAMPLE_ROWS:
            rows = np.sort(np.random.default_rng(0).choice(n_rows, SAMPLE_ROWS, replace=False))
        else:
            rows = np.arange(n_rows)
        return [[np.sort(v) for v in groups] for groups in self.rows(rows, positions)]


def summarise(groups: GroupedValues) -> list[list[Summary]]:
    """A summary of each feature in each group."""
    counts, sample = groups.all_counts(), groups.sample()
    moments = _moments(groups, sample)
    medians = _medians(groups, counts, sample)
    return [
        [
            Summary(known, gone, *moment[:3], median, moment[3]) if known else Summary(0, gone)
            for (known, gone), moment, median in zip(*of_feature)
        ]
        for of_feature in zip(counts, moments, medians)
    ]


def _moments(
    groups: GroupedValues, sample: Sequence[Sequence[Vector]]
) -> list[list[tuple[float, float, float, float]]]:
    """Mean, deviation, least and greatest value of each feature in each group."""
    positions = range(len(sample))
    # Sums of squares about a value that is there keep their digits, and are 0 where all are it.
    about = np.array([[v[len(v) // 2] if len(v) else 0.0 for v in g] for g in sample])

    def add(start: int, stop: int) -> npt.NDArray[np.float64]:
        found = np.empty((5, *about.shape))
        for position, values in enumerate(groups.rows(slice(start, stop), positions)):
            for group, own in enumerate(values):
                shifted = own - about[position, group]
                total = shifted.sum()
                shifted *= shifted
                found[:, position, group] = (
                    len(own), total, shifted.sum(),
                    own.min(initial=np.inf), own.max(initial=-np.inf),
                )  # fmt: skip
        return found

    parts = np.array(map_chunks(len(groups.labels), add))
    counts, sums, squares = parts[:, :3].sum(axis=0)
    counts = np.maximum(counts, 1)
    shift = sums / counts
    deviations = np.sqrt(np.maximum(squares / counts - shift**2, 0))
    lows, highs = parts[:, 3].min(axis=0), parts[:, 4].max(axis=0)
    found = np.stack([about + shift, deviations, lows, highs], axis=-1)
    return [[tuple(group) for group in feature] for feature in found.tolist()]


def _medians(
    groups: GroupedValues,
    counts: Sequence[Sequence[tuple[int, int]]],
    sample: Sequence[Sequence[Vector]],
) -> list[list[float]]:
    ranks = [[linear_ranks(known, 0.5) for known, _ in of_feature] for of_feature in counts]
    width = groups.k + 1
    wanted = [
        Wanted((low, high), known, values)
        for of_feature in zip(ranks, counts, sample)
        for (low, high, _), (known, _), values in zip(*of_feature)
    ]

    def cut_all(asked: Sequence[tuple[int, Bracket]]) -> Iterator[list[Cut]]:
        by_feature: dict[int, list[tuple[int, Bracket]]] = {}
        for number, bracket in asked:
            by_feature.setdefault(number // width, []).append((number % width, bracket))
        for positions in _turns(list(by_feature), len(groups.labels)):
            brackets = [by_feature[position] for position in positions]

            def cut(
                start: int, stop: int, positions: list[int] = positions,
                brackets: list[list[tuple[int, Bracket]]] = brackets,
            ) -> list[Cut]:  # fmt: skip
                rows = groups.rows(slice(start, stop), positions)
                return [
                    bracket.cut(values[group])
                    for values, of_feature in zip(rows, brackets)
                    for group, bracket in of_feature
                ]

            # Not all features' at once: what is kept of one is let go before the next.
            yield from map(list, zip(*map_chunks(len(groups.labels), cut)))

    found = iter(order_statistics(wanted, cut_all))
    medians: list[list[float]] = []
    for of_feature in ranks:
        medians.append([])
        for (_, _, part), (low, high) in zip(of_feature, found):
            medians[-1].append(between(low, high, part))
    return medians


def _turns(positions: list[int], n_rows: int) -> Iterator[list[int]]:
    """The features whose medians are found in one pass over the rows."""
    # A bracket of 5 standard errors has about so many of the values, of everyone and of segments.
    kept = n_rows if n_rows <= SMALL else int(n_rows * 2 * 5 / np.sqrt(SAMPLE_ROWS))
    step = max(1, KEPT_VALUES // max(1, 2 * kept))
    for first in range(0, len(positions), step):
        yield positions[first : first + step]
