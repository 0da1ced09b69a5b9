"""Where the arithmetic happens."""

from sqlkmeans.engines.base import Engine, Explanation, Fit, NoRows


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


__all__ = ["Engine", "Explanation", "Fit", "NoRows", "open_engine"]
