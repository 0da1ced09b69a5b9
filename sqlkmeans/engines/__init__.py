"""Where the arithmetic happens."""

from sqlkmeans.engines.base import Engine, Explanation, Fit


def open_engine(name: str) -> Engine:
    """The engine of that name, without rows yet."""
    from sqlkmeans.engines.local import LocalEngine
    from sqlkmeans.engines.pushdown import PushdownEngine

    engines: dict[str, type[Engine]] = {"local": LocalEngine, "pushdown": PushdownEngine}
    return engines[name]()


__all__ = ["Engine", "Explanation", "Fit", "open_engine"]
