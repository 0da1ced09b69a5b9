"""Amounts of memory: as people write them, and as the system tells what is free."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from sqlkmeans import memory
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DefinitionError


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1GiB", 2**30), ("800 MiB", 800 * 2**20), ("512MB", 512 * 10**6), ("1.5gib", 3 * 2**29),
     ("18.8 GiB", int(18.8 * 2**30)), ("268435456", 2**28), ("268435456B", 2**28)],
)  # fmt: skip
def test_an_amount_is_what_it_says(text: str, amount: int) -> None:
    assert memory.parse_bytes(text) == amount


@pytest.mark.parametrize(
    "given", ["", "1 GiBs", "one GiB", "-1GiB", "511MiB", "1e9", 1000, -1, 1.5, True, [], "1 GiB 2"]
)
def test_what_is_no_memory_limit_is_refused_with_what_is_allowed(given: object) -> None:
    with pytest.raises(DefinitionError) as error:
        Segmentation.create(
            name="a", source="b", key="c", features=["d"], k=2, target="e", memory_limit=given
        )
    (problem,) = error.value.problems
    assert problem.startswith("segmentation.a.memory_limit: ")
    assert "given; allowed: an amount of memory such as " in problem
    assert "512 MiB or more" in problem


def test_a_definition_keeps_its_memory_limit() -> None:
    made = Segmentation.create(
        name="a", source="b", key="c", features=["d"], k=2, target="e", memory_limit="1GiB"
    )
    assert made.memory_limit == 2**30
    assert Segmentation.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("version", "line", "limit", "used"),
    [
        ("", "0::/job/step", "memory.max", "anon"),
        ("memory", "9:memory:/job/step", "memory.limit_in_bytes", "total_rss"),
        ("memory", "9:cpu,memory:/job/step", "memory.limit_in_bytes", "total_rss"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_control_group_bounds_what_is_free(
    version: str, line: str, limit: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, allowed in (("", "max"), ("job", str(5 * 2**20)), ("job/step", str(2**40))):
        group = tmp_path / folder
        group.mkdir(exist_ok=True)
        (group / limit).write_text(allowed + "\n")
        (group / "memory.stat").write_text(f"cache 1\n{used} {2**20}\n")
    monkeypatch.setitem(memory._VERSIONS, version, (tmp_path, limit, used))
    listed = tmp_path / "listed"
    listed.write_text(f"1:name=systemd:/\n{line}\n")
    monkeypatch.setattr(memory, "_OWN_GROUPS", listed)
    assert memory.free_memory() == 4 * 2**20
    listed.write_text(line.replace("/job/step", "/not/seen/from/here") + "\n")
    assert memory.free_memory() > 4 * 2**20


def test_what_is_free_is_no_more_than_the_machine_has() -> None:
    assert 0 < memory.free_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 KiB"), (40_000, "39.06 KiB"), (2**28, "256 MiB"), (5.2e12, "4,843 GiB")],
)
def test_amounts_in_words(amount: float, text: str) -> None:
    assert memory.in_words(amount) == text
