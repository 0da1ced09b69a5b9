"""What a segmentation of ``dbo.customer`` has published, seen from outside, on every database."""

from __future__ import annotations

from typing import Any

from sqlkmeans.definition import Segmentation
from sqlkmeans.sqltext import parse_name, quote, quote_name
from support.backends import Backend

SEGMENT = "dbo.customer_segment"


def changed(segmentation: Segmentation, **values: Any) -> Segmentation:
    """The same segmentation but for some keys, checked again."""
    return Segmentation.create(**{**segmentation.model_dump(), **values})


def labels(backend: Backend, target: str = SEGMENT, key: str = "customer_id") -> dict[Any, int]:
    """Customers and their segments."""
    name = quote_name(parse_name(target))
    return dict(backend.rows(f"SELECT {quote(key)}, segment_id FROM {name}"))


def target_rows(backend: Backend) -> list[tuple[Any, ...]]:
    """The whole segment table, in order."""
    return sorted(backend.rows(f"SELECT * FROM {SEGMENT}"))


def sizes(backend: Backend, target: str = SEGMENT) -> dict[int, int]:
    """How many customers each segment has."""
    name = quote_name(parse_name(target))
    return dict(backend.rows(f"SELECT segment_id, COUNT(*) FROM {name} GROUP BY segment_id"))


def names(backend: Backend) -> dict[int, str]:
    """Segments and their names, as the view beside the target has them."""
    query = f"SELECT DISTINCT segment_id, segment_name FROM {SEGMENT}_named"
    return dict(backend.rows(query))


def published(backend: Backend) -> dict[str, Any]:
    """All that a failed job has to leave as it was."""
    return {
        "target": target_rows(backend),
        "history": sorted(backend.rows(f"SELECT * FROM {SEGMENT}_history"), key=str),
        "named": sorted(backend.rows(f"SELECT * FROM {SEGMENT}_named")),
        "active": backend.rows(
            "SELECT name, active_run_id, last_segment_id FROM sqlkmeans.segmentation"
        ),
        "results": [
            sorted(backend.rows(f"SELECT * FROM sqlkmeans.{table}"), key=str)
            for table in ("segment", "segment_feature", "centroid", "model_feature")
        ],
    }


def as_of(backend: Backend, run_id: int) -> dict[int, int]:
    """Who was in which segment right after a run."""
    moment = f"(SELECT published_at FROM sqlkmeans.run WHERE run_id = {run_id})"
    return dict(
        backend.rows(
            f"SELECT customer_id, segment_id FROM {SEGMENT}_history "
            f"WHERE valid_from <= {moment} AND (valid_to IS NULL OR valid_to > {moment})"
        )
    )


def staging_tables(backend: Backend) -> set[str]:
    """What is left in the schema of a run that has not ended."""
    known = {"schema_version", "segmentation", "run", "model_feature", "centroid", "segment",
             "segment_feature", "k_score"}  # fmt: skip
    return {name for name in backend.tables("sqlkmeans") if "stag" in name} | {
        name for name in backend.tables("sqlkmeans") - known if name.split("_")[-1].isdigit()
    }
