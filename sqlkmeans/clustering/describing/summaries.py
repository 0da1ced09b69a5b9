"""Means, deviations, extremes and medians of every feature in every segment, and of everyone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import map_chunks
from sqlkmeans.clustering.arrays.types import Mask, Matrix, Vector
from sqlkmeans.clustering.preparation.preparation import Preparation
from sqlkmeans.clustering.preparation.quantiles import (
    SMALL,
    Bracket,
    Cut,
    Search,
    Wanted,
    between,
    linear_ranks,
)

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
    moments = _Moments(sample)
    search = Search(_wanted_medians(counts, sample))
    while asked := search.asked():
        search.take(asked, _cut_all(groups, asked, moments))
    return _summaries(counts, moments, search)


Looked = tuple[list[Cut], list[npt.NDArray[np.float64]]]


class PassingSummaries:
    """The same of rows that pass once, of which no value is missing.

    Parameters
    ----------
    sample : GroupedValues
        Some of the rows, which say about where medians are.
    sizes : ndarray of int64 of shape (k,)
        About how many rows each segment has.
    """

    def __init__(self, sample: GroupedValues, sizes: npt.NDArray[np.int64]) -> None:
        self._k, self._preparation = sample.k, sample.preparation
        self._none_missing: list[Mask | None] = [None] * len(sample.preparation.features)
        self._sample = sample.sample()
        self._moments = _Moments(self._sample)
        self._asked = Search(self._wanted(sizes)).asked()

    def _wanted(self, sizes: npt.NDArray[np.int64]) -> list[Wanted]:
        return _wanted_medians(self._counts(sizes), self._sample)

    def _counts(self, sizes: npt.NDArray[np.int64]) -> list[list[tuple[int, int]]]:
        return [[(int(n), 0) for n in (sizes.sum(), *sizes)]] * len(self._sample)

    def look(self, rows: Matrix, labels: npt.NDArray[np.int32]) -> Looked:
        """What some rows tell.

        Parameters
        ----------
        rows : ndarray of float64 of shape (n_rows, n_features)
            Prepared.
        labels : ndarray of int32 of shape (n_rows,)
        """
        by_feature = _by_feature(self._asked, self._k)
        return _look(self._groups(rows, labels), slice(None), by_feature, self._moments, by_feature)

    def _groups(self, rows: Matrix, labels: npt.NDArray[np.int32]) -> GroupedValues:
        return GroupedValues(rows, self._none_missing, self._preparation, labels, self._k)

    def finish(
        self,
        looked: Sequence[Looked],
        sizes: npt.NDArray[np.int64],
        look_again: Callable[[Callable[[Matrix, npt.NDArray[np.int32]], Any]], Iterable[Any]],
    ) -> list[list[Summary]]:
        """A summary of each feature in each group.

        Parameters
        ----------
        looked : sequence
            What :meth:`look` returned, in the order of the rows.
        sizes : ndarray of int64 of shape (k,)
            Rows a label.
        look_again : callable
            Lets all rows pass once more, calls a function as :meth:`look` is called, and returns
            its results: where the sample misled.
        """
        for number, position in enumerate(_by_feature(self._asked, self._k)):
            self._moments.add(position, [found[number] for _, found in looked])
        search = Search(self._wanted(sizes))
        search.take(self._asked, map(list, zip(*(cuts for cuts, _ in looked))))
        while asked := search.asked():

            def cut(rows: Matrix, labels: npt.NDArray[np.int32]) -> list[Cut]:
                by_feature = _by_feature(asked, self._k)
                groups = self._groups(rows, labels)
                return _look(groups, slice(None), by_feature, self._moments, ())[0]

            search.take(asked, map(list, zip(*look_again(cut))))
        return _summaries(self._counts(sizes), self._moments, search)


class _Moments:
    """Mean, deviation, least and greatest value of each feature in each group."""

    def __init__(self, sample: Sequence[Sequence[Vector]]) -> None:
        # Sums of squares about a value that is there keep their digits, and are 0 where all are
        # it.
        self._about = np.array([[v[len(v) // 2] if len(v) else 0.0 for v in g] for g in sample])
        self._added: dict[int, npt.NDArray[np.float64]] = {}

    def has(self, position: int) -> bool:
        """Whether all values of a feature have been added."""
        return position in self._added

    def of_chunk(self, position: int, values: Sequence[Vector]) -> npt.NDArray[np.float64]:
        """What a chunk's values of a feature say; everyone's come first, then each segment's."""
        found = np.empty((5, len(values) - 1))
        for group, own in enumerate(values[1:]):
            shifted = own - self._about[position, group + 1]
            total = shifted.sum()
            shifted *= shifted
            found[:, group] = (
                len(own), total, shifted.sum(),
                own.min(initial=np.inf), own.max(initial=-np.inf),
            )  # fmt: skip
        return found

    def add(self, position: int, parts: Sequence[npt.NDArray[np.float64]]) -> None:
        """Take what all chunks say of a feature."""
        stacked = np.array(parts)
        self._added[position] = np.vstack(
            [stacked[:, :3].sum(axis=0), stacked[:, 3:4].min(axis=0), stacked[:, 4:].max(axis=0)]
        )

    def found(self) -> list[list[tuple[float, float, float, float]]]:
        """All of them, of each feature in each group; any numbers where there is no value."""
        none = np.zeros((5, self._about.shape[1] - 1))
        added = np.array([self._added.get(p, none) for p in range(len(self._about))])
        counts, sums, squares, lows, highs = np.moveaxis(added, 1, 0)
        shift = sums / np.maximum(counts, 1)
        squares = np.maximum(squares - counts * shift**2, 0)
        means = self._about[:, 1:] + shift
        # Everyone is all segments together (Chan, Golub & LeVeque, 1983, "Algorithms for
        # computing the sample variance").
        about = self._about[:, :1]
        total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        apart = (counts * (means - about)).sum(axis=1, keepdims=True) / total
        around = np.sum(squares + counts * (means - about - apart) ** 2, axis=1, keepdims=True)
        means = np.hstack([about + apart, means])
        deviations = np.sqrt(np.hstack([around / total, squares / np.maximum(counts, 1)]))
        lows = np.hstack([lows.min(axis=1, keepdims=True), lows])
        highs = np.hstack([highs.max(axis=1, keepdims=True), highs])
        found = np.stack([means, deviations, lows, highs], axis=-1)
        return [[tuple(group) for group in feature] for feature in found.tolist()]


def _wanted_medians(
    counts: Sequence[Sequence[tuple[int, int]]], sample: Sequence[Sequence[Vector]]
) -> list[Wanted]:
    """What medians lie between: of one feature each group's, then of the next."""
    return [
        Wanted(linear_ranks(known, 0.5)[:2], known, values)
        for of_feature in zip(counts, sample)
        for (known, _), values in zip(*of_feature)
    ]


def _summaries(
    counts: Sequence[Sequence[tuple[int, int]]], moments: _Moments, search: Search
) -> list[list[Summary]]:
    found = iter(search.results)
    summaries: list[list[Summary]] = []
    for of_counts, of_moments in zip(counts, moments.found()):
        summaries.append([])
        for (known, gone), moment, (low, high) in zip(of_counts, of_moments, found):
            if known:
                median = between(low, high, linear_ranks(known, 0.5)[2])
                summaries[-1].append(Summary(known, gone, *moment[:3], median, moment[3]))
            else:
                summaries[-1].append(Summary(0, gone))
    return summaries


def _by_feature(
    asked: Sequence[tuple[int, Bracket]], k: int
) -> dict[int, list[tuple[int, Bracket]]]:
    """By the position of the feature: groups, each with a bracket."""
    found: dict[int, list[tuple[int, Bracket]]] = {}
    for number, bracket in asked:
        found.setdefault(number // (k + 1), []).append((number % (k + 1), bracket))
    return found


def _cut_all(
    groups: GroupedValues, asked: Sequence[tuple[int, Bracket]], moments: _Moments
) -> Iterator[list[Cut]]:
    """What each bracket keeps; the moments are taken from the same passes."""
    by_feature = _by_feature(asked, groups.k)
    for positions in _turns(list(by_feature), len(groups.labels)):
        yield from _cut_features(groups, {p: by_feature[p] for p in positions}, moments)


def _cut_features(
    groups: GroupedValues, asked: dict[int, list[tuple[int, Bracket]]], moments: _Moments
) -> Iterator[list[Cut]]:
    """One pass: what each group's bracket keeps of all chunks, and moments not had yet."""
    positions = list(asked)
    new = [position for position in positions if not moments.has(position)]

    def look(start: int, stop: int) -> Looked:
        return _look(groups, slice(start, stop), asked, moments, new)

    cuts, found = zip(*map_chunks(len(groups.labels), look))
    for position, parts in zip(new, zip(*found)):
        moments.add(position, parts)
    # Not all features' at once: what is kept of one is let go before the next.
    yield from map(list, zip(*cuts))


def _look(
    groups: GroupedValues,
    rows: slice,
    asked: dict[int, list[tuple[int, Bracket]]],
    moments: _Moments,
    new: Collection[int],
) -> Looked:
    """What each group's bracket keeps of some rows, and the moments of the features in ``new``."""
    cuts, found = [], []
    for position, values in zip(asked, groups.rows(rows, list(asked))):
        cuts += [bracket.cut(values[group]) for group, bracket in asked[position]]
        if position in new:
            found.append(moments.of_chunk(position, values))
    return cuts, found


def _turns(positions: list[int], n_rows: int) -> Iterator[list[int]]:
    """The features whose medians are found in one pass over the rows."""
    # A bracket of 5 standard errors has about so many of the values, of everyone and of segments.
    kept = n_rows if n_rows <= SMALL else int(n_rows * 2 * 5 / np.sqrt(SAMPLE_ROWS))
    step = max(1, KEPT_VALUES // max(1, 2 * kept))
    for first in range(0, len(positions), step):
        yield positions[first : first + step]
