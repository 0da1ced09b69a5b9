"""What SQL Server does with a text that every parser takes: rules that only the server shows.

A rule is a function of one text, or of all procedures together, that gives what breaks it, in
words. Each has a text in ``CONTROLS`` that breaks it, so that "nothing found" means something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database.sqlserver import database as sqlserver
from sqlkmeans.database.sqlserver.dialect import SQLServerDialect
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.types import SqlColumn
from sqlkmeans.database.sqlserver.workspace import SQLServerWorkspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.profile import Sizes, read_profiles
from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sql import starts, training
from sqlkmeans.engines.pushdown.sql.profile import profile_query
from sqlkmeans.errors import DataError
from support.training_statements import DIALECTS, OLD, make_layout, statements
from support.tsql_files import FILES, PROCEDURES, RECORDED, read

CLIENT = Path(sqlserver.__file__).parent
#: Bytes of a row, and columns of a table.
ROW_BYTES, COLUMNS = 8060, 1024
#: Of a row that is sorted, beside the table's.
SORT_BYTES = 210
PARAMETERS = 2100

#: Where one text that a procedure builds ends, and the next begins.
BATCH_ENDS = r"SET @statement =|EXECUTE sys\.sp_executesql|EXECUTE \(|^GO$"

Rule = Callable[[str], list[str]]
#: The texts of procedures, by name.
Procedures = Mapping[str, str]


def texts() -> Iterator[tuple[str, str]]:
    """Every file, what procedures build from parts, and what the client trains with."""
    for name in FILES:
        if name != "install.sql":  # which is the others
            yield name, read(name)
    yield RECORDED.name, RECORDED.read_text(encoding="utf-8")
    for path in sorted(CLIENT.glob("*.py")):
        yield path.name, path.read_text(encoding="utf-8")
    for name, dialect in DIALECTS.items():
        assert isinstance(dialect, SQLServerDialect)
        for weighted in (False, True):
            layout = make_layout(dialect, weighted=weighted)
            yield f"training {name} {weighted}", ";\n".join(statements(layout))


TEXTS = dict(texts())


def code(text: str) -> str:
    """Without comments."""
    return re.sub(r"--[^\n]*", "", text)


def created(text: str) -> dict[str, list[str]]:
    """The columns of each temporary table that a text creates with CREATE TABLE."""
    found: dict[str, list[str]] = {}
    for match in re.finditer(r"CREATE TABLE (#\w+)\s*\(", code(text)):
        found[match[1]] = _parts(code(text), match.end())
    return found


def _parts(text: str, start: int) -> list[str]:
    """What commas part in the parenthesis that opens before ``start``."""
    parts, depth = [""], 1
    for letter in text[start:]:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return [" ".join(part.split()) for part in parts]
        if letter == "," and depth == 1:
            parts.append("")
        else:
            parts[-1] += letter
    raise AssertionError("a parenthesis stays open")


# Rules of one text


def temporary_names_have_the_prefix(text: str) -> list[str]:
    """A caller's own #input would otherwise be taken for ours, or make ours fail."""
    return re.findall(r"(?<![\w@])#(?!sqlkmeans_[a-z{])\w+", code(text))


def text_columns_have_a_collation(text: str) -> list[str]:
    """A temporary table has tempdb's otherwise, and a comparison with ours ends in error 468."""
    kind = r"\b(?:n?varchar|n?char|sysname|n?text)\b"
    columns = [column for table in created(text).values() for column in table]
    added = re.findall(r"ALTER TABLE #\w+ ADD [^;]*", code(text))
    plain = re.compile(kind + r"(?:\s*\([^)]*\))?(?!\s*(?:\([^)]*\))?\s*COLLATE)", re.IGNORECASE)
    # A nested expression names types too: CAST(@position AS nvarchar(10)).
    added = [re.sub(r"CAST\([^()]* AS n?varchar\(\d+\)\)", "", part) for part in added]
    return [part for part in (*columns, *added) if plain.search(part)]


def no_variance_is_one_pass(text: str) -> list[str]:
    """STDEVP is the difference of two sums of squares: 1 to 6 + 1e10 have the deviation 0."""
    found = re.findall(r"\b(?:STDEVP?|VARP?)\s*\(", code(text), re.IGNORECASE)
    squares = re.findall(
        r"\b(?:SUM|AVG)\((?:\w+\.)?(?:w(?:eight)? \* )?((?:\w+\.)?\[?[\w {}]+\]?) \* \1\)",
        code(text),
    )
    # Distances and differences, weights, and features that an origin was taken from.
    near = re.compile(r"(?:\w+\.)?(?:\[sqlkmeans distance\]|distance|difference|w|z\d+)$")
    return [*found, *(square for square in squares if not near.match(square))]


def the_database_is_found_by_name(text: str) -> list[str]:
    """In Azure SQL Database, DB_ID() is not the number that sys.databases has."""
    return re.findall(r"sys\.databases[^;]*?\bDB_ID\(\)", code(text))


def nothing_becomes_a_decimal(text: str) -> list[str]:
    """A float that is too large for one is error 8115; number_text knows what it can take."""
    if "ALTER FUNCTION sqlkmeans.number_text" in text:
        return []
    return re.findall(r"\bAS (?:decimal|numeric|(?:small)?money)\b", code(text)) + re.findall(
        r"\bCONVERT\((?:decimal|numeric|(?:small)?money)\b", code(text)
    )


def no_hash_is_sorted_by_all_its_bytes(text: str) -> list[str]:
    """HASHBYTES is a varbinary(8000): a sort asks for 4 KB of memory for each row."""
    return re.findall(r"(?<!CAST\()(?<!SUBSTRING\()HASHBYTES\([^)]*\)", code(text))


def nothing_inserts_what_a_procedure_of_ours_selects(text: str) -> list[str]:
    """INSERT … EXECUTE can't be nested (8164), and turns errors within into 3915 and 3916."""
    called = re.findall(
        r"INSERT (?:INTO )?[#\w.\[\]]+\s*(?:\([^)]*\))?\s*EXEC(?:UTE)?\s+([\w.@(]+)", code(text)
    )
    return [name for name in called if name != "sys.sp_execute_external_script"]


def statements_have_few_parameters(text: str) -> list[str]:
    """2,100 are allowed; these are the names of all parameters and variables of a text."""
    names = set(re.findall(r"@\w+", code(text)))
    return [f"{len(names)} parameters"] if len(names) >= PARAMETERS else []


def tables_have_few_columns(text: str) -> list[str]:
    found = []
    for match in re.finditer(r"CREATE TABLE ([#\w.\[\]]+)\s*\(", code(text)):
        columns = _parts(code(text), match.end())
        if len(columns) >= COLUMNS:
            found.append(f"{match[1]}: {len(columns)} columns")
    return found


def properties_are_no_max_texts(text: str) -> list[str]:
    """A value is sql_variant, which takes no nvarchar(max): error 206. as_owner's @text is one."""
    return re.findall(r"sp_addextendedproperty[^;]*@value = @text\b", code(text))


def arguments_are_no_expressions(text: str) -> list[str]:
    """EXECUTE takes constants and variables; text_literal may give two literals and a plus."""
    found = re.findall(
        r"EXECUTE (?:sys\.)?\w[\w.]*[^;]*?@\w+ = '\s*\+\s*sqlkmeans\.text_literal\(", code(text)
    )
    return [" ".join(part.split())[:80] for part in found]


def what_a_text_calls_is_granted(text: str) -> list[str]:
    """A text runs as the caller, and no ownership chain leads into it: error 229."""
    granted = set(re.findall(r"GRANT EXECUTE ON sqlkmeans\.(\w+)", read("roles/grants.sql")))
    if "ALTER PROCEDURE sqlkmeans.self_test" in text:  # which is for db_owner
        return []
    found = []
    for literal in re.findall(r"N'((?:[^']|'')*)'", code(text)):
        if "CREATE PROCEDURE" in literal:  # the stub before a definition
            continue
        called = set(re.findall(r"EXECUTE sqlkmeans\.(\w+)", literal))
        found += sorted(called - granted)
    return found


def a_text_does_not_name_columns_that_it_adds(text: str) -> list[str]:
    """A batch is compiled against the table as it is before: error 207. Only what is missing as a
    whole is looked for later."""
    found = []
    for batch in re.split(BATCH_ENDS, code(text), flags=re.MULTILINE):
        for table in set(re.findall(r"ALTER TABLE (#\w+) ADD", batch)):
            used = re.findall(rf"(?:INSERT INTO|UPDATE|FROM|JOIN) {table}\b", batch)
            # What is created in the same text is not there yet when it is compiled.
            if used and f"CREATE TABLE {table}" not in batch:
                found.append(f"{table}: {used[0]}")
    return found


def no_condition_divides_by_what_it_tests(text: str) -> list[str]:
    """AND promises no order, and stops at no UNKNOWN: error 8134. NULLIF makes it NULL."""
    conditions = re.findall(r"\bWHEN ((?:(?!\bWHEN\b|\bTHEN\b).)*?)\bTHEN\b", code(text), re.DOTALL)
    divides = re.compile(r"/ (?!NULLIF\b)(?:[a-z]\.)?\w*[a-z_]\w*")
    return [c for c in conditions if re.search(r"\b(?:AND|OR)\b", c) and divides.search(c)]


def a_random_number_is_one_of_each_row(text: str) -> list[str]:
    """Without a column beside it, NEWID() may be asked once for the statement: all rows or none."""
    return re.findall(r"CHECKSUM\(NEWID\(\)\)", code(text))


def no_count_divides_unguarded(text: str) -> list[str]:
    """WHERE promises no order either: what divides is NULLIF or a variable."""
    return re.findall(r"/ (?:CAST\()?[a-z]\.(?:known|customers|size)\b", code(text))


def beside_all_columns_stand_names_that_no_key_has(text: str) -> list[str]:
    """Two columns of one name in a derived table are error 8156, and a key has any name."""
    listed = re.findall(r"SELECT r\.\*,((?:(?!\bFROM\b).)*)", code(text), re.DOTALL)
    named = [name for part in listed for name in re.findall(r"\bAS (\[[^\]]*\]|\w+)", part)]
    return [name for name in named if not name.startswith("[sqlkmeans ")]


def an_empty_columnstore_asks_for_one_thread(text: str) -> list[str]:
    """Its grant is by columns and threads, rows or none."""
    made = re.findall(r"CREATE CLUSTERED COLUMNSTORE INDEX [^;]*", code(text))
    return [statement for statement in made if "MAXDOP = 1" not in statement]


def a_condition_calls_no_function_of_ours_for_each_row(text: str) -> list[str]:
    """Before 2019 it is called anew for every row, and keeps the statement off parallel plans."""
    return re.findall(r"\b(?:WHERE|ON) (?:(?!;|\bSET\b).)*?sqlkmeans\.shared_number\(",
                      code(text), re.DOTALL)  # fmt: skip


def texts_that_are_hashed_have_one_collation(text: str) -> list[str]:
    """Columns of several collations make a text that has none: errors 446, 457. And CONCAT writes a
    datetime without its seconds, in the session's language."""
    kinds = {name: kind for table in created(text).values()
             for name, _, kind in (column.partition(" ") for column in table)}  # fmt: skip
    hashed = [
        part
        for found in re.finditer(r"HASHBYTES\('\w+', CONCAT\(", code(text))
        for part in _parts(code(text), found.end())
    ]
    return [
        p for p in hashed if re.match(r"n?(?:var)?char\b|(?:small)?datetime\b", kinds.get(p, ""))
    ]


def a_time_since_a_run_began_has_no_end(text: str) -> list[str]:
    """DATEDIFF gives an int: 24.8 days of milliseconds, then error 535."""
    return re.findall(r"\bDATEDIFF\(millisecond, (?:\w+\.)?started_at\b", code(text))


def what_may_be_absent_is_asked_for_a_level_below(text: str) -> list[str]:
    """A TRY does not catch that a name of its own level is not there (error 208)."""
    return re.findall(r"guarded\(\s*f?\"SELECT [^\"]*\bOPENJSON\([^\"]*\"", text)


def lists_from_xml_are_read_back(text: str) -> list[str]:
    """FOR XML writes <, & and control characters as entities, and without TYPE says nothing of it:
    sqlkmeans.joined reads them."""
    return [
        found[0] for found in re.finditer(r"\bFOR XML\b.{0,16}", code(text), re.DOTALL)
        if not found[0].startswith("FOR XML PATH('')), N")
    ]  # fmt: skip


def texts_of_two_collations_say_which_counts(text: str) -> list[str]:
    """A sum of columns of two collations has none: errors 451, 457."""
    own = {
        column.partition(" ")[0]
        for table in created(text).values() for column in table
        if " COLLATE " in column and "COLLATE DATABASE_DEFAULT" not in column
    }  # fmt: skip
    return [
        found[0]
        for name in sorted(own)
        for found in re.finditer(
            rf"\w+\.\w+ (?:\+ N'[^']*' )?\+ "
            rf"(?:COALESCE\(\w+\.{name}, N'[^']*'\)|\w+\.{name}\b)(?! COLLATE)",
            code(text),
        )
    ]


def what_others_write_into_is_dropped_in_seconds(text: str) -> list[str]:
    """A bulk copy holds its table as long as it lives, and LOCK_TIMEOUT is endless by itself."""
    return [
        found for found in re.findall(r"N'[^']*DROP TABLE[^;]*?parts'|WHEN N'parts' THEN N'[^']*'",
                                      code(text))
        if "SET LOCK_TIMEOUT" not in found
    ]  # fmt: skip


def an_outer_apply_reads_a_table(text: str) -> list[str]:
    """Of an expression alone it stays a loop over the rows; CROSS APPLY is a Compute Scalar."""
    return [
        f"OUTER APPLY of {found[:60]!r}"
        for found in re.findall(
            r"OUTER APPLY \((SELECT (?!TOP)[^()]*(?:\([^()]*\)[^()]*)*)\)", code(text)
        )
        if " FROM " not in f"{found} " and "\nFROM " not in found
    ]


def a_unique_index_is_one_that_holds(text: str) -> list[str]:
    """A disabled, filtered or hypothetical one is listed as unique, and keeps nothing apart."""
    return [
        f"{found[:60]!r} without {condition}"
        for found in re.findall(r"\w+\.is_unique = 1.*?(?=NOT EXISTS|;|$)", code(text), re.DOTALL)
        for condition in ("is_disabled = 0", "has_filter = 0", "is_hypothetical = 0")
        if condition not in found
    ]


def a_described_column_is_of_this_server(text: str) -> list[str]:
    """A linked server may have a database of the same name."""
    return [
        found for found in re.findall(r"\S+ \S+ \S+ AND \w+\.source_database = DB_NAME\(\)|"
                                      r"(?:WHERE|WHEN) \w+\.source_database = DB_NAME\(\)",
                                      code(text))
        if "source_server IS NULL" not in found
    ]  # fmt: skip


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        temporary_names_have_the_prefix,
        text_columns_have_a_collation,
        no_variance_is_one_pass,
        the_database_is_found_by_name,
        nothing_becomes_a_decimal,
        no_hash_is_sorted_by_all_its_bytes,
        nothing_inserts_what_a_procedure_of_ours_selects,
        statements_have_few_parameters,
        tables_have_few_columns,
        properties_are_no_max_texts,
        arguments_are_no_expressions,
        what_a_text_calls_is_granted,
        a_text_does_not_name_columns_that_it_adds,
        no_condition_divides_by_what_it_tests,
        a_random_number_is_one_of_each_row,
        no_count_divides_unguarded,
        beside_all_columns_stand_names_that_no_key_has,
        an_empty_columnstore_asks_for_one_thread,
        a_condition_calls_no_function_of_ours_for_each_row,
        texts_that_are_hashed_have_one_collation,
        a_time_since_a_run_began_has_no_end,
        what_may_be_absent_is_asked_for_a_level_below,
        lists_from_xml_are_read_back,
        texts_of_two_collations_say_which_counts,
        what_others_write_into_is_dropped_in_seconds,
        an_outer_apply_reads_a_table,
        a_unique_index_is_one_that_holds,
        a_described_column_is_of_this_server,
    )
}

#: For each rule, texts that break it.
CONTROLS = [
    ("temporary_names_have_the_prefix", "CREATE TABLE #input (a int);"),
    ("temporary_names_have_the_prefix", "SELECT 1 AS a INTO #sqlkmeansx;"),
    ("text_columns_have_a_collation", "CREATE TABLE #sqlkmeans_a (name nvarchar(128) NOT NULL);"),
    ("text_columns_have_a_collation", "CREATE TABLE #sqlkmeans_a (n int, t nvarchar(max) NULL);"),
    ("text_columns_have_a_collation", "N'ALTER TABLE #sqlkmeans_a ADD f1 nvarchar(101) NULL; '"),
    ("no_variance_is_one_pass", "SELECT STDEVP(v.value) FROM t AS v;"),
    ("no_variance_is_one_pass", "SET @s = N'SELECT VARP(s.z{})';"),
    ("no_variance_is_one_pass", "SELECT SUM(x.income * x.income) FROM t AS x;"),
    ("no_variance_is_one_pass", "SELECT AVG(x.[sqlkmeans o1] * x.[sqlkmeans o1]) FROM t AS x;"),
    ("the_database_is_found_by_name",
     "SELECT d.name FROM sys.databases AS d WHERE d.database_id = DB_ID();"),
    ("nothing_becomes_a_decimal", "SET @t = CAST(CAST(@shift AS decimal(9, 2)) AS nvarchar(20));"),
    ("nothing_becomes_a_decimal", "SET @t = CONVERT(numeric(9, 2), @shift);"),
    ("no_hash_is_sorted_by_all_its_bytes",
     "SELECT TOP (9) a FROM t ORDER BY HASHBYTES('SHA2_256', a);"),
    ("nothing_inserts_what_a_procedure_of_ours_selects",
     "INSERT INTO #sqlkmeans_a (n)\nEXECUTE sqlkmeans.purge;"),
    ("nothing_inserts_what_a_procedure_of_ours_selects", "INSERT #sqlkmeans_a EXEC (@text);"),
    ("statements_have_few_parameters", " ".join(f"@p{n}" for n in range(PARAMETERS))),
    ("tables_have_few_columns",
     f"CREATE TABLE dbo.a ({', '.join(f'c{n} int' for n in range(COLUMNS))});"),
    ("properties_are_no_max_texts",
     "EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @text;"),
    ("arguments_are_no_expressions",
     "SET @s = N'EXECUTE sys.p @name = ' + sqlkmeans.text_literal(@target) + N';';"),
    ("a_text_does_not_name_columns_that_it_adds",
     "SET @s = N'ALTER TABLE #sqlkmeans_a ADD z1 float NULL; '\n"
     "+ N'INSERT INTO #sqlkmeans_a (z1) SELECT 1;';\nEXECUTE sys.sp_executesql @s;"),
    ("no_condition_divides_by_what_it_tests",
     "SELECT CASE WHEN m.highest > m.lowest AND m.squares / m.known > t.rest THEN 1 END FROM m;"),
    ("a_random_number_is_one_of_each_row", "WHERE (CHECKSUM(NEWID()) & 2147483647) % @step = 0"),
    ("no_count_divides_unguarded",
     "SELECT m.holding / CAST(m.known AS float) AS share FROM t AS m WHERE m.known > 0;"),
    ("no_count_divides_unguarded", "SELECT m.holding * a.rest / e.known FROM t AS m;"),
    ("beside_all_columns_stand_names_that_no_key_has",
     "SELECT h.hash FROM (SELECT r.*, 1 AS hash FROM #sqlkmeans_prepared AS r) AS h;"),
    ("an_empty_columnstore_asks_for_one_thread",
     "CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_columns ON #sqlkmeans_input;"),
    ("a_condition_calls_no_function_of_ours_for_each_row",
     "DELETE FROM t WHERE place > 1 AND place <= sqlkmeans.shared_number(N'max_categories');"),
    ("texts_that_are_hashed_have_one_collation",
     "CREATE TABLE #sqlkmeans_rows (k1 varchar(9) COLLATE Greek_CI_AS NULL, k2 varchar(9) COLLATE "
     "Latin1_General_CI_AS NULL); SELECT HASHBYTES('MD5', CONCAT(N'7', N'|', k1, N'|', k2));"),
    ("texts_that_are_hashed_have_one_collation",
     "CREATE TABLE #sqlkmeans_rows (k1 datetime NULL); SELECT HASHBYTES('MD5', CONCAT(N'', k1));"),
    ("a_time_since_a_run_began_has_no_end",
     "SET seconds_total = DATEDIFF(millisecond, started_at, SYSUTCDATETIME()) / 1e3"),
    ("what_may_be_absent_is_asked_for_a_level_below",
     "session.guarded(\"SELECT j.[value] FROM OPENJSON(N'[1]') AS j;\")"),
    ("lists_from_xml_are_read_back",
     "SET @list = (SELECT N', ' + c.name FROM #sqlkmeans_column AS c FOR XML PATH(''));"),
    ("texts_of_two_collations_say_which_counts",
     "CREATE TABLE #sqlkmeans_level (level nvarchar(102) COLLATE Latin1_General_100_BIN2 NULL); "
     "SELECT c.name + N' = ' + COALESCE(s.level, N'(other)'), N'none' FROM #sqlkmeans_level AS s;"),
    ("what_others_write_into_is_dropped_in_seconds",
     "SET @statement = N'DROP TABLE IF EXISTS sqlkmeans.' + QUOTENAME(N'staging_7_parts');"),
    ("what_others_write_into_is_dropped_in_seconds",
     "SET @s = CASE @kind WHEN N'parts' THEN N'DROP TABLE IF EXISTS sqlkmeans.' + @name END;"),
    ("an_outer_apply_reads_a_table",
     "SELECT n.c FROM t AS r OUTER APPLY (SELECT CASE WHEN (r.a) <= (r.b) THEN 1 END AS c) AS n;"),
    ("a_unique_index_is_one_that_holds",
     "SELECT 1 FROM sys.indexes AS i WHERE i.is_unique = 1 AND i.is_disabled = 0 "
     "AND i.has_filter = 0;"),
    ("a_described_column_is_of_this_server",
     "SELECT CASE WHEN d.source_database = DB_NAME() THEN d.source_column END FROM d;"),
    ("what_a_text_calls_is_granted", "SET @s = N'EXECUTE sqlkmeans.as_owner @statement = @s;';"),
]  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_keeps_the_rules(name: str) -> None:
    found = {rule: looks(TEXTS[name]) for rule, looks in RULES.items()}
    assert not [f"{rule}: {what}" for rule, what in found.items() if what]


@pytest.mark.parametrize(("rule", "broken"), CONTROLS)
def test_a_text_that_breaks_the_rule_is_found(rule: str, broken: str) -> None:
    assert RULES[rule](broken)


def test_every_rule_has_a_text_that_breaks_it() -> None:
    assert {rule for rule, _ in CONTROLS} == set(RULES)


# Rules of all procedures together


def procedures() -> Procedures:
    return {name.removeprefix("procedures/").removesuffix(".sql"): read(name)
            for name in PROCEDURES}  # fmt: skip


def reached(procedures: Procedures) -> dict[str, set[str]]:
    """What each procedure calls, directly or through others."""
    calls = {
        name: set(re.findall(r"EXECUTE (?:@\w+ = )?sqlkmeans\.(\w+)", code(text)))
        for name, text in procedures.items()
    }
    calls = {name: (called & set(calls)) - {name} for name, called in calls.items()}
    while True:
        further = {
            name: called.union(*(calls[other] for other in called))
            for name, called in calls.items()
        }
        if further == calls:
            return calls
        calls = further


def nested_procedures_share_no_temporary_table(procedures: Procedures) -> list[str]:
    """The inner one is compiled while the outer table exists, and binds to its columns (207)."""
    made = {
        name: {*created(text), *re.findall(r"\bINTO (#\w+)\s+FROM\b", code(text))}
        for name, text in procedures.items()
    }
    return [
        f"{outer} and {inner}: {table}"
        for outer, called in reached(procedures).items()
        for inner in sorted(called - {outer})
        for table in sorted(made[outer] & made[inner])
    ]


def a_temporary_table_has_one_shape(procedures: Procedures) -> list[str]:
    """So that a procedure can rely on it, whoever made it."""
    shapes: dict[str, tuple[str, list[str]]] = {}
    found = []
    for name, text in procedures.items():
        for table, columns in created(text).items():
            first, shape = shapes.setdefault(table, (name, columns))
            if shape != columns:
                found.append(f"{table} of {first} and of {name}")
    return found


TOGETHER: list[tuple[Callable[[Procedures], list[str]], Procedures]] = [
    (
        nested_procedures_share_no_temporary_table,
        {
            "run": "CREATE TABLE #sqlkmeans_label (n int); EXECUTE sqlkmeans.publish @run = 1;",
            "publish": "EXECUTE sqlkmeans.apply;",
            "apply": "SET @s = N'SELECT a INTO #sqlkmeans_label FROM t';",
        },
    ),
    (
        a_temporary_table_has_one_shape,
        {
            "one": "CREATE TABLE #sqlkmeans_a (n int NOT NULL);",
            "other": "CREATE TABLE #sqlkmeans_a (n bigint NOT NULL);",
        },
    ),
]


@pytest.mark.parametrize(("rule", "broken"), TOGETHER)
def test_all_procedures_together_keep_the_rule(
    rule: Callable[[Procedures], list[str]], broken: Procedures
) -> None:
    assert rule(procedures()) == []
    assert rule(broken)


def test_the_call_graph_reaches_what_is_nested_deep() -> None:
    called = reached(procedures())
    assert {"as_owner", "train_passes", "apply_labels", "check_keys"} <= called["run_segmentation"]
    assert not [name for name, others in called.items() if name in others]


def test_a_table_of_many_columns_gets_no_columnstore_index_from_the_server_nor_the_client() -> None:
    most = int(re.findall(r"OR (\d+) < \(SELECT COUNT", read("procedures/store_in_columns.sql"))[0])
    made = {
        count: SQLServerDialect(columnstore=True).create_temporary(
            "rows", [(f"z{n}", "float") for n in range(count)]
        )[-1]
        for count in (most, most + 1)
    }
    assert "CREATE CLUSTERED COLUMNSTORE INDEX" in made[most]
    assert "COLUMNSTORE" not in made[most + 1]


# How many features a row holds


def row_bytes(columns: list[str]) -> int:
    """Of a row of a table: header, columns, their number and a bit for each. Of a long text 24
    bytes stay in the row, beside the two of its place."""
    sizes = {"int": 4, "integer": 4, "float": 8, "bigint": 8, "bit": 1, "nvarchar(101)": 26}
    types = [re.sub(r"\[[^\]]*\]|^\w+", "", column, count=1).split()[0] for column in columns]
    return 4 + sum(sizes[kind] for kind in types) + 2 + (len(columns) + 7) // 8


def test_as_many_features_as_train_columns_allows_fit_in_a_row_and_ten_more_do_not() -> None:
    allowed = int(re.findall(r"IF @features > (\d+)", read("procedures/train_columns.sql"))[0])
    assert f"IF @features > {allowed}\n" in read("procedures/assign_rows.sql")
    made = {
        table: columns
        for name in ("label_rows", "train_segmentation", "train_seed")
        for table, columns in created(read(f"procedures/{name}.sql")).items()
    }
    added = [
        column
        for name in ("prepare_rows", "train_seed")
        for column in re.findall(r"ALTER TABLE (#\w+) ADD (\[?[\w ]+)\{\}\]? float NULL;",
                                 read(f"procedures/{name}.sql"))
    ]  # fmt: skip
    assert len(added) == 9
    fits = {}
    for features in (allowed, allowed + 10):
        sizes = {}
        for table, _ in added:
            more = [f"c{n} float NULL" for n in range(features)
                    for name, _ in added if name == table]  # fmt: skip
            columns = [*made[table], *more]
            assert len(columns) < COLUMNS
            sizes[table] = row_bytes(columns)
        # A sort's row has its keys as well: a number, a hash, a weight. A key has 900 bytes.
        sizes["#sqlkmeans_sample"] += SORT_BYTES
        sizes["#sqlkmeans_prepared"] += 900 + 4
        fits[features] = max(sizes.values()) <= ROW_BYTES
    assert fits == {allowed: True, allowed + 10: False}


def test_as_many_columns_as_read_source_allows_fit_in_a_row_beside_the_widest_key() -> None:
    allowed = int(re.findall(r"IF @position > (\d+)", read("procedures/read_source.sql"))[0])
    made = created(read("procedures/run_segmentation.sql"))["#sqlkmeans_input"]
    numbers = [f"f{n} float NULL" for n in range(allowed + 1)]  # one is the sample weight
    # A key of 900 bytes has 32 columns at most, each with a bit.
    assert row_bytes([*made, *numbers]) + 900 + 4 <= ROW_BYTES
    assert len(made) + len(numbers) + 32 < COLUMNS


# How many features a row of pushdown holds


class Answering(Session):
    """Keeps what it is told, and has an answer where a run cannot go on without one."""

    def __init__(self, columns: int = 0) -> None:
        self.told: list[str] = []
        self._columns = columns

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self.told.append(statement)
        if " AS repeats" in statement:
            return [(3_000, 0, 0)]
        return [(3_000, *[0.5] * self._columns)] if "cluster" not in statement else []


class Boundless(SQLServerDialect):
    """Asks nobody whether a table can be made."""

    def too_wide(self, columns: Sequence[tuple[str, str]]) -> None:
        return None


def wide_rows(
    session: Session, numbers: int, texts: int = 0, dialect: SQLServerDialect = OLD
) -> tuple[KeptRows, list[PreparedFeature]]:
    """Rows of so many columns, and what each customer's numbers are made of: 20 levels a text."""
    names = [f"f{n}" for n in range(numbers + texts)]
    columns = {name: SqlColumn(name, "float", 8, 53, 0, None) for name in names}
    columns["id"] = SqlColumn("id", "bigint", 8, 19, 0, None)
    for name in names[numbers:]:
        columns[name] = SqlColumn(name, "nvarchar", 80, 0, 0, "Latin1_General_CI_AS")
    segmentation = Segmentation.create(
        name="t", source="dbo.t", key="id", k=2, target="dbo.s", engine="pushdown",
        features=[*names[:numbers], *({"column": n, "type": "category"} for n in names[numbers:])],
    )  # fmt: skip
    features = [PreparedFeature(name, "none", 1.0, 0.5, 2.0, None) for name in names[:numbers]]
    features += [
        PreparedFeature(name, "none", 1.0, 0.5, 2.0, None, "category", f"level {level}")
        for name in names[numbers:]
        for level in range(20)
    ]
    workspace = SQLServerWorkspace(session, "dbo.t AS source", columns, dialect)
    return KeptRows(workspace, segmentation, names), features


def tables_of_a_run(
    numbers: int, texts: int = 0, dialect: SQLServerDialect = OLD
) -> dict[str, list[str]]:
    """The columns of every temporary table of a run."""
    session = Answering()
    rows, features = wide_rows(session, numbers, texts, dialect)
    rows.take()
    rows.keep_prepared(features)
    centroids = np.zeros((2, len(features)))
    made = [
        *session.told,
        *starts.first_cell(rows.layout, features, 1_000, 1.0, 7),
        *starts.split_cells(rows.layout, features, 0),
        *training.label_rows(rows.layout, features, centroids),
    ]
    return created(";\n".join(made))


def too_wide(tables: Mapping[str, list[str]]) -> list[str]:
    return [
        name for name, columns in tables.items()
        if row_bytes(columns) > ROW_BYTES or len(columns) >= COLUMNS
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "texts", "kept"),
    [(490, 0, True), (500, 0, False), (980, 0, False), (0, 30, True), (0, 45, False)],
)
def test_prepared_values_are_kept_where_a_row_holds_them(
    numbers: int, texts: int, kept: bool
) -> None:
    tables = tables_of_a_run(numbers, texts)
    assert len(tables) == 4 + kept
    assert ("#sqlkmeans_prepared" in tables) == kept
    assert too_wide(tables) == []


@pytest.mark.parametrize(
    ("numbers", "texts", "found"),
    [
        (500, 0, {"#sqlkmeans_prepared"}),
        (0, 45, {"#sqlkmeans_prepared"}),
        (0, 50, {"#sqlkmeans_prepared", "#sqlkmeans_cells_0", "#sqlkmeans_cells_1"}),
        (1_000, 0, {"#sqlkmeans_rows", "#sqlkmeans_prepared", "#sqlkmeans_labelled",
                    "#sqlkmeans_cells_0", "#sqlkmeans_cells_1"}),
    ],
)  # fmt: skip
def test_a_table_that_the_server_cannot_make_is_found(
    numbers: int, texts: int, found: set[str]
) -> None:
    assert set(too_wide(tables_of_a_run(numbers, texts, Boundless()))) == found


def test_more_columns_than_a_row_holds_are_refused_before_the_source_is_read() -> None:
    session = Answering()
    with pytest.raises(DataError) as raised:
        wide_rows(session, 1_000)
    assert str(raised.value) == (
        "features: 1,000 given, which makes a table of 1,003 columns and up to 8,154 bytes a row, "
        "where SQL Server allows fewer than 1,024 columns and 8,060 bytes; give fewer, or "
        'engine = "local", which takes them'
    )
    assert session.told == []


def test_more_levels_than_a_row_holds_are_refused_in_words() -> None:
    with pytest.raises(DataError) as raised:
        tables_of_a_run(0, 50)
    assert str(raised.value) == (
        "features: 1,000 numbers of each customer, one for each level of a category, which makes "
        "a table of 1,002 columns and up to 8,150 bytes a row, where SQL Server allows fewer than "
        '1,024 columns and 8,060 bytes; give fewer, or engine = "local", which takes them'
    )


def group_bytes(query: str) -> int:
    """Of a group's row while it is added up; a mean is a sum and a count."""
    sizes = {"COUNT": 8, "COUNT_BIG": 8, "MIN": 8, "MAX": 8, "SUM": 8, "AVG": 16}
    return sum(sizes[name] for name in re.findall(r"\b([A-Z_]+)\(", query) if name in sizes)


def test_a_group_of_a_profile_is_a_row_that_can_be_hashed() -> None:
    session = Answering(430)
    rows, features = wide_rows(session, 430)
    sizes = Sizes(np.array([2_000, 1_000]), np.ones(2), np.ones(2), 2.0, 3_000.0)
    read_profiles(rows, features, sizes)
    grouped = [text for text in session.told if "GROUP BY cluster" in text]
    assert sum("MIN(o430)" in text for text in grouped) == 1
    assert max(map(group_bytes, grouped)) <= ROW_BYTES
    assert group_bytes(profile_query(rows.layout, features, [0.5] * 430)) > ROW_BYTES
