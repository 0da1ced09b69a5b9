"""Where the arithmetic happens."""

from sqlkmeans.engines.base import Engine, Explanation, Fit


def open_engine(name: str) -> Engine:
    """The engine of that name, ready to read."""
    from sqlkmeans.engines.local import LocalEngine

    return {"local": LocalEngine}[name]()


__all__ = ["Engine", "Explanation", "Fit", "open_engine"]
