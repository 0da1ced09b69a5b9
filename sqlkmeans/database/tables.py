"""Schema ``sqlkmeans`` as SQLAlchemy sees it, for reading and small writes.

The tables are made by migrations (DuckDB) and by ``sql/`` (SQL Server); a test compares them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    MetaData,
    String,
    Table,
)

SCHEMA = "sqlkmeans"

metadata = MetaData(schema=SCHEMA)

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("package_version", String),
    Column("applied_at", DateTime),
)

segmentation = Table(
    "segmentation",
    metadata,
    Column("name", String, primary_key=True),
    Column("definition", String),
    Column("target", String),
    Column("active_run_id", BigInteger),
    Column("last_segment_id", Integer),
    Column("created_at", DateTime),
    Column("updated_at", DateTime),
)

run = Table(
    "run",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("segmentation", String),
    Column("kind", String),
    Column("status", String),
    Column("engine", String),
    Column("definition", String),
    Column("model_run_id", BigInteger),
    Column("restored_run_id", BigInteger),
    Column("k", Integer),
    Column("rows", BigInteger, quote=True),
    Column("skipped", BigInteger),
    Column("changed", BigInteger),
    Column("arrived", BigInteger),
    Column("moved", BigInteger),
    Column("departed", BigInteger),
    Column("written", BigInteger),
    Column("inertia", Float),
    Column("n_iter", Integer),
    Column("silhouette", Float),
    Column("davies_bouldin", Float),
    Column("calinski_harabasz", Float),
    Column("seconds_read", Float),
    Column("seconds_fit", Float),
    Column("seconds_assign", Float),
    Column("seconds_publish", Float),
    Column("seconds_total", Float),
    Column("started_at", DateTime),
    Column("published_at", DateTime),
    Column("finished_at", DateTime),
    Column("sqlkmeans_version", String),
    Column("library_versions", String),
    Column("client", String),
    Column("warnings", String),
    Column("error", String),
    Column("compared_run_id", BigInteger),
    Column("psi", Float),
    Column("centroid_shift", Float),
    Column("mean_distance", Float),
    Column("recommendation", String),
    Column("high_water", String),
)

model_feature = Table(
    "model_feature",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("feature", String),
    Column("transform", String),
    Column("weight", Float),
    Column("center", Float),
    Column("scale", Float),
    Column("fill", Float),
    Column("source_column", String),
    Column("type", String),
    Column("level", String),
    Column("low", Float),
    Column("high", Float),
    Column("reference_date", Date),
)

centroid = Table(
    "centroid",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("segment_id", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("feature", String),
    Column("value", Float),
    Column("scaled_value", Float),
)

segment = Table(
    "segment",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("segment_id", Integer, primary_key=True),
    Column("name", String),
    Column("name_source", String),
    Column("description", String),
    Column("size", BigInteger),
    Column("share", Float),
    Column("within_ss", Float),
    Column("rule", String),
    Column("rule_precision", Float),
    Column("rule_coverage", Float),
    Column("silhouette", Float),
    Column("centroid_shift", Float),
)

segment_feature = Table(
    "segment_feature",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("segment_id", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("feature", String),
    Column("mean", Float),
    Column("deviation", Float),
    Column("min", Float, quote=True),
    Column("median", Float),
    Column("max", Float, quote=True),
    Column("missing", BigInteger),
    Column("importance", Float),
)

typical_customer = Table(
    "typical_customer",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("segment_id", Integer, primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("customer", String),
    Column("distance", Float),
)

feature_bin = Table(
    "feature_bin",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("bin", Integer, primary_key=True),
    Column("feature", String),
    Column("label", String),
    Column("upper", Float),
    Column("customers", BigInteger),
)

feature_drift = Table(
    "feature_drift",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("feature", String),
    Column("psi", Float),
    Column("mean", Float),
    Column("previous_mean", Float),
    Column("missing_share", Float),
    Column("previous_missing_share", Float),
)

k_score = Table(
    "k_score",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("k", Integer, primary_key=True),
    Column("inertia", Float),
    Column("silhouette", Float),
    Column("simplified_silhouette", Float),
    Column("davies_bouldin", Float),
    Column("calinski_harabasz", Float),
    Column("gap", Float),
    Column("gap_error", Float),
    Column("separation", Float),
    Column("separation_error", Float),
    Column("stability", Float),
    Column("smallest_share", Float),
    Column("recommended", Boolean),
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
