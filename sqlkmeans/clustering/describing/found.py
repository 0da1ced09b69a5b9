"""What labelled rows tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlkmeans.clustering.arrays.types import Mask, Matrix, Vector
from sqlkmeans.clustering.describing.bins import (
    FeatureBins,
    bin_features,
    count_in,
    with_skipped,
)
from sqlkmeans.clustering.describing.outliers import count_outliers
from sqlkmeans.clustering.describing.profile import SegmentProfile, profile_segments
from sqlkmeans.clustering.describing.profile_columns import (
    ColumnProfiles,
    ColumnValues,
    describe_columns,
)
from sqlkmeans.clustering.describing.rules import Rule, find_rules
from sqlkmeans.clustering.describing.scores import Scores, score
from sqlkmeans.clustering.kmeans.assignment import Assignment
from sqlkmeans.clustering.preparation.preparation import Preparation


@dataclass(frozen=True)
class TypicalCustomer:
    """A customer near the centroid.

    Attributes
    ----------
    customer : str
        The key's values as a JSON list of texts.
    distance : float
        To the centroid, in the scaled space.
    """

    customer: str
    distance: float


@dataclass(frozen=True)
class Found:
    """Clusters described, before they have segment ids.

    Attributes
    ----------
    rows, skipped : int
        Rows that have a label, and those left out because a feature is missing.
    inertia : float
        Sum of squared distances to the centroids, by the rows' weights, in the scaled space.
    weight : float
        Sum of the weights: the number of rows, where each counts 1.
    mean_distance : float or None
        None where not known.
    profiles : sequence of SegmentProfile
        Everyone, then each cluster.
    scores : Scores
    bins : sequence of FeatureBins
        How the rows spread over each column.
    compared_bins : sequence of FeatureBins
        The same in the bins of the run that this one is compared with.
    rules : sequence of (Rule or None), default=()
        One a cluster; empty where no rows are at hand.
    typical : sequence of sequence of TypicalCustomer, default=()
        Of each cluster, the nearest first.
    columns : sequence of sequence of ColumnProfile, default=()
        Of everyone, then of each cluster: the columns that are only described.
    outliers : sequence of (int or None), default=()
        Of each cluster, how many are beyond its limit; None where not known, empty where there
        are no limits.
    """

    rows: int
    skipped: int
    inertia: float
    weight: float
    mean_distance: float | None
    profiles: Sequence[SegmentProfile]
    scores: Scores
    bins: Sequence[FeatureBins]
    compared_bins: Sequence[FeatureBins]
    rules: Sequence[Rule | None] = ()
    typical: Sequence[Sequence[TypicalCustomer]] = ()
    columns: ColumnProfiles = ()
    outliers: Sequence[int | None] = ()

    @property
    def all_outliers(self) -> int | None:
        """Of all clusters; None where one is not known."""
        known = [number for number in self.outliers if number is not None]
        return sum(known) if known and len(known) == len(self.outliers) else None


@dataclass(frozen=True, eq=False)
class PreparedRows:
    """Rows in the scaled space.

    Attributes
    ----------
    preparation : Preparation
        What made them.
    matrix : ndarray of float64 of shape (n_rows, n_features)
    missing : sequence of (ndarray of bool of shape (n_rows,) or None)
        For each feature, where its value was missing; None where none was.
    weights : ndarray of float64 of shape (n_rows,) or None
    skipped : int
        Rows that were left out because a feature is missing.
    skipped_missing : mapping of str to int
        Their missing values, by column.
    described : ColumnValues or None
        Columns that are only described.
    """

    preparation: Preparation
    matrix: Matrix
    missing: Sequence[Mask | None]
    weights: Vector | None
    skipped: int
    skipped_missing: Mapping[str, int]
    described: ColumnValues | None = None


def find(
    rows: PreparedRows,
    centroids: Matrix,
    assignment: Assignment,
    *,
    seed: int,
    earlier: Sequence[FeatureBins],
    cut: bool,
    limits: Vector | None = None,
) -> Found:
    """Describe labelled rows.

    Parameters
    ----------
    rows : PreparedRows
    centroids : ndarray of float64 of shape (k, n_features)
    assignment : Assignment
        Of the rows to the centroids.
    seed : int
        Draws the samples of scores and rules.
    earlier : sequence of FeatureBins
        The bins of the run to compare with; none before the first.
    cut : bool
        Cut the features into bins anew, as a fit does; else keep to the earlier ones, where there
        are any.
    limits : ndarray of float64 of shape (k,), optional
        Beyond which distance a row is an outlier, of each cluster.
    """
    of_rows = (rows.matrix, rows.missing, rows.preparation)
    compared = with_skipped(count_in(earlier, *of_rows), rows.skipped_missing) if earlier else []
    own = with_skipped(bin_features(*of_rows), rows.skipped_missing) if cut or not compared else []
    labels, k = assignment.labels, len(centroids)
    n_rows = len(rows.matrix)
    squared = assignment.squared_distances
    beyond = None if limits is None else count_outliers(labels, squared, limits, squared=True)
    return Found(
        rows=n_rows,
        skipped=rows.skipped,
        inertia=assignment.inertia,
        weight=float(n_rows if rows.weights is None else rows.weights.sum()),
        mean_distance=assignment.mean_distance,
        profiles=profile_segments(*of_rows, assignment, k),
        scores=score(rows.matrix, centroids, assignment, seed=seed),
        bins=own or compared,
        compared_bins=compared,
        rules=find_rules(rows.matrix, rows.preparation, labels, k, seed=seed),
        columns=() if rows.described is None else describe_columns(rows.described, labels, k),
        outliers=() if beyond is None else beyond.tolist(),
    )
