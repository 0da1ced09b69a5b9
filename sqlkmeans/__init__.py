"""Customer segmentation inside SQL Server: K-Means with stable ids and atomic publishing.

>>> from sqlkmeans import segment
>>> result = segment("customers.csv", key="customer_id")

>>> from sqlkmeans import Segmentation, open_database, run
>>> segmentation = Segmentation.create(
...     name="customers", source="dbo.customer", key="customer_id",
...     features=["income", "age"], k=5, target="dbo.customer_segment")
>>> with open_database("shop.duckdb") as database:
...     result = run(segmentation, database)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlkmeans._version import __version__

if TYPE_CHECKING:
    from sqlkmeans.database import open_database
    from sqlkmeans.definition import FeatureDefinition, Segmentation, load_definition
    from sqlkmeans.errors import (
        DatabaseError,
        DataError,
        DefinitionError,
        LockedError,
        SqlKMeansError,
    )
    from sqlkmeans.explanation import CustomerExplanation, explain
    from sqlkmeans.exporting import export_labels
    from sqlkmeans.model import SegmentModel
    from sqlkmeans.pipeline import assign, choose_k, drop, rename, rollback, run
    from sqlkmeans.registry import load_model
    from sqlkmeans.report.page import write_report
    from sqlkmeans.result import ChoiceResult, RunResult, SegmentResult
    from sqlkmeans.segmenting import Segments, segment

# Loaded when first used: `sqlkmeans --help` must not wait for scikit-learn.
_HOMES = {
    "open_database": "database",
    "FeatureDefinition": "definition",
    "Segmentation": "definition",
    "load_definition": "definition",
    "DatabaseError": "errors",
    "DataError": "errors",
    "DefinitionError": "errors",
    "LockedError": "errors",
    "SqlKMeansError": "errors",
    "CustomerExplanation": "explanation",
    "explain": "explanation",
    "export_labels": "exporting",
    "SegmentModel": "model",
    "assign": "pipeline",
    "choose_k": "pipeline",
    "drop": "pipeline",
    "rename": "pipeline",
    "rollback": "pipeline",
    "run": "pipeline",
    "Segments": "segmenting",
    "segment": "segmenting",
    "load_model": "registry",
    "ChoiceResult": "result",
    "RunResult": "result",
    "SegmentResult": "result",
    "write_report": "report.page",
}

__all__ = [
    "ChoiceResult",
    "CustomerExplanation",
    "DataError",
    "DatabaseError",
    "DefinitionError",
    "FeatureDefinition",
    "LockedError",
    "RunResult",
    "SegmentModel",
    "SegmentResult",
    "Segmentation",
    "Segments",
    "SqlKMeansError",
    "__version__",
    "assign",
    "choose_k",
    "drop",
    "explain",
    "export_labels",
    "load_definition",
    "load_model",
    "open_database",
    "rename",
    "rollback",
    "run",
    "segment",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"sqlkmeans.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sqlkmeans' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
