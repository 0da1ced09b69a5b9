"""The scores of each number of segments, and the choice between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class KScore:
    """How good the partition into k segments is; None where a score is not defined.

    Where some columns have few values and others many, all scores but the inertia and the smallest
    share are of the others, and of a partition by those.

    Attributes
    ----------
    k : int
    inertia : float
        Over all rows and features. It falls with every k, whether there is structure or not.
    silhouette : float or None
        Rousseeuw (1987), -1 to 1, higher is better; on a stratified sample of large data, see
        :func:`sqlkmeans.clustering.describing.scores.score`.
    simplified_silhouette : float
        The silhouette with distances to centroids instead of rows (Hruschka, de Castro &
        Campello, 2004), 0 to 1, higher is better; on a stratified sample of large data.
    davies_bouldin : float or None
        Davies & Bouldin (1979), lower is better; over all rows.
    calinski_harabasz : float or None
        Calinski & Harabasz (1974), higher is better; over all rows.
    gap, gap_error : float or None
        The gap statistic and its error, see
        :class:`~sqlkmeans.clustering.choosing.gap.GapStatistic`.
    separation, separation_error : float or None
        How empty the fullest border is, and the error to allow for, see
        :class:`~sqlkmeans.clustering.choosing.separation.Separation`. None where no row may be
        looked at.
    stability : float or None
        See :func:`sqlkmeans.clustering.choosing.stability.stability`.
    smallest_share : float
        Of the rows, in the smallest segment; 0 to 1.
    """

    k: int
    inertia: float
    silhouette: float | None
    simplified_silhouette: float
    davies_bouldin: float | None
    calinski_harabasz: float | None
    gap: float | None
    gap_error: float | None
    separation: float | None
    separation_error: float | None
    stability: float | None
    smallest_share: float


@dataclass(frozen=True)
class Recommendation:
    """Which k to take, and why.

    Attributes
    ----------
    structure : bool or None
        Whether the rows fall into groups at all; None where no row may be looked at.
    recommended_k : int or None
        None where there is no structure or it is not of K-Means' shape, and where ``min_share``
        refuses every k.
    reason : str
        Sentences, without the last full stop.
    best_k : int or None
        The k that a run takes: the recommended one; where there is none, the one that cuts the
        rows best; None where ``min_share`` refuses every k.
    runner_up_k : int or None
        The next best beside a recommended k, where another is allowed.
    shape : {"compact", "connected"} or None
        Of the structure: groups around a middle each, which K-Means finds; or crowds that are
        drawn out or bent around each other, which it cuts across. None where there is no
        structure, or none was looked for.
    """

    structure: bool | None
    recommended_k: int | None
    reason: str
    best_k: int | None
    runner_up_k: int | None = None
    shape: Literal["compact", "connected"] | None = None

    def to_dict(self) -> dict[str, Any]:
        """What the run row keeps."""
        kept = asdict(self)
        del kept["best_k"]
        return kept
