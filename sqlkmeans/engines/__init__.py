"""Where the arithmetic happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlkmeans.database.interface import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Explanation, Fit, NoRows, Unsuited
from sqlkmeans.progress import Advance


def open_engine(name: str) -> Engine:
    """The engine of that name, without rows yet."""
    # Only what is asked for: each brings modules of its own.
    if name == "pushdown":
        from sqlkmeans.engines.pushdown import PushdownEngine

        return PushdownEngine()
    if name == "local":
        from sqlkmeans.engines.local import LocalEngine

        return LocalEngine()
    raise ValueError(f"engine {name!r} given; allowed here: local, pushdown")


def open_to_fit(
    database: Database, segmentation: Segmentation, columns: Sequence[str], advance: Advance
) -> Engine:
    """The engine that fits these rows in the least memory, with them.

    Parameters and errors are those of :meth:`Engine.open`.
    """
    from sqlkmeans.engines.reread import RereadingEngine, suits

    if suits(database, segmentation):
        try:
            return _opened(RereadingEngine(), database, segmentation, columns, advance)
        except Unsuited:
            pass
    return open_with(database, segmentation, columns, advance)


def open_with(
    database: Database, segmentation: Segmentation, columns: Sequence[str], advance: Advance
) -> Engine:
    """The engine that a segmentation names, with its rows; see :meth:`Engine.open`."""
    return _opened(open_engine(segmentation.engine), database, segmentation, columns, advance)


def _opened(engine: Engine, *rows: Any) -> Engine:
    try:
        engine.open(*rows)
        return engine
    except BaseException:
        engine.close()
        raise


__all__ = ["Engine", "Explanation", "Fit", "NoRows", "open_engine", "open_to_fit", "open_with"]
