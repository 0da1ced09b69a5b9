"""Keys of every type are carried exactly, on every database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.pipeline import run
from support.backends import Backend
from support.published import (
    SEGMENT,
    changed,
    labels,
    published,
)

AWKWARD_TEXTS = [
    "O'Brien", 'a "quoted" one', "Zoë 漢字 🙂", "; DROP TABLE x --", "", " x", "\\", "line\nbreak",
]  # fmt: skip


def _key_values(kind: str, count: int) -> list[Any]:
    values: Callable[[int], Any] = {
        "integer": lambda i: i - 5,
        "bigint": lambda i: 9_007_199_254_740_993 + 2 * i,
        "text": lambda i: (AWKWARD_TEXTS + ["plain"] * 9)[i] + ("" if i < 8 else str(i)),
        "uuid": lambda i: UUID(int=(0xF0 << 120) + i * 7919),
        "date": lambda i: date.fromordinal(date(1899, 12, 28).toordinal() + i),
        "decimal": lambda i: Decimal(i) + Decimal("0.07"),
    }[kind]
    return [values(i) for i in range(count)]


@pytest.mark.parametrize("kind", ["integer", "bigint", "text", "uuid", "date", "decimal"])
def test_keys_are_carried_exactly_with_the_type_of_the_source(
    kind: str, backend: Backend, database: Database, customers: Segmentation
) -> None:
    values = _key_values(kind, 12)
    given = [str(value) if kind == "uuid" else value for value in values]
    rows = pa.table({"id": given, "x": [float(i % 2 * 100 + i) for i in range(12)]})
    backend.make_table("dbo.customer", rows, "id", {"id": backend.types[kind]})
    segmentation = changed(customers, key="id", features=["x"], k=2)
    run(segmentation, database)
    expected = sorted(str(value) for value in values)
    assert sorted(str(key) for key in labels(backend, key="id")) == expected
    history = backend.rows(f"SELECT id FROM {SEGMENT}_history")
    assert sorted(str(key) for (key,) in history) == expected
    source_type = next(c.type for c in database.describe("dbo.customer") if c.name == "id")
    assert database.describe(SEGMENT)[0].type == source_type
    assert run(segmentation, database).changed == 0


def test_a_key_of_two_columns_is_carried_exactly(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    shops, numbers = ["north", "north", "süd", "süd"] * 3, list(range(12))
    rows = pa.table({"shop": shops, "number": numbers, "x": [i % 2 * 50.0 + i for i in numbers]})
    types = {"shop": backend.types["text"], "number": backend.types["integer"]}
    backend.make_table("dbo.customer", rows, ["shop", "number"], types)
    segmentation = changed(customers, key=["shop", "number"], features=["x"], k=2)
    run(segmentation, database)
    found = backend.rows(f"SELECT shop, number FROM {SEGMENT}")
    assert sorted(found) == sorted(zip(shops, numbers))
    backend.execute("DELETE FROM dbo.customer WHERE number IN (2, 3)")
    backend.execute("INSERT INTO dbo.customer (shop, number, x) VALUES ('north', 2, 3.5)")
    result = run(segmentation, database)
    # (north, 3) was never there: the pair counts, not its parts.
    assert (result.arrived, result.departed) == (1, 2)
    assert ("north", 2) in backend.rows(f"SELECT shop, number FROM {SEGMENT}")


def test_half_of_a_composite_key_may_repeat_but_not_all_of_it(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    rows = pa.table({"shop": [1, 1, 2, 2, 2], "number": [1, 2, 1, 2, 2], "x": [1.0, 2, 3, 4, 5]})
    backend.make_table("dbo.customer", rows, None)
    segmentation = changed(customers, key=["shop", "number"], features=["x"], k=2)
    with pytest.raises(
        DataError, match=r"key shop, number: not unique; 1 row.*\(for example 2, 2\)"
    ):
        run(segmentation, database)


def test_a_key_whose_type_changed_is_refused(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    text = shop.types["text"]
    source = f"SELECT CAST(customer_id AS {text}) AS customer_id, income, age FROM dbo.customer"
    with pytest.raises(DataError, match=r"key customer_id: .* in the source and .* in dbo"):
        run(changed(customers, source=source), database)
    assert published(shop) == before


@pytest.mark.parametrize("kind", ["float"])
def test_a_key_that_cannot_be_compared_exactly_is_refused(
    kind: str, shop: Backend, database: Database, customers: Segmentation
) -> None:
    source = (
        f"SELECT CAST(customer_id AS {shop.types[kind]}) AS customer_id, income, age "
        "FROM dbo.customer"
    )
    with pytest.raises(DataError, match=r"key customer_id: its type is .*, which cannot be a key"):
        run(changed(customers, source=source), database)
