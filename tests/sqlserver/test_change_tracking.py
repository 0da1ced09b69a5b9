"""Change Tracking without a server that has it: what is asked, and what is made of the answers."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from sqlkmeans.database.sqlserver.change_tracking import TrackedChanges, tracking_problems
from sqlkmeans.database.sqlserver.database import SQLServerDatabase
from sqlkmeans.database.sqlserver.types import SqlColumn, relation
from sqlkmeans.definition import Segmentation
from support.tsql_files import GRAMMARS, check

SOURCES = ["customer", "crm.customer", "shop.dbo.customer", "crm.[My Table]]x]", "dbo.[Zoë 漢字's]"]
ON = (1, 1, 1, 1)


class Answers:
    """A connector to a server with these answers, which remembers what it was asked."""

    def __init__(
        self,
        state: tuple[int, int, int, int] = ON,
        versions: tuple[int | None, int] = (0, 100),
        keys: tuple[str, ...] = ("id",),
    ) -> None:
        self._answers = {
            "sys.change_tracking_tables": [state],
            "HAS_PERMS_BY_NAME": [versions],
            "is_primary_key": [(key,) for key in keys],
        }
        self.asked: list[str] = []

    def read(self, doing: str, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        assert not parameters
        self.asked.append(query)
        return next(answer for part, answer in self._answers.items() if part in query)


def tracked(source: str = "dbo.customer", key: str = "email", **answers: Any) -> TrackedChanges:
    return TrackedChanges(segmentation(source, key), Answers(**answers))  # type: ignore[arg-type]


def segmentation(source: str, key: str = "email") -> Segmentation:
    return Segmentation.create(
        name="customers", source=source, key=key, features=["income"], k=2,
        target="dbo.segment", changed_by="SYS_CHANGE_VERSION",
    )  # fmt: skip


def problems(source: str, state: tuple[int, int, int, int]) -> list[str]:
    return tracking_problems(Answers(state), source)  # type: ignore[arg-type]


# Statements


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_statement_is_sql_whatever_the_table_is_called(source: str, grammar: str) -> None:
    answers = Answers(keys=("id", "a ]b", "größe"))
    changes = TrackedChanges(segmentation(source), answers)  # type: ignore[arg-type]
    selected = [changes.rows_since(mark) for mark in ("0", "2147483648", "9223372036854775807")]
    tracking_problems(answers, source)  # type: ignore[arg-type]
    changes.unknown_since("9")
    assert len(answers.asked) == 5
    # As a run reads them: like a SELECT that a definition names.
    read = [f"SELECT COUNT_BIG(*) FROM {relation(statement)};" for statement in selected]
    for statement in [*read, *answers.asked, changes.high_water_query()]:
        assert not check(statement, grammar), statement
        assert check(statement.replace("(", "((", 1), grammar), "the check finds nothing"


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_what_the_error_tells_to_do_is_sql(grammar: str) -> None:
    (problem,) = problems("crm.[My Table]]x]", (1, 1, 0, 0))
    statements = re.findall(r"ALTER [^;]+", problem)
    assert len(statements) == 2
    assert "ALTER TABLE [crm].[My Table]]x] ENABLE CHANGE_TRACKING" in statements[1]
    assert not [text for text in statements if check(text, grammar)]
    reason = tracked("crm.[My Table]]x]", versions=(None, 5)).unknown_since("4")
    (grant,) = re.findall(r"GRANT .+ TO", str(reason))
    assert not check(f"{grant} [etl]", grammar)


def test_the_database_of_a_name_of_three_parts_is_compared_and_then_left_out() -> None:
    answers = Answers()
    tracking_problems(answers, "[My Shop].crm.customer")  # type: ignore[arg-type]
    assert "DB_ID(N'My Shop') = DB_ID()" in answers.asked[0]
    assert "OBJECT_ID(N'[crm].[customer]', N'U')" in answers.asked[0]


# Which rows


def in_duckdb(statement: str) -> str:
    """The statement as DuckDB reads it, with a table of versions in place of CHANGETABLE."""
    statement = re.sub(
        r"CHANGETABLE\(CHANGES .+?, (\d+)\) AS change",
        r"(SELECT * FROM versions WHERE SYS_CHANGE_VERSION > \1) AS change",
        statement,
    )
    statement = re.sub(r"\bN'", "'", statement)
    return re.sub(
        r"\[((?:[^\]]|\]\])+)\]", lambda m: '"' + m[1].replace("]]", "]") + '"', statement
    )


@pytest.fixture
def shop() -> duckdb.DuckDBPyConnection:
    """Eight customers, all labelled but the last; versions of some rows, one of them deleted."""
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA dbo")
    connection.execute(
        "CREATE TABLE dbo.customer AS "
        "SELECT i AS id, 'x' AS \"a ]b\", 'c' || i AS email, i AS income FROM range(8) AS t(i)"
    )
    connection.execute("CREATE TABLE dbo.segment AS SELECT email FROM dbo.customer WHERE id < 7")
    connection.execute("CREATE TABLE versions (SYS_CHANGE_VERSION bigint, id bigint, "
                       '"a ]b" varchar)')  # fmt: skip
    return connection


def track(shop: duckdb.DuckDBPyConnection, rows: list[tuple[int, int, str]]) -> None:
    shop.executemany("INSERT INTO versions VALUES (?, ?, ?)", rows)


def test_rows_with_later_versions_and_rows_without_a_label_are_read(
    shop: duckdb.DuckDBPyConnection,
) -> None:
    """The key of the definition need not be the table's primary key, of whatever columns it is."""
    track(shop, [(8, 1, "x"), (9, 2, "x"), (10, 3, "x"), (11, 4, "y"), (12, 99, "x")])
    query = in_duckdb(tracked(keys=("id", "a ]b")).rows_since("9"))
    assert sorted(shop.execute(query).fetchall()) == [(3, "x", "c3", 3), (7, "x", "c7", 7)]


@pytest.mark.parametrize("mark", [2**31 - 2, 2**31 - 1, 2**31, 2**62])
def test_versions_beyond_what_a_literal_may_hold_are_told_apart(
    mark: int, shop: duckdb.DuckDBPyConnection
) -> None:
    track(shop, [(mark, 1, "x"), (mark + 1, 2, "x")])
    statement = tracked().rows_since(str(mark))
    assert int(re.findall(r", (\d+)\) AS change", statement)[0]) <= 2**31 - 1
    assert sorted(row[0] for row in shop.execute(in_duckdb(statement)).fetchall()) == [2, 7]


# What is said


@pytest.mark.parametrize(
    ("source", "state", "words"),
    [
        ("SELECT * FROM dbo.customer", ON, "the source is a SELECT, no table; allowed: a table"),
        ("dbo.customer_view", (1, 0, 1, 0), "the source is dbo.customer_view, no table; allowed:"),
        ("crm.dbo.customer", (0, 1, 1, 1), "the source is in database crm; allowed: a table in "
         "the database of the URL"),
        ("dbo.customer", (1, 1, 1, 0), "is off for dbo.customer; turn it on (ALTER TABLE "),
        ("dbo.customer", (1, 1, 0, 0), "turn it on (ALTER DATABASE CURRENT SET CHANGE_TRACKING = "
         "ON (CHANGE_RETENTION = 7 DAYS, AUTO_CLEANUP = ON); ALTER TABLE [dbo].[customer] ENABLE "
         "CHANGE_TRACKING; the login needs VIEW CHANGE TRACKING"),
    ],
    ids=["select", "view", "database", "table", "off"],
)  # fmt: skip
def test_a_source_without_change_tracking_is_one_problem_with_its_remedy(
    source: str, state: tuple[int, int, int, int], words: str
) -> None:
    (problem,) = problems(source, state)
    assert problem.startswith("changed_by SYS_CHANGE_VERSION: ")
    assert words in problem


def test_a_tracked_table_is_no_problem() -> None:
    assert problems("shop.dbo.customer", ON) == []


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ((9, 100), None),
        ((0, 9), None),
        ((12, 100), "Change Tracking of dbo.customer goes back to version 12 only, and the run "
         "before saw 9"),
        ((0, 8), "Change Tracking of dbo.customer is at version 8 only, and the run before saw 9"),
        ((None, 100), "Change Tracking of dbo.customer is not for this login to see (GRANT VIEW "
         "CHANGE TRACKING ON [dbo].[customer] TO …)"),
    ],
    ids=["oldest", "newest", "cleaned up", "began anew", "no permission"],
)  # fmt: skip
def test_changes_are_known_from_the_oldest_valid_version_to_the_newest(
    versions: tuple[int | None, int], why: str | None
) -> None:
    assert tracked(versions=versions).unknown_since("9") == why


# A column of that name


def test_a_mark_of_a_column_that_is_gone_is_no_version() -> None:
    assert "is no version" in str(tracked().unknown_since("0x00000000000007D1"))


def opened(columns: list[str]) -> SQLServerDatabase:
    database = object.__new__(SQLServerDatabase)
    database._connector = Answers()  # type: ignore[assignment]
    described = [SqlColumn(name, "bigint", 8, 19, 0, None) for name in columns]
    database._sessions = SimpleNamespace(columns=lambda source: described)  # type: ignore[assignment]
    return database


def test_a_column_of_that_name_is_meant_where_the_source_has_one() -> None:
    asked = segmentation("dbo.customer")
    database = opened(["email", "income", "SYS_CHANGE_VERSION"])
    assert "CHANGETABLE" not in database.changed_rows(asked, "9").source
    assert "source.[SYS_CHANGE_VERSION] >= " in database.changed_rows(asked, "9").source
    assert database.changes_unknown_since(asked, "9") is None
    assert database._connector.asked == []  # type: ignore[attr-defined]


def test_otherwise_change_tracking_is() -> None:
    asked = segmentation("dbo.customer")
    database = opened(["email", "income"])
    assert "CHANGETABLE(CHANGES [dbo].[customer], 9)" in database.changed_rows(asked, "9").source
    assert "is at version 100 only" in str(database.changes_unknown_since(asked, "101"))
    assert database.change_tracking_problems("dbo.customer") == []
