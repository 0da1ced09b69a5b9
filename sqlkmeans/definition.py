"""What to cluster and where the labels go: from TOML, from JSON, or as a Python object."""

from __future__ import annotations

import difflib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from sqlkmeans.clustering.preparation.preparation import Feature, features_from_definition
from sqlkmeans.embedded import beside
from sqlkmeans.errors import MOST_PROBLEMS, DefinitionError
from sqlkmeans.memory import check_memory_limit
from sqlkmeans.sqltext import parse_name, parse_source, with_files_beside
from sqlkmeans.words import without_passwords

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

READ_ON = "docs/definition.md"

#: More is a mistake, or meant to keep a machine busy.
MOST_FILE, MOST_SOURCE, MOST_FEATURES, MOST_K_COMPARED = 10_000_000, 100_000, 1_000, 100
#: A target's history has its name with this behind it.
LONGEST_TARGET = 128 - len("_history")
#: Schemas of databases, and ours.
_RESERVED_SCHEMAS = frozenset(
    {"information_schema", "pg_catalog", "sqlkmeans", "sys", "system", "temp"}
)

#: Columns of the published tables and of staging, which a key column would collide with.
PUBLISHED_COLUMNS = frozenset(
    {"segment_id", "segment_name", "distance", "run_id", "assigned_at", "valid_from", "valid_to",
     "cluster", "departed"}
)  # fmt: skip

#: Columns that stand beside a key's in temporary tables begin so.
RESERVED = "sqlkmeans "


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_number_of_features(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) > MOST_FEATURES:
        raise ValueError(f"{len(value):,} given; allowed: 1 to {MOST_FEATURES:,}")
    return value


def _as_feature(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_column(value: str) -> str:
    if "\0" in value:
        raise ValueError(f"{_shown(value)}; allowed: a column's name, which has no NUL in it")
    return value


ColumnName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_check_column)]
Share = Annotated[float, Field(ge=0, le=1)]


def _check_quantiles(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not 0 <= low < high <= 1:
        raise ValueError(f"[{low:g}, {high:g}] given; allowed: two quantiles, such as [0.01, 0.99]")
    return value


def _check_k(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (number and 2 <= value <= 1000):
        return value
    raise ValueError(f'{_shown(value)}; allowed: 2 to 1000, or "auto"')


def _check_language(value: str) -> str:
    if 1 <= len(value) <= 128 and value.isprintable() and value.strip():
        return value
    raise ValueError(
        f"{_shown(value)}; allowed: the name of an external language, 1 to 128 characters"
    )


Quantiles = Annotated[tuple[float, float], AfterValidator(_check_quantiles)]


MemoryLimit = Annotated[int, PlainValidator(check_memory_limit)]


class FeatureDefinition(_Strict):
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
    """

    column: ColumnName
    type: Literal["number", "category", "date"] = "number"
    transform: Literal["none", "log1p"] = "none"
    weight: Annotated[float, Field(gt=0, strict=False)] = 1.0
    winsorize: Quantiles | None = None
    min_frequency: Share = 0.01
    max_categories: Annotated[int, Field(strict=True, ge=2, le=100)] = 20

    @model_validator(mode="after")
    def _check_category(self) -> FeatureDefinition:
        given = {"transform": self.transform != "none", "winsorize": self.winsorize is not None}
        unfit = [key for key, is_given in given.items() if is_given]
        if self.type == "category" and unfit:
            raise ValueError(
                f'{" and ".join(unfit)} given; allowed for type = "number" and "date" only'
            )
        return self


class Guard(_Strict):
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
    """

    action: Literal["warn", "refuse"] = "warn"
    rows: Annotated[float, Field(gt=0)] = 0.5
    moved: Annotated[float, Field(gt=0)] = 0.5
    psi: Annotated[float, Field(gt=0)] = 0.25
    centroid_shift: Annotated[float, Field(gt=0)] = 1.0
    distance: Annotated[float, Field(gt=0)] = 0.5
    silhouette: Annotated[float, Field(gt=0)] = 0.2


class Segmentation(_Strict):
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
        Number of k-means++ starts.
    seed : int, default=0
    winsorize : (float, float), optional
        For the features that do not say otherwise; see FeatureDefinition.
    sample_weight : str, optional
        A column of the source: how much a customer counts in the fit.
    guard : Guard
    changed_by : str, optional
        A column of the source that grows whenever a row changes; `assign` then reads only rows
        that changed since the run before. ``SYS_CHANGE_VERSION``, where the source has no such
        column, is SQL Server's Change Tracking of the source.
    engine : {"local", "pushdown", "in_database", "tsql"}, default="local"
        ``local`` in this process, ``pushdown`` by aggregate queries where the rows are,
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

    Raises
    ------
    DefinitionError
        From :meth:`create`, with all problems.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
    source: Annotated[str, Field(min_length=1, max_length=MOST_SOURCE)]
    key: Annotated[tuple[ColumnName, ...], BeforeValidator(_as_list), Field(min_length=1)]
    features: Annotated[
        tuple[Annotated[FeatureDefinition, BeforeValidator(_as_feature)], ...],
        BeforeValidator(_as_list),
        BeforeValidator(_check_number_of_features),
        Field(min_length=1),
    ]
    k: Annotated[int | Literal["auto"], PlainValidator(_check_k)]
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
    guard: Guard = Guard()
    changed_by: ColumnName | None = None
    engine: Literal["local", "pushdown", "in_database", "tsql"] = "local"
    language: Annotated[str, AfterValidator(_check_language)] = "Python"
    sample_rows: Annotated[int, Field(strict=True, ge=0, le=10_000_000)] = 100_000
    min_group: Annotated[int, Field(strict=True, ge=2, le=100_000)] = 10
    history_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] | None = None
    memory_limit: MemoryLimit | None = None

    @field_validator("source")
    @classmethod
    def _check_source(cls, value: str) -> str:
        parse_source(value)
        return value

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        *schemas, table = parse_name(value)
        taken = [schema for schema in schemas if schema.lower() in _RESERVED_SCHEMAS]
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
        _no_repeats(value)
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
        _no_repeats(tuple(feature.column for feature in value))
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Segmentation:
        both = [f.column for f in self.features if f.column in self.key]
        if both:
            raise ValueError(
                f"{', '.join(both)} is both key and feature; a key identifies, it does not measure"
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
        if self.engine == "pushdown" and self.sample_rows == 0 and self.scaling == "minmax":
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
        if self.k_min > self.k_max:
            raise ValueError(
                f"k_min is {self.k_min} and k_max {self.k_max}; allowed: k_min <= k_max"
            )
        return self

    @property
    def smallest_group(self) -> int:
        """How many customers anything that leaves the database has to be about."""
        return self.min_group if self.engine == "pushdown" and self.sample_rows == 0 else 1

    @property
    def columns(self) -> list[str]:
        """The feature columns, in order."""
        return [feature.column for feature in self.features]

    @property
    def feature_types(self) -> dict[str, str]:
        """The type of each feature column."""
        return {feature.column: feature.type for feature in self.features}

    def to_features(self) -> list[Feature]:
        """The features as `clustering` takes them, the segmentation's ``winsorize`` in each."""
        return features_from_definition(self.model_dump())

    @classmethod
    def create(cls, **values: Any) -> Segmentation:
        """Build and check a segmentation; all problems come in one DefinitionError."""
        problems: list[str] = []
        result = _build(values, f"segmentation.{values.get('name', '?')}", problems)
        if result is None:
            raise DefinitionError(problems)
        return result

    @classmethod
    def from_json(cls, text: str) -> Segmentation:
        """Read what :meth:`to_json` wrote, as a registry row keeps it."""
        try:
            values = _read_json(text)
        except (ValueError, RecursionError) as error:
            raise DefinitionError(f"the definition is not JSON: {_reason(error)}") from None
        if not isinstance(values, dict):
            raise DefinitionError("the definition is not a JSON object")
        return cls.create(**values)

    def to_json(self) -> str:
        """All keys, defaults included, as a JSON object."""
        return self.model_dump_json()


def _no_repeats(names: tuple[str, ...]) -> None:
    if repeated := _repeated(names):
        raise ValueError(f"named twice: {', '.join(repeated)}")


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


class Definition(_Strict):
    """A definition file.

    Attributes
    ----------
    url : str or None
        ``[database] url``, not shown in a repr because it can hold a password.
    segmentations : dict of str to Segmentation
        In the file's order.
    """

    url: Annotated[str | None, Field(repr=False)] = None
    segmentations: dict[str, Segmentation]


def load_definition(path: str | Path) -> Definition:
    """Read a TOML or JSON definition file; paths in it are relative to the file.

    Raises
    ------
    DefinitionError
        With every problem of the file, each with its key path.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise DefinitionError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:  # a path can have a NUL in it
        raise DefinitionError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    if len(data) > MOST_FILE:
        raise DefinitionError(f"{path}: allowed: a definition of at most {MOST_FILE:,} bytes")
    try:
        values = _read_json(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{path}: {_reason(error)}") from None
    try:
        return _beside(path.parent, parse_definition(values))
    except DefinitionError as error:
        lines = [f"{path}: {problem}" for problem in error.problems]
        raise DefinitionError(lines) from None


def _read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two, each reader would take another."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"given twice: {', '.join(_repeated(name for name, _ in pairs))}")
    return values


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _beside(folder: Path, definition: Definition) -> Definition:
    """What a file says, with paths that are relative to it made what they are from here."""
    url = definition.url
    return Definition(
        url=None if url is None else beside(url, folder),
        segmentations={
            name: one.model_copy(update={"source": with_files_beside(one.source, str(folder))})
            for name, one in definition.segmentations.items()
        },
    )


def parse_definition(values: Any) -> Definition:
    """Check the content of a definition file; see :func:`load_definition`."""
    problems: list[str] = []
    if not isinstance(values, Mapping):
        raise DefinitionError("a definition is a table with [segmentation.<name>] in it")
    problems += _unknown_keys(values, ("database", "segmentation"), "")
    url = _database_url(values.get("database", {}), problems)
    tables = values.get("segmentation")
    if not isinstance(tables, Mapping) or not tables:
        problems.append(f"segmentation: missing; write [segmentation.<name>] ({READ_ON})")
        tables = {}
    segmentations: dict[str, Segmentation] = {}
    for name, table in tables.items():
        path = f"segmentation.{name}"
        if not isinstance(table, Mapping):
            problems.append(f"{path}: {table!r} given; allowed: a table of keys ({READ_ON})")
            continue
        if "name" in table:
            problems.append(f"{path}.name: given by the table's own name; remove it")
        built = _build({**table, "name": name}, path, problems)
        if built is not None:
            segmentations[name] = built
    problems += _shared_targets(segmentations)
    if problems:
        raise DefinitionError(problems)
    return Definition(url=url, segmentations=segmentations)


def _database_url(table: Any, problems: list[str]) -> str | None:
    if not isinstance(table, Mapping):
        problems.append("database: allowed: a table with the key url")
        return None
    problems += _unknown_keys(table, ("url",), "database.")
    url = table.get("url")
    if url is not None and not isinstance(url, str):
        problems.append("database.url: allowed: a SQLAlchemy URL as text")
        return None
    return url


def _unknown_keys(table: Mapping[str, Any], known: tuple[str, ...], path: str) -> list[str]:
    unknown = [key for key in table if key not in known]
    told = [
        f"{path}{key}: unknown{_nearest(key, known)}; allowed: {', '.join(known)}"
        for key in unknown[:MOST_PROBLEMS]
    ]
    return told + [f"{path}{key}: unknown" for key in unknown[MOST_PROBLEMS:]]


def _shared_targets(segmentations: Mapping[str, Segmentation]) -> list[str]:
    owners: dict[tuple[str, ...], str] = {}
    problems = []
    for name, segmentation in segmentations.items():
        target = parse_name(segmentation.target)
        if target in owners:
            problems.append(
                f"segmentation.{name}.target: {segmentation.target} is also the target of "
                f"segmentation.{owners[target]}; each needs its own"
            )
        owners.setdefault(target, name)
    return problems


def _build(values: Mapping[str, Any], path: str, problems: list[str]) -> Segmentation | None:
    try:
        return Segmentation(**values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        unknown = [d for d in details if d["type"] == "extra_forbidden"][:MOST_PROBLEMS]
        meant = {(*d["loc"][:-1], _meant(d)) for d in unknown}
        details = [
            detail
            for detail in details
            # A key that is there with a typo is one mistake, not two.
            if not (detail["type"] == "missing" and detail["loc"] in meant)
        ]
        problems += [_problem(detail, path) for detail in details[:MOST_PROBLEMS]]
        problems += [f"{path}: {detail['msg']}" for detail in details[MOST_PROBLEMS:]]
        return None


def _known_keys(detail: ErrorDetails) -> tuple[str, ...]:
    owners: dict[str, type[_Strict]] = {"features": FeatureDefinition, "guard": Guard}
    owner = owners.get(str(detail["loc"][0]), Segmentation)
    return tuple(field for field in owner.model_fields if field != "name")


def _meant(detail: ErrorDetails) -> str:
    """The key that an unknown one is a typo of, or nothing."""
    given = str(detail["loc"][-1]).lower()
    return next(iter(difflib.get_close_matches(given, _known_keys(detail), n=1)), "")


def _problem(detail: ErrorDetails, path: str) -> str:
    """One line: where, what was given, what is allowed."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    where = path + "".join(parts)
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        hint = f", did you mean {_meant(detail)}?" if _meant(detail) else ""
        return f"{where}: unknown key{hint} ({READ_ON})"
    if kind == "missing":
        return f"{where}: missing, and there is no default ({READ_ON})"
    if kind == "value_error":
        return f"{where}: {context['error']}"
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", '"')
        options = tuple(part.strip('" ') for part in allowed.replace(" or ", ",").split(","))
        return f"{where}: {_shown(given)}{_nearest(str(given), options)}; allowed: {allowed}"
    if kind == "string_pattern_mismatch":
        return (
            f"{where}: {_shown(given)}; allowed: letters, digits and _, not starting with a digit"
        )
    allowed = _IN_WORDS.get(kind, "").format(**context) or detail["msg"]
    allowed = allowed.removeprefix("Input should be ").removeprefix("Value should have ")
    return f"{where}: {_shown(given)}; allowed: {allowed}"


#: What pydantic says in words of its own, by its kind of error.
_IN_WORDS = {
    "too_short": "one or more",
    "tuple_type": "a list",
    "model_type": "a table of keys",
    "string_type": "a text",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
}


def _shown(value: Any) -> str:
    text = without_passwords(json.dumps(value, default=str, ensure_ascii=False))
    return f"{text[:60]}… given" if len(text) > 60 else f"{text} given"


def _nearest(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f", did you mean {close[0]}?" if close and close[0] != word else ""
