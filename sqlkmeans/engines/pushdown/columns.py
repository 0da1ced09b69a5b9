"""Describes columns that are not clustered on, from aggregates of the labelled rows."""

from __future__ import annotations

from dataclasses import replace

from sqlkmeans.clustering.describing.profile import FeatureProfile
from sqlkmeans.clustering.describing.profile_columns import (
    MOST_LEVELS,
    ColumnProfile,
    ColumnProfiles,
    Measured,
    ProfileColumn,
    compared,
    told_levels,
)
from sqlkmeans.clustering.preparation.categories import MAX_LEVEL_LENGTH
from sqlkmeans.engines.pushdown.profile import Sizes, read_profiles
from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sql import columns, statistics
from sqlkmeans.engines.pushdown.sql.training import LABELLED

#: Of a level or a boolean, everyone and each cluster: customers that have it, None where fewer
#: have it than may leave.
Counts = list["int | None"]


def read_columns(rows: KeptRows, sizes: Sizes) -> ColumnProfiles:
    """Everyone, then each cluster, in the order of ``sizes``."""
    found: list[list[ColumnProfile]] = []
    numbers = [column.plain() for column in rows.profile if not column.is_share]
    groups = read_profiles(rows, numbers, sizes) if numbers else []
    for column in rows.profile:
        if column.is_share:
            found += _shares(rows, column, sizes)
        else:
            measured = [_measured(group.size, group.features[column.name]) for group in groups]
            found.append(compared(column, None, measured))
    return list(zip(*found))


def _measured(size: int, of: FeatureProfile) -> Measured:
    return Measured(size - of.missing, of.missing, of.mean, of.deviation, of.median)


def _shares(rows: KeptRows, column: ProfileColumn, sizes: Sizes) -> list[list[ColumnProfile]]:
    levels = _levels(rows, column) if column.type == "category" else [None]
    features = [column.plain(level) for level in levels]
    groups = [int(sizes.rows.sum()), *sizes.rows.tolist()]
    known = [0] * len(groups)
    having: list[Counts] = [[None] * len(groups) for _ in levels]
    for by_cluster in (False, True):
        query = columns.share_query(rows.layout, features, by_cluster=by_cluster)
        for _, cluster, n, *counts in rows.ask(query):
            place = int(cluster) + 1 if by_cluster else 0
            known[place] = int(n)
            for of_level, count in zip(having, counts):
                of_level[place] = int(count) if n and count is not None else None
    if rows.layout.at_least > 1:
        withhold(having)
    return [
        compared(
            column, level,
            [Measured(n, all_ - n, having=has) for n, all_, has in zip(known, groups, of_level)],
        )
        for level, of_level in zip(levels, having)
    ]  # fmt: skip


def withhold(having: list[Counts]) -> None:
    """Withhold one count more wherever a single one is None: it is what the others leave.

    Of a level, everyone's count less the told ones of the clusters; of a group, its customers less
    those of the told levels. So the least count of the others goes too, until none stands alone.
    """
    levels, groups = range(len(having)), range(len(having[0]))
    sums = [[(level, group) for group in groups[1:]] for level in levels]
    if len(levels) > 1:
        sums += [[(level, group) for level in levels] for group in groups]
    again = True
    while again:
        again = False
        for cells in sums:
            hidden = [cell for cell in cells if having[cell[0]][cell[1]] is None]
            told = [(count, *cell) for cell in cells if (count := having[cell[0]][cell[1]])]
            if len(hidden) == 1 and told:
                _, level, group = min(told)
                having[level][group] = None
                again = True


def _levels(rows: KeptRows, column: ProfileColumn) -> list[str | None]:
    layout = replace(rows.layout, weighted=False)
    summary = rows.ask(statistics.level_summary_query(layout, column.name, LABELLED))
    if not summary:
        return [None]
    known, _, n_levels = (int(number) for number in summary[0])
    query = statistics.level_query(layout, column.name, MOST_LEVELS, MAX_LEVEL_LENGTH, LABELLED)
    _, customers = statistics.levels_of(layout, rows.ask(query))
    levels = told_levels(customers, n_levels, known)
    # Where the rest is about too few customers alone, the rarest level joins it.
    while len(levels) > 1 and levels[-1] is None:
        rest = known - sum(customers[level] for level in levels if level is not None)
        if rest >= layout.at_least or not rest:
            break
        del levels[-2]
    return levels
