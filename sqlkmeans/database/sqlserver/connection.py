"""Connections to SQL Server: URLs, drivers, passwords, and what is tried again."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from sqlkmeans.database.sqlserver.copying import Copier
from sqlkmeans.database.sqlserver.errors import (
    ServerError,
    connect_error,
    is_transient,
    missing_driver,
    read_problem,
    statement_error,
)
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.trust import check_password_is_safe, check_url_of_file
from sqlkmeans.errors import DefinitionError
from sqlkmeans.words import visible, without_password

PASSWORD_VARIABLE = "SQLKMEANS_PASSWORD"
CONNECT_TIMEOUT = 15
#: As many as read_connections may ask for.
MOST_READ_CONNECTIONS = 16

_DRIVERS = ("mssqlpython", "pyodbc")
_REGISTERED_DRIVER = re.compile(r"^ODBC Driver (\d+) for SQL Server$")
_NEEDS_PASSWORD = ("sqlpassword", "activedirectorypassword", "activedirectoryserviceprincipal")
_SECRET_KEYS = ("pwd", "password", "odbc_connect")

T = TypeVar("T")


class Connector:
    """Opens sessions on one database.

    Parameters
    ----------
    url : sqlalchemy.engine.URL
    from_file : bool, default=False
        Whether it stands in a definition file, and not in what the user typed.

    Attributes
    ----------
    driver : {"mssqlpython", "pyodbc"}
    safe_url : str
        The URL as given, without its password.
    engine : sqlalchemy.Engine
        For metadata and small reads, each a transaction of its own.
    options : dict of str to str
        The URL's options by their names in small letters, defaults included.
    read_connections : int
        How many may read a large table together.
    copier : Copier
        Opens sessions for bulk copies.

    Raises
    ------
    DefinitionError
        If something in the URL is wrong.
    DatabaseError
        If the driver's libraries are not there.
    """

    def __init__(self, url: URL, *, from_file: bool = False) -> None:
        self.driver = _driver(url)
        _check_parts(url)
        if from_file:
            check_url_of_file(url)
        self.safe_url = _safe(url)
        given = url
        url, self._timeout = _take_number(url, "connect_timeout", CONNECT_TIMEOUT, 3600, " seconds")
        url, self.read_connections = _take_number(url, "read_connections", 1, MOST_READ_CONNECTIONS)
        self._password = url.password
        url = _with_password(_with_defaults(url, self.driver), from_file)
        self._password = url.password
        self.copier = Copier(given.set(password=url.password), Connector)
        self.options = {key.lower(): str(value) for key, value in url.query.items()}
        self._place = f"{url.host or 'the server'}, database {url.database or 'of the login'}"
        try:
            if self.driver == "pyodbc":
                url = _with_odbc_driver(url)
            self.engine = sa.create_engine(
                url, creator=self._native, poolclass=QueuePool, pool_size=1, pool_pre_ping=True,
                pool_recycle=600, isolation_level="AUTOCOMMIT",
            )  # fmt: skip
        except (ImportError, OSError, RuntimeError) as error:
            raise missing_driver(self.driver, self._scrub(str(error))) from None
        # Not the sessions of small reads: those know nothing of what lasts.
        self._lasting = self.engine.pool.recreate()
        self._dbapi: Any = self.engine.dialect.loaded_dbapi
        # Of the whole process: a session that is closed has to end, with its locks and temporary
        # tables, which a pool of the driver's would keep for minutes.
        driver: Any = self._dbapi
        if self.driver == "pyodbc":
            driver.pooling = False
        else:
            driver.pooling(enabled=False)
        # SQLAlchemy reads the version from a banner whose words differ between products.
        dialect: Any = self.engine.dialect
        dialect._get_server_version_info = product_version
        arguments, _ = self.engine.dialect.create_connect_args(url)
        self._connection_string = str(arguments[0])

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises; its bulk copy and its native layer raise RuntimeError."""
        return (self._dbapi.Error, ServerError, RuntimeError, *self.copier.errors)

    @property
    def _connect_errors(self) -> tuple[type[Exception], ...]:
        parse_error = getattr(self._dbapi, "ConnectionStringParseError", ServerError)
        return (*self.errors, OSError, ImportError, parse_error)

    def open(self) -> Session:
        """A session that commits each statement by itself.

        Raises
        ------
        DatabaseError
            Within the connect timeout.
        """
        return Session(self._native(), self.driver)

    def open_to_read(self) -> Session:
        """The same for many rows: of the driver that reads them faster, where it may log in."""
        return self.copier.open_to_read() or self.open()

    def elsewhere(self) -> tuple[str, int] | None:
        """What mssql-python opens a session with in another process; None where it cannot.

        Returns
        -------
        (str, int)
            The connection string, with its password, and the seconds that connecting may take.
        """
        if self.driver == "mssqlpython" and self.copier.obstacle is None:
            return self._connection_string, self._timeout
        return self.copier.elsewhere()

    def read_elsewhere(self) -> tuple[str, int] | None:
        """The same for reading the source, which an option of the URL may leave to pyodbc."""
        reads = self.driver == "mssqlpython" or self.copier.reads
        return self.elsewhere() if reads else None

    def take(self) -> Session:
        """A session as :meth:`open` gives it; one that was kept, where there is one."""
        pooled = self._lasting.connect()
        native = pooled.driver_connection
        pooled.detach()
        return Session(native, self.driver)

    def _native(self) -> Any:
        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_exponential(multiplier=0.5, max=5) + wait_random(0, 0.5),
            stop=stop_after_delay(self._timeout),
            reraise=True,
        )
        try:
            return attempts(self._connect)
        except self._connect_errors as error:
            told = connect_error(error, self._place, self.driver, self._timeout)
            told.problems = [self._scrub(problem) for problem in told.problems]
            told.args = ("\n".join(told.problems),)
            raise told from None

    def _connect(self) -> Any:
        native = self._dbapi.connect(
            self._connection_string, autocommit=True, timeout=self._timeout
        )
        if self.driver == "pyodbc":
            # Text of any code page as UTF-16: what the client's locale cannot write would else
            # arrive as question marks.
            native.setdecoding(
                self._dbapi.SQL_CHAR, encoding="utf-16le", ctype=self._dbapi.SQL_WCHAR
            )
        return native

    def _scrub(self, text: str) -> str:
        return without_password(text, self._password)

    @contextmanager
    def telling(self, doing: str) -> Iterator[None]:
        """Turn a driver's error into one sentence."""
        try:
            yield
        except self.errors as error:
            raise statement_error(error, doing) from None

    def repeating(self, action: Callable[[], T]) -> T:
        """Do something again where it failed for a reason that passes; only for what is safe."""
        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_exponential(multiplier=0.2, max=5) + wait_random(0, 0.2),
            stop=stop_after_attempt(5),
            reraise=True,
        )
        return attempts(action)

    def read(self, doing: str, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a small read in a session of the pool, tried again where that helps."""

        def once() -> list[tuple[Any, ...]]:
            with self.borrow() as session:
                return session.guarded(query, parameters)

        with self.telling(doing):
            return self.repeating(once)

    @contextmanager
    def borrow(self) -> Iterator[Session]:
        """A session of the pool, for a small read."""
        pooled = self.engine.raw_connection()
        try:
            yield Session(pooled.driver_connection, self.driver)
        except self.errors as error:
            if read_problem(error).lost:
                pooled.invalidate(error)
            raise
        finally:
            pooled.close()

    @contextmanager
    def keep(self) -> Iterator[Session]:
        """A session for something that lasts, such as a lock.

        Where all went well it is kept, so that the next run of this process need not connect and
        log in again. After an error, or once its ``spoiled`` is true, it ends with all it holds.
        """
        pooled = self._lasting.connect()
        session = Session(pooled.driver_connection, self.driver)
        try:
            yield session
        except BaseException:
            session.spoiled = True
            raise
        finally:
            if session.spoiled:
                pooled.invalidate()
            pooled.close()

    def close(self) -> None:
        """End the connections that are kept."""
        self.copier.close()
        self._lasting.dispose()
        self.engine.dispose()


def product_version(connection: sa.Connection) -> tuple[int, ...]:
    """The server's version, from its property and not from the words of its banner."""
    text = connection.exec_driver_sql(
        "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128))"
    ).scalar()
    return tuple(int(part) for part in str(text or "0").split(".") if part.isdigit())


def _driver(url: URL) -> str:
    name = url.drivername.partition("+")[2] or _DRIVERS[0]
    if name not in _DRIVERS:
        raise DefinitionError(
            f"the URL's driver {name!r} given; allowed: mssql+mssqlpython://…, mssql+pyodbc://…"
        )
    return name


def _check_parts(url: URL) -> None:
    # Not shown: an option of a connection string that was put there may be a password.
    if any(";" in (part or "") for part in (url.username, url.host, url.database)):
        raise DefinitionError(
            "a semicolon in the user, server or database of the URL; allowed: options after a ?, "
            "joined by &"
        )


def _safe(url: URL) -> str:
    hidden = {key: "***" for key in url.query if key.lower() in _SECRET_KEYS}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _option(url: URL, name: str) -> str | None:
    """An option of the URL, whose name is written in any case; the last where there are several."""
    for key, value in url.query.items():
        if key.lower() == name:
            return value if isinstance(value, str) else value[-1]
    return None


def _take_number(url: URL, name: str, default: int, most: int, unit: str = "") -> tuple[URL, int]:
    """An option that is ours and no driver's, and the URL without it."""
    given = _option(url, name)
    if given is None:
        return url, default
    if not given.isdecimal() or not 1 <= int(given) <= most:
        raise DefinitionError(f"{name}={given} in the URL; allowed: 1 to {most}{unit}")
    names = [key for key in url.query if key.lower() == name]
    return url.difference_update_query(names), int(given)


def _with_defaults(url: URL, driver: str) -> URL:
    url = url.set(drivername=f"mssql+{driver}")
    connect = _option(url, "odbc_connect")
    if connect is not None:
        if not re.search(r"(^|;)\s*Encrypt\s*=", connect, re.IGNORECASE):
            url = url.update_query_dict({"odbc_connect": f"{connect.rstrip('; ')};Encrypt=yes"})
        return url
    if driver == "mssqlpython":
        if not url.host or not url.database:
            raise DefinitionError(
                "the database URL names no server or no database; allowed: "
                "mssql+mssqlpython://server/database"
            )
        if _option(url, "driver") is not None:
            raise DefinitionError(
                "driver= in the URL: mssql+mssqlpython brings its own; leave it out, or use "
                "mssql+pyodbc://"
            )
    defaults = {"Encrypt": "yes"}
    if driver == "mssqlpython" and not url.username and _option(url, "authentication") is None:
        defaults["Trusted_Connection"] = "yes"
    if driver == "pyodbc":
        defaults["APP"] = "sqlkmeans"
    missing = {key: value for key, value in defaults.items() if _option(url, key.lower()) is None}
    return url.update_query_dict(missing)


def _with_password(url: URL, from_file: bool) -> URL:
    """The URL with the password from outside, where it names a user without one."""
    method = (_option(url, "authentication") or "sqlpassword").lower()
    if not url.username or url.password or method not in _NEEDS_PASSWORD:
        return url
    if from_file:
        check_password_is_safe(url)
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None and sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass(visible(f"Password of {url.username} on {url.host}: "))
    if not password:
        raise DefinitionError(
            f"the database URL has the user {url.username} and no password; set the variable "
            f"{PASSWORD_VARIABLE}"
        )
    return url.set(password=password)


def _with_odbc_driver(url: URL) -> URL:
    """Name an ODBC driver where the URL names neither a driver nor a DSN."""
    is_dsn = _option(url, "dsn") is not None or (url.host and not url.database)
    if _option(url, "driver") is not None or _option(url, "odbc_connect") is not None or is_dsn:
        return url
    import pyodbc

    registered = [(match, name) for name in pyodbc.drivers()
                  if (match := _REGISTERED_DRIVER.match(name))]  # fmt: skip
    if registered:
        newest = max(registered, key=lambda found: int(found[0].group(1)))
        return url.update_query_dict({"driver": newest[1]})
    bundled = bundled_driver()
    if bundled is None:
        raise OSError("no ODBC driver for SQL Server is registered")
    return url.update_query_dict({"driver": str(bundled)})


def bundled_driver() -> Path | None:
    """The ODBC driver inside the wheel mssql-python-odbc; Windows loads registered ones only."""
    package = find_spec("mssql_python_odbc")
    if package is None or package.origin is None:
        return None
    libraries = Path(package.origin).parent / "libs"
    machine = platform.machine().lower().replace("aarch64", "arm64").replace("amd64", "x86_64")
    system = {"linux": f"linux/{_linux_family()}", "darwin": "macos"}.get(sys.platform)
    if system is None:
        return None
    found = sorted((libraries / system / machine / "lib").glob("libmsodbcsql*"))
    return found[-1] if found else None


def _linux_family() -> str:
    """The folder that the wheel has for this distribution; the names are the wheel's."""
    signs = {
        "/etc/alpine-release": "alpine",
        "/etc/redhat-release": "rhel",
        "/etc/SuSE-release": "suse",
        "/etc/SUSE-brand": "suse",
    }
    return next((name for sign, name in signs.items() if Path(sign).exists()), "debian_ubuntu")
