"""A run whose rows are in mapped files gives what the run in memory gives, bit for bit."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.clustering.arrays import chunks
from sqlkmeans.database import Database
from sqlkmeans.database.tables import RESULT_TABLES
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.local import storage
from sqlkmeans.errors import DataError, SqlKMeansError
from sqlkmeans.progress import Advance, Progress
from support.shops import labels_of, make_shop, native

Spill = Callable[[], None]

FEATURES = {
    "numbers": ["income", {"column": "orders", "transform": "log1p"}],
    "gaps": ["income", "age"],
    "dates": ["income", {"column": "joined", "type": "date"}],
    "categories": ["income", {"column": "city", "type": "category"}],
}
FACTS = ("rows", "outliers", "skipped", "inertia", "mean_distance", "silhouette", "davies_bouldin",
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
    "limits": {"features": FEATURES["numbers"], "outlier": 0.02},
    "trimmed": {"features": FEATURES["numbers"], "trim": 0.02, "sample_weight": "importance"},
    "in order": {"features": FEATURES["numbers"], "source": "dbo.in_order"},
    "k of its own": {"features": FEATURES["numbers"], "k": "auto", "k_max": 4},
}


@pytest.fixture
def spill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Spill:
    """A function after which nothing fits in memory, and files go to a folder of their own."""

    def spill() -> None:
        monkeypatch.setattr(storage, "FREE_ROWS_SHARE", 0.0)
        monkeypatch.setattr(storage, "ROWS_SHARE", 0.0)
        monkeypatch.setattr(storage, "LITTLE", 0)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    # Several of each, in memory too: sums are added chunk by chunk.
    monkeypatch.setattr(chunks, "CHUNK", 1_000)
    monkeypatch.setattr("sqlkmeans.database.duckdb.staged.BATCH_ROWS", 700)
    monkeypatch.setattr("sqlkmeans.database.duckdb.database.READ_ROWS", 700)
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


def test_a_choice_of_k_is_the_same_in_files(shop: Database, spill: Spill) -> None:
    segmentation = definition("choice", features=FEATURES["numbers"], k_max=4)
    in_memory = pipeline.choose_k(segmentation, shop)
    spill()
    assert pipeline.choose_k(segmentation, shop).scores == in_memory.scores


def test_a_second_run_changes_what_changed_in_the_source(shop: Database, spill: Spill) -> None:
    spill()
    segmentation = definition("second", features=FEATURES["numbers"], memory_limit="1GiB")
    assert pipeline.run(segmentation, shop).arrived == 3_000
    native(shop).execute(
        "DELETE FROM dbo.shop WHERE customer_id = (SELECT MIN(customer_id) FROM dbo.shop); "
        "INSERT INTO dbo.shop (customer_id, income, orders) VALUES (1, 30000, 2)"
    )
    second = pipeline.run(segmentation, shop)
    assert (second.arrived, second.departed, second.rows) == (1, 1, 3_000)
    rows = native(shop).execute("SELECT customer_id FROM dbo.second ORDER BY ALL").fetchall()
    assert rows == native(shop).execute("SELECT customer_id FROM dbo.shop ORDER BY ALL").fetchall()


def test_only_changed_rows_are_assigned_from_files_too(shop: Database, spill: Spill) -> None:
    native(shop).execute("ALTER TABLE dbo.shop ADD COLUMN changed integer DEFAULT 1")
    segmentation = definition("changes", features=FEATURES["numbers"], changed_by="changed")
    pipeline.run(segmentation, shop)
    spill()
    native(shop).execute("UPDATE dbo.shop SET changed = 2, orders = 400 WHERE orders > 20")
    result = pipeline.assign(segmentation, shop)
    assert "rows were read: those that changed" in result.warnings[0]
    assert "kept in files" in result.warnings[1]
    again = pipeline.assign(segmentation.model_copy(update={"changed_by": None}), shop)
    assert again.changed == 0


@pytest.mark.parametrize("source", ["dbo.shop", "dbo.in_order"])
def test_keys_are_checked_in_files_too(shop: Database, spill: Spill, source: str) -> None:
    spill()
    twice = f"SELECT * FROM {source} UNION ALL SELECT * FROM {source} WHERE customer_id % 100 = 0"
    with pytest.raises(DataError, match="key customer_id: not unique; 30 rows repeat the key"):
        pipeline.run(definition("twice", source=twice, features=["income"]), shop)
    absent = f"SELECT NULLIF(customer_id % 3, 0) AS customer_id, income FROM {source}"
    with pytest.raises(DataError, match="key customer_id: 1,000 NULL"):
        pipeline.run(definition("absent", source=absent, features=["income"]), shop)
    empty = f"SELECT * FROM {source} WHERE false"
    with pytest.raises(DataError, match="the source has no rows"):
        pipeline.run(definition("nobody", source=empty, features=["income"]), shop)


def test_progress_is_taken_back_where_the_database_has_to_sort(
    shop: Database, spill: Spill
) -> None:
    spill()
    told: list[int] = []

    class Told(Progress):
        @contextmanager
        def shown(self, name: str, total: int | None) -> Iterator[Advance]:
            yield told.append if name == "read" else lambda done: None

    pipeline.run(definition("told", features=FEATURES["numbers"]), shop, Told())
    assert sum(told) == 3_000


def test_a_full_disk_ends_a_run_before_anything_is_published(
    shop: Database, spill: Spill, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation = definition("full", features=FEATURES["numbers"])
    published = pipeline.run(segmentation, shop)
    spill()
    usage = shutil.disk_usage("/")._replace(free=40_000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    # A row takes 16 bytes of features, 9 of its key, 20 of label, distance and its square, and 8
    # of an order.
    with pytest.raises(SqlKMeansError, match=r"39\.06 KiB are free, .* need 155\.3 KiB") as error:
        pipeline.run(segmentation, shop)
    assert error.value.exit_code == 1
    assert shop.catalog.runs("full", 1)[0]["status"] == "failed"
    assert shop.catalog.segmentation("full")["active_run_id"] == published.run_id  # type: ignore[index]


@pytest.mark.parametrize("call", ["posix_fallocate", "write"])
def test_a_disk_that_fills_up_meanwhile_does_so_too(
    shop: Database, spill: Spill, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spill()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        monkeypatch.setattr(storage.pa.ipc, "new_file", lambda *_: Mock(write_batch=fail))
    else:
        monkeypatch.setattr(os, call, fail, raising=False)
    with pytest.raises(SqlKMeansError, match="name a folder on a larger disk in the variable TMP"):
        pipeline.run(definition("filled", features=FEATURES["numbers"]), shop)
    assert shop.describe_table("dbo.filled") is None


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt])
def test_files_are_gone_after_a_run_that_broke_off(
    shop: Database, spill: Spill, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    """The fixture looks."""
    spill()

    def stop(*_: object, **__: object) -> None:
        raise end

    monkeypatch.setattr("sqlkmeans.engines.local.engine.find", stop)
    with pytest.raises(end):
        pipeline.run(definition("broken", features=FEATURES["numbers"]), shop)


def test_duckdb_has_its_settings_back_after_a_run(shop: Database) -> None:
    def settings() -> list[tuple[str, str]]:
        return (
            native(shop)
            .execute(
                "SELECT name, value FROM duckdb_settings() "
                "WHERE name IN ('memory_limit', 'threads', 'temp_directory')"
            )
            .fetchall()
        )

    before, during = settings(), []

    class Asked(Progress):
        @contextmanager
        def shown(self, name: str, total: int | None) -> Iterator[Advance]:
            yield lambda done: None
            during.append(dict(settings())["memory_limit"])

    limited = definition("limited", features=FEATURES["numbers"], memory_limit="512MiB")
    pipeline.run(limited, shop, Asked())
    assert settings() == before
    assert set(during) == {"192.0 MiB"}


def test_a_target_whose_index_does_not_fit_has_no_primary_key(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation = definition("keyless", features=FEATURES["numbers"], memory_limit="512MiB")
    monkeypatch.setattr("sqlkmeans.database.duckdb.memory.INDEX_BYTES", 10**6)
    told = [w for w in pipeline.run(segmentation, shop).warnings if "has no primary key" in w]
    assert len(told) == 1
    constraints = "SELECT COUNT(*) FROM duckdb_constraints() WHERE table_name = 'keyless' "
    constraints += "AND constraint_type = 'PRIMARY KEY'"
    assert native(shop).execute(constraints).fetchall() == [(0,)]
    again = pipeline.run(segmentation, shop)
    assert again.changed == 0
    assert not [warning for warning in again.warnings if "primary key" in warning]
