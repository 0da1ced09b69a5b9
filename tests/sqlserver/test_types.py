"""Types: as CREATE TABLE writes them, and how keys of them travel."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sqlkmeans.clustering.preparation import categories
from sqlkmeans.database.sqlserver.dialect import MAX_LEVEL_LENGTH, key_text
from sqlkmeans.database.sqlserver.reading import read_query, same_customer
from sqlkmeans.database.sqlserver.types import (
    SqlColumn,
    beside,
    bracket_name,
    key_types,
    relation,
)


def column(base: str, length: int = 8, precision: int = 0, scale: int = 0) -> SqlColumn:
    collation = "Latin1_General_CS_AS" if "char" in base else None
    return SqlColumn("a]b", base, length, precision, scale, collation)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (column("int", 4, 10), "int"),
        (column("nvarchar", 80), "nvarchar(40) COLLATE Latin1_General_CS_AS"),
        (column("varchar", -1), "varchar(max) COLLATE Latin1_General_CS_AS"),
        (column("decimal", 17, 38, 10), "decimal(38, 10)"),
        (column("datetime2", 8, 27, 7), "datetime2(7)"),
        (column("binary", 16), "binary(16)"),
        (column("varbinary", -1), "varbinary(max)"),
        (column("time", 5, 16, 7), "time(7)"),
    ],
)
def test_a_type_reads_as_create_table_writes_it(given: SqlColumn, text: str) -> None:
    assert given.type == text


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("bigint", "k1"),
        ("datetime2(7)", "k1"),
        ("decimal(12, 2)", "k1"),
        ("smalldatetime", "CONVERT(nvarchar(40), k1, 126)"),
        ("char(5) COLLATE Greek_CI_AS",
         "CAST(k1 AS nvarchar(4000)) COLLATE Latin1_General_100_BIN2"),
    ],
)  # fmt: skip
def test_a_key_is_hashed_as_its_characters_whatever_stands_beside_it(kind: str, text: str) -> None:
    assert key_text("k1", kind) == text


@pytest.mark.parametrize("base", ["int", "bigint", "uniqueidentifier", "nvarchar", "date", "money",
                                  "datetimeoffset", "binary", "bit", "decimal"])  # fmt: skip
def test_exact_types_can_be_keys(base: str) -> None:
    assert column(base).to_column().can_be_key


@pytest.mark.parametrize(
    "given",
    [
        column("float"), column("real"), column("xml", -1), column("nvarchar", -1),
        column("varbinary", -1), column("sql_variant", 8016), column("text", 16),
        column("geography", -1), column("timestamp"), column("nvarchar", 2000),
    ],
)  # fmt: skip
def test_inexact_and_unbounded_types_cannot_be_keys(given: SqlColumn) -> None:
    assert not given.to_column().can_be_key


@pytest.mark.parametrize(
    ("given", "read", "write"),
    [
        (column("bigint"), "[a]]b]", "?"),
        (column("datetime2", scale=6), "[a]]b]", "?"),
        (column("datetime2", scale=7), "CONVERT(varchar(64), [a]]b], 121) AS [a]]b]",
         "CONVERT(datetime2(7), ?, 121)"),
        (column("decimal", 9, 12, 2), "CONVERT(varchar(64), [a]]b]) AS [a]]b]",
         "CONVERT(decimal(12, 2), ?)"),
        (column("money"), "CONVERT(varchar(64), CAST([a]]b] AS decimal(19, 4))) AS [a]]b]",
         "CAST(CONVERT(decimal(19, 4), ?) AS money)"),
        (column("uniqueidentifier"), "CONVERT(char(36), [a]]b]) AS [a]]b]", "?"),
    ],
)  # fmt: skip
def test_what_no_driver_carries_exactly_travels_as_text(
    given: SqlColumn, read: str, write: str
) -> None:
    assert (given.read_expression, given.write_expression) == (read, write)
    assert given.arrow == (pa.large_string() if "CONVERT" in read else given.arrow)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (column("bigint"), "CONVERT(bigint, ?)"),
        (column("uniqueidentifier"), "CONVERT(uniqueidentifier, ?)"),
        (column("nvarchar", 80), "?"),
        (column("decimal", 9, 12, 2), "CONVERT(decimal(12, 2), ?)"),
        (column("money"), "CAST(CONVERT(decimal(19, 4), ?) AS money)"),
        (column("date"), "CONVERT(date, ?, 23)"),
        (column("datetime"), "CAST(CONVERT(datetime2, ?, 121) AS datetime)"),
        (column("datetime2", scale=7), "CONVERT(datetime2(7), ?, 121)"),
        (column("datetime2", scale=3), "CONVERT(datetime2(3), ?, 121)"),
        (column("varbinary", 16), "CONVERT(varbinary(16), CAST(? AS varchar(2000)), 1)"),
    ],
)
def test_a_key_that_people_write_is_read_whatever_the_language_of_the_session(
    given: SqlColumn, text: str
) -> None:
    assert given.from_text == text


def test_one_customer_is_read_by_parameters() -> None:
    keys = [column("bigint"), column("date")]
    query = read_query(
        "dbo.customer",
        keys,
        [(column("float"), "number")],
        condition=same_customer("source", keys),
    )
    assert query == (
        "SELECT [a]]b], [a]]b], CAST([a]]b] AS float) AS [a]]b] FROM [dbo].[customer] AS source "
        "WHERE source.[a]]b] = CONVERT(bigint, ?) AND source.[a]]b] = CONVERT(date, ?, 23) "
        "ORDER BY source.[a]]b], source.[a]]b]"
    )


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("int", "number"),
        ("bit", "boolean"),
        ("ntext", "text"),
        ("time", "other"),
        ("xml", "other"),
        ("datetimeoffset", "date"),
    ],
)
def test_the_kind_says_what_can_be_done_with_it(base: str, kind: str) -> None:
    assert column(base).to_column().kind == kind


def test_names_are_quoted_and_one_part_is_in_schema_dbo() -> None:
    assert bracket_name(("a]b",)) == "[dbo].[a]]b]"
    assert beside("x.[y]]z]", "_history") == "[x].[y]]z_history]"
    assert relation("customer") == "[dbo].[customer] AS source"
    assert relation("SELECT 1 AS a -- x") == "(SELECT 1 AS a -- x\n) AS source"


@pytest.mark.parametrize(
    ("base", "can"),
    [("int", True), ("bit", True), ("char", True), ("ntext", True), ("uniqueidentifier", True),
     ("float", False), ("money", False), ("date", False), ("binary", False), ("xml", False)],
)  # fmt: skip
def test_texts_uuids_booleans_and_integers_can_be_categories(base: str, can: bool) -> None:
    assert column(base).to_column().can_be_category == can


def test_a_category_is_read_as_text_with_room_to_notice_that_it_is_too_long() -> None:
    expected = "CAST([a]]b] AS nvarchar(101)) AS [a]]b]"
    assert column("varchar", -1).as_feature("category") == expected
    assert MAX_LEVEL_LENGTH == categories.MAX_LEVEL_LENGTH


@pytest.mark.parametrize("base", ["date", "datetime", "datetime2", "datetimeoffset"])
def test_a_date_is_read_as_days_since_1970(base: str) -> None:
    days = "DATEDIFF(day, CAST('1970-01-01' AS date), CAST([a]]b] AS date))"
    assert column(base).as_feature("date") == f"CAST({days} AS float) AS [a]]b]"


def test_the_query_names_keys_features_and_the_weight_last() -> None:
    query = read_query(
        "dbo.customer",
        [SqlColumn("id", "int", 4, 10, 0, None)],
        [
            (SqlColumn("income", "float", 8, 53, 0, None), "number"),
            (SqlColumn("city", "nvarchar", 400, 0, 0, "Latin1_General_CI_AS"), "category"),
        ],
        SqlColumn("w", "decimal", 5, 9, 2, None),
    )
    assert query == (
        "SELECT [id], CAST([income] AS float) AS [income], "
        "CAST([city] AS nvarchar(101)) AS [city], CAST([w] AS float) AS [w] "
        "FROM [dbo].[customer] AS source ORDER BY source.[id]"
    )


def test_a_feature_is_cast_to_float_and_a_bit_by_way_of_a_number() -> None:
    assert column("decimal").as_feature() == "CAST([a]]b] AS float) AS [a]]b]"
    assert (
        column("bit").as_feature(prefix="s.")
        == "CAST(CAST(s.[a]]b] AS tinyint) AS float) AS [a]]b]"
    )


def test_texts_and_bytes_of_a_key_from_elsewhere_share_the_width_of_an_index() -> None:
    def made(*kinds: pa.DataType) -> list[str]:
        return key_types(pa.schema([(f"k{n}", kind) for n, kind in enumerate(kinds)]))

    moment, day = pa.timestamp("us"), pa.date32()
    assert made(pa.int64(), pa.bool_(), day, moment) == ["bigint", "bit", "date", "datetime2(6)"]
    assert made(pa.large_string()) == ["nvarchar(400)"]
    assert made(pa.large_binary(), pa.int64()) == ["varbinary(400)", "bigint"]
    assert made(pa.string(), pa.string()) == ["nvarchar(222)", "nvarchar(222)"]
    assert made(pa.string(), pa.binary(), day) == ["nvarchar(220)", "varbinary(400)", "date"]
