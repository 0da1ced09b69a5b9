"""What the commands do, between the words typed and the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer

from sqlkmeans import pipeline
from sqlkmeans.cli.output import Output
from sqlkmeans.cli.select import Selection, select
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DefinitionError, SqlKMeansError
from sqlkmeans.progress import Progress
from sqlkmeans.registry import load_model
from sqlkmeans.result import ChoiceResult, RunResult

Result = TypeVar("Result", RunResult, ChoiceResult)
Job = Callable[[Segmentation, Database, Progress], Result]
Show = Callable[[Output, Result], None]


def each_segmentation(
    job: Job[Result],
    show: Show[Result],
    definition: str | None,
    names: list[str] | None,
    url: str | None,
    changes: dict[str, Any],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    only_one: str | None = None,
) -> None:
    """Do a job for one segmentation after the other; one that fails does not stop the next.

    ``only_one`` names an option that allows no more than one.
    """
    output = Output(as_json, quiet, verbose)
    selection = select(definition, url, output)
    results: list[Result] = []
    failures: list[SqlKMeansError] = []
    with selection.open() as database:
        output.say_what_stays(database)
        wanted = selection.segmentations(database, names)
        if only_one and len(wanted) > 1:
            raise DefinitionError(
                f"{only_one} is for one segmentation; name it with --segmentation; allowed: "
                f"{', '.join(s.name for s in wanted)}"
            )
        if changes:
            wanted = [Segmentation.create(**{**s.model_dump(), **changes}) for s in wanted]
        selection.require_file(wanted)
        for segmentation in wanted:
            try:
                results.append(job(segmentation, database, output.progress()))
            except SqlKMeansError as error:
                if len(wanted) == 1:
                    raise
                error.problems = [f"{segmentation.name}: {text}" for text in error.problems]
                failures.append(error)
    _print_all(output, show, results, failures)


def _print_all(
    output: Output, show: Show[Result], results: list[Result], failures: list[SqlKMeansError]
) -> None:
    """Print what was done, and raise what failed."""
    if not failures and (len(results) == 1 or not output.as_json):
        for result in results:
            show(output, result)
        return
    problems = [problem for error in failures for problem in error.problems]
    failed = SqlKMeansError(problems)
    failed.exit_code = max((error.exit_code for error in failures), default=0)
    if output.as_json:
        runs = {"runs": [result.to_json() for result in results]}
        output.result({**runs, **failed.to_json()} if failures else runs)
        raise typer.Exit(failed.exit_code)
    for result in results:
        show(output, result)
    raise failed


def one_name(selection: Selection, database: Database, chosen: str | None) -> str:
    """The segmentation meant where a command works on one; ``chosen`` is ``--segmentation``."""
    if selection.name is not None:
        names = [selection.name]
    elif selection.definition is not None:
        names = list(selection.definition.segmentations)
    else:
        known = database.catalog.segmentations() if database.schema_version() else []
        names = [row["name"] for row in known]
    allowed = f"allowed: {', '.join(names) or 'none yet'}"
    if chosen is not None and chosen not in names:
        raise DefinitionError(f"segmentation {chosen} given; {allowed}")
    if chosen is None and len(names) != 1:
        raise DefinitionError(f"name one segmentation with --segmentation; {allowed}")
    return chosen or names[0]


def show_runs(output: Output, name: str | None, url: str | None, limit: int) -> None:
    """Print the run log."""
    selection = select(name, url, output)
    with selection.open(read_only=True) as database:
        wanted = selection.name
        rows = database.catalog.runs(wanted, limit) if database.schema_version() else []
    if output.as_json:
        output.result({"runs": rows})
        return
    columns = ["run", "segmentation", "kind", "status", "k", "rows", "changed", "seconds",
               "started"]  # fmt: skip
    shown = [
        [row["run_id"], row["segmentation"], row["kind"], row["status"], row["k"], row["rows"],
         row["changed"], row["seconds_total"], f"{row['started_at']:%Y-%m-%d %H:%M}"]
        for row in rows
    ]  # fmt: skip
    output.table(columns, shown)
    for row in rows:
        if row["error"]:
            output.say(f"Run {row['run_id']} failed: {row['error']}")
    if not rows:
        output.say("No runs yet.")


def roll_back(
    output: Output, name: str | None, segmentation: str | None, url: str | None, to: int | None
) -> None:
    """Bring back an earlier run and print it."""
    selection = select(name, url, output)
    with selection.open() as database:
        chosen = one_name(selection, database, segmentation)
        result = pipeline.rollback(
            chosen, database, to, output.progress(), spark=selection.session(chosen)
        )
    output.run(result)


def give_name(
    output: Output, name: str, segmentation: str | None, url: str | None, segment_id: str,
    new_name: str, description: str | None,
) -> None:  # fmt: skip
    """Rename a segment."""
    selection = select(name, url, output)
    with selection.open() as database:
        segmentation = one_name(selection, database, segmentation)
        if not segment_id.strip().lstrip("-").isdecimal():
            known = ", ".join(map(str, load_model(segmentation, database).segment_ids))
            raise DefinitionError(
                f"segment {segment_id!r} given; allowed: the number of a segment ({known})"
            )
        pipeline.rename(segmentation, database, int(segment_id), new_name, description)
    if output.as_json:
        output.result(
            {"segmentation": segmentation, "segment_id": int(segment_id), "name": new_name}
        )
    else:
        output.say(f"Segment {segment_id} of {segmentation} is now {new_name!r}.")


def explain_customer(
    output: Output, name: str, segmentation: str | None, url: str | None, key: list[str]
) -> None:
    """Print why a customer is in a segment."""
    from sqlkmeans.explanation import explain

    selection = select(name, url, output)
    with selection.open(read_only=True) as database:
        chosen = one_name(selection, database, segmentation)
        found = explain(chosen, database, key, spark=selection.session(chosen))
    if output.as_json:
        output.result(found.to_json())
        return
    for line in found.lines():
        output.line(line)


def report(
    output: Output, name: str | None, segmentation: str | None, url: str | None,
    to_file: str | None, *, samples: bool, failed: bool, show: bool,
) -> None:  # fmt: skip
    """Write a segmentation's page and say where it is."""
    from sqlkmeans.report.page import write_report

    selection = select(name, url, output)
    with selection.open(read_only=True) as database:
        chosen = one_name(selection, database, segmentation)
        spark = selection.session(chosen)
        with output.progress().step("report"):
            written = write_report(
                chosen, database, to_file, samples=samples, failed=failed, spark=spark
            )
    if output.as_json:
        output.result(
            {
                "file": str(written.file),
                "segmentation": written.segmentation,
                "run_id": written.run_id,
            }
        )
    else:
        output.say(f"Written: {written.file}")
    if show:
        import webbrowser

        webbrowser.open(written.file.resolve().as_uri())


def export(
    output: Output, name: str | None, segmentation: str | None, url: str | None, to: str, *,
    profiles: bool, force: bool,
) -> None:  # fmt: skip
    """Write a segmentation's labels to a file."""
    from sqlkmeans.exporting import export_labels

    selection = select(name, url, output)
    with selection.open(read_only=True) as database:
        with output.progress().step("export"):
            written = export_labels(
                one_name(selection, database, segmentation), database, to, profiles=profiles,
                replace=force,
            )  # fmt: skip
    if output.as_json:
        beside = None if written.profiles is None else str(written.profiles)
        output.result({**vars(written), "file": str(written.file), "profiles": beside})
        return
    output.say(f"Written: {written.file}, {written.rows:,} labels")
    if written.profiles not in (None, written.file):
        output.say(f"Written: {written.profiles}")


def examine(output: Output, definition: str | None, url: str | None) -> None:
    """Print what doctor finds; exit 1 where something has to be done."""
    from sqlkmeans.clustering.kmeans.kernels import kernel
    from sqlkmeans.engines.local import storage

    selection = select(definition, url, output)
    with selection.open(read_only=True) as database:
        found = [(f.check, f.ok, f.detail) for f in database.doctor()]
        found.append(("fit", None, kernel.describe()))
        found.append(("memory", None, storage.describe()))
        if selection.definition is None and selection.name is None:
            found.append(("segmentations", None, "no definition file given, so none was checked"))
            wanted = []
        else:
            wanted = selection.segmentations(database, None)
        for segmentation in wanted:
            try:
                rows = pipeline.check(segmentation, database, output.progress())
                found.append((f"segmentation {segmentation.name}", True, _looked_at(rows)))
            except SqlKMeansError as error:
                found += [(f"segmentation {segmentation.name}", False, p) for p in error.problems]
    if output.as_json:
        keys = ("check", "ok", "detail")
        output.result({"findings": [dict(zip(keys, row)) for row in found]})
    else:
        words = {True: "ok", False: "TO DO", None: "-"}
        output.table(["check", "", "finding"], [[c, words[ok], detail] for c, ok, detail in found])
    failed = [f"{check}: {detail}" for check, ok, detail in found if ok is False]
    if failed and not output.as_json:
        raise SqlKMeansError(f"{len(failed)} of {len(found)} checks need something to be done")
    if failed:
        raise typer.Exit(1)


def drop(
    output: Output, name: str, segmentation: str | None, url: str | None, target: bool, yes: bool
) -> None:
    """Remove a segmentation, or print how."""
    selection = select(name, url, output)
    with selection.open() as database:
        segmentation = one_name(selection, database, segmentation)
        statements = pipeline.drop(segmentation, database, drop_target=target, execute=yes)
    if output.as_json:
        output.result({"segmentation": segmentation, "executed": yes, "statements": statements})
        return
    for statement in statements:
        output.line(f"{statement};")
    stays = (
        "" if target else " The segment table stays." if yes else " The segment table would stay."
    )
    output.say(("Done." if yes else "Nothing was dropped; add --yes to do it.") + stays)


def _looked_at(rows: int | None) -> str:
    if rows is None:
        return (
            "columns, types and target fit; not checked, because the source has more than "
            f"{pipeline.CHECKED_ROWS:,} rows: NULL and repeated keys, missing, infinite and "
            "constant values"
        )
    return (
        f"columns, types and target fit, and in {rows:,} rows no NULL or repeated key, and no "
        "value that stops a run"
    )


def remove(output: Output, definition: str | None, url: str | None, yes: bool) -> None:
    """Drop schema sqlkmeans, or print how."""
    with select(definition, url, output).open() as database:
        statements = database.uninstall(execute=yes)
    if output.as_json:
        output.result({"executed": yes, "statements": statements})
        return
    for statement in statements:
        output.line(f"{statement};")
    if not statements:
        output.say("Schema sqlkmeans is not in this database.")
    elif yes:
        output.say("Done. Segment tables are left as they are.")
    else:
        output.say("Nothing was dropped; add --yes to do it. Segment tables would stay.")
