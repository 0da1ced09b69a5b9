"""Who moves many rows fast, from the server and to it.

pyodbc does not: it makes a Python object of every value. mssql-python does, where it may log in as
the URL says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy.engine import URL

from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.errors import SqlKMeansError
from sqlkmeans.words import without_password

# What says where a server is and how it is talked to. All else is for the URL's own ODBC driver.
_CARRIED = frozenset(
    {
        "encrypt", "trustservercertificate", "hostnameincertificate", "servercertificate",
        "multisubnetfailover", "ipaddresspreference", "packetsize", "keepalive",
        "keepaliveinterval", "connectretrycount", "connectretryinterval", "connect_timeout",
    }
)  # fmt: skip
# What the other driver does not need, or says by itself.
_UNNEEDED = frozenset({"driver", "read_connections", "authentication", "trusted_connection"})
# What an option can put in the place of what stands before the question mark.
_OVERRIDING = frozenset(
    {
        "server", "addr", "address", "host", "port", "database", "uid", "user", "username", "pwd",
        "password",
    }
)  # fmt: skip
_SQL_LOGIN = "sqlpassword"  # a value of Authentication; also what is meant where there is none


class Opener(Protocol):
    """Whoever opens sessions for a URL."""

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...
    def keep(self) -> AbstractContextManager[Session]: ...
    def elsewhere(self) -> tuple[str, int] | None: ...
    def take(self) -> Session: ...
    def close(self) -> None: ...


class Copier:
    """Opens sessions of mssql-python, which copies in bulk both ways, for the database of any URL.

    Parameters
    ----------
    url : sqlalchemy.engine.URL
        With its password, and without what was added to it for its driver.
    connect : callable
        Makes who opens sessions for another URL.

    Attributes
    ----------
    obstacle : str or None
        Why rows travel otherwise, as far as it is known yet.
    reads : bool
        Whether rows are read this way too, where the URL names pyodbc: not where the URL has an
        option that the server or the ODBC driver gives a meaning, such as ApplicationIntent,
        ColumnEncryption or APP. Writing is for labels only, which none of them concerns.
    """

    def __init__(self, url: URL, connect: Callable[[URL], Opener]) -> None:
        self.obstacle = obstacle(url)
        self._carries_all = _carries_all(url)
        self._url = url
        self._connect = connect
        self._connector: Opener | None = None
        self._refusal: str | None = None
        self._untold: str | None = None

    @property
    def reads(self) -> bool:
        return self._carries_all and self.obstacle is None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the sessions beside raise."""
        return () if self._connector is None else self._connector.errors

    @contextmanager
    def open(self, session: Session) -> Iterator[Session | None]:
        """The given session where its driver copies, else one beside it; None where none can."""
        if session.driver == "mssqlpython" and self.obstacle is None:
            yield session
            return
        connector = self._connected()
        self._untold = self._refusal
        if connector is None:
            yield None
            return
        with connector.keep() as copying:
            yield copying

    def open_to_read(self) -> Session | None:
        """A session of its own for many rows; None where the URL's own driver has to read them."""
        connector = self._connected() if self.reads else None
        return None if connector is None else connector.take()

    @contextmanager
    def lend_to_read(self) -> Iterator[Session | None]:
        """The same, kept for what comes after: whoever reads leaves it as it was."""
        connector = self._connected() if self.reads else None
        if connector is None:
            yield None
            return
        with connector.keep() as session:
            yield session

    def elsewhere(self) -> tuple[str, int] | None:
        """What a session beside is opened with in another process; None where none can."""
        connector = self._connected()
        return None if connector is None else connector.elsewhere()

    def _connected(self) -> Opener | None:
        """Tried once: where a firewall is the reason, each trial would wait for its timeout."""
        if self.obstacle is None and self._connector is None:
            try:
                connector = self._connect(copying_url(self._url))
                with connector.keep():
                    self._connector = connector
            except SqlKMeansError as error:
                self.refuse(error)
        return None if self.obstacle else self._connector

    def refuse(self, error: BaseException) -> None:
        """Do not copy any more; the run has to say why."""
        text = without_password(" ".join(str(error).split()), self._url.password)
        self.obstacle = self._refusal = self._untold = text

    def notes(self) -> list[str]:
        """What a run has to say of it, once."""
        untold, self._untold = self._untold, None
        if untold is None:
            return []
        return [
            "mssql-python could not copy the labels, so they travelled as arrays of "
            f"parameters, which takes several times as long: {untold}"
        ]

    def check(self) -> None:
        """Find out whether there is an obstacle, before anything travels."""
        self._connected()

    def close(self) -> None:
        """End the sessions beside."""
        if self._connector is not None:
            self._connector.close()


def obstacle(url: URL) -> str | None:
    """Why mssql-python cannot log in as a URL for pyodbc does; None where it can, or is meant.

    The bulk copy logs in on a connection of its own, which is known of a SQL login only.
    """
    if url.drivername.partition("+")[2] != "pyodbc":
        return None
    options = {key.lower(): str(value).lower() for key, value in url.query.items()}
    if "odbc_connect" in options:
        return "the URL has an ODBC connection string"
    if "dsn" in options or not url.host or not url.database:
        return "the URL names a DSN"
    if not _OVERRIDING.isdisjoint(options):
        return "the URL names server or login among its options"
    is_sql_login = options.get("authentication", _SQL_LOGIN) == _SQL_LOGIN
    if not (url.username and url.password and is_sql_login):
        return "the login is not a SQL login"
    if options.get("trusted_connection", "no") not in ("no", "false", "0"):
        return "the login is not a SQL login"
    return None


def _carries_all(url: URL) -> bool:
    """Whether a URL is for pyodbc, and all that it says can be said to mssql-python."""
    known = _CARRIED | _UNNEEDED
    return url.drivername.partition("+")[2] == "pyodbc" and known.issuperset(
        name.lower() for name in url.query
    )


def copying_url(url: URL) -> URL:
    """The URL with which mssql-python reaches the database of a URL for pyodbc."""
    left_out = [name for name in url.query if name.lower() not in _CARRIED]
    return url.set(drivername="mssql+mssqlpython").difference_update_query(left_out)
