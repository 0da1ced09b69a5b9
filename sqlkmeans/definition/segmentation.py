"""What to cluster and where the labels go."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)

from sqlkmeans.clustering.preparation.preparation import (
    Feature,
    features_from_definition,
    units_from_definition,
)
from sqlkmeans.definition.problems import build
from sqlkmeans.definition.strict_json import read_json, reason_of
from sqlkmeans.definition.values import (
    LONGEST_TARGET,
    MOST_K_COMPARED,
    MOST_PROFILE,
    MOST_SOURCE,
    PUBLISHED_COLUMNS,
    RESERVED,
    RESERVED_SCHEMAS,
    ColumnName,
    EngineName,
    MemoryLimit,
    Quantiles,
    Share,
    Strict,
    as_feature,
    as_list,
    check_k,
    check_language,
    check_master,
    check_number_of_features,
    check_unit,
    refuse_repeats,
)
from sqlkmeans.errors import DefinitionError
from sqlkmeans.sqltext import parse_name, parse_source

#: Engines that need no row, but for a sample.
BY_AGGREGATES = ("pushdown", "spark")


class FeatureDefinition(Strict):
    """One feature: a column name, or a table with these keys.

    Parameters
    ----------
    column : str
    type : {"number", "category", "date"}, default="number"
        ``category`` makes one 0/1 feature a level, ``date`` the age in days at the fit.
    transform : {"none", "log1p"}, default="none"
    weight : float, default=1.0
        Above 0.
    winsorize : (float, float), optional
        Quantiles; values outside are pulled in to them. By default the segmentation's.
    min_frequency : float, default=0.01
        A category's levels with a smaller share of the rows are grouped.
    max_categories : int, default=20
        At most so many levels, the most frequent; the rest is grouped.
    unit : str, optional
        Shown with a number's values: ``NOK``.
    """

    column: ColumnName
    type: Literal["number", "category", "date"] = "number"
    transform: Literal["none", "log1p"] = "none"
    weight: Annotated[float, Field(gt=0, strict=False)] = 1.0
    winsorize: Quantiles | None = None
    min_frequency: Share = 0.01
    max_categories: Annotated[int, Field(strict=True, ge=2, le=100)] = 20
    unit: Annotated[str, AfterValidator(check_unit)] | None = None

    @model_validator(mode="after")
    def _check_type(self) -> FeatureDefinition:
        if self.type != "number" and self.unit is not None:
            raise ValueError('unit given; allowed for type = "number" only')
        given = {"transform": self.transform != "none", "winsorize": self.winsorize is not None}
        unfit = [key for key, is_given in given.items() if is_given]
        if self.type == "category" and unfit:
            raise ValueError(
                f'{" and ".join(unfit)} given; allowed for type = "number" and "date" only'
            )
        return self


class SparkSettings(Strict):
    """Where Spark is, for ``engine="spark"``.

    Parameters
    ----------
    master : str, optional
        ``local[*]``, ``spark://host:7077``, ``yarn``, ``k8s://…``, or ``sc://host`` of Spark
        Connect. By default the session that is there.
    keep : {"cache", "checkpoint"}, default="cache"
        How the rows are kept: ``checkpoint`` where the source can change meanwhile.
    connections : int, default=8
        How many of the executors' tasks read from a database, or write to it, at once.
    """

    master: Annotated[str, AfterValidator(check_master)] | None = None
    keep: Literal["cache", "checkpoint"] = "cache"
    connections: Annotated[int, Field(strict=True, ge=1, le=64)] = 8


class Guard(Strict):
    """How much a run may differ from the one before.

    Parameters
    ----------
    action : {"warn", "refuse"}, default="warn"
        ``refuse`` leaves the published labels as they are, and the run fails with exit code 3.
    rows : float, default=0.5
        Change of the number of customers, as a share of the run before.
    moved : float, default=0.5
        Share of the customers in both runs that changed segment.
    psi : float, default=0.25
        Population stability index of any feature.
    centroid_shift : float, default=1.0
        Distance that any segment's centroid moved, in the scaled space.
    distance : float, default=0.5
        Growth of the customers' mean distance to their centroid, as a share.
    silhouette : float, default=0.2
        Fall of the silhouette.
    outliers : float, default=0.05
        Rise of the share of the customers that are outliers.
    """

    action: Literal["warn", "refuse"] = "warn"
    rows: Annotated[float, Field(gt=0)] = 0.5
    moved: Annotated[float, Field(gt=0)] = 0.5
    psi: Annotated[float, Field(gt=0)] = 0.25
    centroid_shift: Annotated[float, Field(gt=0)] = 1.0
    distance: Annotated[float, Field(gt=0)] = 0.5
    silhouette: Annotated[float, Field(gt=0)] = 0.2
    outliers: Annotated[float, Field(gt=0)] = 0.05


class Segmentation(Strict):
    """What to cluster and where the labels go.

    Parameters
    ----------
    name : str
        Letters, digits and underscores; names the segmentation in every table and command.
    source : str
        A table, a view, or one SELECT.
    key : str or list of str
        The column or columns that identify a customer.
    features : list of (str or FeatureDefinition)
    profile : list of str, optional
        At most 100 columns that are described for each segment and never clustered on.
    k : int or "auto"
        Number of segments, 2 to 1,000; ``auto`` takes the one that `choose-k` recommends.
    k_min, k_max : int, default=2 and 10
        What ``auto`` and `choose-k` compare, 2 to 100.
    min_share : float, default=0.0
        Refuses a k with a segment that has a smaller share of the customers.
    target : str
        The segment table. Made by the first run; has to be none, or one made so.
    scaling : {"standard", "robust", "minmax", "none"}, default="standard"
    missing : {"error", "skip", "mean", "median"}, default="error"
    n_init : int, default=10
        Number of k-means++ starts at least.
    seed : int, default=0
    winsorize : (float, float), optional
        For the features that do not say otherwise; see FeatureDefinition.
    sample_weight : str, optional
        A column of the source: how much a customer counts in the fit.
    outlier : float, optional
        The share of each segment's customers that are farther from their centroid than its limit
        at the fit, above 0 and below 0.5: they, and who is farther later, are outliers.
    trim : float, default=0.0
        The share of the customers, the farthest from their centroid, that the fit leaves out;
        below 0.5. They are labelled all the same.
    guard : Guard
    changed_by : str, optional
        A column of the source that grows whenever a row changes; `assign` then reads only rows
        that changed since the run before. ``SYS_CHANGE_VERSION``, where the source has no such
        column, is SQL Server's Change Tracking of the source.
    engine : {"local", "pushdown", "spark", "in_database", "tsql"}, default="local"
        ``local`` in this process, ``pushdown`` by aggregate queries where the rows are,
        ``spark`` by the same queries in Apache Spark,
        ``in_database`` by Python inside SQL Server, ``tsql`` there in T-SQL alone.
    language : str, default="Python"
        The external language that ``in_database`` runs; another than the server's own Python is
        made with CREATE EXTERNAL LANGUAGE.
    sample_rows : int, default=100_000
        Above so many rows, the starts run on a random sample of so many. They are all that
        ``pushdown`` reads; 0 lets it read none.
    min_group : int, default=10
        With ``sample_rows=0``, nothing about fewer customers leaves the database.
    history_days : int, optional
        How many days the history keeps a label that ended; each run deletes what is older. By
        default all of it is kept.
    memory_limit : int or str, optional
        What a run with ``engine="local"`` may take: bytes, or text such as ``1GiB``. Rows that
        need more are kept in files. By default they may take half of what is free.
    spark : SparkSettings

    Raises
    ------
    DefinitionError
        From :meth:`create`, with all problems.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
    source: Annotated[str, Field(min_length=1, max_length=MOST_SOURCE)]
    key: Annotated[tuple[ColumnName, ...], BeforeValidator(as_list), Field(min_length=1)]
    features: Annotated[
        tuple[Annotated[FeatureDefinition, BeforeValidator(as_feature)], ...],
        BeforeValidator(as_list),
        BeforeValidator(check_number_of_features),
        Field(min_length=1),
    ]
    profile: Annotated[
        tuple[ColumnName, ...], BeforeValidator(as_list), Field(max_length=MOST_PROFILE)
    ] = ()
    k: Annotated[int | Literal["auto"], PlainValidator(check_k)]
    k_min: Annotated[int, Field(strict=True, ge=2, le=MOST_K_COMPARED)] = 2
    k_max: Annotated[int, Field(strict=True, ge=2, le=MOST_K_COMPARED)] = 10
    min_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    target: Annotated[str, Field(min_length=1)]
    scaling: Literal["standard", "robust", "minmax", "none"] = "standard"
    missing: Literal["error", "skip", "mean", "median"] = "error"
    n_init: Annotated[int, Field(strict=True, ge=1, le=1000)] = 10
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    winsorize: Quantiles | None = None
    sample_weight: ColumnName | None = None
    outlier: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    guard: Guard = Guard()
    changed_by: ColumnName | None = None
    engine: EngineName = "local"
    language: Annotated[str, AfterValidator(check_language)] = "Python"
    sample_rows: Annotated[int, Field(strict=True, ge=0, le=10_000_000)] = 100_000
    min_group: Annotated[int, Field(strict=True, ge=2, le=100_000)] = 10
    history_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] | None = None
    memory_limit: MemoryLimit | None = None
    spark: SparkSettings = SparkSettings()

    @field_validator("source")
    @classmethod
    def _check_source(cls, value: str) -> str:
        parse_source(value)
        return value

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        *schemas, table = parse_name(value)
        taken = [schema for schema in schemas if schema.lower() in RESERVED_SCHEMAS]
        if taken:
            raise ValueError(f"{value} given; {taken[0]} is not for segment tables; name another")
        if len(table) > LONGEST_TARGET:
            raise ValueError(
                f"a name of {len(table)} characters given; allowed: 1 to {LONGEST_TARGET}, because "
                "that of its history is longer"
            )
        return value

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value)
        ours = [column for column in value if column.lower().startswith(RESERVED)]
        if ours:
            raise ValueError(
                f"{', '.join(ours)} begins as columns of sqlkmeans itself do; "
                "give the key another name in a SELECT or a view"
            )
        taken = [column for column in value if column.lower() in PUBLISHED_COLUMNS]
        if taken:
            raise ValueError(
                f"{', '.join(taken)} is a column of the segment table itself; "
                "give the key another name in a SELECT or a view"
            )
        return value

    @field_validator("features")
    @classmethod
    def _check_features(cls, value: tuple[FeatureDefinition, ...]) -> tuple[FeatureDefinition, ...]:
        refuse_repeats(tuple(feature.column for feature in value))
        return value

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Segmentation:
        both = [f.column for f in self.features if f.column in self.key]
        if both:
            raise ValueError(
                f"{', '.join(both)} is both key and feature; a key identifies, it does not measure"
            )
        if taken := self._profiled_otherwise():
            raise ValueError(
                f"profile {', '.join(taken)}; allowed: columns that are neither key nor feature"
            )
        if self.sample_weight in (*self.key, *self.columns):
            role = "key" if self.sample_weight in self.key else "a feature"
            raise ValueError(
                f"sample_weight {self.sample_weight} is {role} too; allowed: a column of its own"
            )
        source = parse_source(self.source)
        if source.name is not None and source.name == parse_name(self.target):
            raise ValueError(f"source and target are the same table, {self.target}")
        if self.sample_rows == 0 and self.engine == "local":
            raise ValueError(
                'sample_rows = 0 lets no row leave the database, and engine = "local" reads all '
                'of them; use "pushdown"'
            )
        if self.engine in BY_AGGREGATES and self.sample_rows == 0 and self.scaling == "minmax":
            raise ValueError(
                'scaling = "minmax" needs the least and the greatest value, which are single '
                'customers\' and stay in the database with sample_rows = 0; use "standard" or '
                '"robust", or give sample_rows'
            )
        if self.engine == "tsql" and self.k == "auto":
            raise ValueError(
                "k: auto given; allowed where T-SQL trains: a number, such as sqlkmeans choose-k "
                "recommends"
            )
        if self.trim and self.engine in ("pushdown", "tsql"):
            raise ValueError(
                f'trim = {self.trim:g} needs to look at rows, and engine = "{self.engine}" sees '
                'sums; use "local" or "in_database"'
            )
        if self.k_min > self.k_max:
            raise ValueError(
                f"k_min is {self.k_min} and k_max {self.k_max}; allowed: k_min <= k_max"
            )
        return self

    def _profiled_otherwise(self) -> list[str]:
        """Profile columns that have another part too, each with it."""
        part = dict.fromkeys(self.columns, "a feature") | dict.fromkeys(self.key, "a key")
        return [f"{name} is {part[name]}" for name in self.profile if name in part]

    @property
    def smallest_group(self) -> int:
        """How many customers anything that leaves the database has to be about."""
        return self.min_group if self.engine in BY_AGGREGATES and self.sample_rows == 0 else 1

    @property
    def columns(self) -> list[str]:
        """The feature columns, in order."""
        return [feature.column for feature in self.features]

    @property
    def feature_types(self) -> dict[str, str]:
        """The type of each feature column."""
        return {feature.column: feature.type for feature in self.features}

    @property
    def units(self) -> dict[str, str]:
        """The unit of each feature column that has one."""
        return units_from_definition(self.model_dump())

    def to_features(self) -> list[Feature]:
        """The features as `clustering` takes them, the segmentation's ``winsorize`` in each."""
        return features_from_definition(self.model_dump())

    @classmethod
    def create(cls, **values: Any) -> Segmentation:
        """Build and check a segmentation; all problems come in one DefinitionError."""
        problems: list[str] = []
        path = f"segmentation.{values.get('name', '?')}"
        result = build(cls, OWNERS, values, path, problems)
        if result is None:
            raise DefinitionError(problems)
        return result

    @classmethod
    def from_json(cls, text: str) -> Segmentation:
        """Read what :meth:`to_json` wrote, as a registry row keeps it."""
        try:
            values = read_json(text)
        except (ValueError, RecursionError) as error:
            raise DefinitionError(f"the definition is not JSON: {reason_of(error)}") from None
        if not isinstance(values, dict):
            raise DefinitionError("the definition is not a JSON object")
        return cls.create(**values)

    def to_json(self) -> str:
        """All keys, defaults included, as a JSON object."""
        return self.model_dump_json()


#: The models of keys whose values are tables.
OWNERS: dict[str, type[Strict]] = {
    "features": FeatureDefinition,
    "guard": Guard,
    "spark": SparkSettings,
}
