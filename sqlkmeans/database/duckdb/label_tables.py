"""The published tables on DuckDB: target, history and the view with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from sqlkmeans.database.duckdb.memory import Limits, indexing, insert_in_any_order
from sqlkmeans.database.label_sql import OutlierDistances, beyond, clusters_of, segments_of
from sqlkmeans.database.labels import Counts, StagedCluster
from sqlkmeans.errors import DataError
from sqlkmeans.sqltext import Name, quote, quote_name

# No key column has a name like this one.
PREVIOUS, FLAGGED = '"sqlkmeans previous"', '"sqlkmeans flagged"'
#: How they are stored. To look for what makes distances a little smaller takes a third of the time
#: that labels take to be written; to look for what suits segment ids, a sixth.
DISTANCE = "distance double NOT NULL USING COMPRESSION uncompressed"
SEGMENT_ID = "segment_id integer NOT NULL USING COMPRESSION bitpacking"
IS_OUTLIER = "is_outlier boolean NOT NULL"
#: The temporary table of labels that stay though their rows were not read.
UNCHANGED = "sqlkmeans_unchanged"


@dataclass(frozen=True)
class KeyColumn:
    """A key column with the source's own type."""

    name: str
    type: str


def staging_name(run_id: int) -> str:
    """The temporary view of a run's labels until they are published."""
    return f"sqlkmeans_staging_{int(run_id)}"


class LabelTables:
    """Target, history and view of one segmentation.

    All runs in the caller's transaction. A first load can be written aside before it, in others:
    only the names are given in the one that publishes.

    Attributes
    ----------
    target, history, named : str
        Quoted names.
    """

    def __init__(
        self,
        native: duckdb.DuckDBPyConnection,
        limits: Limits,
        segmentation: str,
        target: Name,
        keys: Sequence[KeyColumn],
    ) -> None:
        self._native, self._limits = native, limits
        self._segmentation = segmentation
        self._schema = target[:-1]
        self._keys = keys
        self.target = quote_name(target)
        self.history = quote_name((*target[:-1], target[-1] + "_history"))
        self.named = quote_name((*target[:-1], target[-1] + "_named"))
        self._aside, self._history_aside = (
            quote_name((*target[:-1], f"sqlkmeans loading {target[-1]}{suffix}"))
            for suffix in ("", "_history")
        )
        self._own_names = [quote(target[-1] + suffix) for suffix in ("", "_history")]
        self._key_list = ", ".join(quote(key.name) for key in keys)

    def _same_key(self, left: str, right: str) -> str:
        return " AND ".join(
            f"{left}.{quote(key.name)} = {right}.{quote(key.name)}" for key in self._keys
        )

    def _prefixed(self, alias: str) -> str:
        return ", ".join(f"{alias}.{quote(key.name)}" for key in self._keys)

    @property
    def published(self) -> bool:
        """Whether the target is there."""
        return self._exists(self.target)

    def count(self) -> int:
        """Rows of the target."""
        row = self._native.execute(f"SELECT COUNT(*) FROM {self.target}").fetchone()
        return int(row[0]) if row else 0

    def show_staged(self, run_id: int, rows: object) -> None:
        """Let this connection see labels that are staged; each has names of its own for them.

        ``rows`` is an Arrow table, or a stream of one that is read once.
        """
        self._native.register("sqlkmeans_labels", rows)
        self._native.execute(
            f"CREATE OR REPLACE TEMP VIEW {staging_name(run_id)} AS {self._shown()}"
        )

    def _shown(self) -> str:
        typed = ", ".join(
            f"CAST({quote(k.name)} AS {k.type}) AS {quote(k.name)}" for k in self._keys
        )
        return f"SELECT {typed}, cluster, distance FROM sqlkmeans_labels"

    def write_aside(
        self, run_id: int, segment_ids: Sequence[int], limits: OutlierDistances, now: datetime
    ) -> int:
        """Write the staged labels of a first load, and their history, to tables aside.

        :meth:`apply_staged` gives them their names. Returns the rows written.
        """
        self.drop_aside()  # a run that was killed may have left them
        rows = self._fill(self._aside, self._staged(run_id, segment_ids, limits), run_id, now)
        if not self._exists(self.history):
            self._begin_history(self._history_aside, self._aside)
        return rows

    def index_aside(self, rows: int) -> None:
        """Make the primary key of what was written aside, in little memory where that will do.

        One that is made in the transaction which wrote the rows is built by one thread when that
        commits; one of rows that are committed takes two thirds of the time.
        """
        if not self._limits.hold_index(rows):
            return
        self._limits.release()  # the blocks that were written last
        try:
            with self._limits.only(indexing(rows)):
                self._add_primary_key(self._aside)
        except duckdb.OutOfMemoryException:
            self._add_primary_key(self._aside)

    def drop_aside(self) -> None:
        """Drop what was written aside and has no name of its own yet."""
        for table in (self._aside, self._history_aside):
            self._native.execute(f"DROP TABLE IF EXISTS {table}")

    def _fill(self, table: str, labels: str, run_id: int, now: datetime) -> int:
        """Make a table of labels that has no primary key yet."""
        if self._schema:
            self._native.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(self._schema)}")
        self._native.execute(
            f"CREATE TABLE {table} ({self._typed_keys()}, {SEGMENT_ID}, "
            f"{DISTANCE}, {IS_OUTLIER}, run_id bigint NOT NULL, assigned_at timestamp NOT NULL)"
        )
        return insert_in_any_order(
            self._native,
            f"INSERT INTO {table} SELECT {self._key_list}, segment_id, distance, is_outlier, "
            f"CAST({int(run_id)} AS bigint), TIMESTAMP '{now.isoformat(' ')}' FROM {labels} AS new",
        )

    def _add_primary_key(self, table: str) -> None:
        # In one go: twice as fast as row by row during the insert.
        self._native.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({self._key_list})")

    def _begin_history(self, history: str, target: str) -> None:
        """Make a history that starts with what is there."""
        self._native.execute(
            f"CREATE TABLE {history} ({self._typed_keys()}, {SEGMENT_ID}, "
            f"{DISTANCE}, {IS_OUTLIER}, valid_from timestamp NOT NULL, valid_to timestamp, "
            "run_id bigint NOT NULL)"
        )
        insert_in_any_order(
            self._native,
            f"INSERT INTO {history} SELECT {self._key_list}, segment_id, distance, is_outlier, "
            f"assigned_at, NULL, run_id FROM {target}",
        )

    def _create_beside(self) -> None:
        """Make history and view where they are missing."""
        if not self._exists(self.history):
            self._begin_history(self.history, self.target)
        name = self._segmentation.replace("'", "''")
        self._native.execute(
            f"CREATE OR REPLACE VIEW {self.named} AS SELECT label.*, segment.name AS segment_name "
            f"FROM {self.target} AS label "
            f"JOIN sqlkmeans.segmentation AS segmentation ON segmentation.name = '{name}' "
            "LEFT JOIN sqlkmeans.segment AS segment ON segment.run_id = segmentation.active_run_id "
            "AND segment.segment_id = label.segment_id"
        )

    def _typed_keys(self) -> str:
        return ", ".join(f"{quote(key.name)} {key.type} NOT NULL" for key in self._keys)

    def _exists(self, name: str) -> bool:
        try:
            self._native.execute(f"SELECT 1 FROM {name} LIMIT 0")
        except duckdb.CatalogException:
            return False
        return True

    def overlap(self, run_id: int, at_least: int = 1) -> list[tuple[int, int, int]]:
        """Customers that each published segment shares with each staged cluster."""
        if not self._exists(self.target):
            return []
        rows = self._native.execute(
            f"SELECT label.segment_id, staged.cluster, COUNT(*) FROM {self.target} AS label "
            f"JOIN {staging_name(run_id)} AS staged ON {self._same_key('label', 'staged')} "
            f"GROUP BY ALL HAVING COUNT(*) >= {int(at_least)} ORDER BY ALL"
        ).fetchall()
        return [(int(segment_id), int(cluster), int(n)) for segment_id, cluster, n in rows]

    def movement(
        self, from_run_id: int, to_run_id: int
    ) -> list[tuple[int | None, int | None, int]]:
        """Customers by their segments right after two runs."""
        if not self._exists(self.history):
            raise DataError(f"{self.history}: the history is not there")
        valid = "valid_from <= {0} AND (valid_to IS NULL OR valid_to > {0})"
        moment = "(SELECT published_at FROM sqlkmeans.run WHERE run_id = $run_{0})"
        before, after = (valid.format(moment.format(which)) for which in ("from", "to"))
        flows: list[tuple[int | None, int | None, int]] = self._native.execute(
            "SELECT from_segment_id, to_segment_id, COUNT(*) FROM ("
            f"SELECT MAX(CASE WHEN {before} THEN segment_id END) AS from_segment_id, "
            f"MAX(CASE WHEN {after} THEN segment_id END) AS to_segment_id "
            f"FROM {self.history} GROUP BY {self._key_list}) AS customer "
            "WHERE from_segment_id IS NOT NULL OR to_segment_id IS NOT NULL GROUP BY ALL "
            "ORDER BY from_segment_id NULLS FIRST, to_segment_id NULLS LAST",
            {"run_from": from_run_id, "run_to": to_run_id},
        ).fetchall()
        return flows

    def stage_unchanged(
        self,
        run_id: int,
        stays: str,
        listed: str,
        segment_ids: Sequence[int],
        limits: OutlierDistances,
    ) -> list[StagedCluster]:
        """Stage the published labels of customers who stay and have no staged one.

        They stay who ``EXISTS`` in a relation, or who do ``NOT EXISTS`` in one of those who
        departed. Returns the clusters of all that is then staged.
        """
        staged, cases = staging_name(run_id), clusters_of("label.segment_id", segment_ids)
        self._native.execute(
            f"CREATE OR REPLACE TEMP TABLE {UNCHANGED} AS "
            f"SELECT {self._prefixed('label')}, {cases} AS cluster, label.distance "
            f"FROM {self.target} AS label "
            f"WHERE {stays} (SELECT 1 FROM (SELECT * FROM {listed}) AS listed "
            f"WHERE {self._same_key('label', 'listed')}) "
            f"AND NOT EXISTS (SELECT 1 FROM {staged} WHERE {self._same_key('label', staged)})"
        )
        self._native.execute(
            f"CREATE OR REPLACE TEMP VIEW {staged} AS {self._shown()} "
            f"UNION ALL SELECT * FROM {UNCHANGED}"
        )
        rows = self._native.execute(
            "SELECT cluster, COUNT(*), SUM(distance * distance), "
            f"COUNT(*) FILTER ({beyond('cluster', segment_ids, limits)}) "
            f"FROM {staged} GROUP BY ALL"
        ).fetchall()
        return [StagedCluster(*row) for row in rows]

    def apply_staged(
        self, run_id: int, segment_ids: Sequence[int], limits: OutlierDistances, now: datetime,
        tolerance: float, aside: int | None,
    ) -> Counts:  # fmt: skip
        """Bring the target to the staged labels, of which ``aside`` were written aside."""
        labels = self._staged(run_id, segment_ids, limits)
        return self._apply(labels, run_id, now, tolerance, aside, limits)

    def _staged(self, run_id: int, segment_ids: Sequence[int], limits: OutlierDistances) -> str:
        return (
            f"(SELECT {self._key_list}, "
            f"CAST({segments_of('cluster', segment_ids)} AS integer) AS segment_id, "
            f"distance, {beyond('cluster', segment_ids, limits)} AS is_outlier "
            f"FROM {staging_name(run_id)})"
        )

    def expire_history(self, before: datetime) -> None:
        """Delete the labels that ended before a moment."""
        self._write(f"DELETE FROM {self.history} WHERE valid_to < $before", before=before)

    def apply_as_of(self, run_id: int, moment: datetime, expected: int, now: datetime) -> Counts:
        """Bring the target to the labels that were valid at a moment, if all of them are there."""
        if not self._exists(self.history):
            raise DataError(f"{self.history}: the history is not there, so no run can come back")
        self._native.execute(
            f"CREATE TEMP TABLE sqlkmeans_as_of AS SELECT {self._key_list}, segment_id, distance, "
            f"is_outlier FROM {self.history} WHERE valid_from <= $moment "
            "AND (valid_to IS NULL OR valid_to > $moment)",
            {"moment": moment},
        )
        held = self._native.execute("SELECT COUNT(*) FROM sqlkmeans_as_of").fetchone()
        if held is None or held[0] != expected:
            raise DataError(
                f"it published {expected:,} labels and the history still holds "
                f"{held[0] if held else 0:,} of them, so the run cannot come back"
            )
        counts = self._apply("sqlkmeans_as_of", run_id, now, 0.0)
        self._native.execute("DROP TABLE sqlkmeans_as_of")
        return counts

    def _apply(
        self, labels: str, run_id: int, now: datetime, tolerance: float, aside: int | None = None,
        limits: OutlierDistances | None = None,
    ) -> Counts:  # fmt: skip
        """One transaction's worth of changes: only rows that differ are written.

        A distance that hardly changed is written where it would lie on the wrong side of its
        limit: that tells later who is an outlier.
        """
        if not self.published:
            return self._first(labels, run_id, now, aside)
        self._create_beside()
        same = self._same_key("old", "new")
        misplaced = ""
        if limits:
            far = beyond("new.segment_id", None, limits, "old.distance")
            misplaced = f" OR new.is_outlier <> {far}"
        self._native.execute(
            "CREATE TEMP TABLE sqlkmeans_change AS SELECT "
            + ", ".join(
                f"COALESCE(new.{quote(key.name)}, old.{quote(key.name)}) AS {quote(key.name)}"
                for key in self._keys
            )
            + f", old.segment_id AS {PREVIOUS}, new.segment_id, new.distance, new.is_outlier, "
            f"old.is_outlier IS DISTINCT FROM new.is_outlier AS {FLAGGED} "
            f"FROM {self.target} AS old FULL JOIN {labels} AS new ON {same} "
            "WHERE old.segment_id IS DISTINCT FROM new.segment_id "
            "OR ABS(old.distance - new.distance) > $tolerance "
            f"OR old.is_outlier <> new.is_outlier{misplaced}",
            {"tolerance": tolerance},
        )
        counts = self._apply_changes(run_id, now)
        self._native.execute("DROP TABLE sqlkmeans_change")
        return counts

    def _first(self, labels: str, run_id: int, now: datetime, aside: int | None) -> Counts:
        outlived = self._exists(self.history)
        if aside is None:
            arrived = self._fill(self.target, labels, run_id, now)
            if self._limits.hold_index(arrived):
                self._add_primary_key(self.target)
        else:
            arrived = aside
            for table, own_name in zip((self._aside, self._history_aside), self._own_names):
                if self._exists(table):
                    self._native.execute(f"ALTER TABLE {table} RENAME TO {own_name}")
        self._create_beside()
        if outlived:
            # A history that outlived its target goes on from here.
            self._write(
                f"UPDATE {self.history} SET valid_to = $now WHERE valid_to IS NULL", now=now
            )
            self._open_history(f"{self.target} AS new", run_id, now)
        return Counts(arrived, 0, 0, arrived)

    def _apply_changes(self, run_id: int, now: datetime) -> Counts:
        target, match = self.target, self._same_key("label", "change")
        relabelled = f"(change.segment_id IS DISTINCT FROM change.{PREVIOUS} OR change.{FLAGGED})"
        self._write(
            f"UPDATE {self.history} AS label SET valid_to = $now FROM sqlkmeans_change AS change "
            f"WHERE {match} AND label.valid_to IS NULL AND {relabelled}",
            now=now,
        )
        self._open_history(
            "(SELECT * FROM sqlkmeans_change AS change WHERE segment_id IS NOT NULL "
            f"AND {relabelled}) AS new",
            run_id, now,
        )  # fmt: skip
        relabel = (
            f"UPDATE {target} AS label SET segment_id = change.segment_id, "
            "distance = change.distance, is_outlier = change.is_outlier, run_id = $run, "
            f"assigned_at = $now FROM sqlkmeans_change AS change WHERE {match} "
        )
        moved = self._write(
            f"{relabel} AND change.segment_id <> change.{PREVIOUS}", run=run_id, now=now
        )
        flagged = self._write(
            f"{relabel} AND change.segment_id = change.{PREVIOUS} AND change.{FLAGGED}",
            run=run_id, now=now,
        )  # fmt: skip
        refreshed = flagged + self._write(
            f"UPDATE {target} AS label SET distance = change.distance "
            f"FROM sqlkmeans_change AS change WHERE {match} "
            f"AND change.segment_id = change.{PREVIOUS} AND NOT change.{FLAGGED}"
        )
        departed = self._write(
            f"DELETE FROM {target} AS label USING sqlkmeans_change AS change "
            f"WHERE {match} AND change.segment_id IS NULL"
        )
        arrived = self._write(
            f"INSERT INTO {target} SELECT {self._key_list}, segment_id, distance, is_outlier, "
            "$run, $now "
            f"FROM sqlkmeans_change WHERE {PREVIOUS} IS NULL",
            run=run_id, now=now,
        )  # fmt: skip
        return Counts(arrived, moved, departed, arrived + moved + departed + refreshed)

    def _open_history(self, labels: str, run_id: int, now: datetime) -> None:
        self._write(
            f"INSERT INTO {self.history} SELECT {self._key_list}, segment_id, distance, "
            f"is_outlier, $now, NULL, $run FROM {labels}",
            run=run_id, now=now,
        )  # fmt: skip

    def _write(self, statement: str, **values: object) -> int:
        row = self._native.execute(statement, values or None).fetchone()
        return int(row[0]) if row else 0
