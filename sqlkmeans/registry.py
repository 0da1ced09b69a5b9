"""Between the rows of schema ``sqlkmeans`` and the objects that the pipeline works with."""

from __future__ import annotations

import getpass
import json
import platform
from dataclasses import replace
from importlib import metadata
from typing import Any

from sqlkmeans.clustering.comparing.compare import RunFacts
from sqlkmeans.clustering.describing.bins import bins_from_rows
from sqlkmeans.clustering.describing.naming import feature_titles, is_share, one_row_each
from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.clustering.describing.profile_columns import column_title
from sqlkmeans.clustering.describing.remedy import Steps, steps_from_rows
from sqlkmeans.clustering.preparation.preparation import (
    features_from_definition,
    units_from_definition,
)
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.model import SegmentModel
from sqlkmeans.outcome import Before
from sqlkmeans.result import FeatureResult, RunResult, SegmentResult

Row = dict[str, Any]

_LIBRARIES = ("numpy", "scikit-learn", "pyarrow", "sqlalchemy", "duckdb", "mssql-python", "pyodbc")


def load_segmentation(database: Database, name: str) -> Segmentation:
    """The registered definition of a segmentation.

    Raises
    ------
    DefinitionError
        If none of that name was ever run.
    """
    return Segmentation.from_json(_registered(database, name)["definition"])


def _registered(database: Database, name: str) -> Row:
    row = database.catalog.segmentation(name) if database.schema_version() else None
    if row is None:
        known = database.catalog.segmentations() if database.schema_version() else []
        names = ", ".join(row["name"] for row in known) or "none yet; run a definition file first"
        raise DefinitionError(f"segmentation {name}: not in this database (it has: {names})")
    return row


def load_model(name: str, database: Database) -> SegmentModel:
    """The model in force of a segmentation: what ``predict`` labels new rows with.

    Parameters
    ----------
    name : str
        The segmentation.
    database : Database

    Raises
    ------
    DefinitionError
        If there is no such segmentation.
    DataError
        If none of its runs was published.
    """
    _registered(database, name)
    model = stored_model(database, name)
    if model is None:
        raise DataError(f"{name}: no model yet; `sqlkmeans run` makes one")
    return model


def load_steps(name: str, database: Database) -> dict[int, Steps]:
    """Which new values make sense of each feature, by what the fit in force saw of it."""
    run_id = _registered(database, name)["active_run_id"]
    return steps_from_rows(database.catalog.result("segment_feature", run_id or 0))


def stored_model(database: Database, name: str) -> SegmentModel | None:
    """The same; None before the first published run."""
    row = database.catalog.segmentation(name)
    if row is None or row["active_run_id"] is None:
        return None
    return load_run_model(database, row["active_run_id"])


def load_run_model(database: Database, run_id: int) -> SegmentModel:
    """The model that a run made."""
    catalog = database.catalog
    run = catalog.run(run_id)
    if run is None:
        raise DataError(f"run {run_id}: no such run")
    names = {row["segment_id"]: row["name"] for row in catalog.result("segment", run_id)}
    try:
        definition = json.loads(run["definition"])
        return SegmentModel.from_rows(
            catalog.result("model_feature", run_id),
            catalog.result("centroid", run_id),
            names,
            scaling=definition["scaling"],
            missing=definition["missing"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"run {run_id}: its model cannot be read: {error}") from None


def read_before(database: Database, name: str) -> Before:
    """What stands when a run of a segmentation begins; the run to compare with is the one whose
    labels are published now."""
    runs = database.catalog.published_runs(name)
    run = run_facts(database, runs[0]["restored_run_id"] or runs[0]["run_id"]) if runs else None
    return _before(database, name, run)


def _before(database: Database, name: str, run: RunFacts | None) -> Before:
    row = database.catalog.segmentation(name) or {}
    return Before(
        run=run,
        model=stored_model(database, name),
        model_run_id=row.get("active_run_id"),
        given=database.catalog.given_names(name),
        last_segment_id=int(row.get("last_segment_id") or 0),
    )


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
        outliers=row["outliers"],
    )


def read_model(database: Database, segmentation: Segmentation) -> Before:
    """The model in force, which has to be for the features of the definition; no run to compare
    with.

    Raises
    ------
    DefinitionError
        If it is for others, or prepares them otherwise.
    DataError
        If there is none yet.
    """
    before = _before(database, segmentation.name, None)
    model = before.model
    if model is None or before.model_run_id is None:
        raise DataError(f"{segmentation.name}: no model yet; `sqlkmeans run` makes one")
    fitted = json.loads((database.catalog.run(before.model_run_id) or {})["definition"])
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
    return before


def with_its_fit(database: Database, name: str, before: Before) -> Before:
    """The same with what new labels are compared with: the run that fitted the model, and who came
    since."""
    fitted = before.model_run_id
    assert fitted is not None
    later = database.catalog.published_runs(name)
    arrived = sum(row["arrived"] or 0 for row in later if row["run_id"] > fitted)
    return replace(before, run=run_facts(database, fitted), arrived=arrived)


def client_row() -> Row:
    """Who runs, with which libraries: columns of the run row."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "unknown"
    return {"library_versions": versions, "client": f"{user}@{platform.node()}"}


def run_result(database: Database, run_id: int, seconds: dict[str, float]) -> RunResult:
    """What a published run has to say, read back from its rows."""
    run = database.catalog.run(run_id)
    assert run is not None
    described_by = run["restored_run_id"] or run_id
    centroids: dict[int, dict[str, float]] = {}
    for row in database.catalog.result("centroid", run["model_run_id"]):
        centroids.setdefault(row["segment_id"], {})[row["feature"]] = row["value"]
    described = database.catalog.result("segment", described_by)
    segments = [
        SegmentResult(
            row["segment_id"], row["name"], row["description"], row["size"], row["share"],
            centroids.get(row["segment_id"], {}), row["outliers"],
        )
        for row in described
        if row["segment_id"] != EVERYONE
    ]  # fmt: skip
    scores = ("silhouette", "davies_bouldin", "calinski_harabasz")
    plain = ("kind", "engine", "k", "rows", "skipped", "changed", "arrived", "moved", "departed",
             "written", "inertia", "n_iter", "compared_run_id", "mean_distance",
             "centroid_shift")  # fmt: skip
    drift = [
        {name: value for name, value in row.items() if name not in ("run_id", "position")}
        for row in database.catalog.result("feature_drift", run_id)
    ]
    profile = [
        {name: value for name, value in row.items() if name != "run_id"}
        for row in database.catalog.result("segment_profile", described_by)
    ]
    return RunResult(
        segmentation=run["segmentation"],
        run_id=run_id,
        **{name: run[name] for name in plain},
        scores={name: run[name] for name in scores},
        segments=segments,
        target=json.loads(run["definition"])["target"],
        seconds=seconds,
        warnings=json.loads(run["warnings"] or "[]"),
        recommendation=json.loads(run["recommendation"] or "null"),
        drift=drift,
        features=_features(database, run, described_by),
        profile=profile,
        outliers=next((r["outliers"] for r in described if r["segment_id"] == EVERYONE), None),
    )


def _features(database: Database, run: Row, described_by: int) -> list[FeatureResult]:
    rows: dict[int, list[Row]] = {}
    for row in database.catalog.result("segment_feature", described_by):
        rows.setdefault(row["position"], []).append(row)
    fitted = database.catalog.result("model_feature", run["model_run_id"])
    shown = one_row_each(fitted)
    everyone = {
        position: next((row for row in of if row["segment_id"] == EVERYONE), None)
        for position, of in rows.items()
    }
    units = units_from_definition(json.loads(run["definition"]))
    return [
        FeatureResult(
            feature["source_column"] or feature["feature"],
            title,
            is_share(feature, everyone.get(feature["position"])),
            {row["segment_id"]: row["mean"] for row in rows.get(feature["position"], [])},
            {row["segment_id"]: row["importance"] for row in rows.get(feature["position"], [])},
        )
        for feature, title in zip(fitted, feature_titles(fitted, units))
        if feature in shown
    ]


def segment_table(database: Database, name: str) -> list[Row]:
    """The segments as they are published now: everyone, as segment 0, then each.

    Returns
    -------
    list of dict
        ``segment_id``, ``name``, ``size``, ``share``, ``rule``, where the model has limits
        ``outliers``, and each feature's mean by its title, such as ``joined (days)`` or
        ``city = Oslo``; then that of each ``profile`` column, of a level the share.

    Raises
    ------
    DefinitionError
        If there is no such segmentation.
    DataError
        If none of its runs was published.
    """
    _registered(database, name)
    published = database.catalog.published_runs(name)
    if not published:
        raise DataError(f"{name}: no published run yet; `sqlkmeans run` makes one")
    newest = published[0]
    described_by = newest["restored_run_id"] or newest["run_id"]
    columns: dict[str, dict[int, float | None]] = {
        feature.title: feature.means for feature in _features(database, newest, described_by)
    }
    for row in database.catalog.result("segment_profile", described_by):
        value = row["mean"] if row["level"] is None else row["share"]
        columns.setdefault(column_title(row), {})[row["segment_id"]] = value
    about = ["segment_id", "name", "size", "share", "rule"]
    rows = database.catalog.result("segment", described_by)
    about += ["outliers"] if any(row["outliers"] is not None for row in rows) else []
    return [
        {
            **{key: row[key] for key in about},
            **{
                # A feature may be called "size" too.
                title if title not in about else f"{title} (mean)": values.get(row["segment_id"])
                for title, values in columns.items()
            },
        }
        for row in sorted(rows, key=lambda row: row["segment_id"])
    ]
