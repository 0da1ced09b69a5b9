"""What may import what, and on which Python."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "sqlkmeans.clustering.kmeans.kmeans",
        "sqlkmeans.model",
        "sqlkmeans.clustering.comparing.stable_ids",
    ],
)
def test_what_a_database_server_imports_needs_nothing_of_the_client(module: str) -> None:
    client = [
        "duckdb",
        "mssql_python",
        "pyarrow",
        "pydantic",
        "pyodbc",
        "rich",
        "sqlalchemy",
        "typer",
    ]
    code = f"import sys\nfor name in {client}: sys.modules[name] = None\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
