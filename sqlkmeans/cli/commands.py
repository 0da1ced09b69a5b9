"""The commands. Heavy libraries are imported where a command needs them."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from sqlkmeans._version import __version__
from sqlkmeans.cli.help import CHANGE, LOOK, SEGMENT, START, UPKEEP, ByTask, data_files, engines
from sqlkmeans.cli.options import (
    DefinitionArgument,
    Force,
    Json,
    Key,
    MemoryLimit,
    NameArgument,
    Names,
    OneName,
    Quiet,
    Url,
    Verbose,
)
from sqlkmeans.errors import DefinitionError

app = typer.Typer(
    name="sqlkmeans",
    cls=ByTask,
    help="Customer segmentation inside SQL Server: K-Means with segment ids that stay.",
    pretty_exceptions_enable=False,
    # Rich would load for a tenth of a second before `--help` says a word.
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sqlkmeans {__version__}")
        raise typer.Exit


def _given(**options: object) -> dict[str, object]:
    """What was given of the options that stand for a key of the definition."""
    return {name: value for name, value in options.items() if value is not None}


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=START)
def demo(
    database: Annotated[
        str, typer.Option(help="File of the embedded database; made where there is none.")
    ] = "sqlkmeans_demo.duckdb",
    customers: Annotated[int, typer.Option(min=10, help="Number of customers to make.")] = 100_000,
    clusters: Annotated[int, typer.Option(min=2, max=50, help="Number of clusters to make.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random customers.")] = 1,
    plot: Annotated[str, typer.Option(help="File of the picture.")] = "sqlkmeans_demo.png",
    url: Annotated[
        Optional[str], typer.Option("--url", help="Another database than the embedded one.")
    ] = None,
    engine: Annotated[str, typer.Option(help="Who computes.", autocompletion=engines)] = "local",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make customers, segment them, and show what came out."""
    from sqlkmeans.cli import demo as demonstration
    from sqlkmeans.cli.output import Output

    demonstration.show(
        Output(as_json, quiet, verbose), database=database, url=url, customers=customers,
        clusters=clusters, seed=seed, plot=plot, engine=engine,
    )  # fmt: skip


@app.command(rich_help_panel=START)
def init(
    source: Annotated[
        str,
        typer.Argument(
            help="A .csv, .csv.gz or .parquet file, or a table of the database.",
            autocompletion=data_files,
        ),
    ],
    key: Key = None, url: Url = None, force: Force = False, as_json: Json = False,
    quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Look at a file or a table, and write a first definition for it."""
    from sqlkmeans.cli import start
    from sqlkmeans.cli.output import Output

    start.init(Output(as_json, quiet, verbose), source, url, key, force=force)


@app.command(rich_help_panel=UPKEEP)
def install(
    definition: DefinitionArgument = None, url: Url = None, as_json: Json = False,
    quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Make or upgrade schema sqlkmeans in the database."""
    from sqlkmeans.cli.output import Output
    from sqlkmeans.cli.select import select

    output = Output(as_json, quiet, verbose)
    with select(definition, url, output).open(create=True) as database:
        before, now = database.schema_version(), database.install()
        if as_json:
            output.result({"database": database.safe_url, "version_before": before, "version": now})
        elif before == now:
            output.say(f"Schema sqlkmeans is at version {now} already.")
        else:
            output.say(
                f"Schema sqlkmeans is now at version {now} (it was {before or 'not there'})."
            )


@app.command(rich_help_panel=SEGMENT)
def run(
    definition: DefinitionArgument = None, segmentation: Names = None, url: Url = None,
    engine: Annotated[
        Optional[str],
        typer.Option(help="Engine instead of the definition's.", autocompletion=engines),
    ] = None,
    memory_limit: MemoryLimit = None, key: Key = None,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Read, cluster and publish: fit a new model and label every customer.

    Of a .csv or .parquet file, make the definition and the database beside it, and a report.
    """
    from sqlkmeans import pipeline
    from sqlkmeans.cli.jobs import each_segmentation
    from sqlkmeans.cli.output import Output
    from sqlkmeans.sqltext import is_data_file

    changes = _given(engine=engine, memory_limit=memory_limit)
    if definition is not None and is_data_file(definition):
        from sqlkmeans.cli import start

        start.run_file(Output(as_json, quiet, verbose), definition, url, key, segmentation, changes)
        return
    if key:
        raise DefinitionError(
            "--key given; allowed: with a .csv or .parquet file; a definition has its own key"
        )
    each_segmentation(
        pipeline.run, Output.run, definition, segmentation, url, changes, as_json, quiet, verbose
    )


@app.command(rich_help_panel=SEGMENT)
def assign(
    definition: DefinitionArgument = None, segmentation: Names = None, url: Url = None,
    memory_limit: MemoryLimit = None,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Label new, changed and departed customers with the stored model; no refit."""
    from sqlkmeans import pipeline
    from sqlkmeans.cli.jobs import each_segmentation
    from sqlkmeans.cli.output import Output

    each_segmentation(
        pipeline.assign, Output.run, definition, segmentation, url,
        _given(memory_limit=memory_limit), as_json, quiet, verbose,
    )  # fmt: skip


@app.command("choose-k", rich_help_panel=SEGMENT)
def choose_k(
    definition: DefinitionArgument = None, segmentation: Names = None, url: Url = None,
    k_min: Annotated[
        Optional[int], typer.Option(help="Fewest segments. Default: the definition's.")
    ] = None,
    k_max: Annotated[
        Optional[int], typer.Option(help="Most segments. Default: the definition's.")
    ] = None,
    memory_limit: MemoryLimit = None,
    plot: Annotated[
        Optional[str], typer.Option(help="Draw the scores as a PNG in this file.")
    ] = None,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Compare numbers of segments and recommend one; nothing is published."""
    from sqlkmeans import pipeline
    from sqlkmeans.cli import choose_k as choosing
    from sqlkmeans.cli.jobs import each_segmentation

    changes = _given(k_min=k_min, k_max=k_max, memory_limit=memory_limit)
    each_segmentation(
        pipeline.choose_k, choosing.show_and_draw(plot), definition, segmentation, url, changes,
        as_json, quiet, verbose, only_one="--plot" if plot else None,
    )  # fmt: skip


@app.command(rich_help_panel=LOOK)
def runs(
    name: NameArgument = None, url: Url = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """List runs, newest first."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.show_runs(Output(as_json, quiet, verbose), name, url, limit)


@app.command(rich_help_panel=CHANGE)
def rollback(
    name: NameArgument = None,
    to: Annotated[
        Optional[int],
        typer.Option("--to", help="Run to go back to. Default: the published one before."),
    ] = None,
    segmentation: OneName = None, url: Url = None, as_json: Json = False, quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Bring back the labels and the model of an earlier run."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.roll_back(Output(as_json, quiet, verbose), name, segmentation, url, to)


@app.command(rich_help_panel=CHANGE)
def rename(
    name: Annotated[str, typer.Argument(help="A segmentation's name, or a definition file.")],
    segment_id: Annotated[str, typer.Argument(help="The segment's number.")],
    new_name: Annotated[str, typer.Argument(help="Its name from now on; later runs keep it.")],
    description: Annotated[Optional[str], typer.Option(help="A sentence about it.")] = None,
    segmentation: OneName = None, url: Url = None, as_json: Json = False, quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Give a segment a name."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.give_name(
        Output(as_json, quiet, verbose), name, segmentation, url, segment_id, new_name, description
    )


@app.command(rich_help_panel=CHANGE)
def drop(
    name: Annotated[str, typer.Argument(help="A segmentation's name, or a definition file.")],
    target: Annotated[bool, typer.Option("--target", help="Drop its segment table too.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this, only print what would be dropped.")
    ] = False,
    segmentation: OneName = None, url: Url = None, as_json: Json = False, quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Remove a segmentation with its runs and its history; its segment table stays."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.drop(Output(as_json, quiet, verbose), name, segmentation, url, target, yes)


@app.command(rich_help_panel=LOOK)
def explain(
    name: Annotated[str, typer.Argument(help="A segmentation's name, or a definition file.")],
    key: Annotated[
        list[str], typer.Argument(help="The customer: one value for each column of the key.")
    ],
    segmentation: OneName = None, url: Url = None, as_json: Json = False, quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Say why a customer is in a segment, and how sure that is."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.explain_customer(Output(as_json, quiet, verbose), name, segmentation, url, key)


@app.command(rich_help_panel=LOOK)
def report(
    name: NameArgument = None, segmentation: OneName = None, url: Url = None,
    output: Annotated[
        Optional[str], typer.Option("--output", help="File of the page. Default: <name>.html.")
    ] = None,
    no_samples: Annotated[
        bool, typer.Option("--no-samples", help="No single customer on the page, aggregates only.")
    ] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="List attempts that failed among the runs.")
    ] = False,
    open_it: Annotated[
        bool, typer.Option("--open", help="Open the page in the web browser.")
    ] = False,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Write an HTML page about a segmentation as it is published now."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.report(
        Output(as_json, quiet, verbose), name, segmentation, url, output,
        samples=not no_samples, failed=failed, show=open_it,
    )  # fmt: skip


@app.command(rich_help_panel=LOOK)
def export(
    to: Annotated[
        str, typer.Option("--to", help="File of the labels: .csv, .parquet or .xlsx.")
    ],
    name: NameArgument = None,
    profiles: Annotated[
        bool, typer.Option("--profiles", help="Write the segments and their means too.")
    ] = False,
    force: Force = False, segmentation: OneName = None, url: Url = None, as_json: Json = False,
    quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Write the labels, with the segments' names, to a file."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.export(
        Output(as_json, quiet, verbose), name, segmentation, url, to, profiles=profiles, force=force
    )


@app.command(rich_help_panel=START)
def doctor(
    definition: DefinitionArgument = None, url: Url = None, as_json: Json = False,
    quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Check what a run needs, and say what to do where something is missing."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.examine(Output(as_json, quiet, verbose), definition, url)


@app.command(rich_help_panel=UPKEEP)
def uninstall(
    definition: DefinitionArgument = None, url: Url = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this, only print what would be dropped.")
    ] = False,
    as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Drop schema sqlkmeans with its history; segment tables stay."""
    from sqlkmeans.cli import jobs
    from sqlkmeans.cli.output import Output

    jobs.remove(Output(as_json, quiet, verbose), definition, url, yes)
