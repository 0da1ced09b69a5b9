"""A run whose rows are in mapped files gives what the run in memory gives, bit for bit."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from shops import labels_of, make_shop

from sqlkmeans import pipeline
from sqlkmeans.database import Database
from sqlkmeans.database.tables import RESULT_TABLES
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines import storage
from sqlkmeans.errors import DataError, SqlKMeansError

Spill = Callable[[], None]

FEATURES = {
    "numbers": ["income", {"column": "orders", "transform": "log1p"}],
    "gaps": ["income", "age"],
    "dates": ["income", {"column": "joined", "type": "date"}],
    "categories": ["income", {"column": "city", "type": "category"}],
}
FACTS = ("rows", "skipped", "inertia", "mean_distance", "silhouette", "davies_bouldin",
         "calinski_harabasz")  # fmt: skip
DEFINITIONS: dict[str, dict[str, Any]] = {
    "numbers": {"features": FEATURES["numbers"]},
    "a sample": {"features": FEATURES["numbers"], "sample_rows": 500},
    "weights": {"features": FEATURES["numbers"], "sample_weight": "importance"},
    "filled": {"features": FEATURES["gaps"], "missing": "median", "winsorize": [0.01, 0.99]},
    "skipped": {"features": FEATURES["gaps"], "missing": "skip", "sample_weight": "importance"},
    "dates": {"features": FEATURES["dates"]},
    "categories": {"features": FEATURES["categories"], "missing": "mean"},
    "a text key": {"features": FEATURES["numbers"], "key": "name"},
    "two keys": {"features": FEATURES["numbers"], "key": ["city_code", "customer_id"]},
    "in order": {"features": FEATURES["numbers"], "source": "dbo.in_order"},
    "k of its own": {"features": FEATURES["numbers"], "k": "auto", "k_max": 4},
}


@pytest.fixture
def spill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Spill:
    """A function after which nothing fits in memory, and files go to a folder of their own."""

    def spill() -> None:
        monkeypatch.setattr(storage, "FREE_ROWS_SHARE", 0.0)
        monkeypatch.setattr(storage, "ROWS_SHARE", 0.0)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    # Several of each, in memory too: sums are added chunk by chunk.
    monkeypatch.setattr(storage, "CHUNK", 500)
    monkeypatch.setattr("sqlkmeans.database.duckdb.BATCH_ROWS", 700)
    return spill


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No file in the folder, and none that is mapped without a name."""
    yield
    gc.collect()
    assert list(tmp_path.glob("[!s]*")) == []
    if sys.platform == "linux":
        assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
        open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in _open_files()]
        assert not [name for name in open_files if name.startswith(str(tmp_path))]


def _open_files() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").exists()]


@pytest.fixture
def shop(database: Database) -> Database:
    rows = make_shop()
    names = [f"nº {key * 7919 % 10_007}-{key}" for key in rows["customer_id"].to_pylist()]
    rows = rows.append_column("name", pa.array(names))
    rows = rows.append_column("city_code", pa.array(np.arange(len(names)) % 7))
    database.create_table("dbo.shop", rows, "customer_id")
    database.create_table("dbo.in_order", rows.sort_by("customer_id"), "customer_id")
    return database


def definition(name: str, **values: Any) -> Segmentation:
    given = {"name": name, "source": "dbo.shop", "key": "customer_id", "k": 4,
             "target": f"dbo.{name}", "n_init": 3}  # fmt: skip
    return Segmentation.create(**{**given, **values})


def outcome(database: Database, segmentation: Segmentation, run_id: int) -> dict[str, Any]:
    """All that a run published."""
    tables = {table: database.catalog.result(table, run_id) for table in RESULT_TABLES}
    for rows in tables.values():
        for row in rows:
            row.pop("run_id")
    keys = ", ".join(segmentation.key)
    run = database.catalog.run(run_id) or {}
    facts = {name: run[name] for name in FACTS}
    return {**tables, **facts, "labels": labels_of(database, segmentation.target, keys)}


@pytest.mark.parametrize("values", DEFINITIONS.values(), ids=DEFINITIONS)
def test_a_spilled_run_is_the_run_in_memory(
    shop: Database, spill: Spill, values: dict[str, Any]
) -> None:
    found = []
    for name in ("memory", "files"):
        segmentation = definition(name, **values)
        results = [pipeline.run(segmentation, shop), pipeline.assign(segmentation, shop)]
        spilled = [bool([w for w in r.warnings if "kept in files" in w]) for r in results]
        assert spilled == [name == "files"] * 2
        assert results[1].changed == 0
        found.append([outcome(shop, segmentation, result.run_id) for result in results])
        spill()
    for in_memory, in_files in zip(*found):
        for what, value in in_memory.items():
            assert value == in_files[what], what
