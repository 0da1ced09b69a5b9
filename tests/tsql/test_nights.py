"""Rules of what runs at night that no parser knows, held over the texts."""

from __future__ import annotations

import re

import pytest

from sqlkmeans.database.sqlserver.script import batches, build_order, install_script
from support.tsql_files import FILES, GRAMMARS, PROCEDURES, check, definition, read

ROLE = "sqlkmeans_operator"


def principals(text: str) -> list[str]:
    """Whom the application locks of a text are for; the server's own default is everybody."""
    calls = re.findall(r"EXECUTE (?:@\w+ = )?sys\.sp_(?:get|release)applock([^;]*);", text)
    given = [re.search(r"@DbPrincipal = N'(\w+)'", call) for call in calls]
    asked = re.findall(r"APPLOCK_(?:MODE|TEST)\(N'+(\w+)'", text)
    return [match[1] if match else "public" for match in given] + asked


def test_application_locks_are_for_those_who_run_segmentations() -> None:
    # The self-test asks who may, and the installer holds all the others.
    names = [name for name in FILES if "self_test" not in name and name != "install.sql"]
    found = {name: principals(read(name)) for name in names if principals(read(name))}
    takers = {"procedures/take_lock.sql", "procedures/drop_parts.sql", "schema/may_install.sql"}
    assert set(found) == takers
    assert {role for roles in found.values() for role in roles} == {ROLE}
    assert len(found["procedures/take_lock.sql"]) == 9


@pytest.mark.parametrize("replaced", [f", @DbPrincipal = N'{ROLE}'", f"APPLOCK_MODE(N'{ROLE}'"])
def test_a_lock_that_is_for_everybody_would_be_noticed(replaced: str) -> None:
    text = re.sub(r"\s+", " ", read("procedures/take_lock.sql"))
    assert replaced in text
    everybody = text.replace(replaced, replaced.replace(ROLE, "public"), 1)
    assert "public" in principals(everybody)
    assert "public" in principals(text.replace(f", @DbPrincipal = N'{ROLE}'", "", 1))


def deletions(text: str) -> list[int]:
    """How many rows each statement that deletes from a history may delete at once; 0: all."""
    found = re.findall(r"DELETE (?:TOP \((\d+)\) )?FROM ' \+ @history", text)
    return [int(rows or 0) for rows in found]


def test_a_history_is_deleted_in_batches_that_lock_no_whole_table() -> None:
    found = [rows for name in PROCEDURES for rows in deletions(read(name))]
    # From 5,000 locks on, the server takes one on the table instead.
    assert found == [4000]
    whole = definition("procedures/purge_history.sql").replace("TOP (4000) ", "")
    assert deletions(whole) == [0]


def test_whether_it_may_install_is_the_first_thing_that_the_installer_asks() -> None:
    assert build_order()[0] == "schema/may_install.sql"
    parts = batches(install_script())
    before, asks = parts[:2], parts[2]
    assert all(batch.startswith(("/*", "SET ")) for batch in before)
    assert "SET NOEXEC ON;" in asks
    assert [batch for batch in parts if "SET NOEXEC OFF;" in batch] == [parts[-1]]


def test_the_installer_knows_the_version_that_its_last_migration_makes() -> None:
    last = [name for name in build_order() if name.startswith("migrations/")][-1]
    number = int(re.match(r"migrations/(\d+)", last)[1])  # type: ignore[index]
    assert f"DECLARE @newest int = N'{number}';" in install_script()
    assert f"VALUES ({number}, N'" in read(last)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_what_a_job_asks_first_is_sql(grammar: str) -> None:
    text = definition("procedures/create_agent_job.sql")
    literal = re.search(r"@replica nvarchar\(2000\) = (.*?);\n    DECLARE", text, re.DOTALL)
    assert literal is not None
    asks = literal[1].replace("sqlkmeans.text_literal(DB_NAME())", "N'N''shop'''")
    parts = re.findall(r"N'((?:[^']|'')*)'", asks)
    statement = "".join(parts).replace("''", "'") + "RETURN;"
    assert "sys.fn_hadr_is_primary_replica(N'shop')" in statement
    assert not check(statement, grammar)
    assert check(statement.replace("IF @primary = 0", "IF @primary ="), grammar)
