"""The door that ``sp_execute_external_script`` knocks at: a frame in, a frame and JSON out.

Runs inside a database server, so it imports nothing but numpy, pandas and scikit-learn of a
server's age. Keys never come here: a big integer would arrive rounded. Rows are known by a number
that the database joins back.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sqlkmeans._version import __version__
from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing.choose_k import choose_k, require_share
from sqlkmeans.clustering.comparing.compare import RunFacts
from sqlkmeans.clustering.describing.bins import bins_from_rows, skipped_missing
from sqlkmeans.clustering.describing.findings import feature_findings
from sqlkmeans.clustering.describing.found import PreparedRows, find
from sqlkmeans.clustering.describing.outliers import outlier_distances
from sqlkmeans.clustering.kmeans.assignment import Assignment, settle_ties
from sqlkmeans.clustering.kmeans.kmeans import SAMPLE_ROWS
from sqlkmeans.clustering.kmeans.trimming import fit_trimmed, kept_within
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import Feature, features_from_definition
from sqlkmeans.clustering.preparation.raw_rows import raw_rows
from sqlkmeans.errors import DataError, SqlKMeansError
from sqlkmeans.model import SegmentModel
from sqlkmeans.outcome import Before, Fit, of_fit

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
        ``compared_run`` (its ``run_id``, ``rows``, ``k``, ``silhouette``, ``mean_distance``,
        ``outliers`` and ``definition``), its ``feature_bin`` rows, and its ``segment_feature`` rows
        of segment 0.

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
    definition, before = job["definition"], _before(job)
    numbers, now, prepared = _prepare(rows, job)
    fit, assignment = _fit(prepared, definition)
    k = len(fit.centroids)
    fitted = time.perf_counter()
    segment_ids, moves = before.follow(fit, lambda: _overlap(now, assignment))
    settle_ties(prepared.matrix, fit.centroids, assignment, segment_ids)
    if (share := definition.get("outlier")) is not None:
        squared = assignment.squared_distances
        kept = kept_within(squared, definition.get("trim", 0.0), prepared.weights)
        limits = outlier_distances(assignment.labels, squared, k, share, squared=True, at_most=kept)
        fit = replace(fit, outlier_distances=limits)
    found = find(
        prepared, fit.centroids, assignment, seed=definition["seed"], earlier=before.bins,
        cut=True, limits=fit.outlier_distances,
    )  # fmt: skip
    publication = of_fit(job["run_id"], definition, before, fit, found, segment_ids, moves)
    labels = pd.DataFrame(
        {
            "row_number": numbers,
            "cluster": assignment.labels.astype(np.int32),
            "distance": np.sqrt(assignment.squared_distances),
        }
    )
    run = {
        **publication.run,
        "seconds_fit": round(fitted - begun, 3),
        "seconds_assign": round(time.perf_counter() - fitted, 3),
        "sqlkmeans_version": __version__,
        "library_versions": _library_versions(),
    }
    return labels, replace(publication, run=run).to_json()


def _before(job: Row) -> Before:
    """What the database says of the run before."""
    model = None
    if job["centroid"]:
        names = {row["segment_id"]: row["name"] for row in job["segment"]}
        model = SegmentModel.from_rows(
            job["model_feature"], job["centroid"], names, scaling="", missing=""
        )
    run, compared = None, job.get("compared_run")
    if compared:
        means = {row["feature"]: row.get("mean") for row in job.get("segment_feature", [])}
        run = RunFacts(
            compared["run_id"], compared["rows"], compared["k"], compared.get("silhouette"),
            compared.get("mean_distance"), compared["definition"],
            bins_from_rows(job.get("feature_bin", [])), means, compared.get("outliers"),
        )  # fmt: skip
    given = {row["segment_id"]: row["name"] for row in job["given"]}
    return Before(run=run, model=model, given=given, last_segment_id=job["last_segment_id"])


def _prepare(
    rows: pd.DataFrame, job: Row
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], PreparedRows]:
    """Row numbers, present segments (0 for none) and prepared values of the rows that are left."""
    definition = job["definition"]
    features = features_from_definition(definition)
    numbers, now, matrix, texts, weights = _split(
        rows, features, bool(definition.get("sample_weight"))
    )
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
    prepared = PreparedRows(
        preparation,
        matrix,
        preparation.of_columns(by_column),
        None if weights is None else weights[kept],
        int((~kept).sum()),
        left_out,
    )
    return numbers[kept], now[kept], prepared


def _fit(rows: PreparedRows, definition: Row) -> tuple[Fit, Assignment]:
    """Fit k segments, or as many as the scores speak for."""
    # A definition of an earlier version has none of the keys that have a default here.
    min_share, trim = definition.get("min_share", 0.0), definition.get("trim", 0.0)
    starts = {"n_init": definition["n_init"], "seed": definition["seed"]}
    choice, weights = None, rows.weights
    if definition["k"] == "auto":
        k_min, k_max = definition.get("k_min", 2), definition.get("k_max", 10)
        columns = [feature.column for feature in rows.preparation.features]
        choice = choose_k(
            rows.matrix, k_min, k_max, sample_weight=weights, min_share=min_share,
            columns=columns, **starts,
        )  # fmt: skip
        k = choice.best_k()
    else:
        k = definition["k"]
    if choice and not trim:
        found = choice.fit(rows.matrix, weights)
    else:
        # 0 lets no row leave the database, which this does not.
        sample_rows = definition.get("sample_rows") or SAMPLE_ROWS
        found = fit_trimmed(
            rows.matrix, k, trim=trim, sample_weight=weights, sample_rows=sample_rows, **starts
        )
        require_share(found.assignment.sizes(len(found.centroids)), min_share)
    findings = feature_findings(rows.matrix, rows.preparation)
    findings += choice.warnings() if choice else []
    fit = Fit(rows.preparation, found.centroids, found.n_iter, findings, choice)
    return fit, found.assignment


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


def _overlap(now: npt.NDArray[np.int64], assignment: Assignment) -> list[tuple[int, int, int]]:
    labelled = now > 0
    pairs, counts = np.unique(
        np.column_stack([now[labelled], assignment.labels[labelled]]), axis=0, return_counts=True
    )
    return [(int(a), int(b), int(count)) for (a, b), count in zip(pairs, counts)]


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
