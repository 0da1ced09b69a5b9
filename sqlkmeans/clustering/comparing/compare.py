"""A run beside an earlier one: what differs, in numbers and in words.

Plain numbers in and out, so that the client and Python inside the server say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.describing.bins import FeatureBins, largest_change, population_stability
from sqlkmeans.clustering.describing.numbers import brief_number
from sqlkmeans.errors import DataError

Row = dict[str, Any]

#: Keys of a definition that make the scaled space; another value makes another space.
_SPACE = ("features", "scaling", "missing", "winsorize", "sample_weight")


#: What is allowed where a definition says nothing.
THRESHOLDS = {
    "rows": 0.5,
    "moved": 0.5,
    "psi": 0.25,
    "centroid_shift": 1.0,
    "distance": 0.5,
    "silhouette": 0.2,
    "outliers": 0.05,
}

_REFUSED = (
    'nothing was published, because guard.action is "refuse"; correct the source, or publish all '
    'the same with a higher threshold or with "warn" (docs/operate.md)'
)


@dataclass(frozen=True)
class RunFacts:
    """What of a run is compared.

    Attributes
    ----------
    run_id : int
    rows, k : int
    silhouette, mean_distance : float or None
        None where it is not known.
    definition : mapping
        The definition's keys.
    bins : sequence of FeatureBins
        For the newer of two runs, counted in the earlier one's bins.
    means : mapping of str to (float or None)
        Everyone's mean of each feature, in the column's own units.
    outliers : int or None, default=None
        Customers beyond the limits of their segments; None where there are none, or not known.
    """

    run_id: int
    rows: int
    k: int
    silhouette: float | None
    mean_distance: float | None
    definition: Mapping[str, Any]
    bins: Sequence[FeatureBins]
    means: Mapping[str, float | None]
    outliers: int | None = None

    @property
    def outlier_share(self) -> float | None:
        """Of the customers."""
        return None if self.outliers is None else self.outliers / max(1, self.rows)


@dataclass(frozen=True)
class Movement:
    """Where the customers of both runs went.

    Attributes
    ----------
    stayed, moved : int
        Customers in both that kept, or changed, their segment.
    born, gone : sequence of int
        Segment ids that only the newer, or only the earlier run has.
    shifts : mapping of int to float
        How far each segment's centroid moved, in the newer run's scaled space.
    """

    stayed: int
    moved: int
    born: Sequence[int] = ()
    gone: Sequence[int] = ()
    shifts: Mapping[int, float] = field(default_factory=dict)

    @property
    def moved_share(self) -> float:
        """Of the customers in both runs."""
        return self.moved / max(1, self.moved + self.stayed)


@dataclass(frozen=True)
class Comparison:
    """What differs.

    Attributes
    ----------
    run : dict
        Columns of the run's row: ``compared_run_id``, ``psi``, ``centroid_shift``.
    drift : list of dict
        Rows of the table ``feature_drift``, without their run.
    alarms : list of str
        What is beyond a threshold of the guard, in words.
    notes : list of str
        What people should know as well.
    """

    run: Row
    drift: list[Row]
    alarms: list[str]
    notes: list[str]


def compare(
    now: RunFacts, before: RunFacts, movement: Movement, guard: Mapping[str, Any]
) -> Comparison:
    """Compare a run with an earlier one.

    What a change of the definition makes meaningless is left out, and a note says so: with other
    features or another k, customers have to move.

    Parameters
    ----------
    now, before : RunFacts
    movement : Movement
    guard : mapping
        ``action`` and the thresholds, as the definition has them.

    Raises
    ------
    DataError
        If something is beyond a threshold and the action is ``refuse``.
    """
    guard = {**THRESHOLDS, **guard}
    drift, alarms = _drift(now, before, guard["psi"])
    alarms = _rows_alarm(now, before, guard["rows"]) + alarms
    notes = []
    differences = _differences(now, before)
    if differences:
        notes.append(
            f"{' and '.join(differences)} changed since run {before.run_id}: moved customers, "
            "centroids, distances and silhouette are not compared with it"
        )
    else:
        alarms += _movement_alarms(movement, before.run_id, guard)
        alarms += _score_alarms(now, before, guard)
    notes += [f"segment {segment_id} is new" for segment_id in movement.born]
    notes += [f"segment {segment_id} is gone" for segment_id in movement.gone]
    if alarms and guard.get("action") == "refuse":
        raise DataError([*alarms, _REFUSED])
    run = {
        "compared_run_id": before.run_id,
        "psi": max((row["psi"] for row in drift), default=None),
        "centroid_shift": max(movement.shifts.values(), default=None),
    }
    return Comparison(run, drift, alarms, notes)


def movement(
    overlap: Iterable[tuple[int, int, int]],
    segment_ids: Sequence[int],
    centroids: Matrix,
    earlier_ids: Sequence[int],
    earlier_centroids: Matrix | None,
) -> Movement:
    """Count who moved, and measure how far centroids did.

    Parameters
    ----------
    overlap : iterable of (segment_id, cluster, customers)
        Customers that a published segment and a new cluster share.
    segment_ids : sequence of int
        Of the new clusters.
    centroids : ndarray of shape (k, n_features)
        In the order of ``segment_ids``.
    earlier_ids : sequence of int
    earlier_centroids : ndarray or None
        In the new scaled space; None where the features are not the same.
    """
    stayed = moved = 0
    for segment_id, cluster, customers in overlap:
        if segment_ids[cluster] == segment_id:
            stayed += customers
        else:
            moved += customers
    shifts = {}
    if earlier_centroids is not None:
        places = {segment_id: place for place, segment_id in enumerate(earlier_ids)}
        # Rounded, because what the way through own units leaves of 0 is no movement.
        shifts = {
            segment_id: round(
                float(np.linalg.norm(centroid - earlier_centroids[places[segment_id]])), 9
            )
            for segment_id, centroid in zip(segment_ids, centroids)
            if segment_id in places
        }
    return Movement(
        stayed,
        moved,
        sorted(set(segment_ids) - set(earlier_ids)),
        sorted(set(earlier_ids) - set(segment_ids)),
        shifts,
    )


def _differences(now: RunFacts, before: RunFacts) -> list[str]:
    found = [
        key for key in _SPACE if not _same(now.definition.get(key), before.definition.get(key))
    ]
    return [*found, "k"] if now.k != before.k else found


def _same(a: Any, b: Any) -> bool:
    """Equal in all that both say: an older definition lacks the keys that came later."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return all(_same(a[key], b[key]) for key in a if key in b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    return bool(a == b)


def _drift(now: RunFacts, before: RunFacts, allowed: float) -> tuple[list[Row], list[str]]:
    """Rows of ``feature_drift``, and a sentence for each feature that drifted."""
    earlier = {bins.feature: bins for bins in before.bins}
    rows, alarms = [], []
    for position, bins in enumerate(now.bins, start=1):
        then = earlier[bins.feature]
        psi = population_stability(then, bins)
        mean, previous = now.means.get(bins.feature), before.means.get(bins.feature)
        rows.append(
            {
                "position": position,
                "feature": bins.feature,
                "psi": psi,
                "mean": mean,
                "previous_mean": previous,
                "missing_share": float(bins.shares[0]),
                "previous_missing_share": float(then.shares[0]),
            }
        )
        if psi > allowed:
            label, share, share_then = largest_change(then, bins)
            means = (
                ""
                if mean is None or previous is None
                else f"mean {_mean(mean)}, was {_mean(previous)}; "
            )
            alarms.append(
                f"{bins.feature}: drifted since run {before.run_id} (PSI {psi:.2f}, allowed "
                f"{allowed:g}): {means}{share:.0%} are {label}, and {share_then:.0%} were"
            )
    return rows, alarms


def _rows_alarm(now: RunFacts, before: RunFacts, allowed: float) -> list[str]:
    change = now.rows / max(1, before.rows) - 1
    if abs(change) <= allowed:
        return []
    return [
        f"customers: {now.rows:,}, and {before.rows:,} in run {before.run_id} "
        f"({change:+.0%}, allowed {allowed:.0%})"
    ]


def _movement_alarms(moves: Movement, run_id: int, guard: Mapping[str, Any]) -> list[str]:
    alarms = []
    if moves.moved_share > guard["moved"]:
        alarms.append(
            f"moved: {moves.moved:,} of {moves.moved + moves.stayed:,} customers changed segment "
            f"({moves.moved_share:.0%}, allowed {guard['moved']:.0%})"
        )
    far = {i: shift for i, shift in moves.shifts.items() if shift > guard["centroid_shift"]}
    alarms += [
        f"segment {segment_id}: its centroid moved by {shift:.2f} since run {run_id} "
        f"(allowed {guard['centroid_shift']:g}, in the scaled space)"
        for segment_id, shift in far.items()
    ]
    return alarms


def _score_alarms(now: RunFacts, before: RunFacts, guard: Mapping[str, Any]) -> list[str]:
    alarms = []
    if now.mean_distance is not None and before.mean_distance:
        growth = now.mean_distance / before.mean_distance - 1
        if growth > guard["distance"]:
            alarms.append(
                f"distance: {now.mean_distance:.3g} to the centroid on average, was "
                f"{before.mean_distance:.3g} in run {before.run_id} "
                f"({growth:+.0%}, allowed {guard['distance']:.0%})"
            )
    share, share_then = now.outlier_share, before.outlier_share
    # Another share is another limit.
    same = now.definition.get("outlier") == before.definition.get("outlier")
    if (
        same
        and share is not None
        and share_then is not None
        and share - share_then > guard["outliers"]
    ):
        alarms.append(
            f"outliers: {share:.1%} of the customers, and {share_then:.1%} in run "
            f"{before.run_id} (allowed rise {guard['outliers']:.1%})"
        )
    if now.silhouette is not None and before.silhouette is not None:
        fall = before.silhouette - now.silhouette
        if fall > guard["silhouette"]:
            alarms.append(
                f"silhouette: {now.silhouette:.2f}, was {before.silhouette:.2f} in run "
                f"{before.run_id} (fell by {fall:.2f}, allowed {guard['silhouette']:g})"
            )
    return alarms


def _mean(value: float) -> str:
    return brief_number(value, digits=4)  # enough to see what changed
