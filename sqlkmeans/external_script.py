"""The door that ``sp_execute_external_script`` knocks at: a frame in, a frame and JSON out.

Runs inside a database server, so it imports nothing but numpy, pandas and scikit-learn of a
server's age. Keys never come here: a big integer would arrive rounded. Rows are known by a number
that the database joins back.
"""

from __future__ import annotations

import json
import platform
import time
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sqlkmeans._version import __version__
from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing.choose_k import KChoice, choose_k, require_share
from sqlkmeans.clustering.comparing.compare import Comparison, Movement, RunFacts, compare, movement
from sqlkmeans.clustering.comparing.stable_ids import Previous, match_segments
from sqlkmeans.clustering.describing.bins import (
    FeatureBins,
    bin_features,
    bins_from_rows,
    bins_to_rows,
    count_in,
    skipped_missing,
    with_skipped,
)
from sqlkmeans.clustering.describing.describe import (
    distance_tolerance,
    explain_rows,
    segment_rows,
    segment_warnings,
)
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.profile import EVERYONE, SegmentProfile, profile_segments
from sqlkmeans.clustering.describing.rules import find_rules
from sqlkmeans.clustering.describing.scores import score
from sqlkmeans.clustering.kmeans.assignment import Assignment, settle_ties
from sqlkmeans.clustering.kmeans.kmeans import KMeansFit, fit_kmeans
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import (
    Feature,
    Preparation,
    features_from_definition,
    units_from_definition,
)
from sqlkmeans.clustering.preparation.raw_rows import raw_rows
from sqlkmeans.errors import DataError, SqlKMeansError
from sqlkmeans.model import SegmentModel

Row = dict[str, Any]

_LIBRARIES = ("numpy", "pandas", "scikit-learn")


def run_segmentation(rows: pd.DataFrame, job: str) -> tuple[pd.DataFrame, str]:
    """Fit, keep segment ids stable, and describe: one training run.

    Parameters
    ----------
    rows : DataFrame
        ``InputDataSet``: a row number, the segment that the row has now (missing where none),
        then the features in the definition's order (a category's text as ``0x`` and the
        hexadecimal digits of its UTF-16, a date as days since 1970-01-01), then the sample weight
        where the definition names one. A column without a missing value comes as its own integer
        type, with one as floats.
    job : str
        JSON: ``definition``, ``run_id``, ``last_segment_id`` and what is published now:
        ``model_feature``, ``centroid`` and ``segment`` rows of the active model, and ``given``,
        the names that people gave; ``reference_date``, the day on which dates are aged
        (YYYY-MM-DD), by default today's in UTC. To compare with the run before, also
        ``compared_run`` (its ``run_id``, ``rows``, ``k``, ``silhouette``, ``mean_distance`` and
        ``definition``), its ``feature_bin`` rows, and its ``segment_feature`` rows of segment 0.

    Returns
    -------
    labels : DataFrame
        Row number, cluster (counted from 0), distance to its centroid. Empty after an error.
    publication : str
        What ``sqlkmeans.publish_run`` takes; or ``{"error": {"code": …, "problems": […]}}``,
        because an exception would reach the caller as several unreadable messages. In ASCII: the
        server's side takes a text's length for its number of UTF-16 units and would cut an end
        off.
    """
    try:
        labels, publication = _run(rows, json.loads(job))
        return labels, json.dumps(publication, allow_nan=False)
    except SqlKMeansError as error:
        return _no_labels(), json.dumps(error.to_json())
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        return _no_labels(), json.dumps(SqlKMeansError(problem).to_json())


def _run(rows: pd.DataFrame, job: Row) -> tuple[pd.DataFrame, Row]:
    begun = time.perf_counter()
    definition = job["definition"]
    features = features_from_definition(definition)
    weighted = bool(definition.get("sample_weight"))
    numbers, now, matrix, texts, weights = _split(rows, features, weighted)
    preparation = fit_preparation(
        matrix,
        features,
        scaling=definition["scaling"],
        missing=definition["missing"],
        texts=texts,
        sample_weight=weights,
        reference_date=job.get("reference_date") or _today(),
    )
    by_column = [_where_missing(matrix[:, j]) for j in range(len(features))]
    matrix, kept = preparation.prepare(matrix, texts)
    left_out = skipped_missing(by_column, kept, preparation)
    by_column = [None if mask is None else mask[kept] for mask in by_column]
    absent = preparation.of_columns(by_column)
    weights = None if weights is None else weights[kept]
    fit, choice = _fit(matrix, weights, definition)
    fitted = time.perf_counter()
    segment_ids, moves = _follow(job, preparation, fit.centroids, now[kept], fit.assignment)
    settle_ties(matrix, fit.centroids, fit.assignment, segment_ids)
    profiles = profile_segments(matrix, absent, preparation, fit.assignment, len(fit.centroids))
    rules = find_rules(
        matrix, preparation, fit.assignment.labels, len(fit.centroids), seed=definition["seed"]
    )
    scores = score(matrix, fit.centroids, fit.assignment, seed=definition["seed"])
    mean_distance = float(np.sqrt(fit.assignment.squared_distances).mean())
    earlier = bins_from_rows(job.get("feature_bin", []))
    counted = with_skipped(count_in(earlier, matrix, absent, preparation), left_out)
    compared = _compared(job, scores.silhouette, mean_distance, counted, profiles, moves)
    tables = segment_rows(
        profiles, segment_ids, _names(job["given"]), _names(job["segment"]),
        units_from_definition(definition),
    )  # fmt: skip
    explain_rows(tables["segment"], segment_ids, rules, scores.segment_silhouettes, moves.shifts)
    names = {row["segment_id"]: row["name"] for row in tables["segment"]}
    model = SegmentModel(
        preparation, fit.centroids, tuple(segment_ids), tuple(names[i] for i in segment_ids)
    )
    bins = with_skipped(bin_features(matrix, absent, preparation), left_out)
    labels = pd.DataFrame(
        {
            "row_number": numbers[kept],
            "cluster": fit.assignment.labels.astype(np.int32),
            "distance": np.sqrt(fit.assignment.squared_distances),
        }
    )
    skipped = int((~kept).sum())
    run = {
        "k": len(segment_ids),
        "rows": len(matrix),
        "skipped": skipped,
        "inertia": fit.assignment.inertia,
        "n_iter": fit.n_iter,
        **scores.to_dict(),
        "mean_distance": mean_distance,
        **(compared.run if compared else {}),
        "seconds_fit": round(fitted - begun, 3),
        "seconds_assign": round(time.perf_counter() - fitted, 3),
        "sqlkmeans_version": __version__,
        "library_versions": _library_versions(),
        "warnings": segment_warnings(profiles, segment_ids, skipped)
        + feature_findings(matrix, preparation)
        + (choice.warnings() if choice else [])
        + (compared.alarms + compared.notes if compared else []),
    }
    if choice:
        tables["k_score"] = choice.to_rows()
        run["recommendation"] = choice.recommendation.to_dict()
    return labels, {
        "segment_ids": segment_ids,
        "model_run_id": job["run_id"],
        "run": run,
        "tables": {
            **model.to_rows(),
            **tables,
            "feature_bin": bins_to_rows(bins),
            "feature_drift": compared.drift if compared else [],
        },
        "last_segment_id": max(job["last_segment_id"], *segment_ids),
        "distance_tolerance": distance_tolerance(
            fit.assignment.inertia, len(matrix) if weights is None else float(weights.sum())
        ),
    }


def _fit(
    matrix: Matrix, weights: Vector | None, definition: Row
) -> tuple[KMeansFit, KChoice | None]:
    """Fit k segments, or as many as the scores speak for."""
    # A definition of an earlier version has none of the keys that have a default here.
    min_share = definition.get("min_share", 0.0)
    starts = {"n_init": definition["n_init"], "seed": definition["seed"]}
    if definition["k"] != "auto":
        fit = fit_kmeans(matrix, definition["k"], sample_weight=weights, **starts)
        require_share(fit.assignment.sizes(len(fit.centroids)), min_share)
        return fit, None
    k_min, k_max = definition.get("k_min", 2), definition.get("k_max", 10)
    choice = choose_k(matrix, k_min, k_max, sample_weight=weights, min_share=min_share, **starts)
    return choice.fit(matrix, weights), choice


def _split(
    rows: pd.DataFrame, features: list[Feature], weighted: bool
) -> tuple[
    npt.NDArray[np.int32], npt.NDArray[np.int64], Matrix, dict[str, list[str]], Vector | None
]:
    """Row numbers, present segments (0 for none), features, levels and weights.

    In the order of the numbers.
    """
    expected = len(features) + 2 + weighted
    if rows.shape[1] != expected:
        raise ValueError(
            f"{rows.shape[1]} columns came; a row number, a segment, {len(features)} features "
            f"and {int(weighted)} sample weight were expected"
        )
    if not len(rows):
        raise DataError("the source has no rows; nothing was changed")
    numbers = rows.iloc[:, 0].to_numpy(dtype=np.int32)
    order = np.argsort(numbers, kind="stable")
    now = rows.iloc[:, 1].to_numpy(dtype=np.float64)
    types = {feature.column: feature.type for feature in features}
    columns = {name: rows.iloc[:, position] for position, name in enumerate(types, start=2)}
    matrix, sent = raw_rows(columns, types)
    texts = {name: [_text(level) for level in levels] for name, levels in sent.items()}
    for position in range(len(features)):
        matrix[:, position] = matrix[order, position]
    weights = rows.iloc[:, -1].to_numpy(dtype=np.float64)[order] if weighted else None
    return numbers[order], np.nan_to_num(now[order]).astype(np.int64), matrix, texts, weights


def _text(sent: str) -> str:
    """The text of a category.

    Text itself would be read strictly before the script begins: half of a surrogate pair, which
    an nvarchar holds or is cut to, would end the call, and trailing blanks might not arrive.
    """
    if not sent.startswith("0x"):
        raise ValueError(
            f"{sent!r} came for a category; the hexadecimal digits of its UTF-16 were expected, as "
            f"the procedures of version {__version__} send it (sqlkmeans deploy)"
        )
    return bytes.fromhex(sent[2:]).decode("utf-16-le", "surrogatepass")


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


def _where_missing(column: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
    absent = np.isnan(column)
    return absent if absent.any() else None


def _follow(
    job: Row,
    preparation: Preparation,
    centroids: Matrix,
    now: npt.NDArray[np.int64],
    assignment: Assignment,
) -> tuple[list[int], Movement]:
    """The segment id of each new cluster, and who moved."""
    last = job["last_segment_id"]
    if not job["centroid"]:
        return match_segments(centroids, Previous((), None, last)), Movement(0, 0)
    model = SegmentModel.from_rows(
        job["model_feature"], job["centroid"], {}, scaling="", missing=""
    )
    old = model.centroids_in(preparation)
    labelled = now > 0
    pairs, counts = np.unique(
        np.column_stack([now[labelled], assignment.labels[labelled]]), axis=0, return_counts=True
    )
    overlap = [(int(a), int(b), int(count)) for (a, b), count in zip(pairs, counts)]
    segment_ids = match_segments(centroids, Previous(model.segment_ids, old, last), overlap)
    return segment_ids, movement(overlap, segment_ids, centroids, model.segment_ids, old)


def _compared(
    job: Row,
    silhouette: float | None,
    mean_distance: float,
    counted: list[FeatureBins],
    profiles: list[SegmentProfile],
    moves: Movement,
) -> Comparison | None:
    """This run beside the one before; None where there is none.

    Raises
    ------
    DataError
        If the guard refuses it.
    """
    before = job.get("compared_run")
    if not before:
        return None
    means = {row["feature"]: row.get("mean") for row in job.get("segment_feature", [])}
    then = RunFacts(
        before["run_id"], before["rows"], before["k"], before.get("silhouette"),
        before.get("mean_distance"), before["definition"],
        bins_from_rows(job.get("feature_bin", [])), means,
    )  # fmt: skip
    everyone = profiles[EVERYONE]
    now = RunFacts(
        job["run_id"], everyone.size, len(profiles) - 1, silhouette, mean_distance,
        job["definition"], counted,
        {name: feature.mean for name, feature in everyone.features.items()},
    )  # fmt: skip
    return compare(now, then, moves, job["definition"].get("guard") or {})


def _names(rows: list[Row]) -> dict[int, str]:
    return {row["segment_id"]: row["name"] for row in rows}


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _no_labels() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_number": np.empty(0, dtype=np.int32),
            "cluster": np.empty(0, dtype=np.int32),
            "distance": np.empty(0, dtype=np.float64),
        }
    )
