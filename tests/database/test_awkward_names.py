"""Names that need quoting, and names that are attacks, on every database."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.pipeline import assign, rename, rollback, run
from sqlkmeans.registry import load_model
from sqlkmeans.sqltext import parse_name, quote, quote_name
from support.backends import Backend
from support.published import (
    changed,
    labels,
    names,
)
from support.shops import MakeCustomers


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("dbo.[My Table]]x]", "dbo.[My Segments]]x]"),
        ('dbo."sel""ect"', 'dbo."seg.ment"'),
        ("[order]", "[group]"),
        ("dbo.Kunden_Ü", "dbo.[Käufer № 1]"),
        ("dbo.[; DROP TABLE dbo.customer --]", "dbo.['; DROP TABLE dbo.customer --]"),
    ],
)
def test_awkward_table_names_work_in_every_job(
    source: str,
    target: str,
    backend: Backend,
    database: Database,
    customers: Segmentation,
    make_customers: MakeCustomers,
) -> None:
    backend.require_names(tables=[source, target])
    backend.make_table(source, make_customers([20, 10]), "customer_id")
    segmentation = changed(customers, source=source, target=target, k=2)
    run(segmentation, database)
    backend.execute(f"DELETE FROM {quote_name(parse_name(source))} WHERE customer_id > 25")
    assert assign(segmentation, database).departed == 5
    assert len(labels(backend, target)) == 25
    assert rollback("customers", database).arrived == 5
    assert len(labels(backend, target)) == 30


@pytest.mark.parametrize(
    ("key", "feature"),
    [
        ("order", "select"),
        ("Kunde №", "Umsatz in €"),
        ('we"ird', "it's"),
        ("[id]", "a]b"),
        ("new", "old"),
        ("label", "change"),
        ("old_segment_id", "segment_id"),
        ("name", "run_id"),
        ("x'; DROP TABLE dbo.customer; --", 'y"; DROP TABLE dbo.customer; --'),
    ],
)
def test_awkward_column_names_work(
    key: str, feature: str, backend: Backend, database: Database, customers: Segmentation
) -> None:
    backend.require_names(columns=[key, feature])
    rows = pa.table({key: list(range(10)), feature: [1.0, 2, 1, 2, 1, 52, 51, 52, 51, 50]})
    backend.make_table("dbo.customer", rows, key)
    segmentation = changed(customers, key=key, features=[feature], k=2)
    run(segmentation, database)
    backend.execute(f"DELETE FROM dbo.customer WHERE {quote(key)} = 9")
    assert run(segmentation, database).departed == 1
    assert sorted(labels(backend, key=key)) == list(range(9))
    assert load_model("customers", database).columns == [feature]


@pytest.mark.parametrize(
    "values",
    [
        {"source": "dbo.customer; DROP TABLE dbo.customer"},
        {"source": "dbo.customer) AS x; DROP TABLE dbo.customer --"},
        {"source": "SELECT * FROM dbo.customer; DROP TABLE dbo.customer"},
        {"source": "SELECT * FROM dbo.customer) AS x; DROP TABLE dbo.customer --"},
        {"source": "DROP TABLE dbo.customer"},
        {"source": "SELECT customer_id, income, age INTO dbo.stolen FROM dbo.customer"},
        {"target": "dbo.x; DROP TABLE dbo.customer"},
        {"target": 'dbo.x"; DROP TABLE dbo.customer; --'},
        {"target": "dbo.customer_segment (a int)"},
        {"name": "x'; DROP TABLE dbo.customer; --"},
    ],
)
def test_an_injection_is_refused_by_the_definition(
    values: dict[str, str], customers: Segmentation
) -> None:
    with pytest.raises(DefinitionError):
        changed(customers, **values)


@pytest.mark.parametrize("place", ["key", "features"])
def test_an_injection_in_a_column_name_is_only_a_column_that_does_not_exist(
    place: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    attempts = [
        'income"; DROP TABLE dbo.customer; --', "income]; DROP TABLE dbo.customer; --",
        "income FROM dbo.customer; DROP TABLE dbo.customer; --", "(SELECT 1)", "1",
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(DataError, match="no such column"):
            run(changed(customers, **{place: [attempt]}), database)
    assert shop.rows("SELECT COUNT(*) FROM dbo.customer") == [(120,)]


def test_an_injection_in_a_segment_name_is_only_a_name(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    name = "'); DROP TABLE dbo.customer; --"
    rename("customers", database, 1, name, name)
    run(customers, database)
    assert names(shop)[1] == name
    assert shop.rows("SELECT COUNT(*) FROM dbo.customer") == [(120,)]
