"""Who copies in bulk for a URL, before anything is connected."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.engine import URL, make_url

from sqlkmeans.database.sqlserver.copying import Copier, copying_url, obstacle
from sqlkmeans.database.sqlserver.types import SqlColumn
from sqlkmeans.database.sqlserver.writing import write_rows
from sqlkmeans.errors import DatabaseError

LOGIN = "mssql+pyodbc://etl:se%3Bcr%7Det@db.example.com:1444/shop"
SESSION: Any = SimpleNamespace(driver="pyodbc")


@pytest.mark.parametrize(
    "options",
    [
        "",
        "?driver=ODBC+Driver+18+for+SQL+Server&Encrypt=strict",
        "?Authentication=SqlPassword",
        "?Trusted_Connection=no",
    ],
)
def test_a_sql_login_of_pyodbc_is_one_of_mssql_python_too(options: str) -> None:
    assert obstacle(make_url(LOGIN + options)) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mssql+pyodbc://etl:x@shop_dsn", "DSN"),
        ("mssql+pyodbc://etl:x@/shop?dsn=shop_dsn", "DSN"),
        ("mssql+pyodbc:///?odbc_connect=DSN%3Dshop", "connection string"),
        ("mssql+pyodbc://db.example.com/shop", "SQL login"),
        ("mssql+pyodbc://db.example.com/shop?Trusted_Connection=yes", "SQL login"),
        (LOGIN + "?Trusted_Connection=yes", "SQL login"),
        (LOGIN + "?database=another", "among its options"),
        (LOGIN + "?authentication=ActiveDirectoryPassword", "SQL login"),
    ],
)
def test_any_other_login_is_left_to_pyodbc(url: str, why: str) -> None:
    assert why in str(obstacle(make_url(url)))


def test_mssql_python_needs_nobody_else() -> None:
    assert obstacle(make_url("mssql+mssqlpython://db.example.com/shop")) is None


def test_server_login_encryption_and_timeout_go_along_and_the_odbc_driver_does_not() -> None:
    url = copying_url(
        make_url(LOGIN + "?driver=FreeTDS&APP=shop&MARS_Connection=yes&Encrypt=strict"
                 "&TrustServerCertificate=yes&connect_timeout=7")
    )  # fmt: skip
    assert url.drivername == "mssql+mssqlpython"
    assert (url.username, url.password, url.host) == ("etl", "se;cr}et", "db.example.com")
    assert (url.port, url.database) == (1444, "shop")
    assert dict(url.query) == {
        "Encrypt": "strict", "TrustServerCertificate": "yes", "connect_timeout": "7",
    }  # fmt: skip


def test_a_login_that_fails_is_tried_once_and_told_once_a_run_without_the_password() -> None:
    tried = []

    def connect(url: URL) -> Any:
        tried.append(url)
        raise DatabaseError("db.example.com: no answer within 15 s (PWD=se;cr}et)")

    copier = Copier(make_url(LOGIN), connect)
    assert copier.notes() == []
    for _ in range(2):
        for _ in range(2):
            assert copier.open_to_read() is None
            with copier.open(SESSION) as session:
                assert session is None
        (note,) = copier.notes()
        assert "arrays of parameters" in note
        assert "no answer within 15 s (PWD=***)" in note
        assert copier.notes() == []
    assert len(tried) == 1


@pytest.mark.parametrize(
    "options",
    ["", "?driver=FreeTDS&Encrypt=strict&connect_timeout=7&read_connections=4",
     "?Authentication=SqlPassword&TRUSTED_CONNECTION=no"],
)  # fmt: skip
def test_who_copies_labels_reads_rows_too(options: str) -> None:
    kept: Any = SimpleNamespace(keep=lambda: nullcontext(), take=lambda: SESSION, errors=())
    copier = Copier(make_url(LOGIN + options), lambda url: kept)
    assert copier.reads
    assert copier.open_to_read() is SESSION


@pytest.mark.parametrize(
    "url",
    [
        LOGIN + "?APP=nightly",
        LOGIN + "?applicationintent=ReadOnly",
        LOGIN + "?driver=FreeTDS&ColumnEncryption=Enabled",
        "mssql+pyodbc://etl:x@shop_dsn",
        "mssql+mssqlpython://etl:x@db.example.com/shop",
    ],
)
def test_what_only_the_given_driver_understands_it_reads_itself(url: str) -> None:
    copier = Copier(make_url(url), lambda url: pytest.fail(str(url)))
    assert not copier.reads
    assert copier.open_to_read() is None


def test_what_is_known_beforehand_is_no_news() -> None:
    copier = Copier(make_url("mssql+pyodbc://etl:x@shop_dsn"), lambda url: pytest.fail(str(url)))
    with copier.open(SESSION) as session:
        assert session is None
    assert copier.notes() == []


PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})


class _Cursor:
    """Takes rows one by one, and panics where it is to copy them."""

    def __init__(self, arrived: list[Any], error: BaseException) -> None:
        self._arrived, self._error = arrived, error

    def bulkcopy_arrow(self, *_: Any, **__: Any) -> None:
        raise self._error

    def executemany(self, _: str, rows: list[Any]) -> None:
        self._arrived.extend(rows)

    def setinputsizes(self, _: Any) -> None: ...

    def close(self) -> None: ...


def _session(arrived: list[Any], error: BaseException) -> Any:
    native = SimpleNamespace(cursor=lambda: _Cursor(arrived, error), commit=lambda: None)
    return SimpleNamespace(
        driver="mssqlpython", native=native, rows=lambda _: [(sum(map(len, arrived)) // 3,)]
    )


def _copier() -> Copier:
    url = make_url("mssql+mssqlpython://db.example.com/shop")
    return Copier(url, lambda url: pytest.fail(str(url)))


_COLUMNS = [
    SqlColumn("customer_id", "int", 4, 10, 0, None), SqlColumn("cluster", "int", 4, 10, 0, None),
    SqlColumn("distance", "float", 8, 53, 0, None),
]  # fmt: skip
_ROWS = pa.table({"customer_id": range(6_000), "cluster": [0] * 6_000, "distance": [0.5] * 6_000})


def test_after_a_panic_of_the_copy_labels_travel_as_arrays() -> None:
    """A panic of its Rust core is no Exception, which used to end the run in a traceback."""
    arrived: list[Any] = []
    session = _session(arrived, PanicException("called `Option::unwrap()` on a `None` value"))
    copier = _copier()
    write_rows(session, copier, "sqlkmeans.[staging_1]", _COLUMNS, _ROWS)
    assert sum(map(len, arrived)) == 3 * 6_000
    assert "unwrap" in copier.notes()[0]


def test_an_interruption_of_the_copy_is_one_of_the_run() -> None:
    session = _session([], KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write_rows(session, _copier(), "sqlkmeans.[staging_1]", _COLUMNS, _ROWS)
