"""The self-test: a record of what Python makes, texts that are SQL, and nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sqlkmeans.database import open_database
from support import self_test_record
from support.tsql_files import GRAMMARS, check, read
from support.tsql_server import Server

PARTS = [f"procedures/self_test_{part}.sql" for part in ("engines", "jobs", "refusals", "people",
                                                         "end")]  # fmt: skip
ROLES = ("nobody", "reader", "operator", "admin")


def statements(name: str) -> list[str]:
    """The checks of a file that stand there whole, with their gaps filled."""
    found = re.findall(r"N'(\n(?:[^']|'')*;)'", read(name))
    gaps = {
        "{engine}": "tsql", "{k}": "10", "{columns}": "f1 float", "{values}": "1",
        "{names}": "c.f1",
        "[{features}]": "[]", "{features}": "N''[]''", "{keys}": "N''[]''",
        "{segmentation}": "sqlkmeans_self_test_x", "{source}": "N''x''",
        "{target}": "N''sqlkmeans_self_test.x''", "{table}": "[x]", "{named}": "[x]",
        "{key}": "[x]", "{feature}": "[x]",
    }  # fmt: skip
    texts = []
    for text in found:
        for gap, filled in gaps.items():
            text = text.replace(gap, filled)
        texts.append(text.replace("''", "'"))
    return texts


# What Python says


def test_the_record_is_what_python_makes_of_these_customers() -> None:
    made, stands = self_test_record.compute(), self_test_record.recorded()
    assert [row[:3] for row in stands] == [row[:3] for row in made.rows]
    assert [row[3] for row in stands] == pytest.approx([row[3] for row in made.rows], abs=1e-12)


def test_the_segments_that_the_customers_are_made_with_are_those_that_python_finds() -> None:
    made = self_test_record.compute()
    customers = self_test_record.customers()
    assert len(customers) == 300
    assert {row[0]: row[4] for row in customers} == made.labels


def test_the_record_is_about_the_definition_that_the_self_test_trains() -> None:
    assert f"@features = N''{self_test_record.FEATURES}''" in read(
        "procedures/self_test_engines.sql"
    )


def test_the_record_is_written_as_it_stands() -> None:
    text = self_test_record.FILE.read_text(encoding="utf-8")
    assert self_test_record.text_of(self_test_record.recorded()) == text


# What the server reads


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("name", PARTS)
def test_every_check_is_sql(name: str, grammar: str) -> None:
    found = statements(name)
    assert found
    refused = [text for text in found if check(text, grammar)]
    assert not refused


def test_every_segmentation_of_the_self_test_has_its_prefix_and_its_schema() -> None:
    for name in PARTS:
        for text in statements(name):
            names = re.findall(r"@segmentation = N'(\w+)'", text)
            assert all(found.startswith("sqlkmeans_self_test_") for found in names), text
            targets = re.findall(r"@target = N'([^']*)'", text)
            assert all(re.match(r"sqlkmeans_self_test(_other)?\.", found) for found in targets), (
                text
            )


def test_what_each_role_may_do_stands_in_the_documentation_as_it_is_checked() -> None:
    text = read("procedures/self_test_people.sql")
    checked = {
        action: [sign == "1" for sign in may]
        for action, may in re.findall(r"\(\d+, N'([^']+)', N'([01]{4})', N'", text)
    }
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    table = page.split("| may | ")[1].split("\n\n")[0].splitlines()
    assert [cell.strip(" `|") for cell in table[0].split(" | ")] == list(ROLES)
    told = {}
    for line in table[2:]:
        action, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        told[action] = [cell == "yes" for cell in cells]
    assert len(checked) > 10
    assert told == checked


# What it finds


@pytest.mark.sqlserver
def test_it_passes_twice_and_leaves_nothing_behind(server: Server) -> None:
    def everything() -> set[tuple[str, ...]]:
        return set(server.rows(
            "SELECT s.name, o.name FROM sys.objects AS o "
            "INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id "
            "WHERE s.name NOT IN (N'sys', N'INFORMATION_SCHEMA', N'information_schema_tsql') "
            "UNION ALL SELECT N'', p.name FROM sys.database_principals AS p "
            "UNION ALL SELECT N'schema', s.name FROM sys.schemas AS s "
            "UNION ALL SELECT N'run', CAST(r.run_id AS nvarchar(20)) FROM sqlkmeans.run AS r "
            "UNION ALL SELECT N'segmentation', g.name FROM sqlkmeans.segmentation AS g;"
        ))  # fmt: skip

    before = everything()
    with open_database(server.url.render_as_string(hide_password=False)) as database:
        for _ in range(2):
            report = database.self_test()
            assert [found for found in report["results"] if found["ok"] is False] == []
            assert report["passed"] > 30
            assert everything() == before


@pytest.mark.sqlserver
def test_it_drops_what_an_earlier_one_kept_or_was_killed_at(server: Server) -> None:
    server.rows("CREATE SCHEMA sqlkmeans_self_test;")
    server.rows("CREATE TABLE sqlkmeans_self_test.made_by_self_test (nothing int);")
    server.rows("CREATE TABLE sqlkmeans_self_test.customer (nothing int);")
    dropped = server.rows(
        "DECLARE @p nvarchar(max); "
        "EXECUTE sqlkmeans.self_test_drop @problem = @p OUTPUT; SELECT @p;"
    )
    assert dropped == [(None,)]
    assert server.value("SELECT SCHEMA_ID(N'sqlkmeans_self_test');") is None


@pytest.mark.sqlserver
def test_it_touches_no_schema_of_that_name_that_it_did_not_make(server: Server) -> None:
    server.rows("CREATE SCHEMA sqlkmeans_self_test;")
    server.rows("CREATE TABLE sqlkmeans_self_test.mine (a int);")
    try:
        assert "did not make it" in server.error("EXECUTE sqlkmeans.self_test;")
        assert server.value("SELECT COUNT(*) FROM sqlkmeans_self_test.mine;") == 0
    finally:
        server.rows("DROP TABLE sqlkmeans_self_test.mine;")
        server.rows("DROP SCHEMA sqlkmeans_self_test;")
