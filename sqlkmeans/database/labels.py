"""The published labels, and those on their way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.database.workspace import Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.publication import Publication, Row

#: Makes an array from its shape and type, as ``numpy.empty`` does.
Empty = Callable[[Any, Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Counts:
    """What a publish changed in the target.

    Attributes
    ----------
    arrived, moved, departed : int
        Customers that came, changed segment, left.
    written : int
        Rows inserted, updated or deleted in the target: beside these, customers who became an
        outlier or ceased to be one, and refreshed distances.
    """

    arrived: int
    moved: int
    departed: int
    written: int

    @property
    def changed(self) -> int:
        """Customers whose label is not what it was."""
        return self.arrived + self.moved + self.departed


@dataclass(frozen=True)
class StagedCluster:
    """What one cluster will have, as it will be published.

    Attributes
    ----------
    cluster, size : int
        Its number, and its customers.
    within_ss : float
        The sum of their squared distances.
    outliers : int
        Those beyond the segment's limit.
    """

    cluster: int
    size: int
    within_ss: float
    outliers: int


class Labels(ABC):
    """The segment tables of segmentations, their histories, and what is staged for them.

    The labels of a run are staged, compared with the published ones, and published; one run at a
    time, under the lock of its segmentation.
    """

    @abstractmethod
    def stage(
        self,
        segmentation: Segmentation,
        run_id: int,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        empty: Empty = np.empty,
    ) -> None:
        """Hand labels over for publishing, as the database can take them fastest.

        Nothing is visible yet. Here or in :meth:`publish`, the rows that arrived are counted.
        What is needed beside them and is as long as they are is made by ``empty``.

        Raises
        ------
        DatabaseError
            If another number of rows arrived than was sent.
        """

    @abstractmethod
    def stage_query(
        self, segmentation: Segmentation, run_id: int, workspace: Workspace, query: str, rows: int
    ) -> None:
        """The same as :meth:`stage` for labels that are in the database already.

        Parameters
        ----------
        segmentation : Segmentation
        run_id : int
        workspace : Workspace
            Stays open until the labels are published.
        query : str
            Key columns by their names, ``cluster``, ``distance``.
        rows : int
            How many there are.
        """

    def key_lengths(self, segmentation: Segmentation, run_id: int) -> dict[str, int]:
        """How long the texts and bytes of key columns can be, in characters or bytes, by column.

        Only where the database sets a bound.
        """
        return {}

    def part_writer(
        self, segmentation: Segmentation, run_id: int
    ) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]] | None:
        """What other processes stage labels with, each a part of them.

        It is called with batches of the key columns, ``cluster`` and ``distance``, can be pickled,
        and gives one row: the number of this ``attempt``, and how many ``rows`` it wrote. What
        counts is said by :meth:`accept_parts`. None where labels have to come to this process.
        """
        return None

    def accept_parts(
        self, segmentation: Segmentation, run_id: int, attempts: Sequence[int], rows: int
    ) -> None:
        """The same as :meth:`stage` for what these attempts wrote; what others wrote is left."""
        raise NotImplementedError

    @abstractmethod
    def published_keys(self, segmentation: Segmentation) -> pa.Table:
        """The keys of the target, which is there."""

    @abstractmethod
    def stage_unchanged(
        self,
        segmentation: Segmentation,
        run_id: int,
        segment_ids: Sequence[int],
        outlier_distances: Mapping[int, float],
        departed: pa.Table | None = None,
    ) -> list[StagedCluster]:
        """Let customers of the source who were not staged keep their labels; the rest departs.

        ``departed`` has the keys of the rest, where the database has no such source.
        """

    @abstractmethod
    def overlap(self, segmentation: Segmentation, run_id: int) -> list[tuple[int, int, int]]:
        """Shared customers: (published segment_id, staged cluster, customers), without zeros.

        Numbers below the segmentation's smallest group count as zero.
        """

    def loading(
        self,
        segmentation: Segmentation,
        run_id: int,
        segment_ids: Sequence[int],
        outlier_distances: Mapping[int, float],
    ) -> AbstractContextManager[object]:
        """Write staged labels where nobody sees them, while their rows are described.

        Only where it makes publishing shorter; :meth:`publish`, inside, waits for it. What is not
        published when this is left is dropped. ``outlier_distances`` are the publication's.
        """
        return nullcontext()

    @abstractmethod
    def publish(self, segmentation: Segmentation, publication: Publication) -> Counts:
        """Make a staged run visible, in one transaction of changes only."""

    def notes(self, segmentation: Segmentation, rows: int) -> list[str]:
        """What publishing so many labels will do otherwise than people expect, in words."""
        return []

    @abstractmethod
    def rollback(self, segmentation: Segmentation, run: Row, restored_run: Row) -> Counts:
        """Bring back labels and model as they were after an earlier run, in one transaction.

        ``run`` holds columns of the run row that records the rollback; ``restored_run`` is the
        earlier run's row.
        """

    @abstractmethod
    def segment_of(self, segmentation: Segmentation, customer: Sequence[str]) -> int | None:
        """The segment that a customer, by the key's values as text, has in the target; or None."""

    @abstractmethod
    def farthest(
        self, segmentation: Segmentation, at_most: int
    ) -> list[tuple[tuple[Any, ...], int, float]]:
        """The outliers farthest from their centroid, the farthest first.

        Returns
        -------
        list of (key's values, segment_id, distance)
        """

    @abstractmethod
    def sample(self, segmentation: Segmentation, columns: Sequence[str], at_most: int) -> pa.Table:
        """A random sample of labelled rows, the same at each call while nothing changes.

        Returns
        -------
        pyarrow.Table
            ``columns`` as a run reads them (as float64 where the definition does not name them),
            and ``segment_id``.
        """

    @abstractmethod
    def movement(
        self, segmentation: Segmentation, from_run_id: int, to_run_id: int
    ) -> list[tuple[int | None, int | None, int]]:
        """How many customers went from which segment to which, between two published runs.

        Parameters
        ----------
        segmentation : Segmentation
        from_run_id, to_run_id : int

        Returns
        -------
        list of (from segment_id, to segment_id, customers)
            By id; those who stayed are in it. None as a segment: not there yet (these come
            first), or not any more (these come last).

        Raises
        ------
        DataError
            If the history is not there.
        """
