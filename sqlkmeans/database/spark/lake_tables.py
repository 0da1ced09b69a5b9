"""The tables of one segmentation's labels in Spark's catalog, and what is asked of them.

A run's labels are a table of their own, ``<target>__run_<id>``, which nobody sees before it is
whole. The target is a view of the newest; so are those with names and with the history, which
stands in ``<target>__changes`` as one row for each customer who came, moved or left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlkmeans.database.label_sql import OutlierDistances, beyond
from sqlkmeans.database.spark.dialect import SparkDialect, backquote
from sqlkmeans.sqltext import Name

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: The property of a table or view that says which run made it.
MARK = "sqlkmeans.run"
# No key column has a name like these.
PREVIOUS, RELABELLED, CHANGED = "sqlkmeans_previous", "sqlkmeans_relabelled", "sqlkmeans_changed"
_LABEL = "segment_id, distance, is_outlier, run_id, assigned_at"
_TYPED = "segment_id int, distance double, is_outlier boolean"


def quoted(name: Name) -> str:
    """A name of several parts as Spark has it."""
    return ".".join(map(backquote, name))


@dataclass(frozen=True)
class LakeTables:
    """Names, statements and queries; what they raise is Spark's.

    Attributes
    ----------
    session : pyspark.sql.SparkSession
    target : tuple of str
        Catalog, schema and table.
    keys : sequence of str
    format : str
        Of the tables.
    """

    session: SparkSession
    target: Name
    keys: Sequence[str]
    format: str

    # Names

    def beside(self, suffix: str) -> str:
        """The quoted name of what stands beside the target."""
        return quoted((*self.target[:-1], self.target[-1] + suffix))

    @property
    def changes(self) -> str:
        """The table of who came, moved and left."""
        return self.beside("__changes")

    def labels_of(self, run_id: int) -> str:
        """The table of a run's labels."""
        return self.beside(f"__run_{int(run_id)}")

    @property
    def fixed(self) -> list[str]:
        """The names that every run has."""
        suffixes = ("", "_named", "_history", "__changes", "__probe")
        return [self.beside(suffix) for suffix in suffixes]

    def runs_there(self) -> list[int]:
        """The runs that have a table, whoever made it."""
        listed = self.session.sql(
            f"SHOW TABLES IN {quoted(self.target[:-1])} "
            f"LIKE '{re.sub(r'[^a-z0-9_]', '*', self.target[-1].lower())}__run_*'"
        ).collect()
        found = (
            re.fullmatch(re.escape(self.target[-1]) + r"__run_(\d+)", row[1], re.IGNORECASE)
            for row in listed
            if not row[2]
        )
        return sorted(int(match[1]) for match in found if match)

    def mark_of(self, name: str) -> str | None:
        """Which run made a table or view; empty if none did, None where there is none."""
        if not self.session.catalog.tableExists(name):
            return None
        rows = self.session.sql(f"SHOW TBLPROPERTIES {name}").collect()
        return str({row[0]: row[1] for row in rows}.get(MARK, ""))

    # Statements

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows."""
        self.session.sql(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The few rows of a query."""
        return [tuple(row) for row in self.session.sql(query).collect()]

    def try_view(self, mark: str) -> None:
        """Make a view and drop it: not every catalog has views, nor may everybody make one."""
        name = self.beside("__probe")
        self.execute(f"CREATE OR REPLACE VIEW {name} {_marked(mark)} AS SELECT 1 AS one")
        self.execute(f"DROP VIEW {name}")

    def create_changes(self, types: Sequence[str], mark: str) -> None:
        """Make the table of changes where it is missing."""
        self.execute(
            f"CREATE TABLE IF NOT EXISTS {self.changes} ({self._typed(types)}, {_TYPED}, "
            f"assigned_at timestamp_ltz, run_id bigint) USING {self.format} "
            f"PARTITIONED BY (run_id) {_marked(mark)}"
        )

    def create_labels(self, run_id: int, types: Sequence[str], mark: str) -> None:
        """Make the table of a run's labels, empty."""
        self.execute(
            f"CREATE TABLE {self.labels_of(run_id)} ({self._typed(types)}, {_TYPED}, "
            f"run_id bigint, assigned_at timestamp_ltz) USING {self.format} {_marked(mark)}"
        )

    def _typed(self, types: Sequence[str]) -> str:
        return ", ".join(f"{backquote(key)} {kind}" for key, kind in zip(self.keys, types))

    def drop_changes(self, run_id: int) -> None:
        """Take a run's rows from the table of changes."""
        # The definition may have another format since the table was made. What is told of the
        # table stands behind its columns, one of which may have such a name.
        described = {row[0]: row[1] for row in self.rows(f"DESCRIBE EXTENDED {self.changes}")}
        if described.get("Provider", "").lower() == "parquet":
            self.execute(f"ALTER TABLE {self.changes} DROP PARTITION (run_id = {int(run_id)})")
        else:
            self.execute(f"DELETE FROM {self.changes} WHERE run_id = {int(run_id)}")

    def runs_of_changes(self) -> list[int]:
        """The runs that have rows in the table of changes."""
        return [run_id for (run_id,) in self.rows(f"SELECT DISTINCT run_id FROM {self.changes}")]

    def fill(self, run_id: int, joined: str, now: datetime) -> None:
        """Write a run's labels, whose table is there, and what changed by them."""
        self.execute(
            f"INSERT INTO {self.labels_of(run_id)} SELECT {self.key_list}, {_LABEL} "
            f"FROM {joined} WHERE segment_id IS NOT NULL"
        )
        self.execute(
            f"INSERT INTO {self.changes} PARTITION (run_id = {int(run_id)}) "
            f"SELECT /*+ REBALANCE */ {self.key_list}, segment_id, distance, is_outlier, "
            f"{moment(now)} FROM {joined} WHERE {RELABELLED}"
        )

    def show(self, published: str, newest: int, names: Mapping[int, str], mark: str) -> None:
        """Let target and the views beside it show what a run published, each at once."""
        literal = SparkDialect().literal
        cases = " ".join(f"WHEN {int(i)} THEN {literal(name)}" for i, name in names.items())
        name = f"CASE segment_id {cases} END" if names else "CAST(NULL AS string)"
        for suffix, query in (
            ("", f"SELECT {self.key_list}, {_LABEL} FROM {published}"),
            (
                "_named",
                f"SELECT {self.key_list}, {_LABEL}, {name} AS segment_name FROM {published}",
            ),
            (
                "_history",
                f"SELECT {self.key_list}, segment_id, distance, is_outlier, valid_from, valid_to, "
                "run_id FROM (SELECT *, assigned_at AS valid_from, LEAD(assigned_at) OVER "
                f"(PARTITION BY {self.key_list} ORDER BY run_id) AS valid_to "
                f"FROM {self.changes} WHERE run_id <= {int(newest)}) AS label "
                "WHERE segment_id IS NOT NULL",
            ),
        ):
            self.execute(f"CREATE OR REPLACE VIEW {self.beside(suffix)} {_marked(mark)} AS {query}")

    # Queries

    @property
    def key_list(self) -> str:
        """The key columns."""
        return ", ".join(map(backquote, self.keys))

    def same_key(self, left: str, right: str) -> str:
        """Whether two rows are the same customer's."""
        return " AND ".join(
            f"{left}.{backquote(key)} = {right}.{backquote(key)}" for key in self.keys
        )

    def as_of(self, run_id: int) -> str:
        """The labels after a run, from the table of changes."""
        return (
            f"(SELECT {self.key_list}, {_LABEL} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY "
            f"{self.key_list} ORDER BY run_id DESC) AS sqlkmeans_place FROM {self.changes} "
            f"WHERE run_id <= {int(run_id)}) AS label "
            "WHERE sqlkmeans_place = 1 AND segment_id IS NOT NULL)"
        )

    def joined(
        self, published: str, labels: str, run_id: int, now: datetime, tolerance: float,
        limits: OutlierDistances,
    ) -> str:  # fmt: skip
        """New labels beside the published ones: a row a customer of either.

        A distance that hardly changed stays, unless it would lie on the wrong side of its limit:
        that tells later who is an outlier.
        """
        far = beyond("new.segment_id", None, limits, "old.distance")
        keys = ", ".join(
            f"COALESCE(new.{key}, old.{key}) AS {key}" for key in map(backquote, self.keys)
        )
        relabelled = "NOT (old.segment_id <=> new.segment_id AND old.is_outlier <=> new.is_outlier)"
        misplaced = f" OR new.is_outlier <> {far}" if limits else ""
        changed = (
            f"({relabelled} OR ABS(old.distance - new.distance) > DOUBLE('{tolerance!r}')"
            f"{misplaced})"
        )
        return (
            f"SELECT {keys}, old.segment_id AS {PREVIOUS}, new.segment_id, "
            f"{relabelled} AS {RELABELLED}, {changed} AS {CHANGED}, "
            f"IF({changed}, new.distance, old.distance) AS distance, new.is_outlier, "
            f"IF({relabelled}, {int(run_id)}L, old.run_id) AS run_id, "
            f"IF({relabelled}, {moment(now)}, old.assigned_at) AS assigned_at "
            f"FROM {published} AS old FULL JOIN {labels} AS new ON {self.same_key('old', 'new')}"
        )


def moment(when: datetime) -> str:
    """A moment in UTC, which is the session's zone."""
    return f"TIMESTAMP_LTZ '{when.isoformat(' ', 'microseconds')}'"


def _marked(mark: str) -> str:
    return f"TBLPROPERTIES ('{MARK}' = '{mark}')"
