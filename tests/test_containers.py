"""What the images are made of is settled, and nobody in them is root without need."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "docker" / "client"


def settled() -> dict[str, Version]:
    text = (CLIENT / "constraints.txt").read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.MULTILINE)
    return {name: Version(version) for name, version in found}


def test_each_dependency_of_the_client_image_has_one_version_that_is_allowed() -> None:
    versions = settled()
    of_the_image = {"python_version": "3.12", "extra": "test"}
    for requirement in map(Requirement, requires("sqlkmeans") or []):
        if requirement.marker is None or requirement.marker.evaluate(of_the_image):
            assert versions[requirement.name] in requirement.specifier, requirement


def test_no_container_shows_a_password_or_lets_everybody_write() -> None:
    files = [ROOT / "docker-compose.yml", *(ROOT / "docker").rglob("*")]
    for path in files:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"sqlcmd\b.* -P ", text), path
            assert "777" not in text, path
            assert ":latest" not in text, path
            assert "-latest" not in text, path


def test_the_client_is_not_root() -> None:
    lines = (CLIENT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["sqlkmeans"]
