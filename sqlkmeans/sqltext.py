"""Reading the little SQL that a definition may hold: names of tables, and one SELECT."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Name = tuple[str, ...]

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<string>[nN]?'(?:[^']|'')*')
    | (?P<foreign>[eE]'|\$\w*\$)
    | (?P<quoted>"(?:[^"]|"")+"|\[(?:[^\]]|\]\])+\]|`(?:[^`]|``)+`)
    | (?P<word>[^\W\d][\w$\#@]*)
    | (?P<number>\d[\w.]*)
    | (?P<unclosed>['"`\[])
    | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_COMMENT_END = re.compile(r"/\*|\*/")

# Words that change something, reach outside, or start a statement of their own: T-SQL needs no
# semicolon between two statements, so the first of a second one has to be recognised.
_REFUSED = frozenset(
    """
    alter attach backup begin bulk call checkpoint commit copy create dbcc declare delete deny
    detach drop exec execute export go goto grant import insert install into kill load merge
    openquery openrowset opendatasource pragma print raiserror reconfigure restore return revoke
    rollback save set shutdown throw transaction truncate update use vacuum waitfor while
    """.split()
)


# Functions of DuckDB that read or write files, run a text as a statement, or take an address in
# memory, and those of Spark that call a method of Java. A column may have such a name.
_REFUSED_FUNCTIONS = frozenset(
    """
    arrow_scan arrow_scan_dumb checkpoint disable_logging disable_profiling enable_logging
    enable_profiling force_checkpoint glob java_method json_execute_serialized_sql pandas_scan
    python_map_function query query_table read_blob read_duckdb read_text reflect sniff_csv
    truncate_duckdb_logs try_reflect write_log
    """.split()
)
#: A file that can stand as a table on DuckDB, and what it then stands after.
_FILE = re.compile(r"(?i)^(?!.*://).+\.(csv|csv\.gz|parquet)$", re.DOTALL)
_BARE_FILE = re.compile(r"(?i)(?!(?:select|with)\b)[^'\"`\[\];\n]+")
_BEFORE_FILE = frozenset({"from", "join"})
_FILE_READERS = frozenset({"read_csv", "read_csv_auto", "read_parquet", "parquet_scan"})

# What a SELECT that is part of another one stands after.
_BEFORE_SELECT = frozenset({"(", "union", "all", "except", "intersect", "distinct"})


@dataclass(frozen=True)
class Source:
    """A source: a table or view by name, one SELECT, or a file.

    Attributes
    ----------
    name : tuple of str or None
        The parts of the name, unquoted.
    query : str or None
        The SELECT; of a file, one that reads all of it.
    """

    name: Name | None
    query: str | None


def parse_source(text: str) -> Source:
    """Tell a table name from a SELECT and from a file.

    Raises
    ------
    ValueError
        For anything else: a second statement, DML, a semicolon, unbalanced parentheses.
    """
    if "\0" in text:
        raise ValueError("a NUL character given; allowed: text")
    if is_file(text):
        return Source(None, f"SELECT * FROM {_as_text(text.strip())}")
    words = list(_tokens(text))
    if not words or words[0][1].lower() not in ("select", "with"):
        return Source(parse_name(text, "or one SELECT"), None)
    if words[0][1].lower() == "with":
        raise ValueError("WITH cannot stand inside another query on SQL Server; make it a view")
    _check_select(words)
    return Source(None, text.strip())


def _check_select(tokens: list[tuple[str, str]]) -> None:
    depth = 0
    before = "("
    for (kind, token), (_, after) in zip(tokens, [*tokens[1:], ("", "")]):
        if kind == "word" and token.lower() == "select" and before not in _BEFORE_SELECT:
            raise ValueError("a second SELECT given; allowed: one SELECT")
        before = token.lower()
        if token == ";":
            raise ValueError("a semicolon given; allowed: one SELECT, without one")
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth < 0:
            raise ValueError("a closing parenthesis without its opening one")
        if kind == "word" and token.lower() in _REFUSED:
            raise ValueError(
                f"{token} given; allowed: one SELECT that only reads "
                "(quote it if it is the name of a column)"
            )
        # In quotes as well: those make no other function of it.
        if after == "(" and token.strip('"').lower() in _REFUSED_FUNCTIONS:
            raise ValueError(f"{token}() given; allowed: one SELECT that only reads")
    if depth:
        raise ValueError("an opening parenthesis is not closed")


def named_files(source: str) -> list[str]:
    """The paths of the .csv and .parquet files that a source reads.

    A file is the source itself, or stands in a SELECT behind FROM or JOIN, or first in
    ``read_csv`` or ``read_parquet``.
    """
    query = parse_source(source).query
    return [] if query is None else [path for _, _, path in _files(query)]


def is_file(source: str) -> bool:
    """Whether a source is nothing but the path of a file."""
    text = source.strip()
    return bool(_FILE.match(text) and _BARE_FILE.fullmatch(text))


def is_data_file(text: str) -> bool:
    """Whether a text ends as the path of a .csv or .parquet file does."""
    return bool(_FILE.match(text.strip()))


def with_files_beside(source: str, folder: str) -> str:
    """The source with the paths of its files absolute; relative ones are in the folder."""

    def absolute(path: str) -> str:
        return os.path.abspath(os.path.join(folder, path)).replace(os.sep, "/")

    if is_file(source):
        return absolute(source.strip())
    query = parse_source(source).query or ""
    found = list(_files(query))
    for start, end, path in reversed(found):
        query = f"{query[:start]}{_as_text(absolute(path))}{query[end:]}"
    return query if found else source


def _files(query: str) -> Iterator[tuple[int, int, str]]:
    """Where each path of a file begins and ends in a SELECT, and the path."""
    reader = before = ""
    for start, kind, token in _located_tokens(query):
        if kind in ("string", "quoted") and (
            before in _BEFORE_FILE or (before == "(" and reader in _FILE_READERS)
        ):
            path = _unquoted(token.lstrip("nN"))
            if _FILE.match(path):
                yield start, start + len(token), path
        reader, before = before, token.lower()


def _as_text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _unquoted(token: str) -> str:
    quote_mark = token[-1]
    return token[1:-1].replace(quote_mark * 2, quote_mark)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each token; comments and white space are left out."""
    return ((kind, token) for _, kind, token in _located_tokens(text))


def _located_tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """The same, with where each token begins."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative takes any character
        kind = str(match.lastgroup)
        if kind == "unclosed":
            raise ValueError(f"{match.group()} opens a name or a text that is not closed")
        if kind == "foreign":
            raise ValueError(f"{match.group()} begins a text; allowed: texts in plain quotes, 'so'")
        if kind == "comment":
            position = _comment_end(text, position)
            continue
        if kind != "space":
            yield position, kind, match.group()
        position = match.end()


def _comment_end(text: str, start: int) -> int:
    """Block comments nest in T-SQL and in DuckDB."""
    depth = 0
    for match in _COMMENT_END.finditer(text, start):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    raise ValueError("a comment is not closed")


def parse_name(text: str, otherwise: str = "") -> Name:
    """The parts of ``table``, ``schema.table`` or ``database.schema.table``, unquoted.

    ``otherwise`` says what else is allowed.

    Raises
    ------
    ValueError
        If it is not such a name. Brackets, double quotes and backticks quote, as in
        ``dbo.[My Table]]x]``.
    """
    parts: list[str] = []
    expect_part = True
    for kind, token in _tokens(text):
        if expect_part and kind == "word":
            parts.append(token)
        elif expect_part and kind == "quoted":
            parts.append(_unquoted(token))
        elif expect_part or token != ".":
            raise ValueError(_not_a_name(text, otherwise))
        expect_part = not expect_part
    whole = all(1 <= len(part) <= 128 and "\0" not in part for part in parts)
    if expect_part or not 1 <= len(parts) <= 3 or not whole:
        raise ValueError(_not_a_name(text, otherwise))
    return tuple(parts)


def _not_a_name(text: str, otherwise: str) -> str:
    return (
        f"{text!r} given; allowed: table, schema.table or database.schema.table, "
        "with odd names quoted as in dbo.[My Table]" + (f", {otherwise}" if otherwise else "")
    )


def quote(name: str) -> str:
    """An identifier in double quotes, the standard's way."""
    return '"' + name.replace('"', '""') + '"'


def quote_name(parts: Name) -> str:
    """A name of several parts, each in double quotes."""
    return ".".join(quote(part) for part in parts)


def written_name(parts: Iterable[str]) -> str:
    """A name of several parts as a definition has it: in brackets where it has to be."""
    return ".".join(
        part if re.fullmatch(r"[^\W\d]\w*", part) else f"[{part.replace(']', ']]')}]"
        for part in parts
    )
