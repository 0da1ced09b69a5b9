"""The sessions that a database needs for this and that, and the one that holds the lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import URL

from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.errors import read_problem, statement_error
from sqlkmeans.database.sqlserver.reading import describe
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.types import SqlColumn, beside
from sqlkmeans.errors import DataError, SqlKMeansError


class Sessions:
    """A pool for small reads, and a session of its own for each thing that lasts.

    Attributes
    ----------
    connector : Connector
    holding : Session or None
        The session that holds the lock of the run that goes on.
    """

    def __init__(self, url: URL, *, from_file: bool) -> None:
        self.connector = Connector(url, from_file=from_file)
        self.holding: Session | None = None

    def close(self) -> None:
        """End all of them. May be called twice."""
        if self.holding is not None:
            self.holding.close()
        self.connector.close()

    @contextmanager
    def open(self, doing: str) -> Iterator[Session]:
        """A session for one thing; errors come as one sentence."""
        session = self.connector.open()
        try:
            with self.connector.telling(doing):
                yield session
        finally:
            session.close()

    @contextmanager
    def to_read(self, doing: str) -> Iterator[Session]:
        """The same for reading many rows, of the driver that does it faster."""
        with self.connector.telling(doing), self.connector.copier.lend_to_read() as beside:
            if beside is not None:
                yield beside
                return
        with self.open(doing) as session:
            yield session

    @contextmanager
    def locking(self, doing: str) -> Iterator[Session]:
        """The session that holds the lock, for procedures that take it themselves."""
        if self.holding is None:
            with self.open(doing) as session:
                yield session
        else:
            with self.connector.telling(doing):
                yield self.holding

    def columns(self, source: str) -> list[SqlColumn]:
        """The columns of a table, view or SELECT."""

        def once() -> list[SqlColumn]:
            with self.connector.borrow() as session:
                return describe(session, source)

        try:
            return self.connector.repeating(once)
        except self.connector.errors as error:
            raise source_error(error, f"source {source}") from None

    def exists(self, name: str, suffix: str = "") -> bool:
        """Whether there is a table or a view of that name."""
        table = beside(name, suffix)
        rows = self.connector.read(
            f"looking for {name}",
            "SELECT COUNT(*) FROM (SELECT OBJECT_ID(?, N'U') AS id UNION ALL "
            "SELECT OBJECT_ID(?, N'V')) AS found WHERE found.id IS NOT NULL;",
            [table, table],
        )
        return bool(rows[0][0])


def source_error(error: BaseException, doing: str) -> SqlKMeansError:
    """A source that is wrong is the data's fault; all else is the database's."""
    problem = read_problem(error)
    if problem.permission or problem.lost or problem.transient:
        return statement_error(error, doing)
    return DataError(f"{doing}: {problem.text}")
