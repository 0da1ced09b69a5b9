"""What only SQL Server has: generated T-SQL, deployment, SQL Server Agent."""

from __future__ import annotations

from typing import Any

import typer

from sqlkmeans.cli.jobs import one_name
from sqlkmeans.cli.output import Output
from sqlkmeans.cli.select import select
from sqlkmeans.database.base import Database, HasAgent, RunsInside
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError, SqlKMeansError
from sqlkmeans.files import check_place, write_file
from sqlkmeans.model import SegmentModel
from sqlkmeans.registry import load_model, load_segmentation, load_steps


def export(
    output: Output, name: str | None, segmentation: str | None, url: str | None, *,
    dialect: str | None, source: str | None, explain: bool, to_file: str | None, force: bool,
) -> None:  # fmt: skip
    """Print or write how a segmentation scores a row: functions for SQL Server, or one SELECT."""
    from sqlkmeans.tsql.explaining import explaining_script
    from sqlkmeans.tsql.scoring import scoring_script

    if to_file is not None:
        check_place(to_file, replace=force)
    if source is not None and dialect is None:
        raise DefinitionError("--from given; allowed: with --dialect, whose SELECT reads a table")
    if explain and source is not None:
        raise DefinitionError("--from given with --explain; allowed: one of them")
    if explain and dialect != "duckdb":
        raise DefinitionError(
            f"--explain given with dialect {dialect}; allowed: --dialect duckdb (the script for "
            "SQL Server, without --dialect, has a function that explains)"
        )
    selection = select(name, url, output)
    with selection.open(read_only=True) as database:
        segmentation = one_name(selection, database, segmentation)
        model = load_model(segmentation, database)
        if dialect is None:
            script = scoring_script(segmentation, model)
            script += explaining_script(segmentation, model, load_steps(segmentation, database))
        else:
            script = _select(database, segmentation, model, dialect, source, explain=explain)
    _hand_over(output, script, to_file, force, segmentation=segmentation)


def _select(
    database: Database, name: str, model: SegmentModel, dialect: str, source: str | None, *,
    explain: bool,
) -> str:  # fmt: skip
    from sqlkmeans.tsql.portable import explaining_macro, scoring_select

    segmentation = load_segmentation(database, name)
    try:
        columns = database.describe(segmentation.source)
    except DataError:  # it is not there any more, or only its own definition opens it
        columns = []
    booleans = {column.name for column in columns if column.kind == "boolean"}
    if explain:
        steps = load_steps(name, database)
        return explaining_macro(name, model, steps, booleans=booleans)
    return scoring_select(
        name, model, dialect, source=source or segmentation.source, key=segmentation.key,
        booleans=booleans,
    )  # fmt: skip


def deploy(
    output: Output, url: str | None, *, library: bool, to_file: str | None, force: bool
) -> None:
    """Install or upgrade schema sqlkmeans and, if wanted, the package inside the server."""
    from sqlkmeans.tsql.external_library import deploy_script, external_library_script

    if to_file is not None:
        _hand_over(output, deploy_script(), to_file, force)
        return
    is_file = url is not None and "://" not in url
    with select(url if is_file else None, None if is_file else url, output).open() as database:
        before, now = database.schema_version(), database.install()
        if library:
            if not isinstance(database, RunsInside):
                raise DatabaseError(f"{database.safe_url}: only SQL Server runs T-SQL scripts")
            database.run_script(external_library_script())
        where = database.safe_url
    if output.as_json:
        output.result(
            {"database": where, "version_before": before, "version": now, "library": library}
        )
    else:
        package = ", and the package is in the server" if library else ""
        output.say(f"{where}: schema sqlkmeans is at version {now}{package}.")
        output.say("Next: `sqlkmeans self-test` tries all of it on this server.")


def self_test(output: Output, definition: str | None, url: str | None, *, keep: bool) -> None:
    """Print what the server's self-test found; exit 1 where a check failed."""
    with select(definition, url, output).open() as database:
        if not isinstance(database, RunsInside):
            raise DatabaseError(
                f"{database.safe_url}: only SQL Server has a self-test; `doctor` is here"
            )
        report = database.self_test(keep=keep)
    failed = report["failed"]
    if output.as_json:
        output.result(report)
    else:
        words = {True: "ok", False: "FAILED", None: "-"}
        output.table(
            ["check", "", "milliseconds", "detail"],
            [
                [result["check"], words[result["ok"]], result["milliseconds"], result["detail"]]
                for result in report["results"]
            ],
            title=f"SQL Server {report['version']}, {report['edition']}, {report['collation']}",
        )
        output.say(
            f"{report['passed']} checks passed, {report['not_here']} are about what is not here, "
            f"{failed} failed."
        )
        if failed:
            raise SqlKMeansError(
                f"{failed} of {len(report['results'])} checks failed; `sqlkmeans self-test --json` "
                "prints what to send with a report of the bug"
            )
    if failed:
        raise typer.Exit(1)


def schedule(
    output: Output, name: str | None, segmentation: str | None, url: str | None,
    options: dict[str, Any], *, drop: bool,
) -> None:  # fmt: skip
    """Make, change or drop the Agent job of a segmentation."""
    selection = select(name, url, output)
    with selection.open() as database:
        # A purge may be of all of them.
        if options["step"] != "purge" or name is not None or segmentation is not None:
            segmentation = one_name(selection, database, segmentation)
        if not isinstance(database, HasAgent):
            otherwise = "" if drop else "; use cron or the like"
            raise DatabaseError(f"{database.safe_url}: only SQL Server has an Agent{otherwise}")
        if drop:
            database.unschedule(segmentation, options["step"])
            job = {"segmentation": segmentation, "outcome": "dropped"}
        else:
            job = {"segmentation": segmentation, **database.schedule(segmentation, options)}
    if output.as_json:
        output.result(job)
    else:
        output.table(["", ""], [[key, value] for key, value in job.items() if value is not None])


def _hand_over(output: Output, script: str, to_file: str | None, force: bool, **about: str) -> None:
    if to_file is not None:
        write_file(to_file, script, replace=force)
        if output.as_json:
            output.result({**about, "file": to_file})
        else:
            output.say(f"Written: {to_file}")
    elif output.as_json:
        output.result({**about, "sql": script})
    else:
        output.script(script)
