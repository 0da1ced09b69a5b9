"""A short rule for each segment, in the columns' own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.chunks import label_counts, map_chunks
from sqlkmeans.clustering.arrays.sampling import stratified_rows
from sqlkmeans.clustering.arrays.types import Labels, Matrix
from sqlkmeans.clustering.describing.numbers import number_text, own_values, short_number
from sqlkmeans.clustering.describing.tree import Grid, Node, best_node, grow
from sqlkmeans.clustering.preparation.preparation import OTHER, Preparation, PreparedFeature

SAMPLE_ROWS = 20_000
MAX_DEPTH = 3


@dataclass(frozen=True)
class Rule:
    """A condition that most of a segment's customers meet, and few others.

    Attributes
    ----------
    text : str
        ``income > 120,000 and age <= 45``.
    precision : float
        Share of the customers who meet the rule that are in the segment.
    coverage : float
        Share of the segment's customers who meet the rule.
    """

    text: str
    precision: float
    coverage: float


@dataclass(frozen=True)
class Interval:
    """``low < value <= high``, in the column's own units."""

    low: float
    high: float


@dataclass(frozen=True)
class Condition:
    """A rule that is not counted yet.

    Attributes
    ----------
    text : str
    intervals : dict of int to Interval
        By the position of the feature; all of them have to be met.
    """

    text: str
    intervals: dict[int, Interval]

    def counted(self, meeting: int, inside: int, size: int) -> Rule:
        """The rule, met by so many customers, of whom so many are in a segment of that size."""
        return Rule(self.text, inside / max(1, meeting), inside / max(1, size))


def find_rules(
    matrix: Matrix, preparation: Preparation, labels: Labels, k: int, *, seed: int = 0
) -> list[Rule | None]:
    """The rule of each cluster: the path of a shallow decision tree with the best F1.

    The tree is grown on a sample, its thresholds are rounded, and the rounded rule is then
    counted on all rows.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        Prepared rows. A missing value counts as what it was filled with.
    preparation : Preparation
    labels : ndarray of int of shape (n_rows,)
    k : int
    seed : int, default=0
        Draws the sample of 20,000 rows.

    Returns
    -------
    list of (Rule or None) of length k
        None where no condition tells the cluster from the rest.
    """
    counting = RuleCounts(find_conditions(matrix, preparation, labels, k, seed=seed), preparation)

    def look(start: int, stop: int) -> npt.NDArray[np.int64]:
        columns = {p: np.ascontiguousarray(matrix[start:stop, p]) for p in counting.positions}
        return counting.look(columns, labels[start:stop])

    counts = np.sum(map_chunks(len(labels), look), axis=0)
    return counting.rules(counts, label_counts(labels, k))


def find_conditions(
    matrix: Matrix, preparation: Preparation, labels: Labels, k: int, *, seed: int = 0
) -> list[Condition | None]:
    """The conditions of the rules of :func:`find_rules`, whose parameters they have."""
    sizes = label_counts(labels, k)
    rows = stratified_rows(labels, sizes, SAMPLE_ROWS, seed)
    drawn = labels[rows]
    sample = matrix[rows]
    values = np.column_stack(
        [own_values(f, sample[:, j]) for j, f in enumerate(preparation.features)]
    )
    weights = (sizes / np.maximum(1, np.bincount(drawn, minlength=k)))[drawn]
    grid = Grid(values)
    ordered = np.sort(values, axis=0)
    found: list[Condition | None] = []
    for cluster in range(k):
        node = best_node(grow(grid, drawn == cluster, weights, MAX_DEPTH))
        intervals = {} if node is None else _intervals(node, ordered)
        text = _text(intervals, preparation, ordered)
        found.append(Condition(text, intervals) if intervals else None)
    return found


def _intervals(node: Node, ordered: Matrix) -> dict[int, Interval]:
    """The conditions of a path by column, the first condition's column first."""
    found: dict[int, Interval] = {}
    exact: dict[int, Interval] = {}
    for split in node.path:
        column = ordered[:, split.position]
        for intervals, value in (
            (found, short_number(split.threshold, column)),
            (exact, split.threshold),
        ):
            known = intervals.get(split.position, Interval(-inf, inf))
            intervals[split.position] = (
                Interval(max(known.low, value), known.high)
                if split.above
                else Interval(known.low, min(known.high, value))
            )
    # Two thresholds so near each other that rounding leaves nothing between them stay exact.
    return {p: i if i.low < i.high else exact[p] for p, i in found.items()}


class RuleCounts:
    """Counts the rows that meet conditions, some rows at a time.

    Parameters
    ----------
    conditions : sequence of (Condition or None)
        One a cluster.
    preparation : Preparation
    """

    def __init__(self, conditions: Sequence[Condition | None], preparation: Preparation) -> None:
        self._conditions = conditions
        self._scaled = [
            [
                (position, preparation.features[position].scaled(np.array([bound])), above)
                for position, interval in (condition.intervals if condition else {}).items()
                for bound, above in ((interval.low, True), (interval.high, False))
                if abs(bound) != inf
            ]
            for condition in conditions
        ]
        #: The features that the conditions ask for.
        self.positions = sorted({p for rule in self._scaled for p, _, _ in rule})

    def look(
        self, columns: Mapping[int, npt.NDArray[np.float64]], labels: Labels
    ) -> npt.NDArray[np.int64]:
        """Count some rows.

        Parameters
        ----------
        columns : mapping of int to ndarray of float64 of shape (n_rows,)
            Prepared values by the position of the feature.
        labels : ndarray of int of shape (n_rows,)

        Returns
        -------
        ndarray of int64 of shape (k, 2)
            Rows that meet each condition, and of them the segment's own. What several calls
            return is added.
        """
        counts = []
        for cluster, rule in enumerate(self._scaled):
            meets = np.ones(len(labels), dtype=bool)
            for position, bound, above in rule:
                column = columns[position]
                meets &= column > bound if above else column <= bound
            meeting = int(np.count_nonzero(meets))
            meets &= labels == cluster
            counts.append((meeting, int(np.count_nonzero(meets))))
        return np.array(counts, dtype=np.int64)

    def rules(
        self, counts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
    ) -> list[Rule | None]:
        """The rules, from what :meth:`look` counted of all rows and each cluster's size."""
        return [
            None if condition is None else condition.counted(meeting, inside, size)
            for condition, (meeting, inside), size in zip(
                self._conditions, counts.tolist(), sizes.tolist()
            )
        ]


def _text(rule: dict[int, Interval], preparation: Preparation, ordered: Matrix) -> str:
    return " and ".join(
        _condition(preparation.features[position], interval, ordered[:, position])
        for position, interval in rule.items()
    )


def _condition(feature: PreparedFeature, interval: Interval, ordered: Matrix) -> str:
    above = interval.low != -inf
    if feature.type == "category":
        level = OTHER if feature.level is None else feature.level
        return f"{feature.column} is {'' if above else 'not '}{level}"
    if ordered[0] == 0 and ordered[-1] == 1 and bool(((ordered == 0) | (ordered == 1)).all()):
        return f"{feature.column} = {int(above)}"
    name, unit = feature.column, ""
    if feature.type == "date":
        name, unit = f"age of {feature.column}", " days"
    low, high = number_text(interval.low), number_text(interval.high)
    if interval.high == inf:
        return f"{name} > {low}{unit}"
    return f"{name} <= {high}{unit}" if not above else f"{low} < {name} <= {high}{unit}"
