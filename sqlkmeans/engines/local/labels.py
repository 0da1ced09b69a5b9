"""Labels that are in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sqlkmeans.clustering.arrays.chunks import Empty
from sqlkmeans.clustering.arrays.types import Labels, Vector
from sqlkmeans.database.base import Database
from sqlkmeans.definition import Segmentation


@dataclass(frozen=True)
class ArrayLabels:
    """Labels as arrays; the distances are computed when they are staged.

    Attributes
    ----------
    keys : pyarrow.Table
    clusters : ndarray of int32 of shape (n_rows,)
    distances : callable
    empty : callable
        Makes what is as long as the rows.
    """

    keys: pa.Table
    clusters: Labels
    distances: Callable[[], Vector]
    empty: Empty = np.empty

    def __len__(self) -> int:
        return len(self.clusters)

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        database.labels.stage(
            segmentation, run_id, self.keys, self.clusters, self.distances(), self.empty
        )
