"""What to cluster and where the labels go: from TOML, from JSON, or as a Python object."""

from __future__ import annotations

from sqlkmeans.definition.file import Definition, load_definition, parse_definition
from sqlkmeans.definition.segmentation import FeatureDefinition, Guard, Segmentation
from sqlkmeans.definition.values import PUBLISHED_COLUMNS, RESERVED

__all__ = [
    "PUBLISHED_COLUMNS",
    "RESERVED",
    "Definition",
    "FeatureDefinition",
    "Guard",
    "Segmentation",
    "load_definition",
    "parse_definition",
]
