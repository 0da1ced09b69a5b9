"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings

from sqlkmeans.definition import Segmentation
from support import docker_engine, spark
from support.shops import MakeCustomers

# The same examples at every run, and no complaint when a shared machine is slow.
settings.register_profile(
    "sqlkmeans",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("sqlkmeans")

#: Income and age of three groups that nobody could confuse, and the size of each.
CENTRES = [(40_000.0, 25.0), (90_000.0, 45.0), (160_000.0, 62.0)]
SIZES = [60, 40, 20]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None but this process where a SQL Server is at hand: its tests share a database."""
    if "not sqlserver" in config.option.markexpr:
        return None
    return 0 if "SQLKMEANS_TEST_URL" in os.environ or not docker_engine.trouble() else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the server before any test: no test has the time to download one."""
    wanted = any(item.get_closest_marker("sqlserver") for item in session.items)
    if wanted and not session.config.option.collectonly:
        from support import sqlserver_server

        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("looking for a SQL Server: SQLKMEANS_TEST_URL, or a container")
        sqlserver_server.find()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the attacks that were replayed."""
    held, lost = (
        sum(report.nodeid.startswith("tests/security/") for report in reports)
        for reports in map(terminalreporter.getreports, ("passed", "failed"))
    )
    if held or lost:
        terminalreporter.write_line(f"Attacks replayed (tests/security): {held} held, {lost} lost")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that the developer has in the environment is not the tests'."""
    monkeypatch.delenv("SQLKMEANS_URL", raising=False)


@pytest.fixture(scope="session")
def spark_session() -> Any:
    """A Spark session of this process; a test is skipped where there can be none."""
    if reason := spark.trouble():
        pytest.skip(reason)
    return spark.session()


@pytest.fixture(autouse=True)
def _spark_where_it_is_needed(request: pytest.FixtureRequest) -> None:
    """The engine finds the session of this process, unless the test has one of its own."""
    marker = request.node.get_closest_marker("spark")
    if marker is None:
        return
    if marker.kwargs.get("session", True):
        request.getfixturevalue("spark_session")
    elif reason := spark.trouble():
        pytest.skip(reason)


@pytest.fixture
def duckdb_url(tmp_path: Path) -> str:
    """The URL of a DuckDB file that does not exist yet."""
    return f"duckdb:///{(tmp_path / 'shop.duckdb').as_posix()}"


@pytest.fixture
def make_customers() -> MakeCustomers:
    """A function that makes customers around centres, in key order."""

    def make(
        sizes: Sequence[int] = SIZES,
        centres: Sequence[tuple[float, float]] = CENTRES,
        seed: int = 0,
        first_id: int = 1,
    ) -> pa.Table:
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(len(sizes)), sizes)
        points = np.asarray(centres)[group] + rng.normal(size=(len(group), 2)) * (3_000, 1.5)
        points = points.round(2)
        ids = np.arange(first_id, first_id + len(group), dtype=np.int64)
        return pa.table({"customer_id": ids, "income": points[:, 0], "age": points[:, 1]})

    return make


@pytest.fixture
def customers() -> Segmentation:
    """Three segments of ``dbo.customer`` by income and age."""
    return Segmentation.create(
        name="customers",
        source="dbo.customer",
        key="customer_id",
        features=["income", "age"],
        k=3,
        target="dbo.customer_segment",
        n_init=3,
    )
