"""JSON in which no key is given twice."""

from __future__ import annotations

import json
from typing import Any

from sqlkmeans.definition.values import repeated


def read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two, each reader would take another."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"given twice: {', '.join(repeated(name for name, _ in pairs))}")
    return values


def reason_of(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
