"""The preparation of a row as SQL expressions, for T-SQL and for DuckDB.

Each does what :class:`~sqlkmeans.clustering.preparation.preparation.Preparation` does, in the same
order: fill in, pull in what is outside the quantiles, transform, subtract the centre, divide. What
has no value is NULL.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database.dialect import Dialect


def own_expression(
    feature: PreparedFeature, value: str, dialect: Dialect, *, levels: Sequence[str] = ()
) -> str:
    """The value in the feature's own units: filled in, and pulled in to its quantiles."""
    if feature.type == "category":
        return _indicator(feature, value, dialect, levels)
    if feature.type == "date":
        age = dialect.days(value, dialect.date(str(feature.reference_date)))
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
    known = f"WHEN {dialect.exact(value)} IN ({listed}) THEN {found} "
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
