"""The preparation of a row as SQL expressions, for T-SQL and for DuckDB.

Each does what :class:`~sqlkmeans.clustering.preparation.preparation.Preparation` does, in the same
order: fill in, pull in what is outside the quantiles, transform, subtract the centre, divide. What
has no value is NULL.

A level of a category is compared byte for byte, trailing blanks included, as Python compares it.
T-SQL needs two things for that: a binary collation, because the database's own may take ``oslo``
for ``Oslo``, and a character after the value, because ``=`` fills the shorter text up with blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlkmeans.clustering.preparation.preparation import PreparedFeature

#: What a client could take for the end of a line: control characters and Unicode's separators.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def tsql_text(value: str) -> str:
    """A text literal of T-SQL, on one line and without ``$(``.

    Inside texts too, sqlcmd ends a batch at a line GO and puts a variable in place of ``$(name)``.
    """
    literal = value.replace("'", "''").replace("$(", "$' + N'(")
    literal = _CONTROL.sub(lambda found: f"' + NCHAR({ord(found.group())}) + N'", literal)
    return f"N'{literal}'"


def duckdb_text(value: str) -> str:
    """A text literal of DuckDB, which reads a statement up to a NUL."""
    parts = ["'" + part.replace("'", "''") + "'" for part in value.split("\0")]
    return parts[0] if len(parts) == 1 else f"({' || chr(0) || '.join(parts)})"


@dataclass(frozen=True)
class Dialect:
    """Where the two languages that run this text differ.

    Attributes
    ----------
    apply : str
        Joins a row to a query that reads its columns.
    outer_apply, outer_condition : str
        The same, keeping a row for which the query finds none: what stands before and behind it.
    top, limit : str
        Of an ordered query the first row alone: what stands behind SELECT and at the end.
    logarithm : str
        The natural one.
    float_type : str
        The type of a number of 64 bits.
    literal : callable
        A text as a statement writes it.
    age : str
        Days from ``{value}`` to the constant ``{date}``, written as YYYY-MM-DD.
    exact_text, exact_suffix : str
        ``{value}`` as it has to be written where ``=`` compares it with a level, and what then
        stands at the end of the level.
    """

    apply: str
    outer_apply: str
    outer_condition: str
    top: str
    limit: str
    logarithm: str
    float_type: str
    literal: Callable[[str], str]
    age: str
    exact_text: str
    exact_suffix: str


#: Any SQL Server from 2016 on.
TSQL = Dialect(
    apply="CROSS APPLY",
    outer_apply="OUTER APPLY",
    outer_condition="",
    top="TOP (1) ",
    limit="",
    logarithm="LOG",
    float_type="float",
    literal=tsql_text,
    age="DATEDIFF(day, {value}, CAST('{date}' AS date))",
    exact_text="({value} + N'.') COLLATE Latin1_General_100_BIN2",
    exact_suffix=".",
)
DUCKDB = Dialect(
    apply="CROSS JOIN LATERAL",
    outer_apply="LEFT JOIN LATERAL",
    outer_condition=" ON TRUE",
    top="",
    limit=" LIMIT 1",
    logarithm="LN",
    float_type="double",
    literal=duckdb_text,
    age="date_diff('day', {value}, DATE '{date}')",
    exact_text="{value}",
    exact_suffix="",
)


def own_expression(
    feature: PreparedFeature, value: str, dialect: Dialect, *, levels: Sequence[str] = ()
) -> str:
    """The value in the feature's own units: filled in, and pulled in to its quantiles."""
    if feature.type == "category":
        return _indicator(feature, value, dialect, levels)
    if feature.type == "date":
        age = dialect.age.format(value=value, date=feature.reference_date)
        value = f"CAST({age} AS {dialect.float_type})"
    if feature.fill is not None:
        value = f"COALESCE({value}, {number(feature.fill)})"
    if feature.low is None or feature.high is None:
        return value
    low, high = number(feature.low), number(feature.high)
    return (
        f"CASE WHEN {value} < {low} THEN {low} WHEN {value} > {high} THEN {high} ELSE {value} END"
    )


def _indicator(
    feature: PreparedFeature, value: str, dialect: Dialect, levels: Sequence[str]
) -> str:
    """1 where the row has the level, or none of the levels that have a feature of their own."""
    asked = levels if feature.level is None else [feature.level]
    listed = ", ".join(dialect.literal(level + dialect.exact_suffix) for level in asked)
    found, not_found = ("0e0", "1e0") if feature.level is None else ("1e0", "0e0")
    missing = "NULL" if feature.fill is None else number(feature.fill)
    known = f"WHEN {dialect.exact_text.format(value=value)} IN ({listed}) THEN {found} "
    return f"CASE WHEN {value} IS NULL THEN {missing} {known if asked else ''}ELSE {not_found} END"


def transformed_expression(feature: PreparedFeature, x: str, dialect: Dialect) -> str:
    """The transform of a value in own units; it repeats ``x``."""
    if feature.transform != "log1p":
        return x
    # ln(1 + x) to the last digits near 0 too: the rounding of 1 + x cancels out (Goldberg, 1991,
    # theorem 4). Outside its domain NULL, because the logarithm would end the whole query.
    u = f"(1e0 + {x})"
    return (
        f"CASE WHEN {u} = 1e0 THEN {x} "
        f"WHEN {x} > -1e0 THEN {dialect.logarithm}{u} * ({x} / ({u} - 1e0)) END"
    )


def scaled_expression(feature: PreparedFeature, transformed: str) -> str:
    """A transformed value, centred and divided by its scale over its weight."""
    if " " in transformed:
        transformed = f"({transformed})"
    return f"({transformed} - ({number(feature.center)})) / {number(feature.divisor)}"


def number(value: float) -> str:
    """A float literal that reads back as the same float; without an exponent it were a decimal."""
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"
