"""Work on a source where it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.database.dialect import Dialect
from sqlkmeans.definition import Segmentation

if TYPE_CHECKING:
    from sqlkmeans.database.labels import Labels


class Workspace(ABC):
    """A connection on which a run makes temporary tables of its source and asks for aggregates.

    Attributes
    ----------
    dialect : Dialect
    source : str
        What stands after FROM.
    notes : list of str
        What people should know of how the rows came there.
    """

    dialect: Dialect
    source: str
    notes: Sequence[str] = ()

    @abstractmethod
    def key(self, name: str) -> tuple[str, str]:
        """A key column of the source: its expression, and its type in a temporary table."""

    @abstractmethod
    def value(self, name: str, kind: str) -> tuple[str, str]:
        """A column that is a ``number``, a ``category`` or a ``date``: expression and type."""

    @abstractmethod
    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows.

        Raises
        ------
        DataError
            If the source is the reason.
        DatabaseError
        """

    @abstractmethod
    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The few rows of a query."""

    @abstractmethod
    def matrix(self, query: str) -> npt.NDArray[np.float64]:
        """The rows of a query of numbers, of shape (n_rows, n_columns); NaN for NULL."""

    def nearest_means(
        self, query: str, centroids: npt.NDArray[np.float64], *, weighted: bool
    ) -> list[tuple[Any, ...]] | None:
        """One Lloyd pass, where the workspace has a faster way than a query of aggregates.

        Parameters
        ----------
        query : str
            Of prepared features, behind the weight where there is one.
        centroids : ndarray of shape (k, n_features)
        weighted : bool

        Returns
        -------
        list of tuple or None
            Customers, cluster, its weight, and a mean a feature; None where a query is to be asked.
        """
        return None

    def changed_since(self, rows: int) -> str | None:
        """What people should know where the source has changed since so many rows were taken.

        Only where what was taken may have been read again.
        """
        return None

    def stage(
        self, labels: Labels, segmentation: Segmentation, run_id: int, query: str, rows: int
    ) -> None:
        """Hand over the labels that a query gives; as :meth:`.Labels.stage_query`."""
        labels.stage_query(segmentation, run_id, self, query, rows)
