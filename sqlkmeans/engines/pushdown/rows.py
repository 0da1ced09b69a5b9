"""The rows of a run where they are: a temporary table that is asked for aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlkmeans.clustering.describing.profile_columns import ProfileColumn
from sqlkmeans.clustering.kmeans.lloyd import uncounted
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database.base import Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.sql import starts, statistics, training
from sqlkmeans.engines.pushdown.sql.training import Layout
from sqlkmeans.errors import DataError, NoRows
from sqlkmeans.progress import Advance


class KeptRows:
    """A copy of key and raw features, made in one statement and so of one moment.

    Nothing is read before :meth:`take`.

    Raises
    ------
    DataError
        If no table of the database can have so many columns.

    Attributes
    ----------
    workspace : Workspace
    layout : Layout
    count : int
        How many rows there are.
    fitted : int
        How many of them count in the fit: those that have a weight.
    passed : callable
        Hears of passes over all rows.
    skipped_missing : dict of str to int
        Missing values of the rows that were left out, by column.
    profile : sequence of ProfileColumn
        Columns that are only described.
    """

    def __init__(
        self,
        workspace: Workspace,
        segmentation: Segmentation,
        columns: Sequence[str],
        profile: Sequence[ProfileColumn] = (),
    ) -> None:
        self.profile = profile
        self.workspace = workspace
        self.passed: Advance = uncounted
        types = segmentation.feature_types
        keys = [workspace.key(name) for name in segmentation.key]
        values = [workspace.value(name, types[name]) for name in columns]
        weight = segmentation.sample_weight
        weights = [workspace.value(weight, "number")] if weight is not None else []
        described = [self._described(column) for column in profile]
        self.layout = Layout(
            workspace.dialect,
            tuple(kind for _, kind in keys),
            tuple(columns),
            tuple(kind for _, kind in values),
            bool(weights),
            segmentation.smallest_group,
            described=tuple((c.name, kind) for c, (_, kind) in zip(profile, described)),
        )
        self._require_room(f"{len(columns):,} given", self.layout.labelled_typed)
        self._selected = [text for text, _ in (*keys, *values, *weights, *described)]
        self._segmentation = segmentation
        self.count = self.fitted = 0
        self.skipped_missing: dict[str, int] = {}

    def take(self) -> None:
        """Copy the rows of the source, and check their keys."""
        self.execute(training.take_rows(self.layout, self.workspace.source, self._selected))
        self.count = self.fitted = self._check(self._segmentation)

    def _require_room(self, given: str, columns: Sequence[tuple[str, str]]) -> None:
        wide = self.layout.dialect.too_wide(columns)
        if wide is not None:
            raise DataError(
                f'features: {given}, which makes {wide}; give fewer, or engine = "local", which '
                "takes them"
            )

    def _described(self, column: ProfileColumn) -> tuple[str, str]:
        """A column that is only described: its expression, and its type in a temporary table."""
        text, kind = self.workspace.value(column.name, column.read_as)
        if column.read_as == "number":
            text = f"CASE WHEN NOT ({self.workspace.dialect.infinite(text)}) THEN {text} END"
        return text, kind

    def _check(self, segmentation: Segmentation) -> int:
        """Count the rows and check the keys.

        Raises
        ------
        DataError
            If there are no rows, too few for the smallest group, or a key is NULL or repeated.
        """
        name = ", ".join(segmentation.key)
        query = statistics.key_query(self.layout)
        found = self.ask(query)
        if not found and self.layout.at_least > 1:
            raise DataError(
                f"the source has no rows, or fewer than min_group = {self.layout.at_least}, and "
                "sample_rows = 0 lets nothing about fewer customers leave the database; nothing "
                "was changed"
            )
        if not found:
            raise NoRows("the source has no rows; nothing was changed")
        customers, nulls, repeats = found[0]
        if nulls:
            many = "a few" if nulls < 0 else f"{nulls:,}"
            raise DataError(f"key {name}: {many} NULL; a key identifies a customer")
        if repeats:
            many = "a few" if repeats < 0 else f"{repeats:,}"
            raise DataError(
                f"key {name}: not unique; {many} rows repeat the key of another; "
                "aggregate in the source, or add a key column"
            )
        return int(customers)

    def recount(self) -> None:
        """Count the rows that are there now."""
        counts = []
        for fitted in (False, True):
            found = self.ask(statistics.count_query(self.layout, fitted=fitted))
            counts.append(int(found[0][0]) if found else 0)
        self.count, self.fitted = counts

    def keep_prepared(self, features: Sequence[PreparedFeature]) -> None:
        """Keep the values that these features prepare, where queries are faster so.

        Raises
        ------
        DataError
            If no row of the database can have so many.
        """
        given = f"{len(features):,} numbers of each customer, one for each level of a category"
        self._require_room(given, starts.cell_columns(self.layout, features))
        layout, statements = training.keep_prepared(self.layout, features)
        self.execute(statements)
        self.layout = layout

    def execute(self, statements: Sequence[str]) -> None:
        """Run statements that give no rows."""
        for statement in statements:
            self.workspace.execute(statement)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of an aggregate query; the first column is the number of customers."""
        return self.workspace.rows(query)

    def one(self, query: str) -> tuple[Any, ...]:
        """The facts of an aggregate query of one row, without the number of customers.

        Raises
        ------
        DataError
            If it is about too few customers to leave the database.
        """
        found = self.ask(query)
        if not found:
            raise self.too_few()
        return found[0][1:]

    def too_few(self) -> DataError:
        """What is wrong where nothing may be told, in words."""
        return DataError(
            f"fewer customers than min_group = {self.layout.at_least} are left"
            f"{by_weight(self.layout)}, and sample_rows = 0 lets nothing about them leave the "
            "database"
        )


def by_weight(layout: Layout) -> str:
    """How customers are counted, in words."""
    return ", or few of them have most of the weight" if layout.weighted else ""


class TooSmall(DataError):
    """A segment that may not be told of, or that nobody is in."""


def too_small(rows: KeptRows, k: int) -> TooSmall:
    """What is wrong with such a segment, in words."""
    if rows.layout.at_least == 1:
        return TooSmall(f"k = {k}: a segment stays empty; lower k or add features")
    return TooSmall(
        f"k = {k} makes a segment of fewer customers than min_group = {rows.layout.at_least}"
        f"{by_weight(rows.layout)}, and sample_rows = 0 lets nothing about it leave the database; "
        "lower k, winsorize, or give sample_rows"
    )
