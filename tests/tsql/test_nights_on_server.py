"""What runs at night, on a live server: locks, purging, dropping, jobs, upgrades."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sqlkmeans.database.sqlserver.script import batches, install_script
from support import sqlserver_server
from support.tsql_files import GRAMMARS, check
from support.tsql_server import DEFINE, Server, train

pytestmark = pytest.mark.sqlserver


HISTORY = "dbo.customer_segment_history"
BUSY = "is being run already; nothing was changed"
ASSIGN = "EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';"


@contextmanager
def session(trained: Server) -> Iterator[Any]:
    """A session of somebody else."""
    other = sqlserver_server.connect(trained.url)
    try:
        yield other
    finally:
        other.close()


def lock(connection: Any, *, give_back: bool = False) -> None:
    name = "unlock_segmentation" if give_back else "lock_segmentation"
    sqlserver_server.rows(connection, f"EXECUTE sqlkmeans.{name} @segmentation = N'customers';")


def start(trained: Server) -> int:
    return int(
        trained.value(
            "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
            "@segmentation = N'customers', @kind = N'assign', @run_id = @r OUTPUT; SELECT @r;"
        )
    )


def status(trained: Server, run_id: int) -> str:
    return str(trained.value("SELECT status FROM sqlkmeans.run WHERE run_id = ?;", run_id))


# The lock


@pytest.mark.parametrize("keep", [0, 1])
def test_what_a_cancelled_call_held_is_given_back_by_the_next_in_its_session(
    trained: Server, keep: int
) -> None:
    """What such a call leaves, made without cancelling one."""
    for _ in range(2):
        trained.rows("EXECUTE sqlkmeans.take_lock @segmentation = N'customers', @keep = ?;", keep)
    with session(trained) as other:
        with pytest.raises(Exception, match=BUSY):
            lock(other)
        trained.rows(ASSIGN)
        lock(other)


def test_a_call_that_times_out_while_it_publishes_holds_its_segmentation_until_the_next(
    trained: Server,
) -> None:
    import pyodbc

    if not trained.has("sys.parameters"):
        pytest.skip("this server does not answer a cancellation")
    trained.rows("UPDATE dbo.customer SET income = 1, age = 18;")
    connection = pyodbc.connect(odbc(trained), autocommit=True)
    connection.timeout = 10
    with session(trained) as reader:
        sqlserver_server.rows(reader, "BEGIN TRANSACTION;")
        sqlserver_server.rows(reader, "UPDATE dbo.customer_segment SET distance = distance;")
        with pytest.raises(pyodbc.Error) as cancelled:
            connection.execute(ASSIGN)
        sqlserver_server.rows(reader, "ROLLBACK TRANSACTION;")
    try:
        assert cancelled.value.args[0] == "HYT00"
        assert BUSY in trained.error(ASSIGN)
        connection.timeout = 0
        connection.execute(ASSIGN)
        trained.rows(ASSIGN)
    finally:
        connection.close()


def odbc(trained: Server) -> str:
    from sqlkmeans.database.sqlserver.connection import bundled_driver

    url = sqlserver_server.server_url("pyodbc")
    return (f"DRIVER={url.query.get('driver') or bundled_driver()};SERVER={url.host},{url.port};"
            f"DATABASE={url.database};UID={url.username};PWD={url.password};Encrypt=yes;"
            "TrustServerCertificate=yes")  # fmt: skip


def test_what_a_session_holds_for_several_calls_none_of_them_gives_back(trained: Server) -> None:
    lock(trained.connection)
    run_id = start(trained)
    trained.rows("EXECUTE sqlkmeans.fail_run @run_id = ?, @error = N'no';", run_id)
    trained.rows("EXECUTE sqlkmeans.rename_segment @segmentation = N'customers', "
                 "@segment_id = 1, @name = N'many';")  # fmt: skip
    with session(trained) as other:
        with pytest.raises(Exception, match=BUSY):
            lock(other)
        lock(trained.connection, give_back=True)
        lock(other)


@pytest.mark.parametrize(
    "call",
    ["rename_segment @segmentation = N'customers', @segment_id = 1, @name = N'many'",
     "rollback_segmentation @segmentation = N'customers'",
     "drop_segmentation @segmentation = N'customers'",
     "purge @segmentation = N'customers'"],
)  # fmt: skip
def test_a_segmentation_that_another_session_runs_is_left_alone(trained: Server, call: str) -> None:
    before = trained.rows("SELECT name FROM sqlkmeans.segment ORDER BY segment_id;")
    with session(trained) as other:
        lock(other)
        assert BUSY in trained.error(f"EXECUTE sqlkmeans.{call};")
    assert trained.rows("SELECT name FROM sqlkmeans.segment ORDER BY segment_id;") == before


# A run whose client is gone


def test_a_run_is_not_ended_while_another_session_may_be_publishing_it(trained: Server) -> None:
    run_id = start(trained)
    with session(trained) as other:
        lock(other)
        failed = "EXECUTE sqlkmeans.fail_run @run_id = ?, @error = N'lost', @wait_seconds = 1;"
        assert BUSY in trained.error(failed, run_id)
        assert status(trained, run_id) == "running"
        assert trained.has(f"sqlkmeans.staging_{run_id}")
        lock(other, give_back=True)
        trained.rows(failed, run_id)
    assert status(trained, run_id) == "failed"
    assert not trained.has(f"sqlkmeans.staging_{run_id}")


def test_a_run_that_was_published_stays_so_and_its_function_is_there(trained: Server) -> None:
    run_id = trained.run(1)
    trained.rows("DROP FUNCTION sqlkmeans.assign_customers;")
    trained.rows("EXECUTE sqlkmeans.fail_run @run_id = ?, @error = N'lost';", run_id)
    assert status(trained, run_id) == "published"
    assert trained.value("SELECT f.segment_id FROM sqlkmeans.assign_customers(160000, 62) AS f;")


def test_a_rollback_that_fails_is_a_failed_run_and_changes_nothing(trained: Server) -> None:
    train(trained, "customers")
    trained.rows(f"DELETE FROM {HISTORY} WHERE customer_id = (SELECT MIN(c.customer_id) "
                 "FROM dbo.customer AS c);")  # fmt: skip
    before = trained.rows("SELECT * FROM dbo.customer_segment ORDER BY customer_id;")
    assert "the history still holds 119 of them" in trained.error(
        "EXECUTE sqlkmeans.rollback_segmentation @segmentation = N'customers';")  # fmt: skip
    assert trained.rows("SELECT * FROM dbo.customer_segment ORDER BY customer_id;") == before
    assert trained.rows("SELECT kind, status FROM sqlkmeans.run ORDER BY run_id;")[2:] == [
        ("rollback", "failed")]  # fmt: skip
    assert not [name for name in trained.objects() if name.startswith("staging_")]
    trained.rows(ASSIGN)


# Old runs and old labels


def end_labels(trained: Server, days: int, times: int = 1) -> None:
    """Give every customer so many labels that ended so many days ago."""
    for second in range(times):
        trained.rows(
            f"INSERT INTO {HISTORY} SELECT customer_id, segment_id, distance, is_outlier, "
            f"DATEADD(second, {second}, DATEADD(day, -{days + 1}, SYSUTCDATETIME())), "
            f"DATEADD(day, -{days}, SYSUTCDATETIME()), run_id "
            f"FROM {HISTORY} WHERE valid_to IS NULL;"
        )


def labels_ended(trained: Server) -> int:
    return int(trained.value(f"SELECT COUNT(*) FROM {HISTORY} WHERE valid_to IS NOT NULL;"))


def test_purging_deletes_the_history_in_batches_and_keeps_what_is_valid(trained: Server) -> None:
    end_labels(trained, 400, times=70)
    end_labels(trained, 100)
    purge = "EXECUTE sqlkmeans.purge @history = 1, @execute = {};"
    assert trained.rows(purge.format(0))[0][:3] == ("would be deleted", 0, 8400)
    assert labels_ended(trained) == 8520
    assert trained.rows(purge.format(1))[0][:3] == ("deleted", 0, 8400)
    assert trained.rows(purge.format(1))[0][:3] == ("deleted", 0, 0)
    assert labels_ended(trained) == 120
    assert trained.value(f"SELECT COUNT(*) FROM {HISTORY} WHERE valid_to IS NULL;") == 120
    assert trained.value("SELECT COUNT(*) FROM sys.indexes AS i WHERE i.object_id = "
                         f"OBJECT_ID(N'{HISTORY}') AND i.name LIKE N'ix_history_valid_to%';"
                         ) == 1  # fmt: skip


def test_purging_without_history_keeps_all_of_it_but_what_history_days_ends(
    trained: Server,
) -> None:
    end_labels(trained, 400)
    assert trained.rows("EXECUTE sqlkmeans.purge;")[0][2] == 0
    trained.rows(DEFINE.rstrip("; \n") + ", @history_days = 300;")
    assert trained.rows("EXECUTE sqlkmeans.purge;")[0][2] == 120
    assert labels_ended(trained) == 0


def test_purging_all_passes_over_what_is_being_run_and_names_it(trained: Server) -> None:
    end_labels(trained, 400)
    with session(trained) as other:
        lock(other)
        row = trained.rows("EXECUTE sqlkmeans.purge @history = 1;")[0]
        lock(other, give_back=True)
    assert (row[2], row[4]) == (0, "customers")
    row = trained.rows("EXECUTE sqlkmeans.purge @history = 1;")[0]
    assert (row[2], row[4]) == (120, None)


def test_purging_closes_a_run_that_was_killed(trained: Server) -> None:
    run_id = start(trained)
    trained.rows("EXECUTE sqlkmeans.purge @execute = 0;")
    assert status(trained, run_id) == "running"
    trained.rows("EXECUTE sqlkmeans.purge;")
    assert status(trained, run_id) == "failed"
    assert not trained.has(f"sqlkmeans.staging_{run_id}")


def test_a_history_that_cannot_be_purged_is_a_warning_of_the_published_run(
    trained: Server,
) -> None:
    trained.rows(DEFINE.rstrip("; \n") + ", @history_days = 300;")
    end_labels(trained, 400)
    trained.rows(
        "CREATE TABLE dbo.keeper (customer_id bigint NOT NULL, valid_from datetime2(6) NOT NULL, "
        f"FOREIGN KEY (customer_id, valid_from) REFERENCES {HISTORY});"
    )
    trained.rows(f"INSERT INTO dbo.keeper SELECT customer_id, valid_from FROM {HISTORY};")
    trained.rows(ASSIGN)
    assert trained.rows("SELECT status FROM sqlkmeans.run WHERE run_id = ?;", trained.run(2)) == [
        ("published",)]  # fmt: skip
    warnings = trained.value("SELECT warnings FROM sqlkmeans.run WHERE run_id = ?;", trained.run(2))
    assert "history_days: the history was not purged:" in warnings
    assert labels_ended(trained) == 120
    trained.rows("DROP TABLE dbo.keeper;")
    trained.rows(ASSIGN)
    assert labels_ended(trained) == 0


# Dropping


def test_what_is_shown_of_a_drop_is_sql_and_what_is_done(trained: Server) -> None:
    if not sqlserver_server.drops_what_views_read(trained.connection):
        pytest.skip("this server cannot drop a table that a view reads")
    shown = trained.rows("EXECUTE sqlkmeans.drop_segmentation @segmentation = N'customers', "
                         "@execute = 0;")  # fmt: skip
    assert {row[0] for row in shown} == {"would be done"}
    script = "\n".join(row[1] for row in shown)
    for grammar in GRAMMARS:
        assert not check(script, grammar)
    assert "sqlkmeans.[assign_customers]" in script
    assert "runs, and what they learnt" in script
    assert trained.has("sqlkmeans.assign_customers")
    done = trained.rows("EXECUTE sqlkmeans.drop_segmentation @segmentation = N'customers';")
    assert [row[1] for row in done] == [row[1] for row in shown]
    assert not trained.has("sqlkmeans.assign_customers")
    assert not trained.has(HISTORY)
    assert trained.value("SELECT COUNT(*) FROM sqlkmeans.run;") == 0
    assert trained.value("SELECT COUNT(*) FROM sqlkmeans.segment_movement;") == 0
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment;") == 120
    assert "allowed: the name of a segmentation" in trained.error(
        "EXECUTE sqlkmeans.drop_segmentation @segmentation = N'customers';")  # fmt: skip


# Views, jobs, upgrades


def test_what_was_granted_on_the_view_of_movements_survives_a_training_run(
    trained: Server,
) -> None:
    if not trained.has("sys.parameters"):
        pytest.skip("this server cannot alter a view")
    trained.rows("CREATE USER person_moves WITHOUT LOGIN;")
    try:
        trained.rows("GRANT SELECT ON sqlkmeans.segment_movement TO person_moves;")
        train(trained, "customers")
        granted = ("SELECT COUNT(*) FROM sys.database_permissions AS p WHERE p.major_id = "
                   "OBJECT_ID(N'sqlkmeans.segment_movement') AND p.grantee_principal_id = "
                   "DATABASE_PRINCIPAL_ID(N'person_moves');")  # fmt: skip
        assert trained.value(granted) == 1
    finally:
        trained.rows("DROP USER person_moves;")


@pytest.mark.parametrize(
    ("given", "called"),
    [("@segmentation = N'customers'", "run_segmentation @segmentation = N'customers'"),
     ("@segmentation = N'customers', @step = N'assign'",
      "assign_segments @segmentation = N'customers'"),
     ("@step = N'purge'", "purge @keep_days = 365, @segmentation = NULL"),
     ("@segmentation = N'customers', @step = N'purge', @keep_days = 30",
      "purge @keep_days = 30, @segmentation = N'customers'")],
)  # fmt: skip
def test_a_job_asks_first_whether_this_is_the_primary_replica(
    trained: Server, given: str, called: str
) -> None:
    row = trained.rows(f"EXECUTE sqlkmeans.create_agent_job {given}, @execute = 0;")[0]
    job, command = row[0], row[5]
    database = trained.value("SELECT DB_NAME();")
    step = re.search(r"@step = N'(\w+)'", given)
    name = ".customers" if "customers" in given else ""
    assert job == f"sqlkmeans: {database}{name} ({step[1] if step else 'run'})"
    for grammar in GRAMMARS:
        assert not check(command, grammar)
    assert command.endswith(f"EXECUTE [{database}].sqlkmeans.{called};")
    before = command[: command.index("EXECUTE")]
    assert f"sys.fn_hadr_is_primary_replica(N'{database}')" in before
    assert before.rstrip().endswith("IF @primary = 0\n    RETURN;")


def test_jobs_of_a_step_or_of_all_are_dropped(trained: Server) -> None:
    drop = "EXECUTE sqlkmeans.drop_agent_job @segmentation = N'customers', @execute = 0"
    assert len(trained.rows(f"{drop};")) == 4
    rows = trained.rows(f"{drop}, @step = N'assign';")
    assert [(re.sub(r"^.*\.", "", row[0]), row[1]) for row in rows] == [
        ("customers (assign)", "would be dropped")]  # fmt: skip
    assert "allowed: run, assign, purge, command_line" in trained.error(
        f"{drop}, @step = N'assing';")  # fmt: skip


def test_the_installer_refuses_an_older_version_and_a_running_segmentation(
    trained: Server,
) -> None:
    trained.rows("INSERT INTO sqlkmeans.schema_version (version, package_version) "
                 "VALUES (99, N'9.9.9');")  # fmt: skip
    try:
        with pytest.raises(Exception, match=r"at version 99, of sqlkmeans 9\.9\.9"):
            trained.script(install_script())
    finally:
        trained.rows("DELETE FROM sqlkmeans.schema_version WHERE version = 99;")
    start(trained)
    with session(trained) as other, session(trained) as installing:
        lock(other)
        with pytest.raises(Exception, match="is being run; install"):
            install(installing)


def install(connection: Any) -> None:
    for batch in batches(install_script()):
        sqlserver_server.rows(connection, batch)
