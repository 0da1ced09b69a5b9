"""What is put aside is for nobody else's eyes, and what others put there is not followed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sqlkmeans.database import duckdb_files, open_database

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")

SPILLS = (
    "import sys, time; from sqlkmeans.database import open_database\n"
    "database = open_database('duckdb:///:memory:')\n"
    "database._native.execute('SET GLOBAL memory_limit = \\'32MB\\'')\n"
    "database._native.execute('CREATE TABLE t AS SELECT hash(range) h FROM range(6_000_000)')\n"
    "print('spilled', flush=True); time.sleep(60)\n"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@POSIX
def test_rows_that_spill_are_readable_by_the_user_alone_and_swept_after_a_kill(
    temporary: Path,
) -> None:
    with subprocess.Popen([sys.executable, "-c", SPILLS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"spilled\n"
        (folder,) = temporary.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list((folder / "rows").iterdir())
        old = time.time() - 2 * duckdb_files.UNCLAIMED_SECONDS
        os.utime(folder, (old, old))
        open_database("duckdb:///:memory:").close()
        assert folder.exists()  # it is still in use
        process.kill()
    os.utime(folder, (old, old))
    open_database("duckdb:///:memory:").close()
    assert list(temporary.iterdir()) == []


@POSIX
def test_the_sweep_takes_away_nothing_but_old_folders_of_its_own(temporary: Path) -> None:
    prefix = duckdb_files.SPILL_PREFIX
    precious = temporary / "precious"
    precious.mkdir()
    (precious / "in_use").touch()
    (temporary / f"{prefix}link").symlink_to(precious)
    (temporary / f"{prefix}file").touch()
    (temporary / f"{prefix}unclaimed").mkdir()
    young = temporary / f"{prefix}young"
    young.mkdir()
    (young / "in_use").touch()
    old = time.time() - 2 * duckdb_files.UNCLAIMED_SECONDS
    for path in temporary.iterdir():
        if path != young:
            os.utime(path, (old, old), follow_symlinks=False)
    before = sorted(temporary.rglob("*"))
    open_database("duckdb:///:memory:").close()
    assert sorted(temporary.rglob("*")) == before


def test_a_database_in_memory_leaves_no_folder(temporary: Path) -> None:
    with open_database("duckdb:///:memory:"):
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []
