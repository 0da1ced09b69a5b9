"""What people do to a segmentation: go back to an earlier run, give names, remove it."""

from __future__ import annotations

from typing import Any

from sqlkmeans.database import Database, open_places
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DefinitionError
from sqlkmeans.progress import Progress
from sqlkmeans.registry import client_row, load_segmentation, run_result, stored_model
from sqlkmeans.result import RunResult
from sqlkmeans.sqltext import parse_name
from sqlkmeans.words import has_unseen


def rollback(
    name: str,
    database: Database,
    to_run_id: int | None = None,
    progress: Progress | None = None,
    *,
    spark: object = None,
) -> RunResult:
    """Bring back the labels and the model of an earlier run, in one transaction.

    Parameters
    ----------
    name : str
        The segmentation.
    database : Database
    to_run_id : int, optional
        The run to go back to; by default, the published one before the current.
    progress : Progress, optional
    spark : pyspark.sql.SparkSession, optional
        Where the target is a table of Spark's catalog.
    """
    progress = progress or Progress()
    segmentation = load_segmentation(database, name)
    places = open_places(segmentation, database, spark, from_file=False)
    with places as (there, _), database.store.lock(name):
        restored = _run_to_restore(database, segmentation, to_run_id)
        row = {
            "kind": "rollback",
            **{column: restored[column] for column in ("engine", "k", "rows", "skipped")},
            **client_row(),
        }
        with progress.step("publish"):
            there.labels.rollback(segmentation, row, restored)
    newest = database.catalog.published_runs(name)[0]
    return run_result(database, newest["run_id"], progress.rounded())


def rename(
    name: str, database: Database, segment_id: int, new_name: str, description: str | None = None
) -> None:
    """Give a segment a name that later runs keep.

    Raises
    ------
    DefinitionError
        If there is no such segment, or another one has that name.
    """
    load_segmentation(database, name)
    model = stored_model(database, name)
    names = dict(zip(model.segment_ids, model.names)) if model else {}
    problems = []
    if segment_id not in names:
        allowed = ", ".join(str(number) for number in names) or "none before the first run"
        problems.append(f"segment {segment_id}: not in {name}; allowed: {allowed}")
    if not new_name.strip() or len(new_name) > 128:
        problems.append(f"name {new_name!r} given; allowed: 1 to 128 characters")
    for what, text in (("name", new_name), ("description", description or "")):
        if has_unseen(text):
            problems.append(
                f"{what} {text!r} given; allowed: no control or format characters, nor line breaks"
            )
    taken = [
        other
        for other, used in database.catalog.names(name)
        if used == new_name and other != segment_id
    ]
    if taken:
        problems.append(f"name {new_name!r} given; segment {taken[0]} has or had it")
    if problems:
        raise DefinitionError(problems)
    with database.store.lock(name):
        database.store.rename(name, segment_id, new_name, description)


def drop(
    name: str, database: Database, *, drop_target: bool = False, execute: bool = True
) -> list[str]:
    """Remove a segmentation: its runs and models, its history and its view with names.

    Parameters
    ----------
    name : str
        The segmentation.
    database : Database
    drop_target : bool, default=False
        The segment table too, which reports may join.
    execute : bool, default=True

    Returns
    -------
    list of str
        The statements, which are run only with ``execute``.

    Raises
    ------
    DefinitionError
        If none of that name was ever run.
    LockedError
        If it is being run.
    """
    load_segmentation(database, name)
    return database.drop_segmentation(name, drop_target=drop_target, execute=execute)


def _run_to_restore(
    database: Database, segmentation: Segmentation, to_run_id: int | None
) -> dict[str, Any]:
    """The run whose labels come back: the one named, or the one before the current."""
    runs = database.catalog.published_runs(segmentation.name)
    labelled = [row for row in runs if row["kind"] != "rollback"]
    allowed = ", ".join(str(row["run_id"]) for row in labelled[:10]) or "none yet"
    if to_run_id is None:
        current = (runs[0]["restored_run_id"] or runs[0]["run_id"]) if runs else 0
        earlier = [row for row in labelled if row["run_id"] < current]
        if not earlier:
            raise DefinitionError(f"{segmentation.name}: there is no earlier run to go back to")
        chosen = earlier[0]
    else:
        found = [row for row in labelled if row["run_id"] == to_run_id]
        if not found:
            raise DefinitionError(
                f"run {to_run_id}: not a published run of {segmentation.name}; allowed: {allowed}"
            )
        chosen = found[0]
    then = Segmentation.from_json(chosen["definition"])
    if (parse_name(then.target), then.key) != (parse_name(segmentation.target), segmentation.key):
        raise DefinitionError(
            f"run {chosen['run_id']} wrote {then.target} by {', '.join(then.key)}, and now "
            f"{segmentation.name} writes {segmentation.target} by {', '.join(segmentation.key)}; "
            "its labels cannot come back there"
        )
    return chosen
