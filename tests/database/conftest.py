"""One fixture a database; every test of the shared suite runs with each of them.

The SQL of these tests is plain: it goes to each database as it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlkmeans.database import Database
from support.backends import BACKENDS, Backend
from support.shops import MakeCustomers


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


@pytest.fixture
def shop(backend: Backend, make_customers: MakeCustomers) -> Backend:
    """120 customers in three groups of 60, 40 and 20."""
    backend.make_table("dbo.customer", make_customers(), "customer_id")
    return backend
