"""SQL Server, Azure SQL Database and Managed Instance.

What is published is published by the procedures of schema ``sqlkmeans``, so that a run from here
and one inside the server do the same. This module reads, stages and calls them.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sqlalchemy.engine import URL

from sqlkmeans._version import __version__
from sqlkmeans.database.base import (
    Batch,
    Column,
    Counts,
    Database,
    Empty,
    Finding,
    Row,
    Source,
    Workspace,
)
from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.label_changes import LabelChanges, all_to_stage
from sqlkmeans.database.sqlserver.change_tracking import TrackedChanges, tracking_problems
from sqlkmeans.database.sqlserver.changes import (
    Changes,
    ColumnChanges,
    clusters_query,
    stage_departed,
)
from sqlkmeans.database.sqlserver.connection import Connector, Session
from sqlkmeans.database.sqlserver.doctor import IS_OWNER, examine
from sqlkmeans.database.sqlserver.errors import is_transient, read_problem, statement_error
from sqlkmeans.database.sqlserver.ranges import begin_together
from sqlkmeans.database.sqlserver.reading import (
    describe,
    read_batches,
    read_labels,
    read_query,
    same_customer,
)
from sqlkmeans.database.sqlserver.types import (
    SqlColumn,
    beside,
    bracket,
    bracket_name,
    create_type,
    feature_arrow,
    relation,
    text,
)
from sqlkmeans.database.sqlserver.workspace import SQLServerWorkspace, open_dialect
from sqlkmeans.database.sqlserver.writing import write_rows
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError, LockedError, SqlKMeansError
from sqlkmeans.publication import Publication, plain
from sqlkmeans.sqltext import parse_name
from sqlkmeans.tsql.script import batches, install_script, uninstall_script


@dataclass
class _Staged:
    """What a run has handed over and is not on the server yet, and how to publish what is.

    Attributes
    ----------
    labels : (keys, clusters, distances), optional
        Before they are compared with the published ones.
    changes : LabelChanges, optional
        After it.
    empty : callable
        Makes what is as long as the labels.
    told : dict
        Keys of the publication that say what was staged.
    """

    labels: tuple[pa.Table, npt.NDArray[np.int32], npt.NDArray[np.float64]] | None = None
    changes: LabelChanges | None = None
    empty: Empty = np.empty
    told: Row = field(default_factory=dict)


class SQLServerDatabase(Database):
    """A pool for small reads, and a session of its own for each thing that lasts."""

    installs_itself = False

    def __init__(self, url: URL, *, from_file: bool = False) -> None:
        self._connector = Connector(url, from_file=from_file)
        self.safe_url = self._connector.safe_url
        self.catalog: Catalog = _SQLServerCatalog(self._connector)
        self._holding: Session | None = None
        self._staged = _Staged()
        # Whoever opens a database wants to know at once that it is not there.
        self._connector.read("connecting", "SELECT 1;")

    def close(self) -> None:
        if self._holding is not None:
            self._holding.close()
        self._connector.close()

    @contextmanager
    def _session(self, doing: str) -> Iterator[Session]:
        """A session for one thing; errors come as one sentence."""
        session = self._connector.open()
        try:
            with self._connector.telling(doing):
                yield session
        finally:
            session.close()

    @contextmanager
    def _reading_session(self, doing: str) -> Iterator[Session]:
        """The same for reading many rows, of the driver that does it faster."""
        with self._connector.telling(doing), self._connector.copier.lend_to_read() as beside:
            if beside is not None:
                yield beside
                return
        with self._session(doing) as session:
            yield session

    @contextmanager
    def _locking_session(self, doing: str) -> Iterator[Session]:
        """The session that holds the lock, for procedures that take it themselves."""
        if self._holding is None:
            with self._session(doing) as session:
                yield session
        else:
            with self._connector.telling(doing):
                yield self._holding

    # The schema

    def schema_version(self) -> int:
        found = self._connector.read(
            "looking for schema sqlkmeans",
            "SELECT SCHEMA_ID(N'sqlkmeans'), OBJECT_ID(N'sqlkmeans.schema_version', N'U'), "
            f"{IS_OWNER};",
        )[0]
        if found[0] is not None and found[1] is None and found[2] == 0:
            raise DatabaseError(
                "schema sqlkmeans is in this database, and this login may not see it; ask for the "
                "role sqlkmeans_operator (docs/connect.md)"
            )
        if found[1] is None:
            return 0
        rows = self._connector.read(
            "reading the version of schema sqlkmeans",
            "SELECT MAX(v.version) FROM sqlkmeans.schema_version AS v;",
        )
        return int(rows[0][0] or 0)

    def install(self) -> int:
        with self._session("installing schema sqlkmeans") as session:
            for batch in batches(install_script()):
                session.rows(batch)
        return self.schema_version()

    def run_script(self, script: str) -> None:
        with self._session("running the script") as session:
            for batch in batches(script):
                session.rows(batch)

    def run_inside(self, segmentation: Segmentation, kind: str) -> int:
        with self._session("running in the database") as session:
            if kind == "assign":
                row = session.call("assign_segments", segmentation=segmentation.name)
            else:
                row = session.call(
                    "run_segmentation",
                    segmentation=segmentation.name,
                    definition=segmentation.to_json(),
                    engine=segmentation.engine,
                )
        return int(row[0])

    def self_test(self, *, keep: bool = False) -> Row:
        if not self.schema_version():
            raise DatabaseError(
                f"{self.safe_url}: no schema sqlkmeans yet; `sqlkmeans install` makes it"
            )
        with self._session("the self-test") as session:
            row = session.call("self_test", keep=1 if keep else None)
        report: Row = json.loads(row[0])
        for result in report["results"]:
            result["ok"] = None if result["ok"] is None else bool(result["ok"])
        return report

    def schedule(self, segmentation: str | None, options: Row) -> Row:
        with self._session("scheduling") as session:
            row = session.call("create_agent_job", segmentation=segmentation, **options)
        columns = ("job", "outcome", "frequency", "day", "at", "command", "owner", "warning")
        return dict(zip(columns, row))

    def unschedule(self, segmentation: str | None, step: str | None = None) -> None:
        with self._session("dropping the job") as session:
            session.call("drop_agent_job", segmentation=segmentation, step=step)

    def uninstall(self, *, execute: bool) -> list[str]:
        with self._session("removing schema sqlkmeans") as session:
            found: list[tuple[Any, ...]] = []
            for batch in batches(uninstall_script(execute=execute)):
                found += session.rows(batch)
        return [str(row[0]).rstrip(";") for row in found]

    def drop_segmentation(self, name: str, *, drop_target: bool, execute: bool) -> list[str]:
        with self._session(f"dropping {name}") as session:
            rows = session.guarded(
                "EXECUTE sqlkmeans.drop_segmentation @segmentation = ?, @drop_target = ?, "
                "@execute = ?;",
                [name, drop_target, execute],
            )
        return [str(row[1]).rstrip(";") for row in rows]

    def doctor(self) -> list[Finding]:
        with self._session("examining the server") as session:
            return examine(session, self._connector, self.schema_version())

    # A source

    def describe(self, source: str) -> list[Column]:
        return [column.to_column() for column in self._columns(source)]

    def _columns(self, source: str) -> list[SqlColumn]:
        def once() -> list[SqlColumn]:
            with self._connector.borrow() as session:
                return describe(session, source)

        try:
            return self._connector.repeating(once)
        except self._connector.errors as error:
            raise self._source_error(error, f"source {source}") from None

    def _source_error(self, error: BaseException, doing: str) -> SqlKMeansError:
        """A source that is wrong is the data's fault; all else is the database's."""
        problem = read_problem(error)
        if problem.permission or problem.lost or problem.transient:
            return statement_error(error, doing)
        return DataError(f"{doing}: {problem.text}")

    def table_names(self) -> list[str]:
        rows = self._connector.read(
            "looking for tables",
            "SELECT s.name, o.name FROM sys.objects AS o "
            "INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id "
            "WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND s.name <> N'sqlkmeans' "
            "ORDER BY s.name, o.name;",
        )
        return [f"{schema}.{name}" for schema, name in rows]

    def describe_table(self, name: str) -> list[Column] | None:
        return self.describe(name) if self._exists(name) else None

    def _exists(self, name: str, suffix: str = "") -> bool:
        table = beside(name, suffix)
        rows = self._connector.read(
            f"looking for {name}",
            "SELECT COUNT(*) FROM (SELECT OBJECT_ID(?, N'U') AS id UNION ALL "
            "SELECT OBJECT_ID(?, N'V')) AS found WHERE found.id IS NOT NULL;",
            [table, table],
        )
        return bool(rows[0][0])

    @contextmanager
    def open_source(
        self,
        segmentation: Segmentation,
        features: Sequence[str],
        customer: Sequence[str] | None = None,
        *,
        in_order: bool = False,
    ) -> Iterator[Source]:
        columns = {column.name: column for column in self._columns(segmentation.source)}
        keys = [columns[name] for name in segmentation.key]
        types = segmentation.feature_types
        values = [(columns[name], types.get(name, "number")) for name in features]
        weight = columns[segmentation.sample_weight] if segmentation.sample_weight else None

        def read(
            session: Session, condition: str | None, parameters: Sequence[str | int]
        ) -> Generator[Batch, None, None]:
            query = read_query(segmentation.source, keys, values, weight, condition=condition)
            return self._batches(session, query, keys, values, weight, parameters)

        snapshot, together = self._snapshot_allowed(), None
        if snapshot and customer is None:
            together = begin_together(self._connector, segmentation.source, keys[0])
        if together is not None:
            with closing(together), closing(together.batches(read)) as batches:
                yield Source(together.row_count, batches, in_key_order=True)
            return
        session, rows = self._connector.repeating(
            lambda: self._begin_reading(segmentation.source, snapshot)
        )
        try:
            if customer is None:
                yield Source(rows, read(session, None, ()), in_key_order=True)
            else:
                same = same_customer("source", keys)
                yield Source(1, read(session, same, customer), in_key_order=True)
        finally:
            session.close()

    def _snapshot_allowed(self) -> bool:
        """Whether the database keeps row versions, so that a transaction can see one moment.

        Asked, and not tried: where it keeps none, the server would log an error at every run.
        """
        rows = self._connector.read(
            "looking for snapshot isolation",
            "SELECT d.snapshot_isolation_state FROM sys.databases AS d WHERE d.name = DB_NAME();",
        )
        return bool(rows) and rows[0][0] == 1

    def _begin_reading(self, source: str, snapshot: bool) -> tuple[Session, int]:
        """A session that sees one moment where the database allows it, and the rows it sees."""
        session = self._connector.open_to_read()
        count = f"SELECT COUNT_BIG(*) FROM {relation(source)}"
        try:
            if snapshot:
                try:
                    session.rows("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
                    session.native.autocommit = False
                    return session, int(session.rows(count)[0][0])
                except self._connector.errors as error:
                    if is_transient(error):
                        raise
                    # A source in another database that keeps no versions.
                    session.close()
                    session = self._connector.open_to_read()
            return session, int(session.rows(count)[0][0])
        except self._connector.errors as error:
            session.close()
            if is_transient(error):
                raise
            raise self._source_error(error, "source") from None

    def _batches(
        self,
        session: Session,
        query: str,
        keys: Sequence[SqlColumn],
        features: Sequence[tuple[SqlColumn, str]],
        weight: SqlColumn | None,
        parameters: Sequence[str | int],
    ) -> Generator[Batch, None, None]:
        try:
            yield from read_batches(session, query, keys, features, weight, parameters)
        except (*self._connector.errors, pa.ArrowException) as error:
            raise self._source_error(error, "source: reading stopped") from None

    def published_label(self, segmentation: Segmentation, customer: Sequence[str]) -> int | None:
        if not self._exists(segmentation.target):
            return None
        columns = {column.name: column for column in self._columns(segmentation.target)}
        keys = [columns[name] for name in segmentation.key]
        rows = self._connector.read(
            "looking for the customer's label",
            f"SELECT label.segment_id FROM {beside(segmentation.target, '')} AS label "
            f"WHERE {same_customer('label', keys)};",
            list(customer),
        )
        return int(rows[0][0]) if rows else None

    def count(self, source: str) -> int:
        rows = self._connector.read(
            f"source {source}", f"SELECT COUNT_BIG(*) FROM {relation(source)};"
        )
        return int(rows[0][0])

    def create_table(self, name: str, rows: pa.Table, key: str, *, replace: bool = False) -> None:
        parts = parse_name(name)
        schema = parts[-2] if len(parts) > 1 else "dbo"
        loading = (*parts[:-1], parts[-1] + " (loading)")
        typed = ", ".join(
            f"{bracket(field.name)} {create_type(field.type)}"
            f"{' NOT NULL' if field.name == key else ' NULL'}"
            for field in rows.schema
        )
        with self._session(f"making {name}") as session:
            create_schema = text(f"CREATE SCHEMA {bracket(schema)}")
            session.rows(f"IF SCHEMA_ID({text(schema)}) IS NULL EXECUTE ({create_schema})")
            session.rows(f"DROP TABLE IF EXISTS {bracket_name(loading)}")
            session.rows(
                f"CREATE TABLE {bracket_name(loading)} ({typed}, PRIMARY KEY ({bracket(key)}))"
            )
            columns = describe(session, bracket_name(loading))
            write_rows(session, bracket_name(loading), columns, rows)
            # A bulk copy is not part of a transaction; a table that is there under its name is
            # whole all the same.
            if replace:
                session.rows(f"DROP TABLE IF EXISTS {bracket_name(parts)}")
            session.rows(
                f"EXECUTE sys.sp_rename {text(bracket_name(loading))}, {text(parts[-1])}, N'OBJECT'"
            )

    def labelled_sample(
        self, segmentation: Segmentation, columns: Sequence[str], at_most: int
    ) -> pa.Table:
        described = {column.name: column for column in self._columns(segmentation.source)}
        types = segmentation.feature_types
        read_as = [types.get(column, "number") for column in columns]
        values = ", ".join(
            described[column].as_feature(kind, "source.") for column, kind in zip(columns, read_as)
        )
        keys = ", ".join(f"source.{bracket(key)}" for key in segmentation.key)
        same = " AND ".join(
            f"label.{bracket(key)} = source.{bracket(key)}" for key in segmentation.key
        )
        rows = self._connector.read(
            "reading a sample",
            f"SELECT TOP ({int(at_most)}) {values}, label.segment_id "
            f"FROM {relation(segmentation.source)} "
            f"INNER JOIN {beside(segmentation.target, '')} AS label ON {same} "
            f"ORDER BY CAST(HASHBYTES('MD5', CONCAT(N'', {keys})) AS binary(16)), {keys};",
        )
        kinds = [feature_arrow(kind) for kind in read_as] + [pa.int32()]
        names = [*columns, "segment_id"]
        values_by_column = list(zip(*rows)) or [()] * len(names)
        return pa.table(
            [pa.array(given, kind) for given, kind in zip(values_by_column, kinds)], names=names
        )

    def movement(
        self, segmentation: Segmentation, from_run_id: int, to_run_id: int
    ) -> list[tuple[int | None, int | None, int]]:
        history = beside(segmentation.target, "_history")
        if not self._exists(segmentation.target, "_history"):
            raise DataError(f"{history}: the history is not there")
        # Not from the view segment_movement: that is made anew at each training run only.
        valid = (
            "h.valid_from <= {0}.published_at "
            "AND (h.valid_to IS NULL OR h.valid_to > {0}.published_at)"
        )
        keys = ", ".join(f"h.{bracket(key)}" for key in segmentation.key)
        rows = self._connector.read(
            "counting who moved",
            "SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) FROM (SELECT "
            f"MAX(CASE WHEN {valid.format('a')} THEN h.segment_id END) AS from_segment_id, "
            f"MAX(CASE WHEN {valid.format('b')} THEN h.segment_id END) AS to_segment_id "
            f"FROM {history} AS h CROSS JOIN sqlkmeans.run AS a CROSS JOIN sqlkmeans.run AS b "
            f"WHERE a.run_id = ? AND b.run_id = ? GROUP BY {keys}) AS c "
            "WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL "
            "GROUP BY c.from_segment_id, c.to_segment_id;",
            [from_run_id, to_run_id],
        )
        flows = [(row[0], row[1], int(row[2])) for row in rows]
        return sorted(flows, key=lambda flow: (flow[0] or 0, flow[1] or float("inf")))

    # Changes of a source

    def change_tracking_problems(self, source: str) -> list[str]:
        return tracking_problems(self._connector, source)

    def high_water(self, segmentation: Segmentation) -> str | None:
        query = self._changes(segmentation).high_water_query()
        value = self._connector.read("looking for changes", query)[0][0]
        return None if value is None else str(value)

    def changed_source(self, segmentation: Segmentation, since: str) -> str:
        return self._changes(segmentation).rows_since(since)

    def changes_unknown_since(self, segmentation: Segmentation, since: str) -> str | None:
        return self._changes(segmentation).unknown_since(since)

    def _changes(self, segmentation: Segmentation) -> Changes:
        for column in self._columns(segmentation.source):
            if column.name == segmentation.changed_by:
                return ColumnChanges(segmentation, column)
        return TrackedChanges(segmentation, self._connector)

    # A run

    @contextmanager
    def lock(self, segmentation: str) -> Iterator[None]:
        before = self._holding
        with self._connector.keep() as session:
            try:
                with self._connector.telling(segmentation):
                    session.call("lock_segmentation", segmentation=segmentation)
                self._holding = session
                yield
            finally:
                self._holding = before
                self._unlock(session, segmentation)

    def _unlock(self, session: Session, segmentation: str) -> None:
        """Give the lock back at once. Where that fails, the end of the session does it."""
        try:
            session.call("unlock_segmentation", segmentation=segmentation)
        except self._connector.errors:
            session.spoiled = True

    def start_run(self, segmentation: Segmentation, run: Row) -> int:
        with self._locking_session(segmentation.name) as session:
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
                )[0]
            )

    def fail_run(self, run_id: int, error: str) -> None:
        self._staged = _Staged()
        # What made the run fail may be the server itself; the next run closes this one.
        with suppress(DatabaseError, LockedError):
            self._end_run(run_id, error, wait_seconds=10)

    def _end_run(self, run_id: int, error: str, wait_seconds: int) -> None:
        """Record a running run as failed, in the session that holds its lock.

        Where that session is lost, the server may still be publishing in it: another one waits
        for the lock, and only then looks how the run stands.
        """
        with self._connector.telling(f"run {run_id}"):
            if self._holding is not None and not self._holding.spoiled:
                try:
                    self._holding.call("fail_run", run_id=run_id, error=error)
                    return
                except self._connector.errors as problem:
                    if not read_problem(problem).lost:
                        raise
                    self._lose(self._holding)
            with self._session(f"run {run_id}") as session:
                session.call("fail_run", run_id=run_id, error=error, wait_seconds=wait_seconds)

    def _lose(self, session: Session) -> None:
        """A session whose connection is lost; what is left of it here must not hold the lock."""
        session.spoiled = True
        session.close()

    def stage(
        self,
        segmentation: Segmentation,
        run_id: int,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        empty: Empty = np.empty,
    ) -> None:
        self._staged = _Staged()
        if not self._exists(segmentation.target):
            self._write_labels(segmentation, run_id, all_to_stage(keys, clusters, distances))
        else:
            # What has to travel is known when clusters have their segment ids: in `publish`.
            self._staged.labels = (keys, clusters, distances)
            self._staged.empty = empty

    def _compare(self, segmentation: Segmentation) -> LabelChanges | None:
        """The labels that wait beside the published ones, read once; None where none wait."""
        staged = self._staged
        if staged.labels is not None:
            changes = LabelChanges(*staged.labels, staged.empty)
            staged.labels = None
            columns = self._columns(segmentation.target)
            with self._reading_session("comparing with the published labels") as session:
                for batch in read_labels(session, segmentation, columns):
                    changes.add(*batch)
            changes.finish()
            staged.changes = changes
        return staged.changes

    def stage_unchanged(
        self, segmentation: Segmentation, run_id: int, segment_ids: Sequence[int]
    ) -> list[tuple[int, int, float]]:
        staging = _staging(run_id)
        if self._staged.labels is not None:
            labels = all_to_stage(*self._staged.labels)
            if labels.num_rows:
                self._write_labels(segmentation, run_id, labels)
        with self._session("staging who departed") as session:
            session.rows(stage_departed(segmentation, staging))
            rows = session.rows(f"SELECT COUNT_BIG(*) FROM {staging};")
            clusters = session.rows(clusters_query(segmentation, staging, segment_ids))
        self._staged = _Staged(told={"staged_rows": int(rows[0][0]), "changes_only": True})
        return [(int(row[0]), int(row[1]), float(row[2])) for row in clusters]

    def _write_labels(self, segmentation: Segmentation, run_id: int, labels: pa.Table) -> None:
        columns = self._columns(_staging(run_id))
        with self._session("staging labels") as session:
            with self._telling_of_repeats(segmentation):
                write_rows(session, _staging(run_id), columns, labels)

    @contextmanager
    def _telling_of_repeats(self, segmentation: Segmentation) -> Iterator[None]:
        try:
            yield
        except self._connector.errors as error:
            if read_problem(error).repeated_key:
                raise DataError(
                    f"key {', '.join(segmentation.key)}: two rows of the source have the same "
                    "one as its collation compares; nothing was published"
                ) from None
            raise

    @contextmanager
    def open_workspace(self, segmentation: Segmentation) -> Iterator[Workspace]:
        columns = {column.name: column for column in self._columns(segmentation.source)}
        with self._session("training in the database") as session:
            dialect = open_dialect(session, self._connector.errors)
            yield SQLServerWorkspace(session, relation(segmentation.source), columns, dialect)

    def stage_query(
        self, segmentation: Segmentation, run_id: int, workspace: Workspace, query: str, rows: int
    ) -> None:
        self._staged = _Staged()
        names = ", ".join([*(bracket(key) for key in segmentation.key), "cluster", "distance"])
        with self._telling_of_repeats(segmentation):
            workspace.execute(f"INSERT INTO {_staging(run_id)} WITH (TABLOCK) ({names})\n{query};")
        arrived = workspace.rows(f"SELECT COUNT_BIG(*) FROM {_staging(run_id)};")[0][0]
        if arrived != rows:
            raise DatabaseError(
                f"{rows:,} rows have a label and {arrived:,} arrived in {_staging(run_id)}; "
                "nothing was published"
            )

    def overlap(self, segmentation: Segmentation, run_id: int) -> list[tuple[int, int, int]]:
        changes = self._compare(segmentation)
        if changes is not None:
            return changes.overlap()
        if not self._exists(segmentation.target):
            return []
        same = " AND ".join(
            f"label.{bracket(key)} = staged.{bracket(key)}" for key in segmentation.key
        )
        rows = self._connector.read(
            "comparing with the published labels",
            f"SELECT label.segment_id, staged.cluster, COUNT_BIG(*) "
            f"FROM {beside(segmentation.target, '')} AS label "
            f"INNER JOIN {_staging(run_id)} AS staged ON {same} "
            "GROUP BY label.segment_id, staged.cluster "
            f"HAVING COUNT_BIG(*) >= {segmentation.smallest_group} "
            "ORDER BY label.segment_id, staged.cluster;",
        )
        return [(int(row[0]), int(row[1]), int(row[2])) for row in rows]

    def publish(self, segmentation: Segmentation, publication: Publication) -> Counts:
        staged = self._stage_changes(segmentation, publication)
        values = publication.to_json()
        notes = self._connector.copier.notes()
        if notes:
            values["run"]["warnings"] = [*(values["run"].get("warnings") or ()), *notes]
        document = json.dumps({**staged, **values}, allow_nan=False)
        run_id = publication.run_id
        with self._locking_session(segmentation.name) as session:
            try:
                # All or nothing, so the victim of a deadlock may simply do it again.
                row = self._connector.repeating(
                    lambda: session.call("publish_run", run_id=run_id, publication=document)
                )
            except self._connector.errors as error:
                if not read_problem(error).lost:
                    raise
                self._lose(session)
                return self._published(run_id, error)
        return Counts(*(int(value) for value in row[:4]))

    def finish_choice(
        self, segmentation: Segmentation, run_id: int, run: Row, k_score: list[Row]
    ) -> None:
        document = {
            "run": plain(run),
            "tables": {"k_score": plain(k_score)},
        }
        with self._locking_session(segmentation.name) as session:
            session.call(
                "finish_choice", run_id=run_id, publication=json.dumps(document, allow_nan=False)
            )

    def _stage_changes(self, segmentation: Segmentation, publication: Publication) -> Row:
        """Stage what changed, where that was left for now; returns what to publish it with."""
        changes, told = self._compare(segmentation), self._staged.told
        self._staged = _Staged()
        if changes is None:
            return told
        labels, changes_only = changes.to_stage(
            publication.segment_ids, publication.distance_tolerance
        )
        self._write_labels(segmentation, publication.run_id, labels)
        return {"staged_rows": labels.num_rows, "changes_only": changes_only}

    def _published(self, run_id: int, error: BaseException) -> Counts:
        """The connection was lost while publishing: ask the server how that ended.

        Raises
        ------
        DatabaseError
            If it did not publish, or does not say.
        """
        told = str(statement_error(error, "publishing"))
        try:
            self._end_run(run_id, told, wait_seconds=60)
        except SqlKMeansError as unknown:
            raise DatabaseError(
                f"{told}; whether run {run_id} is published, the server did not say ({unknown}): "
                "`sqlkmeans runs` asks it again"
            ) from None
        row = self.catalog.run(run_id)
        if row is None or row["status"] != "published":
            raise DatabaseError(f"{told}; nothing was published")
        return Counts(row["arrived"], row["moved"], row["departed"], row["written"])

    def rollback(self, segmentation: Segmentation, run: Row, restored_run: Row) -> Counts:
        with self._locking_session(segmentation.name) as session:
            row = self._connector.repeating(
                lambda: session.call(
                    "rollback_segmentation",
                    segmentation=segmentation.name,
                    run_id=restored_run["run_id"],
                    client_version=__version__,
                    library_versions=json.dumps(run.get("library_versions") or {}),
                    client=run.get("client"),
                )
            )
        return Counts(*(int(value) for value in row[2:6]))

    def rename_segment(
        self, segmentation: str, segment_id: int, name: str, description: str | None
    ) -> None:
        with self._locking_session(segmentation) as session:
            session.call(
                "rename_segment",
                segmentation=segmentation,
                segment_id=segment_id,
                name=name,
                description=description,
            )


class _SQLServerCatalog(Catalog):
    """Reads that are tried again, and whose errors are sentences."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def select(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connector.read("reading schema sqlkmeans", f"{query};", parameters)


def _staging(run_id: int) -> str:
    return f"[sqlkmeans].[staging_{int(run_id)}]"
