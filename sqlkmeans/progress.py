"""What a long job tells while it works, and how long each of its steps took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


class Progress:
    """Times the steps of a job; a subclass shows them.

    Attributes
    ----------
    seconds : dict of str to float
        Wall time of each finished step; a step that ran twice is added up.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Time a step; call what it yields with the number of rows or passes just done."""
        started = time.perf_counter()
        with self.shown(name, total) as advance:
            yield advance
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @contextmanager
    def shown(self, name: str, total: int | None) -> Iterator[Advance]:
        """Show a step while it runs; here, nothing."""
        yield lambda done: None

    def rounded(self) -> dict[str, float]:
        """Seconds of read, fit, assign and publish and in total, to the millisecond."""
        names = ("read", "fit", "assign", "publish")
        seconds = {name: round(self.seconds.get(name, 0.0), 3) for name in names}
        return {**seconds, "total": round(time.perf_counter() - self._started, 3)}
