"""What drivers say, as sentences."""

from __future__ import annotations

import mssql_python
import pytest

from sqlkmeans.database.sqlserver.errors import (
    ServerError,
    connect_error,
    is_transient,
    read_problem,
    statement_error,
)
from sqlkmeans.errors import (
    DatabaseError,
    DataError,
    DefinitionError,
    LockedError,
    SqlKMeansError,
)

try:
    from pyodbc import OperationalError
except ImportError:  # no unixODBC on this machine; what is read of an error is its two arguments

    class OperationalError(Exception):  # type: ignore[no-redef]
        """As pyodbc raises it: SQLSTATE and text."""


ODBC = "[Microsoft][ODBC Driver 18 for SQL Server]"


def odbc(state: str, text: str, number: int, function: str = "SQLDriverConnect") -> Exception:
    return OperationalError(state, f"[{state}] {ODBC}{text} ({number}) ({function})")


def native(driver_error: str, text: str) -> mssql_python.Error:
    return mssql_python.OperationalError(driver_error, f"[Microsoft][ODBC Driver 18]{text}")


LOGIN = "[SQL Server]Login failed for user 'sa'."


@pytest.mark.parametrize(
    "error",
    [odbc("28000", LOGIN, 18456), native("Invalid authorization specification", LOGIN)],
)
def test_number_state_and_text_are_read_from_both_drivers(error: Exception) -> None:
    problem = read_problem(error)
    assert problem.state == "28000"
    assert problem.number in (18456, None)
    assert problem.text == "Login failed for user 'sa'"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (odbc("28000", LOGIN, 18456), "check the user and the password"),
        (native("Invalid authorization specification", LOGIN), "check the user and the password"),
        (odbc("42000", '[SQL Server]Cannot open database "x"', 4060), "name another database"),
        (native("Syntax error or access violation", 'Cannot open database "x"'),
         "name another database"),
        (odbc("08001", "TCP Provider: Error code 0x2AF9", 11001), "no host of that name"),
        (odbc("HYT00", "Login timeout expired", 0), "no answer within 15 s"),
        (native("Client unable to establish connection", "TCP Provider: Error code 0x2749"),
         "no answer within 15 s"),
        (native("Client unable to establish connection",
                "SSL Provider: [certificate verify failed:self-signed certificate]"),
         "TrustServerCertificate=yes"),
        (odbc("IM002", "Data source name not found", 0), "no DSN or ODBC driver of that name"),
        (RuntimeError("Failed to load the driver. Please read"), "apt-get install libltdl7"),
    ],
)  # fmt: skip
def test_a_failed_connection_says_what_to_do(error: Exception, message: str) -> None:
    told = connect_error(error, "db.example.com, database shop", "mssqlpython", 15)
    assert isinstance(told, DatabaseError)
    assert told.exit_code == 4
    assert message in str(told)
    assert "\n" not in str(told)
    assert len(told.problems) == 1


def test_the_libraries_of_pyodbc_are_named_where_they_are_missing() -> None:
    error = ImportError("libodbc.so.2: cannot open shared object file")
    assert "apt-get install unixodbc" in str(connect_error(error, "db", "pyodbc", 15))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (50001, SqlKMeansError), (50002, DefinitionError), (50003, DataError),
        (50004, DatabaseError), (50005, LockedError),
    ],
)  # fmt: skip
def test_errors_of_the_procedures_keep_their_exit_code(
    number: int, kind: type[SqlKMeansError]
) -> None:
    told = statement_error(ServerError(number, "one\ntwo"), "customers")
    assert type(told) is kind
    assert "one" in str(told)
    assert "two" in str(told)


def test_every_line_of_a_definition_error_is_a_problem() -> None:
    told = statement_error(ServerError(50002, "k: 1 given\nkey: missing"), "customers")
    assert told.problems == ["k: 1 given", "key: missing"]


@pytest.mark.parametrize(
    "error",
    [
        ServerError(1205, "deadlock"),
        ServerError(40613, "not currently available"),
        odbc("40001", "[SQL Server]deadlocked", 1205, "SQLExecDirectW"),
        odbc("08S01", "Communication link failure", 0, "SQLExecDirectW"),
        native("Serialization failure", "deadlocked"),
        native("Communication link failure", "reset"),
        RuntimeError("Sql Error: 10928: Class 16: State 1: resource limit"),
    ],
)
def test_what_passes_by_itself_is_tried_again(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        odbc("28000", LOGIN, 18456),
        native("Syntax error or access violation", "Incorrect syntax near 'x'."),
        ServerError(2627, "Violation of PRIMARY KEY"),
        ServerError(50005, "being run already"),
        odbc("08001", "TCP Provider: Error code 0x2749", 10061),
    ],
)
def test_what_stays_wrong_is_not_tried_again(error: Exception) -> None:
    assert not is_transient(error)


def test_a_lacking_permission_names_the_role() -> None:
    for error in (
        ServerError(229, "The EXECUTE permission was denied on the object 'start_run'"),
        native("Syntax error or access violation", "The SELECT permission was denied on 'x'."),
    ):
        told = statement_error(error, "customers")
        assert isinstance(told, DatabaseError)
        assert "sqlkmeans_operator" in str(told)
