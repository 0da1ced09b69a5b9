"""What the drivers and SQL Server say, as one sentence with a remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlkmeans.errors import (
    DatabaseError,
    DataError,
    DefinitionError,
    LockedError,
    SqlKMeansError,
)

READ_ON = "docs/connect.md"

LINUX_PACKAGES = {
    "mssqlpython": "libltdl7 libkrb5-3 libgssapi-krb5-2",
    "pyodbc": "unixodbc",
}

#: Errors that pass by themselves, as Microsoft's documentation lists them for Azure SQL, with the
#: network's and the locks' own: a deadlock's victim, a snapshot's update conflict.
TRANSIENT_NUMBERS = frozenset(
    {
        64, 233, 615, 926, 1205, 1222, 3960, 4221, 10053, 10054, 10060, 10928, 10929, 10936,
        40143, 40197, 40501, 40540, 40613, 40615, 41301, 41302, 41305, 41325, 42108, 42109,
        49918, 49919, 49920,
    }
)  # fmt: skip
#: A deadlock's victim, a broken connection.
TRANSIENT_STATES = frozenset({"40001", "08S01", "08007"})
#: The session is gone: what was sent last may or may not have happened.
LOST_STATES = frozenset({"08S01", "08007", "08003", "01002"})

_PERMISSION_NUMBERS = frozenset({229, 230, 262, 297, 300, 371, 916, 1088, 15247, 15517})
_REPEATED_KEY_NUMBERS = frozenset({2601, 2627})

# mssql-python gives the meaning of the SQLSTATE instead of the SQLSTATE.
_STATES = {
    "Disconnect error": "01002",
    "Client unable to establish connection": "08001",
    "Connection not open": "08003",
    "Server rejected the connection": "08004",
    "Connection failure during transaction": "08007",
    "Communication link failure": "08S01",
    "Integrity constraint violation": "23000",
    "Invalid authorization specification": "28000",
    "Serialization failure": "40001",
    "Syntax error or access violation": "42000",
    "Timeout expired": "HYT00",
    "Connection timeout expired": "HYT01",
}
# Before the first message: driver names in brackets. After it: number, function, more messages.
_NATIVE_NUMBER = re.compile(r"\((-?\d+)\) \(SQL\w+\)")
_BULK_NUMBER = re.compile(r"Sql Error: (\d+)")
_BRACKETS = re.compile(r"^(\s*\[[^\]]*\])+\s*")


class ServerError(Exception):
    """SQL Server's own number and message, read on the server because a driver drops the number."""

    def __init__(self, number: int, message: str) -> None:
        self.number = number
        self.message = message
        super().__init__(message)


@dataclass(frozen=True)
class Problem:
    """An error of any driver.

    Attributes
    ----------
    number : int or None
        SQL Server's, where it is known.
    state : str
        The SQLSTATE; empty where it is not known.
    text : str
        The message, without the names of drivers.
    """

    number: int | None
    state: str
    text: str

    @property
    def transient(self) -> bool:
        """Whether the same statement may succeed in a moment."""
        return self.number in TRANSIENT_NUMBERS or self.state in TRANSIENT_STATES

    @property
    def lost(self) -> bool:
        """Whether the session is gone."""
        return self.state in LOST_STATES

    @property
    def permission(self) -> bool:
        """Whether the login lacks a permission."""
        return self.number in _PERMISSION_NUMBERS or bool(
            re.search(r"permission (was )?denied|not have permission", self.text, re.IGNORECASE)
        )

    @property
    def repeated_key(self) -> bool:
        """Whether a primary key was violated."""
        return self.number in _REPEATED_KEY_NUMBERS or self.state == "23000"


def read_problem(error: BaseException) -> Problem:
    """Number, state and message of an error of pyodbc, mssql-python or its bulk copy."""
    if isinstance(error, ServerError):
        return Problem(error.number, "", error.message)
    driver_error = getattr(error, "driver_error", None)
    if driver_error is not None:
        text = str(getattr(error, "ddbc_error", "") or driver_error)
        state = _STATES.get(driver_error) or _last_word(driver_error)
        return Problem(None, state, _plain(text))
    text = str(error)
    if len(error.args) > 1 and isinstance(error.args[1], str):
        text = error.args[1]
        found = _NATIVE_NUMBER.search(text)
        first = text[: found.start()] if found else text
        number = int(found.group(1)) if found else None
        return Problem(number or None, str(error.args[0]), _plain(first))
    found = _BULK_NUMBER.search(text)
    return Problem(int(found.group(1)) if found else None, "", _plain(text))


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help."""
    return read_problem(error).transient


def _last_word(driver_error: str) -> str:
    """The SQLSTATE where mssql-python has no words for it."""
    match = re.search(r"SQLSTATE code: (\w{5})$", driver_error)
    return match.group(1) if match else ""


def _plain(text: str) -> str:
    return _BRACKETS.sub("", " ".join(text.split())).strip().rstrip(".")


def connect_error(error: BaseException, place: str, driver: str, seconds: int) -> SqlKMeansError:
    """Why no connection came about, and what to do.

    Parameters
    ----------
    error : Exception
    place : str
        Server and database.
    driver : {"mssqlpython", "pyodbc"}
    seconds : int
        The connect timeout.
    """
    problem = read_problem(error)
    text = problem.text
    if type(error).__name__ == "ConnectionStringParseError":
        lines = [line.strip() for line in str(error).split("\n")[1:]]
        return DefinitionError([f"the database URL: {line} ({READ_ON})" for line in lines])
    if problem.state in ("IM002", "IM003"):
        return DatabaseError(
            f"{place}: no DSN or ODBC driver of that name is registered on this machine ({text}); "
            f"mssql+mssqlpython:// needs neither ({READ_ON})"
        )
    if missing_library(error):
        return missing_driver(driver, text)
    if problem.number == 18456 or problem.state == "28000":
        return DatabaseError(
            f"{place}: {text}; check the user and the password (in the variable "
            f"SQLKMEANS_PASSWORD or the URL), or ask for a login ({READ_ON})"
        )
    if problem.number in (911, 4060) or problem.state in ("08004", "42000"):
        return DatabaseError(
            f"{place}: {text}; name another database in the URL, or ask for access to this one"
        )
    if "certificate" in text.lower():
        return DatabaseError(
            f"{place}: the server's certificate is not trusted ({text}); install the certificate "
            "of who signed it or, on a network you trust, add TrustServerCertificate=yes to the URL"
        )
    if "0x2AF9" in text or "Name or service not known" in text:
        return DatabaseError(f"{place}: there is no host of that name; check the URL")
    if problem.state in ("08001", "HYT00", "HYT01") or "TCP Provider" in text:
        return DatabaseError(
            f"{place}: no answer within {seconds} s ({text}); check host and port (1433 where the "
            "URL names none), the firewall, and that the server listens on TCP"
        )
    return DatabaseError(f"{place}: {text}")


def missing_library(error: BaseException) -> bool:
    """Whether a driver could not be loaded at all."""
    text = str(error)
    return isinstance(error, (ImportError, OSError)) or any(
        sign in text
        for sign in ("Failed to load the driver", "Can't open lib", "cannot open shared object")
    )


def missing_driver(driver: str, text: str) -> DatabaseError:
    """A driver's libraries are not on this machine."""
    module = {"mssqlpython": "mssql-python", "pyodbc": "pyodbc"}[driver]
    return DatabaseError(
        f"{module} cannot load its libraries ({text}); on Debian or Ubuntu: "
        f"apt-get install {LINUX_PACKAGES[driver]}; elsewhere see {READ_ON}"
    )


def statement_error(error: BaseException, doing: str) -> SqlKMeansError:
    """Why a statement failed; ``doing`` says in a few words what was being done."""
    problem = read_problem(error)
    own = _OWN_ERRORS.get(problem.number or 0)
    if own is not None:
        return own(problem.text.split("\n") if problem.number != 50005 else problem.text)
    if problem.permission:
        return DatabaseError(
            f"{doing}: {problem.text}; ask for the role sqlkmeans_operator, and for SELECT on the "
            f"source ({READ_ON})"
        )
    if problem.lost:
        return DatabaseError(f"{doing}: the connection was lost ({problem.text})")
    return DatabaseError(f"{doing}: {problem.text}")


#: What procedures of schema sqlkmeans throw: the exit code is the number less 50,000.
_OWN_ERRORS: dict[int, type[SqlKMeansError]] = {
    50001: SqlKMeansError,
    50002: DefinitionError,
    50003: DataError,
    50004: DatabaseError,
    50005: LockedError,
}
