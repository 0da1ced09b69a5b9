"""The package inside a script, as a server without access to its files would get it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sqlkmeans._version import __version__
from sqlkmeans.database.sqlserver.script import batches, install_script
from sqlkmeans.tsql.external_library import (
    build_wheel,
    deploy_script,
    external_library_script,
    library_zip,
)
from support.tsql_files import GRAMMARS, check


# SQL Server 2016 has no external libraries.
@pytest.mark.parametrize("grammar", GRAMMARS[1:])
def test_the_script_is_sql(grammar: str) -> None:
    assert not check(external_library_script(), grammar)


def test_the_bits_are_a_zip_that_holds_a_wheel() -> None:
    bits = re.search(r"CONTENT = 0x([0-9A-F]+)\)", external_library_script())
    assert bits
    with zipfile.ZipFile(io.BytesIO(bytes.fromhex(bits.group(1)))) as outer:
        names = outer.namelist()
        assert names == [f"sqlkmeans-{__version__}-py3-none-any.whl"]
        with zipfile.ZipFile(io.BytesIO(outer.read(names[0]))) as wheel:
            assert "sqlkmeans/external_script.py" in wheel.namelist()
            metadata = wheel.read(f"sqlkmeans-{__version__}.dist-info/METADATA").decode()
    assert "Requires-Dist" not in metadata


def test_the_same_package_gives_the_same_bits() -> None:
    assert library_zip() == library_zip()


def test_the_wheel_can_be_imported_from(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(build_wheel())) as wheel:
        wheel.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import sqlkmeans.external_script as e; print(e.__file__)"],
        capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    assert done.stdout.startswith(str(tmp_path))


def test_deploying_installs_the_schema_and_then_the_package() -> None:
    assert deploy_script(library=False) == install_script()
    assert batches(deploy_script())[:-2] == batches(install_script())
