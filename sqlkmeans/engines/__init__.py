"""Where the arithmetic happens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlkmeans.database.base import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import Engine, Explanation, Fit, NoRows, Unsuited
from sqlkmeans.progress import Advance


def open_engine(name: str) -> Engine:
    """The engine of that name, without rows yet."""
    # Only what is asked for: each brings modules of its own.
    if name == "pushdown":
        from sqlkmeans.engines.pushdown.engine import PushdownEngine

        return PushdownEngine()
    if name == "local":
        from sqlkmeans.engines.local.engine import LocalEngine

        return LocalEngine()
    raise ValueError(f"engine {name!r} given; allowed here: local, pushdown")


def open_rows(
    database: Database,
    segmentation: Segmentation,
    columns: Sequence[str],
    advance: Advance,
    *,
    to_fit: int = 0,
) -> Engine:
    """An engine with the rows of a segmentation.

    Parameters and errors are those of :meth:`Engine.open`. Where a fit is all that is to be done
    with the rows, ``to_fit`` says how many there are, and the engine that fits them in the least
    memory takes them.
    """
    if to_fit:
        from sqlkmeans.engines.local.two_readings import RereadingEngine, suits

        if suits(database, segmentation, to_fit):
            with suppress(Unsuited):
                return _opened(RereadingEngine(), database, segmentation, columns, advance)
    return _opened(open_engine(segmentation.engine), database, segmentation, columns, advance)


def _opened(engine: Engine, *rows: Any) -> Engine:
    try:
        engine.open(*rows)
        return engine
    except BaseException:
        engine.close()
        raise


__all__ = ["Engine", "Explanation", "Fit", "NoRows", "open_engine", "open_rows"]
