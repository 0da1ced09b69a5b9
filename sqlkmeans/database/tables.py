"""The tables of schema ``sqlkmeans`` and their columns.

The tables are made by migrations (DuckDB) and by ``sql/`` (SQL Server); a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "sqlkmeans"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
    key : tuple of str
        The columns of the primary key.
    columns : tuple of str
        All columns, the key's first.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]


def _table(name: str, key: str, others: str) -> Table:
    return Table(name, tuple(key.split()), tuple(f"{key} {others}".split()))


schema_version = _table("schema_version", "version", "package_version applied_at")

segmentation = _table(
    "segmentation",
    "name",
    "definition target active_run_id last_segment_id created_at updated_at",
)

run = _table(
    "run",
    "run_id",
    """
    segmentation kind status engine definition model_run_id restored_run_id
    k rows skipped changed arrived moved departed written
    inertia n_iter silhouette davies_bouldin calinski_harabasz
    seconds_read seconds_fit seconds_assign seconds_publish seconds_total
    started_at published_at finished_at
    sqlkmeans_version library_versions client warnings error
    compared_run_id psi centroid_shift mean_distance recommendation high_water
    """,
)

model_feature = _table(
    "model_feature",
    "run_id position",
    """
    feature transform weight center scale fill source_column type level low high
    reference_date
    """,
)

centroid = _table("centroid", "run_id segment_id position", "feature value scaled_value")

segment = _table(
    "segment",
    "run_id segment_id",
    """
    name name_source description size share within_ss rule rule_precision rule_coverage
    silhouette centroid_shift
    """,
)

segment_feature = _table(
    "segment_feature",
    "run_id segment_id position",
    "feature mean deviation min median max missing importance",
)

typical_customer = _table("typical_customer", "run_id segment_id rank", "customer distance")

feature_bin = _table("feature_bin", "run_id position bin", "feature label upper customers")

feature_drift = _table(
    "feature_drift",
    "run_id position",
    "feature psi mean previous_mean missing_share previous_missing_share",
)

k_score = _table(
    "k_score",
    "run_id k",
    """
    inertia silhouette simplified_silhouette davies_bouldin calinski_harabasz gap gap_error
    separation separation_error stability smallest_share recommended
    """,
)

#: The tables that hold what a run found, one set of rows a run.
RESULT_TABLES = {
    table.name: table
    for table in (
        model_feature,
        centroid,
        segment,
        segment_feature,
        typical_customer,
        feature_bin,
        feature_drift,
        k_score,
    )
}

TABLES = {table.name: table for table in (schema_version, segmentation, run)} | RESULT_TABLES
