"""A definition file: TOML or JSON, one or more segmentations."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sqlkmeans.definition.problems import build
from sqlkmeans.definition.segmentation import OWNERS, Segmentation, SparkSettings
from sqlkmeans.definition.strict_json import read_json, reason_of
from sqlkmeans.definition.values import MOST_FILE, READ_ON, Strict, nearest
from sqlkmeans.embedded import beside
from sqlkmeans.errors import MOST_PROBLEMS, DefinitionError
from sqlkmeans.sqltext import parse_name, with_files_beside

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Definition(Strict):
    """A definition file.

    Attributes
    ----------
    url : str or None
        ``[database] url``, not shown in a repr because it can hold a password.
    segmentations : dict of str to Segmentation
        In the file's order.
    """

    url: Annotated[str | None, Field(repr=False)] = None
    segmentations: dict[str, Segmentation]


def load_definition(path: str | Path) -> Definition:
    """Read a TOML or JSON definition file; paths in it are relative to the file.

    Raises
    ------
    DefinitionError
        With every problem of the file, each with its key path.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise DefinitionError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:  # a path can have a NUL in it
        raise DefinitionError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    if len(data) > MOST_FILE:
        raise DefinitionError(f"{path}: allowed: a definition of at most {MOST_FILE:,} bytes")
    try:
        values = read_json(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{path}: {reason_of(error)}") from None
    try:
        return _beside(path.parent, parse_definition(values))
    except DefinitionError as error:
        lines = [f"{path}: {problem}" for problem in error.problems]
        raise DefinitionError(lines) from None


def _beside(folder: Path, definition: Definition) -> Definition:
    """What a file says, with paths that are relative to it made what they are from here."""
    url = definition.url
    return Definition(
        url=None if url is None else beside(url, folder),
        segmentations={
            name: one.model_copy(update={"source": with_files_beside(one.source, str(folder))})
            for name, one in definition.segmentations.items()
        },
    )


def parse_definition(values: Any) -> Definition:
    """Check the content of a definition file; see :func:`load_definition`."""
    problems: list[str] = []
    if not isinstance(values, Mapping):
        raise DefinitionError("a definition is a table with [segmentation.<name>] in it")
    problems += _unknown_keys(values, ("database", "segmentation", "spark"), "")
    url = _database_url(values.get("database", {}), problems)
    spark = _spark(values.get("spark", {}), problems)
    tables = values.get("segmentation")
    if not isinstance(tables, Mapping) or not tables:
        problems.append(f"segmentation: missing; write [segmentation.<name>] ({READ_ON})")
        tables = {}
    segmentations: dict[str, Segmentation] = {}
    for name, table in tables.items():
        path = f"segmentation.{name}"
        if not isinstance(table, Mapping):
            problems.append(f"{path}: {table!r} given; allowed: a table of keys ({READ_ON})")
            continue
        if "name" in table:
            problems.append(f"{path}.name: given by the table's own name; remove it")
        built = build(Segmentation, OWNERS, {"spark": spark, **table, "name": name}, path, problems)
        if built is not None:
            segmentations[name] = built
    problems += _shared_targets(segmentations)
    if problems:
        raise DefinitionError(problems)
    return Definition(url=url, segmentations=segmentations)


def _database_url(table: Any, problems: list[str]) -> str | None:
    if not isinstance(table, Mapping):
        problems.append("database: allowed: a table with the key url")
        return None
    problems += _unknown_keys(table, ("url",), "database.")
    url = table.get("url")
    if url is not None and not isinstance(url, str):
        problems.append("database.url: allowed: a SQLAlchemy URL as text")
        return None
    return url


def _spark(table: Any, problems: list[str]) -> SparkSettings:
    """What all segmentations of a file have that say nothing of their own."""
    if not isinstance(table, Mapping):
        problems.append(f"spark: {table!r} given; allowed: a table of keys ({READ_ON})")
        return SparkSettings()
    return build(SparkSettings, {}, table, "spark", problems) or SparkSettings()


def _unknown_keys(table: Mapping[str, Any], known: tuple[str, ...], path: str) -> list[str]:
    unknown = [key for key in table if key not in known]
    told = [
        f"{path}{key}: unknown{nearest(key, known)}; allowed: {', '.join(known)}"
        for key in unknown[:MOST_PROBLEMS]
    ]
    return told + [f"{path}{key}: unknown" for key in unknown[MOST_PROBLEMS:]]


def _shared_targets(segmentations: Mapping[str, Segmentation]) -> list[str]:
    owners: dict[tuple[str, ...], str] = {}
    problems = []
    for name, segmentation in segmentations.items():
        target = parse_name(segmentation.target)
        if target in owners:
            problems.append(
                f"segmentation.{name}.target: {segmentation.target} is also the target of "
                f"segmentation.{owners[target]}; each needs its own"
            )
        owners.setdefault(target, name)
    return problems
