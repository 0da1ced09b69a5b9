"""A thread beside the work."""

from __future__ import annotations

from sqlkmeans.background import let_finish


def test_a_second_interrupt_waits_for_what_was_submitted_too() -> None:
    class Executor:
        interrupts = 2

        def shutdown(self) -> None:
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt

    executor = Executor()
    let_finish(executor)  # type: ignore[arg-type]
    assert executor.interrupts == 0
