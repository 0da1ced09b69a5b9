"""Machine code that is kept: read without its compiler, whole, and made for this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sqlkmeans.clustering.kmeans.kernels import machine_code

pytest.importorskip("numba", reason="extra `fast` is not installed")

from sqlkmeans.clustering.kmeans.kernels import arguments, compiled_kernel
from sqlkmeans.clustering.kmeans.kernels.loops import compile_loop

LOOP = ("measure_rows", 1, "float64")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for compiled code."""
    monkeypatch.setenv(machine_code.FOLDER_VARIABLE, str(tmp_path / "kept"))
    machine_code._folder.cache_clear()
    yield tmp_path / "kept"
    machine_code._folder.cache_clear()


def load() -> int:
    """Load a loop; returns how often it was compiled for that."""
    compiled = []

    def compile_it() -> tuple[str, bytes]:
        compiled.append(1)
        return compile_loop(*LOOP)

    assert machine_code.load("measure_rows-1-float64", compile_it) > 0
    return len(compiled)


def test_a_loop_is_compiled_once_and_kept(folder: Path) -> None:
    assert [load(), load()] == [1, 0]
    (file,) = folder.iterdir()
    assert file.suffix == ".o"


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_not_loaded_but_made_anew(folder: Path, damage: str) -> None:
    load()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    changed = whole[:-20] + bytes(20) if whole[-20:] != bytes(20) else whole[:-20] + b"1" * 20
    file.write_bytes({"cut": whole[: len(whole) // 2], "changed": changed, "empty": b""}[damage])
    assert load() == 1
    assert file.read_bytes().split(b"\n", 1)[0] != b""
    assert load() == 0


def test_code_of_another_source_or_processor_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.setattr(machine_code, "_made_for", lambda: "another")
    assert load() == 1
    assert len(list(folder.iterdir())) == 2


def test_where_nothing_can_be_kept_it_is_compiled_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(machine_code.FOLDER_VARIABLE, str(tmp_path / "file"))
    machine_code._folder.cache_clear()
    try:
        assert not machine_code.can_be_kept()
        assert [load(), load()] == [1, 1]
    finally:
        machine_code._folder.cache_clear()


def test_beside_a_read_only_package_the_users_cache_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.delenv(machine_code.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(machine_code, "_SOURCE", tmp_path / "file" / "loops.py")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "caches"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    machine_code._folder.cache_clear()
    try:
        folder = machine_code._folder()
        assert folder is not None
        assert folder.name == "sqlkmeans"
        assert folder.is_relative_to(tmp_path)
    finally:
        machine_code._folder.cache_clear()


def test_what_is_kept_needs_no_numba(folder: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        import numpy as np
        from sqlkmeans.clustering.kmeans.kernels import kernel
        from sqlkmeans.clustering.kmeans.kernels import compiled_kernel
        if sys.argv[1] == "without":
            sys.modules["numba"] = None  # to import it fails
        compiled_kernel.try_it()
        rows, labels = np.arange(12.0).reshape(6, 2), np.zeros(6, np.int32)
        distances = np.empty(6)
        compiled_kernel.measure_rows(rows, 0, 6, np.zeros((1, 2)), labels, distances)
        print(distances.tolist(), "numba.core" in sys.modules)
        """
    )
    environment = {**os.environ, machine_code.FOLDER_VARIABLE: str(folder)}
    expected = str([float(a * a + (a + 1) ** 2) for a in range(0, 12, 2)])
    for how, loaded in (("with", True), ("without", False)):
        done = subprocess.run(
            [sys.executable, "-c", script, how], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout.strip() == f"{expected} {loaded}"


@pytest.mark.parametrize("name", sorted(arguments.ARGUMENTS))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_compiled_code_needs_nothing_of_its_compiler(name: str, dtype: str) -> None:
    symbol, code = compile_loop(name, 3, dtype)
    assert symbol.encode() in code
    for needed in (b"numba_", b"NRT_", b"PyErr_", b"Py_DecRef"):
        assert needed not in code.replace(b"loops", b"")


def test_rows_that_lie_apart_in_larger_columns_are_read_where_they_lie() -> None:
    columns = np.random.default_rng(0).normal(size=(3, 1_000))
    part, centroids = columns[:, 100:900].T, np.zeros((1, 3))
    labels, distances = np.empty(800, np.int32), np.empty(800)
    compiled_kernel.label_rows(part, 0, 800, centroids, labels, distances)
    np.testing.assert_allclose(distances, (part**2).sum(axis=1))
