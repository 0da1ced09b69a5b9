"""What is asked of a database. One folder a database; one test suite for all of them.

Those who ask find all names here; what only some databases can do is in ``capabilities``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pyarrow as pa

from sqlkmeans.database.capabilities import (
    CHANGE_TRACKING,
    Embedded,
    HasAgent,
    ReadTogether,
    RunsInside,
    TracksChanges,
    limited_memory,
)
from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.labels import Counts, Labels, StagedCluster
from sqlkmeans.database.source import Batch, ChangedRows, Column, Source
from sqlkmeans.database.store import Store
from sqlkmeans.database.workspace import Workspace
from sqlkmeans.definition import Segmentation

__all__ = [
    "CHANGE_TRACKING",
    "Batch",
    "ChangedRows",
    "Column",
    "Counts",
    "Database",
    "Embedded",
    "Finding",
    "HasAgent",
    "Labels",
    "Opening",
    "ReadTogether",
    "RunsInside",
    "Source",
    "Sources",
    "StagedCluster",
    "Store",
    "TracksChanges",
    "Workspace",
    "limited_memory",
]


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
class Opening:
    """How a database is to be opened; each looks at what concerns it.

    Attributes
    ----------
    create, read_only, from_file : bool
    files : sequence of str
        All as :func:`sqlkmeans.open_database` takes them.
    """

    create: bool = False
    read_only: bool = False
    files: Sequence[str] = ()
    from_file: bool = False


class Sources(ABC):
    """Where rows are read: a database itself, unless an engine has its rows elsewhere."""

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
        types: Mapping[str, str] | None = None,
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
        types : mapping of str to str, optional
            As what columns are read that are no features of the definition; by default numbers.

        Raises
        ------
        DataError
            If the database cannot run the SELECT, or cannot read the text as a key.
        """

    @abstractmethod
    def count(self, source: str) -> int:
        """Number of rows of a table, view or SELECT."""

    @abstractmethod
    def open_workspace(self, segmentation: Segmentation) -> AbstractContextManager[Workspace]:
        """Open a connection for work on the source where it is."""

    def key_schema(self, segmentation: Segmentation) -> pa.Schema | None:
        """The key columns as Arrow has them, where the rows are beside the database of the labels.

        None where that looks at the source itself.
        """
        return None

    def same_type(self, now: Column, published: Column) -> bool:
        """Whether a key column of a source can still be that of a segment table."""
        return now.type == published.type

    # Changes of a source

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
    def changed_rows(self, segmentation: Segmentation, since: str) -> ChangedRows:
        """The source's rows that changed since a high-water mark or have no label."""

    def changes_unknown_since(self, segmentation: Segmentation, since: str) -> str | None:
        """Why not all changes since a high-water mark are known any more; None where they are."""
        return None


class Database(Sources):
    """A database that holds customers, schema ``sqlkmeans`` and segment tables."""

    #: The URL with its password hidden.
    safe_url: str
    #: Reads of schema ``sqlkmeans``.
    catalog: Catalog
    #: Runs as they begin and end.
    store: Store
    #: What is published, and what is on its way there.
    labels: Labels
    #: Whether what is written stays when the connection has ended.
    stays = True

    @classmethod
    @abstractmethod
    def open(cls, url: str, opening: Opening) -> Database:
        """Open the database at a URL.

        Raises
        ------
        DatabaseError
            If it cannot be reached.
        """

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

    # A source

    @abstractmethod
    def create_table(self, name: str, rows: pa.Table, key: str, *, replace: bool = False) -> None:
        """Make a table of these rows, and its schema where there is none, in one transaction.

        With ``replace``, in place of the table of that name.
        """
