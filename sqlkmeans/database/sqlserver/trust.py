"""What the URL in a definition file may ask for: less than one that the user gives.

A definition may come from others, and a mere look at it opens its database. An ODBC driver is a
library that is loaded, and a password goes to whatever server the URL names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy.engine import URL

from sqlkmeans.errors import DefinitionError

READ_ON = "docs/connect.md"
GIVE_IT = f"give the URL with --url or in SQLKMEANS_URL, if you know what it does ({READ_ON})"

#: Options that name a file which names a driver, or that write one.
_FILES = frozenset({"filedsn", "savefile"})
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*")
_PART = re.compile(r"\s*([A-Za-z][A-Za-z0-9_ ]*?)\s*=\s*(\{[^{};]*\}|[^{};]*)\s*(?:;\s*|$)")
_ENCRYPTED = frozenset({"yes", "true", "mandatory", "strict"})
_CHECKED = frozenset({"no", "false"})


def check_url_of_file(url: URL) -> None:
    """Check the options of a URL that stands in a file.

    Raises
    ------
    DefinitionError
        If it would load a library that is not a registered driver.
    """
    problems = []
    for name, value in _options(url):
        if not _PLAIN_NAME.fullmatch(name) or name.lower() in _FILES:
            problems.append(f"the option {name!r} in the URL of a definition file")
        elif name.lower() == "driver" and value.strip().strip("{}") not in _registered():
            listed = ", ".join(_registered()) or "none is registered"
            problems.append(
                f"driver={value} in the URL of a definition file; allowed there: the name of a "
                f"registered driver ({listed})"
            )
    if problems:
        raise DefinitionError([f"{problem}; {GIVE_IT}" for problem in problems])


def check_password_is_safe(url: URL) -> None:
    """Check that the password from outside goes encrypted to the server that the URL names.

    Raises
    ------
    DefinitionError
    """
    safe = {"encrypt": _ENCRYPTED, "trustservercertificate": _CHECKED}
    if any(
        value.strip().lower() not in safe.get(name.lower(), {value.strip().lower()})
        for name, value in _options(url)
    ):
        raise DefinitionError(
            "the URL of the definition file turns off encryption or the check of the server's "
            f"certificate, and so gets no password from outside; {GIVE_IT}"
        )


def _options(url: URL) -> Iterator[tuple[str, str]]:
    """Names and values, those inside ``odbc_connect`` too."""
    for name, values in url.query.items():
        for value in [values] if isinstance(values, str) else values:
            if name.lower() == "odbc_connect":
                yield from _parts(value)
            else:
                yield name, value


def _parts(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            raise DefinitionError(
                "odbc_connect in the URL of a definition file: allowed there: name=value;… with "
                f"no brace or semicolon in a value; {GIVE_IT}"
            )
        yield match.group(1), match.group(2)
        position = match.end()


def _registered() -> list[str]:
    try:
        import pyodbc
    except ImportError:
        return []
    return list(pyodbc.drivers())
