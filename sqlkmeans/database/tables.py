"""The tables of schema ``sqlkmeans`` and their columns.

DuckDB makes them from here, SQL Server by ``sql/``; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "sqlkmeans"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes
    ----------
    name : str
    type : {"text", "integer", "bigint", "float", "boolean", "date", "time"}
    nullable : bool
    """

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
    key : tuple of str
        The columns of the primary key.
    typed : tuple of Column
        All columns, the key's first.
    """

    name: str
    key: tuple[str, ...]
    typed: tuple[Column, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(column.name for column in self.typed)


def _table(name: str, key: str, typed: str) -> Table:
    """A table of columns by lines: a type, where NULL may stand a question mark, and names."""
    columns = []
    for line in typed.strip().splitlines():
        kind, *names = line.split()
        columns += [Column(each, kind.rstrip("?"), kind.endswith("?")) for each in names]
    return Table(name, tuple(key.split()), tuple(columns))


schema_version = _table(
    "schema_version",
    "version",
    """
    integer  version
    text     package_version
    time     applied_at
    """,
)

segmentation = _table(
    "segmentation",
    "name",
    """
    text     name definition target
    bigint?  active_run_id
    integer  last_segment_id
    time     created_at updated_at
    """,
)

run = _table(
    "run",
    "run_id",
    """
    bigint   run_id
    text     segmentation kind status engine definition
    bigint?  model_run_id restored_run_id
    integer? k
    bigint?  rows skipped changed arrived moved departed written
    float?   inertia
    integer? n_iter
    float?   silhouette davies_bouldin calinski_harabasz seconds_read seconds_fit
    float?   seconds_assign seconds_publish seconds_total
    time     started_at
    time?    published_at finished_at
    text     sqlkmeans_version
    text?    library_versions client warnings error
    bigint?  compared_run_id
    float?   psi centroid_shift mean_distance
    text?    recommendation high_water
    bigint?  outliers
    """,
)

model_feature = _table(
    "model_feature",
    "run_id position",
    """
    bigint   run_id
    integer  position
    text     feature transform
    float    weight center scale
    float?   fill
    text?    source_column
    text     type
    text?    level
    float?   low high
    date?    reference_date
    """,
)

centroid = _table(
    "centroid",
    "run_id segment_id position",
    """
    bigint   run_id
    integer  segment_id position
    text     feature
    float    value scaled_value
    float?   outlier_distance
    """,
)

segment = _table(
    "segment",
    "run_id segment_id",
    """
    bigint   run_id
    integer  segment_id
    text     name name_source description
    bigint   size
    float    share within_ss
    text?    rule
    float?   rule_precision rule_coverage silhouette centroid_shift
    bigint?  outliers
    """,
)

segment_feature = _table(
    "segment_feature",
    "run_id segment_id position",
    """
    bigint   run_id
    integer  segment_id position
    text     feature
    float?   mean deviation min median max
    bigint   missing
    float    importance
    """,
)

segment_profile = _table(
    "segment_profile",
    "run_id segment_id position",
    """
    bigint   run_id
    integer  segment_id position
    text     source_column type
    text?    level
    bigint   known missing
    float?   mean deviation median share difference difference_low difference_high
    """,
)

typical_customer = _table(
    "typical_customer",
    "run_id segment_id rank",
    """
    bigint   run_id
    integer  segment_id rank
    text     customer
    float    distance
    """,
)

feature_bin = _table(
    "feature_bin",
    "run_id position bin",
    """
    bigint   run_id
    integer  position bin
    text     feature label
    float?   upper
    bigint   customers
    """,
)

feature_drift = _table(
    "feature_drift",
    "run_id position",
    """
    bigint   run_id
    integer  position
    text     feature
    float    psi
    float?   mean previous_mean
    float    missing_share previous_missing_share
    """,
)

k_score = _table(
    "k_score",
    "run_id k",
    """
    bigint   run_id
    integer  k
    float    inertia
    float?   silhouette simplified_silhouette davies_bouldin calinski_harabasz gap
    float?   gap_error separation separation_error stability smallest_share
    boolean  recommended
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
        segment_profile,
        typical_customer,
        feature_bin,
        feature_drift,
        k_score,
    )
}

TABLES = {table.name: table for table in (schema_version, segmentation, run)} | RESULT_TABLES
