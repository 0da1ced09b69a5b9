"""One fixture a database; every test of the shared suite runs with each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import BACKENDS, Backend

from sqlkmeans.database import Database


@pytest.fixture(params=list(BACKENDS.values()), ids=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty database, seen from outside."""
    opened: Backend = request.param(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def database(backend: Backend) -> Iterator[Database]:
    """The same database, as the package opens it."""
    with backend.open() as opened:
        yield opened
