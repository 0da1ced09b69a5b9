"""The T-SQL product as text: complete, current, parsed, and the same as what it says of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sqlkmeans._version import __version__
from sqlkmeans.database import tables
from sqlkmeans.database.sqlserver.script import build_install_script, build_order, install_script
from sqlkmeans.definition import FeatureDefinition, Guard, Segmentation
from support import tsql_files
from support.tsql_files import FILES, GRAMMARS, PROCEDURES, SQL, check, public_procedures, read

DOCS = Path(__file__).parents[2] / "docs"
SYSTEM_PROCEDURES = json.loads(
    (Path(__file__).parent / "system_procedures.json").read_text(encoding="utf-8")
)


def test_the_installer_equals_its_parts() -> None:
    assert install_script() == build_install_script(), (
        "run python -m sqlkmeans.database.sqlserver.script"
    )


def test_the_installer_carries_the_version_of_the_package() -> None:
    text = install_script()
    assert f"RETURN N'{__version__}'" in text
    assert "{{version}}" not in text


def test_the_build_order_names_every_object_once() -> None:
    parts = [
        name
        for name in FILES
        if not name.startswith("examples/") and name not in ("install.sql", "uninstall.sql")
    ]
    assert sorted(build_order()) == parts


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_parser_finds_a_mistake(grammar: str) -> None:
    broken = read("procedures/publish_run.sql").replace("BEGIN", "BEGINN", 1)
    assert check(broken, grammar)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_sql_for_every_supported_server(name: str) -> None:
    found = {grammar: check(read(name), grammar) for grammar in GRAMMARS}
    assert not any(found.values()), found


@pytest.mark.parametrize("name", FILES)
def test_no_file_has_what_sqlcmd_takes_for_a_variable(name: str) -> None:
    """In comments and texts too."""
    assert "$(" not in read(name)


@pytest.mark.parametrize("name", FILES)
def test_no_file_uses_what_a_supported_server_lacks(name: str) -> None:
    # Comments and texts may say the words.
    code = re.sub(r"--[^\n]*|/\*.*?\*/|N?'(?:[^']|'')*'", "", read(name), flags=re.DOTALL).upper()
    refused = ["MERGE", "CREATE OR ALTER", "STRING_AGG", "STRING_SPLIT", "TRIM(", "CONCAT_WS",
               "LEAST(", "GREATEST(", "GENERATE_SERIES", "EXEC "]  # fmt: skip
    found = [word for word in refused if re.search(rf"(?<![A-Z_@]){re.escape(word)}", code)]
    assert not found


@pytest.mark.parametrize("name", PROCEDURES)
def test_every_procedure_is_made_as_a_stub_first_so_that_grants_survive(name: str) -> None:
    made = tsql_files.object_name(name)
    text = read(name)
    assert f"IF OBJECT_ID(N'sqlkmeans.{made}', N'P') IS NULL" in text
    assert f"CREATE PROCEDURE sqlkmeans.{made} AS RETURN 0;" in text
    assert f"ALTER PROCEDURE sqlkmeans.{made}" in text
    assert "SET NOCOUNT" in text


@pytest.mark.parametrize("name", public_procedures())
def test_the_help_of_a_procedure_is_its_signature(name: str) -> None:
    declared = tsql_files.signature(name)
    assert declared, "no parameters found"
    assert tsql_files.help_rows(name) == declared
    assert declared[-1].name == "@help"


def test_procedures_of_the_design_have_help() -> None:
    promised = {"define_segmentation", "run_segmentation", "assign_segments", "publish_run",
                "rename_segment", "rollback_segmentation", "create_agent_job", "drop_agent_job",
                "purge", "start_run", "create_parts", "fail_run", "finish_choice",
                "lock_segmentation", "unlock_segmentation", "drop_segmentation",
                "self_test"}  # fmt: skip
    assert {tsql_files.object_name(name) for name in public_procedures()} == promised


def test_only_procedures_with_help_are_granted() -> None:
    granted = set(re.findall(r"GRANT EXECUTE ON sqlkmeans\.(\w+)", read("roles/grants.sql")))
    public = {tsql_files.object_name(name) for name in public_procedures()}
    # The self-test makes users, which takes db_owner, who needs no grant.
    assert granted - {"version"} == public - {"self_test"}


def test_nobody_is_granted_the_door_to_the_owners_permissions() -> None:
    assert "as_owner" not in read("roles/grants.sql")


@pytest.mark.parametrize("name", sorted(set(PROCEDURES) - {"procedures/as_owner.sql"}))
def test_calls_pass_every_parameter_that_the_called_procedure_has_no_default_for(
    name: str,
) -> None:
    text = read(name)
    calls = re.findall(r"EXECUTE sqlkmeans\.(\w+)((?:\s+@\w+ = [^,;]+,?)*)", text)
    for called, arguments in calls:
        passed = set(re.findall(r"(@\w+) = ", arguments))
        if called == "as_owner":
            known = set(re.findall(r"^    (@\w+) ", read("procedures/as_owner.sql"), re.MULTILINE))
            assert passed <= known, (called, passed - known)
            continue
        declared = tsql_files.signature(f"procedures/{called}.sql")
        assert passed <= {p.name for p in declared}, (called, passed)
        missing = {p.name for p in declared if p.default is None and "OUTPUT" not in p.type}
        assert missing <= passed, (called, missing - passed)


@pytest.mark.parametrize("name", FILES)
def test_system_procedures_are_called_with_parameters_that_they_have(name: str) -> None:
    # Texts too: some calls stand in statements that a procedure builds.
    text = read(name).replace("''", "'")
    pattern = (
        r"EXECUTE (?:@\w+ = )?(?:sys\.|msdb\.dbo\.)(sp_\w+)((?:\s+@\w+ = (?:N?'[^']*'|[^,;']+),?)*)"
    )
    for called, arguments in re.findall(pattern, text):
        if called == "sp_executesql":
            continue
        known = SYSTEM_PROCEDURES[called]
        passed = re.findall(r"(@\w+) = ", re.sub(r"N?'[^']*'", "", arguments))
        assert passed, called
        own = (
            {"@job", "@publication", "@version"}
            if called == "sp_execute_external_script"
            else set()
        )
        assert set(passed) - own <= set(known), called


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_statements_that_stand_whole_in_a_procedure_are_sql(grammar: str) -> None:
    """What is put together from parts is recorded on a server: test_generated_statements."""
    found = [
        match.replace("''", "'")
        for name in PROCEDURES
        for match in re.findall(r"sp_executesql N'((?:[^']|'')*)'", read(name))
    ]
    assert len(found) == 2
    assert not [text for text in found if check(text, grammar)]


def test_a_definition_made_in_sql_has_every_key_that_python_writes() -> None:
    written = {
        "procedures/define_segmentation.sql": Segmentation.model_fields,
        "procedures/complete_features.sql": FeatureDefinition.model_fields,
    }
    for name, fields in written.items():
        missing = [key for key in fields if f'"{key}":' not in read(name)]
        assert not missing, name
    guard = read("procedures/complete_guard.sql")
    assert not [key for key in Guard.model_fields if f"N'{key}', N'" not in guard]
    for key, field in Guard.model_fields.items():
        assert f"N'{key}', N'{field.default}')" in guard


TYPES = {"int": "integer", "bigint": "bigint", "float": "float", "bit": "boolean", "date": "date",
         "datetime2": "time", "nvarchar": "text"}  # fmt: skip


def test_the_tables_are_those_that_the_client_reads() -> None:
    for table in tables.TABLES.values():
        text = read(f"tables/{table.name}.sql")
        columns = re.findall(
            r"^        (?!CONSTRAINT)\[?(\w+)\]? +(\w+).*?(NOT )?NULL", text, re.MULTILINE
        )
        made = [tables.Column(name, TYPES[kind], not required) for name, kind, required in columns]
        assert made == list(table.typed), table.name


@pytest.mark.parametrize("name", public_procedures())
def test_the_reference_names_every_procedure_and_parameter(name: str) -> None:
    text = (DOCS / "tsql.md").read_text(encoding="utf-8")
    section = text.split(f"### {tsql_files.object_name(name)}\n", 1)
    assert len(section) == 2, "no section"
    body = section[1].split("\n### ", 1)[0]
    missing = [p.name for p in tsql_files.signature(name) if f"`{p.name}`" not in body]
    assert not missing


def test_the_reference_names_every_error_number() -> None:
    text = (DOCS / "tsql.md").read_text(encoding="utf-8")
    used = set()
    for name in PROCEDURES:
        used |= set(re.findall(r"@number = (\d+)", read(name)))
    assert used
    assert not [number for number in sorted(used) if number not in text]


def test_names_enter_a_statement_only_through_variables_that_hold_quoted_ones() -> None:
    quoted = {"@table", "@history", "@named", "@staging", "@new", "@old", "@view", "@relation",
              "@target", "sqlkmeans", "QUOTENAME"}  # fmt: skip
    seen = 0
    for name in PROCEDURES:
        for entered in re.findall(r"\b(?:FROM|INTO|TABLE|VIEW|JOIN)\s' \+ (@?\w+)", read(name)):
            seen += 1
            assert entered in quoted, (name, entered)
    assert seen > 20


@pytest.mark.parametrize(
    "page", ["tsql", "queries", "schedule", "deploy", "definition", "coming-from", "operate"]
)
def test_the_sql_in_the_documentation_is_sql(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    examples = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        assert not check(example, "2022"), example


def test_examples_are_not_part_of_the_installer() -> None:
    assert (SQL / "examples").is_dir()
    assert "dbo.customer" not in install_script()
