"""T-SQL's words, without anything that needs a server.

A text is compared byte for byte, trailing blanks included, as Python compares it. T-SQL needs two
things for that: a binary collation, because the database's own may take ``oslo`` for ``Oslo``, and
a character after the value, because ``=`` fills the shorter text up with blanks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlkmeans.database.dialect import Dialect
from sqlkmeans.database.source import Column

#: Half of the identifiers and constants that SQL Server takes in one expression (error 8632), the
#: names in it written out.
MOST_TERMS = 65_535 // 2
#: A call takes 2,100 parameters, the statement's own two among them.
MOST_PARAMETERS = 2_000
#: Characters of a category's longest level.
MAX_LEVEL_LENGTH = 100
#: The type of a category's levels: one character more, so that one too long is noticed.
LEVEL_TYPE = f"nvarchar({MAX_LEVEL_LENGTH + 1})"
#: Bytes that a row of a table has at most, and columns that it has fewer than (errors 1701, 1702).
ROW_BYTES, COLUMNS = 8_060, 1_024
#: Columns of a temporary table that gets a columnstore index, at most.
COLUMNSTORE_COLUMNS = 200
#: What types of columns take of a row; no other takes more than a decimal. Of a long text, 24 bytes
#: stay in the row, and two say where it ends.
_BYTES = {"bit": 1, "date": 3, "int": 4, "integer": 4, "bigint": 8, "float": 8}
_DECIMAL, _VARYING = 17, 26
#: What a client could take for the end of a line: control characters and Unicode's separators.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def bracket(name: str) -> str:
    """An identifier in brackets, as QUOTENAME writes it."""
    return "[" + name.replace("]", "]]") + "]"


def key_text(key: str, kind: str) -> str:
    """A key column as CONCAT takes it, beside others and whatever the session's language."""
    base = kind.partition("(")[0].split()[0]
    if base.endswith("char"):
        # Of columns of several collations there would be none; and a varchar is to become a text
        # by its own code page, before it has another.
        return f"CAST({key} AS nvarchar(4000)) COLLATE Latin1_General_100_BIN2"
    if base in ("datetime", "smalldatetime"):
        return f"CONVERT(nvarchar(40), {key}, 126)"
    return key


def _row_bytes(kinds: Sequence[str]) -> int:
    """At most so many bytes has a row of such types, with its header and a bit for each."""
    size = 8 + (len(kinds) + 7) // 8
    for kind in kinds:
        base, length = re.findall(r"(\w+)(?:\((\w+))?", kind)[0]
        if "var" in base:
            size += _VARYING
        elif base in ("char", "nchar", "binary"):
            size += int(length) * (2 if base == "nchar" else 1)
        else:
            size += _BYTES.get(base, _DECIMAL)
    return size


class SQLServerDialect(Dialect):
    """SQL Server 2016 and newer, and Azure SQL.

    Parameters
    ----------
    least : bool
        Whether there is a function LEAST: from 2022 on.
    columnstore : bool
        Whether temporary tables take a clustered columnstore index.
    """

    float_type = "float"
    text_type = "nvarchar(4000)"
    boolean_type = "bit"
    count = "COUNT_BIG(*)"
    logarithm = "LOG"
    apply = "CROSS APPLY"
    outer_apply = "OUTER APPLY"
    outer_condition = ""
    exact_suffix = "."
    keeps_prepared = True

    def __init__(self, *, least: bool = False, columnstore: bool = True) -> None:
        self._least = least
        self._columnstore = columnstore

    def quote(self, name: str) -> str:
        return bracket(name)

    def literal(self, text: str) -> str:
        """A text constant on one line and without ``$(``.

        Inside texts too, sqlcmd ends a batch at a line GO and puts a variable in place of
        ``$(name)``.
        """
        literal = text.replace("'", "''").replace("$(", "$' + N'(")
        literal = _CONTROL.sub(lambda found: f"' + NCHAR({ord(found.group())}) + N'", literal)
        return f"N'{literal}'"

    def date(self, day: str) -> str:
        return f"CAST('{day}' AS date)"

    def number(self, column: Column, value: str) -> str:
        if column.kind == "boolean":
            # Not every server casts a bit to float in one step.
            value = f"CAST({value} AS tinyint)"
        return super().number(column, value)

    def category(self, column: Column, value: str) -> str:
        return f"CAST({value} AS {LEVEL_TYPE})"

    def day(self, column: Column, value: str) -> str:
        return f"CAST({value} AS date)"

    def days(self, start: str, end: str) -> str:
        return f"DATEDIFF(day, {start}, {end})"

    def earlier(self, day: str, days: str) -> str:
        return f"DATEADD(day, -CAST({days} AS int), {day})"

    def exact(self, value: str) -> str:
        return f"({value} + N'{self.exact_suffix}') COLLATE Latin1_General_100_BIN2"

    def length(self, text: str) -> str:
        return f"LEN({text})"

    def infinite(self, value: str) -> str:
        # There is no such number.
        return "1 = 0"

    def random(self, keys: Sequence[tuple[str, str]], seed: int) -> str:
        texts = ", ".join(f"N'|', {key_text(key, kind)}" for key, kind in keys)
        text = f"CONCAT(N'{int(seed)}', {texts})"
        # 48 bits, which a float holds exactly.
        return (
            f"CAST(CAST(SUBSTRING(HASHBYTES('MD5', {text}), 1, 6) AS bigint) AS float)"
            " / 281474976710656e0"
        )

    def quantile(self, value: str, share: float) -> str | None:
        # PERCENTILE_CONT is no aggregate here: it gives every row its own copy.
        return None

    def parameterised(self, query: str, values: Sequence[float]) -> str | None:
        if len(values) > MOST_PARAMETERS:
            return None
        names = [f"@p{n}" for n in range(1, len(values) + 1)]
        declared = ", ".join(f"{name} float" for name in names)
        given = ", ".join(f"{name} = {value:.17e}" for name, value in zip(names, values))
        text = query.replace("'", "''")
        return f"EXECUTE sys.sp_executesql N'{text}', N'{declared}', {given};"

    def fits_least(self, terms: float) -> bool:
        return self._least and terms <= MOST_TERMS

    def first(self, rows: int, columns: str, rest: str) -> str:
        return f"SELECT TOP ({int(rows)}) {columns}\n{rest}"

    def temporary(self, name: str) -> str:
        return f"#sqlkmeans_{name}"

    def too_wide(self, columns: Sequence[tuple[str, str]]) -> str | None:
        size = _row_bytes([kind for _, kind in columns])
        if size <= ROW_BYTES and len(columns) < COLUMNS:
            return None
        return (
            f"a table of {len(columns):,} columns and up to {size:,} bytes a row, where SQL Server "
            f"allows fewer than {COLUMNS:,} columns and {ROW_BYTES:,} bytes"
        )

    def create_temporary(self, name: str, columns: Sequence[tuple[str, str]]) -> list[str]:
        table = self.temporary(name)
        listed = ", ".join(f"{column} {kind}" for column, kind in columns)
        statements = [
            f"IF OBJECT_ID(N'tempdb..{table}') IS NOT NULL DROP TABLE {table};",
            f"CREATE TABLE {table} ({listed});",
        ]
        # As store_in_columns.sql does: the index asks for memory by columns, rows or none.
        if self._columnstore and len(columns) <= COLUMNSTORE_COLUMNS:
            statements.append(
                f"CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_{name}_columns ON {table} "
                "WITH (MAXDOP = 1);"
            )
        return statements

    def insert(self, name: str, query: str) -> str:
        return f"INSERT INTO {self.temporary(name)} WITH (TABLOCK)\n{query};"


#: Any SQL Server from 2016 on.
TSQL = SQLServerDialect()
