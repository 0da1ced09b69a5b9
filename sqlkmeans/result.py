"""What a finished job has to say, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SegmentResult:
    """One published segment.

    Attributes
    ----------
    segment_id : int
    name, description : str
    size : int
    share : float
        0 to 1.
    centroid : dict of str to float
        What distances are measured from, in the columns' own units. Of a feature with ``log1p``
        it is not the mean.
    outliers : int or None
        Customers beyond the segment's limit; None where there is none, or not known.
    """

    segment_id: int
    name: str
    description: str
    size: int
    share: float
    centroid: dict[str, float]
    outliers: int | None = None


@dataclass(frozen=True)
class FeatureResult:
    """How one feature differs between segments; the same facts stand in ``segment_feature``.

    Attributes
    ----------
    column : str
    title : str
        For people: ``income (NOK)``, ``joined (days)``, ``city = Oslo``.
    is_share : bool
        Whether the means are shares of the customers, as of a level or a boolean.
    means : dict of int to (float or None)
        By segment id, 0 for everyone; in the column's own units, None where not known.
    importance : dict of int to float
        Difference of a segment's mean from everyone's, in everyone's deviations.
    """

    column: str
    title: str
    is_share: bool
    means: dict[int, float | None]
    importance: dict[int, float]


@dataclass(frozen=True)
class RunResult:
    """A published run; the same facts stand in ``run``, ``segment`` and ``centroid``.

    Attributes
    ----------
    segmentation : str
    run_id : int
    kind : {"fit", "assign", "rollback"}
    engine : str
    k, rows, skipped, changed : int
    arrived, moved, departed, written : int
        ``changed`` is the sum of the first three; ``written`` counts rows of the target.
    inertia : float or None
        Sum of squared distances in the scaled space; None after a rollback.
    n_iter : int or None
        None where nothing was fitted.
    scores : dict of str to (float or None)
    segments : list of SegmentResult
    target : str
    seconds : dict of str to float
    warnings : list of str
    compared_run_id : int or None
        The run that this one is compared with; None for the first, and after a rollback.
    mean_distance : float or None
        The customers' mean distance to their centroid, in the scaled space.
    centroid_shift : float or None
        How far the centroid that moved most has moved since that run.
    drift : list of dict
        Rows of ``feature_drift``: how each feature differs from that run.
    recommendation : dict or None
        How k was chosen, where the definition says "auto": ``structure``, ``shape``,
        ``recommended_k``, ``runner_up_k`` and ``reason``.
    features : list of FeatureResult
    profile : list of dict
        Rows of ``segment_profile``: each ``profile`` column, or level of it, in each segment.
    outliers : int or None
        Customers beyond the limits of their segments; None where there are none, or not known.
    """

    segmentation: str
    run_id: int
    kind: str
    engine: str
    k: int
    rows: int
    skipped: int
    changed: int
    arrived: int
    moved: int
    departed: int
    written: int
    inertia: float | None
    n_iter: int | None
    scores: dict[str, float | None]
    segments: list[SegmentResult]
    target: str
    seconds: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    compared_run_id: int | None = None
    mean_distance: float | None = None
    centroid_shift: float | None = None
    drift: list[dict[str, Any]] = field(default_factory=list)
    recommendation: dict[str, Any] | None = None
    features: list[FeatureResult] = field(default_factory=list)
    profile: list[dict[str, Any]] = field(default_factory=list)
    outliers: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "segmentation": self.segmentation,
            "run_id": self.run_id,
            "kind": self.kind,
            "engine": self.engine,
            "status": "published",
            "k": self.k,
            "rows": self.rows,
            "skipped": self.skipped,
            "changed": self.changed,
            "arrived": self.arrived,
            "moved": self.moved,
            "departed": self.departed,
            "written": self.written,
            "inertia": self.inertia,
            "n_iter": self.n_iter,
            "scores": self.scores,
            "segments": [
                {
                    "segment_id": segment.segment_id,
                    "name": segment.name,
                    "size": segment.size,
                    "share": segment.share,
                    "centroid": segment.centroid,
                    **({} if segment.outliers is None else {"outliers": segment.outliers}),
                }
                for segment in self.segments
            ],
            "target": self.target,
            "seconds": self.seconds,
            "warnings": self.warnings,
            "compared_run_id": self.compared_run_id,
            "mean_distance": self.mean_distance,
            **({} if self.outliers is None else {"outliers": self.outliers}),
            "centroid_shift": self.centroid_shift,
            "drift": self.drift,
            **({"recommendation": self.recommendation} if self.recommendation else {}),
            **({"profile": self.profile} if self.profile else {}),
        }


@dataclass(frozen=True)
class ChoiceResult:
    """A finished choice of k; the same facts stand in ``run`` and ``k_score``.

    Attributes
    ----------
    segmentation : str
    run_id : int
    structure : bool or None
        Whether the customers fall into groups at all; None where no row may be looked at.
    recommended_k : int or None
        None where there is no structure or it is not of K-Means' shape, and where ``min_share``
        refuses every k.
    reason : str
        In words.
    scores : list of dict
        One for each k, with the columns of ``k_score``.
    rows, skipped : int
    seconds : dict of str to float
    runner_up_k : int or None
        The next best beside a recommended k.
    shape : {"compact", "connected"} or None
        Of the structure: K-Means', or drawn out and bent, which K-Means cuts across.
    """

    segmentation: str
    run_id: int
    structure: bool | None
    recommended_k: int | None
    reason: str
    scores: list[dict[str, Any]]
    rows: int
    skipped: int
    seconds: dict[str, float]
    runner_up_k: int | None = None
    shape: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return asdict(self)
