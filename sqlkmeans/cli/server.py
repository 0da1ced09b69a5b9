"""What only SQL Server has: generated T-SQL, deployment, SQL Server Agent."""

from __future__ import annotations

from typing import Any

from sqlkmeans.cli.jobs import one_name
from sqlkmeans.cli.output import Output
from sqlkmeans.cli.select import select
from sqlkmeans.errors import DataError
from sqlkmeans.files import check_place, write_file
from sqlkmeans.registry import load_model, load_segmentation


def export(
    output: Output, name: str | None, segmentation: str | None, url: str | None, *,
    to_file: str | None, force: bool,
) -> None:  # fmt: skip
    """Print or write the scoring function of a segmentation, from any database."""
    from sqlkmeans.tsql.scoring import scoring_script

    if to_file is not None:
        check_place(to_file, replace=force)
    selection = select(name, url, output)
    with selection.open(read_only=True) as database:
        segmentation = one_name(selection, database, segmentation)
        load_segmentation(database, segmentation)
        model = load_model(database, segmentation)
    if model is None:
        raise DataError(f"{segmentation}: no model yet; `sqlkmeans run` makes one")
    script = scoring_script(segmentation, model)
    _hand_over(output, script, to_file, force, segmentation=segmentation)


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
            database.run_script(external_library_script())
        where = database.safe_url
    if output.as_json:
        output.result(
            {"database": where, "version_before": before, "version": now, "library": library}
        )
    else:
        package = ", and the package is in the server" if library else ""
        output.say(f"{where}: schema sqlkmeans is at version {now}{package}.")


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
