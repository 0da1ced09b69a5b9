"""What is put aside is for nobody else's eyes, and what others put there is not followed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sqlkmeans.database import open_database
from sqlkmeans.database.duckdb import access
from support.attacks import command, each

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
        old = time.time() - 2 * access.UNCLAIMED_SECONDS
        os.utime(folder, (old, old))
        open_database("duckdb:///:memory:").close()
        assert folder.exists()  # it is still in use
        process.kill()
    os.utime(folder, (old, old))
    open_database("duckdb:///:memory:").close()
    assert list(temporary.iterdir()) == []


@POSIX
def test_the_sweep_takes_away_nothing_but_old_folders_of_its_own(temporary: Path) -> None:
    prefix = access.SPILL_PREFIX
    precious = temporary / "precious"
    precious.mkdir()
    (precious / "in_use").touch()
    (temporary / f"{prefix}link").symlink_to(precious)
    (temporary / f"{prefix}file").touch()
    (temporary / f"{prefix}unclaimed").mkdir()
    young = temporary / f"{prefix}young"
    young.mkdir()
    (young / "in_use").touch()
    old = time.time() - 2 * access.UNCLAIMED_SECONDS
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


COMMANDS = {
    "report": ["report", "shop.toml", "--output", "out"],
    "export-sql": ["export-sql", "shop.toml", "--force", "--to-file", "out"],
    "deploy": ["deploy", "--force", "--to-file", "out"],
    "choose-k": ["choose-k", "shop.toml", "--k-max", "3", "--quiet", "--plot", "out"],
}


@POSIX
@each(COMMANDS)
def test_a_planted_link_is_not_followed(
    attack: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("precious").write_text("precious")
    Path("out").symlink_to("precious")
    assert command(*COMMANDS[attack]) == 2
    assert "out: is a link" in capsys.readouterr().err
    assert Path("precious").read_text() == "precious"
    Path("out").unlink()
    Path("out").symlink_to("nowhere")
    assert command(*COMMANDS[attack]) == 2
    assert not Path("nowhere").exists()


@POSIX
@each(COMMANDS)
def test_a_name_that_could_be_guessed_is_not_written_through(attack: str, shop: Path) -> None:
    Path("precious").write_text("precious")
    for guess in (f".out.{os.getpid()}", ".out.tmp", "out.tmp", "out~"):
        Path(guess).symlink_to("precious")
    assert command(*COMMANDS[attack]) == 0
    assert Path("precious").read_text() == "precious"
    assert Path("out").stat().st_size > 100
    assert not list(Path().glob(".????????????????.tmp"))


@each(COMMANDS)
def test_a_folder_and_what_cannot_be_are_refused_in_words(
    attack: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *rest, _ = COMMANDS[attack]
    Path("folder").mkdir()
    for place in ("folder", ".", "no/such/place", "a\0b"):
        assert command(*rest, place) == 2
        said = capsys.readouterr().err
        assert said.startswith("Error: ")
        assert "Traceback" not in said


@pytest.mark.parametrize("name", ["export-sql", "deploy"])
def test_a_script_replaces_a_file_only_if_told(
    name: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").write_text("precious")
    told = COMMANDS[name]
    assert command(*(word for word in told if word != "--force")) == 2
    assert "add --force to replace it" in capsys.readouterr().err
    assert Path("out").read_text() == "precious"
    assert command(*told) == 0
    assert "CREATE" in Path("out").read_text(encoding="utf-8")


def test_a_picture_of_no_known_kind_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("choose-k", "shop.toml", "--k-max", "3", "--quiet", "--plot", "out.evil") == 2
    assert "allowed: a picture" in capsys.readouterr().err


OTHERS_MAY_WRITE = {
    "a folder that everybody writes to": ("folder", 0o777),
    "a folder with the sticky bit": ("folder", 0o1777),
    "a folder of a group": ("folder", 0o770),
    "a file that everybody writes to": ("file", 0o666),
    "a file of a group": ("file", 0o660),
    "a folder of another user": ("folder", None),
    "a file of another user": ("file", None),
}


@POSIX
@each(OTHERS_MAY_WRITE)
def test_machine_code_that_others_could_have_written_is_not_run(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba", reason="extra `fast` is not installed")
    from sqlkmeans.clustering.kmeans.kernels import machine_code
    from sqlkmeans.clustering.kmeans.kernels.loops import compile_loop

    what, mode = OTHERS_MAY_WRITE[attack]
    if mode is None and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    compiled = []

    def compile_it() -> tuple[str, bytes]:
        compiled.append(1)
        return compile_loop("measure_rows", 1, "float64")

    folder = tmp_path / "kept"
    monkeypatch.setenv(machine_code.FOLDER_VARIABLE, str(folder))
    machine_code._folder.cache_clear()
    machine_code.load("planted", compile_it)
    (file,) = folder.iterdir()
    planted = folder if what == "folder" else file
    if mode is None:
        os.chown(planted, 12345, 12345)
    else:
        planted.chmod(mode)
    machine_code._folder.cache_clear()
    try:
        assert machine_code.load("planted", compile_it) > 0
    finally:
        machine_code._folder.cache_clear()
    assert len(compiled) == 2
