"""Names and sources: what is read as what, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.sqltext import parse_name, parse_source, quote, quote_name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("customer", ("customer",)),
        ("dbo.customer", ("dbo", "customer")),
        ("shop.dbo.customer", ("shop", "dbo", "customer")),
        (" dbo . customer ", ("dbo", "customer")),
        ("dbo.[My Table]", ("dbo", "My Table")),
        ("dbo.[My Table]]x]", ("dbo", "My Table]x")),
        ('"d""bo".customer', ('d"bo', "customer")),
        ("`sel``ect`", ("sel`ect",)),
        ("[a.b].[c;d]", ("a.b", "c;d")),
        ("dbo.Käufer", ("dbo", "Käufer")),
        ("_t.a$b#c@d", ("_t", "a$b#c@d")),
        ("dbo.[--]", ("dbo", "--")),
        ("dbo.customer -- the customers", ("dbo", "customer")),
        ("dbo./* all */customer", ("dbo", "customer")),
        ('"漢字"', ("漢字",)),
        ("[" + "x" * 128 + "]", ("x" * 128,)),
    ],
)
def test_a_name_is_split_into_its_parts_without_their_quotes(
    text: str, parts: tuple[str, ...]
) -> None:
    assert parse_name(text) == parts
    assert parse_source(text).name == parts
    assert parse_source(text).query is None


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "dbo.", ".customer", "dbo..customer", "a.b.c.d", "my table", "dbo.my table",
        "1table", "dbo.customer;", "dbo.customer; DROP TABLE x", "dbo.customer, dbo.other",
        "dbo.customer AS c", "dbo.customer)", "'customer'", "customer()", "dbo.[a]]",
        "dbo.customer WHERE 1 = 1", "x" * 129, "[a]b", "a-b", "@t", "-- nothing", "#",
    ],
)  # fmt: skip
def test_what_is_not_a_name_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed: table, schema.table or database.schema.table"):
        parse_name(text)


@pytest.mark.parametrize("text", ["[a", '"a', "`a", "'a", "/* a", "a /* /* */"])
def test_what_is_opened_and_not_closed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not closed"):
        parse_name(text)


@pytest.mark.parametrize("text", ["dbo.[]", '""', "``.a"])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not closed|allowed"):
        parse_name(text)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=128),
        min_size=1, max_size=3,
    )
)  # fmt: skip
def test_a_quoted_name_is_read_back_as_it_was(parts: list[str]) -> None:
    assert parse_name(quote_name(tuple(parts))) == tuple(parts)
    brackets = ".".join("[" + part.replace("]", "]]") + "]" for part in parts)
    assert parse_name(brackets) == tuple(parts)


@given(st.text(max_size=40))
def test_a_quoted_identifier_cannot_be_left(name: str) -> None:
    quoted = quote(name)
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', "").count('"') == 0
    assert quoted[1:-1].replace('""', '"') == name


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM t",
        "select a from t",
        "  SELECT a FROM t\n",
        "SELECT a FROM t -- the end",
        "SELECT a FROM t -- ; DROP TABLE x",
        "-- first\nSELECT a FROM t",
        "/* ; */ SELECT a FROM t",
        "SELECT a /* /* nested; */ DROP */ FROM t",
        "SELECT a FROM t WHERE b = 'x; DROP TABLE y'",
        "SELECT a FROM t WHERE b = 'it''s; (' AND c = N')'",
        "SELECT a FROM t WHERE b = '--' AND c = '/*'",
        'SELECT "drop", [delete], `update` FROM "insert"',
        'SELECT ";" AS "(" FROM [a;b)]',
        "SELECT (a + (b)) FROM (SELECT a, b FROM t) AS s",
        "SELECT a FROM t UNION ALL SELECT a FROM u",
        "SELECT a FROM t EXCEPT SELECT a FROM u INTERSECT (SELECT a FROM v)",
        "SELECT a FROM t WHERE a IN (SELECT a FROM u)",
        "SELECT CASE WHEN a > 1 THEN 1.5e3 ELSE 0 END AS updated_at, created FROM dropped",
        "SELECT COUNT(*) AS n, CAST(a AS decimal(10, 2)) FROM t GROUP BY a HAVING COUNT(*) > 1",
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
        "SELECT a FROM t GROUP BY GROUPING SETS ((a), ())",
        "SELECT\ta\r\nFROM t",
    ],
)
def test_one_select_is_a_source(query: str) -> None:
    source = parse_source(query)
    assert source.name is None
    assert source.query == query.strip()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT a FROM t;", "semicolon"),
        ("SELECT a FROM t; ", "semicolon"),
        ("SELECT a FROM t;--", "semicolon"),
        ("SELECT a FROM t; DROP TABLE t", "semicolon"),
        ("SELECT a FROM t;SELECT b FROM t", "semicolon"),
        ("SELECT a; FROM t", "semicolon"),
        ("SELECT '' ; DROP TABLE t --'", "semicolon"),
        ("SELECT '''' ; DROP TABLE t --'", "semicolon"),
        ('SELECT """" ; DROP TABLE t --"', "semicolon"),
        ("SELECT [a]]] ; DROP TABLE t --]", "semicolon"),
        ("SELECT /* /* */ */ a ; DROP TABLE t", "semicolon"),
        ("SELECT a -- comment\n; DROP TABLE t", "semicolon"),
        ("SELECT 1 DROP TABLE x", "DROP given"),
        ("SELECT 1 drop table x", "drop given"),
        ("SELECT 1 DELETE FROM x", "DELETE given"),
        ("SELECT 1 UPDATE x SET a = 1", "UPDATE given"),
        ("SELECT 1 INSERT x VALUES (1)", "INSERT given"),
        ("SELECT 1 EXEC p", "EXEC given"),
        ("SELECT 1 EXECUTE p", "EXECUTE given"),
        ("SELECT 1 MERGE x", "MERGE given"),
        ("SELECT 1 TRUNCATE TABLE x", "TRUNCATE given"),
        ("SELECT 1 ALTER TABLE x", "ALTER given"),
        ("SELECT 1 CREATE TABLE x (a int)", "CREATE given"),
        ("SELECT 1 GRANT x TO y", "GRANT given"),
        ("SELECT 1 SHUTDOWN", "SHUTDOWN given"),
        ("SELECT 1 WAITFOR DELAY '1:00'", "WAITFOR given"),
        ("SELECT 1 DECLARE @a int", "DECLARE given"),
        ("SELECT 1 BEGIN TRANSACTION", "BEGIN given"),
        ("SELECT 1 COMMIT", "COMMIT given"),
        ("SELECT 1 USE master", "USE given"),
        ("SELECT a INTO stolen FROM t", "INTO given"),
        ("SELECT * FROM OPENROWSET('x', 'y', 'z')", "OPENROWSET given"),
        ("SELECT * FROM openquery(x, 'DELETE')", "openquery given"),
        ("SELECT * FROM (DELETE FROM t OUTPUT deleted.*) AS d", "DELETE given"),
        ("SELECT 1 /**/DROP/**/TABLE x", "DROP given"),
        ("SELECT (1", "opening parenthesis"),
        ("SELECT ((1)", "opening parenthesis"),
        ("SELECT 1)", "closing parenthesis"),
        ("SELECT 1) AS x, (SELECT 2", "closing parenthesis"),
        ("SELECT ')' )", "closing parenthesis"),
        ("SELECT 'a", "not closed"),
        ('SELECT "a', "not closed"),
        ("SELECT [a", "not closed"),
        ("SELECT a /* b", "not closed"),
        ("SELECT a /* /* b */", "not closed"),
        ("WITH c AS (SELECT 1 AS a) SELECT a FROM c", "make it a view"),
        ("with c as (select 1 as a) delete from c", "make it a view"),
    ],
)
def test_anything_but_one_select_is_refused(query: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_source(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM t SELECT b FROM t",
        "SELECT 1 SELECT 2",
        "SELECT a FROM t SET NOCOUNT ON",
        "SELECT a FROM t IF 1 = 1 SELECT 2",
        "SELECT a FROM t RETURN",
    ],
)
def test_a_second_statement_needs_no_semicolon_in_t_sql_and_is_refused_all_the_same(
    query: str,
) -> None:
    with pytest.raises(ValueError, match="allowed: one SELECT"):
        parse_source(query)


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE t", "DELETE FROM t", "INSERT INTO t VALUES (1)", "EXEC p", "VALUES (1)",
        "FROM t", "(SELECT a FROM t)", "COPY t TO 'x'", "PRAGMA x", "TABLE t",
    ],
)  # fmt: skip
def test_a_statement_that_is_not_a_select_is_neither_name_nor_query(text: str) -> None:
    with pytest.raises(ValueError, match="given; allowed"):
        parse_source(text)


@given(st.text(max_size=60))
def test_no_text_is_read_as_a_query_that_holds_a_bare_semicolon(text: str) -> None:
    try:
        source = parse_source("SELECT " + text)
    except ValueError:
        return
    assert source.query is not None
    if ";" in text:
        assert any(quote_mark in text for quote_mark in "'\"[`-/")
