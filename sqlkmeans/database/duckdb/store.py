"""Runs of segmentations, in the tables of schema ``sqlkmeans`` on DuckDB."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import duckdb
import pyarrow as pa

from sqlkmeans._version import __version__
from sqlkmeans.database import tables
from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.duckdb.connection import DuckDBConnection
from sqlkmeans.database.duckdb.staged import Staged
from sqlkmeans.database.duckdb.statements import first_line, insert, transaction, update
from sqlkmeans.database.labels import Counts
from sqlkmeans.database.store import Store
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, LockedError
from sqlkmeans.publication import Row

# Segmentations being run in this process; other processes are kept out by DuckDB's file lock.
_running: set[tuple[str, str]] = set()
_running_guard = threading.Lock()


class DuckDBStore(Store):
    """Rows of ``segmentation`` and ``run``, and what belongs to a run without labels."""

    def __init__(self, connection: DuckDBConnection, catalog: Catalog, staged: Staged) -> None:
        self._connection = connection
        self._catalog = catalog
        self._staged = staged

    @property
    def _native(self) -> duckdb.DuckDBPyConnection:
        return self._connection.native

    @contextmanager
    def lock(self, segmentation: str) -> Iterator[None]:
        held = (self._connection.identity, segmentation)
        with _running_guard:
            if held in _running:
                raise LockedError(f"{segmentation} is being run already; nothing was changed")
            _running.add(held)
        try:
            yield
        except duckdb.Error as error:
            raise DatabaseError(f"{self._connection.path}: {first_line(error)}") from error
        finally:
            with _running_guard:
                _running.discard(held)

    def start(
        self, segmentation: Segmentation, run: Row, key_schema: pa.Schema | None = None
    ) -> int:
        # Segment tables have the types of what is staged for them.
        now, name = utc_now(), segmentation.name
        with transaction(self._native):
            self._reclaim(name, now)
            if self._catalog.segmentation(name) is None:
                row = {
                    "name": name, "definition": segmentation.to_json(),
                    "target": segmentation.target, "last_segment_id": 0,
                    "created_at": now, "updated_at": now,
                }  # fmt: skip
                insert(self._native, tables.segmentation, row)
            return self.insert(segmentation, {**run, "started_at": now})

    def insert(self, segmentation: Segmentation, run: Row) -> int:
        """Record a run, in the caller's transaction; returns its id."""
        # Not as a default of the column: DuckDB fails to replay later changes of such a table.
        ((next_id,),) = self._catalog.select("SELECT nextval('sqlkmeans.run_id')")
        values = {
            "run_id": int(next_id),
            "segmentation": segmentation.name,
            "status": "running",
            "definition": segmentation.to_json(),
            "sqlkmeans_version": __version__,
            **run,
        }
        insert(self._native, tables.run, values)
        return int(values["run_id"])

    def _reclaim(self, name: str, now: datetime) -> None:
        """Close what killed runs left: the caller holds the lock, so none of them is alive."""
        error = "the process ended before it finished"
        ended = {"status": "failed", "error": error, "finished_at": now}
        update(self._native, tables.run, ended, segmentation=name, status="running")

    def fail(self, run_id: int, error: str) -> None:
        self._staged.drop(run_id)
        failed = {"status": "failed", "error": error, "finished_at": utc_now()}
        # Not one that was published before it was interrupted.
        update(self._native, tables.run, failed, run_id=run_id, status="running")

    def finish(self, segmentation: Segmentation, run_id: int, run: Row, k_score: list[Row]) -> None:
        now = utc_now()
        with transaction(self._native):
            for row in k_score:
                insert(self._native, tables.k_score, {"run_id": run_id, **row})
            total = round((now - self._started(run_id)).total_seconds(), 3)
            finished = {"status": "finished", "seconds_total": total, "finished_at": now}
            update(self._native, tables.run, {**run, **finished}, run_id=run_id)

    def _started(self, run_id: int) -> datetime:
        query = "SELECT started_at FROM sqlkmeans.run WHERE run_id = ?"
        ((started,),) = self._catalog.select(query, [run_id])
        assert isinstance(started, datetime)
        return started

    def publish(self, name: str, run_id: int, run: Row, counts: Counts, now: datetime) -> None:
        """Record a run as published, in the caller's transaction."""
        finished = max(utc_now(), now)
        total = (finished - self._started(run_id)).total_seconds()
        steps = sum(run.get(f"seconds_{step}", 0.0) for step in ("read", "fit", "assign"))
        result = {
            **run,
            "seconds_publish": round(max(0.0, total - steps), 3),
            "seconds_total": round(total, 3),
            "status": "published",
            "changed": counts.changed,
            "arrived": counts.arrived,
            "moved": counts.moved,
            "departed": counts.departed,
            "written": counts.written,
            "published_at": now,
            "finished_at": finished,
        }
        update(self._native, tables.run, result, run_id=run_id)
        active = {"active_run_id": run["model_run_id"], "updated_at": now}
        update(self._native, tables.segmentation, active, name=name)

    def publication_time(self, name: str) -> datetime:
        """Now, but later than the last publication, so that "as of" tells the two apart."""
        query = "SELECT MAX(published_at) FROM sqlkmeans.run WHERE segmentation = ?"
        ((last,),) = self._catalog.select(query, [name])
        return later_than(last)

    def rename(
        self, segmentation: str, segment_id: int, name: str, description: str | None
    ) -> None:
        values: Row = {"name": name, "name_source": "given"}
        if description is not None:
            values["description"] = description
        runs = "SELECT run_id FROM sqlkmeans.run WHERE segmentation = ?"
        with transaction(self._native):
            for (run_id,) in self._catalog.select(runs, [segmentation]):
                same = {"run_id": run_id, "segment_id": segment_id}
                update(self._native, tables.segment, values, **same)


def utc_now() -> datetime:
    """The moment, in UTC, without a zone, as every table keeps it."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


def later_than(last: datetime | None) -> datetime:
    """Now, or a microsecond after ``last`` where the clock says it is not later yet."""
    now = utc_now()
    if last is None or now > last:
        return now
    return last + timedelta(microseconds=1)
