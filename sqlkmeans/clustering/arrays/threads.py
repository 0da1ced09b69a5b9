"""How many threads do the arithmetic."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import cache
from threading import local
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call ``function`` with each item, on all cores, and return the results in the items' order.

    NumPy and compiled code let go of the interpreter while they work. A call from within another
    has no threads of its own: all cores are at work already.
    """
    if cores() < 2 or len(items) < 2 or hasattr(_at_work, "here"):
        return [function(item) for item in items]

    futures = [_workers(cores()).submit(_at_work_with, function, item) for item in items]
    results: list[Result] = []
    try:
        for future in futures:
            results.append(future.result())
    finally:
        # After an error or an interrupt too, nobody works on when the caller goes on.
        for future in futures:
            future.cancel()
        wait(futures)
        # An error and what it came from here would keep each other alive.
        del future, futures
    return results


def as_they_come(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Generator[Result, None, None]:
    """Call ``function`` with each item as it comes, on all cores; results in the items' order.

    Few items and results are held at a time. Whoever does not take all results has to close the
    iterator.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(_workers(cores()).submit(_at_work_with, function, item))
            if len(waiting) > cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


def _at_work_with(function: Callable[[Item], Result], item: Item) -> Result:
    _at_work.here = True
    try:
        return function(item)
    finally:
        del _at_work.here


_at_work = local()


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    # Kept, because a run has some hundred calls, and starting threads takes as long as the
    # arithmetic on 100,000 rows.
    return ThreadPoolExecutor(count, thread_name_prefix="sqlkmeans")


if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads.
    os.register_at_fork(after_in_child=_workers.cache_clear)


def one_library_thread() -> AbstractContextManager[Any]:
    """Keep OpenMP and BLAS to one thread each.

    Several OpenMP threads add their partial sums in the order in which they finish, which changes
    the last bits from run to run. And both kinds wait for each other by spinning, which costs more
    than it gains on matrices as narrow as these, and most on a machine that has other work.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits
