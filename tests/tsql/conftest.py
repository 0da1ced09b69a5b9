"""A server with schema sqlkmeans, empty or with a segmentation that was trained once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sqlkmeans.database.sqlserver.script import install_script, uninstall_script
from support import sqlserver_server
from support.tsql_server import DEFINE, Server, make_customers, train

_installed: list[bool] = []


@pytest.fixture
def server() -> Iterator[Server]:
    """A database with schema sqlkmeans and nothing else in it."""
    server = Server()
    sqlserver_server.empty(server.connection)
    # Installing takes seconds: once a session, and after a test that removed something.
    if not _installed or not server.has("sqlkmeans.purge"):
        server.script(uninstall_script())
        server.script(install_script())
        _installed.append(True)
    yield server
    server.connection.close()


@pytest.fixture
def trained(server: Server) -> Server:
    """The same with a segmentation that has been trained once."""
    make_customers(server)
    server.rows(DEFINE)
    train(server, "customers")
    return server
