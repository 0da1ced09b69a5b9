"""Where the text of a statement that runs as dbo comes from.

What ``as_owner`` runs may hold literals, numbers, and names that a function of the schema has
quoted; whatever else a caller gives has to travel as a parameter. The check follows a statement's
variables back to what they were made of, by their texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Their results are quoted names, literals, or lists of these.
QUOTING = {"quoted_name", "each_name", "text_literal", "float_literal", "number_text", "QUOTENAME"}
#: Given by a caller of the schema's own, or by a called procedure, that made them of quoted names.
MADE_ELSEWHERE = {
    ("create_staging", "@key_columns"): "check_definition or describe_key: QUOTENAME and type_text",
    ("create_segment_table", "@typed"): "describe_key: QUOTENAME and type_text",
    ("mark_object", "@kind"): "TABLE or VIEW, by create_segment_table",
    ("mark_object", "@suffix"): "a literal, by create_segment_table",
    ("refresh_function", "@parameters"): "scoring_text",
    ("refresh_function", "@query"): "scoring_text or explaining_text",
    ("run_segmentation", "@columns"): "read_source: names that it made by number",
}

_TOKEN = re.compile(r"N?'(?:[^']|'')*'|@@?\w+|\w+(?:\.\w+)?|\S")
_CONDITION = re.compile(r"\bWHEN\b.*?\bTHEN\b|\bCASE\s+@\w+", re.DOTALL)
_USED = re.compile(
    r"@statement = @statement[,;]|sp_executesql\s+@statement|@(text|warning) = @statement"
)
_WORDS = {"CASE", "ELSE", "END", "COALESCE", "NCHAR", "LEFT", "NULL"}


def owner_texts(text: str) -> Iterator[tuple[str, int]]:
    """The expressions that ``as_owner`` runs, with the place of each call."""
    for call in re.finditer(r"EXECUTE sqlkmeans\.as_owner\b", text):
        arguments = _until_semicolon(text, call.end())
        given = dict(re.findall(r"(@\w+) = (N'(?:[^']|'')*'|@\w+)", arguments))
        statement = given["@statement"]
        # A CREATE VIEW or FUNCTION has to stand alone in its batch.
        yield (given["@text"] if statement == "N'EXECUTE (@text);'" else statement), call.start()


def strangers(procedure: str, text: str) -> list[str]:
    """What a statement of ``as_owner`` is made of and should not be: one line for each."""
    found: list[str] = []
    text = re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE)
    for expression, place in owner_texts(text):
        found += _strangers(procedure, text, expression, place, {"@statement"})
    return list(dict.fromkeys(found))


def _strangers(
    procedure: str, text: str, expression: str, place: int, seen: set[str]
) -> Iterator[str]:
    if expression == "@statement":
        for made in _statement_before(text, place):
            yield from _strangers(procedure, text, made, place, seen)
        return
    expression = _CONDITION.sub(" ", expression)
    # Doubled quotes, or a number: what is inside cannot end a literal.
    expression = re.sub(r"REPLACE\((@\w+), N'''', N''''''\)", "N''", expression)
    expression = re.sub(r"CAST\(@\w+ AS nvarchar\(\d+\)\)", "N''", expression)
    expression = re.sub(r"CONVERT\(nvarchar\(\d+\), @\w+, 3\)", "N''", expression)
    position = 0
    while match := _TOKEN.search(expression, position):
        token, position = match.group(), match.end()
        if token.rpartition(".")[2] in QUOTING and expression[position : position + 1] == "(":
            position = _closing(expression, position)
        elif token.startswith("@"):
            if token in seen or (procedure, token) in MADE_ELSEWHERE:
                continue
            made_of = list(_assignments(text, token))
            if not made_of:
                yield f"{procedure}: {token} comes from outside"
            for made in made_of:
                yield from _strangers(procedure, text, made, place, seen | {token})
        elif re.match(r"[A-Za-z_]", token) and not token.startswith("N'") and token not in _WORDS:
            yield f"{procedure}: {token} in {' '.join(expression.split())[:80]}"


def _statement_before(text: str, place: int) -> list[str]:
    """What @statement was made of since it was last used."""
    used = [match.start() for match in _USED.finditer(text)]
    since = max((u for u in used if u < place), default=0)
    made = [item for item in _placed_assignments(text, "@statement") if item[0] < place]
    recent = [value for start, value in made if start > since]
    return recent or [value for _, value in made[-1:]]


def _assignments(text: str, name: str) -> Iterator[str]:
    yield from (value for _, value in _placed_assignments(text, name))


def _placed_assignments(text: str, name: str) -> Iterator[tuple[int, str]]:
    pattern = rf"(?:SET|SELECT|,)\s+{name} = |DECLARE {name} [\w()]+(?:\(\w+\))? =\s"
    for match in re.finditer(pattern, text):
        # A call's argument that only carries the same name is none.
        if re.search(r"EXECUTE [\w.]+[^;]*$", text[: match.start()].rpartition(";")[2]):
            continue
        yield match.start(), _until_semicolon(text, match.end(), comma=match.group()[0] != "D")


def _until_semicolon(text: str, start: int, *, comma: bool = False) -> str:
    depth = 0
    for match in _TOKEN.finditer(text, start):
        token = match.group()
        depth += {"(": 1, ")": -1}.get(token, 0)
        ends = token == ";" or (comma and token == "," and depth == 0) or token == "FROM"
        if ends and depth <= 0:
            return text[start : match.start()]
    return text[start:]


def _closing(text: str, start: int) -> int:
    depth = 0
    for match in _TOKEN.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth == 0:
            return match.end()
    return len(text)
