"""Sources that Spark reads, beside a database that has the runs and the labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from sqlkmeans.database.base import Column, Database, Source, Sources, Workspace
from sqlkmeans.database.source import ChangedRows, split_batch
from sqlkmeans.database.spark import types as spark_types
from sqlkmeans.database.spark.carrying import rows_of_database
from sqlkmeans.database.spark.changes import SourceChanges, unknown_since
from sqlkmeans.database.spark.dialect import SparkDialect, backquote
from sqlkmeans.database.spark.session import SETTINGS, changed, open_session, told, told_nothing
from sqlkmeans.database.spark.workspace import SparkWorkspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.sqltext import is_file, parse_source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: What stands before the path of files that Spark reads as a table: ``delta.`/lake/customer` ``.
FORMATS = frozenset({"csv", "delta", "json", "orc", "parquet"})


@contextmanager
def open_sources(
    segmentation: Segmentation, database: Database, given: object = None
) -> Iterator[Sources]:
    """What Spark reads, and the database's own tables by way of this process.

    Parameters
    ----------
    segmentation : Segmentation
    database : Database
    given : pyspark.sql.SparkSession, optional
        The caller's session.

    Raises
    ------
    DefinitionError
        If there is no session.
    DatabaseError
        If Spark cannot be started or reached.
    """
    session = open_session(segmentation.spark.master, given)
    with told("Spark"), changed(session, SETTINGS):
        sources = SparkSources(database, session, segmentation.spark.keep)
        try:
            sources.refresh(segmentation.source)
            yield sources
        finally:
            sources.close()


class SparkSources(Sources):
    """Files are read by Spark; so is a table or a SELECT that the database does not know."""

    def __init__(self, database: Database, session: SparkSession, keep: str) -> None:
        self._database = database
        self._session = session
        self._keep = keep
        self._of_database: dict[str, list[Column] | None] = {}
        self._of_spark: set[str] = set()
        self._changes = SourceChanges(session, keep)

    def close(self) -> None:
        """Let go of what the session keeps."""
        self._changes.close()

    def _known_there(self, source: str) -> list[Column] | None:
        """The columns of a source of the database; None where Spark is to read it."""
        if source not in self._of_database:
            self._of_database[source] = None
            if not is_path(source):
                with suppress(DataError):  # Spark may know it.
                    self._of_database[source] = self._database.describe(source)
        return self._of_database[source]

    def reads(self, source: str) -> bool:
        """Whether Spark has a source, and not the database."""
        return self._known_there(source) is None

    def refresh(self, source: str) -> None:
        """See the files of a table that others wrote since the session listed them.

        Only before rows are read: Spark forgets all that it keeps of the table.
        """
        if parse_source(source).name is None or is_path(source) or not self.reads(source):
            return
        catalog = self._session.catalog
        # If there is no such table, `describe` says so.
        with told_nothing():
            # What somebody keeps on purpose stays as it is.
            if not catalog.isCached(relation(source)):
                catalog.refreshTable(relation(source))

    def describe(self, source: str) -> list[Column]:
        known = self._known_there(source)
        if known is not None:
            return known
        with told(f"source {source}", of_source=True):
            schema = self._session.sql(f"SELECT * FROM {relation(source)}").schema
        self._of_spark.add(source)
        return [spark_types.column(field.name, field.dataType.simpleString()) for field in schema]

    def table_names(self) -> list[str]:
        with told("listing Spark's tables"):
            listed = self._session.sql("SHOW TABLES").collect()
        own = [
            ".".join(part for part in (schema, name) if part)
            for schema, name, _ in listed
            if not name.startswith("sqlkmeans_")
        ]
        return [*self._database.table_names(), *own]

    def describe_table(self, name: str) -> list[Column] | None:
        # What is wrong with a path, or with a table of Spark's, says more than which tables there
        # are.
        known = is_path(name) or name in self._of_spark
        return [] if known else self._database.describe_table(name)

    def key_schema(self, segmentation: Segmentation) -> pa.Schema | None:
        if self._known_there(segmentation.source) is not None:
            return None
        names = ", ".join(map(backquote, segmentation.key))
        query = f"SELECT {names} FROM {relation(segmentation.source)} LIMIT 0"
        with told(f"source {segmentation.source}", of_source=True):
            found = self._session.sql(query).toArrow().schema
        return pa.schema([(field.name, spark_types.widened(field.type)) for field in found])

    def same_type(self, now: Column, published: Column) -> bool:
        # Spark's types have names of their own.
        return super().same_type(now, published) or (
            now.type == now.type.lower() and now.kind == published.kind
        )

    def count(self, source: str) -> int:
        if self._known_there(source) is not None:
            return self._database.count(source)
        with told(f"source {source}", of_source=True):
            return int(self._session.sql(f"SELECT 1 FROM {relation(source)}").count())

    @contextmanager
    def open_source(
        self,
        segmentation: Segmentation,
        features: Sequence[str],
        customer: Sequence[str] | None = None,
        *,
        in_order: bool = False,
        types: Mapping[str, str] | None = None,
    ) -> Iterator[Source]:
        if self._known_there(segmentation.source) is not None:
            with self._database.open_source(
                segmentation, features, customer, in_order=in_order, types=types
            ) as source:
                yield source
            return
        query = self._reading(segmentation, features, customer, types or {})
        if in_order:
            query += f"\nORDER BY {', '.join(map(backquote, segmentation.key))}"
        with told(f"source {segmentation.source}", of_source=True):
            rows = self._session.sql(query).toArrow()
        sizes = len(segmentation.key), len(features)
        batches = (split_batch(batch, *sizes) for batch in rows.to_batches())
        yield Source(rows.num_rows, batches, in_key_order=in_order)

    def _reading(
        self,
        segmentation: Segmentation,
        features: Sequence[str],
        customer: Sequence[str] | None,
        others: Mapping[str, str],
    ) -> str:
        dialect, kinds = SparkDialect(), {**others, **segmentation.feature_types}
        columns = {column.name: column for column in self.describe(segmentation.source)}
        selected = [backquote(key) for key in segmentation.key]
        selected += [
            f"{dialect.feature(columns[name], kinds.get(name, 'number'), backquote(name))} "
            f"AS {backquote(name)}"
            for name in features
        ]
        if (weight := segmentation.sample_weight) is not None:
            selected.append(f"CAST({backquote(weight)} AS double)")
        query = f"SELECT {', '.join(selected)}\nFROM {relation(segmentation.source)}"
        if customer is None:
            return query
        same = [
            f"CAST({backquote(key)} AS string) = {dialect.literal(value)}"
            for key, value in zip(segmentation.key, customer)
        ]
        return f"{query}\nWHERE {' AND '.join(same)}"

    @contextmanager
    def open_workspace(self, segmentation: Segmentation) -> Iterator[Workspace]:
        workspace = self._workspace(segmentation)
        try:
            yield workspace
        finally:
            workspace.close()

    def _workspace(self, segmentation: Segmentation) -> SparkWorkspace:
        source_text = segmentation.source
        if self._known_there(source_text) is None:
            columns = {column.name: column for column in self.describe(segmentation.source)}
            return SparkWorkspace(self._session, relation(segmentation.source), columns, self._keep)
        described = {column.name: column for column in self.describe(source_text)}
        return rows_of_database(self._session, self._database, segmentation, described)

    def high_water(self, segmentation: Segmentation) -> str | None:
        source = segmentation.source
        if self._known_there(source) is not None:
            return self._database.high_water(segmentation)
        columns = {column.name: column for column in self.describe(source)}
        return self._changes.high_water(columns[str(segmentation.changed_by)], relation(source))

    def changed_rows(self, segmentation: Segmentation, since: str) -> ChangedRows:
        source = segmentation.source
        if self._known_there(source) is not None:
            return self._database.changed_rows(segmentation, since)
        columns = {column.name: column for column in self.describe(source)}
        published = self._database.labels.published_keys(segmentation)
        return self._changes.find(segmentation, columns, since, relation(source), published)

    def changes_unknown_since(self, segmentation: Segmentation, since: str) -> str | None:
        source = segmentation.source
        if self._known_there(source) is None:
            columns = {column.name: column for column in self.describe(source)}
            return unknown_since(columns[str(segmentation.changed_by)], since)
        return self._database.changes_unknown_since(segmentation, since)


def is_path(source: str) -> bool:
    """Whether a source is a path of files: ``customers.parquet``, ``delta.`/lake/customer` ``."""
    name = parse_source(source).name
    return is_file(source) or (
        name is not None and len(name) == 2 and name[0].lower() in FORMATS and "/" in name[1]
    )


def relation(source: str) -> str:
    """What stands after FROM: a name, a path, or a SELECT in parentheses."""
    if is_file(source):
        path = source.strip()
        if path.lower().endswith(".parquet"):
            return f"parquet.{backquote(path)}"
        raise DataError(
            f'source {source}: engine = "spark" reads Parquet; allowed: a .parquet path, '
            "a table, or a SELECT over READ_FILES or a view"
        )
    parsed = parse_source(source)
    if parsed.name is not None:
        return ".".join(map(backquote, parsed.name))
    # Where a text or a name ends is said in other ways than `parse_source` knows, and behind a
    # wrong end a function could stand that it refuses.
    for mark, instead in (("\\", "CHAR(92)"), ("[", "ELEMENT_AT(…)")):
        if mark in str(parsed.query):
            raise DataError(
                f"source: {mark} given in a SELECT for Spark; allowed: {instead}, or a view"
            )
    # The line break ends a comment that the query may end with.
    return f"({parsed.query}\n) AS source"
