"""What `--help` lists, and what the Tab key offers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from sqlkmeans.cli.app import app, run_command
from sqlkmeans.cli.help import TASKS
from sqlkmeans.names import ENGINES

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_every_command_is_listed_once_under_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    shown = capsys.readouterr().out
    headings = re.findall(r"^(\w.*):$", shown, flags=re.MULTILINE)
    assert headings == ["Options", *TASKS]
    listed = re.findall(r"^  ([a-z][\w-]+) {2,}", shown, flags=re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    # Nothing is cut off.
    assert "..." not in shown.partition("Start:")[2]


def completed(folder: Path, *words: str) -> list[str]:
    """What bash is offered in place of the last word."""
    environment = {
        **os.environ, "_SQLKMEANS_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "sqlkmeans"], env=environment, cwd=folder,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_the_tab_key_offers_commands_options_engines_and_definition_files(tmp_path: Path) -> None:
    for name in ("shop.toml", "shop.json", "shop.csv", "shop.txt", "other.toml"):
        (tmp_path / name).touch()
    assert completed(tmp_path, "sqlkmeans", "ro") == ["rollback"]
    assert "--engine" in completed(tmp_path, "sqlkmeans", "run", "--e")
    engines = completed(tmp_path, "sqlkmeans", "run", "--engine", "")
    assert engines == list(ENGINES)
    assert completed(tmp_path, "sqlkmeans", "run", "s") == ["shop.toml", "shop.json", "shop.csv"]
    assert completed(tmp_path, "sqlkmeans", "init", "sh") == ["shop.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_completion_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m sqlkmeans --install-completion; exit $?'],
        env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "completion installed" in done.stdout
    assert (tmp_path / ".bashrc").read_text(encoding="utf-8")
