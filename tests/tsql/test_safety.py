"""What keeps a caller from doing through the procedures what they may not do themselves."""

from __future__ import annotations

import re

import pytest

from support.owner_statements import owner_texts, strangers
from support.tsql_files import PROCEDURES, definition, object_name, public_procedures, read

ENTRY = """        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
"""
CALLING = [name for name in PROCEDURES if "EXECUTE sqlkmeans.as_owner" in read(name)]


@pytest.mark.parametrize("name", public_procedures())
def test_an_entry_procedure_refuses_a_transaction_and_sets_its_isolation(name: str) -> None:
    assert ENTRY in definition(name)
    assert re.search(r"^\s*(SELECT|UPDATE|INSERT|DELETE)\b.*sqlkmeans\.",
                     definition(name).partition(ENTRY)[0], re.MULTILINE) is None  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(CALLING) - {"procedures/as_owner.sql"}))
def test_what_runs_as_dbo_is_made_of_quoted_names(name: str) -> None:
    text = definition(name)
    assert list(owner_texts(text))
    assert strangers(object_name(name), text) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("@target; SET @statement = N'DROP TABLE ' + @target;", "@target comes from outside"),
        ("@target; SET @statement = N'GRANT SELECT ON ' + JSON_VALUE(@d, '$.x');", "JSON_VALUE"),
        ("@t; SELECT @name = s.n FROM t AS s; SET @statement = N'DROP TABLE ' + @name;", "s.n"),
        ("@t; DECLARE @x nvarchar(max) = N'(' + @t + N')'; SET @statement = N'DROP ' + @x;",
         "@t comes from outside"),
    ],
)  # fmt: skip
def test_what_a_caller_wrote_would_be_noticed(broken: str, said: str) -> None:
    text = (
        f"ALTER PROCEDURE sqlkmeans.x {broken}\nEXECUTE sqlkmeans.as_owner @statement = @statement;"
    )
    assert any(said in line for line in strangers("x", text)), strangers("x", text)


def test_a_view_that_is_made_of_what_a_caller_wrote_would_be_noticed() -> None:
    text = (
        "ALTER PROCEDURE sqlkmeans.x @source nvarchar(max) AS\n"
        "SET @statement = N'CREATE VIEW v AS ' + @source;\n"
        "EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;"
    )
    assert strangers("x", text) == ["x: @source comes from outside"]


@pytest.mark.parametrize(
    ("name", "quoted", "raw"),
    [("apply_labels", "sqlkmeans.quoted_name(@target, N'')", "@target"),
     ("create_segment_table", "REPLACE(@segmentation, N'''', N'''''')", "@segmentation"),
     ("refresh_movement", "sqlkmeans.each_name(JSON_QUERY(@definition, '$.key'), N'h.{}', N', ')",
      "JSON_QUERY(@definition, '$.key')")],
)  # fmt: skip
def test_a_name_that_is_not_quoted_would_be_noticed(name: str, quoted: str, raw: str) -> None:
    text = definition(f"procedures/{name}.sql")
    assert quoted in text
    assert strangers(name, text.replace(quoted, raw))
