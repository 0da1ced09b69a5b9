"""Reads of schema ``sqlkmeans``, the same for every database."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine, Select, Table, func, select

from sqlkmeans.database import tables

Row = dict[str, Any]


class Catalog:
    """Segmentations, runs and their results, as plain rows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _rows(self, query: Select[Any]) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def segmentations(self) -> list[Row]:
        """All segmentations by name."""
        return self._rows(select(tables.segmentation).order_by(tables.segmentation.c.name))

    def segmentation(self, name: str) -> Row | None:
        """One segmentation's row."""
        table = tables.segmentation
        return next(iter(self._rows(select(table).where(table.c.name == name))), None)

    def run(self, run_id: int) -> Row | None:
        """One run's row."""
        table = tables.run
        return next(iter(self._rows(select(table).where(table.c.run_id == run_id))), None)

    def runs(self, segmentation: str | None = None, limit: int = 20) -> list[Row]:
        """The newest runs, newest first."""
        table = tables.run
        query = select(table).order_by(table.c.run_id.desc()).limit(limit)
        if segmentation is not None:
            query = query.where(table.c.segmentation == segmentation)
        return self._rows(query)

    def published_runs(self, segmentation: str) -> list[Row]:
        """Every published run, newest first."""
        table = tables.run
        return self._rows(
            select(table)
            .where(table.c.segmentation == segmentation, table.c.status == "published")
            .order_by(table.c.run_id.desc())
        )

    def result(self, table_name: str, run_id: int) -> list[Row]:
        """A run's rows of one result table, in the order of its key."""
        table: Table = tables.RESULT_TABLES[table_name]
        return self._rows(
            select(table).where(table.c.run_id == run_id).order_by(*table.primary_key.columns)
        )

    def targets(self) -> list[str]:
        """Every target that a segmentation has or had."""
        runs = self._rows(select(tables.run.c.definition))
        current = [row["target"] for row in self.segmentations()]
        return sorted({*current, *(json.loads(row["definition"])["target"] for row in runs)})

    def names(self, segmentation: str) -> list[tuple[int, str]]:
        """Every name that a segment has or had in any run."""
        segment, run = tables.segment, tables.run
        rows = self._rows(
            select(segment.c.segment_id, segment.c.name)
            .distinct()
            .join(run, run.c.run_id == segment.c.run_id)
            .where(run.c.segmentation == segmentation)
        )
        return [(row["segment_id"], row["name"]) for row in rows]

    def given_names(self, segmentation: str) -> dict[int, str]:
        """Names that people gave, by segment id."""
        segment, run = tables.segment, tables.run
        rows = self._rows(
            select(segment.c.segment_id, func.max(segment.c.name).label("name"))
            .join(run, run.c.run_id == segment.c.run_id)
            .where(run.c.segmentation == segmentation, segment.c.name_source == "given")
            .group_by(segment.c.segment_id)
        )
        return {row["segment_id"]: row["name"] for row in rows}
