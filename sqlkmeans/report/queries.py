"""The SQL that a reader of the page starts from; it runs on SQL Server, DuckDB and, of a target in
Spark's catalog, on Spark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlkmeans.database.spark.dialect import backquote
from sqlkmeans.database.spark.sources import relation
from sqlkmeans.definition import Segmentation
from sqlkmeans.report.facts import Facts
from sqlkmeans.sqltext import Name, is_file, parse_name, parse_source, quote

#: Quotes a name.
Mark = Callable[[str], str]


@dataclass(frozen=True)
class Query:
    """A question and its SQL."""

    question: str
    sql: str


def queries(facts: Facts) -> list[Query]:
    """Queries on this segmentation's own tables."""
    segmentation = facts.segmentation
    target = parse_name(segmentation.target)
    keys = segmentation.key
    # Labels in Spark's catalog are asked there; what is in schema sqlkmeans, in the database.
    mark = backquote if segmentation.lake_target else quote
    named, history = (_name(_beside(target, s), mark) for s in ("_named", "_history"))
    run_id, described = facts.run["run_id"], facts.described["run_id"]
    of_columns = [
        Query(
            "Columns that the clustering has not seen, segment by segment",
            "SELECT p.segment_id, s.name, p.source_column, p.level, p.mean, p.share, "
            "p.difference, p.difference_low, p.difference_high\n"
            "FROM sqlkmeans.segment AS s\n"
            "JOIN sqlkmeans.segment_profile AS p ON p.run_id = s.run_id "
            "AND p.segment_id = s.segment_id\n"
            f"WHERE s.run_id = {described}\nORDER BY p.position, p.segment_id;",
        )
    ]
    return [
        Query(
            "Customers with their segment",
            f"SELECT customer.*, label.segment_id, label.segment_name\n"
            f"FROM {_source(segmentation, mark)} AS customer\n"
            f"JOIN {named} AS label ON {_same(keys, 'label', 'customer', mark)};",
        ),
        Query(
            "Customers of each segment",
            f"SELECT segment_id, segment_name, COUNT(*) AS customers\nFROM {named}\n"
            "GROUP BY segment_id, segment_name\nORDER BY segment_id;",
        ),
        Query(
            f"Who moved in run {run_id}, from where to where",
            f"SELECT {_listed(keys, 'label', mark)}, earlier.segment_id AS from_segment_id, "
            f"label.segment_id AS to_segment_id\nFROM {history} AS label\n"
            f"JOIN {history} AS earlier ON {_same(keys, 'earlier', 'label', mark)}\n"
            "    AND earlier.valid_to = label.valid_from\n"
            f"WHERE label.run_id = {run_id} AND earlier.segment_id <> label.segment_id;",
        ),
        *_outliers(facts, named),
        Query(
            "What sets the segments apart, as on this page",
            "SELECT s.segment_id, s.name, f.feature, f.mean, f.median, f.importance\n"
            "FROM sqlkmeans.segment AS s\n"
            "JOIN sqlkmeans.segment_feature AS f ON f.run_id = s.run_id "
            "AND f.segment_id = s.segment_id\n"
            f"WHERE s.run_id = {described}\nORDER BY s.segment_id, f.position;",
        ),
        *(of_columns if facts.columns else []),
    ]


def _outliers(facts: Facts, named: str) -> list[Query]:
    if facts.everyone["outliers"] is None:
        return []
    return [
        Query(
            "Outliers, the farthest first",
            f"SELECT label.*\nFROM {named} AS label\nWHERE CAST(label.is_outlier AS int) = 1\n"
            "ORDER BY label.distance DESC;",
        )
    ]


def _beside(name: Name, suffix: str) -> Name:
    return (*name[:-1], name[-1] + suffix)


def _name(parts: Name, mark: Mark) -> str:
    return ".".join(map(mark, parts))


def _source(segmentation: Segmentation, mark: Mark) -> str:
    source = segmentation.source
    if segmentation.lake_target and is_file(source):
        return relation(source)
    parsed = parse_source(source)
    # The line break ends a comment that a query may end with.
    return _name(parsed.name, mark) if parsed.name is not None else f"(\n{parsed.query}\n)"


def _same(keys: Sequence[str], left: str, right: str, mark: Mark) -> str:
    return " AND ".join(f"{left}.{mark(key)} = {right}.{mark(key)}" for key in keys)


def _listed(keys: Sequence[str], alias: str, mark: Mark) -> str:
    return ", ".join(f"{alias}.{mark(key)}" for key in keys)
