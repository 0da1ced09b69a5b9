"""The labels of a run on their way to SQL Server."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.database.label_changes import LabelChanges
from sqlkmeans.database.labels import Empty
from sqlkmeans.publication import Row


@dataclass
class Staged:
    """What a run has handed over and is not on the server yet, and how to publish what is.

    Attributes
    ----------
    labels : (keys, clusters, distances), optional
        Before they are compared with the published ones.
    changes : LabelChanges, optional
        After it.
    empty : callable
        Makes what is as long as the labels.
    told : dict
        Keys of the publication that say what was staged.
    """

    labels: tuple[pa.Table, npt.NDArray[np.int32], npt.NDArray[np.float64]] | None = None
    changes: LabelChanges | None = None
    empty: Empty = np.empty
    told: Row = field(default_factory=dict)

    def forget(self) -> None:
        """Let go of all that was handed over."""
        self.labels = self.changes = None
        self.empty, self.told = np.empty, {}


def staging_name(run_id: int) -> str:
    """The quoted name of a run's staging table."""
    return f"[sqlkmeans].[staging_{int(run_id)}]"
