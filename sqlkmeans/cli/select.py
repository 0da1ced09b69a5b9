"""From what was typed to a database and the segmentations in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlkmeans.cli.output import Output
from sqlkmeans.database import Database, find_session, open_database
from sqlkmeans.definition import Definition, Segmentation, load_definition
from sqlkmeans.errors import DefinitionError
from sqlkmeans.names import SOURCES
from sqlkmeans.registry import load_segmentation
from sqlkmeans.sqltext import named_files, parse_source

URL_VARIABLE = "SQLKMEANS_URL"
PROJECT_FILE = "sqlkmeans.toml"


@dataclass(frozen=True)
class Selection:
    """What a command works on.

    Attributes
    ----------
    url : str
        Not for showing: it can hold a password.
    definition : Definition or None
        The definition file, where one was given or found.
    name : str or None
        A segmentation's name, where one was given instead of a file.
    from_file : bool, default=False
        Whether the URL stands in the definition file, and not in what the user typed or set.
    """

    url: str = field(repr=False)
    definition: Definition | None
    name: str | None
    from_file: bool = False

    def open(self, *, create: bool = False, read_only: bool = False) -> Database:
        """Open the database, and the files that sources of the definition file name."""
        defined = self.definition.segmentations.values() if self.definition else ()
        files = [file for segmentation in defined for file in named_files(segmentation.source)]
        return open_database(
            self.url, create=create, read_only=read_only, files=files, from_file=self.from_file
        )

    def segmentations(self, database: Database, names: list[str] | None) -> list[Segmentation]:
        """The segmentations meant: from the file, else from the database's registry."""
        if self.name is not None and (
            self.definition is None or self.name not in self.definition.segmentations
        ):
            loaded = load_segmentation(database, self.name)
            files, table = named_files(loaded.source), parse_source(loaded.source).name
            # What a database says of itself opens no file: it may be from somebody else.
            if files and (table is None or database.describe_table(loaded.source) is None):
                raise DefinitionError(
                    f"segmentation {self.name}: its source reads {', '.join(files)}; only a "
                    "definition file opens files, so give it instead of the name"
                )
            return [loaded]
        defined = self.definition.segmentations if self.definition else {}
        wanted = [self.name] if self.name is not None else names or list(defined)
        unknown = [name for name in wanted if name not in defined]
        if unknown or not wanted:
            raise DefinitionError(
                [f"segmentation {name}: not in the file; allowed: {', '.join(defined)}"
                 for name in unknown]
                or f"name a definition file or a segmentation (there is no ./{PROJECT_FILE})"
            )  # fmt: skip
        return [defined[name] for name in wanted]

    def session(self, name: str) -> object:
        """What reaches the labels of a segmentation of the file, where the database does not."""
        one = self.definition.segmentations.get(name) if self.definition else None
        return find_session(one) if one is not None and one.lake_target else None

    def require_file(self, segmentations: Sequence[Segmentation]) -> None:
        """Refuse what a database says of itself where more than that database would read it."""
        for one in segmentations:
            if one.engine in SOURCES and (
                self.definition is None or one.name not in self.definition.segmentations
            ):
                raise DefinitionError(
                    f'segmentation {one.name}: engine = "{one.engine}" reads more than the '
                    "database, which may be from somebody else; give a definition file instead of "
                    "the name"
                )


def select(argument: str | None, url: str | None, output: Output) -> Selection:
    """Read a definition file or a name, and find the database's URL.

    Parameters
    ----------
    argument : str or None
        A ``.toml`` or ``.json`` file, a segmentation's name, or None for ``./sqlkmeans.toml``.
    url : str or None
        ``--url``; then the variable ``SQLKMEANS_URL``, then the definition file.
    output : Output
        Hears where a file is used that nobody named.
    """
    name, path = None, Path(PROJECT_FILE) if Path(PROJECT_FILE).exists() else None
    if argument is not None:
        if Path(argument).suffix.lower() in (".toml", ".json") or Path(argument).is_file():
            path = Path(argument)
        else:
            name = argument
    definition = load_definition(path) if path else None
    if path == Path(PROJECT_FILE) and argument != PROJECT_FILE and not output.as_json:
        output.say(f"Definition: ./{PROJECT_FILE}")
    given = url or os.environ.get(URL_VARIABLE)
    chosen = given or (definition.url if definition else None)
    if not chosen:
        raise DefinitionError(
            f"no database given; allowed: --url, the variable {URL_VARIABLE}, or [database] url in "
            f"a definition file (such as ./{PROJECT_FILE})"
        )
    return Selection(chosen, definition, name, from_file=not given)
