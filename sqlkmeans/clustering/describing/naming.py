"""Names and one sentence for segments, from what sets each apart from everyone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlkmeans.clustering.describing.numbers import brief_number
from sqlkmeans.clustering.describing.profile import FeatureProfile, SegmentProfile

# Differences from everyone's mean, in everyone's deviations, that earn a word.
NOTABLE, STRONG = 0.5, 1.5
#: At most this many features in a name.
WORDS = 2

#: Better words than high and low, by the first word of a column's name:
#: high, low, very high, very low.
_WORDS = {
    "age": ("older", "younger", "much older", "much younger"),
    "recency": ("lapsed", "recent", "long lapsed", "very recent"),
}

_NO_UNITS: Mapping[str, str] = {}

#: Levels of a boolean.
YES_NO = {"1": "yes", "0": "no"}

#: The same of a date, by its age.
_AGO = ("long ago", "recently", "very long ago", "very recently")


def name_segments(
    profiles: Sequence[SegmentProfile],
    kept: Sequence[str | None] | None = None,
    units: Mapping[str, str] = _NO_UNITS,
) -> list[tuple[str, str]]:
    """A name and a sentence for each segment.

    Parameters
    ----------
    profiles : sequence of SegmentProfile
        Everyone first, then the segments.
    kept : sequence of (str or None), optional
        For each segment, the name that it already has and keeps.
    units : mapping of str to str, optional
        By feature, what stands behind its means.

    Returns
    -------
    list of (name, description), one a segment
        Names differ from each other. A name is a handle that reports use, so a segment that
        has one keeps it; the description is made anew from this run's numbers.
    """
    everyone, segments = profiles[0], profiles[1:]
    names: list[str | None] = list(kept) if kept else [None] * len(segments)
    taken = {name for name in names if name}
    for index, segment in enumerate(segments):
        if names[index] is None:
            names[index] = _unused(_candidates(segment, units), taken)
            taken.add(str(names[index]))
    return [
        (str(name), _sentence(segment, everyone, units)) for name, segment in zip(names, segments)
    ]


def describe_everyone(
    profile: SegmentProfile, units: Mapping[str, str] = _NO_UNITS
) -> tuple[str, str]:
    """Name and sentence of row 0."""
    means = ", ".join(
        _mean(name, f, units) for name, f in profile.features.items() if _told(f, profile)
    )
    return "everyone", f"All {profile.size:,} customers; on average {means}."


def feature_titles(
    features: Iterable[Mapping[str, Any]], units: Mapping[str, str] = _NO_UNITS
) -> list[str]:
    """What people read for each feature: ``income (NOK)``, ``joined (days)``, ``city = Oslo``,
    ``member = yes``.

    Parameters
    ----------
    features : iterable of mapping
        Rows of ``model_feature``. A category whose levels are 1 and 0 is a boolean.
    units : mapping of str to str, optional
        By column.
    """
    features = list(features)
    levels: dict[str, set[str]] = {}
    for row in features:
        if row["level"] is not None:
            levels.setdefault(row["source_column"] or row["feature"], set()).add(row["level"])
    titles = []
    for row in features:
        column = row["source_column"] or row["feature"]
        title = str(row["feature"])
        if row["type"] == "date":
            title = f"{column} (days)"
        elif row["level"] is not None and levels[column] <= set(YES_NO):
            title = f"{column} = {YES_NO[row['level']]}"
        elif column in units:
            title = f"{column} ({units[column]})"
        titles.append(title)
    return titles


def one_row_each(features: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Rows of ``model_feature`` without the ``no`` of a boolean: its ``yes`` says the same."""
    features = list(features)
    levels: dict[str | None, list[str | None]] = {}
    for row in features:
        if row["type"] == "category":
            levels.setdefault(row["source_column"], []).append(row["level"])
    said = {
        column for column, of_column in levels.items() if sorted(map(str, of_column)) == ["0", "1"]
    }
    return [row for row in features if row["level"] != "0" or row["source_column"] not in said]


def is_share(feature: Mapping[str, Any], of_everyone: Mapping[str, Any] | None) -> bool:
    """Whether a feature's means are shares of the customers: of a level, or of 0 and 1.

    Parameters
    ----------
    feature : mapping
        A row of ``model_feature``.
    of_everyone : mapping or None
        The feature's row of ``segment_feature`` for everyone.
    """
    if feature["type"] == "category" or of_everyone is None:
        return bool(feature["type"] == "category")
    if (of_everyone["min"], of_everyone["max"]) != (0, 1):
        return False
    # Between 0 and 1, nothing spreads as much as what is either.
    mean, deviation = of_everyone["mean"], of_everyone["deviation"]
    return bool(abs(deviation**2 - mean * (1 - mean)) < 1e-9)


def _ranked(segment: SegmentProfile) -> list[tuple[str, FeatureProfile]]:
    """Features by importance; of a category the level that counts most, and rather one it has."""
    ranked: dict[str, tuple[str, FeatureProfile]] = {}
    for name, feature in sorted(
        segment.features.items(),
        key=lambda item: (-round(abs(item[1].importance), 9), item[1].importance < 0),
    ):
        ranked.setdefault(name if feature.level is None else feature.level[0], (name, feature))
    return list(ranked.values())


def _candidates(segment: SegmentProfile, units: Mapping[str, str]) -> Iterator[str]:
    """Names from short to long: a longer one tells apart two segments that share the short one."""
    ranked = _ranked(segment)
    notable = [(name, f) for name, f in ranked if abs(f.importance) >= NOTABLE]
    for count in range(min(WORDS, len(notable)), len(notable) + 1):
        yield ", ".join(_word(name, f) for name, f in notable[:count]) or "average"
    yield ", ".join(_mean(name, f, units) for name, f in ranked[:WORDS])


def _unused(candidates: Iterable[str], taken: set[str]) -> str:
    last = ""
    for last in candidates:
        if last not in taken:
            return last
    number = 2
    while f"{last} ({number})" in taken:
        number += 1
    return f"{last} ({number})"


def _word(name: str, feature: FeatureProfile) -> str:
    if feature.level is not None:
        return _level_word(feature)
    importance = feature.importance
    plain = name.replace("_", " ")
    usual = [f"{much} {plain}" for much in ("high", "low", "very high", "very low")]
    if feature.type == "date":
        usual = [f"{plain} {ago}" for ago in _AGO]
    words = _WORDS.get(plain.lower().split(" ")[0], usual)
    return words[2 * (abs(importance) >= STRONG) + (importance < 0)]


def _level_word(feature: FeatureProfile) -> str:
    assert feature.level is not None
    column, level = feature.level
    share = feature.mean or 0.0
    if feature.importance > 0:
        often = "mostly" if share >= 0.5 else "more often"
    else:
        often = "hardly ever" if share < 0.05 else "less often"
    return f"{column.replace('_', ' ')} {often} {level}"


def _mean(name: str, feature: FeatureProfile, units: Mapping[str, str]) -> str:
    if feature.type == "date":
        return f"{name} {_number(feature.mean)} days ago"
    if feature.level is None:
        return " ".join([name, _number(feature.mean), *filter(None, [units.get(name)])])
    return f"{feature.level[0]} is {feature.level[1]} for {_share(feature.mean)}"


def _told(feature: FeatureProfile, profile: SegmentProfile) -> bool:
    """Of a category, its most frequent level alone."""
    if feature.level is None:
        return True
    column = feature.level[0]
    of_column = [f for f in profile.features.values() if f.level and f.level[0] == column]
    return feature is max(of_column, key=lambda f: f.mean or 0.0)


def _against(
    name: str, segment: FeatureProfile, everyone: FeatureProfile, units: Mapping[str, str]
) -> str:
    of_all = _number(everyone.mean) if segment.level is None else _share(everyone.mean)
    return f"{_mean(name, segment, units)} against {of_all}"


def _sentence(segment: SegmentProfile, everyone: SegmentProfile, units: Mapping[str, str]) -> str:
    notable = [item for item in _ranked(segment) if abs(item[1].importance) >= NOTABLE]
    if not notable:
        return "Near everyone's average in every feature."
    told = notable[: WORDS + 1]
    parts = [_against(name, feature, everyone.features[name], units) for name, feature in told]
    averaged = any(feature.level is None for _, feature in told)
    return f"{'; '.join(parts)}{' on average' if averaged else ''}."


def _number(value: float | None) -> str:
    return "unknown" if value is None else brief_number(value)


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}".replace("%", " %")
