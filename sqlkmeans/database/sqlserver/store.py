"""Runs of segmentations: the procedures that begin and end them, and the session that locks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa

from sqlkmeans._version import __version__
from sqlkmeans.database.sqlserver.errors import read_problem
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.sessions import Sessions
from sqlkmeans.database.sqlserver.staged import Staged
from sqlkmeans.database.sqlserver.types import key_types
from sqlkmeans.database.store import Store
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, LockedError
from sqlkmeans.publication import Row, plain


class SQLServerStore(Store):
    """Calls the procedures of schema ``sqlkmeans``."""

    def __init__(self, sessions: Sessions, staged: Staged) -> None:
        self._sessions = sessions
        self._staged = staged

    @contextmanager
    def lock(self, segmentation: str) -> Iterator[None]:
        before = self._sessions.holding
        with self._sessions.connector.keep() as session:
            try:
                with self._sessions.connector.telling(segmentation):
                    session.call("lock_segmentation", segmentation=segmentation)
                self._sessions.holding = session
                yield
            finally:
                self._sessions.holding = before
                self._unlock(session, segmentation)

    def _unlock(self, session: Session, segmentation: str) -> None:
        """Give the lock back at once. Where that fails, the end of the session does it."""
        try:
            session.call("unlock_segmentation", segmentation=segmentation)
        except self._sessions.connector.errors:
            session.spoiled = True

    def start(
        self, segmentation: Segmentation, run: Row, key_schema: pa.Schema | None = None
    ) -> int:
        with self._sessions.locking(segmentation.name) as session:
            return int(
                session.call(
                    "start_run",
                    output="run_id",
                    segmentation=segmentation.name,
                    definition=segmentation.to_json(),
                    kind=run["kind"],
                    engine=run.get("engine"),
                    client_version=__version__,
                    library_versions=json.dumps(run.get("library_versions") or {}),
                    client=run.get("client"),
                    key_types=None if key_schema is None else json.dumps(key_types(key_schema)),
                )[0]
            )

    def fail(self, run_id: int, error: str) -> None:
        self._staged.forget()
        # What made the run fail may be the server itself; the next run closes this one.
        with suppress(DatabaseError, LockedError):
            self.end(run_id, error, wait_seconds=10)

    def end(self, run_id: int, error: str, wait_seconds: int) -> None:
        """Record a running run as failed, in the session that holds its lock.

        Where that session is lost, the server may still be publishing in it: another one waits
        for the lock, and only then looks how the run stands.
        """
        with self._sessions.connector.telling(f"run {run_id}"):
            if self._sessions.holding is not None and not self._sessions.holding.spoiled:
                try:
                    self._sessions.holding.call("fail_run", run_id=run_id, error=error)
                    return
                except self._sessions.connector.errors as problem:
                    if not read_problem(problem).lost:
                        raise
                    self.lose(self._sessions.holding)
            with self._sessions.open(f"run {run_id}") as session:
                session.call("fail_run", run_id=run_id, error=error, wait_seconds=wait_seconds)

    def lose(self, session: Session) -> None:
        """A session whose connection is lost; what is left of it here must not hold the lock."""
        session.spoiled = True
        session.close()

    def finish(self, segmentation: Segmentation, run_id: int, run: Row, k_score: list[Row]) -> None:
        document = {
            "run": plain(run),
            "tables": {"k_score": plain(k_score)},
        }
        with self._sessions.locking(segmentation.name) as session:
            session.call(
                "finish_choice", run_id=run_id, publication=json.dumps(document, allow_nan=False)
            )

    def rename(
        self, segmentation: str, segment_id: int, name: str, description: str | None
    ) -> None:
        with self._sessions.locking(segmentation) as session:
            session.call(
                "rename_segment",
                segmentation=segmentation,
                segment_id=segment_id,
                name=name,
                description=description,
            )
