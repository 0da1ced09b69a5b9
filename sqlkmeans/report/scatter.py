"""Customers of the sample on any two axes: the features, or their principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.preparation.preparation import preparation_from_rows
from sqlkmeans.report.components import principal_components
from sqlkmeans.report.facts import Facts, Row
from sqlkmeans.report.marks import Mark
from sqlkmeans.report.scales import Axis, Tick, percent, signed

#: The plot's corners in the picture's own units, a round number of steps apart, so that the script
#: and this module round alike.
LEFT, RIGHT, TOP, BOTTOM = 84.0, 684.0, 36.0, 436.0
POINTS = 2_000
# Places are whole numbers from 0 to this: finer than a screen.
_STEPS = 1_000


@dataclass(frozen=True)
class ScatterAxis:
    """One choice for an axis.

    Attributes
    ----------
    name : str
    about : str
        What a principal component is made of.
    ticks : list of Tick
    places : list of int or None
        Of each customer, in thousandths of the axis; None where the value is missing.
    centroids : list of int or None
        Of each segment.
    scale : Axis or None
        What a place is in the feature's own units; None of a principal component.
    """

    name: str
    about: str
    ticks: list[Tick]
    places: list[int | None]
    centroids: list[int | None]
    scale: Axis | None


@dataclass(frozen=True)
class Scatter:
    """The picture as it first stands, and all that another choice of axes needs.

    Attributes
    ----------
    axes : list of ScatterAxis
    x, y : int
        The axes shown.
    marks : list of Mark
    members : list of list of int
        The customers of each segment.
    of_all_features : bool
        Whether the principal components hold every feature.
    """

    axes: list[ScatterAxis]
    x: int
    y: int
    marks: list[Mark]
    members: list[list[int]]
    of_all_features: bool

    @property
    def customers(self) -> int:
        return sum(len(rows) for rows in self.members)

    def path(self, segment: int) -> str:
        """The customers of a segment as one path."""
        xs, ys = self.axes[self.x].places, self.axes[self.y].places
        shape = self.marks[segment].shape
        return "".join(
            f"M{across(x):.1f},{up(y):.1f}{shape}"
            for row in self.members[segment]
            if (x := xs[row]) is not None and (y := ys[row]) is not None
        )

    def centroid(self, segment: int) -> tuple[float, float] | None:
        """Where a segment's centroid stands."""
        x, y = (self.axes[axis].centroids[segment] for axis in (self.x, self.y))
        return None if x is None or y is None else (round(across(x), 1), round(up(y), 1))

    def for_script(self) -> dict[str, Any]:
        """What the page's script draws another choice from."""
        return {
            "box": [LEFT, RIGHT, TOP, BOTTOM],
            "steps": _STEPS,
            "axes": [
                {
                    "name": axis.name,
                    "about": axis.about,
                    "ticks": [[round(tick.at * _STEPS, 1), tick.label] for tick in axis.ticks],
                    "places": axis.places,
                    "centroids": axis.centroids,
                    "scale": axis.scale
                    and [axis.scale.low, axis.scale.high, axis.scale.transform == "log1p"],
                }
                for axis in self.axes
            ],
            "names": [f"{mark.segment_id}  {mark.name}" for mark in self.marks],
            "shapes": [mark.shape for mark in self.marks],
            "members": self.members,
        }


def across(step: float) -> float:
    """From a place on the horizontal axis to the picture's units."""
    return LEFT + step / _STEPS * (RIGHT - LEFT)


def up(step: float) -> float:
    """The same for the vertical axis."""
    return BOTTOM - step / _STEPS * (BOTTOM - TOP)


def scatter(facts: Facts, marks: list[Mark], titles: list[str]) -> Scatter | None:
    """The picture; None where there is no sample, or fewer than two numbers to draw.

    ``titles`` are of the features.
    """
    sample = facts.sample.rows
    if sample is None or sample.num_columns < 3:
        return None
    sample = sample.slice(0, POINTS)
    numbers = [
        {**feature, "title": title}
        for feature, title in zip(facts.features, titles)
        if (feature["source_column"] or feature["feature"]) in sample.column_names
    ]
    raw = np.column_stack(
        [sample.column(f["source_column"] or f["feature"]).to_numpy() for f in numbers]
    ).astype(np.float64)
    raw[~np.isfinite(raw)] = np.nan
    ids = [mark.segment_id for mark in marks]
    axes = [
        _feature_axis(feature, raw[:, index], facts, ids) for index, feature in enumerate(numbers)
    ]
    if len(axes) > 2:
        axes = _components(numbers, raw, facts, ids) + axes
    labels = sample.column("segment_id").to_numpy()
    members = [np.flatnonzero(labels == segment_id).tolist() for segment_id in ids]
    whole = len(numbers) == len(facts.features)
    return Scatter(axes, 0, 1, marks, members, of_all_features=whole)


def _axis(
    axis: Axis, values: Vector, centroids: Vector, *, about: str = "", own_units: bool = False
) -> ScatterAxis:
    return ScatterAxis(
        axis.name, about, axis.ticks(), _steps(axis, values), _steps(axis, centroids),
        axis if own_units else None,
    )  # fmt: skip


def _steps(axis: Axis, values: Vector) -> list[int | None]:
    return [None if np.isnan(p) else round(_STEPS * float(p)) for p in axis.places(values)]


def _ends(values: Vector, centroids: Vector, margin: float = 0.0) -> tuple[float, float]:
    everything = np.concatenate([values, centroids])
    known = everything[np.isfinite(everything)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return low - margin * (high - low), high + margin * (high - low)


def _feature_axis(feature: Row, values: Vector, facts: Facts, ids: list[int]) -> ScatterAxis:
    centroids = np.array(
        [facts.centroids[segment_id, feature["position"]]["value"] for segment_id in ids]
    )
    low, high = _ends(values, centroids)
    axis = Axis(feature["title"], low, high, feature["transform"])
    return _axis(axis, values, centroids, own_units=True)


def _components(numbers: list[Row], raw: Matrix, facts: Facts, ids: list[int]) -> list[ScatterAxis]:
    """The first two principal components of the sample in the scaled space."""
    definition = facts.segmentation
    preparation = preparation_from_rows(
        numbers, scaling=definition.scaling, missing=definition.missing
    )
    scaled = np.column_stack([f.apply(raw[:, j]) for j, f in enumerate(preparation.features)])
    complete = scaled[np.isfinite(scaled).all(axis=1)]
    if len(complete) < 3:
        return []
    found = principal_components(complete)
    centroids = np.array(
        [
            [facts.centroids[segment_id, f["position"]]["scaled_value"] for f in numbers]
            for segment_id in ids
        ]
    )
    of_rows, of_centroids = found.places(scaled), found.places(centroids)
    axes = []
    for number in range(2):
        values, points = of_rows[:, number], of_centroids[:, number]
        low, high = _ends(values, points, margin=0.02)
        name = f"principal component {number + 1}"
        about = f"{percent(float(found.shares[number]), 0)} of the variance: " + _made_of(
            found.directions[number], numbers
        )
        axes.append(_axis(Axis(name, low, high), values, points, about=about))
    return axes


def _made_of(direction: Vector, numbers: list[Row]) -> str:
    largest = np.argsort(-np.abs(direction))[:3]
    return ", ".join(f"{numbers[j]['feature']} {signed(float(direction[j]))}" for j in largest)
