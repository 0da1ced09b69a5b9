"""A first definition for a source: what its columns look like, and which of them say something.

Every choice has its reason, which stands beside it in the file: what is proposed is a beginning,
for people who know the customers to change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

from sqlkmeans.clustering.describing.findings import SKEWED
from sqlkmeans.clustering.preparation.preparation import days_since_1970
from sqlkmeans.clustering.preparation.problems import KEY_LIKE_ROWS
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.profiling import ColumnProfile, profile_columns
from sqlkmeans.words import visible

#: A category with more levels groups nobody; a column with a greater share missing says too little;
#: a text of which more than this share differs identifies.
MOST_LEVELS, MOST_MISSING, IDENTIFIES = 20, 0.5, 0.5
#: Levels that a comment names.
NAMED = 3

_KEY_NAME = re.compile(r"(?i)(^|_)(id|key|guid|uuid)$|(Id|ID|Key)$")
_CODE_NAME = re.compile(
    r"(?i)(^|_)(id|key|guid|uuid|code|zip|zipcode|postcode|postal|phone|mobile|fax|no|nr|number)$"
    r"|(Id|ID|Key)$|(?i:zip|postal|postcode|phone)"
)
_WRITTEN_NAME = re.compile(
    r"(?i)(updated|modified|changed|inserted|loaded|synced|imported|etl|row_?version)"
)


@dataclass(frozen=True)
class ProposedFeature:
    """A column to cluster by.

    Attributes
    ----------
    column : str
    settings : dict
        Keys of the feature other than ``column``.
    why : str
    """

    column: str
    settings: dict[str, Any]
    why: str

    def to_definition(self) -> Any:
        """As a definition has it."""
        return {"column": self.column, **self.settings} if self.settings else self.column


@dataclass(frozen=True)
class Proposal:
    """A first definition, with its reasons.

    Attributes
    ----------
    source : str
    rows : int
    key : tuple of str
    key_why : str
    features : tuple of ProposedFeature
    left_out : dict of str to str
        Why, by column.
    missing : {"error", "median"}
    missing_why : str
    columns : tuple of ColumnProfile
    """

    source: str
    rows: int
    key: tuple[str, ...]
    key_why: str
    features: tuple[ProposedFeature, ...]
    left_out: dict[str, str]
    missing: str
    missing_why: str
    columns: tuple[ColumnProfile, ...]

    def to_definition(self, target: str) -> dict[str, Any]:
        """The keys of the segmentation, as a definition file has them."""
        return {
            "source": self.source,
            "key": self.key[0] if len(self.key) == 1 else list(self.key),
            "features": [feature.to_definition() for feature in self.features],
            "k": "auto",
            "target": target,
            "missing": self.missing,
        }

    def use_of(self, column: str) -> str:
        """What becomes of a column, in a few words."""
        if column in self.key:
            return "key"
        if column in self.left_out:
            return f"left out: {self.left_out[column]}"
        settings = next(f.settings for f in self.features if f.column == column)
        kind = next(c.kind for c in self.columns if c.name == column)
        words = ["yes/no" if kind == "boolean" else settings.get("type", "number")]
        words += ["log1p"] if "transform" in settings else []
        words += ["winsorized"] if "winsorize" in settings else []
        return " ".join(words)


def propose(
    database: Database,
    source: str,
    *,
    key: Sequence[str] | None = None,
    ignore: Collection[str] = (),
) -> Proposal:
    """Look at a source and propose a definition.

    Parameters
    ----------
    database : Database
    source : str
    key : sequence of str, optional
        The key's columns. By default one that is unique, never missing and named like a key.
    ignore : collection of str, default=()
        Columns that are not looked at.

    Raises
    ------
    DataError
        If there is no such source or column, it has no rows, no column can be the key, or none
        can be a feature.
    """
    columns = [c for c in profile_columns(database, source) if c.name not in ignore]
    known = {column.name for column in columns}
    unknown = [name for name in key or () if name not in known]
    if unknown:
        raise DataError(
            [f"key {name}: no such column in {source} (it has {', '.join(sorted(known))})"
             for name in unknown]
        )  # fmt: skip
    chosen, why = _key(columns, source, key)
    features: list[ProposedFeature] = []
    left_out: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for column in columns:
        if column.name in chosen:
            continue
        reason = _useless(column)
        if reason is None and column.kind != "text":
            facts = (column.mean, column.deviation, column.skewness, column.spread, column.missing)
            if facts in seen:
                reason = f"spreads exactly as {seen[facts]} does"
            seen.setdefault(facts, column.name)
        if reason is None:
            features.append(_feature(column))
        else:
            left_out[column.name] = reason
    if not features:
        told = [f"{name}: {reason}" for name, reason in left_out.items()]
        raise DataError([f"source {source}: no column can be a feature", *told])
    by_name = {column.name: column for column in columns}
    lacking = [by_name[f.column] for f in features if by_name[f.column].missing]
    return Proposal(
        source=source,
        rows=columns[0].rows,
        key=tuple(chosen),
        key_why=why,
        features=tuple(features),
        left_out=left_out,
        missing="median" if lacking else "error",
        missing_why=_missing_why(lacking),
        columns=tuple(columns),
    )


# The key


def _key(
    columns: Sequence[ColumnProfile], source: str, given: Sequence[str] | None
) -> tuple[Sequence[str], str]:
    if given:
        return given, "as given"
    unique = [c for c in columns if c.can_be_key and not c.missing and c.distinct == c.rows]
    if not unique:
        near = max(
            (c for c in columns if c.can_be_key and not c.missing),
            key=lambda c: (_rank(c), c.distinct),
            default=None,
        )
        hint = (
            f"; the nearest is {near.name}, {near.distinct:,} different values in {near.rows:,} "
            "rows"
            if near is not None
            else ""
        )
        raise DataError(
            f"source {source}: no column is unique and never missing, so none can be the key{hint}"
            "; name columns that are unique together with --key, or aggregate to one row a "
            "customer in a SELECT or a view"
        )
    best = max(unique, key=_rank)
    return [best.name], f"{best.rows:,} different values, none missing"


def _rank(column: ColumnProfile) -> tuple[bool, bool]:
    """How much a column is like a key; of equal ones the first is taken."""
    return bool(_KEY_NAME.search(column.name)), column.kind != "date"


# The features


def _useless(column: ColumnProfile) -> str | None:
    """Why a column is no feature; None where it is one."""
    known = column.known - column.infinite
    if not known:
        return "every value is missing"
    if column.kind == "other":
        return f"its type, {column.brief_type}, is no number, text or date"
    if column.infinite:
        return f"{column.infinite:,} values are infinite"
    if column.missing > MOST_MISSING * column.rows:
        return f"{_share(column.missing / column.rows)} is missing"
    if column.distinct == 1:
        return "one value only"
    if column.kind == "date":
        if _WRITTEN_NAME.search(column.name):
            return "named like the time a row was written"
        return None
    if column.kind == "boolean":
        return None
    identifies = column.whole or (column.kind == "text" and not column.decimal_comma)
    if column.distinct == column.rows >= KEY_LIKE_ROWS and identifies:
        return "differs in every row"
    if column.kind == "text":
        if column.decimal_comma:
            return "numbers with a decimal comma, as texts (docs/definition.md#files)"
        if column.distinct > IDENTIFIES * known and known >= KEY_LIKE_ROWS:
            return f"{column.distinct:,} different texts, so it identifies and does not group"
        if column.distinct > MOST_LEVELS:
            return f"{column.distinct:,} levels are too many; group them in a SELECT"
        return None
    if column.whole and column.distinct > 2 and _CODE_NAME.search(column.name):
        return "named like a code"
    return None


def _feature(column: ColumnProfile) -> ProposedFeature:
    if column.kind == "text":
        shown = ", ".join(
            f"{visible(level)[:20]} {_share(size / column.known)}"
            for level, size in list(zip(column.levels, column.spread))[:NAMED]
        )
        more = ", …" if column.distinct > NAMED else ""
        return _proposed(column, {"type": "category"}, f"{column.distinct} levels: {shown}{more}")
    if column.kind == "boolean":
        return _proposed(column, {}, f"yes or no: {_share(column.mean or 0.0)} yes")
    if column.kind == "date":
        tail, told = _tail(column)
        if "transform" in tail:
            # Else a customer who comes after the fit would have a negative age, and no logarithm.
            tail["winsorize"] = [0.0, 1.0]
            told += "; later dates count as the latest"
        return _proposed(column, {"type": "date", **tail}, f"its age in days; {told}")
    return _proposed(column, *_tail(column))


def _tail(column: ColumnProfile) -> tuple[dict[str, Any], str]:
    """What is done about a long tail, and the reason."""
    skew, log_skew, why = column.skewness or 0.0, column.log_skewness, _limits(column)
    if column.distinct <= 2 or abs(skew) <= SKEWED:
        return {}, why
    is_ahead = column.kind == "date" and (column.high or 0.0) > days_since_1970(_today())
    if log_skew is not None and abs(log_skew) < abs(skew) and not is_ahead:
        why += f"; skew {skew:.1f}, {log_skew:.1f} with a logarithm"
        return {"transform": "log1p"}, why
    why += f"; skew {skew:.1f}, so the outermost 1 % are pulled in"
    return {"winsorize": [0.01, 0.99]}, why


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


def _proposed(column: ColumnProfile, settings: dict[str, Any], why: str) -> ProposedFeature:
    missing = f"; {_share(column.missing / column.rows)} missing" if column.missing else ""
    return ProposedFeature(column.name, settings, why + missing)


def _limits(column: ColumnProfile) -> str:
    low, high = column.low or 0.0, column.high or 0.0
    if column.kind == "date":
        return f"{_day(low)} to {_day(high)}"
    return f"{_plain(low)} to {_plain(high)}"


def _day(days: float) -> str:
    try:
        return date.fromordinal(date(1970, 1, 1).toordinal() + int(days)).isoformat()
    except (ValueError, OverflowError):
        return f"{days:,.0f} days from 1970"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _share(share: float) -> str:
    if 0 < share < 0.01:
        return "less than 1 %"
    if 0.99 < share < 1:
        return "more than 99 %"
    return f"{share:.0%}".replace("%", " %")


def _missing_why(lacking: Sequence[ColumnProfile]) -> str:
    if not lacking:
        return "nothing is missing today; a row that lacks a value stops the run"
    shown = ", ".join(f"{c.name} {_share(c.missing / c.rows)}" for c in lacking[:NAMED])
    more = ", …" if len(lacking) > NAMED else ""
    return f"missing: {visible(shown)}{more}; the median, or a category's most frequent level"


# The file


def definition_text(proposal: Proposal, name: str, target: str, url: str, command: str) -> str:
    """A definition file with a comment beside each choice.

    Parameters
    ----------
    proposal : Proposal
    name : str
        The segmentation.
    target, url : str
    command : str
        What was typed, for the first line.

    Raises
    ------
    DefinitionError
        If what it says is no definition.
    """
    values = proposal.to_definition(target)
    # Whatever the columns are called, the file has to be right.
    Segmentation.create(name=name, **values)
    noted = [(f"    {_toml(f.to_definition())},", f.why) for f in proposal.features]
    width = min(60, max(len(text) for text, _ in noted))
    features = [f"{text:<{width}}  # {visible(why)}" for text, why in noted]
    left_out = [f"#   {visible(column)}: {why}" for column, why in proposal.left_out.items()]
    return "\n".join(
        [
            f"# Written by `{visible(command)}`, which looked at {proposal.rows:,} rows. It is a "
            "beginning:",
            "# change what you know better. Every key: docs/definition.md.",
            "",
            "[database]",
            f"url = {_toml(url)}",
            "",
            f"[segmentation.{name}]",
            f"source = {_toml(proposal.source)}",
            f"key = {_toml(values['key'])}  # {proposal.key_why}",
            "features = [",
            *features,
            "]",
            *(["# Left out:", *left_out] if left_out else []),
            'k = "auto"  # the number of segments that the scores speak for, 2 to 10; or a number',
            f"target = {_toml(target)}  # the table of labels; the first run makes it",
            f"missing = {_toml(proposal.missing)}  # {proposal.missing_why}",
            "",
        ]
    )


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(v)}' for key, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # A text of JSON is one of TOML, but for the one control character that JSON lets stand.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
