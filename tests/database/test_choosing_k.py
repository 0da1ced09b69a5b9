"""Choosing k, on every database."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.pipeline import assign, choose_k, rollback, run
from sqlkmeans.registry import load_segmentation
from support.backends import Backend
from support.published import (
    changed,
    published,
    staging_tables,
)


def test_a_choice_of_k_keeps_its_scores_and_publishes_nothing(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    fitted = run(changed(customers, k=2), database)
    before = published(shop)
    result = choose_k(changed(customers, k_max=4), database)
    assert published(shop) == before
    assert staging_tables(shop) == set()
    assert (result.recommended_k, result.structure, result.rows) == (3, True, 120)
    assert shop.rows(
        'SELECT kind, status, k, "rows", published_at, model_run_id FROM sqlkmeans.run '
        f"WHERE run_id = {result.run_id}"
    ) == [("choose_k", "finished", 3, 120, None, None)]
    columns = list(result.scores[0])
    stored = shop.rows(
        f"SELECT {', '.join(columns)} FROM sqlkmeans.k_score WHERE run_id = {result.run_id} "
        "ORDER BY k"
    )
    assert stored == [tuple(row.values()) for row in result.scores]
    assert [row["k"] for row in result.scores if row["recommended"]] == [3]
    kept = shop.rows(f"SELECT recommendation FROM sqlkmeans.run WHERE run_id = {result.run_id}")
    assert json.loads(kept[0][0]) == {
        "structure": True, "shape": "compact", "recommended_k": 3, "reason": result.reason,
        "runner_up_k": result.runner_up_k,
    }  # fmt: skip
    assert load_segmentation(database, "customers").k == 2
    assert [row["run_id"] for row in database.catalog.published_runs("customers")] == [
        fitted.run_id
    ]


def test_assign_and_rollback_pass_a_choice_of_k_by(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(changed(customers, k=2), database)
    run(customers, database)
    choose_k(changed(customers, k_max=3), database)
    assert assign(customers, database).changed == 0
    rollback("customers", database)
    choose_k(changed(customers, k_max=3), database)
    assert rollback("customers", database, first.run_id).k == 2


def test_a_choice_of_k_can_come_before_the_first_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    assert choose_k(changed(customers, k_max=3), database).recommended_k == 3
    assert load_segmentation(database, "customers").k == 3
    assert run(customers, database).changed == 120


def test_a_run_with_k_auto_takes_the_recommended_k_and_keeps_the_reason(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(changed(customers, k="auto", k_max=5), database)
    assert [s.size for s in result.segments] == [60, 40, 20]
    assert result.recommendation is not None
    assert result.recommendation["recommended_k"] == 3
    assert not any("structure" in warning for warning in result.warnings)
    rows = shop.rows("SELECT k, recommended FROM sqlkmeans.k_score ORDER BY k")
    assert rows == [(2, False), (3, True), (4, False), (5, False)]
    assert load_segmentation(database, "customers").k == "auto"
    same = run(customers, database)
    assert same.changed == 0
    assert same.inertia == result.inertia


def test_a_run_with_k_auto_warns_where_there_is_no_structure(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    points = np.random.default_rng(0).uniform(size=(400, 2)).round(4)
    rows = pa.table({"customer_id": range(400), "income": points[:, 0], "age": points[:, 1]})
    backend.make_table("dbo.customer", rows, "customer_id")
    result = run(changed(customers, k="auto", k_max=4), database)
    assert 2 <= result.k <= 4
    assert result.warnings == [f"no cluster structure: the {result.k} segments cut a continuum"]
    stored = backend.rows("SELECT warnings FROM sqlkmeans.run")
    assert json.loads(stored[0][0]) == result.warnings
    chosen = choose_k(changed(customers, k_max=4), database)
    assert (chosen.structure, chosen.recommended_k) == (False, None)
    row = database.catalog.run(chosen.run_id)
    assert row is not None
    assert row["k"] is None


def test_a_segment_smaller_than_min_share_stops_a_run_and_leaves_all_as_it_was(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    for k in (3, "auto"):
        with pytest.raises(DataError, match=r"min_share = 0\.2"):
            run(changed(customers, k=k, k_min=3, k_max=4, min_share=0.2), database)
    assert published(shop) == before
    assert len(run(changed(customers, k="auto", k_max=4, min_share=0.2), database).segments) == 2


def test_a_choice_of_k_that_fails_says_so_in_its_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.execute("UPDATE dbo.customer SET income = NULL WHERE customer_id = 7")
    with pytest.raises(DataError):
        choose_k(customers, database)
    rows = shop.rows("SELECT kind, status FROM sqlkmeans.run")
    assert rows == [("choose_k", "failed")]
    assert shop.rows("SELECT * FROM sqlkmeans.k_score") == []
