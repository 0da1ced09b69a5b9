"""From a table or a file to a first definition, and all the way to a report."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlkmeans import pipeline
from sqlkmeans.cli.output import Output
from sqlkmeans.cli.select import URL_VARIABLE, Selection
from sqlkmeans.database import open_database
from sqlkmeans.definition import Definition, Segmentation, load_definition
from sqlkmeans.embedded import embedded_path
from sqlkmeans.errors import DefinitionError
from sqlkmeans.files import check_place, write_file
from sqlkmeans.profiling import ColumnProfile
from sqlkmeans.proposal import Proposal, definition_text, propose
from sqlkmeans.sqltext import (
    is_data_file,
    is_file,
    named_files,
    parse_name,
    with_files_beside,
    written_name,
)

#: From an empty range to the fullest.
_BARS = " ▁▂▃▄▅▆▇█"
#: Levels that a bar shows.
_SHOWN = 8


@dataclass(frozen=True)
class Place:
    """Where a source is, and what is made for it.

    Attributes
    ----------
    source : str
        As the definition names it.
    url : str
        Of the database, as it is opened.
    kept_url : str
        As the definition keeps it: without a password, and relative to the definition.
    name, target : str
        Of the segmentation.
    definition : pathlib.Path
    of_file : bool
        Whether the source is a file, whose database is made.
    """

    source: str
    url: str
    kept_url: str
    name: str
    target: str
    definition: Path
    of_file: bool


def init(
    output: Output, source: str, url: str | None, key: Sequence[str] | None, *, force: bool
) -> None:
    """Write a first definition for a table or a file, and print what it was made from."""
    place = _place_of(source, url)
    proposal = _propose(output, place, source, key, force=force)
    if output.as_json:
        output.result(_as_json(proposal, place))
        return
    output.table(
        ["column", "type", "missing", "different", "spread", "in the definition"],
        [
            [column.name, column.brief_type, _missing(column), column.distinct or None,
             _spread(column), proposal.use_of(column.name)]
            for column in proposal.columns
        ],
        title=f"{source}: {proposal.rows:,} rows",
    )  # fmt: skip
    output.say(f"Written: {place.definition}")
    if place.of_file:
        output.say(f"Database: {embedded_path(place.url)}")
    output.say(f"Next: `sqlkmeans run {place.definition}`")


def _propose(
    output: Output, place: Place, asked_for: str, key: Sequence[str] | None, *, force: bool
) -> Proposal:
    """Look at a source, and write its definition."""
    check_place(place.definition, replace=force)
    source = with_files_beside(place.source, str(place.definition.parent))
    # The database beside a file is made; one of tables has to be there.
    with (
        open_database(place.url, create=place.of_file, files=named_files(source)) as database,
        output.progress().step("look"),
    ):
        proposal = replace(propose(database, source, key=key), source=place.source)
    command = f"sqlkmeans init {asked_for}"
    text = definition_text(proposal, place.name, place.target, place.kept_url, command)
    write_file(place.definition, text, replace=force)
    return proposal


def run_file(
    output: Output, file: str, url: str | None, key: Sequence[str] | None,
    names: Sequence[str] | None, changes: dict[str, Any],
) -> None:  # fmt: skip
    """Do everything for a file: definition, database, run, report."""
    from sqlkmeans.report.page import write_report

    place = _place_of(file, url)
    if names:
        raise DefinitionError(
            f"--segmentation given with {file}; allowed: with a definition, such as "
            f"{place.definition}"
        )
    if place.definition.exists():
        output.say(f"Definition: {place.definition}, which is there already")
    else:
        _propose(output, place, file, key, force=False)
        output.say(f"Definition: {place.definition}, made from the file's columns")
    definition = load_definition(place.definition)
    segmentation = _only(definition, place.definition, file, key)
    if changes:
        segmentation = Segmentation.create(**{**segmentation.model_dump(), **changes})
    report = place.definition.with_suffix(".html")
    check_place(report)
    chosen = Selection(url or definition.url or place.url, definition, None, from_file=url is None)
    with chosen.open(create=True) as database:
        result = pipeline.run(segmentation, database, output.progress())
        where = embedded_path(chosen.url) or database.safe_url
        with output.progress().step("report"):
            write_report(segmentation.name, database, report)
    files = {"definition": str(place.definition), "database": where, "report": str(report)}
    if output.as_json:
        output.result({**result.to_json(), **files})
        return
    output.run(result)
    output.say(f"Labels: table {segmentation.target} in {where}")
    output.say(f"Report: {report}")
    output.say(f"Next: read {place.definition}, change it, `sqlkmeans run {place.definition}`")


def _only(definition: Definition, path: Path, file: str, key: Sequence[str] | None) -> Segmentation:
    """The segmentation of a definition that may have been there, or changed since it was made."""
    found = list(definition.segmentations.values())
    if len(found) > 1:
        raise DefinitionError(
            f"{path}: is there already, with {len(found)} segmentations; run it by its own name, "
            f"`sqlkmeans run {path}`"
        )
    read = named_files(found[0].source)
    if not any(os.path.exists(one) and os.path.samefile(one, file) for one in read):
        raise DefinitionError(
            f"{path}: is there already and reads {', '.join(read) or found[0].source}, not {file}; "
            f"run it by its own name, or give {file} another"
        )
    if key and tuple(key) != found[0].key:
        raise DefinitionError(
            f"--key {', '.join(key)} given, and {path} is there already, with key = "
            f"{', '.join(found[0].key)}; change it there, or leave --key out"
        )
    return found[0]


# Places and names


def _place_of(source: str, url: str | None) -> Place:
    if is_data_file(source):
        return _place_of_file(Path(source), url)
    url = url or os.environ.get(URL_VARIABLE)
    if not url:
        raise DefinitionError(
            f"no database given for table {source}; allowed: --url, the variable {URL_VARIABLE}, "
            "or a .csv or .parquet file as the source"
        )
    try:
        parts = parse_name(source, "or a .csv or .parquet file")
    except ValueError as error:
        raise DefinitionError(f"source: {error}") from None
    name = _name(parts[-1])
    schema = parts[:-1] or (() if embedded_path(url) is not None else ("dbo",))
    target = written_name((*schema, f"{name}_segment"))
    return Place(source, url, kept_url(url), name, target, Path(f"{name}.toml"), False)


def _place_of_file(path: Path, url: str | None) -> Place:
    if not path.is_file():
        raise DefinitionError(f"{path}: there is no such file")
    name = _name(re.sub(r"(?i)(\.csv|\.csv\.gz|\.parquet)$", "", path.name))
    if url is not None and embedded_path(url) is None:
        raise DefinitionError(
            f"{path} given with the URL of a server; allowed: a file with a DuckDB database, or a "
            "table of the server"
        )
    quoted = "'" + path.name.replace("'", "''") + "'"
    made = path.with_name(f"{name}.duckdb")
    return Place(
        path.name if is_file(path.name) else f"SELECT * FROM {quoted}",
        url or f"duckdb:///{made.as_posix()}",
        f"duckdb:///{made.name}" if url is None else kept_url(url, path.parent),
        name,
        f"{name}_segment",
        path.with_name(f"{name}.toml"),
        True,
    )


def kept_url(url: str, folder: Path = Path()) -> str:
    """A URL as a file in the folder keeps it: no password, and a path relative to the file."""
    path = embedded_path(url)
    if path is not None:
        if path != ":memory:" and folder != Path() and not Path(path).is_absolute():
            path = os.path.relpath(path, folder).replace(os.sep, "/")
        return f"duckdb:///{path}"
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url  # refused where it is opened, in words
    return parsed._replace(password=None).render_as_string(hide_password=False)


def _name(text: str) -> str:
    """A segmentation's name from a file's or a table's."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:80] or "customers"
    return name if not name[0].isdigit() else f"_{name}"


# What is printed


def _missing(column: ColumnProfile) -> str | None:
    return f"{column.missing / column.rows:.1%}" if column.missing else None


def _spread(column: ColumnProfile) -> str:
    """Bars, one a range or a level, the fullest the highest."""
    counts = column.spread[:_SHOWN]
    top = max(counts, default=0)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // top)] for count in counts) if top else ""


def _as_json(proposal: Proposal, place: Place) -> dict[str, Any]:
    files = {"definition": str(place.definition), "segmentation": place.name}
    columns = [
        {**asdict(column), "use": proposal.use_of(column.name)} for column in proposal.columns
    ]
    return {
        **files,
        "rows": proposal.rows,
        **proposal.to_definition(place.target),
        "left_out": proposal.left_out,
        "columns": columns,
    }
