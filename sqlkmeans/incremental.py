"""Labels for the customers that changed since the last run; everybody else keeps theirs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.database.base import Database, Sources, StagedCluster
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines import Engine, Plan
from sqlkmeans.engines.base import ClusterLabels
from sqlkmeans.engines.local.labels import ArrayLabels
from sqlkmeans.errors import DatabaseError, NoRows
from sqlkmeans.job import Job
from sqlkmeans.model import SegmentModel
from sqlkmeans.outcome import Before
from sqlkmeans.progress import Progress
from sqlkmeans.publication import Publication, Row

# What has to be as it was, so that labels of the run before are still right for rows that stayed.
_SAME = ("source", "key", "target", "changed_by")
_ENGINES = ("local", "spark")


@dataclass(frozen=True)
class ChangesSeen:
    """The run whose labels are published, and up to where it has seen changes.

    Attributes
    ----------
    run_id : int
    high_water : str
        As :meth:`Sources.high_water` gave it.
    """

    run_id: int
    high_water: str


def last_seen(work: Job) -> ChangesSeen | str:
    """The run to go on from; else, why all rows have to be read."""
    database, segmentation = work.database, work.segmentation
    if segmentation.engine not in _ENGINES:
        return f'engine = "{segmentation.engine}" looks at all of them'
    if segmentation.smallest_group > 1:
        return "sample_rows = 0 tells nothing of fewer customers than min_group"
    if segmentation.guard.action == "refuse":
        return "the guard compares all of them"
    if segmentation.sample_weight is not None:
        return "sample_weight counts in every sum"
    if segmentation.missing == "skip":
        return 'missing = "skip" has to see who lost a feature'
    if database.labels.describe_table(segmentation.target) is None:
        return f"{segmentation.target} is not there"
    newest = database.catalog.published_runs(segmentation.name)[0]
    if newest["kind"] == "rollback":
        return "the run before was a rollback"
    if newest["high_water"] is None:
        return f"run {newest['run_id']} did not record which changes it has seen"
    row = database.catalog.segmentation(segmentation.name) or {}
    if newest["model_run_id"] != row["active_run_id"]:
        return f"run {newest['run_id']} had another model"
    then = Segmentation.from_json(newest["definition"])
    for name in _SAME:
        if getattr(then, name) != getattr(segmentation, name):
            return f"run {newest['run_id']} had another {name}"
    # Each writes marks of its own.
    if "spark" in {then.engine, segmentation.engine} and then.engine != segmentation.engine:
        return f"run {newest['run_id']} had another engine"
    unknown = work.sources.changes_unknown_since(segmentation, newest["high_water"])
    return unknown or ChangesSeen(newest["run_id"], newest["high_water"])


def assign_changes(work: Job, seen: ChangesSeen, engine: Engine, before: Before) -> None:
    """Label what changed and publish it; the sizes of the segments are counted, not their means.

    Raises
    ------
    DataError
        As a run over all rows does, for the rows that changed; and if the source has none at all.
    DatabaseError
        If changes were forgotten while they were read.
    """
    database, segmentation, progress = work.database, work.segmentation, work.progress
    model, model_run_id = before.model, before.model_run_id
    assert model is not None
    assert model_run_id is not None
    found = work.sources.changed_rows(segmentation, seen.high_water)
    changed = segmentation.model_copy(update={"source": found.source, "profile": ()})
    with ExitStack() as opened:
        labelled, notes = _label(opened, engine, work.sources, changed, progress, model)
        # What a clean-up took away meanwhile would be missing now, and would never be read again.
        unknown = work.sources.changes_unknown_since(segmentation, seen.high_water)
        if unknown:
            raise DatabaseError(
                f"{unknown}; that came while the changes were read, and nothing was published: "
                "`sqlkmeans assign` again reads all rows"
            )
        with progress.step("publish"):
            work.stage(labelled)
            read = len(labelled)
            del labelled
            clusters = database.labels.stage_unchanged(
                segmentation, work.run_id, model.segment_ids, model.limits, found.departed
            )
            held = {model.segment_ids[one.cluster]: one for one in clusters}
            total = sum(one.size for one in clusters)
            if not total:
                raise NoRows("the source has no rows; nothing was changed")
            inertia = float(sum(one.within_ss for one in clusters))
            outliers = sum(one.outliers for one in clusters)
            held[EVERYONE] = StagedCluster(-1, total, inertia, outliers)
            told = (
                f"{read:,} of {total:,} rows were read: those that changed since run "
                f"{seen.run_id}; what segment_feature says is that run's"
            )
            work.publish(
                Publication(
                    run_id=work.run_id,
                    segment_ids=list(model.segment_ids),
                    model_run_id=model_run_id,
                    run={
                        "k": len(model.segment_ids), "rows": total, "skipped": 0,
                        "inertia": inertia, "warnings": [told, *notes],
                        "outliers": outliers if model.limits else None,
                    },
                    tables=_carried_over(database, seen.run_id, held, bool(model.limits)),
                    last_segment_id=before.last_segment_id,
                    distance_tolerance=0.0,
                    outlier_distances=model.limits,
                )
            )  # fmt: skip


def _label(
    opened: ExitStack, engine: Engine, sources: Sources, changed: Segmentation,
    progress: Progress, model: SegmentModel,
) -> tuple[ClusterLabels, list[str]]:  # fmt: skip
    """Labels of the rows that changed, until ``opened`` is closed, and notes about the rows."""
    try:
        rows = opened.enter_context(engine.open(sources, Plan.of(changed, progress, model.columns)))
        return rows.label(model).labels, rows.notes()
    except NoRows:
        return _nobody(changed), []


def _nobody(segmentation: Segmentation) -> ClusterLabels:
    keys = pa.table({name: pa.nulls(0) for name in segmentation.key})
    return ArrayLabels(keys, np.zeros(0, np.int32), lambda: np.zeros(0))


def _carried_over(
    database: Database, run_id: int, held: dict[int, StagedCluster], limited: bool
) -> dict[str, list[Row]]:
    """What the run before said of its segments, with the sizes of now."""
    tables: dict[str, list[Row]] = {}
    total, nobody = held[EVERYONE].size, StagedCluster(-1, 0, 0.0, 0)
    for name in ("segment", "segment_feature", "segment_profile"):
        rows = database.catalog.result(name, run_id)
        tables[name] = [{k: v for k, v in row.items() if k != "run_id"} for row in rows]
    for row in tables["segment"]:
        of_segment = held.get(row["segment_id"], nobody)
        row["size"], row["within_ss"] = of_segment.size, of_segment.within_ss
        row["outliers"] = of_segment.outliers if limited else None
        row["share"] = row["size"] / total
    return tables
