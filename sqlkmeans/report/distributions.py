"""How the customers of each segment spread over each feature."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from sqlkmeans.clustering.arrays.types import Vector
from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.report.facts import Facts, Row
from sqlkmeans.report.scales import Axis, Tick

#: In the picture's own units: where a strip starts and ends, and its height.
LEFT, RIGHT, STRIP = 30.0, 290.0, 27.0
_BINS, _HIGHEST = 40, 21.0
#: Values of the sample outside of these quantiles are counted in the outermost bins.
QUANTILES = (0.005, 0.995)


@dataclass(frozen=True)
class Strip:
    """One segment's row of a picture; segment 0 is everyone.

    Attributes
    ----------
    profile : dict
        The row of ``segment_feature``.
    path : str
        The histogram's outline, or empty.
    line, band : (float, float) or None
        From the least value to the greatest, and a deviation to both sides of the mean.
    mark : float or None
        Where the median stands, or a share's bar ends.
    """

    profile: Row
    path: str = ""
    line: tuple[float, float] | None = None
    band: tuple[float, float] | None = None
    mark: float | None = None


@dataclass(frozen=True)
class Distribution:
    """One feature's picture.

    Attributes
    ----------
    feature : dict
        The row of ``model_feature``.
    kind : {"histogram", "range", "share"}
    ticks : list of Tick
        ``at`` in the picture's own units.
    strips : list of Strip
    """

    feature: Row
    kind: str
    ticks: list[Tick]
    strips: list[Strip]

    @property
    def baseline(self) -> float:
        """Where the axis lies."""
        return STRIP * len(self.strips) + 4

    @property
    def height(self) -> float:
        return self.baseline + 22


def distributions(facts: Facts) -> list[Distribution]:
    """A picture for each feature: from the sample where there is one, else from the profiles.

    What is 0 or 1, as a level of a category, says all by its share of the segment.
    """
    pictures = []
    for feature in facts.shown:
        profiles = [
            profile
            for segment_id in (EVERYONE, *(row["segment_id"] for row in facts.segments))
            if (profile := facts.profiles.get((segment_id, feature["position"]))) is not None
        ]
        column = feature["source_column"] or feature["feature"]
        if facts.is_share(feature):
            pictures.append(_shares(feature, profiles))
        elif facts.sample.rows is not None and column in facts.sample.rows.column_names:
            pictures.append(_histograms(feature, profiles, facts.sample.rows, column))
        else:
            pictures.append(_ranges(feature, profiles))
    return pictures


def _x(place: float) -> float:
    return round(LEFT + place * (RIGHT - LEFT), 1)


def _ticks(axis: Axis) -> list[Tick]:
    return [Tick(_x(tick.at), tick.label) for tick in axis.ticks()]


def _shares(feature: Row, profiles: list[Row]) -> Distribution:
    ticks = [Tick(_x(share), f"{share:.0%}") for share in (0.0, 0.5, 1.0)]
    strips = [Strip(p, mark=None if p["mean"] is None else _x(p["mean"])) for p in profiles]
    return Distribution(feature, "share", ticks, strips)


def _ranges(feature: Row, profiles: list[Row]) -> Distribution:
    known = [p for p in profiles if p["mean"] is not None]
    ends = [_ends(p, feature["transform"]) for p in known]
    low = min((end for end, _ in ends), default=0.0)
    high = max((end for _, end in ends), default=1.0)
    axis = Axis(feature["feature"], low, high, feature["transform"])
    strips = [
        _range(axis, p, _ends(p, feature["transform"])) if p["mean"] is not None else Strip(p)
        for p in profiles
    ]
    return Distribution(feature, "range", _ticks(axis), strips)


def _ends(p: Row, transform: str) -> tuple[float, float]:
    """From where to where values go; two deviations where the extremes are not to be known."""
    if p["min"] is not None and p["max"] is not None:
        return p["min"], p["max"]
    low, high = p["mean"] - 2 * p["deviation"], p["mean"] + 2 * p["deviation"]
    return (max(low, min(0.0, p["mean"])) if transform == "log1p" else low), high


def _range(axis: Axis, p: Row, ends: tuple[float, float]) -> Strip:
    def x(value: float) -> float:
        return _x(axis.place(min(max(value, ends[0]), ends[1])))

    band = (x(p["mean"] - p["deviation"]), x(p["mean"] + p["deviation"]))
    line = None if p["min"] is None else (x(ends[0]), x(ends[1]))
    mark = None if p["median"] is None else x(p["median"])
    return Strip(p, line=line, band=band, mark=mark)


def _histograms(feature: Row, profiles: list[Row], sample: pa.Table, column: str) -> Distribution:
    values = sample.column(column).to_numpy().astype(np.float64)
    labels = sample.column("segment_id").to_numpy()
    known = np.isfinite(values)
    if not known.any():
        return _ranges(feature, profiles)
    low, high = map(float, np.quantile(values[known], QUANTILES))
    axis = Axis(feature["feature"], low, high, feature["transform"])
    edges = np.linspace(0, 1, _BINS + 1)
    if (values[known] == np.rint(values[known])).all():
        axis, edges = _whole_bins(axis)
    places = axis.places(values)
    strips = []
    for profile in profiles:
        of = known if profile["segment_id"] == EVERYONE else known & (
            labels == profile["segment_id"]
        )  # fmt: skip
        mark = None if profile["median"] is None else _x(axis.place(profile["median"]))
        strips.append(Strip(profile, path=_outline(places[of], edges), mark=mark))
    return Distribution(feature, "histogram", _ticks(axis), strips)


def _whole_bins(axis: Axis) -> tuple[Axis, Vector]:
    """Bins that begin and end between two whole numbers, and the axis that holds them."""
    low, high = float(np.floor(axis.low)) - 0.5, float(np.ceil(axis.high)) + 0.5
    axis = replace(axis, low=low, high=high, whole=True)
    ends = [low]
    while ends[-1] < high:
        # As wide as another bin at least.
        reached = axis.value(axis.place(ends[-1]) + 1 / _BINS)
        ends.append(max(float(np.ceil(reached - 0.5 - 1e-6)) + 0.5, ends[-1] + 1))
    axis = replace(axis, high=ends[-1])
    return axis, axis.places(np.array(ends))


def _outline(places: Vector, edges: Vector) -> str:
    """Steps over the baseline, their areas the customers, the tallest as high as a strip allows."""
    counts, _ = np.histogram(places, bins=edges)
    if not counts.any():
        return ""
    crowds = counts / np.diff(edges)
    heights = crowds / crowds.max() * _HIGHEST
    tops = (round(float(-height), 1) or 0 for height in heights)
    steps = "".join(f"V{top:g}H{_x(right):g}" for top, right in zip(tops, edges[1:]))
    return f"M{LEFT:g},0{steps}V0z"
