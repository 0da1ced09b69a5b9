"""SQL Server's types: what a column is, and how its values travel without losing anything."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from sqlkmeans.database.source import Column
from sqlkmeans.database.sqlserver.dialect import TSQL, bracket
from sqlkmeans.sqltext import Name, parse_name, parse_source

_NUMBERS = frozenset(
    {"bigint", "int", "smallint", "tinyint", "decimal", "numeric", "money", "smallmoney", "float",
     "real"}
)  # fmt: skip
_TEXTS = frozenset({"char", "varchar", "nchar", "nvarchar", "text", "ntext"})
_DATES = frozenset({"date", "datetime", "smalldatetime", "datetime2", "datetimeoffset"})
_KEYS = frozenset(
    {"bigint", "int", "smallint", "tinyint", "bit", "decimal", "numeric", "money", "smallmoney",
     "char", "varchar", "nchar", "nvarchar", "uniqueidentifier", "binary", "varbinary", "time"}
) | _DATES  # fmt: skip
_CATEGORIES = _TEXTS | {"bigint", "int", "smallint", "tinyint", "bit", "uniqueidentifier"}
_PLAIN_ARROW: dict[str, pa.DataType] = {
    "bigint": pa.int64(),
    "int": pa.int32(),
    "smallint": pa.int16(),
    "tinyint": pa.uint8(),
    "bit": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "smalldatetime": pa.timestamp("us"),
    "datetime2": pa.timestamp("us"),
    "binary": pa.large_binary(),
    "varbinary": pa.large_binary(),
}
# The parameter of a type in ODBC's terms: name, size, digits.
_PLAIN_BINDING = {
    "bigint": ("SQL_BIGINT", 0, 0),
    "int": ("SQL_INTEGER", 0, 0),
    "smallint": ("SQL_SMALLINT", 0, 0),
    "tinyint": ("SQL_TINYINT", 0, 0),
    "bit": ("SQL_BIT", 0, 0),
    "float": ("SQL_DOUBLE", 0, 0),
    "date": ("SQL_TYPE_DATE", 10, 0),
    "datetime": ("SQL_TYPE_TIMESTAMP", 23, 3),
    "smalldatetime": ("SQL_TYPE_TIMESTAMP", 23, 3),
    "datetime2": ("SQL_TYPE_TIMESTAMP", 26, 6),
}
# CONVERT's style that writes every digit, and reads it back whatever the session's language.
_TEXT_STYLE = {"datetime2": 121, "datetimeoffset": 121, "time": 121}
# Money as text has two digits or is rounded on the way; as a decimal it has all four.
_AS_DECIMAL = {"money": "decimal(19, 4)", "smallmoney": "decimal(10, 4)"}

#: The widest key of a clustered index, in bytes.
MAX_KEY_BYTES = 900


@dataclass(frozen=True)
class SqlColumn:
    """A column as SQL Server describes it.

    Attributes
    ----------
    name : str
    base : str
        The type's name, without its length.
    max_length : int
        Bytes; -1 for (max).
    precision, scale : int
    collation : str or None
    """

    name: str
    base: str
    max_length: int
    precision: int
    scale: int
    collation: str | None

    @property
    def type(self) -> str:
        """The type as CREATE TABLE writes it."""
        length = "max" if self.max_length == -1 else str(self.max_length)
        collate = f" COLLATE {self.collation}" if self.collation else ""
        if self.base in ("nchar", "nvarchar"):
            length = "max" if self.max_length == -1 else str(self.max_length // 2)
            return f"{self.base}({length}){collate}"
        if self.base in ("char", "varchar"):
            return f"{self.base}({length}){collate}"
        if self.base in ("binary", "varbinary"):
            return f"{self.base}({length})"
        if self.base in ("decimal", "numeric"):
            return f"{self.base}({self.precision}, {self.scale})"
        if self.base in ("datetime2", "datetimeoffset", "time"):
            return f"{self.base}({self.scale})"
        return self.base

    @property
    def can_be_key(self) -> bool:
        """Whether it can be part of a primary key and is compared exactly."""
        return self.base in _KEYS and 0 <= self.max_length <= MAX_KEY_BYTES

    @property
    def as_text(self) -> bool:
        """Whether no driver carries every value exactly except as text.

        Drivers count microseconds, and datetime2(7) has tenths of them; they drop the zone of a
        datetimeoffset; decimal and money are text on the wire already.
        """
        if self.base == "datetime2":
            return self.scale > 6
        return self.base in ("decimal", "numeric", "money", "smallmoney", "datetimeoffset", "time")

    @property
    def read_expression(self) -> str:
        """How a query reads the column as a key."""
        name = bracket(self.name)
        if self.base == "uniqueidentifier":
            # Else it depends on a setting of the driver whether text or objects come.
            return f"CONVERT(char(36), {name}) AS {name}"
        if not self.as_text:
            return name
        value = f"CAST({name} AS {_AS_DECIMAL[self.base]})" if self.base in _AS_DECIMAL else name
        return f"CONVERT(varchar(64), {value}{self._style}) AS {name}"

    def as_feature(self, feature_type: str = "number", prefix: str = "") -> str:
        """How a query reads the column as a feature: a float, or the text of a category."""
        name = bracket(self.name)
        return f"{TSQL.feature(self.to_column(), feature_type, prefix + name)} AS {name}"

    @property
    def write_expression(self) -> str:
        """How a statement takes a value of the column as its parameter."""
        if not self.as_text:
            return "?"
        if self.base in _AS_DECIMAL:
            return f"CAST(CONVERT({_AS_DECIMAL[self.base]}, ?) AS {self.type})"
        return f"CONVERT({self.type}, ?{self._style})"

    @property
    def from_text(self) -> str:
        """How a statement takes a value of the column as a text that people can write."""
        if self.base in ("datetime", "smalldatetime"):
            # They do not read microseconds themselves.
            return f"CAST(CONVERT(datetime2, ?, 121) AS {self.base})"
        if self.base == "date":
            return "CONVERT(date, ?, 23)"
        if self.base == "datetime2":
            return f"CONVERT({self.type}, ?, 121)"
        if self.base in ("binary", "varbinary"):
            return f"CONVERT({self.type}, CAST(? AS varchar(2000)), 1)"
        if self.as_text:
            return self.write_expression
        return "?" if self.base in _TEXTS else f"CONVERT({self.type}, ?)"

    @property
    def binding(self) -> tuple[str, int, int]:
        """ODBC's name of the parameter's type, its size and its digits."""
        if not self.as_text and self.base in _PLAIN_BINDING:
            return _PLAIN_BINDING[self.base]
        if self.base in ("binary", "varbinary"):
            return "SQL_VARBINARY", self.max_length, 0
        return "SQL_WVARCHAR", max(64, self.max_length), 0

    @property
    def _style(self) -> str:
        return f", {_TEXT_STYLE[self.base]}" if self.base in _TEXT_STYLE else ""

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the column as a key."""
        if self.as_text:
            return pa.large_string()
        return _PLAIN_ARROW.get(self.base, pa.large_string())

    def to_column(self) -> Column:
        """The same, as every database describes it."""
        if self.base in _NUMBERS:
            kind = "number"
        elif self.base == "bit":
            kind = "boolean"
        elif self.base in _TEXTS:
            kind = "text"
        else:
            kind = "date" if self.base in _DATES else "other"
        return Column(self.name, self.type, kind, self.can_be_key, self.base in _CATEGORIES)


def bracket_name(parts: Name) -> str:
    """A name of several parts, each in brackets; one part alone is in schema dbo."""
    return ".".join(bracket(part) for part in (parts if len(parts) > 1 else ("dbo", *parts)))


def text(value: str) -> str:
    """A text constant."""
    return "N'" + value.replace("'", "''") + "'"


def relation(source: str) -> str:
    """What stands after FROM: a name, or a SELECT in parentheses."""
    parsed = parse_source(source)
    if parsed.name is not None:
        return f"{bracket_name(parsed.name)} AS source"
    # The line break ends a comment that the query may end with.
    return f"({parsed.query}\n) AS source"


def beside(target: str, suffix: str) -> str:
    """The quoted name of a table that belongs to a target."""
    parts = parse_name(target)
    return bracket_name((*parts[:-1], parts[-1] + suffix))


def feature_arrow(feature_type: str) -> pa.DataType:
    """The Arrow type of a column that is read as a feature."""
    return pa.large_string() if feature_type == "category" else pa.float64()


def key_types(schema: pa.Schema) -> list[str]:
    """The SQL types of key columns whose source is somewhere else.

    Texts and bytes have no length there: what is left of the widest key is shared by them.
    """
    types = [create_type(kind) for kind in schema.types]
    sizes = {"nvarchar(400)": 2, "varbinary(400)": 1}
    several = sum(kind in sizes for kind in types)
    # 8 bytes a column beside them, and 9 of the staging table's and the history's own.
    share = (MAX_KEY_BYTES - 9 - 8 * (len(types) - several)) // max(1, several)
    return [
        f"{kind.partition('(')[0]}({min(400, share // sizes[kind])})" if kind in sizes else kind
        for kind in types
    ]


def create_type(arrow: pa.DataType) -> str:
    """The SQL type of a new table's column."""
    if pa.types.is_integer(arrow):
        return "bigint"
    if pa.types.is_boolean(arrow):
        return "bit"
    if pa.types.is_floating(arrow):
        return "float"
    if pa.types.is_decimal(arrow):
        return f"decimal({arrow.precision}, {arrow.scale})"
    if pa.types.is_date(arrow):
        return "date"
    if pa.types.is_timestamp(arrow):
        return "datetime2(6)"
    if pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow):
        return "varbinary(400)"
    return "nvarchar(400)"
