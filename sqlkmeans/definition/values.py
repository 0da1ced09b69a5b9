"""Values that a definition may have."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from sqlkmeans.memory import check_memory_limit
from sqlkmeans.names import ENGINES
from sqlkmeans.words import without_passwords

READ_ON = "docs/definition.md"

#: More is a mistake, or meant to keep a machine busy.
MOST_FILE, MOST_SOURCE, MOST_FEATURES, MOST_K_COMPARED = 10_000_000, 100_000, 1_000, 100
MOST_PROFILE = 100
#: A target's history has its name with this behind it.
LONGEST_TARGET = 128 - len("_history")
#: A unit stands behind every number of its feature.
LONGEST_UNIT = 20
#: Schemas of databases, and ours.
RESERVED_SCHEMAS = frozenset(
    {"information_schema", "pg_catalog", "sqlkmeans", "sys", "system", "temp"}
)

#: Columns of the published tables and of staging, which a key column would collide with.
PUBLISHED_COLUMNS = frozenset(
    {"segment_id", "segment_name", "distance", "run_id", "assigned_at", "valid_from", "valid_to",
     "cluster", "departed", "is_outlier"}
)  # fmt: skip

#: Where Spark can be.
_MASTER = re.compile(r"local(\[[\d*, ]+\])?|local-cluster\[[\d, ]+\]|yarn|(spark|k8s|sc)://\S+")

#: Columns that stand beside a key's in temporary tables begin so.
RESERVED = "sqlkmeans "


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def check_number_of_features(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) > MOST_FEATURES:
        raise ValueError(f"{len(value):,} given; allowed: 1 to {MOST_FEATURES:,}")
    return value


def as_feature(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_column(value: str) -> str:
    if "\0" in value:
        raise ValueError(f"{shown(value)}; allowed: a column's name, which has no NUL in it")
    return value


ColumnName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_check_column)]
Share = Annotated[float, Field(ge=0, le=1)]


def _check_quantiles(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not 0 <= low < high <= 1:
        raise ValueError(f"[{low:g}, {high:g}] given; allowed: two quantiles, such as [0.01, 0.99]")
    return value


def check_k(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (number and 2 <= value <= 1000):
        return value
    raise ValueError(f'{shown(value)}; allowed: 2 to 1000, or "auto"')


def check_language(value: str) -> str:
    if 1 <= len(value) <= 128 and value.isprintable() and value.strip():
        return value
    raise ValueError(
        f"{shown(value)}; allowed: the name of an external language, 1 to 128 characters"
    )


def check_master(value: str) -> str:
    if "token=" in value.lower():
        raise ValueError(
            "a token given, for which a definition is no place; allowed: the variable "
            "SPARK_REMOTE, or a session that your program gives"
        )
    if _MASTER.fullmatch(value):
        return value
    raise ValueError(
        f"{shown(value)}; allowed: local[*], local[2], spark://host:7077, yarn, k8s://…, sc://host"
    )


def check_unit(value: str) -> str:
    if 1 <= len(value) <= LONGEST_UNIT and value == value.strip() and value.isprintable():
        return value
    raise ValueError(
        f"{shown(value)}; allowed: 1 to {LONGEST_UNIT} characters that can be seen, such as NOK"
    )


Quantiles = Annotated[tuple[float, float], AfterValidator(_check_quantiles)]


def _check_engine(value: object) -> object:
    if value in list(ENGINES):
        return value
    *names, last = [repr(name) for name in ENGINES]
    expected = f"{', '.join(names)} or {last}"
    raise PydanticCustomError("literal_error", "allowed: {expected}", {"expected": expected})


EngineName = Annotated[str, PlainValidator(_check_engine)]
MemoryLimit = Annotated[int, PlainValidator(check_memory_limit)]


def refuse_repeats(names: tuple[str, ...]) -> None:
    if twice := repeated(names):
        raise ValueError(f"named twice: {', '.join(twice)}")


def repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def shown(value: Any) -> str:
    text = without_passwords(json.dumps(value, default=str, ensure_ascii=False))
    return f"{text[:60]}… given" if len(text) > 60 else f"{text} given"


def nearest(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f", did you mean {close[0]}?" if close and close[0] != word else ""
