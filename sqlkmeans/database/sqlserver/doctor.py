"""What `doctor` looks at on SQL Server. Each check stands alone: one that fails hides no other."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from sqlkmeans.database.base import Finding
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.errors import ServerError, read_problem
from sqlkmeans.database.sqlserver.script import build_order
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.errors import SqlKMeansError

READ_ON = "docs/connect.md"

_PROCEDURES = (
    "lock_segmentation", "unlock_segmentation", "start_run", "publish_run", "fail_run",
    "rollback_segmentation", "rename_segment",
)  # fmt: skip
#: An expression that is 1 for who may do everything in the database.
IS_OWNER = (
    "CASE WHEN IS_ROLEMEMBER(N'db_owner') = 1 OR IS_SRVROLEMEMBER(N'sysadmin') = 1 "
    "OR USER_NAME() = N'dbo' THEN 1 ELSE 0 END"
)
_JSON_LEVEL = 130
_OLDEST = (13, 0, 4001)  # 2016 SP1
_EXPRESS = 4  # SERVERPROPERTY('EngineEdition')


def examine(session: Session, connector: Connector, schema_version: int) -> list[Finding]:
    """Every finding, in the order in which things have to be right."""
    checks: dict[str, Callable[[], Finding]] = {
        "driver": lambda: _driver(session, connector),
        "encryption": lambda: _encryption(connector),
        "server": lambda: _server(session),
        "compatibility level": lambda: _compatibility(session),
        "snapshot isolation": lambda: _snapshot(session),
        "owner": lambda: _owner(session),
        "schema sqlkmeans": lambda: _schema(session, schema_version),
        "permissions": lambda: _permissions(session, schema_version),
        "external scripts": lambda: _external_scripts(session),
        "SQL Server Agent": lambda: _agent(session),
    }
    findings = []
    for name, check in checks.items():
        try:
            findings.append(check())
        except connector.errors as error:
            findings.append(Finding(name, None, f"cannot be told: {read_problem(error).text}"))
        except SqlKMeansError as error:
            findings.append(Finding(name, False, str(error)))
    return findings


def _one(session: Session, query: str) -> tuple[Any, ...]:
    rows = session.guarded(query)
    return rows[0] if rows else ()


def _driver(session: Session, connector: Connector) -> Finding:
    if connector.driver == "mssqlpython":
        odbc = metadata.version("mssql-python-odbc")
        return Finding("driver", True, f"mssql-python {metadata.version('mssql-python')}, "
                       f"with its own ODBC driver {odbc}; labels travel by bulk copy")  # fmt: skip
    import pyodbc

    name = session.native.getinfo(pyodbc.SQL_DRIVER_NAME)
    version = session.native.getinfo(pyodbc.SQL_DRIVER_VER)
    connector.copier.check()
    obstacle = connector.copier.obstacle
    way = "it reads rows, and labels travel by mssql-python's bulk copy"
    if connector.copier.reads:
        way = "mssql-python reads rows, and labels travel by its bulk copy"
    if obstacle is not None:
        way = (
            f"it reads rows, and labels travel as arrays of parameters ({obstacle}); "
            "mssql+mssqlpython:// does both several times as fast"
        )
    return Finding("driver", True, f"pyodbc {pyodbc.version}, {name} {version}; {way}")


def _encryption(connector: Connector) -> Finding:
    encrypt = connector.options.get("encrypt", "as the DSN or odbc_connect says")
    trusted = connector.options.get("trustservercertificate", "no").lower() in ("yes", "true", "1")
    if encrypt.lower() in ("no", "optional", "false"):
        return Finding(
            "encryption", False,
            f"Encrypt={encrypt}: rows and password can be read on the network; leave it out",
        )  # fmt: skip
    if trusted:
        return Finding(
            "encryption", None,
            f"Encrypt={encrypt}, but the server's certificate is not checked "
            "(TrustServerCertificate=yes): good on a network you trust only",
        )  # fmt: skip
    return Finding("encryption", True, f"Encrypt={encrypt}, certificate checked")


def _server(session: Session) -> Finding:
    row = _one(
        session,
        "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), "
        "CAST(SERVERPROPERTY('Edition') AS nvarchar(128)), "
        "CAST(SERVERPROPERTY('EngineEdition') AS int), DB_NAME(), "
        "CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS nvarchar(128));",
    )
    detail = f"{row[1]} {row[0]}, database {row[3]}, collation {row[4]}"
    version = tuple(int(part) for part in str(row[0]).split(".")[:3] if part.isdigit())
    # Azure's numbers (engine editions 5, 8 and up) do not count releases of the product.
    if row[2] is not None and int(row[2]) <= 4 and (13,) <= version < _OLDEST:
        return Finding("server", False, f"{detail}; install Service Pack 1 or newer")
    return Finding("server", True, detail)


def _compatibility(session: Session) -> Finding:
    row = _one(
        session,
        "SELECT d.compatibility_level FROM sys.databases AS d WHERE d.name = DB_NAME();",
    )
    level = int(row[0]) if row else 0
    try:
        # Of a level below: a name that is not there is no error of the batch that has it.
        session.guarded("EXECUTE (N'SELECT j.[value] FROM OPENJSON(N''[1]'') AS j;');")
    except ServerError:
        return Finding(
            "compatibility level", False,
            f"{level}; JSON needs {_JSON_LEVEL}: "
            f"ALTER DATABASE CURRENT SET COMPATIBILITY_LEVEL = {_JSON_LEVEL}",
        )  # fmt: skip
    if level < _JSON_LEVEL:
        return Finding(
            "compatibility level", None,
            f"{level}; JSON works here, but SQL Server itself needs {_JSON_LEVEL} for it",
        )  # fmt: skip
    return Finding("compatibility level", True, str(level))


def _snapshot(session: Session) -> Finding:
    row = _one(
        session,
        "SELECT d.snapshot_isolation_state, CAST(d.is_read_committed_snapshot_on AS int) "
        "FROM sys.databases AS d WHERE d.name = DB_NAME();",
    )
    readers = (
        "readers of segment tables never wait for a publish"
        if row[1]
        else "readers of segment tables wait while a publish commits "
        "(ALTER DATABASE CURRENT SET READ_COMMITTED_SNAPSHOT ON would spare them)"
    )
    if row[0] == 1:
        return Finding("snapshot isolation", True, f"a run reads one moment; {readers}")
    return Finding(
        "snapshot isolation", None,
        "off: a run on a source that changes meanwhile may read rows of several moments "
        f"(ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON); {readers}",
    )  # fmt: skip


def _owner(session: Session) -> Finding:
    """Whether procedures can run as the database's owner, and what that opens."""
    row = _one(
        session,
        "SELECT SUSER_SNAME(d.owner_sid), CAST(d.is_trustworthy_on AS int), "
        "IS_SRVROLEMEMBER(N'sysadmin', SUSER_SNAME(d.owner_sid)), "
        "CASE WHEN p.sid <> d.owner_sid THEN 0 ELSE 1 END, QUOTENAME(DB_NAME()) "
        "FROM sys.databases AS d CROSS JOIN sys.database_principals AS p "
        "WHERE d.name = DB_NAME() AND p.name = N'dbo';",
    )
    owner, trustworthy, sysadmin, same, name = row
    if owner is None or not same:
        return Finding(
            "owner", False,
            "the procedures write as dbo, and dbo is no login of this server, as after a restore "
            f"(error 15517): ALTER AUTHORIZATION ON DATABASE::{name} TO a login",
        )  # fmt: skip
    if trustworthy and sysadmin:
        return Finding(
            "owner", False,
            f"TRUSTWORTHY is on and {owner} owns the database: whoever gets code to run as dbo "
            "rules the server; ALTER DATABASE CURRENT SET TRUSTWORTHY OFF",
        )  # fmt: skip
    return Finding("owner", True, f"{owner}; TRUSTWORTHY is {'on' if trustworthy else 'off'}")


def _schema(session: Session, version: int) -> Finding:
    if not version:
        detail = "not in this database; `sqlkmeans install` makes it"
        return Finding("schema sqlkmeans", False, detail)
    newest = max(
        int(name.rpartition("/")[2][:4]) for name in build_order() if name.startswith("migrations/")
    )
    if version < newest:
        return Finding(
            "schema sqlkmeans", False,
            f"version {version}; `sqlkmeans install` brings it to {newest}",
        )  # fmt: skip
    row = _one(session, "SELECT sqlkmeans.version();")
    return Finding("schema sqlkmeans", True, f"version {version}, installed by sqlkmeans {row[0]}")


def _permissions(session: Session, version: int) -> Finding:
    if not version:
        row = _one(session, f"SELECT {IS_OWNER}, USER_NAME();")
        if row[0] == 1:
            return Finding("permissions", True, f"{row[1]} may install")
        return Finding("permissions", False, f"{row[1]} may not install: that needs db_owner")
    missing = [
        procedure
        for procedure in _PROCEDURES
        if _one(
            session,
            f"SELECT HAS_PERMS_BY_NAME(N'sqlkmeans.{procedure}', N'OBJECT', N'EXECUTE');",
        )[0] != 1
    ]  # fmt: skip
    user = _one(session, "SELECT USER_NAME();")[0]
    if missing:
        return Finding(
            "permissions", False,
            f"{user} may not EXECUTE {', '.join(missing)}: ALTER ROLE sqlkmeans_operator "
            f"ADD MEMBER … ({READ_ON})",
        )  # fmt: skip
    return Finding("permissions", True, f"{user} may run, publish and roll back")


def _external_scripts(session: Session) -> Finding:
    installed = _one(session, "SELECT CAST(SERVERPROPERTY('IsAdvancedAnalyticsInstalled') AS int);")
    if not installed or installed[0] != 1:
        return Finding(
            "external scripts", None,
            'no Machine Learning Services here; engine = "in_database" needs them',
        )  # fmt: skip
    row = _one(
        session,
        "SELECT CAST(c.value_in_use AS int) FROM sys.configurations AS c "
        "WHERE c.name = N'external scripts enabled';",
    )
    if not row or row[0] != 1:
        return Finding(
            "external scripts", None,
            "installed, not enabled: EXECUTE sp_configure 'external scripts enabled', 1; "
            "RECONFIGURE; then restart the server",
        )  # fmt: skip
    # Nobody needs a permission for them: the procedure that uses them runs as its owner.
    return Finding("external scripts", True, "enabled")


def _agent(session: Session) -> Finding:
    edition = _one(session, "SELECT CAST(SERVERPROPERTY('EngineEdition') AS int);")
    if edition and edition[0] == _EXPRESS:
        # Its msdb has the procedures all the same.
        return Finding(
            "SQL Server Agent", None,
            "Express has none; schedule `sqlkmeans run` with cron or the Task Scheduler instead",
        )  # fmt: skip
    row = _one(session, "SELECT HAS_DBACCESS(N'msdb'), OBJECT_ID(N'msdb.dbo.sp_add_job');")
    if not row or row[0] != 1 or row[1] is None:
        return Finding(
            "SQL Server Agent", None,
            "not here, or not for this login; schedule `sqlkmeans run` with cron or the Task "
            "Scheduler instead",
        )  # fmt: skip
    running = _one(
        session,
        "SELECT COUNT(*) FROM sys.dm_server_services AS s "
        "WHERE s.servicename LIKE N'SQL Server Agent%' AND s.status = 4;",
    )
    if running[0]:
        return Finding("SQL Server Agent", True, "running")
    return Finding(
        "SQL Server Agent", None, "there, and not running: start its service before scheduling"
    )
