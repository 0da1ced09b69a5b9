"""An emptied database on a live server, in each driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlkmeans.database import Database
from support import sqlserver_server
from support.backends import SQLServerBackend


@pytest.fixture(params=sqlserver_server.DRIVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLServerBackend]:
    """The database, seen from outside; its `open` is through the driver."""
    opened = SQLServerBackend(request.param, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def database(server: SQLServerBackend) -> Iterator[Database]:
    """The same database, as the package opens it."""
    with server.open() as opened:
        yield opened
