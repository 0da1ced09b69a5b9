"""What some databases can do and others cannot; callers ask ``isinstance(database, HasAgent)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

from sqlkmeans.database.source import TogetherReader
from sqlkmeans.definition import Segmentation
from sqlkmeans.publication import Row

#: As ``changed_by``, where the source has no such column: the database's own record of changes.
CHANGE_TRACKING = "SYS_CHANGE_VERSION"


@runtime_checkable
class HasAgent(Protocol):
    """Has jobs that a scheduler of its own starts."""

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

    def unschedule(self, segmentation: str | None, step: str | None = None) -> None:
        """Drop the job that :meth:`schedule` made for a step, or for each step."""


@runtime_checkable
class RunsInside(Protocol):
    """Is a server with the package's procedures, which can do a whole run."""

    def run_inside(self, segmentation: Segmentation, kind: str) -> int:
        """Let the server itself do a whole run, ``fit`` or ``assign``; returns the run's id."""

    def run_script(self, script: str) -> None:
        """Run a T-SQL script, batch by batch.

        Raises
        ------
        DatabaseError
            If it refuses a batch.
        """

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
            If the login is not db_owner.
        LockedError
            If another session is at it.
        """


@runtime_checkable
class TracksChanges(Protocol):
    """Can keep a record of its own of which rows of a table changed."""

    def change_tracking_problems(self, source: str) -> list[str]:
        """Why the database keeps no record of a source's changes; empty where it does."""

    def changes_unknown_since(self, segmentation: Segmentation, since: str) -> str | None:
        """Why not all changes since a high-water mark are known any more; None where they are."""


@runtime_checkable
class ReadTogether(Protocol):
    """Is a server that several processes can read at once."""

    def together_reader(
        self, segmentation: Segmentation, features: Sequence[str], types: Mapping[str, str]
    ) -> TogetherReader | None:
        """What they read the source with; None where one had better read it.

        Parameters
        ----------
        segmentation : Segmentation
        features : sequence of str
        types : mapping of str to str
            As what columns are read that are no features of the definition.
        """


@runtime_checkable
class Embedded(Protocol):
    """Is in this process, whose memory and files it takes; the first run makes its schema."""

    def limited_memory(self, limit: int) -> AbstractContextManager[object]:
        """Let the database take at most so many bytes of this process's memory."""

    def release_memory(self) -> None:
        """Let go of what is held of this process's memory only to read it faster again."""

    def open_files(self, source: str) -> None:
        """Let the files be read that the source of the user's own definition names.

        Raises
        ------
        DatabaseError
            If they cannot be opened any more.
        """

    def gives_again(self, source: str) -> bool:
        """Whether reading a source once more is quick, and gives the same rows in the same order
        while nobody changes them."""


def limited_memory(database: object, limit: int) -> AbstractContextManager[object]:
    """Let a database take at most so many bytes of this process's memory, if it takes any."""
    return database.limited_memory(limit) if isinstance(database, Embedded) else nullcontext()
