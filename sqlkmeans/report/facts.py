"""All that the page says, read from the tables: aggregates, and a sample where one is wanted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sqlkmeans.clustering.describing.naming import is_share, one_row_each
from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.registry import load_segmentation

Row = dict[str, Any]
#: From segment, to segment, customers; None as a segment: not there.
Flow = tuple[int | None, int | None, int]

#: Customers read for the histograms; the first of them are the scatter's.
SAMPLE_ROWS = 20_000
LOG_ROWS = 20
#: Outliers that are listed.
OUTLIERS = 20
#: Runs among which the newest of a kind are looked for.
MOST_RUNS = 1000


@dataclass(frozen=True)
class Movement:
    """Where customers went since the published run before.

    Attributes
    ----------
    before : dict or None
        That run's row.
    flows : list of Flow
        Those who stayed are in it; empty where ``why_not`` says why.
    names_before : dict of int to str
        The names of its segments.
    why_not : str
    """

    before: Row | None
    flows: list[Flow]
    names_before: dict[int, str]
    why_not: str = ""


@dataclass(frozen=True)
class Choice:
    """A choice of k: its run, the scores of each k, and what came of it."""

    run: Row
    scores: list[Row]

    @property
    def recommendation(self) -> Row:
        """``structure``, ``recommended_k``, ``runner_up_k`` and ``reason``; empty where none was
        stored."""
        return dict(json.loads(self.run["recommendation"] or "{}"))


@dataclass(frozen=True)
class Sample:
    """Labelled customers drawn at random, without their keys.

    Attributes
    ----------
    rows : pyarrow.Table or None
        Number columns as float64, and ``segment_id``.
    why_not : str
        Why there is none.
    """

    rows: pa.Table | None
    why_not: str = ""


@dataclass(frozen=True)
class Facts:
    """A segmentation as it is published now.

    Attributes
    ----------
    segmentation : Segmentation
        The definition of the run that made the labels.
    run : dict
        The newest published run: a fit, an assign, or a rollback.
    described : dict
        The run whose rows describe the labels: ``run``, or the one that a rollback restored.
    features : list of dict
        Rows of ``model_feature``.
    everyone : dict
        Row 0 of ``segment``.
    segments : list of dict
        Its other rows.
    profiles : dict of (segment_id, position) to dict
        Rows of ``segment_feature``.
    columns : dict of (segment_id, position) to dict
        Rows of ``segment_profile``.
    centroids : dict of (segment_id, position) to dict
    typical : dict of segment_id to list of dict
        Rows of ``typical_customer``; none where samples are off.
    farthest : list of (str, int, float)
        The outliers that are farthest: the key's values, segment, distance; none where samples
        are off.
    drift : list of dict
        Rows of ``feature_drift``.
    movement : Movement
    choice : Choice or None
    log : list of dict
        The newest runs, newest first.
    failed : int
        Attempts that failed since the oldest of them and are not in it.
    sample : Sample
    """

    segmentation: Segmentation
    run: Row
    described: Row
    features: list[Row]
    everyone: Row
    segments: list[Row]
    profiles: dict[tuple[int, int], Row]
    columns: dict[tuple[int, int], Row]
    centroids: dict[tuple[int, int], Row]
    typical: dict[int, list[Row]]
    farthest: list[tuple[str, int, float]]
    drift: list[Row]
    movement: Movement
    choice: Choice | None
    log: list[Row]
    failed: int
    sample: Sample

    @property
    def shown(self) -> list[Row]:
        """The features that have a row or a picture: of a boolean one."""
        return one_row_each(self.features)

    @property
    def shares(self) -> list[Row]:
        """Those whose means are shares of the customers."""
        return [feature for feature in self.features if self.is_share(feature)]

    def is_share(self, feature: Row) -> bool:
        """Whether a feature's means are shares of the customers."""
        return is_share(feature, self.profiles.get((EVERYONE, feature["position"])))


def read_facts(database: Database, name: str, *, samples: bool, failed: bool) -> Facts:
    """Read a segmentation's page from its tables.

    Parameters
    ----------
    database : Database
    name : str
    samples : bool
        Whether single customers may be read; without them, only aggregates are. Never where
        the definition has ``sample_rows = 0``.
    failed : bool
        Whether the log has attempts that failed.

    Raises
    ------
    DefinitionError
        If no segmentation of that name was ever run.
    DataError
        If none of its runs was published.
    """
    load_segmentation(database, name)
    catalog = database.catalog
    published = catalog.published_runs(name)
    if not published:
        raise DataError(f"{name}: no published run yet; `sqlkmeans run` makes one")
    run = published[0]
    described = catalog.run(run["restored_run_id"] or run["run_id"]) or run
    run_id = described["run_id"]
    segmentation = Segmentation.from_json(described["definition"])
    # Where the definition lets no row leave the database, the page does not either.
    samples = samples and segmentation.sample_rows > 0
    features = catalog.result("model_feature", run["model_run_id"])
    segments = {row["segment_id"]: row for row in catalog.result("segment", run_id)}
    typical: dict[int, list[Row]] = {}
    for row in catalog.result("typical_customer", run_id) if samples else []:
        typical.setdefault(row["segment_id"], []).append(row)
    return Facts(
        segmentation=segmentation,
        run=run,
        described=described,
        features=features,
        everyone=segments.pop(EVERYONE),
        segments=list(segments.values()),
        profiles=_by_segment_and_position(catalog.result("segment_feature", run_id)),
        columns=_by_segment_and_position(catalog.result("segment_profile", run_id)),
        centroids=_by_segment_and_position(catalog.result("centroid", run["model_run_id"])),
        typical=typical,
        farthest=_farthest(database, segmentation, segments) if samples else [],
        drift=catalog.result("feature_drift", run_id),
        movement=_movement(database, segmentation, published),
        choice=_choice(database, name, run["model_run_id"]),
        **_log(database, name, failed),
        sample=(
            _sample(database, segmentation, features, list(segments))
            if samples
            else Sample(None, "This page was written without samples: it holds no single customer.")
        ),
    )


def _farthest(
    database: Database, segmentation: Segmentation, segments: dict[int, Row]
) -> list[tuple[str, int, float]]:
    if not any(row["outliers"] for row in segments.values()):
        return []
    return [
        (", ".join(map(_text, key)), segment_id, distance)
        for key, segment_id, distance in database.labels.farthest(segmentation, OUTLIERS)
        # Another run may have been published since.
        if segment_id in segments
    ]


def _text(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)


def _log(database: Database, name: str, failed: bool) -> dict[str, Any]:
    runs = database.catalog.runs(name, MOST_RUNS)
    log = [row for row in runs if failed or row["status"] != "failed"][:LOG_ROWS]
    since = runs[: runs.index(log[-1])] if log else runs
    return {"log": log, "failed": sum(row not in log for row in since)}


def _by_segment_and_position(rows: list[Row]) -> dict[tuple[int, int], Row]:
    return {(row["segment_id"], row["position"]): row for row in rows}


def _movement(database: Database, segmentation: Segmentation, published: list[Row]) -> Movement:
    if len(published) < 2:
        return Movement(None, [], {}, "There is one published run only, so nobody moved yet.")
    after, before = published[:2]
    then = Segmentation.from_json(before["definition"])
    described_by = before["restored_run_id"] or before["run_id"]
    names = {r["segment_id"]: r["name"] for r in database.catalog.result("segment", described_by)}
    if (then.target, then.key) != (segmentation.target, segmentation.key):
        return Movement(before, [], names, f"Run {before['run_id']} wrote {then.target}.")
    try:
        flows = database.labels.movement(segmentation, before["run_id"], after["run_id"])
    except DataError as error:
        return Movement(before, [], names, f"{error}.")
    held = sum(customers for from_segment_id, _, customers in flows if from_segment_id)
    if held != before["rows"]:
        # The history is purged, or the target was made anew since.
        return Movement(
            before, [], names,
            f"The history holds {held:,} of the {before['rows']:,} labels of run "
            f"{before['run_id']}.",
        )  # fmt: skip
    return Movement(before, flows, names)


def _choice(database: Database, name: str, model_run_id: int) -> Choice | None:
    """The choice of k that the model's run made; else the newest made on its own."""
    catalog = database.catalog
    chosen = [row for row in catalog.runs(name, MOST_RUNS) if row["kind"] == "choose_k"]
    made_it = catalog.run(model_run_id)
    for run in ([made_it] if made_it else []) + chosen:
        scores = catalog.result("k_score", run["run_id"])
        if scores:
            return Choice(run, scores)
    return None


def _sample(
    database: Database, segmentation: Segmentation, features: list[Row], segment_ids: list[int]
) -> Sample:
    try:
        known = {column.name: column.kind for column in database.describe(segmentation.source)}
        numbers = dict.fromkeys(
            column
            for row in features
            if row["type"] == "number"
            and known.get(column := row["source_column"] or row["feature"]) in ("number", "boolean")
        )
        if not numbers:
            return Sample(None, "No feature is a number, so no customer can be drawn.")
        rows = database.labels.sample(segmentation, list(numbers), SAMPLE_ROWS)
    except DataError as error:
        if segmentation.engine == "spark":
            return Sample(None, "Spark reads the source, so no customer is drawn.")
        return Sample(None, f"The source cannot be read now, so no customer is drawn: {error}.")
    # Another run may be published while this one is read.
    rows = rows.filter(pc.is_in(rows.column("segment_id"), pa.array(segment_ids, pa.int32())))
    return Sample(rows) if rows.num_rows else Sample(None, "No labelled customer is in the source.")
