"""One thing that is done in a thread while another is done here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[ThreadPoolExecutor]:
    """A thread that does what is submitted, one after the other; whoever leaves waits for it."""
    executor = ThreadPoolExecutor(max_workers=1)
    try:
        yield executor
    finally:
        let_finish(executor)


def let_finish(executor: ThreadPoolExecutor) -> None:
    """Wait for what was submitted: its connection must not be closed under it, by Ctrl-C twice."""
    while True:
        try:
            return executor.shutdown()
        except KeyboardInterrupt:
            continue
