"""A published shop, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.attacks import command, make_shop


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a database with a published segmentation and its definition."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_shop(folder)
        assert command("run", "shop.toml", "--quiet", "--json") == 0
    return folder


@pytest.fixture
def shop(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of one's own with a published segmentation, in the working folder."""
    for name in ("shop.duckdb", "shop.toml"):
        shutil.copy(published / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shop.duckdb"
