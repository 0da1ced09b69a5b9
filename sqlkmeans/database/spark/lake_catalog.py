"""What of a segmentation's labels is in Spark's catalog, and what of it the database knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlkmeans.database.base import Column, Database
from sqlkmeans.database.spark import types as spark_types
from sqlkmeans.database.spark.lake_tables import LakeTables, quoted
from sqlkmeans.database.spark.session import first_line, told, told_nothing
from sqlkmeans.database.spark.sources import SparkSources
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.publication import Row
from sqlkmeans.sqltext import parse_name

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Tables of labels that stay: a reader may still be in the one before.
KEPT = 2
#: What ``spark_catalog`` is where it has what the session's own catalog has.
OWN_CATALOGS = ("builtin", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
#: Each takes the values of those before it.
_WHOLE = ("tinyint", "smallint", "int", "bigint")


class LakeCatalog:
    """Tables and views, of which those count that the database's runs made and published.

    Parameters
    ----------
    database : Database
        Has the runs.
    session : pyspark.sql.SparkSession or None
        Without one, every question is refused.
    """

    def __init__(self, database: Database, session: SparkSession | None) -> None:
        self._database = database
        self._catalog = database.catalog
        self._given = session

    @property
    def _session(self) -> SparkSession:
        if self._given is None:
            raise DataError(
                "the labels are in Spark's catalog, and no session is given: allowed: spark=…, "
                "or on the command line the definition file instead of the name"
            )
        return self._given

    def _tables(self, segmentation: Segmentation) -> LakeTables:
        return LakeTables(
            self._session, parse_name(segmentation.target), segmentation.key,
            segmentation.spark.format,
        )  # fmt: skip

    def _sources(self, segmentation: Segmentation) -> SparkSources:
        return SparkSources(self._database, self._session, segmentation.spark.keep)

    def _published_runs(self, segmentation: Segmentation) -> list[Row]:
        """Published runs that wrote this target, the newest first."""
        target = _folded(segmentation.target)

        def same(row: Row) -> bool:
            then = json.loads(row["definition"])
            return then["engine"] == "spark" and _folded(then["target"]) == target

        return [row for row in self._catalog.published_runs(segmentation.name) if same(row)]

    def _published_ids(self, segmentation: Segmentation) -> set[int]:
        """Every published run, of which nothing is taken away, whatever it wrote."""
        return {row["run_id"] for row in self._catalog.published_runs(segmentation.name)}

    def _published(self, segmentation: Segmentation, tables: LakeTables) -> str:
        """What stands after FROM for the labels that are published."""
        runs = self._published_runs(segmentation)
        written = next((row["run_id"] for row in runs if row["written"]), None)
        if written is not None and tables.mark_of(tables.labels_of(written)) is not None:
            return tables.labels_of(written)
        # Nothing, before the first; or somebody dropped it, and the changes tell it too.
        return tables.as_of(runs[0]["run_id"] if runs else 0)

    def _mark(self, run_id: int) -> str:
        # Another database has runs of the same numbers.
        row = self._catalog.run(run_id)
        assert row is not None
        return f"{run_id} {row['started_at'].isoformat()}"

    def _is_ours(self, segmentation: Segmentation, mark: str) -> bool:
        run_id = mark.split(" ")[0]
        known = run_id.isdecimal() and self._database.schema_version()
        row = self._catalog.run(int(run_id)) if known else None
        return (
            row is not None
            and row["segmentation"] == segmentation.name
            and mark == self._mark(row["run_id"])
        )

    def describe_table(self, name: str) -> list[Column] | None:
        from pyspark.errors import AnalysisException

        lake_name = quoted(parse_name(name))
        with told(f"target {name}", of_source=True):
            try:
                if not self._session.catalog.tableExists(lake_name):
                    return None
                schema = self._session.table(lake_name).schema
            except AnalysisException:
                return None  # `problems` says why, where that is one.
        return [spark_types.column(field.name, field.dataType.simpleString()) for field in schema]

    def problems(self, segmentation: Segmentation) -> list[str]:
        return self._target_problems(segmentation) or self._key_problems(segmentation)

    def _target_problems(self, segmentation: Segmentation) -> list[str]:
        target, tables = segmentation.target, self._tables(segmentation)
        from pyspark.errors import PySparkException

        if self._database.stays and self._ends_with_the_process(tables):
            return [
                f"target {target}: Spark's own catalog is in memory here and ends with the "
                "process; allowed: a session with enableHiveSupport(), or a catalog that stays"
            ]
        try:
            runs = tables.runs_there()
        except PySparkException as error:
            return [f"target {target}: Spark cannot look into its schema: {first_line(str(error))}"]
        problems = []
        if not self._sources(segmentation).reads(segmentation.source):
            problems.append(
                f"target {target}: its three parts name a table of Spark's catalog, and "
                f"{self._database.safe_url} has the source; allowed: a source that Spark reads, or "
                "a target of one or two parts"
            )
        with told(f"target {target}"):
            for name in [*tables.fixed, *map(tables.labels_of, runs)]:
                mark = tables.mark_of(name)
                if mark is not None and not self._is_ours(segmentation, mark):
                    problems.append(self._not_ours(segmentation, name))
        return problems

    def _not_ours(self, segmentation: Segmentation, name: str) -> str:
        return (
            f"target {segmentation.target}: {name} exists, and no run of {segmentation.name} in "
            f"{self._database.safe_url} made it; name another target, or drop it"
        )

    def _ends_with_the_process(self, tables: LakeTables) -> bool:
        if tables.target[0].lower() != "spark_catalog":
            return False
        conf, kept, catalog = self._session.conf, "", ""
        # A platform may not tell; its catalogs stay.
        with told_nothing():
            kept = conf.get("spark.sql.catalogImplementation") or ""
            catalog = conf.get("spark.sql.catalog.spark_catalog", "builtin") or ""
        return kept == "in-memory" and catalog in OWN_CATALOGS

    def _key_problems(self, segmentation: Segmentation) -> list[str]:
        """Whether the changes, which stay, take the source's keys as they are."""
        tables = self._tables(segmentation)
        before = self._keys_of_changes(tables)
        # Where nothing was published, `prepare` makes the table anew.
        if before is None or not self._published_runs(segmentation):
            return []
        now = self._keys_of_source(segmentation)
        if _takes(before, now):
            return []
        return [
            f"target {segmentation.target}: {tables.changes} has the key {_listed(before)}, and "
            f"now it is {_listed(now)}; name another target, or drop its views and tables"
        ]

    def _keys_of_changes(self, tables: LakeTables) -> dict[str, str] | None:
        columns = self.describe_table(tables.changes)
        if columns is None:
            return None
        names = [column.name for column in columns]
        end = names.index("segment_id") if "segment_id" in names else len(names)
        return {column.name: column.type for column in columns[:end]}

    def _keys_of_source(self, segmentation: Segmentation) -> dict[str, str]:
        columns = self._sources(segmentation).describe(segmentation.source)
        types = {column.name: column.type for column in columns}
        return {key: types[key] for key in segmentation.key}

    def prepare(self, segmentation: Segmentation, run_id: int) -> None:
        tables = self._tables(segmentation)
        with told(f"target {segmentation.target}"):
            published = self._published_runs(segmentation)
            ids = self._published_ids(segmentation)
            if not published:
                # Later, labels would be published that no view shows.
                tables.try_view(self._mark(run_id))
                self._drop_other_keys(segmentation, tables, ids)
            tables.create_changes(self._key_types(segmentation, tables), self._mark(run_id))
            # Somebody may have made it since it was looked for.
            if not self._is_ours(segmentation, tables.mark_of(tables.changes) or ""):
                raise DataError(self._not_ours(segmentation, tables.changes))
            # Another process may have written since this session listed its files.
            tables.execute(f"REFRESH TABLE {tables.changes}")
            for changed_by in tables.runs_of_changes():
                if changed_by not in ids:
                    tables.drop_changes(changed_by)
            if published:
                self._show(segmentation)
            self._drop_tables(segmentation, tables, ids)

    def _drop_other_keys(
        self, segmentation: Segmentation, tables: LakeTables, published: set[int]
    ) -> None:
        """Drop changes by other keys, which a run left that was not published."""
        before = self._keys_of_changes(tables)
        if (
            before is not None
            and not _takes(before, self._keys_of_source(segmentation))
            and published.isdisjoint(tables.runs_of_changes())
            and self._is_ours(segmentation, tables.mark_of(tables.changes) or "")
        ):
            tables.execute(f"DROP TABLE {tables.changes}")

    def _key_types(self, segmentation: Segmentation, tables: LakeTables) -> list[str]:
        types = self._keys_of_changes(tables)
        if types is None:
            types = self._keys_of_source(segmentation)
        return [types[key] for key in segmentation.key]

    def _drop_tables(
        self, segmentation: Segmentation, tables: LakeTables, published: set[int]
    ) -> None:
        """Drop what killed runs left, and what was published long ago."""
        there = tables.runs_there()
        kept = [run_id for run_id in there if run_id in published][-KEPT:]
        for run_id in there:
            name = tables.labels_of(run_id)
            if run_id not in kept and self._is_ours(segmentation, tables.mark_of(name) or ""):
                tables.execute(f"DROP TABLE {name}")

    def _show(self, segmentation: Segmentation) -> None:
        """Let the views show what the database says is published."""
        tables = self._tables(segmentation)
        newest = self._published_runs(segmentation)[0]
        registered = self._catalog.segmentation(segmentation.name) or {}
        segments = self._catalog.result("segment", registered["active_run_id"])
        tables.show(
            self._published(segmentation, tables),
            newest["run_id"],
            {row["segment_id"]: row["name"] for row in segments if row["segment_id"]},
            self._mark(newest["run_id"]),
        )


def _folded(target: str) -> tuple[str, ...]:
    """A name as Spark compares it: those that differ in case alone are one table."""
    return tuple(part.lower() for part in parse_name(target))


def _takes(before: dict[str, str], now: dict[str, str]) -> bool:
    """Whether a table of keys takes others without another value coming of it."""
    return list(before) == list(now) and all(
        kind == now[key] or (kind in _WHOLE and now[key] in _WHOLE[: _WHOLE.index(kind)])
        for key, kind in before.items()
    )


def _listed(keys: dict[str, str]) -> str:
    return ", ".join(f"{key} {kind}" for key, kind in keys.items())
