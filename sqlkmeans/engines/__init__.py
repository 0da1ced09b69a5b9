"""Where the arithmetic happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlkmeans.engines.base import Engine, Labelled, Plan, Rows
from sqlkmeans.names import ENGINES, find

if TYPE_CHECKING:
    from sqlkmeans.engines.server.engine import ServerEngine


def engine_of(name: str) -> Engine | ServerEngine:
    """The engine of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in ENGINES:
        raise ValueError(f"engine {name!r} given; allowed here: {', '.join(ENGINES)}")
    # Only what is asked for: each brings modules of its own.
    engine: Engine | ServerEngine = find(ENGINES[name])()
    return engine


__all__ = ["Engine", "Labelled", "Plan", "Rows", "engine_of"]
