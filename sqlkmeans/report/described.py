"""The columns that are described and not clustered on, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.clustering.describing.profile_columns import column_title
from sqlkmeans.report.facts import Facts, Row
from sqlkmeans.report.scales import decimals_for

#: Columns that a segment's own table shows.
SHOWN = 4


@dataclass(frozen=True)
class DescribedColumn:
    """A column, or a level of it: its rows of ``segment_profile``.

    Attributes
    ----------
    title : str
    is_share : bool
        Whether it is told by shares, and not by means.
    decimals : int
        Of the means, so that they align.
    everyone : dict
    by_segment : dict of int to dict
    """

    title: str
    is_share: bool
    decimals: int
    everyone: Row
    by_segment: dict[int, Row]


@dataclass(frozen=True)
class Difference:
    """A column in which a segment differs, and the segment's row."""

    column: DescribedColumn
    here: Row


def described_columns(facts: Facts) -> list[DescribedColumn]:
    """All of them, in the definition's order."""
    found = []
    for (segment_id, position), everyone in facts.columns.items():
        if segment_id != EVERYONE:
            continue
        rows = {i: row for (i, place), row in facts.columns.items() if place == position}
        found.append(
            DescribedColumn(
                column_title(everyone),
                everyone["level"] is not None,
                decimals_for(row["mean"] for row in rows.values()),
                everyone,
                {i: row for i, row in rows.items() if i != EVERYONE},
            )
        )
    return found


def differences(columns: list[DescribedColumn], segment_id: int) -> list[Difference]:
    """The columns in which a segment differs most from everyone, and surely: whose interval leaves
    out 0. Of a category, its most different level alone."""
    sure: dict[str, Difference] = {}
    for column in sorted(columns, key=lambda column: -_size(column, segment_id)):
        here = column.by_segment.get(segment_id)
        if here is not None and is_sure(here):
            sure.setdefault(here["source_column"], Difference(column, here))
    return list(sure.values())[:SHOWN]


def is_sure(row: Row) -> bool:
    """Whether the interval around the difference leaves out 0."""
    low, high = row["difference_low"], row["difference_high"]
    return low is not None and high is not None and not low <= 0 <= high


def deviations(column: DescribedColumn, row: Row) -> float:
    """The difference in everyone's deviations, of shares too; 0 where there is none."""
    difference, share = row["difference"], column.everyone["share"]
    if difference is None or not column.is_share:
        return float(difference or 0)
    spread = sqrt(share * (1 - share))
    return float(difference / spread) if spread else 0.0


def _size(column: DescribedColumn, segment_id: int) -> float:
    here = column.by_segment.get(segment_id)
    return 0.0 if here is None else abs(deviations(column, here))
