"""The line from customer rows to a segment table: run, assign, choose_k, rollback, rename, drop."""

from __future__ import annotations

from sqlkmeans import outcome
from sqlkmeans.corrections import drop, rename, rollback
from sqlkmeans.database import Database, open_places
from sqlkmeans.database.checks import check_segmentation
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines import Engine, Plan, engine_of
from sqlkmeans.engines.server.engine import ServerEngine
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.incremental import ChangesSeen, assign_changes, last_seen
from sqlkmeans.job import Job, job, open_files, require_schema
from sqlkmeans.progress import Progress
from sqlkmeans.registry import read_before, read_model, run_result, with_its_fit
from sqlkmeans.result import ChoiceResult, RunResult

__all__ = ["assign", "choose_k", "drop", "rename", "rollback", "run"]

#: Rows that `doctor` looks at: it is to answer soon.
CHECKED_ROWS = 1_000_000


def run(
    segmentation: Segmentation,
    database: Database,
    progress: Progress | None = None,
    *,
    spark: object = None,
) -> RunResult:
    """Read, cluster and publish a segmentation.

    ``spark`` is the SparkSession for ``engine = "spark"``, unless that finds or makes one.

    Raises
    ------
    SqlKMeansError
        The published labels are then what they were before, and so they are after any other
        end, a killed process among them.
    """
    progress = progress or Progress()
    engine = engine_of(segmentation.engine)
    if isinstance(engine, ServerEngine):
        return _run_on_server(engine, database, segmentation, "fit", progress)
    plan = Plan.of(segmentation, progress)
    k = None if segmentation.k == "auto" else segmentation.k
    with (
        open_places(segmentation, database, spark) as (database, sources),
        job(database, sources, segmentation, "fit", progress, k=k) as work,
    ):
        before = read_before(database, segmentation.name)
        with engine.open(sources, plan) as rows:
            fit, labelled = rows.fit(before.bins)
            with progress.step("assign"):
                work.stage(labelled.labels)
                segment_ids, moves = before.follow(fit, work.overlap)
            with work.loading(segment_ids, fit):
                with progress.step("assign"):
                    found = labelled.describe()
                    del labelled  # Publishing wants memory of its own.
                with progress.step("publish"):
                    notes = [*rows.notes(), *database.labels.notes(segmentation, found.rows)]
                    definition = segmentation.model_dump(mode="json")
                    work.publish(
                        outcome.of_fit(
                            work.run_id, definition, before, fit, found, segment_ids, moves, notes
                        )
                    )
    return work.result()


def assign(
    segmentation: Segmentation,
    database: Database,
    progress: Progress | None = None,
    *,
    spark: object = None,
) -> RunResult:
    """Label new, changed and departed customers with the stored model; nothing is refitted.

    ``spark`` as in :func:`run`.

    Raises
    ------
    DefinitionError
        If the features are not those of the model.
    DataError
        If there is no model yet.
    """
    progress = progress or Progress()
    require_schema(database)
    read_model(database, segmentation)
    engine = engine_of(segmentation.engine)
    if isinstance(engine, ServerEngine):
        return _run_on_server(engine, database, segmentation, "assign", progress)
    with (
        open_places(segmentation, database, spark) as (database, sources),
        job(database, sources, segmentation, "assign", progress) as work,
    ):
        # Again, now that the lock keeps another run from publishing a new one.
        before = read_model(database, segmentation)
        seen = last_seen(work) if work.seen else None
        if isinstance(seen, ChangesSeen):
            assign_changes(work, seen, engine, before)
        else:
            before = with_its_fit(database, segmentation.name, before)
            _assign_all(work, engine, before, [f"all rows were read: {seen}"] if seen else [])
    return work.result()


def _assign_all(work: Job, engine: Engine, before: outcome.Before, why: list[str]) -> None:
    database, segmentation, progress = work.database, work.segmentation, work.progress
    assert before.model is not None
    with engine.open(work.sources, Plan.of(segmentation, progress, before.model.columns)) as rows:
        labelled = rows.label(before.model, before.bins)
        with progress.step("assign"):
            work.stage(labelled.labels)
            found = labelled.describe()
            del labelled
        with progress.step("publish"):
            notes = [*rows.notes(), *database.labels.notes(segmentation, found.rows), *why]
            definition = segmentation.model_dump(mode="json")
            work.publish(
                outcome.of_labels(work.run_id, definition, before, found, work.overlap(), notes)
            )


def choose_k(
    segmentation: Segmentation,
    database: Database,
    progress: Progress | None = None,
    *,
    spark: object = None,
) -> ChoiceResult:
    """Compare numbers of segments and recommend one; nothing is published.

    The scores are kept as a run of kind ``choose_k``. Labels, model and the recorded definition
    stay as they are. With ``engine = "pushdown"`` the rows stay in the database as in a run;
    otherwise they come to this process. ``spark`` as in :func:`run`.

    Raises
    ------
    DefinitionError
        If they would have to, and ``sample_rows = 0`` lets no row leave the database.
    """
    progress = progress or Progress()
    engine = engine_of(segmentation.engine)
    if isinstance(engine, ServerEngine) and segmentation.sample_rows == 0:
        raise DefinitionError(
            f'choose-k with engine = "{segmentation.engine}" reads the rows here, and '
            'sample_rows = 0 lets none leave the database; use engine = "pushdown", or give '
            "sample_rows"
        )
    here = _to_fit(segmentation, engine, "local")
    plan = Plan.of(here, progress)
    with (
        open_places(here, database, spark) as (database, sources),
        job(database, sources, segmentation, "choose_k", progress, engine=here.engine) as work,
    ):
        with _engine_here(here).open(sources, plan) as rows:
            choice, n_rows, skipped = rows.choose_k()
        seconds = progress.rounded()
        row = {
            "k": choice.recommendation.recommended_k,
            "rows": n_rows,
            "skipped": skipped,
            "recommendation": choice.recommendation.to_dict(),
            "seconds_read": seconds["read"],
            "seconds_fit": seconds["fit"],
        }
        database.store.finish(segmentation, work.run_id, row, choice.to_rows())
    return ChoiceResult(
        segmentation=segmentation.name, run_id=work.run_id, **choice.recommendation.to_dict(),
        scores=choice.to_rows(), rows=n_rows, skipped=skipped, seconds=progress.rounded(),
    )  # fmt: skip


def check(
    segmentation: Segmentation, database: Database, progress: Progress | None = None
) -> int | None:
    """Do what a run does before it fits, and change nothing.

    Returns
    -------
    int or None
        How many rows were looked at; None where there are more than ``CHECKED_ROWS``.

    Raises
    ------
    DataError
        With what would stop a run: columns, types, the target; then NULL and repeated keys; then
        missing, infinite and constant values.
    """
    open_files(database, segmentation)
    here = _to_fit(segmentation, engine_of(segmentation.engine), "pushdown")
    with open_places(here, database) as (database, sources):
        check_segmentation(database, segmentation, sources)
        rows = sources.count(segmentation.source)
        if rows > CHECKED_ROWS:
            return None
        with _engine_here(here).open(sources, Plan.of(here, progress)) as opened:
            opened.check()
    if segmentation.k != "auto" and rows < segmentation.k:
        raise DataError(f"k = {segmentation.k} and the source has {rows:,} rows; lower k")
    return rows


def _to_fit(segmentation: Segmentation, engine: object, name: str) -> Segmentation:
    """The same without what only describes, and with another engine where the server is the
    engine."""
    other = {"engine": name} if isinstance(engine, ServerEngine) else {}
    return segmentation.model_copy(update={"profile": (), **other})


def _engine_here(segmentation: Segmentation) -> Engine:
    engine = engine_of(segmentation.engine)
    assert isinstance(engine, Engine)
    return engine


def _run_on_server(
    engine: ServerEngine, database: Database, segmentation: Segmentation, kind: str,
    progress: Progress,
) -> RunResult:  # fmt: skip
    require_schema(database)
    check_segmentation(database, segmentation)
    run_id, seconds = engine.run(database, segmentation, kind, progress)
    return run_result(database, run_id, seconds)
