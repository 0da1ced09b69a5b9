"""The URL in a definition file loads no library, and gets no password in clear."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from sqlalchemy.engine import make_url

from sqlkmeans.database import open_database
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.errors import DatabaseError, DefinitionError
from sqlkmeans.words import without_password
from support.attacks import command, each

try:
    import pyodbc
except ImportError:
    pyodbc = None

requires_pyodbc = pytest.mark.skipif(pyodbc is None, reason="pyodbc cannot load its libraries")

ODBC = "mssql+pyodbc:///?odbc_connect="

LIBRARIES = [
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver={/tmp/evil.so}",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver=./evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?DRIVER=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?Driver=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver=Registered&Driver=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver=Registered&driver=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver=Registered};Driver=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver=evil.dll",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?driver=%5C%5Cevil%5Cshare%5Cevil.dll",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?filedsn=/tmp/evil.dsn",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?FileDSN=/tmp/evil.dsn",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?savefile=/tmp/evil.dsn",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?a%3BDriver=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?a%7DDriver=/tmp/evil.so",
    "mssql+pyodbc://sa:x@127.0.0.1:9/shop?%20driver=/tmp/evil.so",
    ODBC + quote_plus("Driver=/tmp/evil.so;Server=127.0.0.1,9"),
    ODBC + quote_plus("driver={/tmp/evil.so};Server=127.0.0.1,9"),
    ODBC + quote_plus("Server=127.0.0.1,9; DRIVER = /tmp/evil.so"),
    ODBC + quote_plus("Server={a;Driver=Registered};Driver=/tmp/evil.so"),
    ODBC + quote_plus("Server={a}};Driver=/tmp/evil.so;x={b}"),
    ODBC + quote_plus("FILEDSN=/tmp/evil.dsn"),
    ODBC + quote_plus("Server=x;=;Driver=/tmp/evil.so"),
    ODBC + quote_plus("Server=x;;Driver=/tmp/evil.so"),
]


@pytest.fixture(autouse=True)
def nothing_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any, **__: Any) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr("mssql_python.connect", connect)
    if pyodbc is not None:
        monkeypatch.setattr(pyodbc, "connect", connect)
        monkeypatch.setattr(pyodbc, "drivers", lambda: ["Registered"])


def definition(folder: Path, url: str) -> str:
    path = folder / "sqlkmeans.toml"
    path.write_text(
        f"[database]\nurl = '{url}'\n[segmentation.c]\nsource = 's'\nkey = 'i'\n"
        "features = ['x']\nk = 2\ntarget = 't'\n"
    )
    return str(path)


@requires_pyodbc
@each(LIBRARIES)
def test_a_definition_file_loads_no_library(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    definition(tmp_path, attack)
    assert command("runs") == 2
    said = capsys.readouterr().err
    assert said.startswith("Definition: ./sqlkmeans.toml\nError: ")
    assert "docs/connect.md" in said


@requires_pyodbc
def test_a_registered_driver_and_a_dsn_are_loaded_from_a_file() -> None:
    for url in (
        "mssql+pyodbc://sa:x@db/shop?driver=Registered",
        "mssql+pyodbc://sa:x@shop_dsn",
        ODBC + quote_plus("Driver={Registered};Server=db;Database=shop;UID=sa;PWD=x"),
        ODBC + quote_plus("DSN=shop"),
    ):
        assert Connector(make_url(url), from_file=True).driver == "pyodbc"


@requires_pyodbc
def test_what_the_user_typed_may_name_any_driver() -> None:
    url = "mssql+pyodbc://sa:x@db/shop?driver=/opt/own/libmsodbcsql.so"
    assert "/opt/own/libmsodbcsql.so" in Connector(make_url(url))._connection_string


IN_CLEAR = [
    "mssql+mssqlpython://etl@evil/shop?Encrypt=no",
    "mssql+mssqlpython://etl@evil/shop?encrypt=No",
    "mssql+mssqlpython://etl@evil/shop?Encrypt=optional",
    "mssql+mssqlpython://etl@evil/shop?Encrypt=0",
    "mssql+mssqlpython://etl@evil/shop?Encrypt=yes&encrypt=no",
    "mssql+mssqlpython://etl@evil/shop?Encrypt=yes&Encrypt=no",
    "mssql+mssqlpython://etl@evil/shop?TrustServerCertificate=yes",
    "mssql+mssqlpython://etl@evil/shop?trustservercertificate=YES",
    "mssql+mssqlpython://etl@evil/shop?TrustServerCertificate=true",
    "mssql+mssqlpython://etl@evil/shop?TrustServerCertificate=1",
    "mssql+pyodbc://etl@evil/shop?Encrypt=no",
    "mssql+pyodbc://etl@evil/shop?TrustServerCertificate=yes",
    "mssql+pyodbc://etl@evil_dsn?Encrypt=no",
    "mssql+mssqlpython://id@evil/shop?Authentication=ActiveDirectoryServicePrincipal&Encrypt=no",
]


@each(IN_CLEAR)
def test_a_definition_file_gets_no_password_in_clear(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SQLKMEANS_PASSWORD", "hush")
    monkeypatch.setattr("getpass.getpass", lambda _: pytest.fail("asked for a password"))
    assert command("runs", definition(tmp_path, attack)) == 2
    said = capsys.readouterr().err
    assert "gets no password from outside" in said
    assert "hush" not in said


@each(IN_CLEAR[:8])
def test_a_url_that_the_user_gave_gets_it(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docker-compose.yml does, whose server signed its certificate itself."""
    monkeypatch.setenv("SQLKMEANS_PASSWORD", "hush")
    assert "PWD=hush" in Connector(make_url(attack))._connection_string


def test_a_file_whose_url_is_encrypted_and_checked_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SQLKMEANS_PASSWORD", "hush")
    for options in ("", "?Encrypt=strict", "?Encrypt=yes&TrustServerCertificate=no"):
        url = make_url(f"mssql+mssqlpython://etl@db/shop{options}")
        assert "PWD=hush" in Connector(url, from_file=True)._connection_string


SEMICOLONS = [
    "mssql+pyodbc://h/d;PWD=hush",
    "mssql+pyodbc://u;PWD=hush@h/d",
    "mssql+pyodbc://u%3BPWD%3Dhush:x@h/d",
    "mssql+pyodbc://h/d%3BPWD%3Dhush",
    "mssql+pyodbc://h;PWD=hush/d",
    "mssql+mssqlpython://u;PWD=hush@h/d",
    "mssql+mssqlpython://u:x@h/d;Encrypt=no;PWD={hush}",
]


@each(SEMICOLONS)
def test_a_password_behind_a_semicolon_is_not_shown(attack: str) -> None:
    with pytest.raises((DefinitionError, DatabaseError)) as caught:
        open_database(attack)
    assert "hush" not in str(caught.value)


#: Where a URL, or a part of one, stands that is none.
MISPLACED = [
    "[database]\nuri = 'mssql://sa:hush@h/d'",
    "[database]\nurl = 3\npassword = 'mssql://sa:hush@h/d'",
    "[database]\nurl = 'oracle://sa:hush@h/d'",
    "[database]\nurl = 'mssql+evil://sa:hush@h/d'",
    "[database]\nurl = 'mssql://sa:hush@h:port/d'",
    "[segmentation.c]\nurl = 'mssql://sa:hush@h/d'",
    "[segmentation.c]\nsource = 'mssql://sa:hush@h/d'",
    "[segmentation.c]\ntarget = 'mssql://sa:hush@h/d'",
    "[segmentation.c]\nkey = 3\nscaling = 'mssql://sa:hush@h/d'",
    "[segmentation.c]\nengine = 'PWD=hush;Server=h'",
    "[segmentation.c]\nk = 'mssql://sa:p@hush@h/d'",
    "[segmentation.c]\nmemory_limit = 'Password = {hu}}sh};Server=h'",
    "[segmentation.c]\nn_init = 'odbc_connect=Driver%3DX%3BPWD%3Dhush%3BServer%3Dh'",
    "[segmentation.c]\nmissing = 'mssql+mssqlpython://a_user_of_many_letters_and_more:hush@h/d'",
]


@each(MISPLACED)
def test_a_password_in_the_wrong_place_of_a_definition_is_not_shown(
    attack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(attack)
    for arguments in (["runs", str(path)], ["runs", str(path), "--json"]):
        assert command(*arguments, "--verbose") == 2
        said = capsys.readouterr()
        assert "hush" not in said.out + said.err
        assert "sh}" not in said.out + said.err


@each(["mssql://sa:hush@h/d", "mssql+pyodbc:///?odbc_connect=PWD%3Dhush", "PWD=hush"])
def test_a_url_typed_where_a_name_is_expected_is_not_shown(
    attack: str, duckdb_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("runs", attack) == 2
    command("install", "--url", duckdb_url)
    assert command("run", attack, "--url", duckdb_url) == 2
    assert command("rename", attack, "1", "x", "--url", duckdb_url) == 2
    assert "hush" not in capsys.readouterr().err


@each(["se;cr}et", "a@b;c", "p w;d", "x'y\"z", "{br;ace}", ";", "semi;;colons"])
def test_a_password_that_is_known_is_hidden_whole(attack: str) -> None:
    for text in (f"PWD={attack}", f"failed (PWD={attack};Encrypt=yes)", f"mssql://sa:{attack}@h/d"):
        told = without_password(str(DatabaseError(text)), attack)
        assert attack not in told
        assert all(part not in told for part in re.split("[;@ ]", attack) if len(part) > 1)
