"""What the columns of a source look like, asked of the database as aggregates.

Two queries over all rows, and a third where there are levels to count: no row leaves the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlkmeans.database.base import Column, Database, Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError

#: Equal ranges that a spread is counted in, and the most levels that are counted one by one.
RANGES, MOST_LEVELS = 8, 50
_DECIMAL_COMMA = re.compile(r"\s*-?\d[\d .]*,\d+\s*")
#: Columns of one query: SQL Server answers with 4,096 at most.
TOGETHER = 100


@dataclass(frozen=True)
class ColumnProfile:
    """A column, over all rows.

    Attributes
    ----------
    name, type : str
    kind : {"number", "boolean", "text", "date", "other"}
    can_be_key, can_be_category : bool
    rows, missing, distinct, infinite : int
        Missing is NULL or NaN. Where ``kind`` is ``other`` and it can be no key, ``distinct`` is 0.
    low, high, mean, deviation, skewness : float or None
        Of a number; of a date, in days since 1970-01-01. Skewness is the third standardised
        moment, of a date that of its age; None where all values are the same.
    log_skewness : float or None
        That of ln(1 + x), where no value is negative; of a date, with its age on the last one.
    whole : bool
        Whether every value is a whole number.
    spread : tuple of int
        Rows in eight equal ranges from ``low`` to ``high``; or of each level, the most frequent
        first.
    levels : tuple of str
        Of a text or a boolean with at most 50 of them, the most frequent first.
    decimal_comma : bool
        Whether it is a text whose first and last value, in the order of texts, are numbers with a
        decimal comma.
    """

    name: str
    type: str
    kind: str
    can_be_key: bool
    can_be_category: bool
    rows: int
    missing: int
    distinct: int
    infinite: int = 0
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    deviation: float | None = None
    skewness: float | None = None
    log_skewness: float | None = None
    whole: bool = False
    spread: tuple[int, ...] = ()
    levels: tuple[str, ...] = ()
    decimal_comma: bool = False

    @property
    def known(self) -> int:
        return self.rows - self.missing

    @property
    def brief_type(self) -> str:
        """The type without its collation."""
        return self.type.split(" COLLATE ")[0]


@dataclass
class _Asked:
    """A column, how a query reads it, and what was answered so far."""

    column: Column
    value: str
    identity: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        return self.column.kind in ("number", "boolean", "date")

    @property
    def counted(self) -> bool:
        """Whether its levels are worth counting."""
        return self.column.kind in ("text", "boolean") and self.facts["distinct"] <= MOST_LEVELS


def profile_columns(database: Database, source: str) -> list[ColumnProfile]:
    """Look at every column of a source.

    Parameters
    ----------
    database : Database
    source : str
        A table, a view, one SELECT, or on DuckDB a file that it was opened for.

    Raises
    ------
    DataError
        If there is no such source, or it has no rows.
    """
    columns = database.describe(source)
    # A workspace belongs to a segmentation; of this one nothing but the source is looked at.
    stand_in = Segmentation.create(
        name="profile", source=source, key="key", features=["feature"], k=2, target="profile_target"
    )
    with database.open_workspace(stand_in) as workspace:
        asked = [_asked(workspace, column) for column in columns]
        rows = 0
        for some in _parts(asked):
            rows = _count(workspace, some)
            if not rows:
                raise DataError(f"source {source}: it has no rows")
            _measure(workspace, some)
        _count_levels(workspace, asked)
    return [_profile(one, rows) for one in asked]


def _parts(asked: Sequence[_Asked]) -> Iterator[Sequence[_Asked]]:
    return (asked[start : start + TOGETHER] for start in range(0, len(asked), TOGETHER))


def _asked(workspace: Workspace, column: Column) -> _Asked:
    name, dialect = column.name, workspace.dialect
    identity = workspace.key(name)[0]
    if column.kind in ("number", "boolean"):
        value = workspace.value(name, "number")[0]
    elif column.kind == "date":
        days = dialect.days(dialect.date("1970-01-01"), workspace.value(name, "date")[0])
        value = f"CAST({days} AS {dialect.float_type})"
    elif column.kind == "text":
        value = workspace.value(name, "category")[0]
    else:
        # Asked only whether it is there.
        value = identity = f"CASE WHEN {identity} IS NOT NULL THEN 1 END"
    return _Asked(column, value, identity if column.can_be_key else value)


def _inside(workspace: Workspace, asked: Sequence[_Asked]) -> str:
    """The source with the values of these columns, v1, v2 …, infinite ones left out."""
    dialect = workspace.dialect
    listed = []
    for position, one in enumerate(asked, start=1):
        infinite = dialect.infinite(one.value) if one.measured else "1 = 0"
        listed += [
            f"CASE WHEN NOT ({infinite}) THEN {one.value} END AS v{position}",
            f"CASE WHEN {infinite} THEN 1 ELSE 0 END AS i{position}",
            f"{one.identity} AS k{position}",
        ]
    return f"FROM (SELECT {', '.join(listed)} FROM {workspace.source}) AS q"


def _count(workspace: Workspace, asked: Sequence[_Asked]) -> int:
    """What is missing, how many differ, from where to where; returns the number of rows."""
    listed = [workspace.dialect.count]
    for position, one in enumerate(asked, start=1):
        value = f"v{position}"
        listed += [f"COUNT({value})", f"COUNT(DISTINCT k{position})", f"SUM(i{position})"]
        if one.measured:
            listed += [f"MIN({value})", f"MAX({value})", f"AVG({value})"]
        if one.column.kind == "text":
            listed += [f"MIN({value})", f"MAX({value})"]
    answer = iter(workspace.rows(f"SELECT {', '.join(listed)} {_inside(workspace, asked)}")[0])
    rows = int(next(answer))
    for one in asked:
        names = ["known", "distinct", "infinite"]
        if one.measured:
            names += ["low", "high", "mean"]
        one.facts.update(zip(names, (_number(next(answer)) for _ in names)))
        if one.column.kind == "text":
            ends = [str(next(answer)) for _ in range(2)]
            one.facts["decimal_comma"] = all(map(_DECIMAL_COMMA.fullmatch, ends))
    return rows


def _number(value: Any) -> float:
    return 0.0 if value is None else float(value)


def _measure(workspace: Workspace, asked: Sequence[_Asked]) -> None:
    """How the numbers and dates spread: moments, and counts in equal ranges."""
    logarithm = workspace.dialect.logarithm
    listed, wanted = [], []
    for position, one in enumerate(asked, start=1):
        if not one.measured or one.facts["low"] == one.facts["high"]:
            continue
        low, high = one.facts["low"], one.facts["high"]
        value = f"v{position}"
        # About the mean and in parts of the range, so that no power loses digits or is too great.
        part = f"(({value} - ({one.facts['mean']!r})) / {high - low!r})"
        grown = f"({high!r} - {value})" if one.column.kind == "date" else value
        log = f"(CASE WHEN {grown} > -1 THEN {logarithm}(1e0 + {grown}) END)"
        edges = [low + (high - low) * step / RANGES for step in range(1, RANGES)]
        listed += [
            *(f"AVG({' * '.join([x] * power)})" for x in (part, log) for power in (1, 2, 3)),
            f"SUM(CASE WHEN {value} <> FLOOR({value}) THEN 1 ELSE 0 END)",
            *(f"SUM(CASE WHEN {value} < {edge!r} THEN 1 ELSE 0 END)" for edge in edges),
        ]
        wanted.append(one)
    if not wanted:
        return
    answer = iter(workspace.rows(f"SELECT {', '.join(listed)} {_inside(workspace, asked)}")[0])
    for one in wanted:
        facts, is_date = one.facts, one.column.kind == "date"
        parts, logs = ([_number(next(answer)) for _ in range(3)] for _ in range(2))
        skewness = _skewness(*parts)
        facts["deviation"] = (parts[1] - parts[0] ** 2) ** 0.5 * (facts["high"] - facts["low"])
        facts["skewness"] = -skewness if is_date and skewness is not None else skewness
        facts["log_skewness"] = _skewness(*logs) if is_date or facts["low"] >= 0 else None
        facts["whole"] = _number(next(answer)) == 0
        below = [0, *(int(_number(next(answer))) for _ in range(RANGES - 1)), int(facts["known"])]
        facts["spread"] = tuple(high - low for low, high in pairwise(below))


def _skewness(first: float, second: float, third: float) -> float | None:
    """From the means of the first three powers."""
    variance = second - first**2
    if variance <= 0:
        return None
    return float((third - 3 * first * second + 2 * first**3) / variance**1.5)


def _count_levels(workspace: Workspace, asked: Sequence[_Asked]) -> None:
    counted = [one for one in asked if one.counted]
    count = workspace.dialect.count
    each = [
        f"SELECT {position} AS place, q.level, {count} AS size FROM (SELECT "
        f"{workspace.value(one.column.name, 'category')[0]} AS level FROM {workspace.source}) AS q "
        "WHERE q.level IS NOT NULL GROUP BY q.level"
        for position, one in enumerate(counted)
    ]
    found: dict[int, list[tuple[int, str]]] = {}
    for place, level, size in workspace.rows(" UNION ALL ".join(each)) if each else ():
        found.setdefault(int(place), []).append((-int(size), str(level)))
    for place, levels in found.items():
        levels.sort()
        counted[place].facts["levels"] = tuple(level for _, level in levels)
        counted[place].facts["spread"] = tuple(-size for size, _ in levels)


def _profile(one: _Asked, rows: int) -> ColumnProfile:
    facts, column = one.facts, one.column
    known = int(facts["known"])
    there = one.measured and known > 0
    return ColumnProfile(
        column.name, column.type, column.kind, column.can_be_key, column.can_be_category,
        rows=rows,
        missing=rows - known - int(facts["infinite"]),
        distinct=0 if column.kind == "other" and not column.can_be_key else int(facts["distinct"]),
        infinite=int(facts["infinite"]),
        low=facts["low"] if there else None,
        high=facts["high"] if there else None,
        mean=facts["mean"] if there else None,
        deviation=facts.get("deviation", 0.0) if there else None,
        skewness=facts.get("skewness"),
        log_skewness=facts.get("log_skewness"),
        # Where all values are the same, that one tells.
        whole=bool(facts.get("whole", there and facts["low"] == int(facts["low"]))),
        spread=facts.get("spread", (known,) if there else ()),
        levels=facts.get("levels", ()),
        decimal_comma=facts.get("decimal_comma", False),
    )  # fmt: skip
