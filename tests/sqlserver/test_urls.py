"""What becomes of a URL before anything is connected."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from sqlkmeans.database import open_database
from sqlkmeans.database.sqlserver import connection
from sqlkmeans.database.sqlserver.connection import Connector, bundled_driver
from sqlkmeans.errors import DatabaseError, DefinitionError

try:
    import pyodbc
except ImportError as missing:
    pyodbc, why_missing = None, str(missing)
else:
    why_missing = ""

requires_pyodbc = pytest.mark.skipif(
    pyodbc is None, reason=f"pyodbc cannot load its libraries (unixODBC): {why_missing}"
)
BOTH_DRIVERS = ["mssqlpython", pytest.param("pyodbc", marks=requires_pyodbc)]

SECRET = "se;cr}et"
SERVER = "sa:se%3Bcr%7Det@db.example.com:1444/shop"


@pytest.fixture(autouse=True)
def no_password_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQLKMEANS_PASSWORD", raising=False)


def string(url: str) -> str:
    return Connector(make_url(url))._connection_string


@pytest.mark.parametrize("driver", BOTH_DRIVERS)
def test_encryption_is_on_unless_the_url_says_otherwise(driver: str) -> None:
    assert "Encrypt=yes" in string(f"mssql+{driver}://{SERVER}")
    for given in ("Encrypt=no", "encrypt=strict"):
        text = string(f"mssql+{driver}://{SERVER}?{given}")
        assert given in text
        assert text.lower().count("encrypt=") == 1


@requires_pyodbc
def test_no_driver_keeps_a_closed_session_in_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks and temporary tables would live on in there."""
    from mssql_python.pooling import PoolingManager

    monkeypatch.setattr(pyodbc, "pooling", True)
    PoolingManager.enable()
    for driver in ("mssqlpython", "pyodbc"):
        string(f"mssql+{driver}://{SERVER}")
    assert not pyodbc.pooling
    assert not PoolingManager.is_enabled()


@requires_pyodbc
def test_encryption_is_on_for_odbc_connect_and_a_dsn_too() -> None:
    assert string("mssql+pyodbc:///?odbc_connect=DSN%3Dshop").endswith(";Encrypt=yes")
    assert string("mssql+pyodbc:///?odbc_connect=DSN%3Dshop%3BEncrypt%3Dno").endswith("Encrypt=no")
    text = string("mssql+pyodbc://shop_dsn")
    assert "dsn=shop_dsn" in text
    assert "Encrypt=yes" in text
    assert "DRIVER" not in text


def test_without_a_driver_in_the_url_mssql_python_is_used() -> None:
    assert Connector(make_url(f"mssql://{SERVER}")).driver == "mssqlpython"


@pytest.mark.parametrize("driver", BOTH_DRIVERS)
def test_the_password_is_in_no_text_that_people_see(driver: str) -> None:
    connector = Connector(make_url(f"mssql+{driver}://{SERVER}"))
    assert connector.safe_url == f"mssql+{driver}://sa:***@db.example.com:1444/shop"
    assert SECRET not in repr(connector.engine)
    assert SECRET not in connector._scrub(f"Login failed, PWD={SECRET}")


@requires_pyodbc
def test_passwords_in_options_are_masked_too() -> None:
    for option in ("PWD=hush", "odbc_connect=DSN%3Dshop%3BPWD%3Dhush"):
        connector = Connector(make_url(f"mssql+pyodbc:///?{option}"))
        assert "hush" not in connector.safe_url


def test_special_characters_of_a_password_arrive_whole() -> None:
    assert "PWD={se;cr}}et}" in string(f"mssql+mssqlpython://{SERVER}")


def test_a_missing_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLKMEANS_PASSWORD", "from outside")
    assert "PWD=from outside" in string("mssql+mssqlpython://sa@db/shop")
    assert "PWD=in the url" in string("mssql+mssqlpython://sa:in%20the%20url@db/shop")


def test_a_missing_password_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(connection.getpass, "getpass", lambda prompt: "typed")
    assert "PWD=typed" in string("mssql+mssqlpython://sa@db/shop")


def test_a_missing_password_without_a_terminal_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(DefinitionError, match=r"user sa and no password.*SQLKMEANS_PASSWORD"):
        string("mssql+mssqlpython://sa@db/shop")


@pytest.mark.parametrize(
    "method", ["ActiveDirectoryMSI", "ActiveDirectoryInteractive", "ActiveDirectoryDefault"]
)
def test_a_user_of_entra_needs_no_password(method: str) -> None:
    text = string(f"mssql+mssqlpython://someone@db/shop?Authentication={method}")
    assert f"Authentication={method}" in text
    assert "UID=someone" in text
    assert "PWD" not in text


@pytest.mark.parametrize("driver", BOTH_DRIVERS)
def test_without_a_user_windows_or_kerberos_says_who_it_is(driver: str) -> None:
    text = string(f"mssql+{driver}://db/shop").lower()
    assert text.count("trusted_connection=yes") == 1
    other = string(f"mssql+{driver}://db/shop?authentication=ActiveDirectoryDefault").lower()
    assert "trusted_connection" not in other


def test_the_connect_timeout_is_an_option_of_the_url() -> None:
    connector = Connector(make_url(f"mssql+mssqlpython://{SERVER}?connect_timeout=7"))
    assert connector._timeout == 7
    assert "timeout" not in connector._connection_string
    assert Connector(make_url(f"mssql+mssqlpython://{SERVER}"))._timeout == 15
    with pytest.raises(DefinitionError, match="allowed: 1 to 3600"):
        Connector(make_url(f"mssql+mssqlpython://{SERVER}?connect_timeout=soon"))


@pytest.mark.parametrize("driver", BOTH_DRIVERS)
def test_how_many_connections_read_is_an_option_of_the_url(driver: str) -> None:
    url = f"mssql+{driver}://{SERVER}"
    connector = Connector(make_url(f"{url}?Read_Connections=16"))
    assert connector.read_connections == 16
    assert "read_connections" not in connector._connection_string.lower()
    assert "read_connections" not in connector.options
    assert Connector(make_url(url)).read_connections == 1


@pytest.mark.parametrize("given", ["0", "17", "-1", "four", "2.5", "²"])
def test_a_number_of_connections_that_cannot_be_is_told_with_what_can(given: str) -> None:
    with pytest.raises(DefinitionError, match=f"read_connections={given} .*allowed: 1 to 16$"):
        Connector(make_url(f"mssql+mssqlpython://{SERVER}?read_connections={given}"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"mssql+pymssql://{SERVER}", "driver 'pymssql' given; allowed"),
        ("mssql+mssqlpython://sa:x@db", "names no server or no database"),
        (f"mssql+mssqlpython://{SERVER}?driver=ODBC+Driver+18", "brings its own"),
    ],
)
def test_what_is_wrong_in_a_url_is_told_without_the_password(url: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        open_database(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("module", ["mssql_python", "pyodbc"])
def test_a_driver_that_cannot_be_loaded_is_exit_4_with_what_to_install(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DatabaseError, match=r"cannot load its libraries .* apt-get install"):
        open_database(f"mssql+{module.replace('_', '')}://{SERVER}")


def test_an_odbc_driver_that_is_not_there_is_exit_4_with_what_to_do() -> None:
    with pytest.raises(DatabaseError, match=r"apt-get install unixodbc|is registered"):
        open_database(f"mssql+pyodbc://{SERVER}?driver=/nowhere/libmsodbcsql.so")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(DefinitionError, match=r"Unknown keyword 'colour'"):
        open_database(f"mssql+mssqlpython://{SERVER}?colour=blue")


@requires_pyodbc
def test_pyodbc_takes_the_newest_registered_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["SQLite3", "ODBC Driver 17 for SQL Server", "ODBC Driver 18 for SQL Server"]
    monkeypatch.setattr(pyodbc, "drivers", lambda: known)
    assert "DRIVER={ODBC Driver 18 for SQL Server}" in string(f"mssql+pyodbc://{SERVER}")
    named = string(f"mssql+pyodbc://{SERVER}?driver=FreeTDS")
    assert "DRIVER={FreeTDS}" in named


@requires_pyodbc
@pytest.mark.skipif(sys.platform == "win32", reason="Windows loads registered drivers only")
def test_pyodbc_takes_the_driver_of_the_wheel_where_none_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pyodbc, "drivers", list)
    driver = bundled_driver()
    assert driver is not None
    assert Path(driver).is_file()
    assert f"DRIVER={{{driver}}}" in string(f"mssql+pyodbc://{SERVER}")
