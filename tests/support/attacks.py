"""A published shop, and what attackers do to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sqlkmeans.cli.app import run_command

DEFINITION = """\
[database]
url = "duckdb:///shop.duckdb"

[segmentation.shop]
source = "customer"
key = "id"
features = ["x", {{ column = "city", type = "category" }}, {{ column = "day", type = "date" }}]
k = 2
n_init = 1
target = "segment"
{more}
"""

CUSTOMERS = (
    "SELECT i AS id, i % 2 * 500 + i AS x, CASE i % 3 WHEN 0 THEN 'Oslo' ELSE 'Bergen' END AS city,"
    " DATE '2026-01-01' - CAST(i % 7 AS integer) AS day FROM range(60) AS t (i)"
)


def make_shop(folder: Path, more: str = "", customers: str = CUSTOMERS) -> Path:
    """A database with a table of customers, and a definition beside it; returns the database."""
    path = folder / "shop.duckdb"
    change(path, f"CREATE TABLE customer AS {customers}")
    write_definition(folder, more)
    return path


def write_definition(folder: Path, more: str = "") -> Path:
    path = folder / "shop.toml"
    path.write_text(DEFINITION.format(more=more), encoding="utf-8")
    return path


def change(path: Path, *statements: str) -> None:
    """Do to a database what somebody does who hands it out."""
    with duckdb.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path) as connection:
        return connection.execute(query).fetchall()


def command(*arguments: str) -> int:
    """Run a command line in this process; returns the exit code."""
    return run_command(list(arguments))


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sqlkmeans", *arguments],
        capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=120, **options,
    )  # fmt: skip


def each(attacks: Iterable[Any]) -> Callable[[Any], Any]:
    """Run a test once for each attack; text in the names of tests is shown with escapes."""
    listed = list(attacks)
    return pytest.mark.parametrize(
        "attack", listed, ids=[f"{number}-{_short(one)}" for number, one in enumerate(listed, 1)]
    )


def _short(attack: Any) -> str:
    return ascii(attack)[1:31].replace("/", "|").replace("[", "(").replace("]", ")")
