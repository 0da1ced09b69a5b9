"""The line from customer rows to a segment table: run, assign, choose_k, rollback, rename, drop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from sqlkmeans.clustering.choosing.choose_k import KChoice
from sqlkmeans.clustering.comparing.compare import Movement, movement
from sqlkmeans.clustering.comparing.stable_ids import Previous, match_segments
from sqlkmeans.clustering.describing.describe import distance_tolerance
from sqlkmeans.clustering.preparation.preparation import features_from_definition
from sqlkmeans.corrections import drop, rename, rollback
from sqlkmeans.database import Database, Publication
from sqlkmeans.database.checks import check_segmentation
from sqlkmeans.definition import Segmentation
from sqlkmeans.description import describe
from sqlkmeans.engines import Engine, Fit, open_engine, open_rows
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError, SqlKMeansError
from sqlkmeans.incremental import Seen, assign_changes, last_seen
from sqlkmeans.model import SegmentModel
from sqlkmeans.progress import Progress
from sqlkmeans.registry import (
    client_row,
    load_run_model,
    run_result,
    stored_model,
)
from sqlkmeans.result import ChoiceResult, RunResult
from sqlkmeans.watch import last_run, run_facts, watch, watch_labels

__all__ = ["assign", "choose_k", "drop", "rename", "rollback", "run"]

#: Engines that are the server itself.
INSIDE = ("in_database", "tsql")
#: Rows that `doctor` looks at: it is to answer soon.
CHECKED_ROWS = 1_000_000


def run(
    segmentation: Segmentation, database: Database, progress: Progress | None = None
) -> RunResult:
    """Read, cluster and publish a segmentation.

    Raises
    ------
    SqlKMeansError
        The published labels are then what they were before, and so they are after any other
        end, a killed process among them.
    """
    progress = progress or Progress()
    # The day on which dates are aged, from the start: a run may go past midnight.
    today = datetime.now(timezone.utc).date()
    if segmentation.engine in INSIDE:
        return _run_inside(database, segmentation, "fit", progress)
    asked = None if segmentation.k == "auto" else segmentation.k
    with ExitStack() as stack:
        run_id = stack.enter_context(_recorded_run(database, segmentation, "fit", k=asked))
        seen = _high_water(database, segmentation)
        engine = stack.enter_context(
            _opened(database, segmentation, segmentation.columns, progress, to_fit=True)
        )
        with progress.step("fit") as engine.passed:
            fit = engine.fit(segmentation, segmentation.to_features(), today)
        with progress.step("assign"):
            before = last_run(database, segmentation.name)
            engine.look_at_rows(before.bins if before else ())
            engine.stage(database, segmentation, run_id)
            segment_ids, moves = _follow(database, segmentation, run_id, fit)
            stack.enter_context(database.loading(segmentation, run_id, segment_ids))
            found = describe(engine, segmentation, before, new_bins=True)
            # Publishing wants memory of its own.
            engine.let_go()
        with progress.step("publish"):
            watched = watch(segmentation, found.facts(run_id, segmentation), before, moves)
            tables = found.tables(database, segmentation, segment_ids, moves.shifts)
            names = {row["segment_id"]: row["name"] for row in tables["segment"]}
            model = SegmentModel(
                fit.preparation, fit.centroids, tuple(segment_ids),
                tuple(names[segment_id] for segment_id in segment_ids),
            )  # fmt: skip
            warnings = found.warnings(segment_ids) + fit.findings + watched.warnings
            warnings += [*engine.notes, *database.publish_notes(segmentation, engine.rows)]
            database.publish(
                segmentation,
                Publication(
                    run_id=run_id,
                    segment_ids=segment_ids,
                    model_run_id=run_id,
                    run={**found.run_row(), **watched.run, **seen, "n_iter": fit.n_iter,
                         "warnings": json.dumps(warnings), **_recommendation(fit.choice),
                         **_seconds(progress)},
                    tables={**model.to_rows(), **tables, "feature_drift": watched.drift,
                            "k_score": fit.choice.to_rows() if fit.choice else []},
                    last_segment_id=max(_last_segment_id(database, segmentation), *segment_ids),
                    distance_tolerance=distance_tolerance(engine.inertia, engine.weight),
                ),
            )  # fmt: skip
    return run_result(database, run_id, progress.rounded())


def assign(
    segmentation: Segmentation, database: Database, progress: Progress | None = None
) -> RunResult:
    """Label new, changed and departed customers with the stored model; nothing is refitted.

    Raises
    ------
    DefinitionError
        If the features are not those of the model.
    DataError
        If there is no model yet.
    """
    progress = progress or Progress()
    require_schema(database)
    _active_model(database, segmentation)
    if segmentation.engine in INSIDE:
        return _run_inside(database, segmentation, "assign", progress)
    with _recorded_run(database, segmentation, "assign") as run_id:
        # Again, now that the lock keeps another run from publishing a new one.
        model, model_run_id = _active_model(database, segmentation)
        seen = _high_water(database, segmentation)
        before = last_seen(database, segmentation, model_run_id) if seen else None
        if isinstance(before, Seen):
            with open_engine(segmentation.engine) as engine:
                changes = assign_changes(
                    database, segmentation, model, model_run_id, run_id, before, engine, progress
                )
                with progress.step("publish"):
                    last = _last_segment_id(database, segmentation)
                    changes = replace(changes, run={**changes.run, **seen}, last_segment_id=last)
                    database.publish(segmentation, changes)
            return run_result(database, run_id, progress.rounded())
        read_all = [f"all rows were read: {before}"] if before else []
        with _opened(database, segmentation, model.columns, progress) as engine:
            with progress.step("assign"):
                engine.label(model.preparation, model.centroids)
                fit = run_facts(database, model_run_id)
                assert fit is not None
                engine.look_at_rows(fit.bins)
                engine.stage(database, segmentation, run_id)
                found = describe(engine, segmentation, fit, new_bins=False)
                engine.let_go()
            segment_ids = list(model.segment_ids)
            with progress.step("publish"):
                overlap = database.overlap(segmentation, run_id)
                moves = movement(overlap, segment_ids, model.centroids, segment_ids, None)
                watched = watch_labels(
                    segmentation, found.facts(run_id, segmentation), fit, moves,
                    _arrived_since(database, segmentation, model_run_id),
                )  # fmt: skip
                warnings = [*found.warnings(segment_ids), *watched.warnings, *engine.notes]
                warnings += database.publish_notes(segmentation, engine.rows)
                database.publish(
                    segmentation,
                    Publication(
                        run_id=run_id,
                        segment_ids=segment_ids,
                        model_run_id=model_run_id,
                        run={**found.run_row(), **watched.run, **seen,
                             "warnings": json.dumps([*warnings, *read_all]), **_seconds(progress)},
                        tables={**found.tables(database, segmentation, segment_ids, {}),
                                "feature_drift": watched.drift},
                        last_segment_id=_last_segment_id(database, segmentation),
                        distance_tolerance=0.0,
                    ),
                )  # fmt: skip
    return run_result(database, run_id, progress.rounded())


def choose_k(
    segmentation: Segmentation, database: Database, progress: Progress | None = None
) -> ChoiceResult:
    """Compare numbers of segments and recommend one; nothing is published.

    The scores are kept as a run of kind ``choose_k``. Labels, model and the recorded definition
    stay as they are. With ``engine = "pushdown"`` the rows stay in the database as in a run;
    otherwise they come to this process.

    Raises
    ------
    DefinitionError
        If they would have to, and ``sample_rows = 0`` lets no row leave the database.
    """
    progress = progress or Progress()
    today = datetime.now(timezone.utc).date()
    name = "pushdown" if segmentation.engine == "pushdown" else "local"
    if name == "local" and segmentation.sample_rows == 0:
        raise DefinitionError(
            f'choose-k with engine = "{segmentation.engine}" reads the rows here, and '
            'sample_rows = 0 lets none leave the database; use engine = "pushdown", or give '
            "sample_rows"
        )
    here = segmentation.model_copy(update={"engine": name})
    with (
        _recorded_run(database, segmentation, "choose_k", engine=name) as run_id,
        _opened(database, here, segmentation.columns, progress) as engine,
    ):
        with progress.step("fit") as engine.passed:
            choice = engine.choose_k(segmentation, segmentation.to_features(), today)
        seconds = progress.rounded()
        row = {
            "k": choice.recommendation.recommended_k,
            "rows": engine.rows,
            "skipped": engine.skipped,
            **_recommendation(choice),
            "seconds_read": seconds["read"],
            "seconds_fit": seconds["fit"],
        }
        database.finish_choice(segmentation, run_id, row, choice.to_rows())
    return ChoiceResult(
        segmentation=segmentation.name, run_id=run_id, **choice.recommendation.to_dict(),
        scores=choice.to_rows(), rows=engine.rows, skipped=engine.skipped,
        seconds=progress.rounded(),
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
    progress = progress or Progress()
    database.open_files(segmentation.source)
    check_segmentation(database, segmentation)
    rows = database.count(segmentation.source)
    if rows > CHECKED_ROWS:
        return None
    if segmentation.engine in INSIDE:
        segmentation = segmentation.model_copy(update={"engine": "pushdown"})
    with _opened(database, segmentation, segmentation.columns, progress) as engine:
        today = datetime.now(timezone.utc).date()
        engine.check(segmentation, segmentation.to_features(), today)
    if segmentation.k != "auto" and rows < segmentation.k:
        raise DataError(f"k = {segmentation.k} and the source has {rows:,} rows; lower k")
    return rows


@contextmanager
def _recorded_run(
    database: Database, segmentation: Segmentation, kind: str, **row: Any
) -> Iterator[int]:
    """Lock, check, and a run row that tells how it ended."""
    database.open_files(segmentation.source)
    require_schema(database)
    with database.lock(segmentation.name):
        check_segmentation(database, segmentation)
        row = {"kind": kind, "engine": segmentation.engine, **row, **client_row()}
        run_id = database.start_run(segmentation, row)
        try:
            yield run_id
        except BaseException as error:
            told = _without_rows(error) if segmentation.smallest_group > 1 else error
            database.fail_run(run_id, _told(told))
            if told is not error:
                raise told from None
            raise


def _run_inside(
    database: Database, segmentation: Segmentation, kind: str, progress: Progress
) -> RunResult:
    """A run that the server does by itself, its lock and its run row included."""
    require_schema(database)
    check_segmentation(database, segmentation)
    with progress.step("on the server"):
        run_id = database.run_inside(segmentation, kind)
    # Only the server knows how long each step took; in total it took what passed here.
    run = database.catalog.run(run_id) or {}
    steps = ("read", "fit", "assign", "publish")
    seconds = {step: float(run.get(f"seconds_{step}") or 0) for step in steps}
    return run_result(database, run_id, {**seconds, "total": progress.rounded()["total"]})


def _without_rows(error: BaseException) -> BaseException:
    """The same without words of the database, which may quote the row that it stopped at."""
    ours = isinstance(error, SqlKMeansError)
    cause = error.__context__ if ours else error
    if not isinstance(cause, Exception) or isinstance(cause, SqlKMeansError):
        return error
    kind = type(error) if isinstance(error, SqlKMeansError) else DatabaseError
    told = kind(
        f"the database stopped ({type(cause).__name__}); what it says is not shown, because it may "
        "quote a row, and sample_rows = 0 lets none leave the database: run the source's SELECT "
        "there"
    )
    return told.with_traceback(error.__traceback__)


def _told(error: BaseException) -> str:
    if isinstance(error, SqlKMeansError):
        return str(error)
    return (
        "interrupted"
        if isinstance(error, KeyboardInterrupt)
        else f"{type(error).__name__}: {error}"
    )


def require_schema(database: Database) -> None:
    """Refuse a database without schema ``sqlkmeans``; one that makes it itself gets it."""
    if database.installs_itself:
        database.install()
    elif not database.schema_version():
        raise DatabaseError(
            "schema sqlkmeans is not in this database; `sqlkmeans install` makes it"
        )


@contextmanager
def _opened(
    database: Database, segmentation: Segmentation, columns: list[str], progress: Progress, *,
    to_fit: bool = False,
) -> Iterator[Engine]:  # fmt: skip
    rows = database.count(segmentation.source)
    with progress.step("read", total=rows) as advance:
        engine = open_rows(database, segmentation, columns, advance, to_fit=rows if to_fit else 0)
    with engine:
        yield engine


def _follow(
    database: Database, segmentation: Segmentation, run_id: int, fit: Fit
) -> tuple[list[int], Movement]:
    """The segment id of each new cluster, and who moved since the run before."""
    model = stored_model(database, segmentation.name)
    last = _last_segment_id(database, segmentation)
    if model is None:
        return match_segments(fit.centroids, Previous((), None, last)), Movement(0, 0)
    centroids = model.centroids_in(fit.preparation)
    previous = Previous(model.segment_ids, centroids, last)
    overlap = database.overlap(segmentation, run_id)
    segment_ids = match_segments(fit.centroids, previous, overlap)
    moves = movement(overlap, segment_ids, fit.centroids, model.segment_ids, centroids)
    return segment_ids, moves


def _arrived_since(database: Database, segmentation: Segmentation, run_id: int) -> int:
    """Customers that came with the runs published after one."""
    later = database.catalog.published_runs(segmentation.name)
    return sum(row["arrived"] or 0 for row in later if row["run_id"] > run_id)


def _seconds(progress: Progress) -> dict[str, float]:
    seconds = progress.rounded()
    return {f"seconds_{step}": seconds[step] for step in ("read", "fit", "assign")}


def _recommendation(choice: KChoice | None) -> dict[str, Any]:
    """What the run row keeps of a choice of k."""
    return {"recommendation": json.dumps(choice.recommendation.to_dict())} if choice else {}


def _high_water(database: Database, segmentation: Segmentation) -> dict[str, Any]:
    """What the run's row keeps of the changes that it is about to see; before it reads."""
    if segmentation.changed_by is None:
        return {}
    return {"high_water": database.high_water(segmentation)}


def _last_segment_id(database: Database, segmentation: Segmentation) -> int:
    row = database.catalog.segmentation(segmentation.name)
    return int(row["last_segment_id"]) if row else 0


def _active_model(database: Database, segmentation: Segmentation) -> tuple[SegmentModel, int]:
    """The model in force and its run, if it is for the features of the definition."""
    row = database.catalog.segmentation(segmentation.name) or {}
    run_id = row.get("active_run_id")
    if run_id is None:
        raise DataError(f"{segmentation.name}: no model yet; `sqlkmeans run` makes one")
    model = load_run_model(database, run_id)
    fitted = json.loads((database.catalog.run(run_id) or {})["definition"])
    if segmentation.to_features() != features_from_definition(fitted):
        raise DefinitionError(
            f"{segmentation.name}: the features are not those of the stored model, or not "
            f"prepared as there ({', '.join(model.columns)}); `sqlkmeans run` fits a new one"
        )
    for key in ("scaling", "missing"):
        now, then = getattr(segmentation, key), getattr(model.preparation, key)
        if now != then:
            raise DefinitionError(
                f"{segmentation.name}: {key} is {now!r} and the stored model has {then!r}; "
                "`sqlkmeans run` fits a new one"
            )
    return model, run_id
