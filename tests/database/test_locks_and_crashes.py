"""One run at a time, and what an interrupted or killed one leaves, on every database."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, LockedError, SqlKMeansError
from sqlkmeans.pipeline import assign, rename, rollback, run
from sqlkmeans.progress import Progress
from support.backends import Backend
from support.published import (
    changed,
    published,
    staging_tables,
)


def test_a_second_run_at_the_same_time_is_refused_and_changes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    errors: list[BaseException] = []

    def second() -> None:
        with shop.open() as other:
            for job in (
                lambda: run(changed(customers, k=2), other),
                lambda: assign(customers, other),
                lambda: rename("customers", other, 1, "taken"),
                lambda: rollback("customers", other, 1),
            ):
                try:
                    job()
                except SqlKMeansError as error:
                    errors.append(error)

    with database.store.lock("customers"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(60)
    assert [type(error) for error in errors] == [LockedError] * 4
    assert errors[0].exit_code == 5  # type: ignore[attr-defined]
    assert published(shop) == before
    assert shop.rows("SELECT COUNT(*) FROM sqlkmeans.run") == [(1,)]


def test_of_two_runs_that_overlap_one_publishes_and_the_other_is_refused(
    shop: Backend, customers: Segmentation
) -> None:
    reading, refused = threading.Event(), threading.Event()

    class Waits(Progress):
        @contextmanager
        def shown(self, name: str, total: int | None):  # type: ignore[no-untyped-def]
            if name == "fit":
                reading.set()
                refused.wait(60)
            yield lambda done: None

    outcome: list[Any] = []

    def first() -> None:
        with shop.open() as one:
            outcome.append(run(customers, one, Waits()))

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert reading.wait(60)
        with shop.open() as two, pytest.raises(LockedError):
            run(customers, two)
    finally:
        refused.set()
        thread.join(60)
    assert outcome[0].changed == 120
    assert shop.rows("SELECT status FROM sqlkmeans.run") == [("published",)]


def test_the_lock_is_free_again_after_a_failure(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    with pytest.raises(DataError):
        run(changed(customers, features=["nothing"]), database)
    with pytest.raises(RuntimeError), database.store.lock("customers"):
        raise RuntimeError
    assert run(customers, database).changed == 120


def test_the_lock_of_one_segmentation_does_not_hold_another(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    with shop.open() as other, other.store.lock("something_else"):
        assert run(customers, database).changed == 120


def test_an_interrupt_between_staging_and_publishing_changes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    class Interrupted(Progress):
        @contextmanager
        def shown(self, name: str, total: int | None):  # type: ignore[no-untyped-def]
            if name == "assign":
                raise KeyboardInterrupt
            yield lambda done: None

    run(customers, database)
    before = published(shop)
    shop.execute("DELETE FROM dbo.customer WHERE customer_id <= 30")
    with pytest.raises(KeyboardInterrupt):
        run(customers, database, Interrupted())
    assert published(shop) == before
    assert staging_tables(shop) == set()
    assert shop.rows("SELECT error FROM sqlkmeans.run WHERE status = 'failed'") == [
        ("interrupted",)
    ]


def test_a_run_reclaims_what_a_killed_one_left(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    row = {"kind": "fit", "engine": "local", "k": 3}
    dead = database.store.start(customers, row)
    database.labels.stage(
        customers, dead, pa.table({"customer_id": pa.array([1, 2], pa.int64())}),
        np.zeros(2, dtype=np.int32), np.zeros(2),
    )  # fmt: skip
    other = database.store.start(changed(customers, name="other", target="dbo.other"), row)
    assert run(customers, database).changed == 0
    assert staging_tables(shop) <= {f"staging_{other}"}
    status = dict(shop.rows("SELECT run_id, status FROM sqlkmeans.run"))
    assert status[dead] == "failed"
    # Another segmentation's run may be alive.
    assert status[other] == "running"
    [(error, finished)] = shop.rows(
        f"SELECT error, finished_at FROM sqlkmeans.run WHERE run_id = {dead}"
    )
    assert "ended before it finished" in error
    assert finished is not None


def test_no_staging_table_remains_after_any_job(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    for job in (run, assign, run):
        job(customers, database)
        assert staging_tables(shop) == set()
    rollback("customers", database)
    assert staging_tables(shop) == set()
