"""The server that the tests of SQL Server run against, and why there is none.

``SQLKMEANS_TEST_URL`` is the URL of a database that the tests may empty; its name has to have
``test`` in it, so that a slip of the keyboard costs nothing. Without it, a container is started
where Docker answers; ``SQLKMEANS_TEST_IMAGE`` names another image than ``IMAGE``.
"""

from __future__ import annotations

import atexit
import json
import os
from contextlib import suppress
from functools import cache
from typing import Any

import mssql_python
import pytest
from sqlalchemy.engine import URL, make_url

from support import docker_engine

IMAGE = "mcr.microsoft.com/mssql/server:2022-latest"
DRIVERS = ("mssqlpython", "pyodbc")


@cache
def find() -> tuple[URL | None, str]:
    """A database to test with, or why there is none."""
    given = os.environ.get("SQLKMEANS_TEST_URL")
    url = make_url(given) if given else None
    if url is not None and "test" not in (url.database or "").lower():
        return None, "SQLKMEANS_TEST_URL names a database without 'test' in its name"
    if url is None:
        trouble = docker_engine.trouble()
        if trouble:
            return None, f"SQLKMEANS_TEST_URL is not set, and {trouble}"
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        return None, "the server's tests share one database: run them in one process, with -n 0"
    if url is not None:
        return url, ""
    try:
        return _start(), ""
    except Exception as error:  # whatever Docker has to say, as of an image that is out of reach
        return None, f"SQLKMEANS_TEST_URL is not set, and no container starts: {str(error)[:200]}"


def _start() -> URL:
    """A new server, until this process ends, and an empty database in it."""
    from testcontainers.community.mssql import SqlServerContainer

    image = os.environ.get("SQLKMEANS_TEST_IMAGE", IMAGE)
    container = SqlServerContainer(image, dialect="mssql+mssqlpython")
    atexit.register(container.stop)
    container.with_env("MSSQL_AGENT_ENABLED", "true").start()
    master = make_url(container.get_connection_url()).set(database="master")
    master = master.update_query_dict({"TrustServerCertificate": "yes"})
    connection = connect(master)
    connection.cursor().execute("CREATE DATABASE sqlkmeans_test")
    # As docs/connect.md recommends: several connections read the same moment.
    connection.cursor().execute("ALTER DATABASE sqlkmeans_test SET ALLOW_SNAPSHOT_ISOLATION ON")
    connection.close()
    return master.set(database="sqlkmeans_test")


def server_url(driver: str) -> URL:
    """The URL for one driver; skips the test where there is no server.

    With pyodbc it has an option that is for pyodbc alone, so that this one reads the rows and does
    not leave it to the other driver.
    """
    url, why = find()
    if url is None:
        pytest.skip(why)
    assert driver in DRIVERS
    url = url.set(drivername=f"mssql+{driver}")
    return url.update_query_dict({"APP": "sqlkmeans"}) if driver == "pyodbc" else url


def connect(url: URL) -> Any:
    """A connection of the tests' own, which commits each statement."""
    # Closed, it ends, with its locks.
    mssql_python.pooling(enabled=False)
    options = {key: str(value) for key, value in url.query.items()}
    text = f"Server={url.host},{url.port or 1433};Database={url.database};Encrypt=yes"
    if url.username:
        password = (url.password or os.environ.get("SQLKMEANS_PASSWORD", "")).replace("}", "}}")
        text += f";UID={url.username};PWD={{{password}}}"
    for key, value in options.items():
        if key.lower() not in ("app", "driver", "encrypt", "connect_timeout", "read_connections"):
            text += f";{key}={value}"
    return mssql_python.connect(text, autocommit=True, timeout=15)


def rows(connection: Any, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement; its rows where it has any."""
    cursor = connection.cursor()
    try:
        cursor.execute(sql, *([parameters] if parameters else []))
        found: list[tuple[Any, ...]] = []
        while True:
            if cursor.description:
                found = [tuple(row) for row in cursor.fetchall()]
            if not cursor.nextset():
                return found
    finally:
        cursor.close()


def empty(connection: Any) -> None:
    """Drop all that tests made, but schema sqlkmeans, whose tables are only emptied."""
    _empty_schema(connection)
    made = rows(
        connection,
        "SELECT s.name, o.name, RTRIM(o.type) FROM sys.objects AS o "
        "INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id "
        "WHERE RTRIM(o.type) IN ('U', 'V', 'IF', 'FN', 'P', 'SN') AND s.name <> 'sqlkmeans' "
        "AND s.name NOT IN ('sys', 'INFORMATION_SCHEMA', 'information_schema_tsql') "
        "AND o.is_ms_shipped = 0 ORDER BY CASE RTRIM(o.type) WHEN 'V' THEN 0 ELSE 1 END;",
    )
    kinds = {"U": "TABLE", "V": "VIEW", "P": "PROCEDURE", "SN": "SYNONYM"}
    for schema, name, kind in made:
        quoted = f"{quote(schema)}.{quote(name)}"
        # What is left behind can only have a name that this server makes, but cannot drop.
        with suppress(mssql_python.Error):
            rows(connection, f"DROP {kinds.get(kind, 'FUNCTION')} IF EXISTS {quoted};")


def keeps_name(connection: Any, name: str) -> bool:
    """Whether the server can make, find, read in both ways of quoting, and drop such a table."""
    table = f"dbo.{quote(name)}"
    double = name.replace('"', '""')
    try:
        rows(connection, f"CREATE TABLE {table} (a int);")
        found = rows(connection, "SELECT name FROM sys.tables;")
        rows(connection, f'SELECT * FROM dbo."{double}";')
        rows(connection, f"DROP TABLE {table};")
    except mssql_python.Error:
        return False
    same = rows(connection, "SELECT QUOTENAME(?);", name) == [(quote(name),)]
    listed = name.lower() in {str(row[0]).lower() for row in found}
    return same and listed and keeps_json(connection, name)


def keeps_case(connection: Any) -> bool:
    """Whether a name is found as it was written, as SQL Server keeps it."""
    rows(connection, "DROP TABLE IF EXISTS dbo.Sqlkmeans_Try;")
    rows(connection, "CREATE TABLE dbo.Sqlkmeans_Try (a int);")
    found = rows(connection, "SELECT name FROM sys.tables WHERE LOWER(name) = 'sqlkmeans_try';")
    rows(connection, "DROP TABLE dbo.Sqlkmeans_Try;")
    return found == [("Sqlkmeans_Try",)]


def keeps_column(connection: Any, name: str) -> bool:
    """Whether the server can make and find a column of a name."""
    try:
        rows(connection, "DROP TABLE IF EXISTS dbo.sqlkmeans_try;")
        rows(connection, f"CREATE TABLE dbo.sqlkmeans_try ({quote(name)} int);")
        found = rows(connection, "EXECUTE sys.sp_describe_first_result_set "
                                 "N'SELECT * FROM dbo.sqlkmeans_try';")  # fmt: skip
        rows(connection, "DROP TABLE dbo.sqlkmeans_try;")
    except mssql_python.Error:
        return False
    return found[0][2] == name and keeps_json(connection, name)


def keeps_json(connection: Any, name: str) -> bool:
    """Whether a text comes out of JSON as it went in."""
    document = json.dumps({"name": name})
    return rows(connection, "SELECT JSON_VALUE(?, '$.name');", document) == [(name,)]


def drops_what_views_read(connection: Any) -> bool:
    """Whether a table can be dropped that a view still reads, as SQL Server lets one."""
    rows(connection, "DROP VIEW IF EXISTS dbo.sqlkmeans_try_view;")
    rows(connection, "DROP TABLE IF EXISTS dbo.sqlkmeans_try;")
    rows(connection, "CREATE TABLE dbo.sqlkmeans_try (a int);")
    rows(connection, "CREATE VIEW dbo.sqlkmeans_try_view AS SELECT a FROM dbo.sqlkmeans_try;")
    try:
        rows(connection, "DROP TABLE dbo.sqlkmeans_try;")
    except mssql_python.Error:
        return False
    finally:
        rows(connection, "DROP VIEW dbo.sqlkmeans_try_view;")
        rows(connection, "DROP TABLE IF EXISTS dbo.sqlkmeans_try;")
    return True


def _empty_schema(connection: Any) -> None:
    left = rows(
        connection,
        "SELECT o.name, RTRIM(o.type) FROM sys.objects AS o "
        "WHERE o.schema_id = SCHEMA_ID('sqlkmeans') AND (RTRIM(o.type) = 'U' "
        # Servers differ in the kind of function that they list an inline one as.
        "OR (RTRIM(o.type) IN ('IF', 'FN', 'TF') "
        "AND (o.name LIKE 'assign[_]%' OR o.name LIKE 'explain[_]%')));",
    )
    for name, kind in left:
        if kind != "U":
            rows(connection, f"DROP FUNCTION sqlkmeans.{quote(name)};")
        elif name.startswith("staging_"):
            rows(connection, f"DROP TABLE sqlkmeans.{quote(name)};")
        elif name != "schema_version":
            rows(connection, f"DELETE FROM sqlkmeans.{quote(name)};")
    if rows(connection, "SELECT OBJECT_ID('sqlkmeans.refresh_movement', 'P');")[0][0] is not None:
        # Its view names the history of every segmentation.
        rows(connection, "EXECUTE sqlkmeans.refresh_movement;")


def quote(name: str) -> str:
    """A name in brackets."""
    return "[" + name.replace("]", "]]") + "]"
