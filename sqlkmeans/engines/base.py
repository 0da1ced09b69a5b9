"""What the pipeline asks of an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Protocol

from sqlkmeans.clustering.choosing.choose_k import KChoice
from sqlkmeans.clustering.describing.bins import FeatureBins
from sqlkmeans.clustering.describing.found import Found
from sqlkmeans.clustering.describing.profile_columns import ProfileColumn
from sqlkmeans.database.base import Database, Sources
from sqlkmeans.definition import Segmentation
from sqlkmeans.model import SegmentModel
from sqlkmeans.outcome import Fit
from sqlkmeans.progress import Progress


@dataclass(frozen=True)
class Plan:
    """What is to be done with the rows of a source.

    Attributes
    ----------
    segmentation : Segmentation
    columns : sequence of str
        The feature columns.
    progress : Progress
        Told of reading and of fitting.
    today : datetime.date
        On which dates are aged; that of the start in UTC: a run may go past midnight.
    """

    segmentation: Segmentation
    columns: Sequence[str]
    progress: Progress
    today: date

    @classmethod
    def of(
        cls,
        segmentation: Segmentation,
        progress: Progress | None = None,
        columns: Sequence[str] | None = None,
    ) -> Plan:
        """With the definition's own columns, unless others are given."""
        return cls(
            segmentation,
            segmentation.columns if columns is None else columns,
            progress or Progress(),
            datetime.now(timezone.utc).date(),
        )


def columns_to_describe(sources: Sources, plan: Plan) -> list[ProfileColumn]:
    """The columns that are only described, by their types in the source."""
    if not plan.segmentation.profile:
        return []
    types = {c.name: c.profile_type for c in sources.describe(plan.segmentation.source)}
    return [
        ProfileColumn(name, str(kind), plan.today.isoformat() if kind == "date" else None)
        for name, kind in ((name, types[name]) for name in plan.segmentation.profile)
    ]


class ClusterLabels(Protocol):
    """The cluster and the distance of each row, where the engine has them."""

    def __len__(self) -> int: ...

    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        """Hand them to the database; nobody sees them yet."""


@dataclass(frozen=True)
class Labelled:
    """Rows that have a label.

    Attributes
    ----------
    labels : ClusterLabels
        Numbers of clusters, counted from 0 in the order of the centroids.
    describe : callable
        What the rows tell. A function, because labels can be written meanwhile; called once.
    """

    labels: ClusterLabels
    describe: Callable[[], Found]


class Rows(ABC):
    """The rows of a source as they are at one moment. One method is called, once."""

    @abstractmethod
    def fit(self, earlier: Sequence[FeatureBins] = ()) -> tuple[Fit, Labelled]:
        """Prepare and cluster the rows.

        Parameters
        ----------
        earlier : sequence of FeatureBins, default=()
            The bins of the run to compare with.

        Raises
        ------
        NoRows
        DataError
            If a key is NULL or not unique, values cannot be prepared, or a segment is smaller than
            ``min_share`` allows.
        """

    @abstractmethod
    def label(self, model: SegmentModel, earlier: Sequence[FeatureBins] = ()) -> Labelled:
        """Prepare the rows as the run of a model did, and label them with its centroids."""

    @abstractmethod
    def choose_k(self) -> tuple[KChoice, int, int]:
        """Prepare the rows and compare numbers of segments, ``k_min`` to ``k_max``.

        Returns
        -------
        KChoice, rows, skipped
        """

    @abstractmethod
    def check(self) -> None:
        """Prepare the rows as a fit does, and no more.

        Raises
        ------
        DataError
            With all problems of all columns.
        """

    def notes(self) -> list[str]:
        """What people should know of how the rows were kept, in words."""
        return []


class Engine(ABC):
    """Does the arithmetic, here or where the rows are."""

    @abstractmethod
    def open(self, sources: Sources, plan: Plan) -> AbstractContextManager[Rows]:
        """The rows of a plan's source; labels of theirs can be published until it is left."""
