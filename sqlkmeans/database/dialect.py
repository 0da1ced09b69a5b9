"""What the statements that train in a database write differently on each database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sqlkmeans.sqltext import quote

#: Half of the identifiers and constants that SQL Server takes in one expression (error 8632), the
#: names in it written out.
MOST_TERMS = 65_535 // 2


#: SQL Server takes 2,100 in a call, the query's own two among them.
MOST_PARAMETERS = 2_000


class TrainingDialect(ABC):
    """One database's words.

    Attributes
    ----------
    embedded : bool
        Whether it is DuckDB.
    keeps_prepared : bool
        Whether prepared values are kept in a table, because an expression is written out wherever
        its name stands.
    float_type, count : str
        The type of a number of 64 bits, and the aggregate that counts rows.
    """

    embedded: bool
    keeps_prepared: bool
    float_type: str
    count: str

    @abstractmethod
    def quote(self, name: str) -> str:
        """An identifier, quoted."""

    @abstractmethod
    def temporary(self, name: str) -> str:
        """The name of a temporary table of the session."""

    @abstractmethod
    def create_temporary(self, name: str, columns: Sequence[tuple[str, str]]) -> list[str]:
        """Statements that make an empty temporary table of columns and their types."""

    @abstractmethod
    def insert(self, name: str, query: str) -> str:
        """Fill an empty temporary table."""

    @abstractmethod
    def first(self, rows: int, columns: str, rest: str) -> str:
        """A query of the first rows; ``rest`` begins with FROM and ends with ORDER BY."""

    @abstractmethod
    def random(self, keys: Sequence[str], seed: int) -> str:
        """A number from 0 to below 1 that depends on a row's key and the seed alone."""

    @abstractmethod
    def parameterised(self, query: str, values: Sequence[float]) -> str | None:
        """A query of ``@p1, @p2, …`` with their values, whose plan is kept for other values; None
        where numbers had better stand in the query."""

    @abstractmethod
    def infinite(self, value: str) -> str:
        """A condition."""

    @abstractmethod
    def fits_least(self, terms: float) -> bool:
        """Whether LEAST may be used in an expression of so many identifiers and constants."""

    @abstractmethod
    def length(self, text: str) -> str:
        """Characters of a text, as UTF-16 counts them."""

    @abstractmethod
    def quantile(self, value: str, share: float) -> str | None:
        """An aggregate, interpolated as numpy.percentile does; None where there is none."""


class DuckDBDialect(TrainingDialect):
    """DuckDB."""

    embedded = True
    keeps_prepared = False
    float_type = "double"
    count = "COUNT(*)"

    def quote(self, name: str) -> str:
        return quote(name)

    def temporary(self, name: str) -> str:
        return f"temp.sqlkmeans_{name}"

    def create_temporary(self, name: str, columns: Sequence[tuple[str, str]]) -> list[str]:
        listed = ", ".join(f"{column} {kind}" for column, kind in columns)
        return [f"CREATE OR REPLACE TEMP TABLE sqlkmeans_{name} ({listed})"]

    def insert(self, name: str, query: str) -> str:
        return f"INSERT INTO {self.temporary(name)}\n{query}"

    def first(self, rows: int, columns: str, rest: str) -> str:
        return f"SELECT {columns}\n{rest}\nLIMIT {int(rows)}"

    def random(self, keys: Sequence[str], seed: int) -> str:
        # 53 bits, as many as a float holds.
        return f"(hash({', '.join(keys)}, {int(seed)}) >> 11) / 9007199254740992e0"

    def parameterised(self, query: str, values: Sequence[float]) -> str | None:
        return None

    def infinite(self, value: str) -> str:
        return f"isinf({value})"

    def fits_least(self, terms: float) -> bool:
        return True

    def length(self, text: str) -> str:
        # Its own length() counts a character beyond U+FFFF once; it is two halves elsewhere.
        pairs = f"regexp_replace({text}, '[^\\x{{10000}}-\\x{{10FFFF}}]', '', 'g')"
        return f"(length({text}) + length({pairs}))"

    def quantile(self, value: str, share: float) -> str | None:
        return f"quantile_cont({value}, {share!r})"


class SQLServerDialect(TrainingDialect):
    """SQL Server 2016 and newer, and Azure SQL.

    Parameters
    ----------
    least : bool
        Whether there is a function LEAST: from 2022 on.
    columnstore : bool
        Whether temporary tables take a clustered columnstore index.
    """

    embedded = False
    keeps_prepared = True
    float_type = "float"
    count = "COUNT_BIG(*)"

    def __init__(self, *, least: bool = False, columnstore: bool = True) -> None:
        self._least = least
        self._columnstore = columnstore

    def quote(self, name: str) -> str:
        return "[" + name.replace("]", "]]") + "]"

    def temporary(self, name: str) -> str:
        return f"#sqlkmeans_{name}"

    def create_temporary(self, name: str, columns: Sequence[tuple[str, str]]) -> list[str]:
        table = self.temporary(name)
        listed = ", ".join(f"{column} {kind}" for column, kind in columns)
        statements = [
            f"IF OBJECT_ID(N'tempdb..{table}') IS NOT NULL DROP TABLE {table};",
            f"CREATE TABLE {table} ({listed});",
        ]
        if self._columnstore:
            statements.append(
                f"CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_{name}_columns ON {table};"
            )
        return statements

    def insert(self, name: str, query: str) -> str:
        return f"INSERT INTO {self.temporary(name)} WITH (TABLOCK)\n{query};"

    def first(self, rows: int, columns: str, rest: str) -> str:
        return f"SELECT TOP ({int(rows)}) {columns}\n{rest}"

    def random(self, keys: Sequence[str], seed: int) -> str:
        text = f"CONCAT(N'{int(seed)}', " + ", ".join(f"N'|', {key}" for key in keys) + ")"
        # 48 bits, which a float holds exactly.
        return (
            f"CAST(CAST(SUBSTRING(HASHBYTES('MD5', {text}), 1, 6) AS bigint) AS float)"
            " / 281474976710656e0"
        )

    def parameterised(self, query: str, values: Sequence[float]) -> str | None:
        if len(values) > MOST_PARAMETERS:
            return None
        names = [f"@p{n}" for n in range(1, len(values) + 1)]
        declared = ", ".join(f"{name} float" for name in names)
        given = ", ".join(f"{name} = {value:.17e}" for name, value in zip(names, values))
        text = query.replace("'", "''")
        return f"EXECUTE sys.sp_executesql N'{text}', N'{declared}', {given};"

    def infinite(self, value: str) -> str:
        # There is no such number.
        return "1 = 0"

    def fits_least(self, terms: float) -> bool:
        return self._least and terms <= MOST_TERMS

    def length(self, text: str) -> str:
        return f"LEN({text})"

    def quantile(self, value: str, share: float) -> str | None:
        # PERCENTILE_CONT is no aggregate here: it gives every row its own copy.
        return None
