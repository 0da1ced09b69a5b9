"""Spark SQL's words, without anything that needs Spark."""

from __future__ import annotations

from collections.abc import Sequence

from sqlkmeans.database.dialect import Dialect
from sqlkmeans.database.source import Column

_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\0": "\\0"})


def backquote(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


class SparkDialect(Dialect):
    """Spark 4. Its workspace does what is no statement there: a temporary table is a view that is
    kept, and rows of it are deleted by keeping the others.

    Parameters
    ----------
    prefix : str
        Of the names of temporary views, which all runs of a session share.
    """

    float_type = "double"
    text_type = "string"
    boolean_type = "boolean"
    count = "COUNT(*)"
    logarithm = "LN"
    apply = "CROSS JOIN LATERAL"
    outer_apply = "LEFT JOIN LATERAL"
    outer_condition = " ON TRUE"
    exact_suffix = ""
    keeps_prepared = True
    sorts_brackets = True

    def __init__(self, prefix: str = "sqlkmeans") -> None:
        self._prefix = prefix

    def quote(self, name: str) -> str:
        return backquote(name)

    def literal(self, text: str) -> str:
        return f"'{text.translate(_ESCAPES)}'"

    def date(self, day: str) -> str:
        return f"DATE '{day}'"

    def category(self, column: Column, value: str) -> str:
        # A boolean as on the other databases.
        if column.kind == "boolean":
            value = f"CAST({value} AS int)"
        return f"CAST({value} AS string)"

    def day(self, column: Column, value: str) -> str:
        return f"CAST({value} AS date)"

    def days(self, start: str, end: str) -> str:
        return f"DATEDIFF({end}, {start})"

    def earlier(self, day: str, days: str) -> str:
        return f"DATE_SUB({day}, CAST({days} AS int))"

    def length(self, text: str) -> str:
        # Its own counts a character beyond U+FFFF once; it is two halves elsewhere.
        pairs = f"REGEXP_REPLACE({text}, r'[^\\x{{10000}}-\\x{{10FFFF}}]', '')"
        return f"(LENGTH({text}) + LENGTH({pairs}))"

    def infinite(self, value: str) -> str:
        return f"ABS({value}) = DOUBLE('Infinity')"

    def random(self, keys: Sequence[tuple[str, str]], seed: int) -> str:
        # 53 bits, as many as a float holds.
        listed = ", ".join(key for key, _ in keys)
        bits = f"SHIFTRIGHTUNSIGNED(XXHASH64({listed}, {int(seed)}L), 11)"
        return f"{bits} / 9007199254740992e0"

    def quantile(self, value: str, share: float) -> str | None:
        return f"PERCENTILE({value}, {share!r}e0)"

    def approximate_quantiles(self, value: str, shares: Sequence[float], error: float) -> list[str]:
        # Equal aggregates are computed once; each takes some 2 MB of memory a group and task.
        listed = ", ".join(f"{share!r}D" for share in shares)
        found = f"PERCENTILE_APPROX({value}, ARRAY({listed}), {round(1 / error)})"
        return [f"GET({found}, {place})" for place in range(len(shares))]

    def value_at(self, value: str, place: str) -> str:
        return f"GET(SORT_ARRAY(COLLECT_LIST({value})), CAST({place} AS int))"

    def temporary(self, name: str) -> str:
        return f"{self._prefix}_{name}"

    def create_temporary(self, name: str, columns: Sequence[tuple[str, str]]) -> list[str]:
        # What fills it makes it.
        return []

    def insert(self, name: str, query: str) -> str:
        return f"CACHE TABLE {self.temporary(name)} AS\n{query}"
