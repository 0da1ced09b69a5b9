"""Schema sqlkmeans: installing, uninstalling, checking and the catalog, on every database."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import SqlKMeansError
from sqlkmeans.pipeline import run
from support.backends import Backend
from support.published import (
    changed,
    labels,
)


def test_install_can_be_repeated(backend: Backend, database: Database) -> None:
    version = database.install()
    assert version >= 1
    assert database.install() == version
    assert database.schema_version() == version
    assert backend.rows("SELECT COUNT(*) FROM sqlkmeans.schema_version") == [(version,)]


def test_uninstall_prints_what_it_would_drop_and_drops_it_only_when_told(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    statements = database.uninstall(execute=False)
    assert any("customer_segment_history" in statement for statement in statements)
    assert "run" in shop.tables("sqlkmeans")
    assert database.uninstall(execute=True) == statements
    assert database.schema_version() == 0
    assert shop.tables("sqlkmeans") == set()
    assert {"customer", "customer_segment"} <= shop.tables("dbo")
    assert not {"customer_segment_history", "customer_segment_named"} & shop.tables("dbo")
    assert len(labels(shop)) == 120


def test_uninstall_drops_nothing_that_the_package_did_not_make(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    shop.make_table("dbo.mine_history", pa.table({"note": ["a"]}), None)
    with pytest.raises(SqlKMeansError):
        run(
            changed(customers, source="SELECT * FROM dbo.customer WHERE 1 = 0", target="dbo.mine"),
            database,
        )
    database.uninstall(execute=True)
    assert shop.rows("SELECT * FROM dbo.mine_history") == [("a",)]


def test_doctor_finds_nothing_to_do_after_a_run(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    findings = database.doctor()
    assert findings
    assert [finding for finding in findings if finding.ok is False] == []


def test_the_catalog_lists_runs_newest_first(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    ids = [run(customers, database).run_id for _ in range(3)]
    other = changed(customers, name="other", target="dbo.other")
    ids.append(run(other, database).run_id)
    catalog = database.catalog
    assert [row["run_id"] for row in catalog.runs()] == ids[::-1]
    assert [row["run_id"] for row in catalog.runs("customers", 2)] == [ids[2], ids[1]]
    assert [row["name"] for row in catalog.segmentations()] == ["customers", "other"]


def test_the_registered_definition_is_the_one_that_ran(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    [(text,)] = shop.rows("SELECT definition FROM sqlkmeans.segmentation")
    assert Segmentation.from_json(text) == customers
