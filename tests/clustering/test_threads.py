"""Work on all cores."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from threading import current_thread
from time import sleep

import pytest

from sqlkmeans.clustering.arrays import threads
from sqlkmeans.clustering.arrays.threads import as_they_come, in_threads


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)


def test_results_come_in_the_order_of_the_items() -> None:
    assert in_threads(lambda item: item * 2, range(100)) == list(range(0, 200, 2))


def test_a_call_within_a_call_does_its_work_itself() -> None:
    def inner(_: int) -> str:
        return current_thread().name

    def outer(_: int) -> tuple[str, list[str]]:
        return current_thread().name, in_threads(inner, range(3))

    for here, within in in_threads(outer, range(8)):
        assert here != current_thread().name
        assert within == [here] * 3


def test_an_error_comes_out_and_the_threads_serve_on() -> None:
    def divide(item: int) -> float:
        return 1 / item

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            in_threads(divide, range(4))
    assert in_threads(divide, [1, 2, 4]) == [1, 0.5, 0.25]


def test_after_an_error_nobody_works_on() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise MemoryError
        sleep(0.05)
        ended.append(item)

    with pytest.raises(MemoryError):
        in_threads(work, range(20))
    assert sorted(begun) == [0, *sorted(ended)]
    assert len(begun) < 20


def test_results_of_items_that_come_are_in_their_order_and_few_are_held() -> None:
    taken, given = [0], [0]

    def items() -> Iterator[int]:
        for item in range(50):
            given[0] += 1
            assert given[0] - taken[0] <= 4
            yield item

    def work(item: int) -> int:
        sleep(0.001 * (item % 3))
        return item * 2

    for expected, found in enumerate(as_they_come(work, items())):
        assert found == 2 * expected
        taken[0] += 1
    assert taken == [50]


def test_an_error_in_an_item_or_in_what_gives_them_ends_all_work() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise MemoryError
        sleep(0.01)
        ended.append(item)

    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("no more")

    with pytest.raises(MemoryError):
        list(as_they_come(work, range(100)))
    assert sorted(begun) == sorted([3, *ended])
    assert len(begun) < 10
    begun.clear()
    ended.clear()
    with pytest.raises(OSError, match="no more"):
        list(as_they_come(work, items()))
    assert sorted(begun) == sorted(ended)


def test_whoever_stops_early_leaves_nobody_at_work() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        sleep(0.01)
        ended.append(item)
        return item

    with closing(as_they_come(work, range(100))) as results:
        assert next(results) == 0
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_has_threads_of_its_own() -> None:
    assert in_threads(abs, [-1, -2]) == [1, 2]
    child = os.fork()
    if child == 0:
        if hasattr(signal, "alarm"):
            signal.alarm(20)  # a child that waits for its parent's threads would do so for ever
        os._exit(0 if in_threads(abs, [-3, -4]) == [3, 4] else 1)
    assert os.waitpid(child, 0)[1] == 0
