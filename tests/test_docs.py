"""Everything that people can type or query stands in the documentation."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sqlkmeans.cli.app import app
from sqlkmeans.clustering.preparation.preparation import MISSING, SCALINGS
from sqlkmeans.clustering.preparation.transforms import TRANSFORMS
from sqlkmeans.database import tables
from sqlkmeans.definition import FeatureDefinition, Guard, Segmentation, parse_definition

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """From a heading to the next of the same level or higher."""
    level = len(heading) - len(heading.lstrip("#"))
    start = text.index(heading)
    end = re.search(rf"\n#{{1,{level}}} ", text[start + 1 :])
    return text[start : start + 1 + end.start()] if end else text[start:]


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_each_of_its_options_is_documented(name: str) -> None:
    text = page("commands.md")
    own = section(text, f"## `{name}`")
    general = text[: text.index("## `demo`")]
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert f"`{option}`" in own + general, f"{name} {option}"


def test_the_commands_page_names_no_command_that_there_is_not() -> None:
    named = re.findall(r"^## `([\w-]+)`", page("commands.md"), flags=re.MULTILINE)
    assert sorted(named) == sorted(COMMANDS)


@pytest.mark.parametrize("table", tables.TABLES.values(), ids=tables.TABLES)
def test_every_column_of_every_table_is_documented(table: tables.Table) -> None:
    text = section(page("tables.md"), f"### `{table.name}`")
    for column in table.columns:
        assert f"`{column}`" in text, f"{table.name}.{column}"


def test_every_key_of_a_definition_is_documented_with_its_values() -> None:
    text = page("definition.md")
    for field in Segmentation.model_fields:
        assert f"`{field}`" in text or field == "name", field
    for field in Guard.model_fields:
        assert f"| `{field}` |" in section(text, "## `guard`"), field
    for field in FeatureDefinition.model_fields:
        assert f"| `{field}` |" in section(text, "## A feature"), field
    for value in (*TRANSFORMS, *SCALINGS, *MISSING):
        assert f"`{value}`" in text, value


@pytest.mark.parametrize("name", ["README.md", "docs/definition.md"])
def test_the_definitions_on_the_pages_are_valid(name: str) -> None:
    tomllib = pytest.importorskip("tomllib")
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        assert parse_definition(tomllib.loads(block)).segmentations


def test_every_dependency_has_its_line() -> None:
    text = page("dependencies.md")
    for requirement in requires("sqlkmeans") or []:
        name = re.split(r"[<>=;\[ ]", requirement)[0]
        if name != "sqlkmeans":
            assert re.search(rf"[| ,]{re.escape(name)}[ ,|]", text), name


def test_links_between_pages_lead_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *DOCS.rglob("*.md"),
    ]
    pages += [ROOT / "examples" / "cdnow" / "README.md"]
    broken = [
        f"{source.relative_to(ROOT)}: {target}"
        for source in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", source.read_text(encoding="utf-8"))
        if not (source.parent / target).exists()
    ]
    assert not broken


def test_each_package_of_the_default_install_has_its_licence_on_the_page() -> None:
    licences = section(page("dependencies.md"), "## Licences of the default install")
    todo, seen = ["sqlkmeans"], {"sqlkmeans"}
    while todo:
        for requirement in map(Requirement, requires(todo.pop()) or []):
            name = canonicalize_name(requirement.name)
            if name in seen or (
                requirement.marker and not requirement.marker.evaluate({"extra": ""})
            ):
                continue
            seen.add(name)
            todo.append(name)
            assert re.search(rf"[|, `]{re.escape(name)}[,` ]", licences), name
    assert "proprietary" in licences
