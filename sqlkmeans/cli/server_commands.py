"""The commands that write or run T-SQL."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from sqlkmeans.cli.commands import app
from sqlkmeans.cli.help import LOOK, SERVER
from sqlkmeans.cli.options import (
    DefinitionArgument,
    Force,
    Json,
    NameArgument,
    OneName,
    Quiet,
    ToFile,
    Url,
    Verbose,
)


@app.command("export-sql", rich_help_panel=LOOK)
def export_sql(
    name: NameArgument = None, segmentation: OneName = None, url: Url = None,
    dialect: Annotated[
        Optional[str],
        typer.Option(
            help="One SELECT instead, for tsql, duckdb, postgres, spark, bigquery or snowflake."
        ),
    ] = None,
    from_table: Annotated[
        Optional[str],
        typer.Option("--from", help="The table that the SELECT scores. Default: the source."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="With --dialect duckdb: a macro that explains a row."),
    ] = False,
    to_file: ToFile = None, force: Force = False, as_json: Json = False, quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Print T-SQL functions that score and explain a row with the stored model, or a SELECT."""
    from sqlkmeans.cli import server
    from sqlkmeans.cli.output import Output

    server.export(
        Output(as_json, quiet, verbose), name, segmentation, url, dialect=dialect,
        source=from_table, explain=explain, to_file=to_file, force=force,
    )  # fmt: skip


@app.command(rich_help_panel=SERVER)
def deploy(
    database: Annotated[
        Optional[str],
        typer.Argument(metavar="[URL]", help="The SQL Server. Default: as in other commands."),
    ] = None,
    url: Url = None,
    library: Annotated[
        bool,
        typer.Option("--library", help="Send this package too, for Python inside the server."),
    ] = False,
    to_file: ToFile = None, force: Force = False, as_json: Json = False, quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Install or upgrade everything in SQL Server, or write the script that does."""
    from sqlkmeans.cli import server
    from sqlkmeans.cli.output import Output

    server.deploy(
        Output(as_json, quiet, verbose), database or url, library=library, to_file=to_file,
        force=force,
    )  # fmt: skip


@app.command(rich_help_panel=SERVER)
def schedule(
    name: NameArgument = None, segmentation: OneName = None, url: Url = None,
    step: Annotated[
        Optional[str],
        typer.Option(help="run (default), assign, purge, or command_line (see --command)."),
    ] = None,
    command: Annotated[
        Optional[str], typer.Option(help="What the operating system runs, for command_line.")
    ] = None,
    frequency: Annotated[str, typer.Option(help="daily, weekly or monthly.")] = "daily",
    day: Annotated[
        int, typer.Option(help="weekly: 1 (Sunday) to 7; monthly: 1 to 31.")
    ] = 1,
    at: Annotated[str, typer.Option("--at", help="Time of day, hh:mm.")] = "02:00",
    notify_operator: Annotated[
        Optional[str], typer.Option(help="An operator of Agent who gets mail when it fails.")
    ] = None,
    retry_attempts: Annotated[int, typer.Option(help="0 to 100.")] = 2,
    retry_minutes: Annotated[int, typer.Option(help="Between two attempts.")] = 5,
    owner: Annotated[
        Optional[str], typer.Option(help="Login that owns the job. Default: yours.")
    ] = None,
    keep_days: Annotated[
        Optional[int], typer.Option(help="For purge: how long runs are kept. Default: 365.")
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop the job of the step instead, or of every step.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be scheduled.")
    ] = False,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Make, change or drop the SQL Server Agent job of a segmentation."""
    from sqlkmeans.cli import server
    from sqlkmeans.cli.output import Output

    options = {
        "step": step, "command": command, "frequency": frequency, "day": day, "at": at,
        "notify_operator": notify_operator, "retry_attempts": retry_attempts,
        "retry_minutes": retry_minutes, "owner": owner, "keep_days": keep_days,
        "execute": not dry_run,
    }  # fmt: skip
    server.schedule(Output(as_json, quiet, verbose), name, segmentation, url, options, drop=drop)


@app.command("self-test", rich_help_panel=SERVER)
def self_test(
    definition: DefinitionArgument = None, url: Url = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave what was made, to look at, until the next one.")
    ] = False,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Try everything on your SQL Server, in names of its own, and drop them again."""
    from sqlkmeans.cli import server
    from sqlkmeans.cli.output import Output

    server.self_test(Output(as_json, quiet, verbose), definition, url, keep=keep)
