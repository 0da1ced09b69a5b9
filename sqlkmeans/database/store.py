"""What schema ``sqlkmeans`` keeps of runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

import pyarrow as pa

from sqlkmeans.definition import Segmentation
from sqlkmeans.publication import Row


class Store(ABC):
    """Runs of segmentations: how they begin, how they end, and one at a time."""

    @abstractmethod
    def lock(self, segmentation: str) -> AbstractContextManager[None]:
        """Hold a segmentation for one run.

        Raises
        ------
        LockedError
            At once, if another run holds it.
        """

    @abstractmethod
    def start(
        self, segmentation: Segmentation, run: Row, key_schema: pa.Schema | None = None
    ) -> int:
        """Record a run as running, close what a killed one left, and return the run's id.

        ``run`` holds columns of the run row; here and elsewhere, lists and dicts become JSON where
        they are stored. ``key_schema`` is :meth:`.Sources.key_schema`.
        """

    @abstractmethod
    def fail(self, run_id: int, error: str) -> None:
        """Record a run as failed and forget what it staged; one that ended stays as it is."""

    @abstractmethod
    def finish(self, segmentation: Segmentation, run_id: int, run: Row, k_score: list[Row]) -> None:
        """Record a choice of k as finished, in one transaction; nothing is published.

        ``run`` holds columns of the run row to set, ``k_score`` rows of that table without their
        run.
        """

    @abstractmethod
    def rename(
        self, segmentation: str, segment_id: int, name: str, description: str | None
    ) -> None:
        """Give a segment a name that later runs keep."""
