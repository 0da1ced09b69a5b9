"""Statements that procedures build: recorded on a server, parsed anywhere.

A parser sees them as texts inside a procedure, so a mistake in one would be found by a user. The
test with a server records what a whole life of a segmentation executes and holds it against
``golden/statements.sql``; the test without parses that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.people import make_people, publish
from support.statement_log import statement_log
from support.tsql_files import GRAMMARS, RECORDED, check, read, recorded_statements
from support.tsql_server import DEFINE, SIZES_AFTER, Server, make_customers, publish_changes, train


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_recorded_statement_is_sql(grammar: str) -> None:
    assert len(recorded_statements()) > 30
    assert not check(RECORDED.read_text(encoding="utf-8"), grammar)


@pytest.mark.parametrize(
    "part",
    ["CREATE TABLE sqlkmeans.[staging", "CREATE TABLE "
     "[dbo].[customer_segment] ", "CREATE TABLE [dbo].[customer_segment_history]", "CREATE VIEW "
     "[dbo].[customer_segment_named]", "WITH (TABLOCK)", "WITH (TABLOCKX, HOLDLOCK)",
     "FUNCTION sqlkmeans.[assign_customers]", "FUNCTION sqlkmeans.[explain_customers]",
     "CREATE VIEW sqlkmeans.segment_movement",
     "AND s.departed = 1",
     "INSERT INTO #sqlkmeans_held (segment_id, size) SELECT t.segment_id, COUNT_BIG(*)",
     "ROW_NUMBER() OVER", "sp_execute_external_script", "nvarchar(4000), @joined "
     "date", "COLLATE Latin1_General_100_BIN2 IN (N'Oslo.', N'São Paulo.', N'it''s.')",
     "CAST(s.[home city] AS nvarchar(101))",
     "[sqlkmeans weight] AS sample_weight FROM #sqlkmeans_input",
     "INSERT INTO #sqlkmeans_moved", "INTO #sqlkmeans_wide", "INSERT INTO #sqlkmeans_border"],
)  # fmt: skip
def test_what_matters_was_recorded(part: str) -> None:
    """So that "no mistake found" can't come from nothing looked at."""
    assert any(part in statement for statement in recorded_statements())


@pytest.mark.sqlserver
def test_procedures_still_build_the_statements_that_were_reviewed(server: Server) -> None:
    found = record(server)
    if not RECORDED.exists():
        RECORDED.write_text("\nGO\n".join(found) + "\nGO\n", encoding="utf-8", newline="\n")
        pytest.fail(f"{RECORDED.name} was missing and has been written; review it")
    assert found == recorded_statements()


SQUARE = """EXECUTE sqlkmeans.define_segmentation @segmentation = N'square',
@source = N'dbo.square', @key = N'id', @k = 3, @target = N'dbo.square_segment',
@features = N'x, y', @n_init = 1;"""


def make_square(server: Server) -> None:
    """3,000 points all over a square, where centroids take many passes."""
    digits = ", ".join(f"({n})" for n in range(10))
    server.rows("CREATE TABLE dbo.square (id int NOT NULL PRIMARY KEY, x float, y float);")
    server.rows(
        "INSERT INTO dbo.square (id, x, y) SELECT n.id, n.id * 48271 % 997, n.id * 16807 % 1009 "
        "FROM (SELECT a.v + 10 * b.v + 100 * c.v + 1000 * d.v AS id "
        f"FROM (VALUES {digits}) AS a (v) CROSS JOIN (VALUES {digits}) AS b (v) "
        f"CROSS JOIN (VALUES {digits}) AS c (v) CROSS JOIN (VALUES (0), (1), (2)) AS d (v)) AS n;"
    )


def record(server: Server) -> list[str]:
    """All statements of a life: define, train, assign, train inside, roll back, rename, purge.

    Those that publish staged changes alone, as the client does, are among them. Then all of one
    with categories, dates and row weights. No index is trusted, because that depends on the server.
    """
    with statement_log(server) as logged, _no_index_trusted(server):
        make_customers(server)
        server.rows(
            DEFINE.replace(
                "N'dbo.customer'", "N'SELECT customer_id, income, age FROM dbo.customer'"
            ).replace(";", ", @execute = 0;")
        )
        server.rows(DEFINE)
        train(server, "customers")
        assert publish_changes(server, SIZES_AFTER, "(9007199254740993, 1, 0.5, 0)") is None
        server.rows("UPDATE dbo.customer SET income = 160000, age = 62 WHERE income < 60000;")
        server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
        _run_without_python(server, "customers")
        server.rows("EXECUTE sqlkmeans.run_segmentation @segmentation = N'customers', "
                    "@engine = N'tsql';")  # fmt: skip
        server.rows("EXECUTE sqlkmeans.rollback_segmentation @segmentation = N'customers';")
        server.rows("EXECUTE sqlkmeans.rename_segment @segmentation = N'customers', "
                    "@segment_id = 1, @name = N'it''s';")  # fmt: skip
        server.rows("EXECUTE sqlkmeans.purge @history = 1, @execute = 0;")
        server.rows("EXECUTE sqlkmeans.purge @history = 1;")
        make_square(server)
        server.rows(SQUARE)
        server.rows("EXECUTE sqlkmeans.run_segmentation @segmentation = N'square', "
                    "@engine = N'tsql';")  # fmt: skip
        publish(server, make_people(server))
        server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'people';")
        _run_without_python(server, "people")
        rows = logged()
    statements = [_without_numbers(row).strip() for row in rows]
    return list(dict.fromkeys(statements))


@contextmanager
def _no_index_trusted(server: Server) -> Iterator[None]:
    name = "functions/has_unique_key.sql"
    server.script(read(name).replace("RETURN @result;", "RETURN 0;"))
    try:
        yield
    finally:
        server.script(read(name))


def _run_without_python(server: Server, name: str) -> None:
    """Train inside up to the external script; a server that fails earlier is told by its error."""
    message = server.error(f"EXECUTE sqlkmeans.run_segmentation @segmentation = N'{name}';")
    assert "Python gave no publication back" in message


def _without_numbers(text: str) -> str:
    """Ids of runs and sessions are others each time, and centroids differ in their last digits."""
    text = re.sub(r"(staging|source_of_session)_\d+", r"\1_1", text)
    text = re.sub(r"run_id = \d+", "run_id = 1", text)
    text = re.sub(r"-?\d\.\d{16}e[+-]\d+", "0.5e0", text)
    return re.sub(r"\s+\n", "\n", text)
