"""Does a segmentation fit the database: columns, types, and a target that may be written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from sqlkmeans.database.base import CHANGE_TRACKING, Column, Database, Sources, TracksChanges
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import MOST_PROBLEMS, DataError
from sqlkmeans.sqltext import parse_name, parse_source, quote_name

#: As many columns of a table are named.
MOST_NAMES = 50
#: Tables that are named where a source is none of them.
LISTED = 10
LABEL_COLUMNS = ("segment_id", "distance", "is_outlier", "run_id", "assigned_at")
#: What stands beside a target, by the end of its name, with the columns after the key.
BESIDE = {
    "_history": ("segment_id", "distance", "is_outlier", "valid_from", "valid_to", "run_id"),
    "_named": (*LABEL_COLUMNS, "segment_name"),
}


def check_segmentation(
    database: Database, segmentation: Segmentation, sources: Sources | None = None
) -> None:
    """Compare a definition with the database, before anything is read or written.

    ``sources`` has its source, where the database has not.

    Raises
    ------
    DataError
        With every column, type and target problem.
    """
    sources = sources or database
    columns = {column.name: column for column in _describe(sources, segmentation.source)}
    problems = _missing_columns(segmentation, columns)
    if segmentation.changed_by == CHANGE_TRACKING and CHANGE_TRACKING not in columns:
        problems += (
            database.change_tracking_problems(segmentation.source)
            if isinstance(database, TracksChanges)
            else [
                f"changed_by {CHANGE_TRACKING}: Change Tracking is only on SQL Server; name a "
                "column of the source"
            ]
        )
    for feature in segmentation.features:
        if feature.column in columns:
            problems += _feature_problems(columns[feature.column], feature.type)
    for name in segmentation.profile:
        column = columns.get(name)
        if column is not None and column.profile_type is None:
            problems.append(
                f"profile {name}: its type is {column.type}, which is not described; allowed: "
                "numbers, booleans, dates, text"
            )
    weight = columns.get(segmentation.sample_weight or "")
    if weight is not None and weight.kind != "number":
        problems.append(f"sample_weight {weight.name}: its type is {weight.type}; allowed: numbers")
    for name in segmentation.key:
        column = columns.get(name)
        if column is not None and not column.can_be_key:
            problems.append(
                f"key {name}: its type is {column.type}, which cannot be a key; "
                "allowed: integers, decimals, booleans, text, uuid, dates, binary"
            )
    problems += _target_problems(database, segmentation, columns, sources)
    if problems:
        raise DataError(problems)


def _describe(database: Sources, source: str) -> list[Column]:
    try:
        return database.describe(source)
    except DataError:
        name = parse_source(source).name
        if name is None or database.describe_table(source) is not None:
            raise
        known = database.table_names()
        wanted = ".".join(name).lower()
        by_name = {other.lower(): other for other in reversed(known)}
        # By the table's own name too: the schema may be what is wrong.
        alone = {other.split(".")[-1]: shown for other, shown in by_name.items()}
        close = difflib.get_close_matches(wanted, by_name, n=1)
        near = [by_name[match] for match in close] or [
            alone[match] for match in difflib.get_close_matches(name[-1].lower(), alone, n=1)
        ]
        hint = f", did you mean {near[0]}?" if near else ""
        more = f" and {len(known) - LISTED:,} more" if len(known) > LISTED else ""
        raise DataError(
            f"source {source}: no such table or view{hint} "
            f"(there are {', '.join(known[:LISTED]) or 'none'}{more})"
        ) from None


def _feature_problems(column: Column, feature_type: str) -> list[str]:
    """A column whose type does not suit the feature's, and what to write instead."""
    as_category = f'{{ column = "{column.name}", type = "category" }}'
    as_date = f'{{ column = "{column.name}", type = "date" }}'
    if feature_type == "number":
        suits, allowed = column.kind in ("number", "boolean"), "numbers and booleans"
        advice = "cast it to a number in a SELECT or a view"
    elif feature_type == "category":
        suits, allowed = column.can_be_category, "text, uuid, booleans and integers"
        advice = "make it one of them in a SELECT or a view"
    else:
        suits, allowed = column.kind == "date", "dates, with or without a time"
        advice = "cast it to a date in a SELECT or a view"
    if suits:
        return []
    if column.kind == "date":
        advice = f"write {as_date}"
    elif column.can_be_category and column.kind != "number" and feature_type == "number":
        advice = f"write {as_category}"
    elif column.kind == "number" and feature_type == "category":
        advice = "leave its type at number, or cut it into ranges in a SELECT"
    return [
        f"feature {column.name}: its type is {column.type}; "
        f'allowed for type = "{feature_type}": {allowed} ({advice})'
    ]


def _missing_columns(segmentation: Segmentation, columns: dict[str, Column]) -> list[str]:
    problems: list[str] = []
    weight = [segmentation.sample_weight] if segmentation.sample_weight else []
    changed_by = [name for name in [segmentation.changed_by] if name and name != CHANGE_TRACKING]
    wanted = {
        "key": segmentation.key,
        "feature": segmentation.columns,
        "profile": segmentation.profile,
        "sample_weight": weight,
        "changed_by": changed_by,
    }
    for role, names in wanted.items():
        for name in names:
            if name not in columns:
                # To look for the nearest of thousands, thousands of times, would take hours.
                if len(problems) >= MOST_PROBLEMS:
                    problems.append(f"{role} {name}: no such column in {segmentation.source}")
                    continue
                close = difflib.get_close_matches(name, columns, n=1, cutoff=0.5) or [
                    other for other in columns if other.lower() == name.lower()
                ]
                hint = f", did you mean {close[0]}?" if close else ""
                problems.append(
                    f"{role} {name}: no such column in {segmentation.source}{hint} "
                    f"(it has {_listed(columns)})"
                )
    return problems


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """Names, and a count of those after the first."""
    shown = list(names)[:MOST_NAMES]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _target_problems(
    database: Database, segmentation: Segmentation, source: dict[str, Column], sources: Sources
) -> list[str]:
    target = segmentation.target
    problems = []
    if database.schema_version():
        for row in database.catalog.segmentations():
            same = _lower(row["target"]) == _lower(target)
            if same and row["name"] != segmentation.name:
                problems.append(f"target {target}: it belongs to segmentation {row['name']}")
    problems += database.labels.problems(segmentation)
    if problems:
        return problems
    parts = parse_name(target)
    for suffix, columns in (("", LABEL_COLUMNS), *BESIDE.items()):
        name = quote_name((*parts[:-1], parts[-1] + suffix))
        found = database.labels.describe_table(name)
        wanted = [*segmentation.key, *columns]
        if found is not None and [column.name for column in found] != wanted:
            problems.append(
                f"target {target}: {name if suffix else 'a table of that name'} exists and is not "
                "this segmentation's "
                f"(it has {_listed([c.name for c in found])}; expected {', '.join(wanted)}); "
                "name another target, or drop it"
            )
    existing = database.labels.describe_table(target)
    if problems or existing is None:
        return problems
    for column in existing[: len(segmentation.key)]:
        now = source.get(column.name)
        if now is not None and not sources.same_type(now, column):
            problems.append(
                f"key {column.name}: {now.type} in the source and {column.type} in {target}; "
                "name another target"
            )
    return problems


def _lower(name: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in parse_name(name))
