"""What the pipeline asks of a database. One subclass a database; one test suite for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.dialect import TrainingDialect
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError
from sqlkmeans.publication import Publication

Row = dict[str, Any]
#: As ``changed_by``, where the source has no such column: the database's own record of changes.
CHANGE_TRACKING = "SYS_CHANGE_VERSION"
#: Makes an array from its shape and type, as ``numpy.empty`` does.
Empty = Callable[[Any, Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """A column of a source.

    Attributes
    ----------
    name : str
    type : str
        The database's own name of the type.
    kind : {"number", "boolean", "text", "date", "other"}
        What can be done with it: which type of feature it can be.
    can_be_key : bool
        Whether its values can be compared for equality without doubt.
    can_be_category : bool
        Whether its values are texts, or as good as texts.
    """

    name: str
    type: str
    kind: str
    can_be_key: bool
    can_be_category: bool = False


@dataclass(frozen=True)
class Counts:
    """What a publish changed in the target.

    Attributes
    ----------
    arrived, moved, departed : int
        Customers that came, changed segment, left.
    written : int
        Rows inserted, updated or deleted in the target, refreshed distances included.
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
class Finding:
    """One line of what `doctor` found.

    Attributes
    ----------
    check : str
    ok : bool or None
        None where it is only information.
    detail : str
        What was found and, where not ok, what to do.
    """

    check: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Batch:
    """Some rows of a source.

    Attributes
    ----------
    keys : pyarrow.RecordBatch
        The key columns.
    features : pyarrow.RecordBatch
        The feature columns, NULL where missing: numbers as float64, dates as days since
        1970-01-01 in float64, categories as text.
    sample_weight : pyarrow.Array or None
        As float64, where the segmentation names such a column.
    """

    keys: pa.RecordBatch
    features: pa.RecordBatch
    sample_weight: pa.Array | None = None


def split_batch(batch: pa.RecordBatch, n_keys: int, n_features: int) -> Batch:
    """Rows of a query that names the keys, the features and then the weight, if there is one."""
    end = n_keys + n_features
    return Batch(
        batch.select(list(range(n_keys))),
        batch.select(list(range(n_keys, end))),
        batch.column(end) if batch.num_columns > end else None,
    )


@dataclass
class Source:
    """An open source: all that is read from it is of one moment.

    Attributes
    ----------
    row_count : int
    batches : iterator of Batch
        Can be read once.
    in_key_order : bool
        Whether the database has sorted the batches by key; where that is dear, it leaves it to
        the reader.
    """

    row_count: int
    batches: Iterator[Batch] = field(repr=False)
    in_key_order: bool


class Workspace(ABC):
    """A connection on which a run makes temporary tables of its source and asks for aggregates.

    Attributes
    ----------
    dialect : TrainingDialect
    source : str
        What stands after FROM.
    """

    dialect: TrainingDialect
    source: str

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


class Database(ABC):
    """A database that holds customers, schema ``sqlkmeans`` and segment tables."""

    #: The URL with its password hidden.
    safe_url: str
    #: Reads of schema ``sqlkmeans``.
    catalog: Catalog
    #: Whether the first run may make schema ``sqlkmeans`` by itself.
    installs_itself: bool
    #: Whether what is written stays when the connection has ended.
    stays = True

    @abstractmethod
    def close(self) -> None:
        """End all connections. May be called twice."""

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The schema

    @abstractmethod
    def schema_version(self) -> int:
        """The number of the last migration applied; 0 where there is no schema."""

    @abstractmethod
    def install(self) -> int:
        """Make or upgrade schema ``sqlkmeans``; returns the version it now has."""

    @abstractmethod
    def uninstall(self, *, execute: bool) -> list[str]:
        """Drop schema ``sqlkmeans``, its views and histories; segment tables stay.

        Returns the statements, which are run only when ``execute`` is true.
        """

    @abstractmethod
    def drop_segmentation(self, name: str, *, drop_target: bool, execute: bool) -> list[str]:
        """Remove a segmentation: its runs and models, its history and its view with names.

        Its segment table goes only with ``drop_target``. Returns the statements, which are run
        only when ``execute`` is true.

        Raises
        ------
        LockedError
            If it is being run.
        """

    @abstractmethod
    def doctor(self) -> list[Finding]:
        """Look at what a run needs of this database."""

    def run_script(self, script: str) -> None:
        """Run a T-SQL script, batch by batch.

        Raises
        ------
        DatabaseError
            If this is not SQL Server, or it refuses a batch.
        """
        raise DatabaseError(f"{self.safe_url}: only SQL Server runs T-SQL scripts")

    def self_test(self, *, keep: bool = False) -> Row:
        """Try everything on the server, in names of its own, and drop them again.

        Parameters
        ----------
        keep : bool, default=False
            Leave what was made, to look at; the next self-test drops it.

        Returns
        -------
        dict
            What to send with a report of a bug: ``sqlkmeans``, ``version``, ``edition``,
            ``collation``, ``compatibility_level`` …; ``passed``, ``not_here`` and ``failed``, and
            in ``results`` a dict for each check: ``check``, ``ok`` (None: not here), ``detail``,
            ``milliseconds``.

        Raises
        ------
        DatabaseError
            If this is not SQL Server, or the login is not db_owner.
        LockedError
            If another session is at it.
        """
        raise DatabaseError(f"{self.safe_url}: only SQL Server has a self-test; `doctor` is here")

    def run_inside(self, segmentation: Segmentation, kind: str) -> int:
        """Let the server itself do a whole run, ``fit`` or ``assign``; returns the run's id."""
        raise DatabaseError(
            f'{self.safe_url}: engine = "{segmentation.engine}" needs SQL Server; use "local"'
        )

    def schedule(self, segmentation: str | None, options: Row) -> Row:
        """Make or change the SQL Server Agent job of a segmentation and a step.

        Parameters
        ----------
        segmentation : str or None
            None for a purge of all of them.
        options : dict
            Parameters of the procedure ``sqlkmeans.create_agent_job``.

        Returns
        -------
        dict
            What is scheduled, as the procedure says it.
        """
        raise DatabaseError(f"{self.safe_url}: only SQL Server has an Agent; use cron or the like")

    def unschedule(self, segmentation: str | None, step: str | None = None) -> None:
        """Drop the job that :meth:`schedule` made for a step, or for each step."""
        raise DatabaseError(f"{self.safe_url}: only SQL Server has an Agent")

    def limited_memory(self, limit: int) -> AbstractContextManager[object]:
        """Let the database take at most so many bytes of this process's memory."""
        return nullcontext()

    def release_memory(self) -> None:  # noqa: B027
        """Let go of what is held of this process's memory only to read it faster again."""

    def publish_notes(self, segmentation: Segmentation, rows: int) -> list[str]:
        """What publishing so many labels will do otherwise than people expect, in words."""
        return []

    # A source

    def open_files(self, source: str) -> None:  # noqa: B027
        """Let the files be read that the source of the user's own definition names.

        Raises
        ------
        DatabaseError
            If they cannot be opened any more.
        """

    @abstractmethod
    def describe(self, source: str) -> list[Column]:
        """The columns of a table, view or SELECT.

        Raises
        ------
        DataError
            If there is no such table, or the database cannot run the SELECT.
        """

    @abstractmethod
    def table_names(self) -> list[str]:
        """Tables and views that may be a source, ``schema.table`` each."""

    @abstractmethod
    def describe_table(self, name: str) -> list[Column] | None:
        """The columns of a table; None where there is no such table."""

    @abstractmethod
    def open_source(
        self,
        segmentation: Segmentation,
        features: Sequence[str],
        customer: Sequence[str] | None = None,
        *,
        in_order: bool = False,
    ) -> AbstractContextManager[Source]:
        """Open the source for reading the key, ``features`` and the sample weight.

        The definition's features say as what each column is read.

        Parameters
        ----------
        segmentation : Segmentation
        features : sequence of str
        customer : sequence of str, optional
            The values of a key as text: only this customer is read, who need not be there.
        in_order : bool, default=False
            Let the database sort the rows by key, also where it would leave that to the reader.

        Raises
        ------
        DataError
            If the database cannot run the SELECT, or cannot read the text as a key.
        """

    @abstractmethod
    def published_label(self, segmentation: Segmentation, customer: Sequence[str]) -> int | None:
        """The segment that a customer, by the key's values as text, has in the target; or None."""

    @abstractmethod
    def count(self, source: str) -> int:
        """Number of rows of a table, view or SELECT."""

    @abstractmethod
    def create_table(self, name: str, rows: pa.Table, key: str, *, replace: bool = False) -> None:
        """Make a table of these rows, and its schema where there is none, in one transaction.

        With ``replace``, in place of the table of that name.
        """

    @abstractmethod
    def labelled_sample(
        self, segmentation: Segmentation, columns: Sequence[str], at_most: int
    ) -> pa.Table:
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

    def gives_again(self, source: str) -> bool:
        """Whether reading a source once more is quick, and gives the same rows in the same order
        while nobody changes them."""
        return False

    # Changes of a source

    def change_tracking_problems(self, source: str) -> list[str]:
        """Why the database keeps no record of a source's changes; empty where it does."""
        return [
            f"changed_by {CHANGE_TRACKING}: Change Tracking is only on SQL Server; name a column "
            "of the source"
        ]

    @abstractmethod
    def high_water(self, segmentation: Segmentation) -> str | None:
        """A value that ``changed_by`` reaches in every row that changes from now on.

        None where the column has no value yet.

        Raises
        ------
        DataError
            If the column is of a type that says nothing of the order of changes.
        """

    @abstractmethod
    def changed_source(self, segmentation: Segmentation, since: str) -> str:
        """A SELECT of the source's rows that changed since a high-water mark or have no label."""

    def changes_unknown_since(self, segmentation: Segmentation, since: str) -> str | None:
        """Why not all changes since a high-water mark are known any more; None where they are."""
        return None

    # A run

    @abstractmethod
    def lock(self, segmentation: str) -> AbstractContextManager[None]:
        """Hold a segmentation for one run.

        Raises
        ------
        LockedError
            At once, if another run holds it.
        """

    @abstractmethod
    def start_run(self, segmentation: Segmentation, run: Row) -> int:
        """Record a run as running, close what a killed one left, and return the run's id.

        ``run`` holds columns of the run row; here and elsewhere, lists and dicts become JSON where
        they are stored.
        """

    @abstractmethod
    def fail_run(self, run_id: int, error: str) -> None:
        """Record a run as failed and forget what it staged; one that ended stays as it is."""

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
    def open_workspace(self, segmentation: Segmentation) -> AbstractContextManager[Workspace]:
        """Open a connection for work on the source where it is."""

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

    @abstractmethod
    def stage_unchanged(
        self, segmentation: Segmentation, run_id: int, segment_ids: Sequence[int]
    ) -> list[tuple[int, int, float]]:
        """Let customers of the source who were not staged keep their labels; the rest departs.

        Returns
        -------
        list of (int, int, float)
            Cluster, customers and sum of squared distances, as they will be published.
        """

    @abstractmethod
    def overlap(self, segmentation: Segmentation, run_id: int) -> list[tuple[int, int, int]]:
        """Shared customers: (published segment_id, staged cluster, customers), without zeros.

        Numbers below the segmentation's smallest group count as zero.
        """

    def loading(
        self, segmentation: Segmentation, run_id: int, segment_ids: Sequence[int]
    ) -> AbstractContextManager[object]:
        """Write staged labels where nobody sees them, while their rows are described.

        Only where it makes publishing shorter; :meth:`publish`, inside, waits for it. What is not
        published when this is left is dropped.
        """
        return nullcontext()

    @abstractmethod
    def publish(self, segmentation: Segmentation, publication: Publication) -> Counts:
        """Make a staged run visible, in one transaction of changes only."""

    @abstractmethod
    def finish_choice(
        self, segmentation: Segmentation, run_id: int, run: Row, k_score: list[Row]
    ) -> None:
        """Record a choice of k as finished, in one transaction; nothing is published.

        ``run`` holds columns of the run row to set, ``k_score`` rows of that table without their
        run.
        """

    @abstractmethod
    def rollback(self, segmentation: Segmentation, run: Row, restored_run: Row) -> Counts:
        """Bring back labels and model as they were after an earlier run, in one transaction.

        ``run`` holds columns of the run row that records the rollback; ``restored_run`` is the
        earlier run's row.
        """

    @abstractmethod
    def rename_segment(
        self, segmentation: str, segment_id: int, name: str, description: str | None
    ) -> None:
        """Give a segment a name that later runs keep."""
