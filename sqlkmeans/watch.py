"""A run beside the one before: what is compared, and what the guard says to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlkmeans.clustering.comparing.compare import Movement, RunFacts, compare
from sqlkmeans.clustering.describing.bins import bins_from_rows
from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation

REFIT = "a refit is due: "


@dataclass(frozen=True)
class Watched:
    """What a run row and its tables say of the comparison.

    Attributes
    ----------
    run : dict
        Columns of the run's row.
    drift : list of dict
        Rows of ``feature_drift``.
    warnings : list of str
    """

    run: dict[str, Any]
    drift: list[dict[str, Any]]
    warnings: list[str]


def last_run(database: Database, segmentation: str) -> RunFacts | None:
    """The run whose labels are published now; None before the first."""
    runs = database.catalog.published_runs(segmentation)
    return run_facts(database, runs[0]["restored_run_id"] or runs[0]["run_id"]) if runs else None


def run_facts(database: Database, run_id: int) -> RunFacts | None:
    """What of a published run the next one is compared with."""
    row = database.catalog.run(run_id)
    if row is None:
        return None
    return RunFacts(
        run_id=run_id,
        rows=row["rows"],
        k=row["k"],
        silhouette=row["silhouette"],
        mean_distance=row["mean_distance"],
        definition=json.loads(row["definition"]),
        bins=bins_from_rows(database.catalog.result("feature_bin", run_id)),
        means={
            feature["feature"]: feature["mean"]
            for feature in database.catalog.result("segment_feature", run_id)
            if feature["segment_id"] == EVERYONE
        },
    )


def watch(
    segmentation: Segmentation, now: RunFacts, before: RunFacts | None, movement: Movement
) -> Watched:
    """Compare a fit with the run before it.

    Raises
    ------
    DataError
        If something is beyond a threshold and the guard's action is ``refuse``.
    """
    if before is None:
        return Watched({}, [], [])
    found = compare(now, before, movement, segmentation.guard.model_dump())
    return Watched(found.run, found.drift, found.alarms + found.notes)


def watch_labels(
    segmentation: Segmentation,
    now: RunFacts,
    fit: RunFacts,
    movement: Movement,
    arrived_before: int,
) -> Watched:
    """Compare labels that a stored model gave with the run that fitted it.

    Parameters
    ----------
    segmentation : Segmentation
    now, fit : RunFacts
    movement : Movement
        Since the last publication.
    arrived_before : int
        Customers that came between the fit and that publication.

    Raises
    ------
    DataError
        If something is beyond a threshold and the guard's action is ``refuse``.
    """
    found = compare(now, fit, movement, segmentation.guard.model_dump())
    warnings = list(found.alarms)
    arrived = arrived_before + now.rows - movement.moved - movement.stayed
    share = arrived / max(1, now.rows)
    if share > segmentation.guard.rows:
        warnings.append(
            f"{arrived:,} customers arrived since run {fit.run_id}, and {now.rows:,} are there "
            f"({share:.0%}, allowed {segmentation.guard.rows:.0%})"
        )
    return Watched(found.run, found.drift, [REFIT + text for text in warnings] + found.notes)
