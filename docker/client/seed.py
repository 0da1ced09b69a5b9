"""Make the database that SQLKMEANS_URL names, and segmented demo customers in it.

    python docker/client/seed.py [--empty]

``--empty`` makes the database only. Where the server has Machine Learning Services, external
scripts are enabled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import mssql_python
from sqlalchemy.engine import make_url


def main() -> None:
    """Make the database, then run `install` and `demo`."""
    url = os.environ["SQLKMEANS_URL"]
    parsed = make_url(url)
    connection = _connect(str(parsed.host), parsed.port or 1433, str(parsed.username))
    cursor = connection.cursor()
    cursor.execute(
        "DECLARE @statement nvarchar(400) = N'CREATE DATABASE ' + QUOTENAME(?); "
        "IF DB_ID(?) IS NULL EXECUTE (@statement);",
        (parsed.database, parsed.database),
    )
    cursor.execute("SELECT CAST(SERVERPROPERTY('IsAdvancedAnalyticsInstalled') AS int)")
    if cursor.fetchone()[0] == 1:
        cursor.execute("EXECUTE sp_configure 'external scripts enabled', 1; RECONFIGURE;")
    quoted = "[" + str(parsed.database).replace("]", "]]") + "]"
    cursor.execute(f"ALTER DATABASE {quoted} SET ALLOW_SNAPSHOT_ISOLATION ON")
    connection.close()
    if "--empty" in sys.argv:
        return
    # The demo writes its picture where it runs.
    os.chdir("/tmp")
    subprocess.run(["sqlkmeans", "install", "--url", url], check=True)
    subprocess.run(["sqlkmeans", "demo", "--url", url], check=True)


def _connect(host: str, port: int, user: str) -> mssql_python.Connection:
    """The health check has seen the server answer; its databases may still be starting."""
    password = os.environ["SQLKMEANS_PASSWORD"].replace("}", "}}")
    text = (
        f"Server={host},{port};Database=master;UID={user};PWD={{{password}}};Encrypt=yes;"
        "TrustServerCertificate=yes"
    )
    for _ in range(30):
        try:
            return mssql_python.connect(text, autocommit=True, timeout=10)
        except mssql_python.Error as error:
            last = error
            time.sleep(2)
    raise SystemExit(f"{host}: {last}")


if __name__ == "__main__":
    main()
