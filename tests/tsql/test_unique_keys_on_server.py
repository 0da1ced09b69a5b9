"""Where the server itself keeps keys apart, and a night need not look for repeats."""

from __future__ import annotations

import json

import pytest

from support.statement_log import statement_log
from support.tsql_server import Server, make_customers, versions_are_read

pytestmark = pytest.mark.sqlserver

TABLES = """
CREATE TABLE dbo.keyed (id int NOT NULL PRIMARY KEY, [My Schlüssel] int NOT NULL, n int NULL);
CREATE TABLE dbo.pair (a int NOT NULL, b nvarchar(9) NOT NULL, n int NULL, PRIMARY KEY (a, b));
CREATE TABLE dbo.named (id int NOT NULL, [My Schlüssel] int NOT NULL UNIQUE, n int NULL);
CREATE UNIQUE INDEX nullable ON dbo.named (n);
CREATE INDEX repeated ON dbo.named (id);
GO
CREATE VIEW dbo.seen AS SELECT id, n FROM dbo.keyed;
"""


def test_a_table_is_trusted_whose_index_has_the_key_once_and_never_null(server: Server) -> None:
    server.script(TABLES)
    database = server.value("SELECT DB_NAME();")
    cases = {
        ("dbo.keyed", ("id",)): True,
        ("keyed", ("id",)): True,
        ("dbo.keyed", ("id", "My Schlüssel")): True,
        ("dbo.named", ("My Schlüssel",)): True,
        ("dbo.pair", ("b", "a")): True,
        ("dbo.keyed", ("id", "n")): False,  # n may be NULL
        ("dbo.keyed", ("n",)): False,
        ("dbo.keyed", ("My Schlüssel",)): False,
        ("dbo.pair", ("a",)): False,
        ("dbo.named", ("id",)): False,
        ("dbo.named", ("n",)): False,
        ("dbo.seen", ("id",)): False,
        ("SELECT id FROM dbo.keyed", ("id",)): False,
        (f"{database}.dbo.keyed", ("id",)): False,
        ("dbo.nowhere", ("id",)): False,
        ("dbo.keyed", ("nowhere",)): False,
    }
    found = {
        (source, key): bool(
            server.value("SELECT sqlkmeans.has_unique_key(?, ?);", source, json.dumps(key))
        )
        for source, key in cases
    }
    read = versions_are_read(server)
    assert found == {case: trusted and read for case, trusted in cases.items()}


@pytest.mark.parametrize("source", ["dbo.customer", "SELECT * FROM dbo.customer"])
def test_a_night_looks_for_repeated_keys_where_nothing_keeps_them_apart(
    server: Server, source: str
) -> None:
    make_customers(server)
    server.rows(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = N'customers', @source = ?, "
        "@key = N'customer_id', @features = N'income, age', @k = 3, "
        "@target = N'dbo.customers_segment';", source,
    )  # fmt: skip
    server.rows("EXECUTE sqlkmeans.run_segmentation @segmentation = N'customers', "
                "@engine = N'tsql';")  # fmt: skip
    with statement_log(server) as statements:
        server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
        looked = [text for text in statements() if "HAVING COUNT_BIG(*) > 1" in text]
    kept_apart = source == "dbo.customer" and versions_are_read(server)
    assert len(looked) == (0 if kept_apart else 1)
