"""Arguments and options that more than one command has."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from sqlkmeans.cli.help import definition_files

DefinitionArgument = Annotated[
    Optional[str],
    typer.Argument(
        metavar="[DEFINITION]",
        help="A .toml or .json file, or the name of a segmentation that was run before. "
        "Default: ./sqlkmeans.toml.",
        autocompletion=definition_files,
    ),
]
NameArgument = Annotated[
    Optional[str],
    typer.Argument(
        metavar="[NAME]",
        help="A segmentation's name, or a definition file. Default: the only one.",
        autocompletion=definition_files,
    ),
]
ToFile = Annotated[Optional[str], typer.Option("--to-file", help="Write the script to this file.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
Key = Annotated[
    Optional[list[str]],
    typer.Option(help="The column that identifies a customer; several can be repeated."),
]
Names = Annotated[
    Optional[list[str]],
    typer.Option("--segmentation", "-s", help="One segmentation of the file; can be repeated."),
]
OneName = Annotated[
    Optional[str],
    typer.Option("--segmentation", "-s", help="Which one of the file's segmentations."),
]
Url = Annotated[
    Optional[str],
    typer.Option("--url", help="Database URL. Default: SQLKMEANS_URL, then the definition file."),
]
MemoryLimit = Annotated[
    Optional[str],
    typer.Option(help="What the process may take, such as 1GiB, instead of the definition's."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No words but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more, tracebacks included.")]
