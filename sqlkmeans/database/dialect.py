"""What statements write differently on each database: names, texts, types, expressions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sqlkmeans.database.source import Column


class Dialect(ABC):
    """One database's words.

    Attributes
    ----------
    float_type, text_type : str
        The type of a number of 64 bits, and of a long text.
    boolean_type : str
        The type of yes and no, which 1 and 0 can be cast to.
    count : str
        The aggregate that counts rows.
    logarithm : str
        The natural one.
    apply : str
        Joins a row to a query that reads its columns.
    outer_apply, outer_condition : str
        The same, keeping a row for which the query finds none: what stands before and behind it.
    exact_suffix : str
        What stands at the end of a text where :meth:`exact` compares it.
    sorts_brackets : bool, default=False
        Whether :meth:`quantile` does not scale, and there are :meth:`approximate_quantiles` and
        :meth:`value_at` instead.
    keeps_prepared : bool
        Whether prepared values are kept in a table, because an expression is written out wherever
        its name stands.
    """

    float_type: str
    text_type: str
    boolean_type: str
    count: str
    logarithm: str
    apply: str
    outer_apply: str
    outer_condition: str
    exact_suffix: str
    keeps_prepared: bool
    sorts_brackets = False

    @abstractmethod
    def quote(self, name: str) -> str:
        """An identifier, quoted."""

    @abstractmethod
    def literal(self, text: str) -> str:
        """A text constant."""

    @abstractmethod
    def date(self, day: str) -> str:
        """A constant day, written as YYYY-MM-DD."""

    # A source's columns

    def number(self, column: Column, value: str) -> str:
        """A column of numbers or booleans as a number of 64 bits; ``value`` is its quoted name."""
        return f"CAST({value} AS {self.float_type})"

    @abstractmethod
    def category(self, column: Column, value: str) -> str:
        """A column of categories as text."""

    @abstractmethod
    def day(self, column: Column, value: str) -> str:
        """A column of dates as dates without a time."""

    def feature(self, column: Column, kind: str, value: str) -> str:
        """A column as reading takes it: a number, a text, or days since 1970-01-01 as a number."""
        if kind == "category":
            return self.category(column, value)
        if kind == "date":
            days = self.days(self.date("1970-01-01"), self.day(column, value))
            return f"CAST({days} AS {self.float_type})"
        return self.number(column, value)

    # Expressions

    @abstractmethod
    def days(self, start: str, end: str) -> str:
        """Days from one date to another."""

    @abstractmethod
    def earlier(self, day: str, days: str) -> str:
        """The date so many whole days before another; ``days`` is a number of 64 bits."""

    def exact(self, value: str) -> str:
        """A text as it has to be written where ``=`` is to compare it byte for byte."""
        return value

    @abstractmethod
    def length(self, text: str) -> str:
        """Characters of a text, as UTF-16 counts them."""

    @abstractmethod
    def infinite(self, value: str) -> str:
        """A condition."""

    @abstractmethod
    def random(self, keys: Sequence[tuple[str, str]], seed: int) -> str:
        """A number from 0 to below 1 that depends on a row's key and the seed alone; ``keys`` are
        columns and their types."""

    @abstractmethod
    def quantile(self, value: str, share: float) -> str | None:
        """An aggregate, interpolated as numpy.percentile does; None where there is none."""

    def approximate_quantiles(self, value: str, shares: Sequence[float], error: float) -> list[str]:
        """An aggregate each: one of the values, so near to a quantile as a share of the rows."""
        raise NotImplementedError

    def value_at(self, value: str, place: str) -> str:
        """An aggregate: the known value at a place in their order, from 0; NULL outside."""
        raise NotImplementedError

    def parameterised(self, query: str, values: Sequence[float]) -> str | None:
        """A query of ``@p1, @p2, …`` with their values, whose plan is kept for other values; None
        where numbers had better stand in the query."""
        return None

    def fits_least(self, terms: float) -> bool:
        """Whether LEAST may be used in an expression of so many identifiers and constants."""
        return True

    # Queries and temporary tables

    def first(self, rows: int, columns: str, rest: str) -> str:
        """A query of the first rows; ``rest`` begins with FROM and ends with ORDER BY."""
        return f"SELECT {columns}\n{rest}\nLIMIT {int(rows)}"

    @abstractmethod
    def temporary(self, name: str) -> str:
        """The name of a temporary table of the session."""

    def too_wide(self, columns: Sequence[tuple[str, str]]) -> str | None:
        """Why there can be no temporary table of such columns and types, in words; None where there
        can."""
        return None

    @abstractmethod
    def create_temporary(self, name: str, columns: Sequence[tuple[str, str]]) -> list[str]:
        """Statements that make an empty temporary table of columns and their types."""

    @abstractmethod
    def insert(self, name: str, query: str) -> str:
        """Fill an empty temporary table."""
