"""A random sample of labelled rows, prepared as K-Means saw them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.kmeans.assignment import Assignment, assign
from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.fit import share_of
from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sql.starts import sample_query
from sqlkmeans.engines.pushdown.sql.training import LABELLED

#: At most so many rows; more would tell nothing more.
MOST_ROWS = 100_000


@dataclass(frozen=True, eq=False)
class LabelledSample:
    """Rows in key order.

    Attributes
    ----------
    preparation : Preparation
    matrix : ndarray of float64 of shape (n_sample, n_features)
        Prepared.
    missing : ndarray of bool of shape (n_sample, n_features)
        Where a value was missing and is filled in.
    assignment : Assignment
    """

    preparation: Preparation
    matrix: Matrix
    missing: npt.NDArray[np.bool_]
    assignment: Assignment

    def known(self, position: int) -> npt.NDArray[np.float64]:
        """The prepared values of a feature that were not missing."""
        return np.ascontiguousarray(self.matrix[~self.missing[:, position], position])


def draw_labelled(
    rows: KeptRows, preparation: Preparation, centroids: Matrix, segmentation: Segmentation
) -> LabelledSample:
    """Draw from the labelled table: of up to ``sample_rows`` rows, the first that a fit draws."""
    wanted = min(segmentation.sample_rows, MOST_ROWS)
    # What is missing comes as NULL, and is filled in here.
    features = [replace(feature, fill=None) for feature in preparation.features]
    share = share_of(wanted, rows.count)
    query = sample_query(rows.layout, features, wanted, share, segmentation.seed, LABELLED)
    matrix = rows.workspace.matrix(query)
    missing = np.isnan(matrix)
    for position, feature in enumerate(preparation.features):
        if missing[:, position].any():
            matrix[missing[:, position], position] = _filled(feature)
    matrix = np.ascontiguousarray(matrix)
    return LabelledSample(preparation, matrix, missing, assign(matrix, centroids))


def _filled(feature: PreparedFeature) -> float:
    assert feature.fill is not None
    fill = feature.fill
    if feature.low is not None and feature.high is not None:
        fill = min(max(fill, feature.low), feature.high)
    return float(feature.scaled(np.array([fill]))[0])
