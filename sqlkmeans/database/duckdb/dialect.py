"""DuckDB's words."""

from __future__ import annotations

from collections.abc import Sequence

from sqlkmeans.database.dialect import Dialect
from sqlkmeans.database.source import Column
from sqlkmeans.sqltext import quote


class DuckDBDialect(Dialect):
    """DuckDB."""

    float_type = "double"
    text_type = "varchar"
    boolean_type = "boolean"
    count = "COUNT(*)"
    logarithm = "LN"
    apply = "CROSS JOIN LATERAL"
    outer_apply = "LEFT JOIN LATERAL"
    outer_condition = " ON TRUE"
    exact_suffix = ""
    keeps_prepared = False

    def quote(self, name: str) -> str:
        return quote(name)

    def literal(self, text: str) -> str:
        # A statement is read up to a NUL.
        parts = ["'" + part.replace("'", "''") + "'" for part in text.split("\0")]
        return parts[0] if len(parts) == 1 else f"({' || chr(0) || '.join(parts)})"

    def date(self, day: str) -> str:
        return f"DATE '{day}'"

    def category(self, column: Column, value: str) -> str:
        # A boolean as on SQL Server, whose bit is 1 or 0 as text too.
        if column.kind == "boolean":
            value = f"CAST({value} AS integer)"
        return f"CAST({value} AS varchar)"

    def day(self, column: Column, value: str) -> str:
        # The day in UTC, whatever the session's zone.
        if column.type == "TIMESTAMP WITH TIME ZONE":
            value = f"({value} AT TIME ZONE 'UTC')"
        return f"CAST({value} AS date)"

    def days(self, start: str, end: str) -> str:
        return f"date_diff('day', {start}, {end})"

    def earlier(self, day: str, days: str) -> str:
        return f"({day} - CAST({days} AS integer))"

    def length(self, text: str) -> str:
        # Its own length() counts a character beyond U+FFFF once; it is two halves elsewhere.
        pairs = f"regexp_replace({text}, '[^\\x{{10000}}-\\x{{10FFFF}}]', '', 'g')"
        return f"(length({text}) + length({pairs}))"

    def infinite(self, value: str) -> str:
        return f"isinf({value})"

    def random(self, keys: Sequence[tuple[str, str]], seed: int) -> str:
        # 53 bits, as many as a float holds.
        listed = ", ".join(key for key, _ in keys)
        return f"(hash({listed}, {int(seed)}) >> 11) / 9007199254740992e0"

    def quantile(self, value: str, share: float) -> str | None:
        return f"quantile_cont({value}, {share!r})"

    def temporary(self, name: str) -> str:
        return f"temp.sqlkmeans_{name}"

    def create_temporary(self, name: str, columns: Sequence[tuple[str, str]]) -> list[str]:
        listed = ", ".join(f"{column} {kind}" for column, kind in columns)
        return [f"CREATE OR REPLACE TEMP TABLE sqlkmeans_{name} ({listed})"]

    def insert(self, name: str, query: str) -> str:
        return f"INSERT INTO {self.temporary(name)}\n{query}"


DIALECT = DuckDBDialect()
