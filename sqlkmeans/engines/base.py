"""What the pipeline asks of an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.choosing.choose_k import KChoice
from sqlkmeans.clustering.describing.bins import FeatureBins
from sqlkmeans.clustering.describing.profile import SegmentProfile
from sqlkmeans.clustering.describing.rules import Rule
from sqlkmeans.clustering.describing.scores import Scores
from sqlkmeans.clustering.kmeans.lloyd import uncounted
from sqlkmeans.clustering.preparation.preparation import Feature, Preparation
from sqlkmeans.database.base import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.progress import Advance

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Fit:
    """Clusters that have no segment ids yet, largest first.

    Attributes
    ----------
    preparation : Preparation
    centroids : ndarray of float64 of shape (k, n_features)
        In the scaled space.
    n_iter : int
    findings : list of str
        What the rows suggest about the features and the number of segments, in words.
    choice : KChoice or None
        How k was chosen, where the definition says "auto".
    """

    preparation: Preparation
    centroids: npt.NDArray[np.float64]
    n_iter: int
    findings: list[str] = field(default_factory=list)
    choice: KChoice | None = None


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
class Explanation:
    """What makes clusters understandable, one item a cluster; empty where not known.

    Attributes
    ----------
    rules : list of (Rule or None)
    typical : list of list of TypicalCustomer
        The nearest first.
    """

    rules: list[Rule | None] = field(default_factory=list)
    typical: list[list[TypicalCustomer]] = field(default_factory=list)


class NoRows(DataError):
    """The source has none."""


class Unsuited(Exception):
    """These rows are for another engine; progress is taken back."""


class Engine(ABC):
    """Takes a source once, then fits or takes a model, then labels and describes the rows."""

    #: Rows that were left out because a feature is missing.
    skipped: int
    #: Rows that have a label.
    rows: int
    #: Sum of squared distances of the labelled rows to their centroid, by their weights, in the
    #: scaled space.
    inertia: float
    #: Their mean distance to their centroid, in the scaled space; None where not known.
    mean_distance: float | None = None
    #: Hears of passes over all rows, 1 at a time; the pipeline sets it.
    passed: Advance = staticmethod(uncounted)
    #: Sum of the weights of the labelled rows: their number, where each counts 1.
    weight: float

    @abstractmethod
    def open(
        self,
        database: Database,
        segmentation: Segmentation,
        columns: Sequence[str],
        advance: Advance,
    ) -> None:
        """Take the rows of a segmentation's source, with these feature columns.

        Raises
        ------
        NoRows
            If there are none.
        DataError
            If a key is NULL or not unique.
        Unsuited
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        """Close; what was opened in a database sees the error and tells it in its own words."""
        self.close()

    def close(self) -> None:  # noqa: B027
        """Let go of what :meth:`open` took. May be called twice, and when it failed."""

    @property
    def notes(self) -> list[str]:
        """What people should know of how the rows were kept, in words."""
        return []

    def check(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> None:
        """Prepare the rows and no more; the rows are then used up.

        Raises
        ------
        DataError
            With all problems of all columns.
        """
        raise NotImplementedError("it takes rows for a fit")

    @abstractmethod
    def fit(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> Fit:
        """Prepare and cluster the rows; labels them as well.

        Dates are aged on ``reference_date``.

        Raises
        ------
        DataError
            If a segment is smaller than ``min_share`` allows.
        """

    @abstractmethod
    def choose_k(
        self, segmentation: Segmentation, features: Sequence[Feature], reference_date: date
    ) -> KChoice:
        """Prepare the rows and compare numbers of segments, ``k_min`` to ``k_max``."""

    @abstractmethod
    def label(self, preparation: Preparation, centroids: npt.NDArray[np.float64]) -> None:
        """Prepare the rows as an earlier run did and label them with its centroids."""

    def look_at_rows(self, earlier: Sequence[FeatureBins]) -> None:  # noqa: B027
        """Take one more look at the rows, where what follows needs it.

        ``earlier`` are the bins in which :meth:`bins` will be asked to count, or none.
        """

    @abstractmethod
    def scores(self, seed: int) -> Scores:
        """Score the labels."""

    @abstractmethod
    def profiles(self) -> list[SegmentProfile]:
        """Everyone, then each cluster."""

    def explain(self, seed: int) -> Explanation:
        """A rule and typical customers for each cluster; none where no rows are at hand."""
        return Explanation()

    def bins(self, earlier: Sequence[FeatureBins] | None = None) -> list[FeatureBins]:
        """How the rows spread over each column; in the bins of an earlier run, or in their own."""
        return []

    @abstractmethod
    def stage(self, database: Database, segmentation: Segmentation, run_id: int) -> None:
        """Hand the labels to the database. Close the engine when they are published."""

    def let_go(self) -> None:  # noqa: B027
        """Forget the rows, which are labelled, staged and described."""
