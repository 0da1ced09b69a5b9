"""Reads of schema ``sqlkmeans``, the same for every database."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from sqlkmeans.database import tables
from sqlkmeans.database.tables import Table
from sqlkmeans.publication import Row
from sqlkmeans.sqltext import parse_name, quote

_NAMES = (
    "FROM sqlkmeans.segment AS s INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id "
    "WHERE r.segmentation = ?"
)


class Catalog(ABC):
    """Segmentations, runs and their results, as plain rows."""

    @abstractmethod
    def select(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, which has a ``?`` for each parameter."""

    def _rows(self, table: Table, rest: str, *parameters: Any) -> list[Row]:
        columns = ", ".join(quote(column) for column in table.columns)
        query = f"SELECT {columns} FROM {tables.SCHEMA}.{table.name} {rest}"
        return [dict(zip(table.columns, row)) for row in self.select(query, parameters)]

    def segmentations(self) -> list[Row]:
        """All segmentations by name."""
        return self._rows(tables.segmentation, "ORDER BY name")

    def segmentation(self, name: str) -> Row | None:
        """One segmentation's row."""
        return next(iter(self._rows(tables.segmentation, "WHERE name = ?", name)), None)

    def run(self, run_id: int) -> Row | None:
        """One run's row."""
        return next(iter(self._rows(tables.run, "WHERE run_id = ?", run_id)), None)

    def runs(self, segmentation: str | None = None, limit: int = 20) -> list[Row]:
        """The newest runs, newest first."""
        newest = f"ORDER BY run_id DESC OFFSET 0 ROWS FETCH NEXT {int(limit)} ROWS ONLY"
        if segmentation is None:
            return self._rows(tables.run, newest)
        return self._rows(tables.run, f"WHERE segmentation = ? {newest}", segmentation)

    def published_runs(self, segmentation: str) -> list[Row]:
        """Every published run, newest first."""
        return self._rows(
            tables.run,
            "WHERE segmentation = ? AND status = ? ORDER BY run_id DESC",
            segmentation,
            "published",
        )

    def result(self, table_name: str, run_id: int) -> list[Row]:
        """A run's rows of one result table, in the order of its key."""
        table = tables.RESULT_TABLES[table_name]
        key = ", ".join(quote(column) for column in table.key)
        return self._rows(table, f"WHERE run_id = ? ORDER BY {key}", run_id)

    def targets(self) -> list[str]:
        """Every target in this database that a segmentation has or had."""
        runs = [definition for (definition,) in self.select("SELECT definition FROM sqlkmeans.run")]
        return sorted(_here(*(row["definition"] for row in self.segmentations()), *runs))

    def own_targets(self, segmentation: str) -> list[str]:
        """The same of a segmentation, without those that are another one's now."""
        rows = self.segmentations()
        own = [row["definition"] for row in rows if row["name"] == segmentation]
        runs = self.select("SELECT definition FROM sqlkmeans.run WHERE segmentation = ?",
                           [segmentation])  # fmt: skip
        own += [definition for (definition,) in runs]
        others = {parse_name(row["target"]) for row in rows if row["name"] != segmentation}
        return sorted(target for target in _here(*own) if parse_name(target) not in others)

    def names(self, segmentation: str) -> list[tuple[int, str]]:
        """Every name that a segment has or had in any run."""
        rows = self.select(f"SELECT DISTINCT s.segment_id, s.name {_NAMES}", [segmentation])
        return [(row[0], row[1]) for row in rows]

    def given_names(self, segmentation: str) -> dict[int, str]:
        """Names that people gave, by segment id."""
        rows = self.select(
            f"SELECT s.segment_id, MAX(s.name) {_NAMES} AND s.name_source = ? "
            "GROUP BY s.segment_id",
            [segmentation, "given"],
        )
        return {row[0]: row[1] for row in rows}


def _here(*definitions: str) -> set[str]:
    """The targets of definitions that are not in Spark's catalog."""
    found = [json.loads(definition) for definition in definitions]
    return {
        one["target"]
        for one in found
        if one.get("engine") != "spark" or len(parse_name(one["target"])) < 3
    }
