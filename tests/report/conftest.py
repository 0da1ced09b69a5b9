"""Databases to make pages of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from sqlkmeans.definition import Segmentation, load_definition
from sqlkmeans.pipeline import run
from sqlkmeans.report.page import write_report
from support.cdnow import CDNOW, load_cdnow
from support.pages import Page, Write, fill_newer_tables, opened


@pytest.fixture
def shop(tmp_path: Path, make_customers: Callable[..., pa.Table]) -> Path:
    """A database file with 120 customers in three groups."""
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.register("given", make_customers())
        connection.execute("CREATE SCHEMA dbo")
        connection.execute("CREATE TABLE dbo.customer AS FROM given")
        connection.execute("ALTER TABLE dbo.customer ADD PRIMARY KEY (customer_id)")
    return path


@pytest.fixture
def published(shop: Path, customers: Segmentation) -> Path:
    """The same after a first run."""
    with opened(shop) as database:
        run(customers, database)
    return shop


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes the page of a segmentation and parses it."""

    def written(
        shop: Path, name: str = "customers", *, samples: bool = True, failed: bool = False
    ) -> Page:
        file = tmp_path / "page.html"
        with opened(shop) as database:
            write_report(name, database, file, samples=samples, failed=failed)
        return Page(file.read_text(encoding="utf-8"))

    return written


@pytest.fixture(scope="session")
def cdnow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CDNOW after two runs, between which customers bought, came and left."""
    pytest.importorskip("lifetimes", reason="the CDNOW data comes with the package lifetimes")
    path = tmp_path_factory.mktemp("cdnow") / "cdnow.duckdb"
    load_cdnow(path)
    segmentation = load_definition(CDNOW / "segmentation.toml").segmentations["cdnow"]
    with opened(path) as database:
        run(segmentation, database)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "INSERT INTO dbo.purchase SELECT DISTINCT customer_id, DATE '1998-07-15', 1, 20 "
            "FROM dbo.purchase WHERE customer_id % 9 = 0"
        )
        connection.execute("DELETE FROM dbo.purchase WHERE customer_id % 97 = 0")
        connection.execute(
            "INSERT INTO dbo.purchase SELECT 50000 + i, DATE '1998-07-01', 2, 30 + i "
            "FROM range(300) AS t (i)"
        )
    with opened(path) as database:
        second = run(segmentation, database)
    ids = [segment.segment_id for segment in second.segments]
    fill_newer_tables(path, second.run_id, ids, ["recency_days", "frequency", "monetary"])
    return path
